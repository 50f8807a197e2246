"""The limits of a key, and their ceiling: those that an operator set, which bind members.

A member may set tighter limits, and take those back, but never pass the ceiling. What an operator
did not name has none. It is a column of its own beside the limits that are in force: so a limit
that a member tightened does not become one that only an operator can lift. A key that members made
has the ceiling of its account, but where an operator set one for the key itself.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import asdict, replace

from .changes import Mistake
from .channel_book import EVERYTHING
from .money import shown
from .periods import Period, shown_time
from .tools import has_right

NUMBERS = {
    "requests_per_minute": "requests per minute",
    "tokens_per_minute": "tokens per minute",
    "max_concurrent_requests": "requests at once",
}


class Limits(Struct, frozen=True, kw_only=True):
    """What a key may use; None is no limit. The amount is pico, for each period."""

    channels: tuple[str, ...] = (EVERYTHING,)
    models: tuple[str, ...] | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_concurrent_requests: int | None = None
    limit_amount: int | None = None
    limit_period: Period | None = None
    expires_at: int | None = None


class Ceiling(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The most that members may give a key; None is no ceiling."""

    channels: tuple[str, ...] | None = None
    models: tuple[str, ...] | None = None
    tools: tuple[str, ...] | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_concurrent_requests: int | None = None
    limit_amount: int | None = None
    limit_period: Period | None = None
    expires_at: int | None = None


NO_CEILING = Ceiling()


def read_ceiling(text: str | None) -> Ceiling:
    """A ceiling as a column has it: JSON, or NULL."""
    return NO_CEILING if text is None else msgspec.json.decode(text, type=Ceiling)


def ceiling_text(ceiling: Ceiling) -> str | None:
    """The column of a ceiling."""
    return None if ceiling == NO_CEILING else msgspec.json.encode(ceiling).decode()


def bounds(own: Ceiling, account: Ceiling) -> Ceiling:
    """The ceiling of a key of a member: its own, and else that of its account."""
    found = {
        name: most if (most := getattr(own, name)) is not None else getattr(account, name)
        for name in Ceiling.__struct_fields__
    }
    return Ceiling(**found)


def raised(
    before: Ceiling, limits: Limits, tools: tuple[str, ...] | None, named: Collection[str]
) -> Ceiling:
    """The ceiling after an operator has set the limits that are `named`."""
    new = {"tools": tools, **asdict(limits)}
    if {"limit_amount", "limit_period"} & set(named):
        named = {*named, "limit_amount", "limit_period"}  # they are one limit
    changes: dict[str, Any] = {name: new[name] for name in named}
    return replace(before, **changes)


def check_limits(ceiling: Ceiling, limits: Limits) -> None:
    """Raise Mistake where limits that a member sets pass the ceiling."""
    for field, noun in NUMBERS.items():
        most, value = getattr(ceiling, field), getattr(limits, field)
        if most is not None and (value is None or value > most):
            raise Mistake(f"{noun}: an operator allows at most {most}")
    amount = limits.limit_amount
    if ceiling.limit_amount is not None and (
        amount is None
        or amount > ceiling.limit_amount
        or limits.limit_period != ceiling.limit_period
    ):
        most = f"{shown(ceiling.limit_amount)} per {ceiling.limit_period}"
        raise Mistake(f"most money: an operator allows at most {most}")
    last = ceiling.expires_at
    if last is not None and (limits.expires_at is None or limits.expires_at > last):
        raise Mistake(f"expires: an operator allows at most {shown_time(last)}")
    _check_names("only these models", ceiling.models, limits.models)
    _check_names("channels", ceiling.channels, limits.channels)


def check_tools_within(ceiling: Ceiling, tools: tuple[str, ...] | None) -> None:
    """Raise Mistake where the tools that a member gives a key pass the ceiling."""
    most = ceiling.tools
    if most is not None and (tools is None or not all(has_right(most, one) for one in tools)):
        raise Mistake(f"only these tools: an operator allows {', '.join(most) or 'none'}")


def _check_names(field: str, most: tuple[str, ...] | None, names: tuple[str, ...] | None) -> None:
    if most is not None and (names is None or not set(names) <= set(most)):
        raise Mistake(f"{field}: an operator allows {', '.join(most)}")
