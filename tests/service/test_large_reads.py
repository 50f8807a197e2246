"""An upstream that is far ahead: a bounded part of what it sends is received in each turn."""

from __future__ import annotations

import asyncio
from collections import Counter

import aiohttp
import pytest
from aiohttp.client_proto import ResponseHandler

from translator.service.upstreams import connection
from translator.service.upstreams.connection import PART_BYTES

from .chat_bodies import HELLO, chunk
from .responses_api import ASK, PATH, events
from .test_connection import Basket, Wire, begun, pumping
from .test_disconnect import ask
from .test_large_requests import Turns
from .wire import Call, Script, ScriptedUpstream, bounded

pytestmark = pytest.mark.anyio

WORDS = [f"{number:06d} " + "x" * 100 for number in range(3000)]
FRAMES = b"".join([chunk({"content": word}) for word in WORDS])
TEXT = "".join(WORDS)


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Either event loop: uvloop reads several times in a row."""
    return "asyncio", {"use_uvloop": request.param}


CHUNK = b"%x\r\n%b\r\n" % (10 * PART_BYTES, b"x" * 10 * PART_BYTES)


class Abortable(Wire):
    aborted = 0

    def abort(self) -> None:
        self.aborted += 1


async def all_at_once(call: Call) -> None:
    await call.head()
    await call.send(HELLO[0], FRAMES, *HELLO[2:])
    await call.end()


async def without_length(call: Call) -> None:
    """A body that ends with its connection."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    call._writer.write(b"".join([head, HELLO[0], FRAMES, *HELLO[2:]]))
    await call._writer.drain()
    call._writer.close()


def text_of(body: bytes) -> str:
    return "".join(
        event["delta"] for event in events(body) if event["type"] == "response.output_text.delta"
    )


@pytest.mark.parametrize("streams", [1, 3])
async def test_a_turn_of_the_loop_receives_a_part(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, streams: int
) -> None:
    """Of all that is ready: in order, and however many upstreams are ahead.

    With a last, small part also the first one of the next read.
    """
    received: Counter[int] = Counter()
    original = ResponseHandler.data_received

    def noting(connection: ResponseHandler, data: bytes) -> None:
        received[turns.count] += len(data)
        original(connection, data)

    monkeypatch.setattr(ResponseHandler, "data_received", noting)
    upstream.script = all_at_once
    async with upstream.socket_client() as client, Turns() as turns:
        posts = [client.post(PATH, json=ASK) for _ in range(streams)]
        answers = await bounded(asyncio.gather(*posts))
    for answer in answers:
        assert text_of(answer.content).startswith(TEXT)
        assert events(answer.content)[-1]["type"] == "response.completed"
    assert sum(received.values()) > streams * len(FRAMES)
    assert max(received.values()) < (1 + streams) * PART_BYTES
    assert sum(received.values()) < 1.5 * len(received) * PART_BYTES


async def test_what_came_before_the_end_of_a_connection_is_received() -> None:
    sink = Basket()
    handler, _, wire, waiting = await pumping(sink)
    handler.data_received(CHUNK)
    assert wire.paused
    await asyncio.sleep(0)
    assert 0 < len(b"".join(sink.chunks)) <= PART_BYTES
    handler.connection_lost(None)
    await bounded(waiting)
    assert len(b"".join(sink.chunks)) == 10 * PART_BYTES


async def test_a_large_read_waits_while_reading_is_paused() -> None:
    """As for a client that does not read; it goes on before the transport does."""
    handler, body, wire = await begun()
    handler.begin_body(body)
    handler.data_received(CHUNK)
    for _ in range(20):
        await asyncio.sleep(0)
    assert wire.paused
    read = 0
    while read < 10 * PART_BYTES:
        chunk = await bounded(body.readany())
        assert len(chunk) <= 2 * PART_BYTES
        read += len(chunk)
        await asyncio.sleep(0)
    assert not wire.paused
    assert read == 10 * PART_BYTES


async def test_a_head_without_end_is_refused_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_HEAD_BYTES", 5 * PART_BYTES)
    loop = asyncio.get_running_loop()
    handler = connection.Connection(loop, connection.LargeReads(loop))
    wire = Abortable()
    handler.connection_made(wire)
    handler.set_response_params(read_until_eof=True)
    handler.data_received(b"HTTP/1.1 100 Continue\r\n\r\n" * 20_000)
    for _ in range(50):
        await asyncio.sleep(0)
    assert wire.aborted == 1
    assert isinstance(handler.exception(), aiohttp.ClientPayloadError)


@pytest.mark.parametrize("script", [all_at_once, without_length])
@pytest.mark.parametrize("path", [PATH, "/v1/chat/completions"])
async def test_nothing_is_lost_where_the_client_reads_late(
    upstream: ScriptedUpstream, script: Script, path: str
) -> None:
    """Also of what had come when the upstream closed its connection."""
    upstream.script = script
    async with upstream.service() as url:
        reader, writer = await ask(url, path)
        for _ in range(100):  # until nothing fits into any buffer any more
            await asyncio.sleep(0.001)
        found = await bounded(read_until(reader, b"[DONE]\n\n\r\n"))
        writer.close()
    if path == PATH:
        assert text_of(unchunked(found)).startswith(TEXT)
    else:
        assert b"".join([FRAMES, *HELLO[2:]]) in unchunked(found)


async def test_a_client_that_leaves_ends_it(upstream: ScriptedUpstream) -> None:
    """In the middle of a read; the next answer is whole."""
    gone = asyncio.Event()

    async def endless(call: Call) -> None:
        await call.head()
        try:
            while True:
                await call.send(FRAMES)
        except ConnectionError:
            gone.set()

    upstream.script = endless
    async with upstream.service() as url:
        reader, writer = await ask(url, PATH)
        await bounded(read_until(reader, WORDS[2000].encode()))
        writer.transport.abort()
        await bounded(gone.wait())
        upstream.script = all_at_once
        reader, writer = await ask(url, PATH)
        found = await bounded(read_until(reader, b"[DONE]\n\n\r\n"))
        writer.close()
    assert text_of(unchunked(found)).startswith(TEXT)


async def read_until(reader: asyncio.StreamReader, mark: bytes) -> bytes:
    found = bytearray()
    while mark not in found[-200_000:]:
        part = await reader.read(65_536)
        assert part, "the connection has ended"
        found += part
    return bytes(found)


def unchunked(answer: bytes) -> bytes:
    """The body of an HTTP answer in chunks, as far as it has come."""
    rest, body = answer.partition(b"\r\n\r\n")[2], b""
    parts: list[bytes] = []
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        parts.append(rest[: int(size, 16)])
        rest = rest[int(size, 16) + 2 :]
    return body.join(parts)
