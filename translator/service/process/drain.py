"""How exchanges end that do not end by themselves: when their time is up, or the service's.

    service  = serving, begin, draining, end ;
    exchange = until( its upstream's work )         a timer for each, none for a piece

While the service drains, open answers go on and new ones are given elsewhere. At the end of that
time the upstream's work for each stops where it is, with an error: an answer that has begun ends in
a failure, one that has not is a 503. Clients retry both, and find another process.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from translator.errors import UpstreamTimeout
from translator.service.errors import Stopping


class Drain:
    """The end of the service, as exchanges see it."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        """The service takes nothing new; what is open may go on for a while."""
        self._over = False
        self._open: set[asyncio.Timeout] = set()

    def begin(self) -> None:
        """Let open exchanges go on, and wake whoever waits for new ones."""
        self.begun.set()

    def end(self) -> None:
        """Stop the work for all exchanges that are still open."""
        self._over = True
        now = asyncio.get_running_loop().time()
        for limit in self._open:
            limit.reschedule(now)

    @asynccontextmanager
    async def until(self, when: float) -> AsyncGenerator[None]:
        """Let work last until `when`, by the loop's clock, or the end of the service.

        Raises UpstreamTimeout or Stopping inside the task that works.
        """
        limit = asyncio.timeout_at(when)
        try:
            async with limit:
                if self._over:
                    raise Stopping
                self._open.add(limit)
                try:
                    yield
                finally:
                    self._open.discard(limit)
        except TimeoutError:
            if not limit.expired():
                raise
            if self._over:
                raise Stopping from None
            raise UpstreamTimeout("The upstream's answer took too long.") from None
