"""Hostile peers of the soak test: clients and upstreams that break the rules, in rotation.

    PEERS        by name, what a hostile client does; some ask for a hostile upstream
    misbehave    what the upstream of the soak test then sends

A peer is well treated when it is answered or its connection is closed within its time, and when
nothing that comes to it holds the operator's key. All else is judged by those who behave: their
answers, and the memory and descriptors of the service.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

from msgspec import Struct

from translator.service.config.settings import Server

from .bodies import frame

SECRET = "sk-soak-of-the-operator"
"""The key that the service has for the upstream: no peer may see it."""

LIMITS = {
    "client_timeout_s": 8.0,
    "upload_timeout_s": 20.0,
    "progress_timeout_s": 12.0,
    "exchange_timeout_s": 60.0,
    "max_answer_bytes": 256 * 1024,
    "max_output_items": 1000,
}
"""Settings of the soak test: low, so that hostile peers end, and above all that others need. What
the service does not know is left out."""

PATIENCE_S = 75.0
"""After so long a peer must be rid of, whichever clock applies to it."""

QUIET_S = 1.0
"""A connection that was answered and is silent for so long waits for the next request."""

BLOCK_BYTES = 8 * 1024
PAUSE_S = 0.1
"""An endless upstream sends a block, and pauses: the test is about bounds, not about CPU."""

TEXT, WHOLE = "soak-183", "soak-116"
"""Models of the soak test's upstream that give a short text, as a stream and whole."""


class Violation(Exception):
    """A peer got neither an answer nor an end, or it got the operator's key."""


class Result(Struct, frozen=True):
    """How it ended for one peer: "HTTP 400", or "closed" before any status line."""

    name: str
    outcome: str
    took_s: float


# --- upstreams ------------------------------------------------------------------------------------

_CALL = {"type": "function", "function": {"name": "ls", "arguments": "{}"}}
_TEXT = "all work and no play makes a dull answer " * 20

_STREAMS: dict[str, tuple[dict[str, Any] | None, dict[str, Any]]] = {
    "text": (None, {"content": _TEXT}),
    "reasoning": (None, {"reasoning_content": _TEXT}),
    "arguments": (
        {
            "tool_calls": [
                {"index": 0, "id": "c", "function": {"name": "ls", "arguments": '{"x":"'}}
            ]
        },
        {"tool_calls": [{"index": 0, "function": {"arguments": _TEXT}}]},
    ),
}
"""By kind: the first delta of an endless stream, and the one that comes again and again."""

_BODIES: dict[str, tuple[bytes, bytes]] = {
    "text": (b'"content":"', _TEXT.encode()),
    "reasoning": (b'"reasoning_content":"', _TEXT.encode()),
    "arguments": (
        b'"tool_calls":[{"id":"c","function":{"name":"ls","arguments":"{\\"x\\":\\"',
        _TEXT.encode(),
    ),
    "calls": (b'"tool_calls":[', json.dumps(_CALL).encode() + b","),
}
"""The same for a whole body: its beginning, and what comes again and again."""

ENDLESS = tuple(_BODIES)
BOMBS = {
    "comments": b":\n",
    "long comment": b": " + b"x" * 1000,
    "empty members": gzip.compress(b""),
}
"""Bytes that hold nothing, again and again, as a stream; the last is a content encoding."""

ECHOES = ("echo 400", "echo 401", "echo 500", "echo text", "echo event", "echo chunk")
"""Upstreams that send the Authorization header back: in an error body, in text, in a stream."""


async def misbehave(kind: str, head: bytes, body: bytes, writer: asyncio.StreamWriter) -> None:
    """Answer as a hostile upstream of this kind; until the service hangs up, if it is endless."""
    if kind in ECHOES:
        writer.write(_echo(kind, head))
        await writer.drain()
        return
    stream = b'"stream":true' in body.replace(b" ", b"")
    form = b"text/event-stream" if stream or kind in BOMBS else b"application/json"
    encoding = b"content-encoding: gzip\r\n" if kind == "empty members" else b""
    writer.write(
        b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\n%btransfer-encoding: chunked\r\n\r\n"
        % (form, encoding)
    )
    for block in _blocks(kind, stream=stream):
        writer.write(b"%x\r\n%b\r\n" % (len(block), block))
        await writer.drain()
        await asyncio.sleep(PAUSE_S)


