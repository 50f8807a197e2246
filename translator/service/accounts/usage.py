"""Usage: what the requests of one account have used and cost, as its owner sees it.

    sums       by day, key and model: of every day, corrections included
    usages     single requests, by their ends, newest first: until they are pruned
    ledger     the changes of the balance, newest first

Days are those of UTC, and a day that is over never changes. Every query has the account as an
argument, and finds nothing of another one. Amounts are pico, times microseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Literal

from msgspec import Struct

from translator.service.database.connection import Connection, Row
from translator.service.database.statement import Statement

from . import statements as sql
from .bills import Estimated, Price
from .periods import Period, period_start
from .tools import Kind

MAX_ROWS = 1000
"""Most rows of a page of usages, or of entries."""

MAX_OTHERS = 20
"""Most further usages with the same id of a request that are named."""

Grouping = Literal["day", "key", "model"]

_ALWAYS = 0
_FOREVER = 2**62


class Span(Struct, frozen=True, kw_only=True):
    """What is asked for: the times from `start` to before `end`, and a key or a model of them."""

    start: int = _ALWAYS
    end: int = _FOREVER
    key: int | None = None
    model: str | None = None


EVERYTHING = Span()


class Sum(Struct, frozen=True, kw_only=True):
    """The usage of a day, a key and a model; None: of all of them."""

    day: int | None = None
    key: int | None = None
    model: str | None = None
    requests: int = 0
    input: int = 0
    cached: int = 0
    output: int = 0
    amount: int = 0


class Usage(Struct, frozen=True, kw_only=True):
    """A request that has ended; `price` is None where it cost nothing."""

    id: int
    key: int
    key_name: str
    request_id: str
    response_id: str
    endpoint: str
    model: str
    channel: str
    began_at: int
    ended_at: int
    outcome: str
    input: int
    cached: int
    written: int
    output: int
    reasoning: int
    estimated: Estimated
    amount: int
    kind: Kind
    calls: int
    """How many calls of a tool it is, where it is one of those."""

    price: Price | None
    corrected: int = 0
    """By how much a correction has changed what it cost, in pico; see `settlements`."""

    @property
    def cost(self) -> int:
        """What it has cost after all."""
        return self.amount + self.corrected


class LedgerRow(Struct, frozen=True):
    """A change of a balance; amounts are pico."""

    id: int
    at: int
    kind: str
    ref: str
    amount: int
    balance_after: int
    model: str | None
    actor: str
    note: str


_DAY = "s.day"
_COLUMNS: dict[Grouping, str] = {"day": _DAY, "key": "s.key_id", "model": "s.model"}


def _total(column: str) -> str:
    return f"CAST(coalesce(sum(s.{column}), 0) AS BIGINT)"


_FIGURES = ", ".join(map(_total, ("requests", "input", "cached", "output", "amount")))


def _narrowed(span: Span) -> str:
    """The conditions of a key and a model, where they are asked for: so an index serves them."""
    of_key = "" if span.key is None else " AND s.key_id = :key"
    return of_key if span.model is None else f"{of_key} AND s.model = :model"


@cache
def _sums(by: tuple[Grouping, ...], narrowed: str) -> Statement:
    columns = ", ".join(_COLUMNS[one] for one in by)
    text = (
        f"SELECT {f'{columns}, ' if by else ''}{_FIGURES} FROM acct_sums s"
        f" WHERE s.account_id = :account AND {_DAY} >= :start AND {_DAY} < :end{narrowed}"
    )
    return Statement(f"{text} GROUP BY {columns} ORDER BY {columns}" if by else text)


_USAGE = (
    "SELECT s.hold_id, s.key_id, s.key_name, s.request_id, s.response_id, s.endpoint, s.model,"
    " s.channel, s.began_at, s.ended_at, s.outcome, s.input, s.cached, s.written, s.output,"
    " s.reasoning, s.estimated, s.amount, s.kind, s.calls, p.id, p.input, p.cached_input,"
    " p.cache_write, p.output, p.per_request, p.free, (SELECT -l.amount FROM acct_ledger l"
    " WHERE l.kind = 'correction' AND l.ref = CAST(s.hold_id AS TEXT))"
    " FROM acct_usages s LEFT JOIN acct_prices p ON p.id = s.price_id"
)


@cache
def _usages(narrowed: str) -> Statement:
    return Statement(
        f"{_USAGE} WHERE s.account_id = :account AND s.ended_at >= :start AND s.ended_at < :end"
        f"{narrowed} AND (s.ended_at < :last OR s.hold_id < :before)"
        " ORDER BY s.ended_at DESC, s.hold_id DESC LIMIT :limit"
    )


_ENDED_AT = Statement(
    "SELECT ended_at FROM acct_usages WHERE hold_id = :id AND account_id = :account"
)
_BY_NUMBER = Statement(f"{_USAGE} WHERE s.account_id = :account AND s.hold_id = :id")
_BY_RESPONSE = Statement(
    f"{_USAGE} WHERE s.response_id = :id AND s.account_id = :account"
    " ORDER BY s.hold_id DESC LIMIT :limit"
)
_BY_REQUEST = Statement(  # calls of tools after the requests that they belong to
    f"{_USAGE} WHERE s.request_id = :id AND s.account_id = :account"
    " ORDER BY CASE WHEN s.parent IS NULL THEN 0 ELSE 1 END, s.hold_id DESC LIMIT :limit"
)


@cache
def _ledger(narrowed: str) -> Statement:
    return Statement(
        "SELECT s.id, s.at, s.kind, s.ref, s.amount, s.balance_after, s.model, s.actor, s.note"
        " FROM acct_ledger s WHERE s.account_id = :account AND s.at >= :start AND s.at < :end"
        f"{narrowed} AND s.id < :before ORDER BY s.id DESC LIMIT :limit"
    )


def sums(
    connection: Connection, account: int, span: Span = EVERYTHING, by: Sequence[Grouping] = ()
) -> list[Sum]:
    """The usage of the days in a span, a row for each group, in their order.

    Without a grouping it is one row. The days of a span are those that begin in it.
    """
    groups = tuple(by)
    names = (*groups, "requests", "input", "cached", "output", "amount")
    values = _of_span(account, span)
    rows = connection.execute(_sums(groups, _narrowed(span)), values)
    return [Sum(**dict(zip(names, row, strict=True))) for row in rows]


def total(connection: Connection, account: int, span: Span = EVERYTHING) -> Sum:
    """The usage of the days in a span, in one row."""
    return sums(connection, account, span)[0]


def spent_in(
    connection: Connection, account: int, period: Period, now: int, key: int | None = None
) -> int:
    """What an account, or a key of it, has spent in the period that `now` is in."""
    return total(connection, account, Span(start=period_start(period, now), key=key)).amount


def usages(
    connection: Connection,
    account: int,
    span: Span = EVERYTHING,
    *,
    before: int | None = None,
    limit: int = 100,
) -> list[Usage]:
    """The requests that ended in a span, newest first; `before`: the id that a page ended with."""
    values = _of_span(account, span, limit) | {"last": _FOREVER, "before": 0}
    if before is not None:  # where that row ended; what is not there any more has no time
        rows = connection.execute(_ENDED_AT, {"id": before, "account": account})
        last = int(rows[0][0]) if rows else _ALWAYS
        end = min(span.end, last + 1) if rows else span.end
        values |= {"last": last, "before": before, "end": end}
    return [_usage(row) for row in connection.execute(_usages(_narrowed(span)), values)]


def usages_of(connection: Connection, account: int, name: str) -> list[Usage]:
    """The requests called so, newest first: `usage_17`, or the id of a response or a request.

    A client may give many requests one id: up to MAX_OTHERS of them are found beside the newest.
    """
    number = name.removeprefix("usage_")
    if name != number and number.isascii() and number.isdigit():
        rows = connection.execute(_BY_NUMBER, {"account": account, "id": int(number[:18])})
        return [_usage(row) for row in rows]
    values = {"account": account, "id": name, "limit": MAX_OTHERS + 1}
    rows = connection.execute(_BY_RESPONSE, values) if name else []
    return [_usage(row) for row in rows or connection.execute(_BY_REQUEST, values)]


def ledger(
    connection: Connection,
    account: int,
    span: Span = EVERYTHING,
    *,
    before: int | None = None,
    limit: int = 100,
) -> list[LedgerRow]:
    """The changes of the balance in a span, newest first; `before` as in `usages`."""
    values = _of_span(account, span, limit) | {"before": _FOREVER if before is None else before}
    return [LedgerRow(*row) for row in connection.execute(_ledger(_narrowed(span)), values)]


def time_of(connection: Connection) -> int:
    """The database's time, in microseconds."""
    return int(connection.execute(sql.TIME)[0][0])


def _of_span(account: int, span: Span, limit: int = MAX_ROWS) -> dict[str, object]:
    found: dict[str, object] = {
        "account": account,
        "start": span.start,
        "end": span.end,
        "limit": max(1, min(limit, MAX_ROWS)),
    }
    found |= {} if span.key is None else {"key": span.key}
    return found if span.model is None else found | {"model": span.model}


def _usage(row: Row) -> Usage:
    *plain, price_id, input_, cached_input, cache_write, output, per_request, free, changed = row
    price = None
    if price_id is not None:
        price = Price(price_id, input_, cached_input, cache_write, output, per_request, bool(free))
    values = dict(zip(Usage.__struct_fields__, plain, strict=False))
    return Usage(**values, price=price, corrected=changed or 0)
