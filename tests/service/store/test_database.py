"""The database room: reads, grouped commits, and databases that do not do their part."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from tests.service.wire import BOUND_S, bounded
from translator.service.config.store import Location
from translator.service.database import schema, writer
from translator.service.database.connection import Connection
from translator.service.database.database import Database
from translator.service.database.errors import Unavailable
from translator.service.database.statement import DatabaseTime, Statement
from translator.service.store.room import ROOM

from . import postgres
from .meters import CountingMeter

pytestmark = pytest.mark.anyio

INSERT = Statement("INSERT INTO resp_meta (key, value) VALUES (:key, :value)")
KEEP = Statement(
    "INSERT INTO resp_meta (key, value) VALUES (:key, :value) ON CONFLICT (key) DO NOTHING"
)
DELETE = Statement("DELETE FROM resp_meta WHERE key = :key")
KEYS = Statement("SELECT key FROM resp_meta WHERE key LIKE 'k%' ORDER BY key")
NOW = Statement("SELECT db_now()")


@asynccontextmanager
async def opened(location: Location, **more: Any) -> AsyncGenerator[Database]:
    options: dict[str, Any] = {"max_queue_bytes": 1000, "read_wait_s": BOUND_S} | more
    database = Database(location, ROOM, **options)
    database.open()
    try:
        yield database
    finally:
        await bounded(database.aclose())


def put(key: str) -> Callable[[Connection], str]:
    def work(connection: Connection) -> str:
        connection.change(KEEP, {"key": key, "value": "v"})
        return key

    return work


def remove(key: str) -> Callable[[Connection], None]:
    def work(connection: Connection) -> None:
        connection.change(DELETE, {"key": key})

    return work


async def keys(database: Database) -> list[str]:
    return [key for (key,) in await database.read(lambda connection: connection.execute(KEYS))]


class Gate:
    """Work that holds the writer until it is opened."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.open = threading.Event()

    def __call__(self, _connection: Connection) -> None:
        self.reached.set()
        assert self.open.wait(BOUND_S)

    async def passed(self) -> None:
        await bounded(asyncio.to_thread(self.reached.wait))


async def test_what_is_written_can_be_read(location: Location) -> None:
    async with opened(location) as database:
        write = database.write(put("k1"), size=1, keep_trying_s=BOUND_S)
        assert await write.done(BOUND_S) == "k1"
        assert await keys(database) == ["k1"]
    async with opened(location) as database:
        assert await keys(database) == ["k1"]


async def test_writes_that_come_meanwhile_share_a_commit(location: Location) -> None:
    gate, meter = Gate(), CountingMeter()
    async with opened(location, meter=meter) as database:
        database.write(gate, size=1, keep_trying_s=BOUND_S)
        await gate.passed()
        writes = [database.write(put(f"k{n}"), size=1, keep_trying_s=BOUND_S) for n in range(9)]
        assert database.waiting == (9, 9)
        gate.open.set()
        assert await asyncio.gather(*(one.done(BOUND_S) for one in writes)) == [
            f"k{n}" for n in range(9)
        ]
        assert meter.commits == [1, 9]
        assert database.waiting == (0, 0)


async def test_one_bad_write_harms_no_other(location: Location) -> None:
    """The others of its transaction are written without it, each once."""
    gate, meter = Gate(), CountingMeter()
    async with opened(location, meter=meter) as database:
        database.write(gate, size=1, keep_trying_s=BOUND_S)
        await gate.passed()

        def bad(connection: Connection) -> None:
            connection.change(INSERT, {"key": "format", "value": "is there already"})

        first = database.write(put("k1"), size=1, keep_trying_s=BOUND_S)
        broken = database.write(bad, size=1, keep_trying_s=BOUND_S)
        second = database.write(put("k2"), size=1, keep_trying_s=BOUND_S)
        gate.open.set()
        await first.done(BOUND_S)
        await second.done(BOUND_S)
        with pytest.raises(Unavailable):
            await broken.done(BOUND_S)
        assert await keys(database) == ["k1", "k2"]
        assert meter.losses == 1


async def test_the_level_of_sync_is_that_of_the_transaction(location: Location) -> None:
    """A group is as durable as the strictest of its writes wants."""
    level = Statement("PRAGMA synchronous", postgresql="SHOW synchronous_commit")
    async with opened(location) as database:
        found: list[Any] = []
        for durable in (True, False, True):
            write = database.write(
                lambda connection: connection.execute(level)[0][0],
                size=1,
                keep_trying_s=BOUND_S,
                durable=durable,
            )
            found.append(await write.done(BOUND_S))
    assert found == ([2, 1, 2] if location.kind == "sqlite" else ["on", "off", "on"])


async def test_a_read_sees_one_state(location: Location) -> None:
    """What is committed while a read runs is not seen by its next statement."""
    first_done, go_on = threading.Event(), threading.Event()

    def twice(connection: Connection) -> tuple[Any, Any]:
        first = connection.execute(KEYS)
        first_done.set()
        assert go_on.wait(BOUND_S)
        return first, connection.execute(KEYS)

    async with opened(location) as database:
        reading = asyncio.ensure_future(database.read(twice))
        await bounded(asyncio.to_thread(first_done.wait))
        await database.write(put("k1"), size=1, keep_trying_s=BOUND_S).done(BOUND_S)
        go_on.set()
        assert await bounded(reading) == ([], [])


