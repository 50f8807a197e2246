"""Tables of an older release: what is in them is there afterwards, and means the same."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from tests.service.store import postgres
from translator.service.accounts.ceilings import NO_CEILING, Ceiling
from translator.service.accounts.key_book import keys
from translator.service.accounts.room import PREFIX, ROOM
from translator.service.config.store import Location
from translator.service.database.connection import connect, reading, writing
from translator.service.database.schema import Room, migrate
from translator.service.database.statement import DatabaseTime, Statement

BEFORE = Room("accounts", PREFIX, ROOM.revisions[:5], ROOM.migrations)
"""The tables before the accounts had ceilings."""


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    if request.param == "sqlite":
        return Location("sqlite", str(tmp_path / "accounts.db"))
    server: postgres.Server = request.getfixturevalue("postgres_server")
    server.execute("postgres", "DROP DATABASE IF EXISTS older")
    server.create("older")
    return Location("postgresql", server.url("older"))


def test_keys_of_an_older_release(empty: Location) -> None:
    """One that no operator has limited may be of a member; the others are not."""
    assert migrate(empty, BEFORE) == BEFORE.revisions
    with closing(connect(empty, DatabaseTime())) as connection, writing(connection):
        connection.change(
            Statement("INSERT INTO acct_accounts (name, created_at) VALUES ('acme', 1)")
        )
        for name, ceiling in (("own", None), ("given", '{"requests_per_minute":5}')):
            connection.change(
                Statement(
                    "INSERT INTO acct_keys (account_id, name, salt, digest, channels, ceiling,"
                    " created_at) VALUES (1, :name, :name, '', '[\"all\"]', :ceiling, 1)"
                ),
                {"name": name, "ceiling": ceiling},
            )
    assert migrate(empty, ROOM) == ROOM.revisions[5:]
    most = Ceiling(tokens_per_minute=9)
    with closing(connect(empty, DatabaseTime())) as connection:
        with writing(connection):
            connection.change(
                Statement("UPDATE acct_accounts SET ceiling = '{\"tokens_per_minute\":9}'")
            )
        with reading(connection):
            own, given = keys(connection)
    assert (own.of_member, own.ceiling, own.bounds) == (True, NO_CEILING, most)
    own_ceiling = Ceiling(requests_per_minute=5)
    assert (given.of_member, given.ceiling, given.bounds) == (False, own_ceiling, own_ceiling)
