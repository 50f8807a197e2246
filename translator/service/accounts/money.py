"""Money: integers of pico, a 10^-12 of the currency, and their decimal texts.

    price    pico per token   =   decimal per million tokens × 10^6
    amount   pico             =   decimal × 10^12

So a cost, tokens × price, is exact: nothing is ever rounded, and no binary fraction comes near it.
"""

from __future__ import annotations

import re
from decimal import Decimal, localcontext

_DECIMAL = re.compile(r"[+-]?(?:[0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})")

PICO = 10**12
PRICE = 10**6

MAX_AMOUNT = 1_000_000 * PICO
"""Largest top-up, adjustment, credit or limit."""

MAX_PRICE = 10_000 * PRICE
"""Highest price: 10,000 per million tokens."""

MAX_PER_REQUEST = 10_000 * PICO

MAX_BALANCE = 9_000_000 * PICO
"""Largest balance: more would not fit into 64 bits."""


class InvalidAmount(ValueError):
    """A text is no amount of money within the bounds; the text says why."""


def read_amount(text: str, *, highest: int = MAX_AMOUNT) -> int:
    """Pico of a decimal text such as "12.5", which may be negative; raises InvalidAmount."""
    return _read(text, PICO, highest, 12)


def read_price(text: str) -> int:
    """Pico per token of a decimal price per million tokens; raises InvalidAmount."""
    price = _read(text, PRICE, MAX_PRICE, 6)
    if price < 0:
        raise InvalidAmount(f"{text!r} is below 0")
    return price


def _read(text: str, unit: int, highest: int, places: int) -> int:
    if not _DECIMAL.fullmatch(text):
        raise InvalidAmount(f"{text[:50]!r} is no decimal number")
    with localcontext() as context:
        context.prec = 100
        units = Decimal(text) * unit
        if abs(units) > highest:
            raise InvalidAmount(f"{text[:50]!r} is beyond {shown(highest, unit=unit)}")
        if units != units.to_integral_value():
            raise InvalidAmount(f"{text[:50]!r} has more than {places} decimals")
        return int(units)


def shown(amount: int, *, unit: int = PICO) -> str:
    """The exact decimal text of an amount, or with `unit=PRICE` of a price: "0.0046", "2.50"."""
    places = len(str(unit)) - 1
    whole, rest = divmod(abs(amount), unit)
    decimals = f"{rest:0{places}d}".rstrip("0").ljust(2, "0")
    return f"{'-' if amount < 0 else ''}{whole}.{decimals}"


def shown_down(amount: int) -> str:
    """An amount with two decimals, rounded down: what there is, and never more."""
    cents = amount // (PICO // 100)
    return f"{'-' if cents < 0 else ''}{abs(cents) // 100}.{abs(cents) % 100:02d}"


def shown_cost(amount: int) -> str:
    """The exact text of what a request has cost, with six decimals or more: "0.004600"."""
    whole, _, decimals = shown(amount).partition(".")
    return f"{whole}.{decimals.ljust(6, '0')}"
