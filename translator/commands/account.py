"""`translator account`: looks after the accounts of the service."""

from __future__ import annotations

import argparse
import sys

from . import account_export, account_user, operator_key
from .account_database import (
    accounts_of,
    actor,
    add_action,
    changing,
    looking,
    name,
    names,
    note,
    print_table,
    shown_time,
    time,
    warn_of_models,
)
from .common import Commands, UsageError
from .key_limits import add_limits, add_unlimited, changed, given, shown_ceiling, without
from .settings import settings_errors


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "account",
        help="look after the accounts of the service",
        description="Looks after the accounts, in the database that [accounts] of a settings file "
        "names; the service may run meanwhile.",
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    add_action(actions, "init", _init, "create the tables, or bring them to this release")
    adding = add_action(actions, "add", _add, "add an account")
    _add_account(adding)
    adding.add_argument(
        "--credit", metavar="AMOUNT", default="0", help="the debt that it may have (default: 0)"
    )
    add_action(actions, "list", _list, "list the accounts, with their balances")
    top_up = add_action(actions, "top-up", _top_up, "add money to an account")
    _add_account(top_up)
    top_up.add_argument("amount", metavar="AMOUNT", help="a decimal number, such as 12.50")
    _add_ref(top_up)
    adjust = add_action(actions, "adjust", _adjust, "change the balance of an account")
    _add_account(adjust)
    adjust.add_argument("amount", metavar="AMOUNT", help="a decimal number, such as 1.50 or -1.50")
    adjust.add_argument("--why", metavar="REASON", required=True, help="for the ledger", type=name)
    _add_ref(adjust)
    credit = add_action(actions, "credit", _credit, "let an account have a debt")
    _add_account(credit)
    credit.add_argument("amount", metavar="AMOUNT", help="a decimal number, such as 100")
    choosing = add_action(
        actions, "channels", _channels, "say which channels members may give to keys of an account"
    )
    _add_account(choosing)
    which = choosing.add_mutually_exclusive_group(required=True)
    which.add_argument("--only", metavar="NAME,…", type=names, help="these channels")
    which.add_argument("--all", action="store_true", help="every channel, with its prices")
    which.add_argument("--none", action="store_true", help="none: only operators make keys")
    which.add_argument(
        "--usual", action="store_true", help="the channel 'all' alone, as without a choice"
    )
    limiting = add_action(
        actions, "ceiling", _ceiling, "limit the keys that members of an account make, or show how"
    )
    _add_account(limiting)
    add_limits(limiting)
    add_unlimited(limiting)
    _add_account(add_action(actions, "suspend", _suspend, "refuse all requests of an account"))
    _add_account(add_action(actions, "resume", _resume, "serve a suspended account again"))
    ledger = add_action(actions, "ledger", _ledger, "list the changes of a balance")
    _add_account(ledger)
    clients = add_action(
        actions, "import-clients", _import_clients, "take the keys of [clients] over, with limits"
    )
    clients.add_argument("file", metavar="FILE", help="settings file with [clients]")
    clients.add_argument(
        "--account", metavar="NAME", required=True, help="the account that gets the keys"
    )
    pruning = add_action(
        actions, "prune", _prune, "delete the rows of single requests; sums and ledger stay"
    )
    pruning.add_argument(
        "--before", metavar="DAY", type=time, required=True, help="as in 2027-01-31, in UTC"
    )
    account_user.add(actions)
    operator_key.add(actions)
    account_export.add(actions)
    add_action(
        actions, "reconcile", _reconcile, "compare all figures; exit code 1 where they differ"
    )


