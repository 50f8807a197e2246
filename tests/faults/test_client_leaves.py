"""A client that leaves, or does not read: the upstream hears of it, on every way and at every point.

Where else it may leave is in `tests/service/test_disconnect.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

from tests.service.chat_bodies import COMPLETION, HELLO, chunk
from tests.service.wire import BOUND_S, Call, ScriptedUpstream

from .processes import serve

pytestmark = pytest.mark.anyio

PATIENT: dict[str, Any] = {"headers_grace_s": 1000, "heartbeat_s": 1000}
"""No timer of the service ends before a test does: the upstream hears of a departure by itself."""

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
async def client(url: str, way: str, *lines: str) -> AsyncGenerator[Client]:
    """It has asked, with further header lines; its socket takes little that it does not read."""
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
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
    await asyncio.get_running_loop().sock_sendall(
        sock, "".join([head, *lines, "\r\n", body]).encode()
    )
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
    async with upstream.service(**PATIENT) as url, client(url, way) as one:
        await asyncio.wait_for(watched.there.wait(), BOUND_S)
        one.leave()
        await asyncio.wait_for(watched.gone.wait(), BOUND_S)


def of_the_kernel() -> int:
    """The most bytes that its buffers hold of two connections; they grow as it sees fit."""
    limits = [Path(f"/proc/sys/net/ipv4/tcp_{name}") for name in ("rmem", "wmem")]
    if not all(map(Path.exists, limits)):
        return 64 * 1024 * 1024
    return 2 * sum(int(limit.read_text().split()[2]) for limit in limits)


@pytest.mark.parametrize("half", [False, True], ids=["leaves", "half-closes"])
@pytest.mark.parametrize("way", ["stream", "chat", "websocket"])
async def test_a_client_that_does_not_read_stops_the_upstream(
    upstream: ScriptedUpstream, way: str, half: bool
) -> None:
    """What the service has taken by then is bounded, however much there is; so it can leave, too.

    Or say so: that has to be heard while the buffers to it stay full.
    """
    watched = Watched(upstream, "while nobody reads")
    async with upstream.service(**PATIENT) as url, client(url, way) as one:
        await asyncio.wait_for(watched.there.wait(), BOUND_S)
        assert 0 < watched.sent < of_the_kernel() + 4 * 1024 * 1024
        if half:
            one.sock.shutdown(socket.SHUT_WR)
        else:
            one.leave()
        await asyncio.wait_for(watched.gone.wait(), BOUND_S)


@pytest.mark.parametrize("way", ["stream", "chat", "websocket"])
async def test_a_client_that_does_not_read_is_cut_off_in_time(
    upstream: ScriptedUpstream, way: str
) -> None:
    """It stays, and nothing of the service stays with it: not even the connection."""
    watched = Watched(upstream, "while nobody reads")
    async with upstream.service(client_timeout_s=0.5) as url, client(url, way) as one:
        await asyncio.wait_for(watched.gone.wait(), BOUND_S)
        await let_go(one)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux bounds it")
async def test_what_is_closed_waits_for_no_client_either(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """A whole answer that is not read is handed over to the system, which waits as long."""

    async def script(call: Call) -> None:
        body = json.loads(json.dumps(COMPLETION))
        body["choices"][0]["message"]["content"] = "x" * 16 * 1024 * 1024
        await call.answer(body)

    upstream.script = script
    async with (
        serve(tmp_path, upstream.url, client_timeout_s=1) as served,
        client(served.url, "json", "connection: close\r\n") as one,
    ):
        async with asyncio.timeout(BOUND_S):
            while not upstream.calls:
                await asyncio.sleep(0.02)
        assert is_held(one)
        await let_go(one)


def is_held(one: Client) -> bool:
    """Whether the service has the other end of a connection: a file, and not the system alone."""
    ends = one.sock.getpeername()[1], one.sock.getsockname()[1]
    of_both = [f"0100007F:{end:04X}" for end in ends]
    lines = Path("/proc/net/tcp").read_text().splitlines()
    return any(line.split()[1:3] == of_both and line.split()[9] != "0" for line in lines)


async def let_go(one: Client) -> None:
    async with asyncio.timeout(BOUND_S):
        while is_held(one):
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/chat/completions"])
@pytest.mark.parametrize("at_once", [True, False], ids=["in one packet", "later"])
async def test_a_request_behind_the_first_hides_no_departure(
    upstream: ScriptedUpstream, path: str, at_once: bool, caplog: pytest.LogCaptureFixture
) -> None:
    watched = Watched(upstream, "before the body")
    body = json.dumps(ASK | {"stream": True}).encode()
    request = b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b"
    request %= (path.encode(), len(body), body)
    async with upstream.service(**PATIENT) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(request * 2 if at_once else request)
        await asyncio.wait_for(watched.there.wait(), BOUND_S)
        if not at_once:
            writer.write(request)
            await asyncio.sleep(0.1)
        writer.close()
        await asyncio.wait_for(watched.gone.wait(), BOUND_S)
    assert len(upstream.calls) == 1
    assert "Traceback" not in caplog.text
    assert "ASGI" not in caplog.text
