"""The schema of the store, its migrations, and the files of SQLite."""

from __future__ import annotations

import sqlite3
import stat
import threading
from contextlib import closing
from pathlib import Path

import pytest

from tests.service.wire import BOUND_S
from translator.service.config.store import Location
from translator.service.database import schema
from translator.service.database.connection import connect, writing
from translator.service.database.errors import Damaged, SchemaMismatch, Unavailable
from translator.service.database.files import file_system, is_on_a_network
from translator.service.database.statement import DatabaseTime, Statement
from translator.service.store.room import ROOM

from .test_database import KEYS, keys, opened, put

pytestmark = pytest.mark.anyio

# --- the schema ----------------------------------------------------------------------------------


def test_tables_are_made_once(empty: Location) -> None:
    assert schema.migrate(empty, ROOM) == ROOM.revisions
    assert schema.migrate(empty, ROOM) == ()
    schema.check(empty, ROOM)
    if empty.kind == "sqlite":
        with closing(sqlite3.connect(empty.target)) as file:
            assert file.execute("PRAGMA journal_mode").fetchall() == [("wal",)]
            assert file.execute("PRAGMA auto_vacuum").fetchall() == [(2,)]


def test_the_code_knows_the_last_migration() -> None:
    from alembic.script import ScriptDirectory

    script = ScriptDirectory(ROOM.migrations, version_locations=[ROOM.migrations])
    found = [one.revision for one in script.walk_revisions()]
    assert tuple(reversed(found)) == ROOM.revisions


def test_the_migrations_lead_to_the_tables_of_the_code(location: Location) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from translator.service.database.core import connected
    from translator.service.store.tables import METADATA

    def ours(name: str | None, kind: str, _parents: object) -> bool:
        return kind != "table" or (name or "") in METADATA.tables

    with connected(location) as connection:
        options = {"include_name": ours, "compare_type": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, METADATA) == []


def test_several_processes_may_migrate_at_once(empty: Location) -> None:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            schema.migrate(empty, ROOM)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(BOUND_S)
    assert failures == []
    schema.check(empty, ROOM)


def test_a_file_is_migrated_when_it_is_opened_and_a_server_is_not(empty: Location) -> None:
    if empty.kind == "sqlite":
        schema.prepare(empty, ROOM)
        schema.prepare(empty, ROOM)
    else:
        with pytest.raises(SchemaMismatch, match="run: translator store migrate --config FILE"):
            schema.prepare(empty, ROOM)
        schema.migrate(empty, ROOM)
        schema.prepare(empty, ROOM)


def set_version(location: Location, name: str) -> None:
    with closing(connect(location, DatabaseTime())) as connection:
        with writing(connection):
            connection.change(
                Statement("UPDATE resp_version SET version_num = :name"), {"name": name}
            )


async def test_tables_of_a_newer_release_are_left_alone(location: Location) -> None:
    set_version(location, "store_9999")
    for use in (schema.prepare, schema.migrate, schema.check):
        with pytest.raises(SchemaMismatch, match="newer release"):
            use(location, ROOM)
    async with opened(location) as database:
        with pytest.raises(Unavailable, match="newer release"):
            await database.read(lambda connection: connection.execute(KEYS))


async def test_tables_that_are_migrated_later_are_used_then(empty: Location) -> None:
    async with opened(empty) as database:
        with pytest.raises(Unavailable, match=r"are missing|No such file"):
            await keys(database)
        schema.migrate(empty, ROOM)
        assert await keys(database) == []


# --- files ---------------------------------------------------------------------------------------


async def test_only_the_owner_may_read_the_files(tmp_path: Path) -> None:
    location = Location("sqlite", str(tmp_path / "new" / "store.db"))
    schema.prepare(location, ROOM)
    async with opened(location) as database:
        await database.write(put("k1"), size=1, keep_trying_s=BOUND_S).done(BOUND_S)
        found = {
            one.name: stat.S_IMODE(one.stat().st_mode)
            for one in Path(location.target).parent.iterdir()
        }
    assert found == dict.fromkeys(("store.db", "store.db-wal", "store.db-shm"), 0o600)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


@pytest.mark.parametrize("content", [b"no database" * 1000, b"SQLite format 3\0" + b"\xff" * 9000])
def test_a_damaged_file_is_left_alone(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "store.db"
    file.write_bytes(content)
    with pytest.raises(Damaged, match=r"move it away, or restore it"):
        schema.prepare(Location("sqlite", str(file)), ROOM)
    assert file.read_bytes() == content


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match="cannot be opened"):
        schema.prepare(Location("sqlite", str(tmp_path / "file" / "store.db")), ROOM)


MOUNTS = """\
22 1 8:1 / / rw - ext4 /dev/sda1 rw
30 22 0:5 / /srv rw,relatime shared:1 - nfs4 host:/srv rw
31 30 0:6 / /srv/a\\040b rw - ext4 /dev/sdb rw
"""


@pytest.mark.parametrize(
    ("path", "kind", "network"),
    [
        ("/var/store.db", "ext4", False),
        ("/srv/x/store.db", "nfs4", True),
        ("/srv/a b/store.db", "ext4", False),
    ],
)
def test_file_systems_of_a_network_are_known(path: str, kind: str, network: bool) -> None:
    assert file_system(path, MOUNTS) == kind
    assert is_on_a_network(path, MOUNTS) is network


def test_a_file_on_a_network_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "is_on_a_network", lambda _path: True)
    with pytest.raises(SchemaMismatch, match="use a local disk"):
        schema.prepare(Location("sqlite", str(tmp_path / "store.db")), ROOM)
    assert list(tmp_path.iterdir()) == []