async def test_the_time_is_the_databases_and_can_be_set_forward(location: Location) -> None:
    time = DatabaseTime()
    async with opened(location, time=time) as database:

        async def now() -> float:
            return float((await database.read(lambda connection: connection.execute(NOW)))[0][0])

        before = await now()
        time.offset_s = 1000.0
        assert 1000 <= await now() - before < 1000 + BOUND_S


# --- giving up ---------------------------------------------------------------------------------


async def test_what_is_given_up_while_it_waits_is_never_written(location: Location) -> None:
    gate = Gate()
    async with opened(location) as database:
        database.write(gate, size=1, keep_trying_s=BOUND_S)
        await gate.passed()
        given_up = database.write(put("k1"), size=1, keep_trying_s=BOUND_S, undo=remove("k1"))
        other = database.write(put("k2"), size=1, keep_trying_s=BOUND_S)
        with pytest.raises(TimeoutError):
            await given_up.done(0.001)
        assert await given_up.give_up(0.001)
        gate.open.set()
        await other.done(BOUND_S)
        assert await keys(database) == ["k2"]


async def test_what_is_given_up_in_its_transaction_is_taken_out_of_it(location: Location) -> None:
    """Its statements have run; the others of the transaction are committed without it."""
    gate = Gate()

    def slow(connection: Connection) -> None:
        put("k1")(connection)
        if not gate.open.is_set():
            gate(connection)

    async with opened(location) as database:
        given_up = database.write(slow, size=1, keep_trying_s=BOUND_S, undo=remove("k1"))
        await gate.passed()
        assert await given_up.give_up(0.001)
        gate.open.set()
        await database.write(put("k2"), size=1, keep_trying_s=BOUND_S).done(BOUND_S)
        assert await keys(database) == ["k2"]


