"""SQLAlchemy's connections: for migrations, and for commands that look through whole tables."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import sqlalchemy
from sqlalchemy import event, exc
from sqlalchemy.pool import NullPool

from translator.service.config.store import Location

from .connection import BUSY_S, CONNECT_S
from .errors import Unavailable
from .files import create_file


@contextmanager
def connected(location: Location) -> Generator[sqlalchemy.Connection]:
    """A connection in one transaction, which is committed at its end.

    On SQLite it waits for others that write. Raises Unavailable where there is no connection.
    """
    engine = _sqlite(location) if location.kind == "sqlite" else _postgresql(location)
    try:
        connection = engine.connect()
        transaction = connection.begin()
    except exc.DBAPIError as error:
        engine.dispose()
        raise Unavailable(" ".join(f"{location.shown}: {error.orig}".split())[:300]) from None
    try:
        with connection, transaction:
            yield connection
    finally:
        engine.dispose()


def _sqlite(location: Location) -> sqlalchemy.Engine:
    create_file(location.target)
    url = sqlalchemy.URL.create("sqlite", database=location.target)
    engine = sqlalchemy.create_engine(url, poolclass=NullPool, connect_args={"timeout": BUSY_S})

    @event.listens_for(engine, "connect")
    def connected(driver: Any, _record: object) -> None:  # noqa: ANN401 # pyright: ignore
        driver.isolation_level = None  # else the driver begins transactions where it likes

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
        )

    return sqlalchemy.create_engine("postgresql+psycopg://", creator=connect, poolclass=NullPool)
