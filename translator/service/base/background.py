"""A background thread with a queue, for work that may wait for a disk."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

CLOSING_S = 10.0
"""How long `close` waits for the pending items, in seconds."""


class BackgroundThread(Generic[T]):
    """Calls `work` with each item in its order. `work` must not raise."""

    def __init__(self, name: str, work: Callable[[T], None]) -> None:
        self._work = work
        self._queue: queue.SimpleQueue[tuple[T] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: T) -> None:
        """Does not wait; the queue has no bound of its own, see `pending`."""
        self._queue.put((item,))

    @property
    def pending(self) -> int:
        """The number of items in the queue."""
        return self._queue.qsize()

    def close(self) -> None:
        """Process the pending items, and end the thread; waits CLOSING_S at most."""
        self._queue.put(None)
        self._thread.join(CLOSING_S)

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            self._work(item[0])
