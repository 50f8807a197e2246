"""Exports: usage and ledger as tables, of one account or of all, for spreadsheets and programs.

They are read page by page, so that no table is too large; what ends meanwhile may be left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, TypeAlias

from translator.service.database.connection import Connection

from .books import Account
from .money import shown
from .periods import shown_time
from .usage import MAX_ROWS, Span, ledger, sums, usages

What = Literal["days", "requests", "ledger"]
Row: TypeAlias = tuple[object, ...]

_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")

HEADS: dict[What, Row] = {
    "days": (
        *("account", "day", "key", "model", "requests", "input", "cached", "output", "amount"),
        "currency",
    ),
    "requests": (
        *("account", "id", "kind", "began", "ended", "key", "key name", "request", "response"),
        *("endpoint", "model", "channel", "outcome", "input", "cached", "written", "output"),
        *("reasoning", "calls", "estimated", "amount", "correction", "currency"),
    ),
    "ledger": (
        *("account", "id", "at", "kind", "ref", "amount", "balance after", "model", "by", "note"),
        "currency",
    ),
}


def rows_of(
    connection: Connection, what: What, account: Account, span: Span, currency: str
) -> Iterator[Row]:
    """The rows of one account in a span: days in their order, all else newest first."""
    if what == "days":
        for day in sums(connection, account.id, span, ("day", "key", "model")):
            yield (
                *(account.name, shown_time(day.day or 0)[:10], f"key_{day.key}", day.model),
                *(day.requests, day.input, day.cached, day.output, shown(day.amount), currency),
            )
        return
    before: int | None = None
    while True:
        last = before
        for number, row in _page(connection, what, account, span, before):
            yield (account.name, *row, currency)
            last = number
        if last == before:
            return
        before = last


def _page(
    connection: Connection, what: What, account: Account, span: Span, before: int | None
) -> Iterator[tuple[int, Row]]:
    row: Row
    if what == "ledger":
        for entry in ledger(connection, account.id, span, before=before, limit=MAX_ROWS):
            row = (
                *(f"entry_{entry.id}", shown_time(entry.at), entry.kind, entry.ref),
                *(shown(entry.amount), shown(entry.balance_after), entry.model or ""),
                *(entry.actor, entry.note),
            )
            yield entry.id, row
        return
    for one in usages(connection, account.id, span, before=before, limit=MAX_ROWS):
        row = (
            *(f"usage_{one.id}", one.kind, shown_time(one.began_at), shown_time(one.ended_at)),
            *(f"key_{one.key}", one.key_name, one.request_id, one.response_id, one.endpoint),
            *(one.model, one.channel, one.outcome, one.input, one.cached, one.written),
            *(one.output, one.reasoning, one.calls, one.estimated, shown(one.amount)),
            shown(one.corrected),
        )
        yield one.id, row


def safe_cell(value: object) -> str:
    """A cell that no spreadsheet takes for a formula. A number is none, and stays one."""
    text = str(value)
    if _NUMBER.fullmatch(text):
        return text
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r", "\n") else text
