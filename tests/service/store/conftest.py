"""The databases of these tests: each runs on SQLite and on PostgreSQL."""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.service.wire import ScriptedUpstream, client_of
from translator.service.config.store import Location
from translator.service.database.schema import migrate
from translator.service.database.statement import DatabaseTime
from translator.service.store.room import ROOM
from translator.service.store.tables import KEYS, META, METADATA

from . import postgres
from .storing import Service, settings_of


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    """A PostgreSQL server; the database `migrated` has the tables of the store."""
    with postgres.server(postgres.needed()) as server:
        server.create("empty")
        server.create("migrated")
        migrate(Location("postgresql", server.url("migrated")), ROOM)
        yield server


@pytest.fixture
def postgres_location(postgres_server: postgres.Server) -> Location:
    """The location of a database on PostgreSQL, with the tables of the store and nothing in them."""
    names = ", ".join(table.name for table in METADATA.sorted_tables if table not in (META, KEYS))
    postgres_server.execute(
        "migrated",
        f"TRUNCATE {names}",
        "DELETE FROM resp_meta WHERE key NOT IN ('format', 'salt')",
        f"UPDATE resp_version SET version_num = '{ROOM.revisions[-1]}'",
    )
    return Location("postgresql", postgres_server.url("migrated"))


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """The location of a database without tables."""
    if request.param == "sqlite":
        return Location("sqlite", str(tmp_path / "store" / "store.db"))
    server: postgres.Server = request.getfixturevalue("postgres_server")
    server.execute("empty", "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    return Location("postgresql", server.url("empty"))


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the tables of the store."""
    file = tmp_path_factory.mktemp("migrated") / "store.db"
    migrate(Location("sqlite", str(file)), ROOM)
    return file


@pytest.fixture(params=["sqlite", "postgresql"])
def location(request: pytest.FixtureRequest, tmp_path: Path, migrated_file: Path) -> Location:
    """The location of a database with the tables of the store, and nothing in them."""
    if request.param == "sqlite":
        file = tmp_path / "store" / "store.db"
        file.parent.mkdir()
        shutil.copy(migrated_file, file)
        return Location("sqlite", str(file))
    found: Location = request.getfixturevalue("postgres_location")
    return found


@pytest.fixture
def service(upstream: ScriptedUpstream, location: Location) -> Service:
    """Makes a client of a service that stores, in the database that the test runs on."""

    @asynccontextmanager
    async def make(
        time: DatabaseTime | None = None, **more: Any
    ) -> AsyncGenerator[httpx.AsyncClient]:
        settings = settings_of(upstream, location, **more)
        async with client_of(settings, database_time=time) as client:
            yield client

    return make
