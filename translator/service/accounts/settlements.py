"""Settlements: how a hold ends, in one transaction.

    release of the hold, usage, ledger, sums

A hold ends once, whoever ends it: its request, a sweeper where its process died, or who gives it up
before anything was sent. Who comes too late corrects what the sweeper has written, or does nothing.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct

from translator.service.database.connection import Connection

from . import statements as sql
from .bills import Bill, Counts, Estimated, Price, cost_of
from .periods import DAY_US
from .rows import price_of_id, read_allowances, write_allowance
from .tools import Kind


class Settlement(Struct, frozen=True, kw_only=True):
    """How a held request has ended."""

    id: int
    account: int
    key: int
    bill: Bill
    price: Price | None = None
    """That of its hold, where it is known: prices never change."""

    outcome: str
    response_id: str = ""
    tokens: int = 0
    """Tokens that it takes from the allowance of the minute, in place of those of its hold."""

    released: int | None = None
    """What the account has more of afterwards, in pico, where that may wait for others."""


class _Held(Struct, frozen=True):
    """Of a request, what its hold has written down."""

    kind: Kind
    parent: int | None
    model: str
    channel: str
    endpoint: str
    request_id: str


class Settled(Struct, frozen=True):
    """What became of a settlement; `overdraft` is by how much it passed the hold, in pico."""

    amount: int
    estimated: Estimated
    overdraft: int = 0
    corrected: bool = False


def settle(connection: Connection, end: Settlement) -> Settled | None:
    """End a hold; None where there is nothing to do any more."""
    _lock(connection, end.account, end.key)
    rows = connection.execute(sql.TAKE_HOLD, {"id": end.id})
    if not rows:
        return _correct(connection, end)
    [(now, money, tokens, began, price_id, *of_request, _, _)] = rows
    price = end.price
    if price is None or price.id != price_id:
        price = price_of_id(connection, price_id)
    return _end(connection, end, now, (money, tokens, began), price, _Held(*of_request))


def _lock(connection: Connection, account: int, key: int) -> None:
    """Lock the rows that a hold locks, in the same order."""
    if connection.kind == "postgresql":  # on SQLite nobody else writes
        connection.execute(sql.LOCK, {"account": account, "key": key})


def sweep(
    connection: Connection, hold_id: int, account: int, key: int, lease_us: int | None
) -> bool:
    """End the hold of a process that died; False where another did, or it lives.

    Without a lease it is one of this process, which has no request for it.
    """
    _lock(connection, account, key)
    values = {"id": hold_id, "lease": lease_us}
    if lease_us is not None and not connection.execute(sql.STILL_ORPHAN, values):
        return False
    rows = connection.execute(sql.TAKE_HOLD, {"id": hold_id})
    if not rows:
        return False
    [(now, money, tokens, began, price_id, *of_request, seen_input, seen_output)] = rows
    seen = Counts(input=seen_input or 0, output=seen_output or 0)
    price = price_of_id(connection, price_id)
    end = Settlement(
        id=hold_id,
        account=account,
        key=key,
        bill=Bill(seen, "orphan", billed=seen_input is not None),
        outcome="orphan",
        tokens=tokens if seen_input is None else seen.input + seen.output,
    )
    _end(connection, end, now, (money, tokens, began), price, _Held(*of_request))
    return True


def _end(
    connection: Connection,
    end: Settlement,
    now: int,
    held: tuple[int, int, int],
    price: Price | None,
    request: _Held,
) -> Settled:
    """Release a hold, of `held` pico and tokens since a time, and write down what it has cost."""
    money, tokens, began = held
    counts, model = end.bill.counts, request.model
    cost = cost_of(price, request.kind, end.bill)
    values = {"account": end.account, "held": money, "amount": cost}
    [(balance,)] = connection.execute(sql.SETTLE_MONEY, values)
    slots = int(request.parent is None)
    values = {"key": end.key, "held": money, "amount": cost, "began": began, "open": slots}
    [(key_name, per_minute)] = connection.execute(sql.SETTLE_KEY, values)
    if per_minute is not None and end.tokens != tokens:
        _give_back(connection, end.key, per_minute, tokens - end.tokens, now)
    of_usage = {"id": end.id, "account": end.account, "key": end.key, "model": model, "now": now}
    connection.change(
        sql.NEW_USAGE,
        of_usage
        | {
            "key_name": key_name,
            "request": request.request_id,
            "response": end.response_id,
            "endpoint": request.endpoint,
            "channel": request.channel,
            "price": None if price is None else price.id,
            "began": began,
            "outcome": end.outcome,
            "input": counts.input,
            "cached": counts.cached,
            "written": counts.written,
            "output": counts.output,
            "reasoning": counts.reasoning,
            "estimated": end.bill.estimated,
            "amount": cost,
            "kind": request.kind,
            "calls": end.bill.calls,
            "parent": request.parent,
        },
    )
    if cost:
        enter(
            connection,
            "usage",
            ref=str(end.id),
            account=end.account,
            amount=-cost,
            balance=balance,
            now=now,
            key=end.key,
            model=model,
        )
    _add_sums(connection, end.account, end.key, now, model, counts, cost, requests=1)
    return Settled(cost, end.bill.estimated, max(0, cost - money))


def _correct(connection: Connection, end: Settlement) -> Settled | None:
    """Correct a usage that was written for a process that was taken for dead, and was not."""
    rows = connection.execute(sql.USAGE, {"id": end.id})
    if not rows:
        return None  # the hold was given up
    [(kind, model, price_id, began, estimated, before)] = rows
    ref = {"kind": "correction", "ref": str(end.id)}
    if estimated != "orphan" or connection.execute(sql.ENTRY_OF_REF, ref):
        return None
    cost = cost_of(price_of_id(connection, price_id), kind, end.bill)
    if cost == before:
        return None
    [(now,)] = connection.execute(sql.TIME)
    values = {"account": end.account, "amount": before - cost}
    [(balance,)] = connection.execute(sql.CHANGE_BALANCE, values)
    values = {"key": end.key, "amount": cost - before, "began": began}
    connection.change(sql.CORRECT_KEY, values)
    enter(
        connection,
        "correction",
        ref=str(end.id),
        account=end.account,
        amount=before - cost,
        balance=balance,
        now=now,
        key=end.key,
        model=model,
        note=msgspec.json.encode(end.bill.counts).decode(),
    )
    _add_sums(connection, end.account, end.key, now, model, Counts(), cost - before, requests=0)
    return Settled(cost, end.bill.estimated, corrected=True)


def correct_tokens(connection: Connection, key: int, account: int, tokens: int) -> None:
    """Take more tokens from the allowance of a key, or give back a negative number."""
    [(*_, now)] = connection.execute(sql.ACCOUNT, {"account": account}) or [(0,)]
    for row in connection.execute(sql.KEY, {"key": key, "account": account}):
        if row[3] is not None:
            _give_back(connection, key, row[3], -tokens, now)


def _give_back(connection: Connection, key: int, limit: int, tokens: int, now: int) -> None:
    for one in read_allowances(connection, key, None, limit, now):
        one.take(-tokens)
        write_allowance(connection, key, one)


def enter(
    connection: Connection,
    kind: Literal["topup", "adjustment", "usage", "correction"],
    *,
    ref: str,
    account: int,
    amount: int,
    balance: int,
    now: int,
    key: int | None = None,
    model: str | None = None,
    actor: str = "",
    note: str = "",
) -> int:
    """Add an entry to the ledger; returns its id. Amounts are pico."""
    [(entry,)] = connection.execute(
        sql.NEW_ENTRY,
        {
            "account": account,
            "now": now,
            "kind": kind,
            "ref": ref,
            "amount": amount,
            "balance": balance,
            "key": key,
            "model": model,
            "actor": actor,
            "note": note,
        },
    )
    return int(entry)


def _add_sums(
    connection: Connection,
    account: int,
    key: int,
    now: int,
    model: str,
    counts: Counts,
    cost: int,
    *,
    requests: int,
) -> None:
    connection.change(
        sql.ADD_SUMS,
        {
            "account": account,
            "key": key,
            "day": now - now % DAY_US,
            "model": model,
            "requests": requests,
            "input": counts.input,
            "cached": counts.cached,
            "output": counts.output,
            "amount": cost,
        },
    )


def undo(connection: Connection, token: str) -> None:
    """Release a hold that nobody waits for any more: nothing was sent."""
    for hold_id, account, key in connection.execute(sql.SAME_TOKEN, {"token": token}):
        nothing = Bill(Counts(), "no", billed=False)
        settle(
            connection,
            Settlement(id=hold_id, account=account, key=key, bill=nothing, outcome="given_up"),
        )
