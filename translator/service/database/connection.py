"""Connections: to a SQLite file or a PostgreSQL server, through their own drivers.

A connection is used in one thread. `execute` and `execute_many` take a `Statement`; a transaction
is `reading()` or `writing()`.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol

from translator.service.config.store import Kind, Location

from .errors import Unavailable, driver_errors, reason
from .files import create_file, identity, require_file
from .statement import DatabaseTime, Statement, Values

if TYPE_CHECKING:
    import psycopg

Row = tuple[Any, ...]

NO_VALUES: Values = MappingProxyType({})

BUSY_S = 5.0
"""Longest wait for the lock of another process on a SQLite file, in seconds."""

CONNECT_S = 5.0
"""Longest time to connect to a PostgreSQL server, in seconds."""

STATEMENT_S = 10.0
"""Longest time of a statement, in seconds."""

PREPARED_AFTER = 5
"""After how many executions a PostgreSQL server prepares a statement."""

CHECKED_STEPS = 20_000
"""After how many steps of SQLite's machine the time of a statement is checked."""

PAGE_BYTES = 4096

CHECKPOINT_PAGES, LATE_CHECKPOINT_PAGES = 1_000, 10_000
"""After how many pages of the log a commit writes them to the file, which waits for the disk: one
that waits for it anyway, and any other."""


class Connection(Protocol):
    """A connection to a database."""

    kind: Kind
    time: DatabaseTime

    @property
    def lost(self) -> bool:
        """Whether it cannot be used any more."""
        ...

    def execute(self, statement: Statement, values: Values = NO_VALUES) -> list[Row]:
        """The rows of a statement."""
        ...

    def change(self, statement: Statement, values: Values = NO_VALUES) -> int:
        """Execute a statement without rows; returns how many it changed."""
        ...

    def execute_many(self, statement: Statement, rows: Sequence[Values]) -> None:
        """Execute a statement once for each row of values."""
        ...

    def begin(self, *, writes: bool, durable: bool = True) -> None:
        """Begin a transaction; `durable`: its commit waits for the disk."""
        ...

    def commit(self) -> None: ...

    def rollback(self) -> None:
        """End a transaction, if there is one; does not raise."""
        ...

    def release_space(self, pages: int = 0) -> None:
        """Give free pages of a file back, up to a number of them.

        0 is for all, outside transactions: then the log beside the file is emptied as well, where
        nobody else uses it. PostgreSQL does so itself.
        """
        ...

    def close(self) -> None:
        """Release it; does not raise."""
        ...


def connect(
    location: Location,
    time: DatabaseTime,
    *,
    max_bytes: int = 0,
    statement_s: float = STATEMENT_S,
    creates: bool = False,
) -> Connection:
    """A connection; raises Unavailable.

    `max_bytes` is the largest size of a SQLite file, 0 any; `statement_s` the longest time of a
    statement. `creates`: a file that is not there is created.
    """
    if location.kind == "sqlite":
        if creates:
            create_file(location.target)
        return SqliteConnection(location.target, time, max_bytes, statement_s)
    return PostgresConnection(location.target, time, statement_s)


@contextmanager
def reading(connection: Connection) -> Generator[None]:
    """A transaction that sees one state of the database."""
    connection.begin(writes=False)
    try:
        yield
    finally:
        connection.rollback()


@contextmanager
def writing(connection: Connection, *, durable: bool = True) -> Generator[None]:
    """A transaction that is committed at its end, or rolled back."""
    connection.begin(writes=True, durable=durable)
    try:
        yield
        connection.commit()
    except BaseException:
        connection.rollback()
        raise


def open_file(path: str, mode: Literal["ro", "rw"]) -> sqlite3.Connection:
    """The driver's connection to a file that is there; raises sqlite3.Error."""
    url = f"{Path(path).absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(url, uri=True, timeout=BUSY_S, isolation_level=None)


