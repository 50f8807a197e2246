"""A meter that remembers what a database has told it."""

from __future__ import annotations

from collections import Counter

from translator.service.database.meter import Operation


class CountingMeter:
    """A `DatabaseMeter`."""

    def __init__(self) -> None:
        self.commits: list[int] = []
        """The writes of each transaction."""

        self.reads = 0
        self.failures: Counter[str] = Counter()
        self.losses = 0
        self.queue = (0, 0)
        """The number of writes that wait, and their bytes."""

    def committed(self, writes: int, seconds: float) -> None:
        assert seconds >= 0
        self.commits.append(writes)

    def read(self, seconds: float) -> None:
        assert seconds >= 0
        self.reads += 1

    def failed(self, operation: Operation) -> None:
        self.failures[operation] += 1

    def lost(self) -> None:
        self.losses += 1

    def waiting(self, writes: int, size: int) -> None:
        self.queue = writes, size
