"""Bodies and messages that drip, or are many: they hold no place, no time without end, no memory."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import socket
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.service.chat_bodies import COMPLETION
from tests.service.responses_api import ASK
from tests.service.wire import BOUND_S, Call, ScriptedUpstream, bounded, make_settings, serving
from translator.service.base import uploads
from translator.service.base.keys import new_key, store
from translator.service.base.uploads import Upload, Uploads
from translator.service.config.loading import read_table
from translator.service.server.websocket_protocol import WebSocketProtocol

from . import test_client_leaves
from .test_connections import Client, Held, connected, drip, each, streaming

pytestmark = pytest.mark.anyio

PATHS = ["/v1/responses", "/v1/responses/compact", "/v1/chat/completions"]


def body_for(path: str, size: int = 2) -> bytes:
    text = "x" * size
    if path.endswith("completions"):
        return json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}).encode()
    return json.dumps({"model": "m", "input": text}).encode()


def head_of(path: str, size: int, *lines: bytes) -> bytes:
    head = [b"POST %b HTTP/1.1" % path.encode(), b"host: a", b"content-length: %d" % size, *lines]
    return b"\r\n".join([*head, b"", b""])


@asynccontextmanager
async def uploading(url: str, path: str, size: int, held: bytes = b"{") -> AsyncGenerator[Client]:
    """A client that has sent the beginning of a body."""
    async with connected(url) as client:
        await client.send(head_of(path, size) + held)
        yield client


@pytest.mark.parametrize("path", PATHS)
async def test_an_unfinished_upload_holds_no_place(upstream: ScriptedUpstream, path: str) -> None:
    async with upstream.service(max_concurrent_requests=5) as url, AsyncExitStack() as stack:
        for _ in range(5):
            await stack.enter_async_context(uploading(url, path, 1000))
        async with httpx.AsyncClient(base_url=url, timeout=BOUND_S) as client:
            for _ in range(3):
                answer = await client.post(path, content=body_for(path))
                assert answer.status_code == 200


@pytest.mark.parametrize("held", [b"", b"{"], ids=["nothing of it", "a byte"])
async def test_slow_uploads_give_way_to_new_connections(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, held: bytes
) -> None:
    """The one that has taken longest first; not those that have only just begun."""
    monkeypatch.setattr(uploads, "YOUNG_S", 0.0)
    async with upstream.service(max_connections=3) as url, AsyncExitStack() as stack:
        slow = [
            await stack.enter_async_context(uploading(url, PATHS[0], 1000, held)) for _ in range(3)
        ]
        for _ in range(2):
            async with httpx.AsyncClient(base_url=url, timeout=BOUND_S) as client:
                assert (await client.post(PATHS[0], json=ASK)).status_code == 200
        assert (await slow[0].answer())[0] == 503
        monkeypatch.setattr(uploads, "YOUNG_S", 1000.0)
        await stack.enter_async_context(uploading(url, PATHS[0], 1000, held))
        async with connected(url) as late:
            await late.send(b"GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n")
            assert (await late.answer())[0] == 503


async def test_an_upload_holds_none_of_its_client_s_places_either(
    upstream: ScriptedUpstream,
) -> None:
    key = new_key()
    table = {
        "upstreams": {"up": {"base_url": upstream.url}},
        "clients": {"alice": {"keys": [str(store(key))], "max_concurrent_requests": 1}},
    }
    bearer = {"authorization": f"Bearer {key}"}
    async with serving(read_table(table, {})) as url, connected(url) as slow:
        line = f"authorization: Bearer {key}".encode()
        await slow.send(head_of(PATHS[0], 1000, line) + b"{")
        async with httpx.AsyncClient(base_url=url, timeout=BOUND_S, headers=bearer) as client:
            assert (await client.post(PATHS[0], json=ASK)).status_code == 200


WAYS: dict[str, tuple[bytes, bytes]] = {
    "length": (b"content-length: 10000", b"x" * 1000),
    "chunks": (b"transfer-encoding: chunked", b"1\r\nx\r\n" * 200),
    "trailers": (b"transfer-encoding: chunked", b"2\r\n{}\r\n0\r\n" + b"a: b\r\n" * 200),
}


@pytest.mark.parametrize("path", PATHS)
async def test_a_dripping_upload_is_cut_in_time(upstream: ScriptedUpstream, path: str) -> None:
    """Each byte would start the limit of silence anew."""

    async def check(way: tuple[bytes, bytes]) -> None:
        line, drops = way
        async with connected(url) as client:
            await client.send(b"POST %b HTTP/1.1\r\nhost: a\r\n%b\r\n\r\n" % (path.encode(), line))
            assert 2 <= await drip(client, drops) < 500

    async with upstream.service(client_timeout_s=0.5) as url:
        await each(WAYS, check)
    assert upstream.calls == []


async def test_what_drips_gets_a_408(upstream: ScriptedUpstream) -> None:
    async with upstream.service(client_timeout_s=0.4) as url:
        async with uploading(url, PATHS[0], 1000) as client:
            answering = asyncio.ensure_future(client.answer())
            for _ in range(100):
                await client.send(b"x")
                await asyncio.wait((answering,), timeout=0.08)
                if answering.done():
                    break
            status, headers, body = await answering
            assert (status, headers["connection"]) == (408, "close")
            assert "did not arrive in time" in json.loads(body)["error"]["message"]
            assert await client.rest() == b""


async def test_the_whole_time_of_an_upload_is_limited_at_any_rate(
    upstream: ScriptedUpstream,
) -> None:
    settings = {"upload_timeout_s": 0.5, "min_upload_bytes_per_s": 0}
    async with upstream.service(**settings) as url, uploading(url, PATHS[0], 10**7) as client:
        answering = asyncio.ensure_future(client.answer())
        while not answering.done():
            await client.send(b"x" * 1000)
            await asyncio.wait((answering,), timeout=0.02)
        assert (await answering)[0] == 408


async def test_a_slow_and_steady_client_is_served(upstream: ScriptedUpstream) -> None:
    """Far longer than `client_timeout_s` allows for a silence, with pauses within it."""
    body = body_for(PATHS[0], 300_000)
    async with upstream.service(client_timeout_s=0.4) as url:
        async with uploading(url, PATHS[0], len(body), b"") as client:
            for start in range(0, len(body), 15_000):
                await client.send(body[start : start + 15_000])
                await asyncio.sleep(0.06)
            assert (await client.answer())[0] == 200
    assert len(upstream.calls) == 1


def test_a_mobile_client_with_20_megabytes_has_the_time_for_it() -> None:
    """256 kbit/s, by the defaults; and a byte a second has not."""
    server = make_settings("http://up.test").server
    uploads = Uploads(
        max_bytes=server.max_upload_bytes,
        silence_s=server.client_timeout_s,
        total_s=server.upload_timeout_s,
        bytes_per_s=server.min_upload_bytes_per_s,
    )

    def seconds(rate: int) -> float:
        """How long a client may send at a rate in bytes per second."""
        upload, now = uploads.begin(0, lambda: None), 0.0
        while now < upload.deadline(now):
            now += 1
            upload.add(rate)
        upload.close()
        return now

    assert seconds(32_000) * 32_000 > 20 * 1024 * 1024
    assert seconds(1) <= server.client_timeout_s + 1
    assert uploads.bytes == 0


async def test_without_a_key_no_upload_is_waited_for(upstream: ScriptedUpstream) -> None:
    table = {
        "upstreams": {"up": {"base_url": upstream.url}},
        "clients": {"alice": {"keys": [str(store(new_key()))]}},
    }
    async with serving(read_table(table, {})) as url:
        for path in PATHS:
            async with uploading(url, path, 10_000_000, b"") as client:
                assert (await client.answer())[0] == 401


async def test_a_full_service_refuses_an_upload_before_it_is_read(
    upstream: ScriptedUpstream,
) -> None:
    held = Held(upstream)
    async with upstream.service(max_concurrent_requests=1) as url, streaming(url, held, 1):
        for path in PATHS:
            async with uploading(url, path, 10_000_000, b"") as client:
                assert (await client.answer())[0] == 503
        held.go_on.set()


# --- memory -------------------------------------------------------------------------------------------


async def test_the_bytes_of_all_uploads_are_bounded_and_the_oldest_gives_way(
    upstream: ScriptedUpstream,
) -> None:
    async with upstream.service(max_upload_bytes=100_000) as url, AsyncExitStack() as stack:
        slow: list[Client] = []
        for path in PATHS:
            size = len(body_for(path, 60_000))
            part = body_for(path, 60_000)[:40_000]
            slow.append(await stack.enter_async_context(uploading(url, path, size, part)))
            await asyncio.sleep(0.1)
        status, headers, body = await slow[0].answer()
        assert (status, headers["connection"]) == (503, "close")
        assert json.loads(body)["error"]["code"] == "server_is_overloaded"
        async with httpx.AsyncClient(base_url=url, timeout=BOUND_S) as client:
            answer = await client.post(PATHS[0], content=body_for(PATHS[0], 90_000))
            assert answer.status_code == 200  # however many are slow
        for client in slow[1:]:
            assert (await client.answer())[0] == 503
        # one alone may be larger than all together
        async with httpx.AsyncClient(base_url=url, timeout=BOUND_S) as client:
            answer = await client.post(PATHS[0], content=body_for(PATHS[0], 300_000))
            assert answer.status_code == 200


def test_who_has_taken_longest_gives_way() -> None:
    gone: list[str] = []
    uploads = Uploads(max_bytes=100, silence_s=10, total_s=100, bytes_per_s=1)

    def begun(name: str) -> Upload:
        return uploads.begin(0, lambda: gone.append(name))

    empty, first, second = begun("empty"), begun("first"), begun("second")
    empty.add(0)
    first.add(60)
    second.add(40)
    assert (uploads.bytes, gone) == (100, [])
    second.add(1)
    assert (uploads.bytes, gone) == (41, ["first"])
    assert (first.gave_way, second.gave_way) == (True, False)
    first.add(1000)  # what it still had does not count any more
    first.close()
    assert uploads.bytes == 41
    second.add(1000)  # it is the only one
    assert gone == ["first"]
    empty.add(5)
    assert (uploads.bytes, gone) == (5, ["first", "second"])
    empty.close()
    empty.close()
    assert uploads.bytes == 0


# --- messages on a WebSocket ---------------------------------------------------------------------------


class RawSocket:
    """A WebSocket whose frames are written byte by byte."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def open(self) -> None:
        key = b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n"
        await self.client.send(
            b"GET /v1/responses HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\n"
            b"upgrade: websocket\r\n%b\r\n" % key
        )
        head = await bounded(self.client.reader.readuntil(b"\r\n\r\n"))
        assert head.startswith(b"HTTP/1.1 101 ")

    async def close_code(self) -> int:
        """The code of the close frame, the next one that comes."""
        first, length = await bounded(self.client.reader.readexactly(2))
        assert first == 0x88
        payload = await bounded(self.client.reader.readexactly(length))
        return int.from_bytes(payload[:2], "big")


