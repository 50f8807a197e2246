"""A queue and an event for connections: nearly always empty, and then small.

An empty `collections.deque` takes 760 bytes, and an `asyncio.Event` holds one. uvicorn and aiohttp
make five of them for each stream, which hold one item at a time, if any. Those of a stream that
waits take 3.0 KiB of it; these take 0.4.
"""

from __future__ import annotations

import asyncio
from typing import Literal, TypeVar

T = TypeVar("T")


class LightQueue(list[T]):
    """As much of a deque as uvicorn and aiohttp use. Its left end costs time where it is long."""

    __slots__ = ()

    def appendleft(self, item: T) -> None:
        self.insert(0, item)

    def popleft(self) -> T:
        return self.pop(0)


class LightEvent:
    """An `asyncio.Event`."""

    __slots__ = ("_is_set", "_waiters")

    def __init__(self, *, is_set: bool = False) -> None:
        self._is_set = is_set
        self._waiters: list[asyncio.Future[None]] | None = None

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True
        for waiter in self._waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    def clear(self) -> None:
        self._is_set = False

    async def wait(self) -> Literal[True]:
        if self._is_set:
            return True
        waiter = asyncio.get_running_loop().create_future()
        waiters = self._waiters = self._waiters or []
        waiters.append(waiter)
        try:
            await waiter
        finally:
            waiters.remove(waiter)
            if not waiters:
                self._waiters = None
        return True
