"""Work that may wait for a disk or a terminal, done in a thread of its own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

CLOSING_S = 10.0
"""How long the end of the process waits for what is not yet done, in seconds."""


class Background(Generic[T]):
    """Does `work` with each item that is put, one after the other. `work` must not raise."""

    def __init__(self, name: str, work: Callable[[T], None]) -> None:
        self._work = work
        self._waiting: queue.SimpleQueue[tuple[T] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: T) -> None:
        """Never waits."""
        self._waiting.put((item,))

    @property
    def behind(self) -> int:
        """How many items wait."""
        return self._waiting.qsize()

    def close(self) -> None:
        """Do what waits, within CLOSING_S."""
        self._waiting.put(None)
        self._thread.join(CLOSING_S)

    def _run(self) -> None:
        while (item := self._waiting.get()) is not None:
            self._work(item[0])
