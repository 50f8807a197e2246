"""The schema of a room: its tables, their version, and the migrations that lead to it.

    revisions = oldest, { next }       one line of history for each room, in a table of its own

A SQLite file is migrated when it is opened, a PostgreSQL server only by a command: processes of an
older release may use it. SQLAlchemy and Alembic are imported for that alone.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from translator.service.config.store import Location

from .connection import Connection, connect, open_file
from .errors import SchemaMismatch, driver_errors
from .files import is_on_a_network
from .statement import DatabaseTime, Statement

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext, RevisionStep

Version = Literal["missing", "older", "current", "newer"]

_LOCK = 0x7472616E736C
"""Of the advisory lock under which PostgreSQL is migrated."""


class Room(Struct, frozen=True):
    """What uses a database, such as the store.

    `prefix` is that of its tables, so that rooms can share a database. `revisions` are its
    migrations, oldest first, in the folder `migrations`.
    """

    name: str
    prefix: str
    revisions: tuple[str, ...]
    migrations: Path
    command: str = ""
    """The command that makes or migrates the tables, where it is not `NAME migrate`."""

    @property
    def version_table(self) -> str:
        return f"{self.prefix}version"


def version(connection: Connection, room: Room) -> Version:
    """How the tables compare with what this release needs."""
    known = Statement(
        "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = :name",
        postgresql="SELECT count(*) FROM pg_catalog.pg_class"
        " WHERE relkind = 'r' AND relname = :name AND pg_table_is_visible(oid)",
    )
    if connection.execute(known, {"name": room.version_table})[0][0] == 0:
        return "missing"
    rows = connection.execute(Statement(f"SELECT version_num FROM {room.version_table}"))
    if not rows:
        return "missing"
    found = rows[0][0]
    if found == room.revisions[-1]:
        return "current"
    return "older" if found in room.revisions else "newer"


def check_version(connection: Connection, room: Room, *, may_be_newer: bool = False) -> None:
    """Raise SchemaMismatch unless the tables are those of this release.

    `may_be_newer`: they were when the process began. A migration leaves what the release before it
    uses, so that processes of both can run until the older ones have ended.
    """
    found = version(connection, room)
    if found == "newer":
        if may_be_newer:
            return
        raise _newer(room)
    if found != "current":
        state = "are missing" if found == "missing" else "are those of an older release"
        raise SchemaMismatch(
            f"the tables of the {room.name} {state}; "
            f"run: translator {room.command or f'{room.name} migrate'} --config FILE"
        )


def check(location: Location, room: Room) -> None:
    """Raise SchemaMismatch unless the tables are those of this release; raises Unavailable."""
    with _opened(location, room) as connection:
        check_version(connection, room)


def version_of(location: Location, room: Room) -> Version:
    """How the tables of a database compare with what this release needs.

    Raises SchemaMismatch where they may not be made in it, and Unavailable.
    """
    with _opened(location, room) as connection:
        return version(connection, room)


@contextmanager
def _opened(location: Location, room: Room, *, creates: bool = False) -> Generator[Connection]:
    """A connection to what is a room's database, or may become one.

    `creates`: a file that is not there is created. Raises SchemaMismatch, and Unavailable, also for
    what the driver raises in the context.
    """
    require_own_file(location, room)
    with (
        closing(connect(location, DatabaseTime(), creates=creates)) as connection,
        driver_errors(location.shown),
    ):
        yield connection


def require_own_file(location: Location, room: Room) -> None:
    """Raise SchemaMismatch for a file that others have made: it is not to be changed.

    One that has the tables of the room is its own, whatever else is in it. Raises Unavailable.
    """
    path = Path(location.target)
    if location.kind != "sqlite" or not path.is_file() or not os.access(path, os.R_OK):
        return
    with driver_errors(location.target), closing(open_file(location.target, "ro")) as driver:
        tables = driver.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
        names = [name for (name,) in tables if not name.startswith("sqlite_")]
    if names and room.version_table not in names:
        raise SchemaMismatch(
            f"{location.target} holds the tables of something else, such as {names[0][:100]!r}; "
            f"give the {room.name} a file of its own"
        )


def prepare(location: Location, room: Room) -> None:
    """Make a database ready for use: create or migrate a SQLite file, check a server's tables.

    Raises SchemaMismatch, and Unavailable: Damaged, or the file cannot be opened or the server
    reached.
    """
    if location.kind == "sqlite" and is_on_a_network(location.target):
        raise SchemaMismatch(
            f"{location.target} is on a file system of a network, where SQLite loses data; "
            "use a local disk, or postgresql://"
        )
    with _opened(location, room, creates=True) as connection:
        found = version(connection, room)
        if location.kind == "postgresql" or found in ("current", "newer"):
            check_version(connection, room)
            return
    migrate(location, room)


def migrate(location: Location, room: Room) -> tuple[str, ...]:
    """Migrate the tables to this release, in one transaction; returns the revisions applied.

    Several processes may do so at once. Raises SchemaMismatch for tables of a newer release, and
    Unavailable.
    """
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    from .core import connected

    script = ScriptDirectory(room.migrations, version_locations=[room.migrations])
    applied: list[str] = []

    def steps(heads: tuple[str, ...], _context: MigrationContext) -> list[RevisionStep]:
        if not set(heads) <= set(room.revisions):
            raise _newer(room)
        before = heads[0] if heads else "base"
        found = script._upgrade_revs(room.revisions[-1], before)  # noqa: SLF001 # pyright: ignore
        applied.extend(step.revision.revision for step in found)
        return found

    with _opened(location, room, creates=True):
        pass  # which sets what a file has for good
    with connected(location) as connection:
        if location.kind == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
        with EnvironmentContext(Config(), script, fn=steps) as environment:
            environment.configure(connection=connection, version_table=room.version_table)
            environment.run_migrations()
    return tuple(applied)


def _newer(room: Room) -> SchemaMismatch:
    return SchemaMismatch(
        f"the tables of the {room.name} are those of a newer release; run that release"
    )
