"""Periods of a key's limit: they begin by the UTC calendar, and no job resets anything."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal

Period = Literal["never", "day", "week", "month"]

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US

LAST_US = 253_402_300_799 * SECOND_US
"""9999-12-31 23:59:59 UTC, the last second that a date can name."""

_FIRST_MONDAY_US = 4 * DAY_US  # 1970-01-05


def period_start(period: Period | None, now: int) -> int:
    """When the period began that `now` is in, in microseconds; 0 for one that never ends."""
    if period == "day":
        return now - now % DAY_US
    if period == "week":
        return now - (now - _FIRST_MONDAY_US) % (7 * DAY_US)
    if period == "month":
        return _microseconds(_utc(now).replace(day=1, hour=0, minute=0, second=0, microsecond=0))
    return 0


def next_period(period: Period | None, now: int) -> int | None:
    """When the next period begins; None where there will be none."""
    start = period_start(period, now)
    if period == "day":
        return start + DAY_US
    if period == "week":
        return start + 7 * DAY_US
    if period == "month":
        return _microseconds((_utc(start) + timedelta(days=32)).replace(day=1))
    return None


def shown_time(at: int) -> str:
    """A time for people, in UTC; LAST_US for one beyond it, which a row may have."""
    return _utc(max(0, min(at, LAST_US))).strftime("%Y-%m-%d %H:%M:%SZ")


def read_time(text: str) -> int:
    """Microseconds of an ISO time, which is UTC unless it says otherwise.

    Raises ValueError, also for a time before 1970 or after 9999 in UTC, whatever its zone.
    """
    found = datetime.fromisoformat(text)
    at = _microseconds(found if found.tzinfo else found.replace(tzinfo=UTC))
    if not 0 <= at <= LAST_US:
        raise ValueError(f"{text!r} is not between the years 1970 and 9999 in UTC")
    return at


def _utc(at: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)


def _microseconds(at: datetime) -> int:
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
