"""A timeout for many waits, without a timer for each.

`asyncio.timeout` makes and cancels a timer each time, which costs CPU for each chunk. Here one
timer serves any number of waits: when it fires, it is set again to the current deadline.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self


class ReusableTimeout:
    """Bounds waits of the task that makes it, one after the other.

        with timeout.until(when): await …

    Raises TimeoutError when a wait lasts until `when`, by the loop's clock, or until `end()`.
    """

    __slots__ = (
        *("_cancelled_before", "_deadline", "_expired", "_loop", "_task", "_timer"),
        *("_timer_at", "_waiting"),
    )

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        task = asyncio.current_task()  # a system call, so only once
        assert task is not None
        self._task = task
        self._waiting = False
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._cancelled_before = 0
        self._expired = False

    def until(self, when: float) -> Self:
        self._deadline = when
        return self

    def __enter__(self) -> None:
        self._waiting = True
        self._cancelled_before = self._task.cancelling()
        if self._timer is None or self._deadline < self._timer_at:
            self._set_timer(self._deadline)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._waiting = False
        if not self._expired:
            return
        self._expired = False
        ours = self._task.uncancel() <= self._cancelled_before
        if ours and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _set_timer(self, when: float) -> None:
        self._stop_timer()
        self._timer_at = when
        self._timer = self._loop.call_at(when, self._check)

    def _check(self) -> None:
        self._timer = None
        if not self._waiting:
            return  # the next wait sets the timer again
        if self._loop.time() < self._deadline:
            self._set_timer(self._deadline)
        else:
            self.end()

    def end(self) -> None:
        """End the current wait, if there is one."""
        if not self._waiting or self._expired:
            return
        self._expired = True
        self._task.cancel()

    def close(self) -> None:
        """Stop the timer; no wait may follow."""
        self._stop_timer()
        del self._task  # which may hold what holds this

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
