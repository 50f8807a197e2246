"""Reconciliation: every figure that is kept beside the rows that explain it.

All is read in one transaction; else a settlement between two reads would look like a fault. It
changes nothing: what differs is for a person to explain, by an adjustment.
"""

from __future__ import annotations

from collections.abc import Iterator

from translator.service.database.connection import Connection
from translator.service.database.statement import Statement

from .money import shown
from .periods import DAY_US, shown_time
from .pruning import pruned_before


def _sum(column: str) -> str:
    return f"CAST(coalesce(sum({column}), 0) AS BIGINT)"


_BALANCES = Statement(
    f"SELECT a.name, a.balance, (SELECT {_sum('l.amount')} FROM acct_ledger l"
    " WHERE l.account_id = a.id) FROM acct_accounts a ORDER BY a.id"
)
_CHAIN = Statement(
    "SELECT a.name, l.id, l.amount, l.balance_after FROM acct_ledger l"
    " JOIN acct_accounts a ON a.id = l.account_id ORDER BY l.account_id, l.id"
)
_HELD = Statement(
    f"SELECT a.name, a.held, (SELECT {_sum('h.amount')} FROM acct_holds h"
    " WHERE h.account_id = a.id) FROM acct_accounts a ORDER BY a.id"
)
_KEYS_HELD = Statement(
    f"SELECT k.id, k.held, (SELECT {_sum('h.amount')} FROM acct_holds h WHERE h.key_id = k.id),"
    " k.open, (SELECT count(*) FROM acct_holds h WHERE h.key_id = k.id AND h.parent IS NULL)"
    " FROM acct_keys k"
    " ORDER BY k.id"
)
_UNBOOKED = Statement(
    "SELECT u.hold_id, u.amount, l.amount FROM acct_usages u LEFT JOIN acct_ledger l"
    " ON l.kind = 'usage' AND l.ref = CAST(u.hold_id AS TEXT)"
    " WHERE coalesce(-l.amount, 0) <> u.amount ORDER BY u.hold_id"
)
_UNEXPLAINED = Statement(
    "SELECT l.id, l.ref, l.amount FROM acct_ledger l WHERE l.kind = 'usage' AND l.at >= :since"
    " AND NOT EXISTS (SELECT 1 FROM acct_usages u WHERE CAST(u.hold_id AS TEXT) = l.ref)"
    " ORDER BY l.id"
)
_TOKENS = (
    "(u.input - u.cached - u.written) * p.input + u.cached * coalesce(p.cached_input, p.input)"
    " + u.written * coalesce(p.cache_write, p.input) + u.output * p.output + p.per_request"
)
_MISPRICED = Statement(
    "SELECT * FROM (SELECT u.hold_id AS id, u.amount AS amount, CASE WHEN p.free = 1 THEN 0"
    f" WHEN u.kind = 'request' THEN {_TOKENS} ELSE u.calls * p.per_request END AS cost"
    " FROM acct_usages u LEFT JOIN acct_prices p ON p.id = u.price_id) AS c"
    " WHERE c.amount <> 0 AND c.amount <> coalesce(c.cost, 0) ORDER BY c.id"
)
_STILL_HELD = Statement(
    "SELECT h.id FROM acct_holds h JOIN acct_usages u ON u.hold_id = h.id ORDER BY h.id"
)
_DAY_OF_USAGE = f"ended_at - ended_at % {DAY_US}"
_DAY_OF_ENTRY = f"at - at % {DAY_US}"
_SUMS = Statement(
    "SELECT account_id, key_id, day, model, requests, input, cached, output, amount FROM acct_sums"
    " WHERE day >= :since"
)
_SUMMED = Statement(
    f"SELECT account_id, key_id, {_DAY_OF_USAGE}, model, count(*), {_sum('input')},"
    f" {_sum('cached')}, {_sum('output')}, {_sum('amount')} FROM acct_usages"
    f" WHERE ended_at >= :since GROUP BY account_id, key_id, {_DAY_OF_USAGE}, model"
)
_CORRECTED = Statement(
    f"SELECT account_id, key_id, {_DAY_OF_ENTRY}, model, {_sum('amount')} FROM acct_ledger"
    " WHERE kind = 'correction' AND at >= :since"
    f" GROUP BY account_id, key_id, {_DAY_OF_ENTRY}, model"
)
_LOSSES = Statement(
    "SELECT u.hold_id, a.name, u.model, u.began_at FROM acct_usages u"
    " JOIN acct_accounts a ON a.id = u.account_id WHERE u.estimated = 'orphan' AND u.amount = 0"
    " AND u.price_id IS NOT NULL ORDER BY u.hold_id"
)


