"""A client that leaves, or does not read: the upstream hears of it, on every way and at every point.

Where else it may leave is in `tests/service/test_disconnect.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from websockets.asyncio.client import connect

from tests.service.wire import BOUND_S, HELLO, Call, ScriptedUpstream, chunk, make_settings, serving

pytestmark = pytest.mark.anyio

SOON_S = 1.0
"""How soon the upstream's connection must be closed. It is closed at once; this is for a machine
that has other things to do, and far below any time that the service waits for something."""

ASK: dict[str, Any] = {"model": "m", "input": "Hi", "messages": [{"role": "user", "content": "Hi"}]}
WAYS = ["stream", "json", "compact", "chat", "websocket"]
PIECE = chunk({"content": "x" * 10_000})


class Client:
    """A client on one way through the service, which reads only when it is told."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def leave(self) -> None:
        self.sock.close()


@contextlib.asynccontextmanager
async def client(url: str, way: str) -> AsyncGenerator[Client]:
    """It has asked; its socket takes little that it does not read."""
    host, _, port = url.removeprefix("http://").partition(":")
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, (host, int(port)))
    if way == "websocket":
        address = url.replace("http", "ws", 1) + "/v1/responses"
        ask = {"model": "m", "input": "Hi", "type": "response.create"}
        async with connect(address, sock=sock, max_queue=1, close_timeout=0) as talk:
            await talk.send(json.dumps(ask))
            leaving = Client(sock)
            leaving.leave = talk.transport.abort  # type: ignore[method-assign]
            yield leaving
        return
    path = {"chat": "/v1/chat/completions", "compact": "/v1/responses/compact"}.get(
        way, "/v1/responses"
    )
    fields = {name: ASK[name] for name in ("model", "messages" if way == "chat" else "input")}
    body = json.dumps(fields | ({} if way == "compact" else {"stream": way in ("stream", "chat")}))
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
    await asyncio.get_running_loop().sock_sendall(sock, (head + body).encode())
    try:
        yield Client(sock)
    finally:
        sock.close()


class Watched:
    """An upstream that goes as far as it is told, and then sees when its connection is closed."""

    def __init__(self, upstream: ScriptedUpstream, point: str) -> None:
        self.point = point
        self.there = asyncio.Event()
        self.gone = asyncio.Event()
        self.sent = 0
        upstream.script = self._script

    async def _script(self, call: Call) -> None:
        try:
            if self.point != "before the status line":
                await call.head()
            if self.point == "in mid-answer":
                await call.send(*HELLO[:2])
            if self.point == "while nobody reads":
                while True:
                    sending = asyncio.ensure_future(call.send(PIECE))
                    if not (await asyncio.wait((sending,), timeout=0.5))[0]:
                        self.there.set()  # nothing moves any more
                    await sending
                    self.sent += len(PIECE)
            self.there.set()
            await call.gone()
        except ConnectionError:
            pass
        finally:
            self.gone.set()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("point", ["before the status line", "before the body", "in mid-answer"])
async def test_the_upstream_hears_of_a_departure(
    upstream: ScriptedUpstream, way: str, point: str
) -> None:
    watched = Watched(upstream, point)
    async with serving(make_settings(upstream.url)) as url, client(url, way) as one:
        await asyncio.wait_for(watched.there.wait(), BOUND_S)
        one.leave()
        await asyncio.wait_for(watched.gone.wait(), SOON_S)


@pytest.mark.parametrize("way", ["stream", "chat", "websocket"])
async def test_a_client_that_does_not_read_stops_the_upstream(
    upstream: ScriptedUpstream, way: str
) -> None:
    """What the service has taken by then is bounded, however much there is; so it can leave, too."""
    watched = Watched(upstream, "while nobody reads")
    async with serving(make_settings(upstream.url)) as url, client(url, way) as one:
        await asyncio.wait_for(watched.there.wait(), BOUND_S)
        assert 0 < watched.sent < 16 * 1024 * 1024  # of which the kernel's buffers are the most
        one.leave()
        await asyncio.wait_for(watched.gone.wait(), SOON_S)
