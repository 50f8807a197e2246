"""What a database tells the metrics; its methods are called in the threads of the database."""

from __future__ import annotations

from typing import Literal, Protocol

Operation = Literal["read", "write"]


class DatabaseMeter(Protocol):
    """Counts what a database does."""

    def committed(self, writes: int, seconds: float) -> None:
        """A transaction of so many writes is on the disk; `seconds` is how long it took."""
        ...

    def read(self, seconds: float) -> None:
        """Something has been read; `seconds` is how long it took, without the wait for a thread."""
        ...

    def failed(self, operation: Operation) -> None:
        """A transaction failed, though it may be tried again."""
        ...

    def lost(self) -> None:
        """A write was dropped, or failed for good."""
        ...

    def waiting(self, writes: int, size: int) -> None:
        """So many writes wait now, of `size` bytes."""
        ...


class NullMeter:
    """Counts nothing."""

    def committed(self, writes: int, seconds: float) -> None:
        pass

    def read(self, seconds: float) -> None:
        pass

    def failed(self, operation: Operation) -> None:
        pass

    def lost(self) -> None:
        pass

    def waiting(self, writes: int, size: int) -> None:
        pass
