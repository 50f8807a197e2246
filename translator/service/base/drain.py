"""How the service ends, as the exchanges see it that are open then.

    service  = serving, begin, draining, end ;

While the service drains, open answers go on and new ones are given elsewhere. At the end of that
time the upstream's work for each stops where it is, with an error: an answer that has begun ends in
a failure, one that has not is a 503. Clients retry both, and find another process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from .errors import Stopping


class Drain:
    """The end of the service, as exchanges see it."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        """The service takes nothing new; what is open may go on for a while."""
        self._over = False
        self._open: set[Callable[[], None]] = set()

    def begin(self) -> None:
        """Let open exchanges go on, and wake whoever waits for new ones."""
        self.begun.set()

    def end(self) -> None:
        """Stop the work for all exchanges that are still open."""
        self._over = True
        for stop in tuple(self._open):
            stop()

    def join(self, stop: Callable[[], None]) -> None:
        """An exchange begins; `stop` is called when its work must stop. Raises Stopping."""
        if self._over:
            raise Stopping
        self._open.add(stop)

    def leave(self, stop: Callable[[], None]) -> None:
        """The exchange is over."""
        self._open.discard(stop)
