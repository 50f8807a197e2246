"""Databases that fail while the service runs: what clients are told, and what is stored later."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.invariants import check_wire
from tests.service.chat_bodies import chunk
from tests.service.responses_api import PATH, events
from tests.service.test_metrics import scrape
from tests.service.wire import BOUND_S, Call, ScriptedUpstream, bounded, client_of, serving
from translator.service.config.store import Location
from translator.service.database import connection as connections
from translator.service.database.connection import Connection
from translator.service.database.schema import migrate
from translator.service.store.keep import Draft, keep
from translator.service.store.room import ROOM

from . import postgres
from .storing import DONE, Service, ask, counts, refused, settings_of
from .test_durability import Fault, fault, module

__all__ = ["fault"]

pytestmark = pytest.mark.anyio

ON_A_FILE = pytest.mark.parametrize("location", ["sqlite"], indirect=True)
HI = {"model": "m", "input": "Hi"}


async def last_of(client: httpx.AsyncClient, **fields: Any) -> Any:
    """The response in the last event of a stream, whose events are in order."""
    answer = await client.post(PATH, json=HI | {"stream": True} | fields)
    assert answer.status_code == 200
    wire = events(answer.content)
    return check_wire(wire, retracted=wire[-1]["type"] == "response.failed")


async def status_of(client: httpx.AsyncClient, response_id: str) -> int:
    return (await client.get(f"{PATH}/{response_id}")).status_code


async def stored(client: httpx.AsyncClient, response_id: str) -> Any:
    """A response that is stored late."""
    async with asyncio.timeout(BOUND_S):
        while (answer := await client.get(f"{PATH}/{response_id}")).status_code != 200:
            await asyncio.sleep(0.02)
    return answer.json()


# --- commits that take long ---------------------------------------------------------------------


class SlowCommits:
    """Holds the commits of what is written, when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.may_end = threading.Event()
        self.may_end.set()
        self.reached = threading.Event()
        for one in (connections.SqliteConnection, connections.PostgresConnection):
            monkeypatch.setattr(one, "commit", self._slow(one.commit))

    def _slow(self, original: Any) -> Any:
        def commit(connection: Any) -> None:
            self.reached.set()
            assert self.may_end.wait(BOUND_S)
            original(connection)

        return commit


