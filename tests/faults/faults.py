"""An upstream with injected faults: the model's name is "point: fault".

exchange = accept, status line, headers, body ;     body = { chunk }, [DONE]
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gzip
import json
import re
import socket
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.service.chat_bodies import COMPLETION, HELLO

STATUS, HEADERS, BODY = "in the status line", "in the headers", "before the body"
BETWEEN, WITHIN, DONE = "between chunks", "within a chunk", "before [DONE]"
POINTS = (STATUS, HEADERS, BODY, BETWEEN, WITHIN, DONE)
"""Where an exchange can fail after its request was read."""

HUGE = 9 * 1024 * 1024
"""Bytes; more than the limit of an event."""

RUBBISH = bytes(range(256)) * 4


@dataclass
class Exchange:
    """One request at the point of its fault."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    rest: bytes
    """The bytes that a healthy upstream would still send."""
    point: str
    streams: bool

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def gone(self) -> None:
        """Wait until the service closes the connection."""
        with contextlib.suppress(ConnectionError):
            await self.reader.read()


Fault = Callable[[Exchange], Awaitable[None]]


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


# --- faults at a point ----------------------------------------------------------------------------


async def reset(exchange: Exchange) -> None:
    hard_reset(exchange.writer)


def hard_reset(writer: asyncio.StreamWriter) -> None:
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def close(exchange: Exchange) -> None:
    exchange.writer.close()


async def stall(exchange: Exchange) -> None:
    await exchange.gone()


async def trickle(exchange: Exchange) -> None:
    for byte in exchange.rest:
        await exchange.send(bytes([byte]))
        await asyncio.sleep(0)


async def garbage(exchange: Exchange) -> None:
    await exchange.send(RUBBISH)
    await exchange.gone()


def later(fault: Fault) -> Fault:
    """The same fault in a network packet of its own, after all earlier bytes were read."""

    async def wait(exchange: Exchange) -> None:
        await asyncio.sleep(0.1)
        await fault(exchange)

    return wait


async def nonsense(exchange: Exchange) -> None:
    """Valid HTTP with an invalid body."""
    await exchange.send(chunk(b"data: {]\xff\n\n" * 20) + b"0\r\n\r\n")


async def oversize(exchange: Exchange) -> None:
    if exchange.point in (STATUS, HEADERS):
        await exchange.send(b"a" * HUGE)
        await exchange.gone()
    else:
        await exchange.send(chunk(b'data: {"choices":"' + b"a" * HUGE) + b"0\r\n\r\n")


async def comments(exchange: Exchange) -> None:
    """SSE comments or blanks without end, and no answer."""
    comment = chunk(b": wait\n\n" if exchange.streams else b"  ")
    while True:
        await exchange.send(comment)
        await asyncio.sleep(0.02)


AT_A_POINT: dict[str, Fault] = {
    "reset": reset,
    "close": close,
    "stall": stall,
    "trickle": trickle,
    "garbage": garbage,
    "late reset": later(reset),
    "late close": later(close),
    "late garbage": later(garbage),
    "nonsense": nonsense,
    "oversize": oversize,
    "comments": comments,
}
NOT_AT: dict[str, set[str]] = {
    "nonsense": {STATUS, HEADERS, WITHIN, DONE},
    "oversize": {WITHIN, DONE},
    "comments": {STATUS, HEADERS, WITHIN},
}
"""Points at which a fault would be the same as another one."""


# --- faulty responses, sent whole -----------------------------------------------------------------


def plain(
    body: bytes, *lines: bytes, length: bytes | None = None, status: bytes = b"200 OK"
) -> bytes:
    """A response with a content-length, by default the right one."""
    head = [b"HTTP/1.1 " + status, b"content-length: " + (length or b"%d" % len(body)), *lines]
    return b"\r\n".join([*head, b"", body])


def content_type(streams: bool) -> bytes:
    return b"content-type: " + (b"text/event-stream" if streams else b"application/json")


def body_of(streams: bool) -> bytes:
    return b"".join(HELLO) if streams else json.dumps(COMPLETION).encode()


