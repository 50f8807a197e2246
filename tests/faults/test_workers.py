"""`--workers N`: one parent, one port, and always N processes that answer there."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest

from tests.service.responses_api import ASK, events
from tests.service.wire import ScriptedUpstream, bounded
from translator.__main__ import main
from translator.service.base.background import CLOSING_S
from translator.service.database import readers, writer
from translator.service.server.shutdown_times import CLOSE_S
from translator.service.telemetry.otel import FLUSH_S

from .processes import PROCESS_S, Load, Serving, serve, slow_hello, write

pytestmark = pytest.mark.anyio


async def spread(served: Serving, count: int = 60) -> None:
    """Ask over as many connections, so that each worker has some."""
    limits = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(timeout=PROCESS_S, limits=limits) as client:
        asked = (client.post(served.url + "/v1/responses", json=ASK) for _ in range(count))
        for answer in await asyncio.wait_for(asyncio.gather(*asked), PROCESS_S):
            assert events(answer.content)[-1]["type"] == "response.completed"


async def changed(served: Serving, old: Sequence[int]) -> list[int]:
    """Wait until there are as many workers as before, none of them of the old ones."""
    async with asyncio.timeout(PROCESS_S):
        while len(served.workers) != len(old) or set(served.workers) & set(old):
            await asyncio.sleep(0.05)
    return served.workers


def is_there(pid: int) -> bool:
    """Whether it runs; one that nobody has waited for yet does not."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


async def gone(pids: Sequence[int]) -> None:
    async with asyncio.timeout(PROCESS_S):
        while any(map(is_there, pids)):
            await asyncio.sleep(0.05)


def test_the_parent_waits_for_all_that_a_worker_may_wait_for_at_its_end() -> None:
    """The store, spans, the traces' folder, and the feed in it, one after the other."""
    assert CLOSE_S >= writer.CLOSING_S + readers.CLOSING_S + FLUSH_S + 2 * CLOSING_S


async def test_several_processes_answer_on_one_port(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """One start-up line; all of them have work; SIGTERM ends all, with exit code 0."""
    async with serve(tmp_path, upstream.url, "--workers", "2") as served:
        workers = served.workers
        assert len(workers) == 2
        await spread(served)
        assert upstream.connections >= 2  # a pool of its own for each
        served.process.send_signal(signal.SIGTERM)
        assert await served.wait_for_exit() == 0
        assert served.process.stdout
        assert await served.process.stdout.read() == b""
    assert not any(map(is_there, workers))
    assert "Traceback" not in served.log


async def test_a_worker_that_dies_is_replaced(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    async with serve(tmp_path, upstream.url, workers=2) as served:
        [first, second] = served.workers
        os.kill(first, signal.SIGKILL)
        await served.wait_for_log(f"worker {first} has ended (-9)")
        async with asyncio.timeout(PROCESS_S):
            while len(served.workers) != 2 or first in served.workers:
                await asyncio.sleep(0.05)
        assert second in served.workers
        await spread(served)
        served.process.send_signal(signal.SIGINT)
        assert await served.wait_for_exit() == 130


async def test_a_rolling_restart_loses_nothing(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    """SIGHUP under load: each worker is replaced, and has the settings of now."""
    upstream.script = slow_hello
    async with serve(tmp_path, upstream.url, workers=2) as served:
        old = served.workers
        async with Load(served.url, 50).running() as load:
            await load.wait_for_more(50)
            write(tmp_path / "settings.toml", upstream.url, workers=2, max_body_bytes=1000)
            served.process.send_signal(signal.SIGHUP)
            await served.wait_for_log("all workers have been replaced")
            await changed(served, old)
            await load.wait_for_more(100)
        assert load.lost == []
        body = json.dumps(ASK | {"input": "x" * 2000})
        async with httpx.AsyncClient(timeout=PROCESS_S) as client:
            answer = await client.post(served.url + "/v1/responses", content=body)
        assert answer.status_code == 413
        served.process.send_signal(signal.SIGTERM)
        assert await served.wait_for_exit() == 0


async def test_settings_that_are_wrong_change_nothing(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    async with serve(tmp_path, upstream.url, workers=2) as served:
        old = served.workers
        write(tmp_path / "settings.toml", upstream.url, workers='"two"')
        served.process.send_signal(signal.SIGHUP)
        await served.wait_for_log("server.workers: expected int, got str")
        await served.wait_for_log("the other workers are kept")
        async with asyncio.timeout(PROCESS_S):  # one that has failed is a child until it is reaped
            while sorted(served.workers) != sorted(old):
                await asyncio.sleep(0.05)
        await spread(served)


async def test_workers_do_not_outlive_their_parent(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    async with serve(tmp_path, upstream.url, workers=2) as served:
        workers = served.workers
        served.process.kill()
        await gone(workers)


async def test_a_second_signal_ends_what_is_open(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """At once, and by an answer that clients retry."""
    arrived = asyncio.Event()

    async def script(call: object) -> None:
        arrived.set()
        await asyncio.Event().wait()

    upstream.script = script
    async with serve(tmp_path, upstream.url, workers=2) as served:
        async with httpx.AsyncClient(timeout=PROCESS_S) as client:
            asked = asyncio.ensure_future(client.post(served.url + "/v1/responses", json=ASK))
            await bounded(arrived.wait())
            for _ in range(2):
                served.process.send_signal(signal.SIGTERM)
                await asyncio.sleep(0.2)
            answer = await bounded(asked)
            assert answer.json()["error"]["code"] == "server_shutting_down"
            assert await served.wait_for_exit() == 0
    assert "Traceback" not in served.log


async def test_a_taken_port_is_told_by_the_parent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Though its own sockets could share it."""
    server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    file = tmp_path / "settings.toml"
    write(file, "http://up.test/v1", workers=2, port=port)
    assert await asyncio.to_thread(main, ["serve", "--config", str(file)]) == 2
    assert capsys.readouterr().err == (
        f"translator: cannot listen on 127.0.0.1:{port}: address already in use; end the program"
        " that listens there, or choose another port with --port NUMBER\n"
    )
    server.close()


def test_the_live_view_shows_one_process(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["serve", "--upstream", "http://up.test", "--workers", "2", "--watch"]
    assert main(words) == 2
    assert "--watch shows one process" in capsys.readouterr().err
