"""What counts the work of the accounts."""

from __future__ import annotations

from typing import Protocol

from translator.service.database.meter import DatabaseMeter, NullMeter

from .bills import Estimated


class AccountMeter(DatabaseMeter, Protocol):
    """Counts holds and settlements, and what the database does for them."""

    def holds(self, count: int) -> None:
        """So many requests have a hold now."""
        ...

    def held(self, result: str, seconds: float) -> None:
        """A hold was asked for: `result` is "held", "refused" or "unavailable"."""
        ...

    def settled(self, estimated: Estimated, lag_s: float, overdraft: int) -> None:
        """A request is billed, so long after its end; `overdraft`: pico beyond its hold."""
        ...

    def orphans(self, count: int) -> None:
        """So many holds of dead processes were ended."""
        ...


class NullAccountMeter(NullMeter):
    """Counts nothing."""

    def holds(self, count: int) -> None:
        pass

    def held(self, result: str, seconds: float) -> None:
        pass

    def settled(self, estimated: Estimated, lag_s: float, overdraft: int) -> None:
        pass

    def orphans(self, count: int) -> None:
        pass
