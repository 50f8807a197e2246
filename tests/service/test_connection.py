"""An upstream's connection, and the pump that pushes its body into a sink."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Sequence
from itertools import pairwise

import aiohttp
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from translator.service.upstreams import connection, framing
from translator.service.upstreams.body import ConnectionBody

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"
EVENT = b'data: {"choices":[]}\n\n'


class Wire(asyncio.Transport):
    """A transport that nothing is written to."""

    paused = False

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def close(self) -> None: ...


class Basket:
    """A sink that keeps chunks, and needs its reader after so many of them."""

    def __init__(self, needs_reader_after: int = 0, *, takes_framed: bool = False) -> None:
        self.chunks: list[bytes] = []
        self.takes = True
        self.takes_framed = takes_framed
        self.framed = 0
        self._needs_reader_after = needs_reader_after

    def ready(self) -> bool:
        return self.takes

    def push_framed(self, data: bytes, line: bytes, size: int) -> bool | None:
        whole = (
            data.startswith(line) and data.endswith(b"\r\n") and len(data) == len(line) + size + 2
        )
        if not (self.takes_framed and whole):
            return None
        self.framed += 1
        return self.push(data[len(line) : -2])

    def push(self, chunk: bytes) -> bool:
        self.chunks.append(chunk)
        return len(self.chunks) != self._needs_reader_after


class Response:
    """As much of aiohttp's response as a body needs."""

    def __init__(self, content: aiohttp.StreamReader, handler: connection.Connection) -> None:
        self.content = content
        self.connection = self
        self.protocol = handler


async def begun(first: bytes = b"") -> tuple[connection.Connection, aiohttp.StreamReader, Wire]:
    """A connection on which an answer has begun, and its body; `first` came with the headers."""
    wire = Wire()
    loop = asyncio.get_running_loop()
    handler = connection.Connection(loop, connection.LargeReads(loop))
    handler.connection_made(wire)
    handler.set_response_params(read_until_eof=True, auto_decompress=False, read_bufsize=64)
    handler.data_received(HEAD + first)
    _, body = await handler.read()  # type: ignore[attr-defined]
    return handler, body, wire


async def pumping(
    sink: Basket, first: bytes = b""
) -> tuple[connection.Connection, aiohttp.StreamReader, Wire, asyncio.Task[bool]]:
    """The same, and the task that pumps the body into a sink; it waits for more."""
    handler, body, wire = await begun(first)
    handler.begin_body(body)
    waiting = asyncio.create_task(handler.pump_into(sink, body))
    await asyncio.sleep(0)
    return handler, body, wire, waiting


async def received(
    reads: Sequence[bytes],
    sink: Basket | None,
    *,
    with_head: bool = False,
    at_once: int = 1,
    refuse: frozenset[int] = frozenset(),
) -> bytes:
    """The body that is made of these reads, as a sink and a reader get it; no sink: all by reads.

    `at_once` is how many reads come before the reader runs. `refuse` names reads before which the
    sink begins, or ceases, not to be ready.
    """
    first, reads = (reads[0], reads[1:]) if with_head else (b"", reads)
    handler, body, wire = await begun(first)
    content = ConnectionBody(Response(body, handler))  # type: ignore[arg-type]
    kept = Basket() if sink is None else sink

    async def read() -> None:
        while (chunk := await content.read(sink)) != b"":
            if chunk is not None:
                kept.chunks.append(chunk)

    reading = asyncio.create_task(read())
    await asyncio.sleep(0)
    for number, data in enumerate(reads):
        if number in refuse:
            kept.takes = not kept.takes
        if wire.paused:  # the network would wait, too
            kept.takes = True
            for _ in range(5):
                await asyncio.sleep(0)
            assert not wire.paused
        handler.data_received(data)
        if number % at_once == 0:
            await asyncio.sleep(0)
    await asyncio.wait_for(reading, 5)
    return b"".join(kept.chunks)


def coded(chunk: bytes, size: str = "%x", extension: bytes = b"") -> bytes:
    return b"%b%b\r\n%b\r\n" % ((size % len(chunk)).encode(), extension, chunk)


LONG = b"x" * 60
"""aiohttp pauses at the third of these, or at the fifth chunk, in the middle of a read."""