def frame_of(payload: bytes, *, opcode: int = 1, final: bool = True) -> bytes:
    """A frame with a mask of zeros."""
    first = bytes([opcode | (0x80 if final else 0)])
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return first + length + bytes(4) + payload


DRIPS: dict[str, bytes] = {
    "within a frame": frame_of(b'{"type":"response.create"' + b" " * 1000),
    "frame by frame": frame_of(b"{", final=False) + frame_of(b" ", opcode=0, final=False) * 200,
    "within the head": b"\x81",
}


async def test_a_dripping_message_is_cut_in_time(upstream: ScriptedUpstream) -> None:
    async def code_after(data: bytes) -> int:
        async with connected(url) as client:
            raw = RawSocket(client)
            await raw.open()
            closing = asyncio.ensure_future(raw.close_code())
            for number in range(len(data)):
                await client.send(data[number : number + 1])
                await asyncio.wait((closing,), timeout=0.03)
                if closing.done():
                    break
            return await closing

    async def check(data: bytes) -> None:
        for _ in range(3):
            try:
                assert await code_after(data) == 1008
            except ConnectionResetError:
                continue  # a byte that crossed the close: the system forgets what came before
            return
        pytest.fail("the connection is always reset")

    async with upstream.service(client_timeout_s=0.5) as url:
        await each(DRIPS, check)


