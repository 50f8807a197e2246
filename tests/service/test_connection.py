"""What an upstream's connection gives to whoever takes pieces as they come."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import pairwise

import aiohttp
import httpx
import pytest
from aiohttp.client_proto import ResponseHandler
from hypothesis import example, given
from hypothesis import strategies as st

from translator.service.upstreams import connection
from translator.service.upstreams.body import _Network
from translator.service.upstreams.transport import Content

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"
EVENT = b'data: {"choices":[]}\n\n'


class Wire(asyncio.Transport):
    """A transport that nothing is written to."""

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self) -> None: ...


class Basket:
    """Takes all that comes, or wants a look after so many pieces."""

    def __init__(self, look_after: int = 0) -> None:
        self.pieces: list[bytes] = []
        self.takes = True
        self._look_after = look_after

    def ready(self) -> bool:
        return self.takes

    def take(self, piece: bytes) -> bool:
        self.pieces.append(piece)
        return len(self.pieces) != self._look_after


class Parsed:
    """How many reads aiohttp has parsed."""

    def __init__(self) -> None:
        self.reads = 0

    def __enter__(self) -> Parsed:
        self._real = ResponseHandler.data_received

        def count(handler: ResponseHandler, data: bytes) -> None:
            self.reads += 1
            self._real(handler, data)

        ResponseHandler.data_received = count  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        ResponseHandler.data_received = self._real  # type: ignore[method-assign]


async def begun() -> tuple[connection.Connection, aiohttp.StreamReader]:
    """A connection on which an answer has begun, and its body."""
    handler = connection.Connection(asyncio.get_running_loop())
    handler.connection_made(Wire())
    handler.set_response_params(read_until_eof=True, auto_decompress=False)
    handler.data_received(HEAD)
    _, body = await handler.read()  # type: ignore[attr-defined]
    handler.begins()
    return handler, body


async def received(reads: Iterable[bytes], *, look_after: int = 0) -> bytes:
    """The body that is made of these reads, after its head, as takers and reads see it."""
    handler, body = await begun()
    basket = Basket(look_after)

    async def read() -> None:
        while not body.is_eof():
            if not await handler.give(body, basket):
                basket.pieces.append(await body.readany())

    reading = asyncio.create_task(read())
    await asyncio.sleep(0)
    for data in reads:
        handler.data_received(data)
        if look_after:
            await asyncio.sleep(0)
    await asyncio.wait_for(reading, 5)
    return b"".join(basket.pieces)


def coded(piece: bytes, size: str = "%x", extension: bytes = b"") -> bytes:
    return b"%b%b\r\n%b\r\n" % ((size % len(piece)).encode(), extension, piece)


bodies = st.lists(
    st.tuples(
        st.sampled_from([EVENT, EVENT * 2, b"\n\n\r\n", b"a\r\n\n\n\r\n", b"5\r\nhello\r\n", b"x"]),
        st.sampled_from(["%x", "%X", "%04x"]),
        st.sampled_from([b"", b"", b"", b";name=value"]),
    ),
    max_size=8,
)


@given(bodies, st.lists(st.integers(0, 400), max_size=8), st.integers(0, 3), st.booleans())
# what looks like the end of a chunk, and then like a whole one, in the middle of one
@example([(EVENT, "%x", b""), (b"\n\n\r\n3\r\nabc\r\n", "%x", b"")], [35, 43], 0, False)
# half of a chunk's size, and what then looks like a whole chunk
@example([(EVENT, "%x", b""), (b"hello\r\n" + b"x" * 46, "%x", b"")], [29, 39], 0, False)
def test_a_body_is_the_same_wherever_reads_cut_it(
    parts: list[tuple[bytes, str, bytes]], cuts: list[int], look_after: int, between: bool
) -> None:
    """Cut anywhere, or between chunks: what the chunks say arrives, once and in order."""
    chunks = [coded(*part) for part in parts] + [LAST]
    if between:
        reads = chunks
    else:
        whole = b"".join(chunks)
        edges = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
        reads = [whole[start:end] for start, end in pairwise(edges)]
    body = asyncio.run(received(reads, look_after=look_after))
    assert body == b"".join(piece for piece, _, _ in parts)


def test_whole_chunks_are_not_parsed_twice() -> None:
    """Only the first of them, which shows where a chunk ends, and the last."""
    with Parsed() as parsed:
        body = asyncio.run(received([coded(EVENT)] * 9 + [LAST]))
    assert body == EVENT * 9
    assert parsed.reads == 1 + 1 + 1  # the head, a chunk, the end


def test_a_chunk_is_whole_alone_and_written_as_the_standard_says() -> None:
    assert connection.chunk(b"5\r\nhello\r\n") == b"hello"
    assert connection.chunk(b"0005\r\nhello\r\n") is None  # left to the parser
    assert connection.chunk(b"1A\r\n%b\r\n" % (b"x" * 26)) == b"x" * 26
    for other in (
        b"",
        b"\r\n",
        LAST,
        b"5\r\nhello",
        b"5\r\nhello\n\n",
        b"5\r\nhello\r\n5\r\nhello\r\n",
        b"+5\r\nhello\r\n",
        b"0x5\r\nhello\r\n",
        b"5 \r\nhello\r\n",
        b"5;a\r\nhello\r\n",
        b"6\r\nhello\r\n",
    ):
        assert connection.chunk(other) is None


@pytest.mark.parametrize("size", [1, len(EVENT)])
def test_reading_goes_on_after_a_pause(size: int) -> None:
    """Nobody reads until aiohttp pauses; what it still has of its last read is not passed over."""

    async def run() -> None:
        handler, body = await begun()
        basket = Basket()
        basket.takes = False
        waits = asyncio.create_task(handler.give(body, basket))
        await asyncio.sleep(0)
        many = coded(b"x" * size) * (body._high_water_chunks + 1)
        handler.data_received(many)
        assert not await asyncio.wait_for(waits, 5)
        assert handler._reading_paused
        basket.takes = True
        reading = asyncio.create_task(handler.give(body, basket))
        await asyncio.sleep(0)
        handler.data_received(coded(EVENT) + LAST)
        await asyncio.wait_for(reading, 5)
        assert body.is_eof()
        assert b"".join(basket.pieces) == many.count(b"x") * b"x" + EVENT

    asyncio.run(run())


def test_what_came_before_a_break_is_read() -> None:
    """However many pieces: aiohttp would raise in place of the rest."""

    async def run() -> None:
        handler, body = await begun()
        content = Content(body, handler)
        content.stream = httpx.ByteStream(b"")
        network = _Network(content)
        handler.data_received(coded(EVENT))
        handler.data_received(coded(EVENT))
        handler.connection_lost(None)
        basket = Basket()
        assert await network.read(basket) == EVENT * 2
        with pytest.raises(aiohttp.ClientPayloadError):
            await network.read(basket)
        assert basket.pieces == []

    asyncio.run(run())


def test_that_the_taker_wants_a_look_is_not_lost_with_a_wait() -> None:
    """Who waits may stop in the moment in which the last piece comes."""

    async def run() -> None:
        handler, body = await begun()
        basket = Basket(look_after=1)
        waiting = asyncio.create_task(handler.give(body, basket))
        await asyncio.sleep(0)
        handler.data_received(coded(EVENT))
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert basket.pieces == [EVENT]
        assert await asyncio.wait_for(handler.give(body, basket), 5)

    asyncio.run(run())