@pytest.mark.parametrize("late", [False, True])
async def test_late_commit_after_giving_up(
    service: Service, location: Location, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    """A commit that has begun is waited for twice as long; what the client is told then holds."""
    commits = SlowCommits(monkeypatch)
    async with service(write_wait_s=0.3) as client:
        first = await ask(client, store=True)
        before = counts(location)
        commits.may_end.clear()
        commits.reached.clear()
        asking = asyncio.ensure_future(last_of(client, store=True))
        await bounded(asyncio.to_thread(commits.reached.wait))
        if not late:
            await asyncio.sleep(0.4)  # it has given up, and waits for the commit
            commits.may_end.set()
        final = await bounded(asking)
        commits.may_end.set()
        assert final["status"] == ("failed" if late else "completed")
        await ask(client, store=True)  # behind which nothing waits
        assert await status_of(client, final["id"]) == (404 if late else 200)
        assert await status_of(client, first["id"]) == 200
    expected = 1 if late else 2
    assert counts(location)[1] == before[1] + expected


# --- a database that takes nothing ----------------------------------------------------------------


@ON_A_FILE
async def test_disk_full(service: Service, location: Location) -> None:
    """A request that needs the store fails, any other does not; once there is room, all is well."""
    text = "x" * 8_000
    async with service(max_store_bytes=400_000, write_wait_s=0.2) as client:
        ids: list[str] = []
        async with asyncio.timeout(BOUND_S):
            while (last := await last_of(client, input=text, store=True))["status"] == "completed":
                ids.append(last["id"])
        assert last["error"]["code"] == "server_error"
        assert len(ids) > 5
        assert (await refused(client, input=text, store=True))[0] == 400
        assert await status_of(client, last["id"]) == 404
        async with asyncio.timeout(BOUND_S):  # so that nobody knows yet
            while (await scrape(client))("store_queue_writes"):
                await asyncio.sleep(0.01)
        defaulted = await last_of(client, input=text)
        assert (defaulted["status"], defaulted["store"]) == ("completed", True)
        known = await last_of(client, input=text)
        assert (known["status"], known["store"]) == ("completed", False)
        assert await status_of(client, defaulted["id"]) == 404
        page = await scrape(client)
        assert page("store_responses_total", result="failed") == 1
        assert page("store_responses_total", result="late") == 1
        assert page("store_responses_total", result="unavailable") == 2  # one of them was refused
        assert page("store_errors_total", operation="write") > 0
        for one in ids:
            assert await status_of(client, one) == 200
            assert (await client.delete(f"{PATH}/{one}")).status_code == 200
        again = await last_of(client, input=text, store=True)
        assert again["status"] == "completed"
        assert (await stored(client, defaulted["id"])) == defaulted
        assert await status_of(client, last["id"]) == 404


async def test_one_bad_turn_in_batch(
    service: Service, location: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of five that share a transaction, one cannot be written: the others are, each once."""
    gate, reached = threading.Event(), threading.Event()

    def faulty(connection: Connection, draft: Draft, new_id: Any) -> None:
        reached.set()
        assert gate.wait(BOUND_S)
        keep(connection, draft, new_id)
        if b"bad" in bytes(draft.source[0]):  # type: ignore[arg-type]
            raise ValueError("cannot be written")

    monkeypatch.setattr(module, "keep", faulty)
    async with service(write_wait_s=BOUND_S) as client:
        first = asyncio.ensure_future(last_of(client, store=True))
        await bounded(asyncio.to_thread(reached.wait))
        asked = ["one", "two", "bad", "three", "four"]
        asking = [asyncio.ensure_future(last_of(client, input=it, store=True)) for it in asked]
        async with asyncio.timeout(BOUND_S):
            while (await scrape(client))("store_queue_writes") < len(asked):
                await asyncio.sleep(0.01)
        gate.set()
        assert (await bounded(first))["status"] == "completed"
        found = await bounded(asyncio.gather(*asking))
        expected = ["failed" if it == "bad" else "completed" for it in asked]
        assert [one["status"] for one in found] == expected
        statuses = [await status_of(client, one["id"]) for one in found]
        assert statuses == [404 if it == "bad" else 200 for it in asked]
    assert counts(location)[1] == 5


@ON_A_FILE
async def test_sqlite_locked_by_other(
    service: Service, location: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process locks the file, for a moment: late, but right; for long: as a full disk."""
    monkeypatch.setattr(connections, "BUSY_S", 0.1)
    with closing(sqlite3.connect(location.target, isolation_level=None)) as other:
        async with service(write_wait_s=BOUND_S) as client:
            first = await ask(client, store=True)
            other.execute("BEGIN EXCLUSIVE")
            asking = asyncio.ensure_future(last_of(client, store=True))
            await asyncio.sleep(0.2)
            assert not asking.done()
            other.execute("ROLLBACK")
            soon = await bounded(asking)
            assert soon["status"] == "completed"
            assert await status_of(client, soon["id"]) == 200
        async with service(write_wait_s=0.2) as client:
            other.execute("BEGIN EXCLUSIVE")
            needs = await bounded(last_of(client, store=True))
            assert needs["status"] == "failed"
            async with asyncio.timeout(BOUND_S):  # so that nobody knows of the lock
                while (await scrape(client))("store_queue_writes"):
                    await asyncio.sleep(0.01)
            late = await bounded(last_of(client))
            assert late["status"] == "completed"
            assert await status_of(client, first["id"]) == 200  # readers do not wait for it
            other.execute("ROLLBACK")
            if late["store"]:
                assert await stored(client, late["id"]) == late
            assert await status_of(client, needs["id"]) == 404


def damage(file: Path) -> None:
    """Overwrite all but the first page, which has the names of the tables."""
    size = file.stat().st_size
    with file.open("r+b") as damaged:
        damaged.seek(4096)
        damaged.write(b"\xa5" * (size - 4096))


def restore(file: Path, backup: Path) -> None:
    for side in ("", "-wal", "-shm"):
        file.with_name(file.name + side).unlink(missing_ok=True)
    shutil.copy(backup, file)


@ON_A_FILE
async def test_corrupt_file(service: Service, location: Location) -> None:
    """It is a 503, or not stored, and is not tried for ever; a start with it is refused."""
    async with service() as client:
        known = [(await ask(client, input="x" * 5000))["id"] for _ in range(5)]
    file = Path(location.target)
    kept = file.with_suffix(".kept")
    shutil.copy(file, kept)
    async with service(write_wait_s=BOUND_S) as client:
        async with asyncio.timeout(BOUND_S):  # what reads by itself has done so
            while not (await scrape(client))("store_bytes"):
                await asyncio.sleep(0.01)
        damage(file)
        assert await status_of(client, known[0]) == 503
        status, error = await refused(client, previous_response_id=known[0])
        assert (status, error["code"]) == (503, "store_unavailable")
        final = await last_of(client, store=True)  # at once, though it may wait for BOUND_S
        assert (final["status"], final["error"]["code"]) == ("failed", "server_error")
        page = await scrape(client)
        assert page("store_queue_writes") == 0
        assert page("store_lost_total") == 1
        final = await last_of(client)
        assert final["status"] == "completed"
        restore(file, kept)
        assert await status_of(client, known[0]) == 200  # it is restored
        final = await last_of(client, store=True, previous_response_id=known[0])
        assert final["status"] == "completed"


# --- a server that goes away ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def own_server() -> Iterator[postgres.Server]:
    """A server that a test may stop."""
    with postgres.server(postgres.needed()) as server:
        yield server


class Tokens:
    """A script of a stream whose tokens come one by one, as they are asked for."""

    def __init__(self) -> None:
        self.wanted: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def __call__(self, call: Call) -> None:
        await call.head()
        while (token := await self.wanted.get()) is not None:
            await call.send(token)
        await call.send(chunk({}, "stop"), DONE)
        await call.end()

    def say(self, *texts: str) -> None:
        for text in texts:
            self.wanted.put_nowait(chunk({"content": text}))

    def end(self) -> None:
        self.wanted.put_nowait(None)


async def answered(lines: Any, tokens: Tokens, number: int) -> list[str]:
    """So many tokens, each of which is there before the next one is asked for."""
    found: list[str] = []
    for n in range(number):
        tokens.say(f"t{n} ")
        async with asyncio.timeout(BOUND_S):
            while not (line := await anext(lines)).startswith("event: response.output_text.delta"):
                pass
        found.append(line)
    return found


@pytest.mark.parametrize("needs", [False, True])
async def test_database_gone_during_stream(
    upstream: ScriptedUpstream, own_server: postgres.Server, needs: bool
) -> None:
    """Tokens come all the same. Once it is back, what was late is stored, and nothing twice."""
    name = f"gone_{needs}".lower()
    own_server.create(name)
    location = Location("postgresql", own_server.url(name))
    migrate(location, ROOM)
    tokens = upstream.script = Tokens()
    settings = settings_of(upstream, location, write_wait_s=1.0)
    async with (
        serving(settings) as url,
        httpx.AsyncClient(base_url=url, timeout=BOUND_S) as client,
    ):
        tokens.say("Hello")
        tokens.end()
        first = await bounded(last_of(client, store=True))
        assert first["status"] == "completed"
        body = HI | {"stream": True} | ({"store": True} if needs else {})
        tokens.say("Hello")  # with which the response begins
        async with client.stream("POST", PATH, json=body) as answer:
            lines = answer.aiter_lines()
            assert len(await answered(lines, tokens, 10)) == 10
            await asyncio.to_thread(own_server.stop)
            try:
                assert len(await answered(lines, tokens, 10)) == 10
                tokens.end()
                rest = [line async for line in lines if line.startswith("event: ")]
                end = "response.failed" if needs else "response.completed"
                assert rest[-1] == f"event: {end}"
                assert await status_of(client, first["id"]) == 503
            finally:
                await asyncio.to_thread(own_server.start)
        expected = 1 if needs else 2
        async with asyncio.timeout(BOUND_S):
            while await status_of(client, first["id"]) != 200:
                await asyncio.sleep(0.02)
            while counts(location)[1] < expected:
                await asyncio.sleep(0.02)
        tokens.say("Hello")
        tokens.end()
        again = await last_of(client, store=True, previous_response_id=first["id"])
        assert again["status"] == "completed"
        assert counts(location)[1] == expected + 1
        assert (await scrape(client))("store_queue_writes") == 0


async def test_database_hangs(
    upstream: ScriptedUpstream,
    postgres_server: postgres.Server,
    postgres_location: Location,
) -> None:
    """What waits is bounded, and tokens come; it goes on where it was stopped."""
    settings = settings_of(
        upstream, postgres_location, write_wait_s=0.2, read_wait_s=0.2, max_queue_bytes=20_000
    )
    async with (
        client_of(settings_of(upstream, postgres_location)) as patient,
        client_of(settings) as client,
    ):
        first = await stored(client, (await ask(client))["id"])
        postgres_server.signal(signal.SIGSTOP)
        try:
            needs = await bounded(last_of(client, store=True))
            assert needs["status"] == "failed"
            assert await status_of(client, first["id"]) == 503
            late = [await bounded(last_of(client, input="x" * 3000)) for _ in range(20)]
            assert {one["status"] for one in late} == {"completed"}
            page = await scrape(client)
            assert 0 < page("store_queue_bytes") <= 20_000
            assert page("store_lost_total") > 5  # the oldest were dropped
        finally:
            postgres_server.signal(signal.SIGCONT)
        assert await stored(patient, late[-1]["id"]) == late[-1]
        assert await status_of(patient, needs["id"]) == 404
        again = await last_of(patient, store=True, previous_response_id=first["id"])
        assert again["status"] == "completed"
        assert (await scrape(client))("store_queue_bytes") == 0


async def test_a_hanging_store_holds_no_more_than_its_bounds(
    service: Service, fault: Fault
) -> None:
    """The queue is full of what nobody waits for, and the newest response takes its place."""
    fault.waits.clear()
    async with service(write_wait_s=0.05, max_queue_bytes=9_000) as client:
        await ask(client)
        sizes: list[float] = []
        for _ in range(8):
            await ask(client, input="x" * 3000)
            sizes.append((await scrape(client))("store_queue_bytes"))
        assert max(sizes) <= 9_000
        assert sizes[-1] == sizes[-3] > 0
        large = await ask(client, input="x" * 9_000)
        assert await status_of(client, large["id"]) == 404
        fault.waits.set()