async def test_a_slow_message_is_served(upstream: ScriptedUpstream) -> None:
    text = json.dumps({"type": "response.create", **json.loads(body_for(PATHS[0], 60_000))})
    data = frame_of(text.encode())
    async with upstream.service(client_timeout_s=0.4) as url, connected(url) as client:
        raw = RawSocket(client)
        await raw.open()
        for start in range(0, len(data), 3000):
            await client.send(data[start : start + 3000])
            await asyncio.sleep(0.05)
        assert b"response.completed" in await bounded(
            client.reader.readuntil(b"response.completed")
        )


async def test_a_ping_waits_for_the_end_of_a_message_that_arrives(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client cannot answer it in the middle of a frame."""
    import functools

    import uvicorn

    config = functools.partial(uvicorn.Config, ws_ping_interval=0.1, ws_ping_timeout=0.2)
    monkeypatch.setattr(uvicorn, "Config", config)
    text = json.dumps({"type": "response.create", **json.loads(body_for(PATHS[0], 40_000))})
    data = frame_of(text.encode())
    async with upstream.service() as url, connected(url) as client:
        raw = RawSocket(client)
        await raw.open()
        for start in range(0, len(data), 2000):
            await client.send(data[start : start + 2000])
            await asyncio.sleep(0.05)
        await bounded(client.reader.readuntil(b"response.completed"))


async def test_messages_count_among_the_bytes_of_all_uploads(upstream: ScriptedUpstream) -> None:
    async with upstream.service(max_upload_bytes=50_000) as url:
        async with connected(url) as client, connected(url) as other:
            raw = RawSocket(client)
            await raw.open()
            await client.send(frame_of(b" " * 60_000)[:30_000])
            await asyncio.sleep(0.1)
            await other.send(head_of(PATHS[0], 100_000) + b" " * 30_000)
            assert await raw.close_code() == 1013


@pytest.mark.parametrize("part", [b"", b" "])
async def test_the_frames_of_a_message_are_bounded(upstream: ScriptedUpstream, part: bytes) -> None:
    """Each takes more memory than its bytes."""
    async with upstream.service() as url, connected(url) as client:
        raw = RawSocket(client)
        await raw.open()
        await client.send(frame_of(b"{", final=False))
        with contextlib.suppress(ConnectionError):  # it is closed while more is on its way
            await client.send(frame_of(part, opcode=0, final=False) * 20_000)
            assert await raw.close_code() == 1008
        assert await client.rest() == b""


async def test_messages_of_many_larger_frames_are_served(upstream: ScriptedUpstream) -> None:
    data = frame_of(b'{"type":"response.create","model":"m","input":"Hi"', final=False)
    data += frame_of(b" " * 100, opcode=0, final=False) * 6000 + frame_of(b"}", opcode=0)
    async with upstream.service() as url, connected(url) as client:
        raw = RawSocket(client)
        await raw.open()
        await client.send(data)
        await bounded(client.reader.readuntil(b"response.completed"))


async def test_pings_of_a_client_that_does_not_read_take_no_memory(
    upstream: ScriptedUpstream,
) -> None:
    pings = frame_of(b"x" * 125, opcode=9) * 1000
    async with upstream.service() as url:
        host, _, port = url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
        client = Client(reader, writer)
        await RawSocket(client).open()
        for _ in range(60):  # 8 MB
            await bounded(client.send(pings))
        [protocol] = [one for one in gc.get_objects() if type(one) is WebSocketProtocol]
        assert protocol.transport.get_write_buffer_size() < 1_000_000
        writer.transport.abort()


async def test_messages_that_wait_for_their_turn_count_among_all_uploads(
    upstream: ScriptedUpstream,
) -> None:
    """Two clients queue more than all uploads may take; the oldest message gives way."""
    held = Held(upstream)
    async with upstream.service(max_upload_bytes=100_000) as url:
        address = url.replace("http", "ws", 1) + "/v1/responses"
        async with connect(address, proxy=None) as one, connect(address, proxy=None) as other:
            ask = {"type": "response.create", "model": "m", "input": "Hi"}
            large = json.dumps(ask | {"input": "x" * 60_000})
            for client in (one, other):
                await client.send(json.dumps(ask))
                await bounded(held.begun.acquire())
                await client.send(large)
                await asyncio.sleep(0.1)
            held.go_on.set()
            ends: list[dict[str, Any]] = []
            for client in (one, one, other, other):
                event: dict[str, Any] = {}
                while event.get("type") not in ("error", "response.completed"):
                    event = json.loads(await bounded(client.recv()))
                ends.append(event)
    assert [end["type"] for end in ends] == [
        "response.completed",
        "error",
        *["response.completed"] * 2,
    ]
    assert (ends[1]["status"], ends[1]["error"]["code"]) == (503, "server_error")
    assert len(upstream.calls) == 3


async def test_a_complete_response_is_not_held_for_ever_for_who_does_not_read(
    upstream: ScriptedUpstream,
) -> None:
    answered = asyncio.Event()

    async def script(call: Call) -> None:
        body = json.loads(json.dumps(COMPLETION))
        body["choices"][0]["message"]["content"] = "x" * 16 * 1024 * 1024
        await call.answer(body)
        answered.set()

    upstream.script = script
    body = body_for(PATHS[0])
    async with upstream.service(exchange_timeout_s=1.5, keep_alive_timeout_s=0.5) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(sock, (host, int(port)))
            await loop.sock_sendall(sock, head_of(PATHS[0], len(body)) + body)
            await bounded(answered.wait())
            one = test_client_leaves.Client(sock)
            assert test_client_leaves.is_held(one)

            async def read() -> None:
                with contextlib.suppress(ConnectionError):
                    while await loop.sock_recv(sock, 1000):  # it reads, but hardly
                        await asyncio.sleep(0.02)

            reading = asyncio.ensure_future(read())
            await test_client_leaves.let_go(one)
            reading.cancel()


async def test_a_session_notices_that_its_message_was_cut(upstream: ScriptedUpstream) -> None:
    settings: dict[str, Any] = {"client_timeout_s": 0.3, "max_websockets": 1}
    async with upstream.service(**settings) as url:
        address = url.replace("http", "ws", 1) + "/v1/responses"
        async with connect(address, proxy=None) as client:
            client.transport.write(b"\x81")
            with pytest.raises(ConnectionClosed):
                await bounded(client.recv())
        async with asyncio.timeout(BOUND_S):  # its place is free again
            while True:
                try:
                    async with connect(address, proxy=None):
                        return
                except Exception:
                    await asyncio.sleep(0.05)