chunked = st.tuples(
    st.sampled_from(
        [
            EVENT,
            EVENT * 2,
            b"\n\n\r\n",
            b"a\r\n\n\n\r\n",
            b"5\r\nhello\r\n",
            b"0\r\n\r\n",
            b"x",
            LONG,
        ]
    ),
    st.sampled_from(["%x", "%X", "%04x"]),
    st.sampled_from([b"", b"", b"", b";name=value", b';a="b;c"']),
)


@given(
    parts=st.lists(chunked, max_size=8),
    trailers=st.sampled_from([b"", b"", b"x-checksum: 1\r\n", b"a: b\r\nc: d\r\n"]),
    cuts=st.lists(st.integers(0, 1000), max_size=12),
    between=st.booleans(),
    with_head=st.booleans(),
    needs_reader_after=st.integers(0, 3),
    at_once=st.integers(1, 3),
    refuse=st.frozensets(st.integers(0, 12), max_size=4),
    takes_framed=st.booleans(),
)
# the end of a chunk's data looks like the end of a chunk, and what follows like a whole one
@example(
    [(EVENT, "%x", b""), (b"\n\n\r\n3\r\nabc\r\n", "%x", b"")],
    b"",
    [35, 43],
    False,
    False,
    0,
    9,
    frozenset(),
    True,
)
# paused in the middle of a read, more than once
@example([(LONG, "%x", b"")] * 8, b"", [], False, False, 0, 1, frozenset({0}), True)
# paused before the body is read at all
@example([(b"x", "%x", b"")] * 8, b"", [], False, True, 0, 1, frozenset(), True)
@example(
    [(b"x", "%x", b"")] * 7, b"", [30], False, True, 0, 1, frozenset(), False
)  # and after its last chunk
def test_a_body_is_the_same_wherever_reads_cut_it(
    parts: list[tuple[bytes, str, bytes]],
    trailers: bytes,
    cuts: list[int],
    between: bool,
    with_head: bool,
    needs_reader_after: int,
    at_once: int,
    refuse: frozenset[int],
    takes_framed: bool,
) -> None:
    """Cut anywhere or between chunks, pumped or read: each chunk arrives, once and in order."""
    chunks = [*(coded(*part) for part in parts), b"0\r\n" + trailers + b"\r\n"]
    reads = chunks
    if not between:
        whole = b"".join(chunks)
        edges = sorted({0, len(whole), *(cut % len(whole) for cut in cuts)})
        reads = [whole[start:end] for start, end in pairwise(edges)]
    sink = Basket(needs_reader_after, takes_framed=takes_framed)
    pumped = asyncio.run(received(reads, sink, with_head=with_head, at_once=at_once, refuse=refuse))
    assert pumped == b"".join(chunk for chunk, _, _ in parts)
    assert asyncio.run(received(reads, None, at_once=at_once)) == pumped


