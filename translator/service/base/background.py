"""A worker thread for work that may wait for a disk or a terminal."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

CLOSING_S = 10.0
"""How long `close` waits for the rest of the queue, in seconds."""


class Background(Generic[T]):
    """Calls `work` with each queued item, in order, in its own thread. `work` must not raise."""

    def __init__(self, name: str, work: Callable[[T], None]) -> None:
        self._work = work
        self._queue: queue.SimpleQueue[tuple[T] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: T) -> None:
        """Queue an item; never waits."""
        self._queue.put((item,))

    @property
    def behind(self) -> int:
        """How many items are queued."""
        return self._queue.qsize()

    def close(self) -> None:
        """Work off the queue, within CLOSING_S."""
        self._queue.put(None)
        self._thread.join(CLOSING_S)

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            self._work(item[0])
