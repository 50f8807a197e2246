"""`translator account user`: looks after the people who sign in to the pages of accounts.

A password is asked for on the terminal, twice; where there is none, it is the first line of
standard input. It is never an option: others on the machine see those.
"""

from __future__ import annotations

import argparse
import getpass
import sys
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
from .common import UsageError


def add(actions: Any) -> None:  # noqa: ANN401 - argparse's own type is private
    """Add the actions to those of `translator account`."""
    text = "look after the people who sign in to the pages"
    parser = actions.add_parser("user", help=text, description=text[:1].upper() + text[1:] + ".")
    people = parser.add_subparsers(required=True, metavar="ACTION")
    adding = add_action(people, "add", _add, "add a user, whose password is asked for")
    adding.add_argument("name", metavar="NAME", type=name, help="by which the user signs in")
    kind = adding.add_mutually_exclusive_group(required=True)
    kind.add_argument("--account", metavar="NAME", help="the account that the user sees")
    kind.add_argument(
        "--operator", action="store_true", help="the user looks after all accounts and prices"
    )
    password = add_action(people, "password", _password, "give a user another password")
    password.add_argument("name", metavar="NAME", type=name, help="name of the user")
    disable = add_action(people, "disable", _disable, "keep a user out, at once")
    disable.add_argument("name", metavar="NAME", type=name, help="name of the user")
    enable = add_action(people, "enable", _enable, "let a disabled user in again")
    enable.add_argument("name", metavar="NAME", type=name, help="name of the user")
    unlock = add_action(people, "unlock", _unlock, "end the pause after failures to sign in")
    unlock.add_argument("name", metavar="NAME", type=name, help="name of the user")
    add_action(people, "list", _list, "list the users")


def _new_password() -> str:
    """A password, hashed; raises UsageError."""
    from translator.service.accounts.passwords import hash_password, problem_of

    if sys.stdin.isatty():
        text = getpass.getpass("Password: ")
        if not (problem := problem_of(text)) and getpass.getpass("Once more: ") != text:
            problem = "The two are not the same."
    else:
        text = sys.stdin.readline().rstrip("\r\n")
        problem = problem_of(text)
    if problem:
        raise UsageError(problem)
    return hash_password(text)


def _add(options: argparse.Namespace) -> int:
    from translator.service.accounts.books import account
    from translator.service.accounts.changes import Mistake
    from translator.service.accounts.people import add_user, audit, user_name, users

    called = user_name(options.name)
    with looking(options.config) as connection:  # before a password is asked for
        if any(one.name == called for one in users(connection)):
            raise Mistake(f"there is a user {called!r} already")
        if options.account is not None:
            account(connection, options.account)
    hashed = _new_password()
    with changing(options.config) as connection:
        add_user(connection, called, options.account, hashed)
        audit(connection, actor(), "add user", called, options.account or "operator")
    what = "an operator" if options.account is None else f"a member of {options.account}"
    print(f"{called} is {what}, and signs in at /account.")
    return 0


def _password(options: argparse.Namespace) -> int:
    from translator.service.accounts.people import audit, set_password, user

    with looking(options.config) as connection:
        found = user(connection, options.name)
    hashed = _new_password()
    with changing(options.config) as connection:
        set_password(connection, found.name, hashed)
        audit(connection, actor(), "set password", found.name)
    print(f"{found.name} has another password; all sessions have ended.")
    return 0


def _disable(options: argparse.Namespace) -> int:
    return _set_disabled(options, disabled=True)


def _enable(options: argparse.Namespace) -> int:
    return _set_disabled(options, disabled=False)


def _set_disabled(options: argparse.Namespace, *, disabled: bool) -> int:
    from translator.service.accounts.people import audit, set_disabled, user

    with changing(options.config) as connection:
        found = user(connection, options.name)
        set_disabled(connection, found.name, disabled=disabled)
        audit(connection, actor(), "disable user" if disabled else "enable user", found.name)
    print(f"{found.name} is kept out from now on." if disabled else f"{found.name} may sign in.")
    return 0


def _unlock(options: argparse.Namespace) -> int:
    from translator.service.accounts.people import audit, unlock, user

    with changing(options.config) as connection:
        found = user(connection, options.name)
        unlock(connection, found.name)
        audit(connection, actor(), "unlock user", found.name)
    print(f"{found.name} may try to sign in at once; an address with failures still waits.")
    return 0


def _list(options: argparse.Namespace) -> int:
    from translator.service.accounts.people import users

    with looking(options.config) as connection:
        found = users(connection)
    if not found:
        print("There are no users.")
        return 0
    rows = [
        (
            one.name,
            one.role,
            one.account_name or "-",
            "no" if one.disabled_at is None else f"since {shown_time(one.disabled_at)}",
            shown_time(one.created_at),
        )
        for one in found
    ]
    print_table(("name", "role", "account", "disabled", "created"), rows)
    return 0
