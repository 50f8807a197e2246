"""What an operator says of prices: rows of lists, from a time on, which never change."""

from __future__ import annotations

from collections.abc import Collection
from fractions import Fraction

from msgspec import Struct

from translator.service.database.connection import Connection
from translator.service.database.statement import Statement

from . import statements as sql
from .changes import Mistake, changed, now
from .money import MAX_PER_REQUEST, MAX_PRICE, PRICE, shown
from .tools import TOOLS, is_priced_name, priced_name

STANDARD = "standard"
"""The price list that `init` makes."""


class PriceRow(Struct, frozen=True):
    """A price from a time on: pico per token, and per request; None is the input's price."""

    model: str
    input: int = 0
    output: int = 0
    cached_input: int | None = None
    cache_write: int | None = None
    per_request: int = 0
    free: bool = False
    price_list: str = STANDARD
    from_at: int | None = None


_NEW_LIST = Statement(
    f"INSERT INTO acct_price_lists (name, created_at) VALUES (:name, {sql.NOW})"
    " ON CONFLICT (name) DO NOTHING"
)
_LISTS = Statement("SELECT name FROM acct_price_lists ORDER BY name")


def price_lists(connection: Connection) -> list[str]:
    """The names of all price lists."""
    return [name for (name,) in connection.execute(_LISTS)]


def add_price_list(connection: Connection, name: str) -> None:
    """Make a price list, where there is none of this name."""
    connection.change(_NEW_LIST, {"name": name})


_NEW_PRICE = Statement(
    "INSERT INTO acct_prices (price_list, model, from_at, input, cached_input, cache_write, output,"
    " per_request, free, created_by) VALUES (:list, :model, :at, :input, :cached, :write, :output,"
    " :request, :free, :actor)"
)
_SAME_PRICE = Statement(
    "SELECT 1 FROM acct_prices WHERE price_list = :list AND model = :model AND from_at = :at"
)
_HAS_PRICE = Statement(
    "SELECT 1 FROM acct_prices WHERE price_list = :list AND model = :model LIMIT 1"
)
_PRICES = Statement(
    "SELECT model, input, output, cached_input, cache_write, per_request, free, price_list, from_at"
    " FROM acct_prices ORDER BY price_list, model, from_at"
)


def check_given(model: str, given: Collection[str], *, free: bool) -> None:
    """Check which figures of a price are given: one that is left out is not 0. Raises Mistake."""
    if free:
        return
    if is_priced_name(model):
        if "per_request" not in given:
            raise Mistake("a call of a tool has a price per request, or is free")
    elif not {"input", "output"} <= set(given):
        raise Mistake("a price has an input and an output, or is free")


def set_price(connection: Connection, price: PriceRow, actor: str) -> int:
    """Let a price hold from a time on, by default from now; returns that time.

    Prices of the past never change: only the first price of a model may have held before now.
    Raises Mistake.
    """
    figures = (price.input, price.output, price.cached_input or 0, price.cache_write or 0)
    if any(not 0 <= one <= MAX_PRICE for one in figures):
        raise Mistake(f"a price is from 0 to {shown(MAX_PRICE, unit=PRICE)} per million tokens")
    if not 0 <= price.per_request <= MAX_PER_REQUEST:
        raise Mistake(f"a price per request is from 0 to {shown(MAX_PER_REQUEST)}")
    if is_priced_name(price.model):
        if price.model not in map(priced_name, TOOLS):
            raise Mistake(f"{price.model!r} is no tool; known: tool:search, tool:mcp")
        if any(figures):
            raise Mistake("a call of a tool has a price per request, and none per token")
    if price.free and any((*figures, price.per_request)):
        raise Mistake("a free model has no price")
    if not price.free and not any((*figures, price.per_request)):
        raise Mistake("all prices are 0; a model that costs nothing is to be free")
    at = now(connection)
    begins = at if price.from_at is None else price.from_at
    add_price_list(connection, price.price_list)
    of_model = {"list": price.price_list, "model": price.model}
    if begins < at and connection.execute(_HAS_PRICE, of_model):
        raise Mistake(
            "the time is past, and prices of the past never change; set one from now on, and"
            " an adjustment corrects what was billed",
            field="from",
        )
    if connection.execute(_SAME_PRICE, {**of_model, "at": begins}):
        raise Mistake(f"there is a price of {price.model!r} from that time on already")
    connection.change(
        _NEW_PRICE,
        {
            **of_model,
            "at": begins,
            "input": price.input,
            "cached": price.cached_input,
            "write": price.cache_write,
            "output": price.output,
            "request": price.per_request,
            "free": int(price.free),
            "actor": actor,
        },
    )
    changed(connection)
    return begins


def prices(connection: Connection) -> list[PriceRow]:
    """All prices, those of the past and of the future, too."""
    return [
        PriceRow(model, input_, output, cached, write, per_request, bool(free), price_list, at)
        for model, input_, output, cached, write, per_request, free, price_list, at in (
            connection.execute(_PRICES)
        )
    ]


def prices_now(connection: Connection, price_list: str) -> list[PriceRow]:
    """The prices of a list that hold at this moment."""
    at = now(connection)
    found: dict[str, PriceRow] = {}
    for one in prices(connection):  # by their times
        if one.price_list == price_list and (one.from_at or 0) <= at:
            found[one.model] = one
    return list(found.values())


def copy_prices(
    connection: Connection, source: str, target: str, times: Fraction, actor: str
) -> int:
    """Copy the prices that hold now to another list, multiplied exactly; returns their number.

    Raises Mistake where a product has more than six decimals.
    """
    found = prices_now(connection, source)
    if not found:
        known = ", ".join(price_lists(connection))
        raise Mistake(f"the price list {source!r} has no prices; known: {known}")
    for one in found:
        figures = {
            name: None if value is None else _times(value, times, one.model)
            for name, value in (
                ("input", one.input),
                ("output", one.output),
                ("cached_input", one.cached_input),
                ("cache_write", one.cache_write),
                ("per_request", one.per_request),
            )
        }
        made = PriceRow(
            one.model,
            figures["input"] or 0,
            figures["output"] or 0,
            figures["cached_input"],
            figures["cache_write"],
            figures["per_request"] or 0,
            free=one.free,
            price_list=target,
        )
        set_price(connection, made, actor)
    return len(found)


def _times(value: int, times: Fraction, model: str) -> int:
    product = value * times
    if product.denominator != 1:
        raise Mistake(f"a price of {model!r} would have more than six decimals")
    return product.numerator