class SlowCommits(Database):
    """A database whose commits wait for a gate."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.gate = Gate()

    def _connect(self) -> Connection:
        connection = super()._connect()
        commit = connection.commit

        def slow() -> None:
            self.gate(connection)
            commit()

        connection.commit = slow  # type: ignore[method-assign]
        return connection


@pytest.mark.parametrize("in_time", [True, False])
async def test_a_commit_that_has_begun_is_waited_for_or_undone(
    location: Location, in_time: bool
) -> None:
    """Who gives up is told whether it succeeded; what he was told has failed is not there."""
    database = SlowCommits(location, ROOM, max_queue_bytes=1000, read_wait_s=BOUND_S)
    database.open()
    try:
        write = database.write(put("k1"), size=1, keep_trying_s=BOUND_S, undo=remove("k1"))
        await database.gate.passed()
        if in_time:
            giving_up = asyncio.ensure_future(write.give_up(BOUND_S))
            await asyncio.sleep(0)
            database.gate.open.set()
            assert await bounded(giving_up) is False
        else:
            assert await write.give_up(0.001) is True
            database.gate.open.set()
        await database.write(put("k2"), size=1, keep_trying_s=BOUND_S).done(BOUND_S)
        assert await keys(database) == (["k1", "k2"] if in_time else ["k2"])
    finally:
        database.gate.open.set()
        await bounded(database.aclose())


# --- bounds ------------------------------------------------------------------------------------


async def test_a_full_queue_drops_what_nobody_waits_for_first(location: Location) -> None:
    gate = Gate()
    async with opened(location) as database:
        database.write(gate, size=1, keep_trying_s=BOUND_S)
        await gate.passed()
        unwatched = database.write(put("k0"), size=400, keep_trying_s=BOUND_S)
        watched = database.write(put("k1"), size=400, keep_trying_s=BOUND_S)
        waiting = asyncio.ensure_future(watched.done(BOUND_S))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable):  # larger than the queue: nothing is dropped for it
            database.write(put("k2"), size=1001, keep_trying_s=BOUND_S)
        third = database.write(put("k3"), size=600, keep_trying_s=BOUND_S)
        third_waits = asyncio.ensure_future(third.done(BOUND_S))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            database.write(put("k4"), size=1, keep_trying_s=BOUND_S)
        gate.open.set()
        await bounded(asyncio.gather(waiting, third_waits))
        with pytest.raises(Unavailable):
            await unwatched.done(BOUND_S)
        assert await keys(database) == ["k1", "k3"]


async def test_closing_writes_what_waits(location: Location) -> None:
    gate = Gate()
    async with opened(location) as database:
        database.write(gate, size=1, keep_trying_s=BOUND_S)
        await gate.passed()
        database.write(put("k1"), size=1, keep_trying_s=BOUND_S)
        gate.open.set()
    async with opened(location) as database:
        assert await keys(database) == ["k1"]


async def test_a_statement_that_takes_too_long_is_ended(location: Location) -> None:
    endless = Statement(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    )
    async with opened(location, read_wait_s=0.05) as database:
        for _ in range(4):  # twice as often as there are readers
            with pytest.raises(Unavailable):
                await database.read(lambda connection: connection.execute(endless))
        for _ in range(100):
            try:
                assert await keys(database) == []
                break
            except Unavailable:  # the readers still end the last ones
                await asyncio.sleep(0.05)
        else:
            pytest.fail("the readers are busy for ever")


# --- faults ------------------------------------------------------------------------------------


async def test_a_file_that_another_process_locks_is_late_but_right(tmp_path: Path) -> None:
    location = Location("sqlite", str(tmp_path / "store.db"))
    schema.migrate(location, ROOM)
    with closing(sqlite3.connect(location.target, isolation_level=None)) as foreign:
        async with opened(location) as database:
            foreign.execute("BEGIN EXCLUSIVE")
            write = database.write(put("k1"), size=1, keep_trying_s=BOUND_S)
            with pytest.raises(TimeoutError):
                await write.done(0.1)
            foreign.execute("COMMIT")
            assert await write.done(BOUND_S) == "k1"


@pytest.fixture
def file(tmp_path: Path) -> tuple[Location, int]:
    """A SQLite file with the tables of the store, and its size."""
    location = Location("sqlite", str(tmp_path / "store.db"))
    schema.migrate(location, ROOM)
    return location, (tmp_path / "store.db").stat().st_size


async def test_a_full_file_fails_writes_until_there_is_room(file: tuple[Location, int]) -> None:
    location, size = file

    def much(connection: Connection) -> None:
        connection.change(INSERT, {"key": "k1", "value": "x" * 100_000})

    async with opened(location, max_file_bytes=size + 40_000) as database:
        with pytest.raises(Unavailable):
            await database.write(much, size=1, keep_trying_s=0.3).done(BOUND_S)
        assert await database.write(put("k2"), size=1, keep_trying_s=BOUND_S).done(BOUND_S)
        assert await keys(database) == ["k2"]


async def test_a_lost_connection_is_made_again(
    postgres_server: postgres.Server, postgres_location: Location
) -> None:
    """What waits is written, and who reads sees nothing of it."""
    end_all = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() AND datname = current_database()"
    )
    async with opened(postgres_location) as database:
        await database.write(put("k1"), size=1, keep_trying_s=BOUND_S).done(BOUND_S)
        assert await keys(database) == ["k1"]
        postgres_server.execute("migrated", end_all)
        assert await keys(database) == ["k1"]
        await database.write(put("k2"), size=1, keep_trying_s=BOUND_S).done(BOUND_S)
        assert await keys(database) == ["k1", "k2"]


class LosesCommits(Database):
    """A database whose first commit is done, but whose connection breaks before it says so."""

    lost = 0

    def _connect(self) -> Connection:
        connection: Any = super()._connect()
        commit = connection.commit

        def losing() -> None:
            commit()
            if not self.lost:
                self.lost = 1
                connection._driver.close()
                raise postgres.psycopg.OperationalError("the connection is lost")

        connection.commit = losing
        return connection


@pytest.mark.parametrize("gives_up", [False, True])
async def test_a_commit_of_unknown_outcome(
    postgres_location: Location, gives_up: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is done again, which does not matter; where it is given up, it is undone."""
    monkeypatch.setattr(writer, "FIRST_PAUSE_S", 0.3)
    database = LosesCommits(postgres_location, ROOM, max_queue_bytes=1000, read_wait_s=BOUND_S)
    database.open()
    try:
        write = database.write(put("k1"), size=1, keep_trying_s=BOUND_S, undo=remove("k1"))
        if gives_up:
            while not database.lost or database.waiting == (0, 0):
                await asyncio.sleep(0.001)
            assert await write.give_up(0.001)
        else:
            assert await write.done(BOUND_S) == "k1"
        await database.write(put("k2"), size=1, keep_trying_s=BOUND_S).done(BOUND_S)
        while database.waiting != (0, 0):
            await asyncio.sleep(0.001)
        await database.write(put("k3"), size=1, keep_trying_s=BOUND_S).done(BOUND_S)
        assert await keys(database) == (["k2", "k3"] if gives_up else ["k1", "k2", "k3"])
    finally:
        await bounded(database.aclose())


async def test_a_server_that_hangs_is_waited_for_only_so_long(
    postgres_server: postgres.Server, postgres_location: Location
) -> None:
    async with opened(postgres_location, read_wait_s=0.2) as database:
        await database.write(put("k1"), size=1, keep_trying_s=BOUND_S).done(BOUND_S)
        postgres_server.signal(signal.SIGSTOP)
        try:
            with pytest.raises(Unavailable):
                await bounded(keys(database))
            write = database.write(put("k2"), size=1, keep_trying_s=BOUND_S, undo=remove("k2"))
            with pytest.raises(TimeoutError):
                await write.done(0.1)
        finally:
            postgres_server.signal(signal.SIGCONT)
        await write.done(BOUND_S)
        async with opened(postgres_location) as other:
            assert await keys(other) == ["k1", "k2"]
