"""The databases of these tests: each runs on SQLite and on PostgreSQL."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.store import postgres
from tests.service.wire import ScriptedUpstream
from translator.service.accounts.reconcile import differences
from translator.service.accounts.room import ROOM
from translator.service.config.store import Location
from translator.service.database.connection import reading
from translator.service.database.schema import migrate

from .operators import operator_key
from .paying import USAGE, Books, answering, initialized

TABLES = (
    *("accounts", "users", "sessions", "attempts", "audit", "keys", "allowances", "channels"),
    *("price_lists", "prices", "boots", "holds", "usages", "ledger", "sums"),
    *("operator_keys", "answers", "browsers"),
)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    """A PostgreSQL server; the database `accounts` has the tables of the accounts."""
    with postgres.server(postgres.needed()) as server:
        server.create("empty")
        server.create("accounts")
        migrate(Location("postgresql", server.url("accounts")), ROOM)
        yield server


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the tables of the accounts."""
    file = tmp_path_factory.mktemp("accounts") / "accounts.db"
    migrate(Location("sqlite", str(file)), ROOM)
    return file


def emptied(postgres_server: postgres.Server) -> Location:
    """The database on PostgreSQL, with the tables, and what `init` writes into them."""
    postgres_server.execute(
        "accounts",
        "SET session_replication_role = replica",  # without triggers, and faster than TRUNCATE
        *(f"DELETE FROM acct_{name}" for name in TABLES),
        "SELECT setval(oid::regclass, 1, false) FROM pg_class"
        " WHERE relkind = 'S' AND starts_with(relname, 'acct_')",
        "DELETE FROM acct_meta WHERE key <> 'generation'",
    )
    location = Location("postgresql", postgres_server.url("accounts"))
    initialized(location)
    return location


@pytest.fixture
def postgres_location(postgres_server: postgres.Server) -> Location:
    """The location of a database on PostgreSQL with the tables, and what `init` writes."""
    return emptied(postgres_server)


@pytest.fixture
def sqlite_location(tmp_path: Path, migrated_file: Path) -> Location:
    """The same in a SQLite file."""
    file = tmp_path / "accounts" / "accounts.db"
    file.parent.mkdir()
    shutil.copy(migrated_file, file)
    location = Location("sqlite", str(file))
    initialized(location)
    return location


@pytest.fixture(params=["sqlite", "postgresql"])
def location(request: pytest.FixtureRequest) -> Location:
    """Each of them in turn."""
    name = "sqlite" if request.param == "sqlite" else "postgres"
    found: Location = request.getfixturevalue(f"{name}_location")
    return found


@pytest.fixture
def books(upstream: ScriptedUpstream, location: Location) -> Iterator[Books]:
    """The books of an operator, and the service that keeps them."""
    with Books.opened(upstream, location) as made:
        yield made


@pytest.fixture
def key(books: Books) -> str:
    """A key of an account with 1.00, and the prices P."""
    books.account(balance="1")
    books.price()
    books.upstream.script = answering(USAGE)
    return books.key()


@pytest.fixture
def explained(books: Books) -> Iterator[None]:
    """At the end of each test all figures agree, and nothing is held."""
    yield
    with reading(books.connection):
        assert list(differences(books.connection)) == []
    assert not books.rows("SELECT id FROM acct_holds")
    assert {held for (held,) in books.rows("SELECT held FROM acct_accounts")} <= {0}


@pytest.fixture
def robot(books: Books) -> str:
    """An operator's key."""
    return operator_key(books)