@pytest.mark.parametrize("size", [1, len(EVENT)])
def test_pumping_continues_after_a_pause(size: int) -> None:
    """Nobody reads until aiohttp pauses; what it still holds of its last read is not lost."""

    async def run() -> None:
        handler, body, wire = await begun()
        handler.begin_body(body)
        basket = Basket()
        basket.takes = False
        waits = asyncio.create_task(handler.pump_into(basket, body))
        await asyncio.sleep(0)
        many = coded(b"x" * size) * (body._high_water // size + 2)
        handler.data_received(many)
        assert not await asyncio.wait_for(waits, 5)
        assert wire.paused
        basket.takes = True
        reading = asyncio.create_task(handler.pump_into(basket, body))
        await asyncio.sleep(0)
        handler.data_received(coded(EVENT) + LAST)
        await asyncio.wait_for(reading, 5)
        assert body.is_eof()
        assert b"".join(basket.chunks) == many.count(b"x") * b"x" + EVENT

    asyncio.run(run())


def test_what_aiohttp_holds_back_after_a_pause_is_not_left_there() -> None:
    """Before the body is read, it pauses for the number of chunks, but stops only in the next one.

    By then reading has been resumed, so nothing but a further resumption shows the rest of a read.
    """

    async def run() -> None:
        handler, body, wire = await begun(coded(b"x") * 5)
        assert wire.paused
        handler.begin_body(body)
        basket = Basket()
        reading = asyncio.create_task(handler.pump_into(basket, body))
        await asyncio.sleep(0)
        assert not wire.paused
        handler.data_received(coded(b"first") + coded(b"second"))
        assert b"".join(basket.chunks) == b"xxxxxfirstsecond"
        reading.cancel()

    asyncio.run(run())


def test_a_pump_that_has_stopped_does_not_end_a_pause() -> None:
    """The receive buffer has a bound, whatever came before."""

    async def run() -> None:
        basket = Basket()
        handler, _, wire, reading = await pumping(basket, coded(b"x") * 5)
        basket.takes = False
        handler.data_received(coded(LONG))
        handler.data_received(coded(LONG) * 2)
        assert wire.paused
        assert not await asyncio.wait_for(reading, 5)

    asyncio.run(run())


def test_what_came_before_a_break_is_read() -> None:
    """However many chunks: aiohttp would raise in place of the rest."""

    async def run() -> None:
        handler, body, _ = await begun()
        content = ConnectionBody(Response(body, handler))  # type: ignore[arg-type]
        handler.data_received(coded(EVENT))
        handler.data_received(coded(EVENT))
        handler.connection_lost(None)
        basket = Basket()
        assert await content.read(basket) == EVENT * 2
        with pytest.raises(aiohttp.ClientPayloadError):
            await content.read(basket)
        assert basket.chunks == []

    asyncio.run(run())


def test_a_break_ends_the_pump() -> None:
    async def run() -> None:
        handler, body, _, waiting = await pumping(Basket())
        handler.connection_lost(None)
        assert not await asyncio.wait_for(waiting, 5)
        assert isinstance(body.exception(), aiohttp.ClientPayloadError)

    asyncio.run(run())


def test_that_the_sink_needs_its_reader_is_not_lost_with_a_wait() -> None:
    """A reader may be cancelled in the moment in which the last chunk comes."""

    async def run() -> None:
        basket = Basket(needs_reader_after=1)
        handler, body, _, waiting = await pumping(basket)
        handler.data_received(coded(EVENT))
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert basket.chunks == [EVENT]
        assert await asyncio.wait_for(handler.pump_into(basket, body), 5)

    asyncio.run(run())


def test_a_sink_may_need_its_reader_after_what_was_in_the_buffer() -> None:
    """Nothing more need come for that."""

    async def run() -> None:
        handler, body, _ = await begun(coded(EVENT))
        handler.begin_body(body)
        basket = Basket(needs_reader_after=1)
        assert await asyncio.wait_for(handler.pump_into(basket, body), 5)
        assert basket.chunks == [EVENT]

    asyncio.run(run())


def test_an_idle_connection_holds_no_sink() -> None:
    """The sink holds the turn, and the connection waits in the pool."""

    async def run() -> None:
        handler, _, _, waiting = await pumping(Basket())
        handler.data_received(coded(EVENT) + LAST)
        assert await asyncio.wait_for(waiting, 5) is False
        assert handler.pump is None

    asyncio.run(run())


def test_the_next_body_on_a_connection_has_a_pump_of_its_own() -> None:
    """A reader that was cancelled as its pump stopped may never come back."""

    async def run() -> None:
        handler, body, _, waiting = await pumping(Basket())
        handler.data_received(coded(EVENT) + LAST)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        handler.set_response_params(read_until_eof=True, auto_decompress=False)
        handler.data_received(HEAD)
        _, body = await handler.read()  # type: ignore[attr-defined]
        handler.begin_body(body)
        basket = Basket()
        waiting = asyncio.create_task(handler.pump_into(basket, body))
        await asyncio.sleep(0)
        handler.data_received(coded(EVENT))
        assert basket.chunks == [EVENT]
        waiting.cancel()

    asyncio.run(run())


def test_a_chunk_that_comes_as_its_reader_is_cancelled_is_kept() -> None:
    """The pump has stopped by then; the next one finds the chunk in the receive buffer."""

    async def run() -> None:
        basket = Basket()
        handler, body, _, waiting = await pumping(basket)
        waiting.cancel()
        handler.data_received(coded(EVENT))
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert basket.chunks == []
        again = asyncio.create_task(handler.pump_into(basket, body))
        await asyncio.sleep(0)
        assert basket.chunks == [EVENT]
        again.cancel()

    asyncio.run(run())


def test_chunks_of_one_read_are_one_push() -> None:
    """The sink is asked once whether it is ready, and once before: nothing is written meanwhile."""

    class Once(Basket):
        asked = 0

        def ready(self) -> bool:
            self.asked += 1
            return self.asked <= 2

    async def run() -> None:
        basket = Once()
        handler, body, _, waiting = await pumping(basket)
        handler.data_received(coded(b"first") + coded(b"second"))
        assert basket.chunks == [b"firstsecond"]
        handler.data_received(coded(b"th") + coded(b"ird"))
        assert not await asyncio.wait_for(waiting, 5)
        assert body.read_nowait() == b"third"

    asyncio.run(run())


@pytest.mark.parametrize("takes_framed", [False, True])
@pytest.mark.parametrize("form", ["%x", "%X"])
def test_a_read_that_is_one_whole_chunk_is_not_parsed(form: str, takes_framed: bool) -> None:
    """Where a chunk begins is known from the second read on, and again after one that is cut."""
    parsed: list[bytes] = []

    async def run() -> None:
        basket = Basket(takes_framed=takes_framed)
        handler, _, _, waiting = await pumping(basket)
        parser = handler._parser
        assert parser is not None

        class Spy:
            def feed_data(self, data: bytes) -> object:
                parsed.append(data)
                return parser.feed_data(data)

        handler._parser = Spy()  # type: ignore[assignment]
        sizes = (1, 15, 16, 171, 255, 256, 4095)
        sent = [coded(b"x" * size, form) for size in sizes]
        cut = coded(b"y" * 40, form)
        two, padded = sent[1] + sent[2], coded(b"y", "%04x")
        for data in (*sent, cut[:-1], cut[-1:], *sent, two, *sent, padded, *sent):
            handler.data_received(data)
        assert parsed == [sent[0], cut[:-1], cut[-1:], sent[0], two, padded]
        handler.data_received(LAST)
        assert not await asyncio.wait_for(waiting, 5)
        body = b"".join(basket.chunks)
        assert body.count(b"x") == 4 * sum(sizes) + 15 + 16
        assert body.count(b"y") == 40 + 1
        small = sum((form % size) == f"{size:x}" for size in sizes)
        assert basket.framed == takes_framed * (4 * small - 2)

    asyncio.run(run())


def test_the_heads_of_chunks_are_bounded() -> None:
    """There is one for each size of a read that has come, as far as they are of use."""
    frames = framing.Frames()
    for size in range(100_000):
        line, inner, lines = frames[size]
        assert line == b"-" or len(line) + inner + 2 == size
        assert all(one == b"-" or int(one, 16) == inner for one in (line, *lines))
    assert len(frames) <= 4096


@pytest.mark.parametrize(
    "data",
    [b"-" + b"a" * 18 + b"\r\n", b"-\r\n", b"5\r\nhelloX\n", b"5\r\nhello\n\n", b"5;hello\r\n"],
)
def test_a_read_that_is_no_chunk_is_left_to_the_parser(data: bytes) -> None:
    async def run() -> None:
        basket = Basket()
        handler, _, _, waiting = await pumping(basket)
        pump = handler.pump
        assert pump is not None
        assert not pump.take(data)
        assert basket.chunks == []
        assert not waiting.done()
        waiting.cancel()

    asyncio.run(run())


@pytest.mark.parametrize("takes_framed", [False, True])
def test_what_a_sink_raises_the_read_raises(takes_framed: bool) -> None:
    class Broken(Basket):
        def push(self, chunk: bytes) -> bool:
            if self.chunks:
                raise ValueError("broken")
            return super().push(chunk)

    async def run() -> None:
        handler, _, _, waiting = await pumping(Broken(takes_framed=takes_framed))
        handler.data_received(coded(EVENT))
        handler.data_received(coded(EVENT))
        with pytest.raises(ValueError, match="broken"):
            await waiting

    asyncio.run(run())


def test_many_responses_may_come_before_a_body_and_none_in_it() -> None:
    """Informational ones, in a queue whose both ends are cheap; then it takes hardly any memory."""

    async def run() -> None:
        handler, body, _ = await begun()
        assert type(handler._buffer) is deque
        handler.begin_body(body)
        assert sys.getsizeof(handler._buffer) < 100
        handler.data_received(LAST + HEAD + LAST)  # a second one, unasked
        assert len(handler._buffer) == 1
        assert handler.should_close
        handler.set_response_params()
        assert type(handler._buffer) is deque
        assert len(handler._buffer) == 1

    asyncio.run(run())