class SqliteConnection:
    """A connection to a SQLite file, in WAL mode: readers do not wait for the writer.

    A file that is removed or replaced is noticed by the next transaction: what was written to it
    would be gone with it.
    """

    kind: Kind = "sqlite"

    def __init__(self, path: str, time_: DatabaseTime, max_bytes: int, statement_s: float) -> None:
        self.time = time_
        self._statement_s = statement_s
        self._until: float | None = None  # when the statement has taken too long, once it is asked
        self._full_sync: bool | None = None
        self._path = path
        self._identity = require_file(path)
        self.lost = False
        with driver_errors(path):
            self._driver = open_file(path, "rw")
        try:
            self._require_same_file()
            with driver_errors(path):
                _prepare_file(self._driver)
                if max_bytes:
                    pages = max(1, max_bytes // PAGE_BYTES)
                    self._driver.execute(f"PRAGMA max_page_count = {pages}")
        except Unavailable:
            self._driver.close()
            raise
        self._driver.set_progress_handler(self._too_late, CHECKED_STEPS)
        self._cursor = self._driver.cursor()  # one of each statement's own takes longer

    def _require_same_file(self) -> None:
        """Raise Unavailable where its path is no longer the file that was opened."""
        try:
            same = identity(self._path) == self._identity
        except Unavailable:
            same = False
        if not same:
            self.lost = True
            raise Unavailable(f"{self._path} was removed or replaced while it was in use")

    def _too_late(self) -> bool:
        """Whether a statement takes too long; few take so long that it is asked at all."""
        now = time.monotonic()
        if self._until is None:
            self._until = now + self._statement_s
        return now > self._until

    def _execute(self, text: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        self._until = None
        return self._cursor.execute(text, values)

    def execute(self, statement: Statement, values: Values = NO_VALUES) -> list[Row]:
        text = statement.text("sqlite", self.time)
        return self._execute(text, statement.in_order(values)).fetchall()

    def change(self, statement: Statement, values: Values = NO_VALUES) -> int:
        text = statement.text("sqlite", self.time)
        return self._execute(text, statement.in_order(values)).rowcount

    def execute_many(self, statement: Statement, rows: Sequence[Values]) -> None:
        if rows:
            self._until = None
            text = statement.text("sqlite", self.time)
            self._cursor.executemany(text, map(statement.in_order, rows))

    def begin(self, *, writes: bool, durable: bool = True) -> None:
        self._require_same_file()
        if writes and durable is not self._full_sync:  # which no transaction can change
            self._execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            pages = CHECKPOINT_PAGES if durable else LATE_CHECKPOINT_PAGES
            self._execute(f"PRAGMA wal_autocheckpoint = {pages}").fetchall()
            self._full_sync = durable
        self._execute("BEGIN IMMEDIATE" if writes else "BEGIN")

    def commit(self) -> None:
        self._execute("COMMIT")

    def rollback(self) -> None:
        self._until = None
        if self._driver.in_transaction:
            with suppress(sqlite3.Error):
                self._driver.execute("ROLLBACK")

    def release_space(self, pages: int = 0) -> None:
        self._until = None
        if not self._driver.in_transaction:
            # a cursor would do one page: it stops at a row without columns
            self._driver.executescript(f"PRAGMA incremental_vacuum({pages})")
            if not pages:
                # it holds what was deleted until it is written over
                self._driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            return
        [(free,)] = self._driver.execute("PRAGMA freelist_count").fetchall()
        for _ in range(min(free, pages)):
            self._driver.execute("PRAGMA incremental_vacuum(1)").fetchall()

    def close(self) -> None:
        with suppress(sqlite3.Error):
            self._driver.close()


def _prepare_file(driver: sqlite3.Connection) -> None:
    """Set what a file has for good; several processes may do so at once."""
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            if driver.execute("PRAGMA journal_mode").fetchone() == ("wal",):
                return
            driver.execute("PRAGMA auto_vacuum = INCREMENTAL")  # before there is any page
            driver.execute("PRAGMA journal_mode = WAL").fetchall()
        except sqlite3.OperationalError as error:
            # the change of the mode does not wait for locks itself
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


_NUL_IN_JSON = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


def without_nul(values: Values) -> Values:
    """Values that PostgreSQL can have as text: with U+FFFD in place of U+0000, in JSON, too.

    No id has either, so one that a client has made up is not found.
    """
    faulty = {
        name: _NUL_IN_JSON.sub(r"\1\\ufffd", value.replace("\0", "\ufffd"))
        for name, value in values.items()
        if isinstance(value, str) and ("\0" in value or "\\u0000" in value)
    }
    return {**values, **faulty} if faulty else values


class PostgresConnection:
    """A connection to a PostgreSQL server, or to a pooler in front of one.

    A pooler in transaction mode may give each transaction another session of the server. So no
    setting outlives its transaction, and behind a pooler no statement is prepared.
    """

    kind: Kind = "postgresql"

    def __init__(self, url: str, time_: DatabaseTime, statement_s: float) -> None:
        import psycopg

        self.time = time_
        self._error = psycopg.Error
        try:
            self._driver: psycopg.Connection[Row] = psycopg.connect(
                url,
                autocommit=True,
                connect_timeout=max(2, round(CONNECT_S)),
                application_name="translator",
                prepare_threshold=None,
            )
        except psycopg.Error as error:
            # its message names the host and the user, and no password
            raise Unavailable(" ".join(str(error).split())[:300]) from None
        self._limits = (
            f"SET LOCAL statement_timeout = {round(statement_s * 1000)};"
            f" SET LOCAL lock_timeout = {round(BUSY_S * 1000)}"
        )
        try:
            if not self._is_pooled():
                self._driver.prepare_threshold = PREPARED_AFTER
        except psycopg.Error as error:
            self._driver.close()
            raise Unavailable(reason(error)) from None

    def _is_pooled(self) -> bool:
        """Whether a pooler answers: the process that it names is not the one that executes."""
        [(executing,)] = self._driver.execute(b"SELECT pg_backend_pid()").fetchall()
        return bool(executing != self._driver.info.backend_pid)

    @property
    def lost(self) -> bool:
        return self._driver.closed or self._driver.broken

    def execute(self, statement: Statement, values: Values = NO_VALUES) -> list[Row]:
        text = statement.text("postgresql", self.time).encode()
        return self._driver.execute(text, without_nul(values)).fetchall()

    def change(self, statement: Statement, values: Values = NO_VALUES) -> int:
        text = statement.text("postgresql", self.time).encode()
        return self._driver.execute(text, without_nul(values)).rowcount

    def execute_many(self, statement: Statement, rows: Sequence[Values]) -> None:
        if rows:
            with self._driver.cursor() as cursor:
                text = statement.text("postgresql", self.time).encode()
                cursor.executemany(text, list(map(without_nul, rows)))

    def begin(self, *, writes: bool, durable: bool = True) -> None:
        how = "" if writes else " ISOLATION LEVEL REPEATABLE READ READ ONLY"
        sync = "" if durable or not writes else "; SET LOCAL synchronous_commit = off"
        text = f"BEGIN{how}; {self._limits}{sync}"
        self._driver.execute(text.encode(), prepare=False)  # several cannot be prepared

    def commit(self) -> None:
        self._driver.execute(b"COMMIT")

    def rollback(self) -> None:
        with suppress(self._error):
            if self._driver.info.transaction_status.name != "IDLE":
                self._driver.execute(b"ROLLBACK")

    def release_space(self, pages: int = 0) -> None:
        pass

    def close(self) -> None:
        with suppress(self._error):
            self._driver.close()