def differences(connection: Connection) -> Iterator[str]:
    """What differs, a sentence each; to be read in one transaction."""
    for name, balance, booked in connection.execute(_BALANCES):
        if balance != booked:
            yield (
                f"account {name}: its balance is {shown(balance)}, its ledger adds up to"
                f" {shown(booked)}: {shown(balance - booked)} more"
            )
    yield from _breaks(connection)
    for name, held, holds in connection.execute(_HELD):
        if held != holds:
            yield f"account {name}: {shown(held)} are held, its holds add up to {shown(holds)}"
    for key, held, holds, open_, count in connection.execute(_KEYS_HELD):
        if (held, open_) != (holds, count):
            yield (
                f"key_{key}: {shown(held)} are held by {open_} requests, its holds add up to"
                f" {shown(holds)} of {count}"
            )
    for hold, cost, booked in connection.execute(_UNBOOKED):
        entry = "no entry" if booked is None else f"an entry of {shown(booked)}"
        yield f"usage {hold}: has cost {shown(cost)}, and has {entry} in the ledger"
    for entry, ref, booked in connection.execute(
        _UNEXPLAINED, {"since": pruned_before(connection)}
    ):
        yield f"entry {entry} of {shown(booked)}: is for usage {ref}, which is not there"
    for hold, cost, follows in connection.execute(_MISPRICED):
        follows = shown(follows or 0)
        yield f"usage {hold}: has cost {shown(cost)}, and {follows} follow from its counts"
    for (hold,) in connection.execute(_STILL_HELD):
        yield f"hold {hold}: is open, and has a usage"
    yield from _sums(connection)


def _breaks(connection: Connection) -> Iterator[str]:
    before, balance = "", 0
    for name, entry, amount, after in connection.execute(_CHAIN):
        if name != before:
            before, balance = name, 0
        if after != balance + amount:
            yield (
                f"account {name}: entry {entry} has a balance of {shown(after)}, and"
                f" {shown(balance + amount)} follow from the one before"
            )
        balance = after


def _sums(connection: Connection) -> Iterator[str]:
    since = {"since": pruned_before(connection)}
    summed = {tuple(row[:4]): list(row[4:]) for row in connection.execute(_SUMMED, since)}
    for *of, amount in connection.execute(_CORRECTED, since):
        summed.setdefault(tuple(of), [0] * 5)[-1] -= amount
    kept = {tuple(row[:4]): list(row[4:]) for row in connection.execute(_SUMS, since)}
    for row in sorted(summed.keys() | kept.keys()):
        if summed.get(row) != kept.get(row):
            account, key, day, model = row
            yield (
                f"sums of acct_{account}, key_{key}, {shown_time(day)[:10]}, {model}:"
                f" {kept.get(row)} are kept, {summed.get(row)} follow from the usages"
            )


def losses(connection: Connection) -> Iterator[str]:
    """Requests that cost nothing since their process died before it wrote how far they were."""
    for hold, name, model, began in connection.execute(_LOSSES):
        yield (
            f"note: usage {hold} of {name}, {model}, from {shown_time(began)} cost nothing: its"
            " process died at its beginning"
        )
