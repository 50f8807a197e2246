"""The graceful shutdown of the service, as its open exchanges see it.

    service  = serving, begin, draining, end ;

While the service drains, open exchanges continue; new connections are refused, so another process
gets them. At the end of that time each exchange that is still open is stopped with an error: a
response that has begun ends in a failure, one that has not is a 503. Clients retry both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from .errors import Stopping


class Drain:
    """The shutdown of the service, and the exchanges that it has to stop."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        """Set when the shutdown begins: no new requests; open ones may continue for a while."""
        self.in_background = 0
        """How many responses are produced that no connection waits for."""
        self._over = False
        self._open: set[Callable[[], None]] = set()

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

    def join(self, stop: Callable[[], None]) -> None:
        """Register an exchange; `stop` is called when it must stop. Raises Stopping."""
        self.check()
        self._open.add(stop)

    def leave(self, stop: Callable[[], None]) -> None:
        """Unregister an exchange that is over."""
        self._open.discard(stop)
