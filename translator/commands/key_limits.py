"""The limits of keys on a command line: of one key, or those of an account for its members."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from .account_database import names, shown_time, shown_tools, time, tools
from .common import Parser, UsageError, whole_number

if TYPE_CHECKING:
    from translator.service.accounts.ceilings import Ceiling, Limits

PERIODS = ("never", "day", "week", "month")

T = TypeVar("T", "Ceiling", "Limits")


@dataclass(frozen=True)
class _Limit:
    """An option with a limit of a key."""

    field: str
    noun: str


_NUMBERS = {
    "--requests-per-minute": _Limit("requests_per_minute", "most requests in a minute"),
    "--tokens-per-minute": _Limit("tokens_per_minute", "most tokens in a minute"),
    "--max-concurrent": _Limit("max_concurrent_requests", "most requests at once"),
}
_TAKEN = {option.lstrip("-"): (one.field,) for option, one in _NUMBERS.items()} | {
    "models": ("models",),
    "tools": (),
    "limit": ("limit_amount", "limit_period"),
    "expires-at": ("expires_at",),
}
"""What `--unlimited` names, and the fields of that; the tools of a key are not among its limits."""


def add_limits(parser: Parser) -> None:
    """The options of all limits but channels."""
    parser.add_argument("--models", metavar="ID,…", type=names, help="of these, some models alone")
    for option, one in _NUMBERS.items():
        parser.add_argument(
            option, metavar="NUMBER", type=whole_number("a number, 1 or more", 1), help=one.noun
        )
    parser.add_argument(
        "--tools",
        metavar="NAME,…",
        type=tools,
        help="of the tools of its channels, some alone: search, mcp, mcp:NAME, or none",
    )
    parser.add_argument("--limit", metavar="AMOUNT", help="most money in each period")
    parser.add_argument("--limit-period", choices=PERIODS, help="the period, in UTC")
    parser.add_argument("--expires-at", metavar="TIME", type=time, help="in UTC")


def add_unlimited(parser: Parser) -> None:
    """The option that takes limits away."""
    parser.add_argument(
        "--unlimited",
        type=names,
        default=(),
        metavar="LIMIT,…",
        help="limits to take away: models, tools, requests-per-minute, tokens-per-minute, "
        "max-concurrent, limit, expires-at",
    )


def given(options: argparse.Namespace) -> dict[str, Any]:
    """The limits that the options give, by the names of their fields; without tools."""
    found = {
        "channels": getattr(options, "channels", None),
        "models": options.models,
        "limit_amount": options.limit,
        "limit_period": options.limit_period,
        "expires_at": options.expires_at,
    }
    for option, one in _NUMBERS.items():
        found[one.field] = getattr(options, option.lstrip("-").replace("-", "_"))
    return {field: value for field, value in found.items() if value is not None}


def changed(limits: T, options: argparse.Namespace) -> T:
    """Limits, or a ceiling, with those that the options give; raises InvalidAmount."""
    from msgspec.structs import replace

    from translator.service.accounts.money import InvalidAmount, read_amount

    found = given(options)
    if "limit_amount" in found:
        found["limit_amount"] = read_amount(found["limit_amount"])
        if found["limit_amount"] < 0:
            raise InvalidAmount("a limit is 0 or more")
    return replace(limits, **found)


def without(limits: T, options: tuple[str, ...]) -> T:
    """The same without those that `--unlimited` names; raises UsageError."""
    from msgspec.structs import replace

    return replace(limits, **dict.fromkeys(taken(options)))


def taken(options: tuple[str, ...]) -> list[str]:
    """The fields of the limits that `--unlimited` names; raises UsageError."""
    for one in options:
        if one not in _TAKEN:
            raise UsageError(f"--unlimited: there is no limit {one!r}; known: {', '.join(_TAKEN)}")
    return [field for one in options for field in _TAKEN[one]]


def shown_limits(limits: Ceiling | Limits, rights: tuple[str, ...] | None) -> str:
    """What is limited, with the tools, in a line; without models and the end of a key."""
    from translator.service.accounts.money import shown

    parts = [
        f"{value} {noun}"
        for value, noun in (
            (limits.requests_per_minute, "requests/min"),
            (limits.tokens_per_minute, "tokens/min"),
            (limits.max_concurrent_requests, "at once"),
        )
        if value is not None
    ]
    if limits.limit_amount is not None:
        parts.append(f"{shown(limits.limit_amount)} per {limits.limit_period}")
    if rights is not None:
        parts.append(f"tools: {shown_tools(rights)}")
    return ", ".join(parts) or "none"


def shown_ceiling(ceiling: Ceiling) -> str:
    """All of a ceiling, in a line."""
    from translator.service.accounts.ceilings import NO_CEILING

    if ceiling == NO_CEILING:
        return "no limits"
    parts = [shown_limits(ceiling, ceiling.tools)]
    parts = [part for part in parts if part != "none"]
    if ceiling.models is not None:
        parts.append(f"models: {', '.join(ceiling.models)}")
    if ceiling.expires_at is not None:
        parts.append(f"until {shown_time(ceiling.expires_at)}")
    return ", ".join(parts)