def _add_account(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", type=name, help="name of the account")


def _add_ref(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--ref",
        metavar="REF",
        type=name,
        required=True,
        help="a reference, such as the number of a payment: it happens once for each",
    )


def _init(options: argparse.Namespace) -> int:
    from contextlib import closing

    from translator.service.accounts.books import initialize
    from translator.service.accounts.room import ROOM
    from translator.service.database.connection import connect, writing
    from translator.service.database.files import is_on_a_network
    from translator.service.database.schema import migrate
    from translator.service.database.statement import DatabaseTime

    found = accounts_of(options.config)
    location = found.location
    if location.kind == "sqlite" and is_on_a_network(location.target):
        raise UsageError(
            f"{location.target} is on a file system of a network, where SQLite loses data; "
            "use a local disk, or postgresql://"
        )
    applied = migrate(location, ROOM)
    with closing(connect(location, DatabaseTime())) as connection, writing(connection):
        begun = initialize(connection, found.section.currency)
    if begun:
        print(
            f"{location.shown}: ready; amounts are in {found.section.currency}, the channel 'all' "
            "has all models, the price list 'standard' is empty."
        )
    elif applied:
        print(f"{location.shown}: migrated to {applied[-1]}.")
    else:
        print(f"{location.shown}: nothing to do, the tables are those of this release.")
    return 0


def _add(options: argparse.Namespace) -> int:
    from translator.service.accounts.books import add_account
    from translator.service.accounts.changes import Mistake
    from translator.service.accounts.money import read_amount, shown

    credit = read_amount(options.credit)
    if credit < 0:
        raise Mistake("a credit is 0 or more")
    with changing(options.config) as connection:
        made = add_account(connection, options.name, credit)
        note(connection, "add account", options.name, f"credit {shown(credit)}")
    print(f"acct_{made}: {options.name} is there, and has no key yet.")
    return 0


def _list(options: argparse.Namespace) -> int:
    from translator.service.accounts.books import accounts
    from translator.service.accounts.money import shown, shown_down

    with looking(options.config) as connection:
        found = accounts(connection)
    if not found:
        print("There are no accounts.")
        return 0
    rows = [
        (
            f"acct_{one.id}",
            one.name,
            shown_down(one.balance),
            shown(one.held),
            shown(one.credit),
            "no" if one.suspended_at is None else f"since {shown_time(one.suspended_at)}",
            shown_time(one.created_at),
        )
        for one in found
    ]
    print_table(("id", "name", "balance", "held", "credit", "suspended", "created"), rows)
    return 0


def _top_up(options: argparse.Namespace) -> int:
    from translator.service.accounts.books import top_up
    from translator.service.accounts.money import read_amount

    amount = read_amount(options.amount)
    with changing(options.config) as connection:
        entry = top_up(connection, options.name, amount, options.ref, actor())
        if entry.new:
            note(connection, "top up", options.name, f"entry {entry.id}")
    print(f"entry {entry.id}" if entry.new else f"entry {entry.id}, which was there already")
    return 0


def _adjust(options: argparse.Namespace) -> int:
    from translator.service.accounts.books import adjust
    from translator.service.accounts.money import read_amount

    amount = read_amount(options.amount)
    with changing(options.config) as connection:
        entry = adjust(connection, options.name, amount, options.why, options.ref, actor())
        if entry.new:
            note(connection, "adjust", options.name, f"entry {entry.id}")
    print(f"entry {entry.id}" if entry.new else f"entry {entry.id}, which was there already")
    return 0


def _credit(options: argparse.Namespace) -> int:
    from translator.service.accounts.books import set_credit
    from translator.service.accounts.changes import Mistake
    from translator.service.accounts.money import read_amount, shown

    amount = read_amount(options.amount)
    if amount < 0:
        raise Mistake("a credit is 0 or more")
    with changing(options.config) as connection:
        set_credit(connection, options.name, amount)
        note(connection, "set credit", options.name, shown(amount))
    print(f"{options.name} may have a debt of {shown(amount)}.")
    return 0


def _channels(options: argparse.Namespace) -> int:
    from translator.service.accounts.books import account
    from translator.service.accounts.member_channels import (
        EVERY,
        member_channels,
        set_member_channels,
    )

    with changing(options.config) as connection:
        found = account(connection, options.name)
        names = EVERY if options.all else () if options.none else options.only
        set_member_channels(connection, found.id, names)
        chosen = member_channels(connection, found.id)
        which = "every one" if chosen == EVERY else ", ".join(chosen) or "none"
        note(connection, "set channels", options.name, which)
    print(f"Members of {options.name} may give keys these channels: {which}. Keys keep theirs.")
    return 0


def _ceiling(options: argparse.Namespace) -> int:
    from msgspec.structs import replace

    from translator.service.accounts.books import account, set_ceiling

    if not given(options) and not options.unlimited and options.tools is None:
        with looking(options.config) as connection:
            words = shown_ceiling(account(connection, options.name).ceiling)
        print(f"Members of {options.name} may give a key at most: {words}.")
        return 0
    with changing(options.config) as connection:
        ceiling = account(connection, options.name).ceiling
        ceiling = changed(without(ceiling, options.unlimited), options)
        if options.tools is not None or "tools" in options.unlimited:
            ceiling = replace(ceiling, tools=options.tools)
        set_ceiling(connection, options.name, ceiling)
        words = shown_ceiling(ceiling)
        note(connection, "set ceiling", options.name, words)
    warn_of_models(options.config, options.models or ())
    print(f"Members of {options.name} may give a key at most: {words}. Keys keep theirs.")
    return 0


def _suspend(options: argparse.Namespace) -> int:
    return _set_suspended(options, suspended=True)


def _resume(options: argparse.Namespace) -> int:
    return _set_suspended(options, suspended=False)


def _set_suspended(options: argparse.Namespace, *, suspended: bool) -> int:
    from translator.service.accounts.books import suspend

    with changing(options.config) as connection:
        suspend(connection, options.name, suspended=suspended)
        note(connection, "suspend" if suspended else "resume", options.name)
    print(f"{options.name} is {'suspended' if suspended else 'served'} from now on.")
    return 0


def _ledger(options: argparse.Namespace) -> int:
    from translator.service.accounts.books import account
    from translator.service.accounts.money import shown
    from translator.service.accounts.usage import MAX_ROWS, ledger

    with looking(options.config) as connection:
        found = ledger(connection, account(connection, options.name).id, limit=MAX_ROWS)
    rows = [
        (
            str(one.id),
            shown_time(one.at),
            one.kind,
            one.ref,
            shown(one.amount),
            shown(one.balance_after),
            " ".join(filter(None, (one.model or "", one.actor, one.note))),
        )
        for one in found
    ]
    print_table(("entry", "at", "kind", "ref", "amount", "balance", "of"), rows)
    return 0


def _import_clients(options: argparse.Namespace) -> int:
    from translator.service.accounts.key_book import import_clients
    from translator.service.config.loading import read_table, read_toml

    with settings_errors():
        table = read_toml(options.file)
        if "clients" not in table:
            raise UsageError(f"{options.file} has no section [clients]")
        upstreams = {"none": {"base_url": "http://127.0.0.1/v1"}}  # settings need one
        clients = read_table({"upstreams": upstreams, "clients": table["clients"]}, {}).clients
    with changing(options.config) as connection:
        made, known = import_clients(connection, options.account, clients)
        note(connection, "import clients", options.account, f"{made} keys")
    print(f"{made} keys are taken over, {known} were there already.")
    return 0


def _prune(options: argparse.Namespace) -> int:
    from translator.service.accounts.pruning import prune

    total, count = 0, 1
    while count:
        with changing(options.config) as connection:
            count = prune(connection, options.before)
        total += count
    if total:
        with changing(options.config) as connection:
            note(
                connection,
                "prune usages",
                "all accounts",
                f"{total} before {shown_time(options.before)}",
            )
    print(f"{total:,} usages deleted.")
    return 0


def _reconcile(options: argparse.Namespace) -> int:
    from translator.service.accounts.reconcile import differences, losses

    with looking(options.config) as connection:
        found = list(differences(connection))
        lost = list(losses(connection))
    for line in found:
        print(line)
    for line in lost:
        print(line, file=sys.stderr)
    if not found:
        print("All figures agree.")
    return 1 if found else 0
