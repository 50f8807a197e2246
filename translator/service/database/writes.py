"""A write: work for one transaction, from the queue to its outcome.

    waiting ──► committing ──► done          its caller waits, or has stopped waiting
       │  ▲         │
       │  └─────────┤ the outcome is not known, or it failed and may be tried again
       ▼            ▼
     failed       doomed ──► undone          given up while it was being committed

What a caller has given up is never seen afterwards: the writer asks before each commit, and undoes
what was committed meanwhile before it does anything else. So work must bear to be done twice: the
outcome of a commit is unknown where its connection breaks.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Any, Generic, TypeVar, cast

from .connection import Connection
from .errors import Unavailable

T = TypeVar("T")

Work = Callable[[Connection], Any]


UNDOING_S = 600.0
"""How long it is tried to undo a write, in seconds."""


class State(Enum):
    """Where a write is."""

    WAITING = auto()
    COMMITTING = auto()
    DOOMED = auto()
    OVER = auto()


class Write(Generic[T]):
    """One write. Its methods are those of the event loop; the writer has the others."""

    # beginnings are the class's: a hold costs less by what is not set

    not_before = 0.0
    attempts = 0

    alone = False
    """Whether it is tried in a transaction of its own: it may be what fails."""

    group: int | None = None
    """What it shares a transaction with: writes of the same group, and of no other."""

    awaited = False
    """Whether somebody waits for it: what nobody waits for may be dropped."""

    needed = False
    """Whether it must not be dropped all the same."""

    _state = State.WAITING
    _succeeded = False
    _uncertain = False  # a commit was sent, and its connection broke
    _outcome: tuple[T | None, Unavailable | None] | None = None  # the result, or an error
    _waiter: asyncio.Future[None] | None = None
    _callback: Callable[[T | None, Unavailable | None], None] | None = None

    def __init__(
        self,
        work: Callable[[Connection], T],
        *,
        size: int,
        durable: bool,
        deadline: float,
        undo: Callable[[Connection], None] | None,
        lock: threading.Lock,
    ) -> None:
        """`deadline` is when the writer stops trying, by the monotonic clock."""
        self.work: Work = work
        self.size = size
        self.durable = durable
        self.deadline = deadline
        self.undo = undo
        self._lock = lock
        self.loop = asyncio.get_running_loop()

    # --- by the event loop ----------------------------------------------------------------------

    async def done(self, wait_s: float) -> T:
        """The result of the work, on the disk. One caller waits at a time.

        Raises Unavailable where it failed, and TimeoutError where it takes longer: then it may
        still succeed, until it is given up.
        """
        self.awaited = True
        try:
            if self._outcome is None:
                await self._wait(wait_s)
        finally:
            self.awaited = False
        if self._outcome is None:
            raise TimeoutError
        result, error = self._outcome
        if error is not None:
            raise error
        return cast("T", result)

    def on_outcome(self, callback: Callable[[T | None, Unavailable | None], None]) -> None:
        """Call something once, with the result or with the error, where nobody waits for it."""
        self._callback = callback

    async def _wait(self, wait_s: float) -> None:
        """Wait until there is an outcome: with less than `asyncio.timeout` and `shield` take."""
        assert self._waiter is None
        waiter = self._waiter = self.loop.create_future()
        timer = self.loop.call_later(wait_s, _wake, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiter = None

    async def give_up(self, wait_s: float) -> bool:
        """Stop trying; False where it succeeded meanwhile.

        A commit that has begun is waited for; one that takes longer than `wait_s` is undone.
        """
        with self._lock:
            if self._state is State.WAITING:
                self._doom()
                return True
        try:
            await self.done(wait_s)
        except Unavailable:
            return True
        except TimeoutError:
            with self._lock:
                if self._state is State.OVER:
                    return not self._succeeded
                self._doom()
            return True
        return False

    def _doom(self) -> None:
        """See to it that nothing remains of it."""
        if self._state is State.COMMITTING:
            self._state = State.DOOMED
        elif self._uncertain:
            self._undo()
        else:
            self._end()

    def _undo(self) -> None:
        """Be the reversal of itself from now on."""
        assert self.undo is not None
        self._state, self.work = State.WAITING, self.undo
        self.deadline = time.monotonic() + UNDOING_S

    def _end(self) -> None:
        self._state = State.OVER

    # --- by the writer, under the lock that all writes share --------------------------------------

    @property
    def over(self) -> bool:
        return self._state is State.OVER

    def commits(self) -> None:
        """Its transaction is being committed: it can no longer simply be given up."""
        self._state = State.COMMITTING

    def committed(self) -> bool:
        """It is on the disk; False where it has to be undone. Its outcome is to be delivered."""
        if self._state is State.DOOMED:
            self._undo()
            return False
        self._succeeded = True
        self._end()
        return True

    def broke(self, *, uncertain: bool) -> None:
        """Its transaction failed, and it can be tried again."""
        self._uncertain |= uncertain
        if self._state is State.DOOMED:
            self._state = State.WAITING
            self._doom()
        elif self._state is State.COMMITTING:
            self._state = State.WAITING

    def failed(self, error: Unavailable) -> None:
        """It is not tried again."""
        self._end()
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.settle, None, error)

    @staticmethod
    def deliver(results: Sequence[tuple[Write[Any], Any]]) -> None:
        """Tell the callers of writes that were committed; wakes an event loop once for all."""
        of_loops: dict[asyncio.AbstractEventLoop, list[tuple[Write[Any], Any]]] = {}
        for one in results:
            of_loops.setdefault(one[0].loop, []).append(one)
        for loop, some in of_loops.items():
            if not loop.is_closed():
                loop.call_soon_threadsafe(_settle_all, some)

    def settle(self, result: T | None, error: Unavailable | None) -> None:
        """In the event loop: there is an outcome; the first one counts."""
        if self._outcome is None:
            self._outcome = result, error
            if self._waiter is not None:
                _wake(self._waiter)
            if self._callback is not None:
                self._callback(result, error)


def _settle_all(results: Sequence[tuple[Write[Any], Any]]) -> None:
    for write, result in results:
        write.settle(result, None)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
