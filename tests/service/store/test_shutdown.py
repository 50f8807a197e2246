"""The end of a process whose database does not take what waits: bounded, and told in the log."""

from __future__ import annotations

import asyncio
import signal
import sys
import time

import pytest

from tests.service.wire import BOUND_S, ScriptedUpstream, bounded, client_of
from translator.service.config.store import Location
from translator.service.database import writer
from translator.service.database.errors import Unavailable

from . import postgres
from .meters import CountingMeter
from .storing import ask, settings_of
from .test_database import Gate, keys, opened, put

pytestmark = pytest.mark.anyio

LOST = "store: shutting down with 1 write that the database has not taken; it is lost"


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a database is away, the wait for it would be noticed by the bound of the test."""
    monkeypatch.setattr(writer, "CLOSING_S", 10 * BOUND_S)
    monkeypatch.setattr(writer, "STUCK_S", 0.2)


@pytest.mark.usefixtures("patient")
async def test_a_server_that_is_away_does_not_hold_up_the_end(
    upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    away = Location("postgresql", "postgresql://me:hunter2@127.0.0.1:9/name")
    began = time.monotonic()
    async with client_of(settings_of(upstream, away, write_wait_s=0.1)) as client:
        assert (await ask(client))["status"] == "completed"
    assert time.monotonic() - began < BOUND_S
    assert LOST in caplog.text
    assert "hunter2" not in caplog.text


@pytest.mark.usefixtures("patient")
async def test_neither_does_one_that_hangs(
    postgres_server: postgres.Server, postgres_location: Location, caplog: pytest.LogCaptureFixture
) -> None:
    """It is stopped in the middle of a transaction; what was committed before is there."""
    meter = CountingMeter()
    try:
        async with opened(postgres_location, meter=meter) as database:
            await database.write(put("k1"), size=1, keep_trying_s=BOUND_S).done(BOUND_S)
            postgres_server.signal(signal.SIGSTOP)
            write = database.write(put("k2"), size=1, keep_trying_s=BOUND_S)
            await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="shutting down"):
            await write.done(BOUND_S)
        assert LOST in caplog.text
        assert meter.losses == 1
    finally:
        postgres_server.signal(signal.SIGCONT)
    async with opened(postgres_location) as database:
        assert await keys(database) == ["k1"]


async def test_what_is_being_written_is_waited_for(
    location: Location, caplog: pytest.LogCaptureFixture
) -> None:
    """And all that waits behind it."""
    gate = Gate()
    async with opened(location) as database:
        database.write(gate, size=1, keep_trying_s=BOUND_S)
        await gate.passed()
        writes = [database.write(put(f"k{n}"), size=1, keep_trying_s=BOUND_S) for n in range(3)]
        closing = asyncio.ensure_future(database.aclose())
        await asyncio.sleep(0.05)
        assert not closing.done()
        with pytest.raises(Unavailable, match="shutting down"):
            database.write(put("k9"), size=1, keep_trying_s=BOUND_S)
        gate.open.set()
        await bounded(closing)
        assert [await one.done(BOUND_S) for one in writes] == ["k0", "k1", "k2"]
    assert "lost" not in caplog.text


async def test_a_write_that_was_done_is_not_held(location: Location) -> None:
    """While nothing else is to be written: a response may be megabytes."""
    async with opened(location) as database:
        work = put("k1")
        write = database.write(work, size=1, keep_trying_s=BOUND_S)
        await write.done(BOUND_S)
        before = sys.getrefcount(work)
        del write
        async with asyncio.timeout(BOUND_S):
            while sys.getrefcount(work) >= before:
                await asyncio.sleep(0.001)
