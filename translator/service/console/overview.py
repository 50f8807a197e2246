"""The overview of an account: what it spends, on what, and its last requests."""

from __future__ import annotations

from translator.service.accounts import usage
from translator.service.accounts.changes import now
from translator.service.accounts.key_book import keys_of
from translator.service.accounts.periods import DAY_US, period_start
from translator.service.accounts.usage import Span, Sum
from translator.service.database.connection import Connection

from .charts import Bar, bars_of
from .visit import View, Visit

LATEST = 20
"""Requests that the overview shows."""

DAYS = 30
"""Days of its chart."""


def overview(visit: Visit, connection: Connection) -> View:
    account = visit.of_account
    at = now(connection)
    today, month = period_start("day", at), period_start("month", at)
    since = today - (DAYS - 1) * DAY_US
    days = {one.day: one for one in usage.sums(connection, account.id, Span(start=since), ["day"])}
    by_model = usage.sums(connection, account.id, Span(start=month), ["model"])
    return visit.page(
        "overview",
        "Overview",
        today=usage.total(connection, account.id, Span(start=today)),
        month=usage.total(connection, account.id, Span(start=month)),
        month_at=month,
        by_model=sorted(by_model, key=_weight, reverse=True),
        bars=_bars(visit, days, since),
        latest=usage.usages(connection, account.id, limit=LATEST),
        has_keys=bool(keys_of(connection, account.id)),
    )


def _weight(one: Sum) -> tuple[int, int]:
    return one.amount, one.requests


def _bars(visit: Visit, days: dict[int | None, Sum], since: int) -> list[Bar]:
    found = [(at, days.get(at, Sum())) for at in range(since, since + DAYS * DAY_US, DAY_US)]
    return bars_of(found, billing=visit.context.section.billing)
