"""`translator key`: creates keys for clients of the service, and looks after those of accounts."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

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
    warn_of_models,
    with_errors,
)
from .common import Commands, Parser, UsageError, whole_number
from .key_limits import (
    add_limits,
    add_unlimited,
    changed,
    given,
    shown_limits,
    taken,
    without,
)
from .settings import service_imports

if TYPE_CHECKING:
    from translator.service.accounts.key_book import KeyRow
    from translator.service.database.connection import Connection

DEFAULT_GRACE_HOURS = 24


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
    _add_channels(new)
    add_limits(new)
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
    _add_channels(limit)
    add_limits(limit)
    add_unlimited(limit)


def _add_key(parser: Parser) -> None:
    parser.add_argument("key", metavar="KEY", help="id of the key, such as key_17, or its name")
    parser.add_argument("--account", metavar="NAME", help="the account of the key that is named")


def _add_channels(parser: Parser) -> None:
    parser.add_argument(
        "--channels", metavar="NAME,…", type=names, help="channels, in order of their prices"
    )


def run(options: argparse.Namespace) -> int:
    if options.account is None and options.config is None:
        if given(options) or options.tools is not None:
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
    limits = changed(Limits(), options)
    with changing(options.config) as connection:
        made = add_key(connection, options.account, options.name, store(key), limits)
        if options.tools is not None:
            set_tools(connection, key_of_id(connection, made), options.tools)
        note(connection, "add key", f"key_{made} of {options.account}", options.name)
    warn_of_models(options.config, options.models or ())
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
            shown_limits(one.limits, one.tools),
            shown_time(one.used_at, "never"),
            _state(one),
        )
        for one in found
    ]
    head = ("id", "account", "name", "key", "channels", "models", "limits", "used", "state")
    print_table(head, rows)
    return 0


def _rotate(options: argparse.Namespace) -> int:
    from translator.service.accounts.key_book import rotate
    from translator.service.base.keys import new_key, store

    text = new_key()
    grace_us = options.grace_hours * 3_600_000_000
    with changing(options.config) as connection:
        old = _found(connection, options)
        made, until = rotate(connection, old, store(text), grace_us)
        note(connection, "rotate key", f"key_{old.id} of {old.account_name}", f"key_{made}")
    print(f"key_{made} replaces key_{old.id}, which works until {shown_time(until)}. It is shown ")
    print(f"only once:\n\n{text}")
    return 0


def _revoke(options: argparse.Namespace) -> int:
    from translator.service.accounts.key_book import revoke

    with changing(options.config) as connection:
        found = _found(connection, options)
        revoke(connection, found)
        note(connection, "revoke key", f"key_{found.id} of {found.account_name}", found.name)
    print(f"key_{found.id}, {found.name} of {found.account_name}, is refused from now on.")
    return 0


def _limit(options: argparse.Namespace) -> int:
    from translator.service.accounts.key_book import set_limits, set_tools

    if not given(options) and not options.unlimited and options.tools is None:
        raise UsageError("no limit is given (see translator key limit --help)")
    with changing(options.config) as connection:
        found = _found(connection, options)
        limits = changed(without(found.limits, options.unlimited), options)
        named = {*given(options), *taken(options.unlimited)}
        set_limits(connection, found, limits, named=named)
        if options.tools is not None or "tools" in options.unlimited:
            set_tools(connection, found, options.tools)
        note(connection, "limit key", f"key_{found.id} of {found.account_name}", found.name)
    warn_of_models(options.config, options.models or ())
    print(f"key_{found.id}, {found.name} of {found.account_name}, has other limits from now on.")
    return 0


def _found(connection: Connection, options: argparse.Namespace) -> KeyRow:
    """The key that the options name; raises UsageError and Mistake."""
    from translator.service.accounts.key_book import key

    if options.account is None and not options.key.startswith("key_"):
        raise UsageError(
            f"{options.key!r} is no id of a key, such as key_17; a name needs --account"
        )
    return key(connection, options.key, options.account)


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
