"""`translator account operator-key`: keys of programs that look after accounts."""

from __future__ import annotations

import argparse
from typing import Any

from .account_database import (
    actor,
    add_action,
    changing,
    looking,
    name,
    print_table,
    shown_time,
)


def add(actions: Any) -> None:  # noqa: ANN401 - argparse's own type is private
    """Add the actions to those of `translator account`."""
    text = "look after the keys of programs that use /account/api"
    parser = actions.add_parser(
        "operator-key", help=text, description=text[:1].upper() + text[1:] + "."
    )
    keys = parser.add_subparsers(required=True, metavar="ACTION")
    new = add_action(keys, "new", _new, "make a key, which is shown this once")
    new.add_argument("name", metavar="NAME", type=name, help="for the ledger and the audit log")
    revoke = add_action(keys, "revoke", _revoke, "refuse a key from now on, for ever")
    revoke.add_argument("name", metavar="NAME", type=name, help="name of the key")
    add_action(keys, "list", _list, "list the keys")


def _new(options: argparse.Namespace) -> int:
    from translator.service.accounts.operator_keys import PREFIX, add_operator_key
    from translator.service.accounts.people import audit
    from translator.service.base.keys import new_key, store

    key = new_key(PREFIX)
    with changing(options.config) as connection:
        add_operator_key(connection, options.name, store(key), actor())
        audit(connection, actor(), "new operator key", options.name)
    print(key)
    return 0


def _revoke(options: argparse.Namespace) -> int:
    from translator.service.accounts.operator_keys import revoke_operator_key
    from translator.service.accounts.people import audit

    with changing(options.config) as connection:
        gone = revoke_operator_key(connection, options.name)
        audit(connection, actor(), "revoke operator key", options.name)
    print(f"{gone.shown} is refused from now on.")
    return 0


def _list(options: argparse.Namespace) -> int:
    from translator.service.accounts.operator_keys import operator_keys

    with looking(options.config) as connection:
        found = operator_keys(connection)
    if not found:
        print("There are no keys of operators.")
        return 0
    rows = [
        (
            one.name,
            one.shown,
            one.created_by,
            shown_time(one.created_at),
            shown_time(one.used_at),
            shown_time(one.revoked_at, "no"),
        )
        for one in found
    ]
    print_table(("name", "key", "made by", "made", "last use", "revoked"), rows)
    return 0
