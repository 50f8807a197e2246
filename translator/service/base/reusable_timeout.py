"""A bound for many waits, without a timer for each.

`asyncio.timeout` makes and cancels a timer each time, which costs as much as the translation of a
token. Here one timer looks now and then: between two looks any number of waits may pass.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self


class Patience:
    """Bounds waits of the task that makes it, one after the other.

        with patience.until(when): await …

    Raises TimeoutError when a wait lasts until then, by the loop's clock, or until `end()`.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        task = asyncio.current_task()  # which is asked of the system, so only once
        assert task is not None
        self._task = task
        self._waits = False
        self._until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._rings = 0.0  # when it does
        self._cancelled_before = 0
        self._over = False

    def until(self, when: float) -> Self:
        self._until = when
        return self

    def __enter__(self) -> None:
        self._waits = True
        self._cancelled_before = self._task.cancelling()
        if self._timer is None or self._until < self._rings:
            self._wake_at(self._until)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._waits = False
        if not self._over:
            return
        self._over = False
        ours = self._task.uncancel() <= self._cancelled_before
        if ours and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _wake_at(self, when: float) -> None:
        self._stop_timer()
        self._rings = when
        self._timer = self._loop.call_at(when, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._waits:
            return  # nobody waits: the next wait sets the timer again
        if self._loop.time() < self._until:
            self._wake_at(self._until)
        else:
            self.end()

    def end(self) -> None:
        """End the wait that lasts, if there is one."""
        if not self._waits or self._over:
            return
        self._over = True
        self._task.cancel()

    def close(self) -> None:
        """There are no more waits."""
        self._stop_timer()
        del self._task  # which may hold what holds this

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
