"""A rate limit: a token bucket that refills evenly, as OpenAI's headers describe it."""

from __future__ import annotations

from typing import Protocol


class Level(Protocol):
    """How full a bucket is.

    [0] are the units that are left, negative for a debt; [1] is when they were: 0 before the bucket
    was first filled.
    """

    def __getitem__(self, index: int, /) -> float: ...
    def __setitem__(self, index: int, value: float, /) -> None: ...


_ROUNDING = 1e-6
"""Tolerance for a client that comes back exactly when the limit says."""


class RateLimit:
    """A token bucket of `limit` units, refilled by `limit` per minute.

    `noun` is the unit, as in `x-ratelimit-limit-requests`. Times are in seconds of one clock.
    """

    def __init__(self, noun: str, limit: int, now: float, level: Level | None = None) -> None:
        """`level` is that of a bucket that others use, too."""
        self.noun = noun
        self.limit = limit
        self._level: Level = [0.0, 0.0] if level is None else level
        if not self._level[1]:
            self._level[0] = float(limit)
            self._level[1] = now  # last: it says that the bucket was filled

    def wait_s(self, amount: int, now: float) -> float:
        """Seconds until `amount` is available; 0 when it is."""
        self._fill(now)
        missing = amount - self._level[0]
        return missing * 60 / self.limit if missing > _ROUNDING else 0.0

    def take(self, amount: int, now: float) -> None:
        """Take an amount, or give back a negative one; more than is left becomes a debt."""
        self._fill(now)
        self._level[0] = min(float(self.limit), self._level[0] - amount)

    def headers(self, now: float) -> dict[str, str]:
        """The `x-ratelimit-*` headers: the limit, the rest, the time until it is full again."""
        self._fill(now)
        left = self._level[0]
        missing_s = (self.limit - left) * 60 / self.limit
        return {
            f"x-ratelimit-limit-{self.noun}": str(self.limit),
            f"x-ratelimit-remaining-{self.noun}": str(max(0, int(left))),
            f"x-ratelimit-reset-{self.noun}": shown_s(missing_s),
        }

    def _fill(self, now: float) -> None:
        level = self._level
        passed = max(0.0, now - level[1])  # a clock may be set back
        level[1] = now
        level[0] = min(float(self.limit), level[0] + passed * self.limit / 60)


def shown_s(seconds: float) -> str:
    """A duration as OpenAI's headers write it: "120ms", "7.66s", "2m59.5s"."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    minutes, rest = divmod(round(seconds, 2), 60)
    return (f"{int(minutes)}m" if minutes else "") + f"{rest:.2f}".rstrip("0").rstrip(".") + "s"
