"""`translator store`: looks after the database of stored responses."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from .common import Commands, Parser, UsageError, printable, whole_number
from .settings import service_imports, settings_errors

if TYPE_CHECKING:
    from translator.service.config.store import Location, Store

STORE_PACKAGES = frozenset({"alembic", "psycopg", "sqlalchemy"})

DEFAULT_LIMIT = 50

DAY_S = 86_400.0


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "store",
        help="look after the database of stored responses",
        description="Looks after the database that [store] of a settings file names.",
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    _add(actions, "migrate", _migrate, "create the tables, or bring them to this release")
    _add(actions, "check", _check, "look for damage; exit code 1 where there is any")
    _add(actions, "stats", _stats, "show how much is stored, in all and for each client")
    listing = _add(actions, "list", _list, "list the latest responses, without their content")
    _add_client(listing, "list those of one client alone")
    listing.add_argument(
        "--conversations", action="store_true", help="list conversations, not responses"
    )
    listing.add_argument(
        "--limit",
        type=whole_number("a number of lines, 1 or more", 1),
        default=DEFAULT_LIMIT,
        metavar="NUMBER",
        help=f"most of them to list (default: {DEFAULT_LIMIT})",
    )
    purge = _add(actions, "purge", _purge, "delete stored responses for good")
    what = purge.add_mutually_exclusive_group(required=True)
    _add_client(what, "delete all that is stored for this client")
    what.add_argument("--expired", action="store_true", help="delete what has expired")
    what.add_argument("--all", action="store_true", help="delete all that is stored")
    copying = actions.add_parser(
        "copy",
        help="copy all that is stored into another database",
        description="Copies all that is stored into another database, which has the tables and"
        " nothing in them. Stop the service before: what it stores meanwhile does not come along.",
    )
    copying.add_argument("source", metavar="FROM", help="settings file with the [store] of before")
    copying.add_argument("target", metavar="TO", help="settings file with the new [store]")
    copying.set_defaults(run=_translated(_copy))


def _add(
    actions: Any,  # noqa: ANN401 - argparse's own type is private
    name: str,
    run: Callable[[argparse.Namespace, Location], int],
    text: str,
) -> Parser:
    parser: Parser = actions.add_parser(
        name, help=text, description=text[:1].upper() + text[1:] + "."
    )
    parser.add_argument(
        "--config", metavar="FILE", required=True, help="settings file in TOML, with [store]"
    )

    def with_location(options: argparse.Namespace) -> int:
        store = _settings(options.config)
        options.limits = store.limits
        return run(options, store.location)

    parser.set_defaults(run=_translated(with_location))
    return parser


def _add_client(parser: Any, text: str) -> None:  # noqa: ANN401 - a parser, or a group of one
    parser.add_argument(
        "--client",
        metavar="NAME",
        help=f"{text}; as stats shows it, and '' where requests need no key",
    )


def _settings(config: str) -> Store:
    with service_imports("store"):
        from translator.service.config.loading import read_file
    with settings_errors():
        store = read_file(config, os.environ).store
    if store is None:
        raise UsageError(f"{config} has no section [store]: nothing is stored")
    return store


def _translated(run: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """The command, with what goes wrong in the database as a UsageError."""

    def with_errors(options: argparse.Namespace) -> int:
        with _store_errors():
            return run(options)

    return with_errors


@contextmanager
def _store_errors() -> Generator[None]:
    try:
        from translator.service.database.errors import SchemaMismatch, Unavailable
    except ModuleNotFoundError as error:
        raise _missing(error) from None
    try:
        yield
    except ModuleNotFoundError as error:
        raise _missing(error) from None
    except (SchemaMismatch, Unavailable) as error:
        raise UsageError(str(error)) from None


def _missing(error: ModuleNotFoundError) -> Exception:
    package = (error.name or "").partition(".")[0]
    if package not in STORE_PACKAGES:
        return error
    from translator.program.invocation import install_hint

    return UsageError(f"store needs {package}: install it with {install_hint('store')}")


# --- actions -----------------------------------------------------------------------------------


def _migrate(_options: argparse.Namespace, location: Location) -> int:
    from translator.service.database.schema import migrate
    from translator.service.store.room import ROOM

    applied = migrate(location, ROOM)
    if applied:
        print(f"{location.shown}: migrated to {applied[-1]}.")
    else:
        print(f"{location.shown}: nothing to do, the tables are those of this release.")
    return 0


def _ready(location: Location, if_missing: str = "nothing has been stored") -> None:
    """Raise UsageError unless the tables are those of this release."""
    from pathlib import Path

    from translator.service.database.schema import check
    from translator.service.store.room import ROOM

    if location.kind == "sqlite" and not Path(location.target).exists():
        raise UsageError(f"{location.target} is not there yet: {if_missing}")
    check(location, ROOM)


def _check(_options: argparse.Namespace, location: Location) -> int:
    from translator.service.database.errors import Damaged
    from translator.service.store.upkeep import problems

    found = False
    try:
        _ready(location)
        for line in problems(location):
            found = True
            print(line)
    except Damaged as error:
        found = True
        print(error)
    if not found:
        print(f"{location.shown}: no damage found.")
    return 1 if found else 0


def _stats(options: argparse.Namespace, location: Location) -> int:
    from translator.service.database.statement import DatabaseTime
    from translator.service.store.upkeep import stats

    _ready(location)
    found = stats(location, DatabaseTime())
    print(f"database   {location.shown}, {_size(found.file_bytes)}")
    print(f"responses  {found.responses:,}, {_size(found.bytes)}, with {found.items:,} items")
    print(f"threads    {found.threads:,}, {found.expired_threads:,} of them expired")
    print(f"conversations  {found.conversations:,}")
    quota = options.limits.max_client_bytes
    if quota:
        print(f"quota      {_size(quota)} for each client")
    if found.clients:
        rows = [
            (
                _client(one.owner),
                f"{one.responses:,}",
                _size(one.bytes),
                *([f"{100 * one.bytes / quota:.0f} %"] if quota else []),
                _time(one.newest) if one.newest else "-",
            )
            for one in found.clients
        ]
        print()
        _print_table(("client", "responses", "size", *(["quota"] if quota else []), "latest"), rows)
    return 0


def _list(options: argparse.Namespace, location: Location) -> int:
    from translator.service.database.statement import DatabaseTime
    from translator.service.store.upkeep import listed

    _ready(location)
    if options.conversations:
        return _list_conversations(options, location)
    found = listed(location, DatabaseTime(), options.client, options.limit)
    if not found:
        print("No responses are stored.")
        return 0
    rows = [
        (
            one.id,
            _client(one.owner),
            one.status,
            printable(one.model),
            _time(one.created_at),
            _time(one.expires_at),
            _size(one.bytes),
        )
        for one in found
    ]
    _print_table(("id", "client", "status", "model", "created", "expires", "size"), rows)
    return 0


def _list_conversations(options: argparse.Namespace, location: Location) -> int:
    from translator.service.database.statement import DatabaseTime
    from translator.service.store.conversation_upkeep import listed

    keep_s = options.limits.conversation_days * DAY_S
    found = listed(location, DatabaseTime(), options.client, options.limit, keep_s)
    if not found:
        print("No conversations are stored.")
        return 0
    rows = [
        (
            one.id,
            _client(one.owner),
            f"{one.items:,}",
            _time(one.created_at),
            _time(one.touched_at),
            _size(one.bytes),
        )
        for one in found
    ]
    _print_table(("id", "client", "items", "created", "changed", "size"), rows)
    return 0


def _purge(options: argparse.Namespace, location: Location) -> int:
    from translator.service.database.statement import DatabaseTime
    from translator.service.store import conversation_upkeep
    from translator.service.store.upkeep import expire, rows_of, sweep

    _ready(location)
    time = DatabaseTime()
    owner: str | None = options.client
    before = 0 if owner is None else rows_of(location, owner)
    if owner is not None and not before:
        print(f"Nothing is stored for the client {_client(owner)}.")
        return 0
    if options.expired:
        print("Deleting what has expired.")
    else:
        threads = expire(location, time, owner)
        conversations = conversation_upkeep.delete(location, time, owner)
        whose = "all clients" if owner is None else f"the client {_client(owner)}"
        print(f"{threads:,} threads of {whose} are no longer found; deleting them.")
        print(f"{conversations:,} conversations of {whose}: deleting them, too.")
    rows = sum(sweep(location, time, options.limits.conversation_days * DAY_S))
    if owner is not None:  # others' rows that had expired were deleted, too
        rows = max(0, before - rows_of(location, owner))
    print(f"{rows:,} rows deleted.")
    return 0


def _copy(options: argparse.Namespace) -> int:
    source, target = (_settings(one).location for one in (options.source, options.target))
    if source == target:
        raise UsageError(f"{options.source} and {options.target} name the same database")
    from translator.service.store.copying import copy

    _ready(source)
    _ready(target, f"make its tables: translator store migrate --config {options.target}")
    counts = copy(source, target)
    responses, conversations = counts["resp_responses"], counts["resp_conversations"]
    print(
        f"{responses:,} responses and {conversations:,} conversations are copied from"
        f" {source.shown} to {target.shown}."
    )
    return 0


# --- for people ----------------------------------------------------------------------------------


def _client(owner: str) -> str:
    return printable(owner) or "''"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _size(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} GiB"


def _print_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        print(
            "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        )
