"""`translator key`: creates keys for clients of the service, and looks after those of accounts."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from translator.common.toml import toml_key

from .account_database import (
    add_action,
    add_config,
    changing,
    looking,
    names,
    note,
    print_table,
    shown_time,
    shown_tools,
    time,
    tools,
    with_errors,
)
from .common import Commands, Parser, UsageError, whole_number
from .settings import service_imports

if TYPE_CHECKING:
    from translator.service.accounts.ceilings import Limits
    from translator.service.accounts.key_book import KeyRow

PERIODS = ("never", "day", "week", "month")
DEFAULT_GRACE_HOURS = 24


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


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "key",
        help="create a key for a client of the service",
        description="Creates a key for [clients] of a settings file, or for an account. The key is "
        "shown once and stored nowhere; the settings file, or the database, holds its hash.",
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    new: Parser = actions.add_parser(
        "new", help="create a random key", description="Creates a random key."
    )
    new.add_argument("name", metavar="NAME", type=_name, help="name of the client, or of the key")
    new.add_argument(
        "--account", metavar="NAME", help="the account that the key is for; needs --config"
    )
    add_config(new, required=False)
    _add_limits(new)
    new.set_defaults(run=run)
    listing = add_action(actions, "list", _list, "list the keys of accounts")
    listing.add_argument("--account", metavar="NAME", help="list those of one account alone")
    rotate = add_action(actions, "rotate", _rotate, "put a new key in the place of an old one")
    _add_key(rotate)
    rotate.add_argument(
        "--grace-hours",
        type=whole_number("a number of hours", 0, 8760),
        default=DEFAULT_GRACE_HOURS,
        metavar="NUMBER",
        help=f"how long the old key still works (default: {DEFAULT_GRACE_HOURS})",
    )
    _add_key(add_action(actions, "revoke", _revoke, "refuse a key from now on, for ever"))
    limit = add_action(actions, "limit", _limit, "change the limits of a key that are given")
    _add_key(limit)
    _add_limits(limit)
    limit.add_argument(
        "--unlimited",
        type=names,
        default=(),
        metavar="LIMIT,…",
        help="limits to take away: models, tools, requests-per-minute, tokens-per-minute, "
        "max-concurrent, limit, expires-at",
    )


def _add_key(parser: Parser) -> None:
    parser.add_argument("key", metavar="KEY", help="id of the key, such as key_17, or its name")
    parser.add_argument("--account", metavar="NAME", help="the account of the key that is named")


def _add_limits(parser: Parser) -> None:
    parser.add_argument(
        "--channels", metavar="NAME,…", type=names, help="channels, in order of their prices"
    )
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


def run(options: argparse.Namespace) -> int:
    given = _given(options)
    if options.account is None and options.config is None:
        if given or options.tools is not None:
            raise UsageError("limits of a key of [clients] are in the settings file")
        return _new_client(options.name)
    if options.account is None or options.config is None:
        raise UsageError("a key of an account needs --account NAME and --config FILE")
    return with_errors(_new)(options)


def _new_client(client: str) -> int:
    with service_imports("key"):
        from translator.service.base.keys import new_key, store
    key = new_key()
    print(f"Key of {client}, shown only once. The client sends it as Authorization: Bearer KEY.")
    print(f"\n{key}\n")
    print("Add its hash to the settings file:")
    print(f'\n[clients.{toml_key(client)}]\nkeys = ["{store(key)}"]')
    return 0


def _new(options: argparse.Namespace) -> int:
    from translator.service.accounts.ceilings import Limits
    from translator.service.accounts.key_book import add_key, key_of_id, set_tools
    from translator.service.base.keys import new_key, store

    key = new_key()
    limits = _changed(Limits(), options)
    with changing(options.config) as connection:
        made = add_key(connection, options.account, options.name, store(key), limits)
        if options.tools is not None:
            set_tools(connection, key_of_id(connection, made), options.tools)
        note(connection, "add key", f"key_{made} of {options.account}", options.name)
    print(f"key_{made}, {options.name} of {options.account}, shown only once. ", end="")
    print(f"The client sends it as Authorization: Bearer KEY.\n\n{key}")
    return 0


def _list(options: argparse.Namespace) -> int:
    from translator.service.accounts.books import account
    from translator.service.accounts.key_book import keys

    with looking(options.config) as connection:
        if options.account is not None:
            account(connection, options.account)
        found = keys(connection, options.account)
    if not found:
        print("There are no keys.")
        return 0
    rows = [
        (
            f"key_{one.id}",
            one.account_name,
            one.name,
            one.shown,
            ", ".join(one.limits.channels),
            "all" if one.limits.models is None else ", ".join(one.limits.models),
            _limits(one),
            shown_time(one.used_at, "never"),
            _state(one),
        )
        for one in found
    ]
    head = ("id", "account", "name", "key", "channels", "models", "limits", "used", "state")
    print_table(head, rows)
    return 0


def _rotate(options: argparse.Namespace) -> int:
    from translator.service.accounts.key_book import key, rotate
    from translator.service.base.keys import new_key, store

    text = new_key()
    grace_us = options.grace_hours * 3_600_000_000
    with changing(options.config) as connection:
        old = key(connection, options.key, options.account)
        made, until = rotate(connection, old, store(text), grace_us)
        note(connection, "rotate key", f"key_{old.id} of {old.account_name}", f"key_{made}")
    print(f"key_{made} replaces key_{old.id}, which works until {shown_time(until)}. It is shown ")
    print(f"only once:\n\n{text}")
    return 0


def _revoke(options: argparse.Namespace) -> int:
    from translator.service.accounts.key_book import key, revoke

    with changing(options.config) as connection:
        found = key(connection, options.key, options.account)
        revoke(connection, found)
        note(connection, "revoke key", f"key_{found.id} of {found.account_name}", found.name)
    print(f"key_{found.id}, {found.name} of {found.account_name}, is refused from now on.")
    return 0


def _limit(options: argparse.Namespace) -> int:
    from translator.service.accounts.key_book import key, set_limits, set_tools

    if not _given(options) and not options.unlimited and options.tools is None:
        raise UsageError("no limit is given (see translator key limit --help)")
    with changing(options.config) as connection:
        found = key(connection, options.key, options.account)
        limits = _changed(_without(found.limits, options.unlimited), options)
        named = {*_given(options), *_taken(options.unlimited)}
        set_limits(connection, found, limits, named=named)
        if options.tools is not None or "tools" in options.unlimited:
            set_tools(connection, found, options.tools)
        note(connection, "limit key", f"key_{found.id} of {found.account_name}", found.name)
    print(f"key_{found.id}, {found.name} of {found.account_name}, has other limits from now on.")
    return 0


# --- limits --------------------------------------------------------------------------------------


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """The limits that the options give, by the names of their fields."""
    found = {
        "channels": options.channels,
        "models": options.models,
        "limit_amount": options.limit,
        "limit_period": options.limit_period,
        "expires_at": options.expires_at,
    }
    for option, one in _NUMBERS.items():
        found[one.field] = getattr(options, option.lstrip("-").replace("-", "_"))
    return {field: value for field, value in found.items() if value is not None}


def _changed(limits: Limits, options: argparse.Namespace) -> Limits:
    from msgspec.structs import replace

    from translator.service.accounts.money import InvalidAmount, read_amount

    given = _given(options)
    if "limit_amount" in given:
        given["limit_amount"] = read_amount(given["limit_amount"])
        if given["limit_amount"] < 0:
            raise InvalidAmount("a limit is 0 or more")
    return replace(limits, **given)


def _without(limits: Limits, taken: tuple[str, ...]) -> Limits:
    from msgspec.structs import replace

    return replace(limits, **dict.fromkeys(_taken(taken)))


def _taken(options: tuple[str, ...]) -> list[str]:
    """The fields of the limits that `--unlimited` names; raises UsageError."""
    fields = {option.lstrip("-"): (one.field,) for option, one in _NUMBERS.items()} | {
        "models": ("models",),
        "tools": (),
        "limit": ("limit_amount", "limit_period"),
        "expires-at": ("expires_at",),
    }
    for one in options:
        if one not in fields:
            raise UsageError(f"--unlimited: there is no limit {one!r}; known: {', '.join(fields)}")
    return [field for one in options for field in fields[one]]


def _limits(one: KeyRow) -> str:
    from translator.service.accounts.money import shown

    limits = one.limits
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
    if one.tools is not None:
        parts.append(f"tools: {shown_tools(one.tools)}")
    return ", ".join(parts) or "none"


def _state(one: KeyRow) -> str:
    if one.revoked_at is not None:
        return f"revoked {shown_time(one.revoked_at)}"
    parts = [] if one.replaced_by is None else [f"replaced by key_{one.replaced_by}"]
    if one.limits.expires_at is not None:
        parts.append(f"until {shown_time(one.limits.expires_at)}")
    return ", ".join(parts) or "in use"


def _name(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise argparse.ArgumentTypeError("the name must not be empty, and must be printable")
    return text
