"""The graceful shutdown of the service, as its open exchanges see it.

    service  = serving, begin, draining, end ;

While the service drains, open exchanges continue; new connections are refused, so another process
gets them. At the end of that time each exchange that is still open is stopped with an error: a
response that has begun ends in a failure, one that has not is a 503. Clients retry both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from .errors import Stopping

T = TypeVar("T")


class Drain:
    """The shutdown of the service, and the exchanges that it has to stop."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        """Set when the shutdown begins: no new requests; open ones may continue for a while."""
        self.in_background = 0
        """How many responses are produced that no connection waits for."""
        self._over = False
        self._open: set[Callable[[], object]] = set()

    @property
    def open(self) -> int:
        """The number of exchanges that would be stopped now."""
        return len(self._open)

    def begin(self) -> None:
        """Begin the shutdown: open exchanges continue, and those who wait for `begun` wake."""
        self.begun.set()

    def end(self) -> None:
        """Stop all exchanges that are still open, and refuse new ones."""
        self._over = True
        for stop in tuple(self._open):
            stop()

    def check(self) -> None:
        """Raise Stopping when all exchanges have been stopped."""
        if self._over:
            raise Stopping

    async def unless_over(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of some work of an exchange; raises Stopping where it has to stop before."""
        working = asyncio.ensure_future(work)
        try:
            self.join(working.cancel)
            return await working
        except asyncio.CancelledError:
            if self._over and not self._is_cancelled():
                raise Stopping from None
            raise
        finally:
            working.cancel()
            self.leave(working.cancel)

    @staticmethod
    def _is_cancelled() -> bool:
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0

    def join(self, stop: Callable[[], object]) -> None:
        """Register an exchange; `stop` is called when it must stop. Raises Stopping."""
        self.check()
        self._open.add(stop)

    def leave(self, stop: Callable[[], object]) -> None:
        """Unregister an exchange that is over."""
        self._open.discard(stop)