@functools.cache
def whole_answers(streams: bool) -> dict[str, bytes]:
    body, kind = body_of(streams), content_type(streams)
    packed = gzip.compress(body)
    bomb = gzip.compress(b" " * 16 * 1024 * 1024)
    zipped = b"content-encoding: gzip"
    return {
        "sound": plain(body, kind),
        "length too long": plain(body, kind, b"connection: close", length=b"%d" % (len(body) + 9)),
        "length too short": plain(body, kind, length=b"%d" % (len(body) // 2)),
        "length no number": plain(body, kind, length=b"12a"),
        "length negative": plain(body, kind, length=b"-1"),
        "two lengths": plain(body, kind, b"content-length: 3"),
        "length and chunks": plain(chunk(body) + b"0\r\n\r\n", kind, b"transfer-encoding: chunked"),
        "100 before": b"HTTP/1.1 100 Continue\r\n\r\n" + plain(body, kind),
        "103 before": b"HTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\n" * 3 + plain(body, kind),
        "101": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        "302": plain(b"", b"location: http://127.0.0.1:9/elsewhere", status=b"302 Found"),
        "307": plain(b"", b"location: /elsewhere", status=b"307 Temporary Redirect"),
        "gzip": plain(packed, kind, zipped),
        "gzip cut": plain(packed[:-20], kind, zipped),
        "gzip of rubbish": plain(b"\x1f\x8b" + RUBBISH, kind, zipped),
        "gzip bomb": plain(bomb, kind, zipped),
        "brotli": plain(body, kind, b"content-encoding: br"),
        "empty": plain(b"", kind),
        "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
        "html": plain(b"<html><title>Gateway</title></html>", b"content-type: text/html"),
        "500 without a body": plain(b"", status=b"500 Oh"),
        "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    }  # fmt: skip


async def endless_1xx(exchange: Exchange) -> None:
    while True:
        await exchange.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        await asyncio.sleep(0.02)


# --- the upstream ---------------------------------------------------------------------------------


def sound_parts(streams: bool) -> Iterator[tuple[bytes, str]]:
    """The bytes of a valid response in parts, each with the point after it."""
    if streams:
        chunks, done = HELLO[:4], HELLO[4]
    else:
        body = body_of(streams)
        size = len(body) // 4 + 1
        chunks, done = [body[i : i + size] for i in range(0, len(body), size)], b""
    yield b"HTTP/1.1 2", STATUS
    yield b"00 OK\r\ntransfer-encoding: chunked\r\nconte", HEADERS
    yield b"nt-type" + content_type(streams)[12:] + b"\r\n\r\n", BODY
    yield chunk(chunks[0]) + chunk(chunks[1]), BETWEEN
    cut = len(chunk(chunks[2])) // 2
    yield chunk(chunks[2])[:cut], WITHIN
    yield chunk(chunks[2])[cut:] + chunk(chunks[3]), DONE
    yield chunk(done) + b"0\r\n\r\n", "the end"


class FaultUpstream:
    """Responds to each request with the fault that its model names; without one, correctly."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = int(re.search(rb"content-length: (\d+)", head, re.IGNORECASE)[1])  # type: ignore[index]
                body = json.loads(await reader.readexactly(size))
                if not await self._answer(body["model"], reader, writer, bool(body.get("stream"))):
                    return
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer(
        self, model: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, streams: bool
    ) -> bool:
        """Respond; whether the connection can be reused."""
        point, _, name = model.partition(": ")
        if point == "whole":
            if name == "1xx without end":
                await endless_1xx(Exchange(reader, writer, b"", "", streams))
            writer.write(whole_answers(streams)[name])
            await writer.drain()
            return "too long" not in name
        parts = list(sound_parts(streams))
        for number, (data, here) in enumerate(parts):
            writer.write(data)
            await writer.drain()
            if here == point:
                rest = b"".join(part for part, _ in parts[number + 1 :])
                exchange = Exchange(reader, writer, rest, here, streams)
                await AT_A_POINT[name](exchange)
                return True
        return True

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[str]:
        """Listen on a free port; the base URL."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        finally:
            server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)


# --- before and just after a connection is accepted -----------------------------------------------


@asynccontextmanager
async def refusing() -> AsyncIterator[str]:
    """A port on which no socket listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    yield f"http://127.0.0.1:{port}/v1"


@asynccontextmanager
async def deaf() -> AsyncIterator[str]:
    """A listener that accepts nothing and whose backlog is full."""
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        waiting: list[asyncio.Task[None]] = []
        for _ in range(4):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            waiting.append(asyncio.ensure_future(loop.sock_connect(sock, listener.getsockname())))
        await asyncio.sleep(0.05)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


@asynccontextmanager
async def accepting(name: str) -> AsyncIterator[str]:
    """A fault as soon as a connection is accepted, before the request is read."""
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        tasks.add(task)
        try:
            await AT_A_POINT[name](Exchange(reader, writer, b"", STATUS, True))
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
