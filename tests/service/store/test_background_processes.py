"""Responses in the background of real processes, which are paused, killed and shut down."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.faults.processes import PROCESS_S, Serving, serve
from tests.invariants import check_wire
from tests.service.responses_api import PATH, events
from tests.service.wire import BOUND_S, ScriptedUpstream, bounded, client_of
from translator.service.config.store import Location

from .running import Gate, begin, cancel, ended
from .storing import settings_of
from .test_background_stream import ASK, after, id_in, reading, replayed

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def process(
    folder: Path, upstream: ScriptedUpstream, location: Location, **server: Any
) -> AsyncGenerator[tuple[Serving, httpx.AsyncClient]]:
    """A service on a database, and its client."""
    await asyncio.to_thread(folder.mkdir)
    url = location.target if location.kind == "postgresql" else f"sqlite:///{location.target}"
    section = f'[store]\nurl = "{url}"\nlease_s = 1.0'
    async with (
        serve(folder, upstream.url, sections=section, **server) as serving,
        httpx.AsyncClient(base_url=serving.url, timeout=BOUND_S, trust_env=False) as client,
    ):
        yield serving, client


async def test_two_processes(
    upstream: ScriptedUpstream, location: Location, tmp_path: Path
) -> None:
    """The responses of one are read to their end, and cancelled, at the other."""
    async with (
        process(tmp_path / "one", upstream, location) as (_, client),
        process(tmp_path / "other", upstream, location) as (_, other),
    ):
        # resumed at the other
        gate = upstream.script = Gate()
        async with reading(client, body=ASK) as reader:
            seen = await reader.until(b"output_text.delta")
        async with reading(other, f"{PATH}/{id_in(seen)}?stream=true&starting_after=5") as rest:
            gate.open.set()
            suffix = await bounded(rest.rest())
        body = await replayed(client, id_in(seen))
        assert body.startswith(seen)
        assert after(body, 5) == suffix

        # cancelled at the other
        gate = upstream.script = Gate()
        response = await begin(client)
        await bounded(gate.reached.wait())
        cancelled = await cancel(other, response["id"])
        assert cancelled == response | {"status": "cancelled"}
        await bounded(gate.gone.wait())


async def test_paused_owner(upstream: ScriptedUpstream, location: Location, tmp_path: Path) -> None:
    """Scenario 54: a process stands still for longer than its lease, and writes nothing after."""
    gate = upstream.script = Gate()
    async with (
        process(tmp_path / "one", upstream, location) as (serving, client),
        client_of(settings_of(upstream, location)) as other,
        reading(client, body=ASK) as reader,
    ):
        seen = await reader.until(b"output_text.delta")
        os.kill(serving.process.pid, signal.SIGSTOP)
        failed = await ended(other, id_in(seen))
        assert failed["status"] == "failed"
        gate.open.set()
        os.kill(serving.process.pid, signal.SIGCONT)
        body = await bounded(reader.rest())
        assert check_wire(events(body)) == failed
        assert await replayed(other, id_in(seen)) == body
        assert (await client.get(f"{PATH}/{id_in(seen)}")).json() == failed


async def test_background_poll_of_a_process_that_is_killed(
    upstream: ScriptedUpstream, location: Location, tmp_path: Path
) -> None:
    """Scenario 36: it is killed as soon as it has answered; what it answered is durable."""
    upstream.script = Gate()
    async with (
        process(tmp_path / "one", upstream, location) as (serving, client),
        client_of(settings_of(upstream, location)) as other,
    ):
        response = await begin(client)
        os.kill(serving.process.pid, signal.SIGKILL)
        failed = await ended(other, response["id"])
    assert failed["status"] == "failed"
    assert failed["error"]["message"] == "The process that produced the response has ended."


async def test_sigterm_with_runs(
    upstream: ScriptedUpstream, location: Location, tmp_path: Path
) -> None:
    """Those that end meanwhile are waited for; others have failed, and their followers hear of it."""
    waits, gate = Gate(), Gate()
    async with process(tmp_path / "one", upstream, location, drain_s=1) as (serving, client):
        upstream.script = waits
        async with reading(client, body=ASK) as reader:
            await reader.until(b"output_text.delta")
            upstream.script = gate
            soon = await begin(client)
            await bounded(gate.reached.wait())
            serving.process.send_signal(signal.SIGTERM)
            await serving.wait_for_log("shutting down")
            gate.open.set()
            final = check_wire(events(await bounded(reader.rest())))
        assert final["status"] == "failed"
        assert "The service is restarting" in final["error"]["message"]
        assert await asyncio.wait_for(serving.process.wait(), PROCESS_S) == 0
    async with client_of(settings_of(upstream, location)) as client:
        assert (await client.get(f"{PATH}/{final['id']}")).json() == final
        assert (await client.get(f"{PATH}/{soon['id']}")).json()["status"] == "completed"
