"""How a WebSocket ends: the log gives the real reason, whoever had it."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import websockets
from starlette.types import Message
from websockets.asyncio.client import ClientConnection

from tests.service.log import Log
from tests.service.wire import (
    BOUND_S,
    ScriptedUpstream,
    bounded,
    hello_then_silence,
    lifespan_of,
    make_settings,
    serving,
)
from translator.service.base.drain import Drain
from translator.service.http.app import create_app
from translator.service.server.websocket_protocol import WebSocketProtocol

from .client import CREATE, ask, open_socket
from .test_bounds import HANDSHAKE, frame

pytestmark = pytest.mark.anyio


async def outcome_of(log: Log, method: str = "GET") -> str:
    """The outcome in the line of the only connection, or turn."""
    async with asyncio.timeout(BOUND_S):
        while not (found := [one for one in log.objects if one.get("method") == method]):
            await asyncio.sleep(0.01)
    [line] = found
    outcome: str = line.get("outcome", "")
    return outcome


async def close(socket: ClientConnection, code: int) -> None:
    await socket.close(code)


async def close_without_code(socket: ClientConnection) -> None:
    socket.transport.write(frame(8, b""))


async def vanish(socket: ClientConnection) -> None:
    socket.transport.abort()


async def end_of_file(socket: ClientConnection) -> None:
    socket.transport.write_eof()


BY_CLIENT: dict[str, tuple[Callable[[ClientConnection], Awaitable[None]], str]] = {
    "closed": (lambda socket: close(socket, 1000), "it closed the connection (1000)"),
    "went away": (lambda socket: close(socket, 1001), "it went away (1001)"),
    "own code": (lambda socket: close(socket, 4000), "it closed the connection (4000)"),
    "its fault is found by itself": (
        lambda socket: close(socket, 1002),
        "it closed the connection (1002)",
    ),
    "no code": (close_without_code, "it closed the connection without a code (1005)"),
    "reset": (vanish, "connection lost"),
    "end of file": (end_of_file, "connection lost"),
}


@pytest.mark.parametrize("name", BY_CLIENT)
async def test_a_client_that_leaves(upstream: ScriptedUpstream, log: Log, name: str) -> None:
    leave, reason = BY_CLIENT[name]
    async with upstream.service() as base, open_socket(base) as socket:
        await ask(socket)
        await bounded(leave(socket))
        assert await outcome_of(log) == f"client left: {reason}"
    [line] = [one for one in log.objects if one["method"] == "GET"]
    assert "notes='1 turn'" in line["message"]


@asynccontextmanager
async def raw(base: str) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A WebSocket whose client writes the bytes of its frames."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(base.rpartition(":")[2]))
    writer.write(HANDSHAKE + b"\r\n")
    await bounded(reader.readuntil(b"\r\n\r\n"))
    try:
        yield reader, writer
    finally:
        writer.close()


FAULTS = {
    "no mask": (frame(1, b"{}", masked=False), "protocol error: ", "(1002)"),
    "not UTF-8": (frame(1, b"\xff"), "invalid data: a text message is not UTF-8 ", "(1007)"),
    "too large": (
        b"\x81\xff" + struct.pack(">Q", 1 << 40) + b"\0" * 4,
        "message too large",
        "(1009)",
    ),
    "many frames": (
        frame(1, b"", fin=0) + frame(0, b"", fin=0) * 5000,
        "the message has too many small frames ",
        "(1008)",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_a_client_that_breaks_the_protocol(
    upstream: ScriptedUpstream, log: Log, name: str
) -> None:
    """Its open turn says so, too."""
    data, begins, ends = FAULTS[name]
    upstream.script = hello_then_silence
    async with upstream.service() as base, raw(base) as (reader, writer):
        writer.write(frame(1, json.dumps(CREATE).encode()))
        await bounded(reader.readuntil(b"output_text.delta"))
        writer.write(data)
        await bounded(reader.read())
        outcome = await outcome_of(log)
        assert outcome.startswith(f"closed: {begins}")
        assert outcome.endswith(ends)
        assert await outcome_of(log, "WS") == outcome.replace("closed", "client left", 1)


async def test_a_client_that_answers_no_ping(
    upstream: ScriptedUpstream, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = WebSocketProtocol.connection_made

    def impatient(self: WebSocketProtocol, transport: asyncio.BaseTransport) -> None:
        self.ping_interval = self.ping_timeout = 0.05
        made(self, transport)

    monkeypatch.setattr(WebSocketProtocol, "connection_made", impatient)
    async with upstream.service() as base, raw(base) as (reader, _):
        await bounded(reader.read())
        assert await outcome_of(log) == "closed: no answer to a ping (1011)"


async def test_a_message_that_comes_too_slowly(upstream: ScriptedUpstream, log: Log) -> None:
    async with upstream.service(client_timeout_s=0.1) as base, raw(base) as (reader, writer):
        writer.write(frame(1, b"{", fin=0))
        await bounded(reader.read())
        assert await outcome_of(log) == "closed: the message did not arrive in time (1008)"


async def test_a_client_that_does_not_read(upstream: ScriptedUpstream, log: Log) -> None:
    async def script(call: Any) -> None:
        await call.head()
        while True:
            await call.send(b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % (b"x" * 10_000))

    upstream.script = script
    async with upstream.service(client_timeout_s=0.2) as base:
        socket = await open_socket(base)
        socket.transport.pause_reading()
        await socket.send(json.dumps(CREATE))
        unread = "client left: it does not read its response"
        assert await outcome_of(log) == unread
        assert await outcome_of(log, "WS") == unread
        socket.transport.abort()


async def test_an_idle_one_that_makes_room(upstream: ScriptedUpstream, log: Log) -> None:
    async with upstream.service(max_websockets=1) as base, open_socket(base):
        async with asyncio.timeout(BOUND_S):
            while not log.objects:
                with suppress(websockets.InvalidStatus):  # its place is not free yet
                    async with open_socket(base) as other:
                        await ask(other)
    outcomes = [line["outcome"] for line in log.objects if line.get("status") == 101]
    assert outcomes[0] == "closed: idle, and another client needed its place (1000)"


async def test_one_that_was_open_for_too_long(upstream: ScriptedUpstream, log: Log) -> None:
    async with upstream.service(max_websocket_s=0.3) as base, open_socket(base):
        assert await outcome_of(log) == "closed: open for 0.005 minutes (1000)"


async def test_the_end_of_the_service(upstream: ScriptedUpstream, log: Log) -> None:
    drain = Drain()
    async with serving(make_settings(upstream.url), drain=drain) as base, open_socket(base):
        drain.begin()
        assert await outcome_of(log) == "closed: the service shuts down (1012)"


async def test_a_client_that_is_gone_before_the_handshake_is_answered(
    upstream: ScriptedUpstream, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which is no fault of ours: neither a traceback nor an error."""
    connect = WebSocketProtocol.handle_connect

    def then_lost(self: WebSocketProtocol, event: Any) -> None:
        connect(self, event)
        self.transport.abort()

    monkeypatch.setattr(WebSocketProtocol, "handle_connect", then_lost)
    async with upstream.service() as base:
        with pytest.raises((websockets.InvalidHandshake, OSError)):
            async with open_socket(base):
                pass
        assert await outcome_of(log) == "client left: connection lost"
    assert [line for line in log.objects if line["level"] != "info"] == []


async def test_a_turn_that_the_end_of_the_service_cuts(
    upstream: ScriptedUpstream, log: Log
) -> None:
    """As by a third Ctrl-C: asyncio cancels what is left, and no client has left."""
    began, sent = asyncio.Event(), asyncio.Queue[Message]()
    to_app = asyncio.Queue[Message]()

    async def script(_: object) -> None:
        began.set()
        await asyncio.Event().wait()

    upstream.script = script
    app = create_app(make_settings(upstream.url))
    scope = {"type": "websocket", "path": "/v1/responses", "headers": [], "query_string": b""}
    to_app.put_nowait({"type": "websocket.connect"})
    to_app.put_nowait({"type": "websocket.receive", "text": json.dumps(CREATE)})
    async with lifespan_of(app):
        session = asyncio.ensure_future(app(scope, to_app.get, sent.put))
        await bounded(began.wait())
        session.cancel()
        with pytest.raises(asyncio.CancelledError):
            await bounded(session)
    assert [line["outcome"] for line in log.objects] == ["failed: the service ended"] * 2
