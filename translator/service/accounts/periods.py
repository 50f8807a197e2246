"""Periods of a key's limit: they begin by the UTC calendar, and no job resets anything."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal

Period = Literal["never", "day", "week", "month"]

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US

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
    """A time for people, in UTC."""
    return _utc(at).strftime("%Y-%m-%d %H:%M:%SZ")


def read_time(text: str) -> int:
    """Microseconds of an ISO time, which is UTC unless it says otherwise; raises ValueError."""
    found = datetime.fromisoformat(text)
    return _microseconds(found if found.tzinfo else found.replace(tzinfo=UTC))


def _utc(at: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)


def _microseconds(at: datetime) -> int:
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
