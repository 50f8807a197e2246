"""Requests on aiohttp's pool, with and without its ClientSession: the same in all that shows."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme

from translator.service.upstreams import connection, direct, transport
from translator.service.upstreams.client import DEFAULT_HEADERS
from translator.service.upstreams.connection import Connection
from translator.service.upstreams.transport import Timeouts, Transport
from translator.service.upstreams.transport_errors import TRANSPORT_ERRORS

from .wire import bounded

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a: 2\r\ncontent-length: 2\r\n\r\nok"
HEADERS = {**DEFAULT_HEADERS, "content-type": "x/y", "x-one": "1", "x-tab": "a\tb"}
LARGE = b"x" * 12_000_000
"""More than the buffers of two sockets hold."""

Script = Callable[["Peer"], Awaitable[None]]


class Peer:
    """The server's side of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.heads: list[bytes] = []

    async def request(self) -> bytes:
        """Read a request, whole; its body."""
        head = await self.head()
        size = head.partition(b"content-length: ")[2].partition(b"\r")[0]
        return await self.read(int(size or b"0"))

    async def read(self, size: int) -> bytes:
        return await self._reader.readexactly(size)

    async def head(self) -> bytes:
        self.heads.append(await self._reader.readuntil(b"\r\n\r\n"))
        return self.heads[-1]

    async def answer(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def end(self) -> None:
        """Wait until the client closes."""
        while await self._reader.read(2**16):
            pass

    def close(self) -> None:
        self._writer.close()

    def reset(self) -> None:
        sock: socket.socket = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


class Server:
    """Runs a script on each connection."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._tasks: set[asyncio.Task[None]] = set()
        self.peers: list[Peer] = []
        self.url = ""

    @asynccontextmanager
    async def running(self, context: ssl.SSLContext | None = None) -> AsyncGenerator[Server]:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        self.url = f"http{'s' if context else ''}://127.0.0.1:{port}/v1"
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        self.peers.append(peer)
        try:
            await self._script(peer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    @property
    def heads(self) -> list[list[bytes]]:
        """The heads of all requests, by connection, without the port."""
        return [[self._plain(head) for head in peer.heads] for peer in self.peers]

    def _plain(self, head: bytes) -> bytes:
        return head.replace(self.url.rpartition(":")[2].partition("/")[0].encode(), b"PORT")


async def asked(
    client: Transport, url: str, body: bytes | None = b"{}", *, reads: int | None = None
) -> tuple[Any, ...]:
    """What a request comes to, an answer or an error; of its body so many reads, or all."""
    method = "GET" if body is None else "POST"
    try:
        response = await bounded(client.send(method, url, HEADERS, body))
    except TRANSPORT_ERRORS as error:
        return _told(error)
    read = b""
    try:
        while reads is None or reads > 0:
            chunk = await bounded(response.body.read())
            if not chunk:
                break
            read += chunk
            reads = None if reads is None else reads - 1
    except TRANSPORT_ERRORS as error:
        return (response.status, read, *_told(error))
    finally:
        await response.body.aclose()
    return response.status, dict(response.headers), read


def _told(error: BaseException) -> tuple[str, str]:
    text = str(error)
    port = text.partition("127.0.0.1:")[2].partition("/")[0].partition(" ")[0]
    return type(error).__name__, text.replace(port or "\0", "PORT")


async def usual(peer: Peer) -> None:
    while True:
        await peer.request()
        await peer.answer(OK)


async def informational(peer: Peer) -> None:
    await peer.request()
    await peer.answer(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n")
    await peer.answer(OK)
    await usual(peer)


async def no_body(peer: Peer) -> None:
    await peer.request()
    await peer.answer(b"HTTP/1.1 204 No Content\r\n\r\n")
    await usual(peer)


async def until_the_end(peer: Peer) -> None:
    await peer.request()
    await peer.answer(b"HTTP/1.1 200 OK\r\n\r\nall")


async def closes(peer: Peer) -> None:
    await peer.request()
    await peer.answer(OK.replace(b"x-a: 2", b"connection: close"))
    await peer.end()


async def chunked(peer: Peer) -> None:
    while True:
        await peer.request()
        await peer.answer(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n")
        await asyncio.sleep(0.01)
        await peer.answer(b"3\r\ntwo\r\n0\r\n\r\n")


async def breaks(peer: Peer) -> None:
    await peer.request()
    await peer.answer(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")


async def garbage(peer: Peer) -> None:
    await peer.request()
    await peer.answer(b"SSH-2.0\r\n\r\n")
    await peer.end()


async def long_header(peer: Peer) -> None:
    await peer.request()
    await peer.answer(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 10_000 + b"\r\n\r\n")
    await peer.end()


async def drops(peer: Peer) -> None:
    await peer.request()


async def resets(peer: Peer) -> None:
    await peer.request()
    peer.reset()


async def silent(peer: Peer) -> None:
    await peer.request()
    await peer.end()


async def switches(peer: Peer) -> None:
    await peer.request()
    await peer.answer(
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"
    )
    await peer.end()


async def once(peer: Peer) -> None:
    """A second request on the connection meets its end."""
    await peer.request()
    await peer.answer(OK)
    await peer.head()


async def early(peer: Peer) -> None:
    """An answer before the body, which ends the connection: no other request comes behind it."""
    while True:
        await peer.head()
        await peer.answer(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")
        await asyncio.sleep(0.1)
        await peer.read(len(LARGE))


async def slow_reader(peer: Peer) -> None:
    """The body is read only after longer than the answer may take."""
    while True:
        await peer.head()
        await asyncio.sleep(0.5)
        await peer.read(len(LARGE))
        await peer.answer(OK)


SCRIPTS: dict[str, tuple[Script, bytes | None]] = {
    "usual": (usual, b"{}"),
    "get": (usual, None),
    "empty": (usual, b""),
    "informational": (informational, b"{}"),
    "no body": (no_body, b"{}"),
    "until the end": (until_the_end, b"{}"),
    "closes": (closes, b"{}"),
    "chunked": (chunked, b"{}"),
    "breaks": (breaks, b"{}"),
    "garbage": (garbage, b"{}"),
    "long header": (long_header, b"{}"),
    "drops": (drops, b"{}"),
    "resets": (resets, b"{}"),
    "silent": (silent, b"{}"),
    "switches": (switches, b"{}"),
    "once": (once, b"{}"),
    "early": (early, LARGE),
    "slow reader": (slow_reader, LARGE),
}


def new_client() -> Transport:
    return Transport(Timeouts(connect_s=5, read_s=0.4), keepalive_s=30)


async def outcome(script: Script, body: bytes | None) -> tuple[Any, ...]:
    """Three requests, the second of which reads at most once; and what the server got."""
    async with Server(script).running() as server:
        client = new_client()
        try:
            told = [
                await asked(client, f"{server.url}/x", body, reads=reads)
                for reads in (None, 1, None)
            ]
        finally:
            await client.aclose()
    return told, server.heads


@pytest.mark.parametrize("script", SCRIPTS)
async def test_both_ways_are_the_same(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = await outcome(*SCRIPTS[script])
    monkeypatch.setattr(transport, "direct_requests", lambda *_: None)
    assert found == await outcome(*SCRIPTS[script])


async def test_nobody_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    found: list[tuple[Any, ...]] = []
    for _ in range(2):
        client = new_client()
        found.append(await asked(client, f"http://127.0.0.1:{port}/v1"))
        await client.aclose()
        monkeypatch.setattr(transport, "direct_requests", lambda *_: None)
    assert found[0] == found[1]
    assert found[0][0] == "ClientConnectorError"


async def test_a_connection_timeout_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server accepts no connection: its queue is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        fill = [socket.socket() for _ in range(4)]
        for one in fill:
            one.setblocking(False)
            one.connect_ex(address)
        await asyncio.sleep(0.1)
        found: list[tuple[Any, ...]] = []
        for _ in range(2):
            client = Transport(Timeouts(connect_s=0.3, read_s=5), keepalive_s=30)
            found.append(await asked(client, f"http://127.0.0.1:{address[1]}/v1"))
            await client.aclose()
            monkeypatch.setattr(transport, "direct_requests", lambda *_: None)
        for one in fill:
            one.close()
    assert found[0] == found[1]
    assert found[0][0] == "ConnectionTimeoutError"


async def test_over_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    found: list[tuple[Any, ...]] = []
    for trusts in (False, True):
        if trusts:
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
        async with Server(usual).running(context) as server:
            client = new_client()
            found += [(await asked(client, server.url))[0] for _ in range(2)]
            await client.aclose()
        assert len(server.heads) == (1 if trusts else 0)
    assert found == ["ClientConnectorCertificateError"] * 2 + [200] * 2


async def test_both_use_the_same_pool() -> None:
    """A request that expects `100 Continue` is one for a ClientSession."""

    async def script(peer: Peer) -> None:
        while True:
            if b"expect: 100-continue" in await peer.head():
                await peer.answer(b"HTTP/1.1 100 Continue\r\n\r\n")
            await peer.read(2)
            await peer.answer(OK)

    async with Server(script).running() as server:
        client = new_client()
        for more in ({}, {"expect": "100-continue"}, {}):
            response = await bounded(client.send("POST", server.url, HEADERS | more, b"{}"))
            assert await response.body.read() == b"ok"
            await response.body.aclose()
        await client.aclose()
    assert [len(heads) for heads in server.heads] == [3]


async def test_a_cancelled_request_closes_its_connection() -> None:
    ended = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.end()
        ended.set()

    async with Server(script).running() as server:
        client = Transport(Timeouts(connect_s=5, read_s=60), keepalive_s=30)
        sending = asyncio.create_task(client.send("POST", server.url, HEADERS, b"{}"))
        while not (server.peers and server.peers[0].heads):
            await asyncio.sleep(0.01)
        sending.cancel()
        await bounded(ended.wait())
        await client.aclose()


async def test_a_connection_that_is_gone_is_not_written_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may end between the moment in which it is made and that in which it is used."""
    monkeypatch.setattr(Connection, "is_connected", lambda _: False)
    async with Server(usual).running() as server:
        client = new_client()
        error, text = await asked(client, server.url)
        await client.aclose()
    assert (error, text) == (
        "ClientOSError",
        "[Errno None] Can not write request body for http://127.0.0.1:PORT/v1",
    )
    assert server.heads in ([], [[]])


@pytest.mark.parametrize(
    ("headers", "error"), [({"x": "é"}, UnicodeError), ({"x": "a\nb"}, ValueError)]
)
async def test_what_is_no_header_is_not_sent(
    headers: dict[str, str], error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Server(usual).running() as server:
        for _ in range(2):
            client = new_client()
            with pytest.raises(error):
                await client.send("POST", server.url, headers, b"{}")
            await client.aclose()
            monkeypatch.setattr(transport, "direct_requests", lambda *_: None)
    assert server.heads in ([], [[]], [[], []])


async def test_a_client_session_is_the_way_where_aiohttp_lacks_something(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(direct, "MISSING", ("TCPConnector.connect",))
    async with Server(usual).running() as server:
        client = new_client()
        assert [(await asked(client, server.url))[0] for _ in range(2)] == [200] * 2
        await client.aclose()
    assert len(caplog.records) == 1
    assert connection.MISSING == ()
    assert isinstance(aiohttp.ClientSession, type)
