"""Slots for calls of tools: so many at once, of which one client has at most its share.

    call  ──►  a slot of the client's share  ──►  one of all  ──►  server

Without a share, one client with slow servers would have the others wait for all of its calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from .failures import refused


class CallSlots:
    """Slots for `most` calls at once; of these, one owner has at most half."""

    def __init__(self, most: int) -> None:
        self.share = max(1, most // 2)
        self._all = asyncio.Semaphore(most)
        self._own: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def slot(self, owner: str, seconds: float) -> AsyncGenerator[None]:
        """A slot while the context lasts; raises McpFailed where none is free for so long."""
        own = self._own.get(owner)
        if own is None:
            own = self._own[owner] = asyncio.Semaphore(self.share)
        taken: list[asyncio.Semaphore] = []
        try:
            try:
                async with asyncio.timeout(seconds):
                    for semaphore in (own, self._all):
                        await semaphore.acquire()
                        taken.append(semaphore)
            except TimeoutError:
                message = f"Too many calls run at once: none had ended after {seconds:g} s."
                raise refused(message) from None
            yield
        finally:
            for semaphore in taken:
                semaphore.release()
