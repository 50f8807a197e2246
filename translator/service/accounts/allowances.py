"""Allowances: the requests and the tokens that a key has left in this minute, as integers.

A bucket of `limit` units refills evenly, by `limit` in a minute. Its rest is counted in units ×
60,000,000, so that what a microsecond adds is an integer, too.
"""

from __future__ import annotations

from msgspec import Struct

from translator.service.access.rate_limit import shown_s

MINUTE_US = 60_000_000


class Allowance(Struct):
    """A bucket; `rest` is negative for a debt, `since` is when it was that, in microseconds."""

    noun: str
    limit: int
    rest: int
    since: int

    @classmethod
    def full(cls, noun: str, limit: int, now: int) -> Allowance:
        """A bucket from which nothing was taken yet."""
        return cls(noun, limit, limit * MINUTE_US, now)

    def fill(self, now: int) -> None:
        """Add what has come since; a clock that was set back adds nothing."""
        passed = max(0, now - self.since)
        self.since = now
        self.rest = min(self.limit * MINUTE_US, self.rest + passed * self.limit)

    def wait_us(self, amount: int) -> int:
        """Microseconds until an amount is available; 0 when it is."""
        missing = amount * MINUTE_US - self.rest
        return -(-missing // self.limit) if missing > 0 else 0

    def take(self, amount: int) -> None:
        """Take an amount, or give back a negative one; more than is left becomes a debt."""
        self.rest = min(self.limit * MINUTE_US, self.rest - amount * MINUTE_US)

    def headers(self) -> dict[str, str]:
        """The `x-ratelimit-*` headers: the limit, the rest, the time until it is full again."""
        missing_us = (self.limit * MINUTE_US - self.rest) // self.limit
        return {
            f"x-ratelimit-limit-{self.noun}": str(self.limit),
            f"x-ratelimit-remaining-{self.noun}": str(max(0, self.rest // MINUTE_US)),
            f"x-ratelimit-reset-{self.noun}": shown_s(missing_us / 1_000_000),
        }
