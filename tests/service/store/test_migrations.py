"""Migrations: what an older release has stored is read the same, and older processes go on."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing

import httpx
import pytest
from msgspec import Raw

from tests.service.responses_api import PATH
from tests.service.wire import ScriptedUpstream, client_of
from translator.service.config.settings import SettingsError
from translator.service.config.store import Location
from translator.service.database import schema
from translator.service.database.connection import Connection, connect, reading, writing
from translator.service.database.database import Database
from translator.service.database.errors import Unavailable
from translator.service.database.schema import Room
from translator.service.database.statement import DatabaseTime, Statement
from translator.service.http.stores import open_store
from translator.service.store.owners import used
from translator.service.store.recall import recall
from translator.service.store.room import PREFIX, ROOM
from translator.service.store.upkeep import problems

from .storing import ask, messages, settings_of

pytestmark = pytest.mark.anyio

FIRST = Room("store", PREFIX, ROOM.revisions[:1], ROOM.migrations)
"""The tables of the first revision, for a process that knows no other."""

BODY = (
    b'{"id":"%b","created_at":1,"model":"m","object":"response","status":"completed","store":true}'
)


def store_as_first(connection: Connection, name: str, parent: str | None) -> None:
    """Store a response with the statements of the first revision."""
    keys = Statement(
        "UPDATE resp_keys SET next = next + 4 WHERE one = 1 RETURNING next - 4",
        postgresql="SELECT nextval('resp_numbers') FROM generate_series(1, 4)",
    )
    n = connection.execute(keys)[0][0]
    thread, depth, before = n + 1, 0, None
    if parent is not None:
        row = Statement("SELECT thread, depth + 1, n FROM resp_responses WHERE id = :id")
        thread, depth, before = connection.execute(row, {"id": f"resp_{parent}"})[0]
    body = BODY % f"resp_{name}".encode()
    said = b'{"role":"user","content":"%b"}' % name.encode()
    answer = (
        b'{"type":"message","id":"msg_%b","status":"completed","role":"assistant","content":'
        b'[{"type":"output_text","text":"Hello","annotations":[],"logprobs":[]}]}' % name.encode()
    )
    values = {
        "n": n, "thread": thread, "depth": depth, "parent": before, "id": f"resp_{name}",
        "bytes": len(body) + len(said) + len(answer), "body": body,
    }  # fmt: skip
    new = "INSERT INTO resp_threads (n, owner, expires_at) VALUES (:thread, '', db_now() + 2592000)"
    if parent is None:
        connection.change(Statement(new), values)
    connection.change(
        Statement(
            "INSERT INTO resp_responses (n, owner, id, thread, parent, depth, status, model,"
            " created_at, bytes) VALUES (:n, '', :id, :thread, :parent, :depth, 'completed', 'm',"
            " db_now(), :bytes)"
        ),
        values,
    )
    connection.change(
        Statement("INSERT INTO resp_bodies (response, body) VALUES (:n, :body)"), values
    )
    for pos, item in enumerate((said, answer)):
        connection.change(
            Statement(
                "INSERT INTO resp_items (n, owner, id, kind, body, sealed, bytes)"
                " VALUES (:n, '', :id, 'message', :body, NULL, :bytes)"
            ),
            {
                "n": n + 2 + pos, "id": f"msg_{'in_' * (1 - pos)}{name}", "body": item,
                "bytes": len(item),
            },
        )  # fmt: skip
        connection.change(
            Statement(
                "INSERT INTO resp_response_items (response, pos, side, item)"
                " VALUES (:n, :pos, :pos, :item)"
            ),
            {"n": n, "pos": pos, "item": n + 2 + pos},
        )


@pytest.fixture
def older(empty: Location) -> Location:
    """A database of the first revision, with a chain of three responses."""
    schema.migrate(empty, FIRST)
    with closing(connect(empty, DatabaseTime())) as connection, writing(connection):
        for name, parent in (("one", None), ("two", "one"), ("three", "two")):
            store_as_first(connection, name, parent)
    return empty


def context(location: Location, response_id: str) -> list[Raw]:
    with closing(connect(location, DatabaseTime())) as connection, reading(connection):
        found = recall(connection, "", response_id, [], max_chain=9, max_bytes=10**9)
        return found.earlier or []


async def test_what_an_older_release_has_stored(
    older: Location, upstream: ScriptedUpstream
) -> None:
    """It is shown, continued, counted against the quota, and deleted like what is stored now."""
    assert schema.migrate(older, ROOM) == ROOM.revisions[1:]
    assert list(problems(older)) == []
    with closing(connect(older, DatabaseTime())) as connection:
        [(size,)] = connection.execute(Statement("SELECT sum(bytes) FROM resp_items"))
        [(bodies,)] = connection.execute(Statement("SELECT sum(length(body)) FROM resp_bodies"))
        assert used(connection, "") == size + bodies
        [(of_responses,)] = connection.execute(Statement("SELECT sum(bytes) FROM resp_responses"))
        assert of_responses == size
    async with in_use(upstream, older) as client:
        three = (await client.get(f"{PATH}/resp_three")).json()
        assert (three["id"], three["output"][0]["id"]) == ("resp_three", "msg_three")
        page = (await client.get(f"{PATH}/resp_three/input_items?order=asc")).json()
        assert [one["id"] for one in page["data"]] == [
            *("msg_in_one", "msg_one", "msg_in_two", "msg_two", "msg_in_three")
        ]
        four = await ask(client, input="four", previous_response_id="resp_three")
        said = [one["content"] for one in messages(upstream.calls[-1])]
        assert said == ["one", "Hello", "two", "Hello", "three", "Hello", "four"]
        for one in ("resp_one", "resp_two", "resp_three", four["id"]):
            assert (await client.delete(f"{PATH}/{one}")).status_code == 200
    with closing(connect(older, DatabaseTime())) as connection:
        assert connection.execute(Statement("SELECT count(*) FROM resp_items")) == [(0,)]
        assert used(connection, "") == 0


async def test_events_of_an_older_release_count_for_their_owner(
    empty: Location, upstream: ScriptedUpstream
) -> None:
    """Those of a response that has ended; they are freed with it."""
    schema.migrate(empty, Room("store", PREFIX, ROOM.revisions[:2], ROOM.migrations))
    with closing(connect(empty, DatabaseTime())) as connection, writing(connection):
        for name in ("ended", "running"):
            store_as_first(connection, name, None)
            values = {"id": f"resp_{name}", "body": b"x" * 1000}
            connection.change(
                Statement(
                    "INSERT INTO resp_events (response, first_seq, last_seq, body)"
                    " SELECT n, 0, 3, :body FROM resp_responses WHERE id = :id"
                ),
                values,
            )
        ended = "UPDATE resp_responses SET ended_at = db_now() WHERE id = 'resp_ended'"
        connection.change(Statement(ended))
        kept = Statement(
            "INSERT INTO resp_owners (owner, shard, bytes) SELECT '', 0, sum(size) FROM ("
            "SELECT bytes AS size FROM resp_items UNION ALL SELECT length(body) FROM resp_bodies) x"
        )
        connection.change(kept)
        before = used(connection, "")
    assert schema.migrate(empty, ROOM) == ROOM.revisions[2:]
    assert list(problems(empty)) == []
    with closing(connect(empty, DatabaseTime())) as connection:
        assert used(connection, "") == before + 1000
    async with in_use(upstream, empty) as client:
        for name in ("ended", "running"):
            assert (await client.delete(f"{PATH}/resp_{name}")).status_code == 200
    assert list(problems(empty)) == []
    with closing(connect(empty, DatabaseTime())) as connection:
        assert used(connection, "") == 0


@asynccontextmanager
async def in_use(
    upstream: ScriptedUpstream, location: Location
) -> AsyncGenerator[httpx.AsyncClient]:
    async with client_of(settings_of(upstream, location)) as client:
        yield client


async def test_upgrade_side_by_side(older: Location) -> None:
    """A process that began before a migration goes on, on new connections too, and both see all."""
    numbers = itertools.count()

    def put(connection: Connection) -> None:
        store_as_first(connection, f"late{next(numbers)}", "three")

    def old_process(*, prepared: bool) -> Database:
        database = Database(older, FIRST, max_queue_bytes=10**6, read_wait_s=10, prepared=prepared)
        database.open()
        return database

    running, prepared = old_process(prepared=False), old_process(prepared=True)
    late = old_process(prepared=False)
    try:
        await running.write(put, size=1, keep_trying_s=5).done(10)
        schema.migrate(older, ROOM)
        for database in (running, prepared):
            await database.write(put, size=1, keep_trying_s=5).done(10)
            rows = await database.read(
                lambda connection: connection.execute(Statement("SELECT n FROM resp_responses"))
            )
            assert len(rows) >= 5
        with pytest.raises(Unavailable, match="newer release"):
            await late.read(lambda connection: connection.execute(Statement("SELECT 1")))
    finally:
        for database in (running, prepared, late):
            await database.aclose()
    for n in range(3):
        assert len(context(older, f"resp_late{n}")) == 8


async def test_downgrade_refused(location: Location, upstream: ScriptedUpstream) -> None:
    """The service does not start on tables of a newer release, and says why in a sentence."""
    with closing(connect(location, DatabaseTime())) as connection, writing(connection):
        connection.change(Statement("UPDATE resp_version SET version_num = 'store_9999'"))
    settings = settings_of(upstream, location)
    assert settings.store is not None
    with pytest.raises(SettingsError) as raised:
        open_store(settings.store, settings.server, lambda prefix: prefix, None, None)
    [line] = raised.value.problems
    assert line == "store: the tables of the store are those of a newer release; run that release"
