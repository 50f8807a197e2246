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
from collections.abc import Callable
from enum import Enum, auto
from typing import Any, Generic, TypeVar

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
        self.not_before = 0.0
        self.attempts = 0
        self.alone = False
        """Whether it is tried in a transaction of its own: it may be what fails."""
        self.awaited = False
        """Whether somebody waits for it: what nobody waits for may be dropped."""
        self.needed = False
        """Whether it must not be dropped all the same."""
        self.undo = undo
        self._lock = lock
        self._state = State.WAITING
        self._succeeded = False
        self._uncertain = False  # a commit was sent, and its connection broke
        self._loop = asyncio.get_running_loop()
        self._outcome: asyncio.Future[T] = self._loop.create_future()
        self._outcome.add_done_callback(_mark_as_seen)

    # --- by the event loop ----------------------------------------------------------------------

    @property
    def outcome(self) -> asyncio.Future[T]:
        """The result of the work once it is on the disk, or Unavailable; not to be cancelled."""
        return self._outcome

    async def done(self, wait_s: float) -> T:
        """The result of the work, on the disk.

        Raises Unavailable where it failed, and TimeoutError where it takes longer: then it may
        still succeed, until it is given up.
        """
        self.awaited = True
        try:
            async with asyncio.timeout(wait_s):
                return await asyncio.shield(self._outcome)
        finally:
            self.awaited = False

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

    def committed(self, result: T) -> bool:
        """It is on the disk; False where it has to be undone."""
        if self._state is State.DOOMED:
            self._undo()
            return False
        self._succeeded = True
        self._end()
        self._settle(lambda: self._outcome.set_result(result))
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
        self._settle(lambda: self._outcome.set_exception(error))

    def _settle(self, settle: Callable[[], None]) -> None:
        def once() -> None:
            if not self._outcome.done():
                settle()

        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(once)


def _mark_as_seen(outcome: asyncio.Future[Any]) -> None:
    """Nobody need wait for an outcome: its error is logged by the writer."""
    if not outcome.cancelled():
        outcome.exception()
