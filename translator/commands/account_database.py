"""What the commands around accounts share: the database of `--config`, and texts for people."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from translator.common.toml import toml_key

from .common import Parser, UsageError, printable
from .settings import service_imports, settings_errors

if TYPE_CHECKING:
    from translator.service.config.accounts import Accounts
    from translator.service.database.connection import Connection

PACKAGES = frozenset({"alembic", "argon2", "psycopg", "sqlalchemy"})


def add_action(
    actions: Any,  # noqa: ANN401 - argparse's own type is private
    name: str,
    run: Callable[[argparse.Namespace], int],
    text: str,
) -> Parser:
    """An action of a command, which runs in the accounts of `--config`."""
    parser: Parser = actions.add_parser(
        name, help=text, description=text[:1].upper() + text[1:] + "."
    )
    add_config(parser, required=True)
    parser.set_defaults(run=with_errors(run))
    return parser


def add_config(parser: Parser, *, required: bool) -> None:
    parser.add_argument(
        "--config", metavar="FILE", required=required, help="settings file in TOML, with [accounts]"
    )


def accounts_of(config: str) -> Accounts:
    """The section of a settings file, whose other sections need not be right."""
    with service_imports("account"):
        from translator.service.config.accounts import read_accounts
        from translator.service.config.loading import read_toml
        from translator.service.config.settings import SettingsError
    with settings_errors():
        table = read_toml(config)
        if "accounts" not in table:
            raise UsageError(f"{config} has no section [accounts]")
        problems: list[str] = []
        found = read_accounts(
            table["accounts"],
            Path(config).parent,
            os.environ,
            problems,
            has_models=True,
            has_clients=False,
        )
        if found is None:
            raise SettingsError(problems)
    return found


@contextmanager
def changing(config: str) -> Generator[Connection]:
    """A transaction on the database, beside the service."""
    with _connected(config) as connection:
        from translator.service.database.connection import writing

        with writing(connection):
            yield connection


@contextmanager
def looking(config: str) -> Generator[Connection]:
    """A transaction that only reads."""
    with _connected(config) as connection:
        from translator.service.database.connection import reading

        with reading(connection):
            yield connection


@contextmanager
def _connected(config: str) -> Generator[Connection]:
    from translator.service.accounts.books import check_currency
    from translator.service.accounts.room import ROOM
    from translator.service.database.connection import connect
    from translator.service.database.schema import check_version
    from translator.service.database.statement import DatabaseTime

    found = accounts_of(config)
    location = found.location
    if location.kind == "sqlite" and not Path(location.target).exists():
        raise UsageError(
            f"{location.target} is not there yet; run: translator account init --config {config}"
        )
    with closing(connect(location, DatabaseTime())) as connection:
        check_version(connection, ROOM)
        if problem := check_currency(connection, found.section.currency):
            raise UsageError(f"accounts.currency: {problem}")
        yield connection


def with_errors(run: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """A command with what goes wrong in the accounts or their database as a UsageError."""

    def translated(options: argparse.Namespace) -> int:
        with _account_errors():
            return run(options)

    return translated


@contextmanager
def _account_errors() -> Generator[None]:
    with service_imports("account"):
        import sqlite3

        from translator.service.accounts.changes import Mistake
        from translator.service.accounts.money import InvalidAmount
        from translator.service.database.errors import SchemaMismatch, Unavailable, reason
    try:
        yield
    except ModuleNotFoundError as error:
        raise _missing(error) from None
    except (Mistake, InvalidAmount, SchemaMismatch, Unavailable) as error:
        raise UsageError(str(error)) from None
    except Exception as error:
        if isinstance(error, sqlite3.Error) or hasattr(error, "sqlstate"):
            raise UsageError(f"the database failed: {reason(error)}") from None
        raise


def _missing(error: ModuleNotFoundError) -> Exception:
    package = (error.name or "").partition(".")[0]
    if package not in PACKAGES:
        return error
    from translator.program.invocation import install_hint

    return UsageError(f"accounts need {package}: install it with {install_hint('accounts')}")


# --- for people ----------------------------------------------------------------------------------


def actor() -> str:
    """Who runs the command, for the ledger."""
    try:
        return getpass.getuser()[:100]
    except (OSError, KeyError):
        return "unknown"


def note(connection: Connection, action: str, subject: str, detail: str = "") -> None:
    """Write a change into the audit log, in its transaction."""
    from translator.service.accounts.people import audit

    audit(connection, actor(), action, subject, detail)


def name(text: str) -> str:
    """An argparse type: a name of an account, a key, a channel or a model."""
    if not text.strip() or not text.isprintable() or len(text) > 200:
        raise argparse.ArgumentTypeError("a name is printable, not empty, and short")
    return text


def names(text: str) -> tuple[str, ...]:
    """An argparse type: names with commas between them."""
    return tuple(name(part.strip()) for part in text.split(","))


def tools(text: str) -> tuple[str, ...]:
    """An argparse type: tools with commas between them, or "none"."""
    return () if text.strip() == "none" else names(text)


def time(text: str) -> int:
    """An argparse type: an ISO time in UTC; microseconds."""
    from translator.service.accounts.periods import read_time

    try:
        return read_time(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time such as 2027-01-31 or 2027-01-31T12:00:00Z"
        ) from None


def warn_of_models(config: str, models: Iterable[str]) -> None:
    """Say which models the settings do not list: nobody can use these yet."""
    from translator.service.accounts.keys import ALL
    from translator.service.accounts.tools import is_priced_name
    from translator.service.config.loading import read_toml

    listed = read_toml(config).get("models")
    if not isinstance(listed, dict):
        return
    for model in dict.fromkeys(models):
        if model not in listed and model != ALL and not is_priced_name(model):
            print(
                f"warning: {printable(config)} has no [models.{toml_key(model)}],"
                " which nobody can use yet",
                file=sys.stderr,
            )


def shown_tools(listed: tuple[str, ...] | None) -> str:
    return "all" if listed is None else ", ".join(listed) or "none"


def shown_time(at: int | None, otherwise: str = "-") -> str:
    from translator.service.accounts.periods import shown_time

    return otherwise if at is None else shown_time(at)


def print_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    cells = [tuple(map(printable, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    for row in (head, *cells):
        print(
            "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        )
