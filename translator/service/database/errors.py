"""Errors of a database: whether the work may be done again, and on which connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from typing import Literal

Remedy = Literal["reconnect", "again", "none"]
"""What may help: another connection, another attempt, or nothing."""

_AGAIN = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_NOMEM,
    }
)
_DAMAGED = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)

_AGAIN_STATES = ("40", "53", "55P03", "57014", "25006")
"""Of PostgreSQL: conflicts, a lack of space or memory, timeouts, a standby."""

_RECONNECT_STATES = ("08", "57P")


class Unavailable(Exception):
    """The database cannot be used now, or not in time; the text is the reason, without content."""


class Damaged(Unavailable):
    """The file is damaged, or no database; the text says what to do."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} is damaged, or no SQLite file; move it away, or restore it")


class SchemaMismatch(Exception):
    """The tables are missing, or of another version; the text says what to do."""


@contextmanager
def driver_errors(name: str) -> Generator[None]:
    """The context's work, with what a driver raises as Unavailable; Damaged where a file is.

    `name` is what the database is called; SQLAlchemy's errors have the driver's inside.
    """
    try:
        yield
    except Exception as error:
        cause = getattr(error, "orig", error)
        if is_damaged(cause):
            raise Damaged(name) from None
        if not isinstance(cause, sqlite3.Error) and not hasattr(cause, "sqlstate"):
            raise
        lines = str(cause).splitlines() or [type(cause).__name__]
        raise Unavailable(f"{name}: {lines[0][:300]}") from None  # details may quote a row


def remedy(error: Exception, *, lost: bool) -> Remedy:
    """What may help against an error of a driver; `lost`: its connection cannot be used."""
    if is_damaged(error):
        return "none"
    if lost or isinstance(error, Unavailable | SchemaMismatch):
        return "reconnect"
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        return "again" if code in _AGAIN else "none"
    state = str(getattr(error, "sqlstate", None) or "")
    if state.startswith(_RECONNECT_STATES):
        return "reconnect"
    return "again" if state.startswith(_AGAIN_STATES) else "none"


def reason(error: Exception) -> str:
    """An error in words that quote no content: a driver's message may hold the row."""
    if isinstance(error, Unavailable | SchemaMismatch):
        return str(error)
    if isinstance(error, sqlite3.Error):
        return str(error)  # which names tables and columns alone
    state = getattr(error, "sqlstate", None)
    return f"{type(error).__name__} {state}" if state else type(error).__name__


def is_damaged(error: Exception) -> bool:
    """Whether an error says that a SQLite file is none, or no longer.

    Its connection is of no use any more, even when the file has been restored.
    """
    return isinstance(error, Damaged) or getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED


def is_full(error: Exception) -> bool:
    """Whether an error says that there is no space left."""
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
    return getattr(error, "sqlstate", None) == "53100"
