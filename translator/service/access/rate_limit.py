"""A rate limit: a token bucket that refills evenly, as OpenAI's headers describe it."""

from __future__ import annotations

_ROUNDING = 1e-6
"""Tolerance for a client that comes back exactly when the limit says."""


class RateLimit:
    """A token bucket of `limit` units, refilled by `limit` per minute.

    `noun` is the unit, as in `x-ratelimit-limit-requests`. Times are in seconds of one clock.
    """

    def __init__(self, noun: str, limit: int, now: float) -> None:
        self.noun = noun
        self.limit = limit
        self._left = float(limit)
        self._since = now

    def wait_s(self, amount: int, now: float) -> float:
        """Seconds until `amount` is available; 0 when it is."""
        self._fill(now)
        missing = amount - self._left
        return missing * 60 / self.limit if missing > _ROUNDING else 0.0

    def take(self, amount: int, now: float) -> None:
        """Take an amount, or give back a negative one; more than is left becomes a debt."""
        self._fill(now)
        self._left = min(float(self.limit), self._left - amount)

    def headers(self, now: float) -> dict[str, str]:
        """The `x-ratelimit-*` headers: the limit, the rest, the time until it is full again."""
        self._fill(now)
        missing_s = (self.limit - self._left) * 60 / self.limit
        return {
            f"x-ratelimit-limit-{self.noun}": str(self.limit),
            f"x-ratelimit-remaining-{self.noun}": str(max(0, int(self._left))),
            f"x-ratelimit-reset-{self.noun}": shown_s(missing_s),
        }

    def _fill(self, now: float) -> None:
        passed = max(0.0, now - self._since)  # a clock may be set back
        self._since = now
        self._left = min(float(self.limit), self._left + passed * self.limit / 60)


def shown_s(seconds: float) -> str:
    """A duration as OpenAI's headers write it: "120ms", "7.66s", "2m59.5s"."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    minutes, rest = divmod(round(seconds, 2), 60)
    return (f"{int(minutes)}m" if minutes else "") + f"{rest:.2f}".rstrip("0").rstrip(".") + "s"
