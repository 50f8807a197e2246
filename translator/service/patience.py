"""A bound for many short waits, without a timer for each.

`asyncio.timeout` makes and cancels a timer each time, which costs as much as the translation of a
token. Here one timer looks now and then: between two looks any number of waits may pass.
"""

from __future__ import annotations

import asyncio
from types import TracebackType


class Patience:
    """Bounds waits of one task, one after the other: `with patience: await …`.

    Raises TimeoutError when a wait lasts for `limit_s` seconds.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[object] | None = None
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._cancelled_before = 0
        self._over = False

    def __enter__(self) -> None:
        self._task = asyncio.current_task()
        self._since = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_at(self._since + self._limit_s, self._look)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        task, self._task = self._task, None
        if not self._over:
            return
        self._over = False
        ours = task is not None and task.uncancel() <= self._cancelled_before
        if ours and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _look(self) -> None:
        self._timer = None
        if self._task is None:
            return  # nobody waits: the next wait sets the timer again
        due = self._since + self._limit_s
        if self._loop.time() < due:
            self._timer = self._loop.call_at(due, self._look)
            return
        self._over = True
        self._cancelled_before = self._task.cancelling()
        self._task.cancel()

    def close(self) -> None:
        """There are no more waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
