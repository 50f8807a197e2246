"""SQLAlchemy's connections: for migrations, and for commands that look through whole tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager

import sqlalchemy
from sqlalchemy import event
from sqlalchemy.pool import NullPool

from translator.service.config.store import Location

from .connection import CONNECT_S, open_file
from .errors import driver_errors
from .files import require_file


@contextmanager
def connected(location: Location) -> Generator[sqlalchemy.Connection]:
    """A connection in one transaction, which is committed at its end.

    On SQLite it waits for others that write. Raises Unavailable where there is no connection, and
    for what a driver raises in the context.
    """
    engine = _sqlite(location) if location.kind == "sqlite" else _postgresql(location)
    try:
        with driver_errors(location.shown), engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def _sqlite(location: Location) -> sqlalchemy.Engine:
    require_file(location.target)

    def connect() -> sqlite3.Connection:
        return open_file(location.target, "rw")

    engine = sqlalchemy.create_engine("sqlite://", creator=connect, poolclass=NullPool)

    @event.listens_for(engine, "begin")
    def begun(connection: sqlalchemy.Connection) -> None:  # pyright: ignore
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _postgresql(location: Location) -> sqlalchemy.Engine:
    import psycopg

    def connect() -> psycopg.Connection:
        return psycopg.connect(
            location.target,
            connect_timeout=max(2, round(CONNECT_S)),
            application_name="translator",
            prepare_threshold=None,  # what is prepared behind a pooler would stay there
        )

    return sqlalchemy.create_engine("postgresql+psycopg://", creator=connect, poolclass=NullPool)
