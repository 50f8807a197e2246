"""Usage and ledger: tables and bars for a range of days, and the same as CSV.

A cell of a CSV that a spreadsheet would take for a formula begins with an apostrophe. Amounts have
no sign in it: what was added and what was taken are two columns.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from functools import partial
from typing import TypeVar

from msgspec import Struct

from translator.service.accounts import usage as query
from translator.service.accounts.changes import Mistake, now
from translator.service.accounts.export import safe_cell
from translator.service.accounts.key_book import keys_of
from translator.service.accounts.money import shown
from translator.service.accounts.periods import DAY_US, period_start, shown_time
from translator.service.accounts.usage import LedgerRow, Span, Sum, Usage
from translator.service.database.connection import Connection

from .charts import MAX_BARS, bars_of
from .requests import SECURITY, Response
from .visit import View, Visit

PAGE_ROWS = 100
"""Rows of a page."""

CSV_ROWS = 10_000
"""Most rows of single requests or entries in one CSV; the next begins with `before`."""

R = TypeVar("R", Usage, LedgerRow)

_EPOCH = date(1970, 1, 1)
_LAST_DAY = date(2999, 12, 31)


class Range(Struct, frozen=True, kw_only=True):
    """What is asked for: days, both included, and perhaps a key and a model."""

    start: date
    end: date
    key: int | None = None
    model: str | None = None
    before: int | None = None
    problem: str = ""

    @property
    def span(self) -> Span:
        return Span(
            start=_at(self.start), end=_at(self.end) + DAY_US, key=self.key, model=self.model
        )

    @property
    def query(self) -> dict[str, str]:
        """The parameters of an address that asks for the same."""
        found = {"start": self.start.isoformat(), "end": self.end.isoformat()}
        if self.key is not None:
            found["key"] = f"key_{self.key}"
        if self.model is not None:
            found["model"] = self.model
        return found


def usage(visit: Visit, connection: Connection) -> View:
    """The usage of a range: by day, by model, by key, and request by request."""
    asked = range_of(visit, connection)
    account = visit.of_account.id
    days = query.sums(connection, account, asked.span, ["day"])
    keys = keys_of(connection, account)
    rows = query.usages(connection, account, asked.span, before=asked.before, limit=PAGE_ROWS + 1)
    return visit.page(
        "usage",
        "Usage",
        asked=asked,
        keys=keys,
        names={one.id: one.name for one in keys},
        models=_models(connection, account),
        total=query.total(connection, account, asked.span),
        bars=bars_of(_filled(asked, days), billing=visit.context.section.billing),
        by_model=query.sums(connection, account, asked.span, ["model"]),
        by_key=query.sums(connection, account, asked.span, ["key"]),
        rows=rows[:PAGE_ROWS],
        more=rows[PAGE_ROWS - 1].id if len(rows) > PAGE_ROWS else None,
        csv_rows=CSV_ROWS,
    )


def ledger(visit: Visit, connection: Connection) -> View:
    """The changes of the balance in a range."""
    asked = range_of(visit, connection)
    account = visit.of_account.id
    rows = query.ledger(connection, account, asked.span, before=asked.before, limit=PAGE_ROWS + 1)
    return visit.page(
        "ledger",
        "Ledger",
        asked=asked,
        keys=keys_of(connection, account),
        models=_models(connection, account),
        rows=rows[:PAGE_ROWS],
        more=rows[PAGE_ROWS - 1].id if len(rows) > PAGE_ROWS else None,
        csv_rows=CSV_ROWS,
    )


def usage_csv(visit: Visit, connection: Connection) -> Response:
    """The usage of a range: sums of each day, key and model, or single requests."""
    asked = range_of(visit, connection)
    if asked.problem:
        return _unreadable(asked)
    account = visit.of_account.id
    names = {one.id: one.name for one in keys_of(connection, account)}
    if visit.request.query.get("rows") != "requests":
        head = ("day", "key", "key name", "model", "requests", "input", "cached", "output")
        found = query.sums(connection, account, asked.span, ["day", "key", "model"])
        return _csv("usage", (*head, "amount", "currency"), _sum_rows(visit, found, names))
    columns = (
        *("id", "began", "ended", "key", "key name", "request", "response", "endpoint", "model"),
        *("channel", "outcome", "input", "cached", "written", "output", "reasoning"),
        *("estimated", "amount", "currency"),
    )
    currency = visit.context.section.currency
    rows = (
        (
            *(str(one.id), shown_time(one.began_at), shown_time(one.ended_at), f"key_{one.key}"),
            *(one.key_name, one.request_id, one.response_id, one.endpoint, one.model),
            *(one.channel, one.outcome, one.input, one.cached, one.written, one.output),
            *(one.reasoning, one.estimated, shown(max(0, one.cost)), currency),
        )
        for one in _many(partial(query.usages, connection, account, asked.span), asked)
    )
    return _csv("requests", columns, rows)


def _sum_rows(
    visit: Visit, found: Iterable[Sum], names: dict[int, str]
) -> Iterator[Sequence[object]]:
    for one in found:
        assert one.day is not None
        assert one.key is not None
        yield (
            *(shown_time(one.day)[:10], f"key_{one.key}", names.get(one.key, ""), one.model or ""),
            *(one.requests, one.input, one.cached, one.output),
            *(shown(one.amount), visit.context.section.currency),
        )


def ledger_csv(visit: Visit, connection: Connection) -> Response:
    """The changes of the balance in a range."""
    asked = range_of(visit, connection)
    if asked.problem:
        return _unreadable(asked)
    account = visit.of_account.id
    head = ("id", "at", "kind", "reference", "model", "added", "taken", "balance", "currency")
    rows = (
        (
            *(str(one.id), shown_time(one.at), one.kind, one.ref, one.model or ""),
            *(shown(max(0, one.amount)), shown(max(0, -one.amount)), shown(one.balance_after)),
            *(visit.context.section.currency, one.actor, one.note),
        )
        for one in _many(partial(query.ledger, connection, account, asked.span), asked)
    )
    return _csv("ledger", (*head, "by", "note"), rows)


def _many(rows_of: Callable[..., Sequence[R]], asked: Range) -> Iterator[R]:
    """Rows of one page after the other, up to CSV_ROWS."""
    before, left = asked.before, CSV_ROWS
    while left:
        wanted = min(left, query.MAX_ROWS)
        rows = rows_of(before=before, limit=wanted)
        yield from rows
        if len(rows) < wanted:
            return
        before, left = rows[-1].id, left - wanted


# --- what is asked for ---------------------------------------------------------------------------


def range_of(visit: Visit, connection: Connection) -> Range:
    """The range of an address; this month, where it has none or a wrong one."""
    today = _date(now(connection))
    month = _date(period_start("month", now(connection)))
    asked = visit.request.query
    try:
        start, end = _day("start", asked, month), _day("end", asked, today)
        if start > end:
            raise Mistake("end: the first day is after the last one.")
        key = _number("key", asked.get("key", "").removeprefix("key_"), "an id such as key_17")
        before = _number("before", asked.get("before", ""), "the id of a row")
    except Mistake as mistake:
        return Range(start=month, end=today, problem=str(mistake))
    return Range(
        start=start,
        end=end,
        key=key,
        model=asked.get("model", "")[:200] or None,
        before=before,
    )


def _day(name: str, asked: Mapping[str, str], otherwise: date) -> date:
    text = asked.get(name, "")
    if not text:
        return otherwise
    try:
        found = date.fromisoformat(text)
    except ValueError:
        raise Mistake(f"{name}: a day is one such as 2027-01-31.") from None
    if not _EPOCH <= found <= _LAST_DAY:
        raise Mistake(f"{name}: a day is one such as 2027-01-31.")
    return found


def _number(name: str, text: str, what: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise Mistake(f"{name}: expected {what}.")
    return int(text)


def _date(at: int) -> date:
    return date.fromisoformat(shown_time(at)[:10])


def _at(day: date) -> int:
    return (day - _EPOCH).days * DAY_US


def _models(connection: Connection, account: int) -> list[str]:
    """The models that an account has ever used."""
    return [one.model for one in query.sums(connection, account, by=["model"]) if one.model]


def _filled(asked: Range, days: Sequence[Sum]) -> list[tuple[int, Sum]]:
    """A sum for each day of a range that a chart can hold, also for those without requests."""
    known = {one.day: one for one in days}
    last = _at(asked.end)
    first = max(_at(asked.start), last - (MAX_BARS - 1) * DAY_US)
    return [(at, known.get(at, Sum())) for at in range(first, last + DAY_US, DAY_US)]


# --- CSV -----------------------------------------------------------------------------------------


def _unreadable(asked: Range) -> Response:
    """The response to a range that cannot be read: a program must not take it for another one."""
    headers = {**SECURITY, "content-type": "text/plain; charset=utf-8"}
    return Response(status=400, body=f"{asked.problem}\n".encode(), headers=headers)


def _csv(name: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> Response:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(head)
    writer.writerows([[safe_cell(cell) for cell in row] for row in rows])
    headers = {
        **SECURITY,
        "content-type": "text/csv; charset=utf-8; header=present",
        "content-disposition": f'attachment; filename="{name}.csv"',
    }
    return Response(body=text.getvalue().encode("utf-8", "replace"), headers=headers)