def _blocks(kind: str, *, stream: bool) -> Iterator[bytes]:
    """What an endless upstream sends, a block for each write; never the end of it."""
    if kind in BOMBS:
        if kind != "empty members":
            yield frame({"content": "So"})
        begins, again = b"", BOMBS[kind]
    elif not stream:
        begins, again = _BODIES[kind]
        begins = b'{"choices":[{"index":0,"message":{"role":"assistant",' + begins
    elif kind == "calls":
        yield from _calls()
        return
    else:
        first, more = _STREAMS[kind]
        begins, again = b"" if first is None else frame(first), frame(more)
    if begins:
        yield begins
    block = again * (BLOCK_BYTES // len(again))
    while True:
        yield block


def _calls() -> Iterator[bytes]:
    number = 0
    while True:
        block = b""
        while len(block) < BLOCK_BYTES:
            number += 1
            call = {"index": number, "id": f"call_{number}", **_CALL}
            block += frame({"tool_calls": [call]})
        yield block


def _echo(kind: str, head: bytes) -> bytes:
    lines = head.decode("latin-1").split("\r\n")
    [sent] = [line for line in lines if line.lower().startswith("authorization:")]
    assert SECRET in sent, "the service has not sent the key that is looked for"
    message = f"No access for {sent}; your key is {sent.rpartition(' ')[2]}."
    encoded = base64.b64encode(b"x").decode()  # some text behind the key, as proxies have it
    error = json.dumps({"error": {"message": message, "headers": {"authorization": sent}}}).encode()
    status, form, body = 200, "text/event-stream", b"data: " + error + b"\n\n"
    match kind:
        case "echo text":
            status, form, body = 502, "text/html", f"<p>{message} {encoded}</p>".encode()
        case "echo event":
            body = b"event: error\n" + body
        case "echo chunk":
            body = frame({"content": "So"}) + body
        case _:
            status, form, body = int(kind.split()[1]), "application/json", error
    first = f"HTTP/1.1 {status} Hm\r\ncontent-type: {form}\r\ncontent-length: {len(body)}\r\n"
    return f"{first}x-debug: {sent}\r\n\r\n".encode() + body


# --- clients --------------------------------------------------------------------------------------


class Peer:
    """One connection of a hostile client, and all that came on it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.received = bytearray()
        self.closed = False

    @property
    def status(self) -> str:
        """The status line's number, or "" while none has come."""
        first = self.received[:12]
        return first[9:12].decode() if first.startswith(b"HTTP/1.") and len(first) == 12 else ""

    async def send(self, *data: bytes) -> None:
        """Send as much as the service takes."""
        with suppress(ConnectionError, RuntimeError):  # uvloop's word for a closed transport
            for one in data:
                self._writer.write(one)
                await self._writer.drain()

    async def read(self, within_s: float) -> bool:
        """Read what comes next; False where nothing comes in that time, or nothing more at all."""
        try:
            async with asyncio.timeout(within_s):
                data = await self._reader.read(BLOCK_BYTES)
        except TimeoutError:
            return False
        except ConnectionError:
            data = b""
        self.received += data
        self.closed = not data
        return not self.closed

    async def end(self) -> None:
        """Read until the connection is closed, or is silent behind an answer."""
        while not self.closed and (await self.read(QUIET_S) or not self._answered()):
            pass

    def _answered(self) -> bool:
        """Whether an answer has come, to its end."""
        head, blank, body = bytes(self.received).partition(b"\r\n\r\n")
        if self.status == "101":
            return b'"type":"response.failed"' in body
        chunked = b"transfer-encoding: chunked" in head.lower()
        return bool(blank) and (not chunked or body.endswith(b"0\r\n\r\n"))

    def leave(self) -> None:
        self._writer.transport.abort()


Script = Callable[[Peer], Awaitable[None]]


def request(model: str, **more: Any) -> bytes:
    """The body of a request, of either API."""
    asked = {"model": model, "input": "Hi", "messages": [{"role": "user", "content": "Hi"}]}
    return json.dumps({**asked, "stream": True, **more}).encode()


def post(body: bytes, *lines: str, path: str = "/v1/responses", version: str = "1.1") -> bytes:
    """A request as bytes; `lines` are further header lines."""
    head = "\r\n".join((f"POST {path} HTTP/{version}", "host: soak", *lines, ""))
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def sends(*data: bytes) -> Script:
    """A client that sends this and no more."""

    async def script(peer: Peer) -> None:
        await peer.send(*data)

    return script


def asks(kind: str, *, stream: bool = True) -> Script:
    """A client that behaves, and an upstream that does not."""
    return sends(post(request(f"hostile-{kind}", stream=stream), "connection: close"))


async def drips(peer: Peer) -> None:
    """An upload of a byte a second."""
    await peer.send(post(b"", "content-type: application/json").replace(b": 0\r", b": 9999\r"))
    while not await peer.read(1.0) and not peer.closed:
        await peer.send(b" ")


async def drips_its_head(peer: Peer) -> None:
    """A head of a byte a second."""
    await peer.send(b"POST /v1/responses HTTP/1.1\r\nhost: soak\r\nx-slow: ")
    while not await peer.read(1.0) and not peer.closed:
        await peer.send(b"x")


async def does_not_read(peer: Peer) -> None:
    """A stream without an end that nobody reads; passed through, so that it is not accumulated."""
    await peer.send(post(request("hostile-text"), path="/v1/chat/completions"))
    await asyncio.sleep(3 * LIMITS["client_timeout_s"])


def websocket(*frames: bytes) -> Script:
    """A client that opens a WebSocket, and then sends these bytes."""
    lines = ("connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13")
    key = f"sec-websocket-key: {base64.b64encode(bytes(16)).decode()}"
    head = "\r\n".join(("GET /v1/responses HTTP/1.1", "host: soak", *lines, key, "", ""))

    async def script(peer: Peer) -> None:
        await peer.send(head.encode())
        while b"\r\n\r\n" not in peer.received and not peer.closed:
            await peer.read(QUIET_S)
        await peer.send(*frames)

    return script


def masked(payload: bytes, first: int = 0x81, size: int | None = None) -> bytes:
    """A frame of a WebSocket, a text by default; `size` is what it says of its length."""
    length = len(payload) if size is None else size
    head = bytes([first, 0x80 | 127]) + length.to_bytes(8, "big")
    return head + bytes(4) + payload  # a mask of zeros changes nothing


_TEXT_REQUEST, _REQUEST = request(TEXT), request(WHOLE, stream=False)
_CHUNKED = b"POST /v1/responses HTTP/1.1\r\nhost: soak\r\ntransfer-encoding: chunked\r\n\r\n"

PEERS: dict[str, Script] = {
    **{f"endless {kind}": asks(kind) for kind in ENDLESS},
    **{f"endless {kind}, whole": asks(kind, stream=False) for kind in ENDLESS},
    **{kind: asks(kind) for kind in BOMBS},
    **{kind: asks(kind) for kind in ECHOES},
    "echo 401, whole": asks("echo 401", stream=False),
    "sends nothing": sends(),
    "half a request line": sends(b"POST /v1/resp"),
    "half a head": sends(b"POST /v1/responses HTTP/1.1\r\nhost: soak\r\nx-half: "),
    "half a body": sends(post(_TEXT_REQUEST)[:-5]),
    "a dripping head": drips_its_head,
    "a dripping upload": drips,
    "does not read": does_not_read,
    "CONNECT": sends(b"CONNECT example.org:443 HTTP/1.1\r\nhost: example.org:443\r\n\r\n"),
    "POST that upgrades": sends(post(_REQUEST, "connection: upgrade", "upgrade: websocket")),
    "HTTP/1.0": sends(post(_TEXT_REQUEST, version="1.0")),
    "two hosts": sends(post(_REQUEST, "host: other")),
    "a large chunk extension": sends(_CHUNKED + b"5;", *[b"x" * BLOCK_BYTES] * 64, b"\r\n"),
    "broken UTF-8": websocket(masked(b'{"type":"\xff\xfe"}')),
    "a frame of many bytes": websocket(masked(b"{", size=2**62)),
    "half a frame": websocket(masked(b"{", size=1000)),
    "a WebSocket, endless text": websocket(
        masked(request("hostile-text", type="response.create"))
    ),
}  # fmt: skip
"""By name, what each hostile client does. Then it reads until it is rid of."""


def settings() -> dict[str, Any]:
    """`LIMITS`, as far as the service has these settings."""
    return {name: value for name, value in LIMITS.items() if name in Server.__struct_fields__}


async def meet(name: str, host: str, port: int, patience_s: float = PATIENCE_S) -> Result:
    """Let one hostile client do what it does; raises Violation where it is not treated well.

    `patience_s` is the longest that it may take until it is answered or its connection is closed.
    """
    began = time.monotonic()
    peer = Peer(*await asyncio.open_connection(host, port, limit=BLOCK_BYTES))
    try:
        async with asyncio.timeout(patience_s):
            await PEERS[name](peer)
            await peer.end()
    except TimeoutError:
        raise Violation(f"{name}: neither answered nor closed after {patience_s:g} s") from None
    finally:
        peer.leave()
    if SECRET.encode() in peer.received:
        raise Violation(f"{name}: the operator's key came back")
    outcome = f"HTTP {peer.status}" if peer.status else "closed"
    return Result(name, outcome, time.monotonic() - began)
