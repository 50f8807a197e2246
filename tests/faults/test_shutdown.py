"""SIGTERM: nothing new, what is open is finished while there is time, and then ends as a failure."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.service.chat_bodies import HELLO
from tests.service.responses_api import ASK, events
from tests.service.wire import BOUND_S, Call, ScriptedUpstream, bounded

from .processes import Load, Serving, serve, slow_hello

pytestmark = pytest.mark.anyio


class Held:
    """An upstream that begins its answer and goes on when it is told."""

    def __init__(self, upstream: ScriptedUpstream) -> None:
        upstream.script = self._script
        self.arrived = asyncio.Semaphore(0)
        self.go = asyncio.Event()

    async def _script(self, call: Call) -> None:
        if b'"stream":true' not in call.body.replace(b" ", b""):
            self.arrived.release()
            await call.gone()
            return
        await call.head()
        await call.send(*HELLO[:2])
        self.arrived.release()
        await self.go.wait()
        await call.send(*HELLO[2:])
        await call.end()


@pytest.fixture
def held(upstream: ScriptedUpstream) -> Held:
    return Held(upstream)


@asynccontextmanager
async def websocket(served: Serving) -> AsyncGenerator[ClientConnection]:
    async with connect(served.url.replace("http", "ws", 1) + "/v1/responses") as socket:
        yield socket


async def ask(socket: ClientConnection) -> None:
    await socket.send(json.dumps({"type": "response.create", "model": "m", "input": "Hi"}))


async def hear(socket: ClientConnection) -> list[dict[str, Any]]:
    """The events of one turn."""
    found: list[dict[str, Any]] = []
    while not found or found[-1]["type"] not in ("response.completed", "response.failed"):
        found.append(json.loads(await bounded(socket.recv())))
    return found


async def close_code(socket: ClientConnection) -> int | None:
    with pytest.raises(ConnectionClosed) as closed:
        await bounded(socket.recv())
    return closed.value.rcvd and closed.value.rcvd.code


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGHUP])
async def test_open_answers_are_finished(
    upstream: ScriptedUpstream, held: Held, tmp_path: Path, sign: signal.Signals
) -> None:
    """Over HTTP and on a WebSocket; the idle WebSocket is told of the restart at once."""
    async with (
        serve(tmp_path, upstream.url) as served,
        httpx.AsyncClient(timeout=BOUND_S) as client,
    ):
        async with websocket(served) as idle, websocket(served) as busy:
            stream = asyncio.ensure_future(client.post(served.url + "/v1/responses", json=ASK))
            await ask(busy)
            for _ in range(2):
                await bounded(held.arrived.acquire())
            served.process.send_signal(sign)
            assert await close_code(idle) == 1012
            with pytest.raises(httpx.ConnectError):
                await httpx.AsyncClient().get(served.url + "/healthz")
            held.go.set()
            answer = await bounded(stream)
            assert events(answer.content)[-1]["type"] == "response.completed"
            assert (await hear(busy))[-1]["type"] == "response.completed"
            assert await close_code(busy) == 1012
        assert await served.wait_for_exit() == 0
    assert "Traceback" not in served.log


async def test_a_new_turn_is_sent_elsewhere(
    upstream: ScriptedUpstream, held: Held, tmp_path: Path
) -> None:
    """With the code on which clients open another connection."""
    async with serve(tmp_path, upstream.url) as served, websocket(served) as socket:
        await ask(socket)
        await bounded(held.arrived.acquire())
        served.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(BOUND_S):
            refused: dict[str, Any] = {"type": ""}
            while refused["type"] != "error":
                frame = {"type": "response.create", "model": "m", "input": "Hi", "stream_id": "b"}
                await socket.send(json.dumps(frame))
                refused = json.loads(await socket.recv())
                await asyncio.sleep(0.05)
        assert refused["error"]["code"] == "websocket_connection_limit_reached"
        held.go.set()
        assert (await hear(socket))[-1]["type"] == "response.completed"
        assert await served.wait_for_exit() == 0


async def test_at_the_end_of_that_time_uploads_are_refused(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """A body that is still coming by then would hold the end up."""
    async with serve(tmp_path, upstream.url, drain_s=0.5) as served:
        host, _, port = served.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        head = b"POST /v1/responses HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n"
        writer.write(head + b"content-length: 100\r\n\r\n{")
        await bounded(reader.readuntil(b" 100 Continue\r\n\r\n"))  # the body is being read
        served.process.send_signal(signal.SIGTERM)
        answer = await bounded(reader.read())
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b'"server_shutting_down"' in answer
        assert await served.wait_for_exit() == 0
        writer.close()
    assert "Traceback" not in served.log


async def test_at_the_end_of_that_time_answers_fail(
    upstream: ScriptedUpstream, held: Held, tmp_path: Path
) -> None:
    """So that clients ask again: what has begun ends in a failure, what has not is a 503."""
    async with (
        serve(tmp_path, upstream.url, drain_s=0.5) as served,
        httpx.AsyncClient(timeout=BOUND_S, base_url=served.url + "/v1") as client,
        websocket(served) as socket,
    ):
        chat = {"model": "m", "messages": [], "stream": True}
        stream = asyncio.ensure_future(client.post("/responses", json=ASK))
        whole = asyncio.ensure_future(client.post("/responses", json=ASK | {"stream": False}))
        passed = asyncio.ensure_future(client.post("/chat/completions", json=chat))
        await ask(socket)
        for _ in range(4):
            await bounded(held.arrived.acquire())
        served.process.send_signal(signal.SIGTERM)
        found = events((await bounded(stream)).content)
        assert [event["type"] for event in found][-2:] == ["error", "response.failed"]
        assert found[-1]["response"]["error"]["code"] == "server_error"
        assert "restarting" in found[-1]["response"]["error"]["message"]
        answer = await bounded(whole)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["error"]["code"] == "server_shutting_down"
        with pytest.raises(httpx.RemoteProtocolError):
            await bounded(passed)
        turn = await hear(socket)
        assert turn[-1]["response"]["error"]["code"] == "server_error"
        assert await close_code(socket) == 1012
        assert await served.wait_for_exit() == 0
    assert "Traceback" not in served.log


@pytest.mark.parametrize("interrupts", [2, 3])
async def test_a_second_interrupt_ends_streams_in_a_failure(
    upstream: ScriptedUpstream, held: Held, tmp_path: Path, interrupts: int
) -> None:
    """The first says what it waits for. SIGTERM twice, as service managers send it, is one."""
    async with (
        serve(tmp_path, upstream.url) as served,
        httpx.AsyncClient(timeout=BOUND_S, base_url=served.url + "/v1") as client,
        websocket(served) as socket,
    ):
        stream = asyncio.ensure_future(client.post("/responses", json=ASK))
        await ask(socket)
        for _ in range(2):
            await bounded(held.arrived.acquire())
        served.process.send_signal(signal.SIGINT)
        await served.wait_for_log("waiting up to 30 s for 2 open responses")
        await served.wait_for_log("press Ctrl-C again to end them now")
        served.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.2)
        assert not stream.done()
        served.process.send_signal(signal.SIGINT)
        found = events((await bounded(stream)).content)
        assert [event["type"] for event in found][-2:] == ["error", "response.failed"]
        assert (await hear(socket))[-1]["type"] == "response.failed"
        if interrupts == 3:
            served.process.send_signal(signal.SIGINT)
        assert await served.wait_for_exit() == 130
    assert "shutting down: ending 2 open responses now" in served.log
    assert "Traceback" not in served.log


async def test_a_client_that_takes_nothing_does_not_keep_the_service(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """Neither one that does not read its answer, nor one that does not finish its request."""
    full = asyncio.Event()

    async def script(call: Call) -> None:
        await call.head()
        piece = b"data: " + json.dumps({"choices": [{"delta": {"content": "x" * 10_000}}]}).encode()
        while True:
            sending = asyncio.ensure_future(call.send(piece + b"\n\n"))
            if not (await asyncio.wait((sending,), timeout=0.5))[0]:
                full.set()
            await sending

    upstream.script = script
    body = json.dumps(ASK).encode()
    async with serve(tmp_path, upstream.url, drain_s=0.2) as served:
        host, _, port = served.url.removeprefix("http://").partition(":")
        writers: list[asyncio.StreamWriter] = []
        for length in (len(body), len(body) + 1):
            _, writer = await asyncio.open_connection(host, int(port), limit=1024)
            head = b"POST /v1/responses HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % length
            writer.write(head + body)
            writers.append(writer)
        await asyncio.wait_for(full.wait(), 2 * BOUND_S)
        served.process.send_signal(signal.SIGTERM)
        assert await served.wait_for_exit() == 0
        for writer in writers:
            writer.transport.abort()
    assert "Traceback" not in served.log


async def test_a_new_process_takes_over_and_nothing_is_lost(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """Two processes share the port; the old one ends under load, in its time to drain."""
    upstream.script = slow_hello
    async with serve(tmp_path, upstream.url, reuse_port=True) as old:
        port = old.url.rpartition(":")[2]
        async with Load(old.url, 50).running() as load:
            await load.wait_for_more(50)
            async with serve(tmp_path, upstream.url, "--port", port, reuse_port=True) as new:
                await load.wait_for_more(20)
                old.process.send_signal(signal.SIGTERM)
                assert await old.wait_for_exit() == 0
                await load.wait_for_more(100)
                assert load.lost == []
                load._over = True
                await load.wait_for_more(1)
                new.process.send_signal(signal.SIGTERM)
                assert await new.wait_for_exit() == 0
    assert load.lost == []
