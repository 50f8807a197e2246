"""What the store tells the metrics, beside what its database does."""

from __future__ import annotations

from typing import Literal, Protocol

from translator.service.database.meter import DatabaseMeter, NullMeter

StoreResult = Literal["stored", "late", "failed", "too_large", "unavailable"]
"""What became of a response that was to be stored.

`late`: it was sent before it was stored, and may be stored yet. `failed`: the database did not take
it. `too_large`: it is over a bound. `unavailable`: it was known at the beginning that the database
could not be used.
"""


class StoreMeter(DatabaseMeter, Protocol):
    """Counts what the store does."""

    def response(self, result: StoreResult) -> None:
        """A response was to be stored."""
        ...

    def swept(self, rows: int) -> None:
        """Expired rows were deleted."""
        ...

    def locked(self) -> None:
        """A conversation was locked by another request."""
        ...

    def running(self, responses: int) -> None:
        """So many responses are being produced in the background."""
        ...

    def lease_lost(self) -> None:
        """A response in the background ends, since its lease could not be renewed."""
        ...

    def size(self, size: int) -> None:
        """The bytes that the store takes now."""
        ...


class NullStoreMeter(NullMeter):
    """Counts nothing."""

    def response(self, result: StoreResult) -> None:
        pass

    def swept(self, rows: int) -> None:
        pass

    def locked(self) -> None:
        pass

    def running(self, responses: int) -> None:
        pass

    def lease_lost(self) -> None:
        pass

    def size(self, size: int) -> None:
        pass
