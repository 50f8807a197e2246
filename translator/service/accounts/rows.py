"""Rows that a hold and its settlement share: allowances, and prices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from translator.service.database.connection import Connection

from . import statements as sql
from .allowances import Allowance
from .bills import Price


def read_allowances(
    connection: Connection, key: int, requests: int | None, tokens: int | None, now: int
) -> tuple[Allowance, ...]:
    """The allowances of a key that has these limits in a minute, as they are now."""
    limits = [
        (noun, limit) for noun, limit in (("requests", requests), ("tokens", tokens)) if limit
    ]
    if not limits:
        return ()
    rows = {noun: rest for noun, *rest in connection.execute(sql.ALLOWANCES, {"key": key})}
    found: list[Allowance] = []
    for noun, limit in limits:
        one = Allowance.full(noun, limit, now)
        if noun in rows:
            one.rest, one.since = rows[noun]
            one.fill(max(now, one.since))
        found.append(one)
    return tuple(found)


def write_allowance(connection: Connection, key: int, one: Allowance) -> None:
    """Write down what is left of an allowance."""
    values = {"key": key, "noun": one.noun, "rest": one.rest, "since": one.since}
    connection.change(sql.SET_ALLOWANCE, values)


def price_at(connection: Connection, price_list: str, model: str, at: int) -> Price | None:
    """The price of a model that holds at a time."""
    values = {"list": price_list, "model": model, "at": at}
    return _first_price(connection.execute(sql.PRICE, values))


def price_of_id(connection: Connection, price_id: int | None) -> Price | None:
    """The price of a hold; None for one that costs nothing."""
    if price_id is None:
        return None
    return _first_price(connection.execute(sql.PRICE_OF_ID, {"id": price_id}))


def _first_price(rows: Sequence[Sequence[Any]]) -> Price | None:
    return read_price(rows[0]) if rows else None


def read_price(columns: Sequence[Any]) -> Price | None:
    """The price of a row's columns; None where they are those of no row."""
    price_id, input_, cached_input, cache_write, output, per_request, free = columns
    if price_id is None:
        return None
    return Price(price_id, input_, cached_input, cache_write, output, per_request, bool(free))
