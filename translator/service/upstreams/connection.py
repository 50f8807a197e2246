"""aiohttp's connections, with a pump: body chunks are pushed to a sink from `data_received`.

    data_received ──► aiohttp's parser ──┬──► pump ──► ChunkSink
                                         └──► receive buffer ──► read

aiohttp wakes the task that reads, which costs a future, a turn of the event loop and a dozen frames
for each read; with few bytes in each, as tokens come, that is much of what a token costs here. A
sink that needs no waiting is called from there instead. Each chunk goes one of the two ways, and
all that comes is parsed by aiohttp, but for reads that are one whole chunk (`framing`).

A connection also says of a request whether it was reused and ended before any byte of an answer,
which aiohttp's exceptions do not, and the pool makes a new connection where one is asked for.

This is the one file that uses what aiohttp does not document. `_NEEDS` names it; pyproject.toml
bounds aiohttp's version. Where something is missing, all of this is done without.
"""

# ruff: noqa: SLF001
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import ssl
import sys
import time
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, cast

import aiohttp
from aiohttp import payload
from aiohttp.client_proto import ResponseHandler

from translator.service.base.internals import missing_attributes, warn_once
from translator.service.base.light import LightQueue
from translator.service.base.sinks import ChunkSink

from .framing import CRLF, Frames, Marks

_NEEDS: dict[type, str] = {
    aiohttp.ClientSession: "_retry_connection",
    aiohttp.TCPConnector: "_factory _get",
    ResponseHandler: (
        "_buffer _payload _reading_paused data_received pause_reading resume_reading"
        " _pause_transport_reading _resume_transport_reading"
        " connection_lost read_timeout start_timeout set_response_params set_exception"
    ),
    aiohttp.StreamReader: (
        "_buffer _eof _exception _protocol _http_chunk_splits feed_data read_nowait set_exception"
        " begin_http_chunk_receiving end_http_chunk_receiving"
    ),
}

MAX_HEAD_BYTES = 4 * 1024 * 1024
"""What may come before the body of an answer: informational responses (100, 103) without end would
cost the CPU of all other streams. The beginning of a fast body is among it, too."""

PART_BYTES = 32 * 1024
"""How much of larger reads is handed on in one turn of the event loop: 130 tokens, a millisecond.
libuv reads 256 KiB up to 32 times in a row from an upstream that is far ahead, which would stop all
other streams for hundreds of milliseconds."""

MAX_LIGHT = 8
"""How many chunks are moved to a queue whose left end costs time."""

setattr(payload, "TOO_LARGE_BYTES_BODY", sys.maxsize)  # noqa: B010 - it is declared final
"""It warns of bodies over 1 MiB, suggesting a file instead; our bodies are not files."""


_marks = Marks()
_frames = Frames()

_new_connections: ContextVar[bool] = ContextVar("new_connections", default=False)


class ReusedConnectionEnded(aiohttp.ClientError):
    """A reused connection ended (EOF or reset) before any byte of an answer.

    `after_s` are the seconds since the request was begun.
    """

    def __init__(self, error: BaseException, after_s: float) -> None:
        super().__init__(str(error))
        self._error: BaseException | None = error
        self.after_s = after_s

    def take_error(self) -> BaseException:
        """The error of aiohttp. It is not kept here: raised, it has this one as its context."""
        error, self._error = self._error, None
        return error or self


def session(context: ssl.SSLContext, keepalive_timeout: float | None) -> aiohttp.ClientSession:
    """A client without cookies; its connection pool has no limit of its own: ours stands before it.

    Requests raise ReusedConnectionEnded, too.
    """
    jar = aiohttp.DummyCookieJar()
    if MISSING:
        warn_once(
            "aiohttp",
            MISSING,
            "upstream bodies are read without a pump, which costs CPU, and a request that meets a"
            " closing connection fails",
        )
        plain = aiohttp.TCPConnector(limit=0, ssl=context, keepalive_timeout=keepalive_timeout)
        return aiohttp.ClientSession(connector=plain, cookie_jar=jar)
    pool = Pool(limit=0, ssl=context, keepalive_timeout=keepalive_timeout)
    loop = asyncio.get_running_loop()
    pool._factory = partial(Connection, loop, LargeReads(loop))  # type: ignore[assignment, unused-ignore]
    made = aiohttp.ClientSession(connector=pool, cookie_jar=jar)
    # It would send a GET again, after any error, on any connection.
    made._retry_connection = False
    return made


@contextmanager
def new_connections() -> Generator[None]:
    """Requests of this context are sent on new connections."""
    token = _new_connections.set(True)
    try:
        yield
    finally:
        _new_connections.reset(token)


class Pool(aiohttp.TCPConnector):
    """aiohttp's own, which tells connections that they are reused, and can be passed by."""

    async def _get(self, *args: Any, **named: Any) -> Any:  # noqa: ANN401 - aiohttp's own
        """An idle connection, or None."""
        if _new_connections.get():
            return None
        found = await super()._get(*args, **named)
        if found is not None and isinstance(found.protocol, Connection):
            found.protocol.reused_at = time.monotonic()
        return found


class ReceiveBuffer(aiohttp.StreamReader):
    """aiohttp's own, past which chunks can be pumped. Its parser calls the methods."""

    __slots__ = ()
    _protocol: Connection

    # Of aiohttp's own methods, only `readchunk` asks where chunks end.
    begin_http_chunk_receiving = staticmethod(_marks.begin)  # type: ignore[assignment, unused-ignore]
    end_http_chunk_receiving = staticmethod(_marks.end)  # type: ignore[assignment, unused-ignore]

    def feed_data(self, data: bytes, size: int = 0) -> bool:
        pump = self._protocol.pump
        if pump is not None and not pump.needs_reader.done():
            if pump.first is not None:
                pump.others.append(data)
                return False
            if pump.ready():
                pump.first = data
                return False
            pump.needs_reader.set_result(False)
        return super().feed_data(data, size)


def _missing() -> tuple[str, ...]:
    missing = missing_attributes(_NEEDS)
    try:
        object.__new__(aiohttp.StreamReader).__class__ = ReceiveBuffer
    except TypeError:  # as between classes whose instances have different slots
        missing += ("StreamReader.__class__",)
    return missing


MISSING = _missing()


class Pump:
    """Pushes the chunks of a body to a sink, all of one network read at once."""

    __slots__ = ("_body", "_sink", "first", "needs_reader", "others", "ready")

    def __init__(self, body: aiohttp.StreamReader, sink: ChunkSink) -> None:
        self._body = body
        self.ready = sink.ready
        self._sink = sink
        self.first: bytes | None = None
        """The first chunk of the current read, mostly the only one."""
        self.others: list[bytes] = []
        self.needs_reader: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        """Why the pump has stopped: the sink needs its reader (True), or the body does (False).

        The body needs it for what is in its receive buffer, and for its end.
        """

    def take(self, data: bytes) -> bool:
        """Push a read that is one whole chunk; False: it has to be parsed."""
        line, size, lines = _frames[len(data)]
        if self.needs_reader.done():
            return False
        try:
            goes_on = self._sink.push_framed(data, line, size)
            if goes_on is None:
                if not (data.startswith(lines) and data.endswith(CRLF)):
                    return False
                goes_on = self._sink.push(data[len(line) : -len(CRLF)])
            if not goes_on:
                self.needs_reader.set_result(True)
        except Exception as error:
            self.needs_reader.set_exception(error)
        return True

    def push(self) -> None:
        """Push the chunks of a read to the sink."""
        chunk = self.first
        if chunk is not None:
            self.first = None
            if self.others:
                chunk = b"".join((chunk, *self.others))
                self.others.clear()
            try:
                if not self._sink.push(chunk):
                    self.needs_reader.set_result(True)
                    return
            except Exception as error:
                self.needs_reader.set_exception(error)
                return
        body = self._body
        if (body._eof or body._exception is not None) and not self.needs_reader.done():
            self.needs_reader.set_result(False)


class LargeReads:
    """The large reads of all connections: a part of one in each turn of the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Connection] = deque()

    def add(self, connection: Connection) -> None:
        if not self._waiting:
            self._loop.call_soon(self._hand_on)
        self._waiting.append(connection)

    def _hand_on(self) -> None:
        connection = self._waiting.popleft()
        if self._waiting:
            self._loop.call_soon(self._hand_on)
        connection.receive_part()


class Connection(ResponseHandler):
    """A ResponseHandler that can pump its body into a sink."""

    pump: Pump | None = None
    _between = False  # the next read begins with a chunk
    _stopped: Pump | None = None  # its reader was cancelled just as it stopped
    _was_paused = False  # in this body; then aiohttp's parser may hold bytes back
    _rest: bytes | memoryview = b""  # of a large read; the transport is paused meanwhile
    _waits = False  # among the large reads
    _head_left: int | None = None  # bytes that may come before a body; None: it has begun
    reused_at: float | None = None
    """When it was taken for its latest request, by the monotonic clock; None for its first."""

    is_uploading = False
    """Whether a direct request is still being written."""

    def __init__(self, loop: asyncio.AbstractEventLoop, large_reads: LargeReads) -> None:
        super().__init__(loop)
        self._large_reads = large_reads

    def set_response_params(self, **params: Any) -> None:  # noqa: ANN401 - aiohttp's own
        """A request is sent, and its answer awaited."""
        self._head_left = MAX_HEAD_BYTES
        if type(self._buffer) is not deque:
            self._buffer = deque(self._buffer)  # there may be many informational responses
        super().set_response_params(**params)

    def write_request(self, head: bytes, body: bytes | None) -> None:
        """Write a request, whole. The read timeout begins when the system has taken all of it."""
        transport = self.transport
        assert transport is not None
        if body:
            transport.writelines((head, body))
        else:
            transport.write(head)
        self.is_uploading = self.writing_paused
        if not self.is_uploading:
            self.start_timeout()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.is_uploading:
            self.is_uploading = False
            self.start_timeout()

    def begin_body(self, body: aiohttp.StreamReader) -> None:
        """The headers have come.

        From here on the reader bounds its reads: aiohttp's own timer is set again with each chunk.
        """
        if type(body) is aiohttp.StreamReader:  # not the one of an answer that has no body
            body.__class__ = ReceiveBuffer
            body._http_chunk_splits = None
            if len(body._buffer) <= MAX_LIGHT:  # what came with the headers
                body._buffer = cast("deque[Any]", LightQueue(body._buffer))
        self._stopped = None
        self._between = False
        self._head_left = None
        self._was_paused = self._reading_paused
        if not self._buffer:
            self._buffer = cast("deque[Any]", LightQueue())
        self.read_timeout = None
        self.start_timeout()

    async def pump_into(self, sink: ChunkSink, body: aiohttp.StreamReader) -> bool:
        """Pump the body into a sink until one of them needs the reader: whether the sink does.

        Raises what the sink raises. May be cancelled, and called again.
        """
        pump, self._stopped = self._stopped, None
        if pump is None:
            if not sink.ready():
                return False
            pump = Pump(body, sink)
            while body._buffer:
                if not sink.ready():
                    return False
                if not sink.push(body.read_nowait()):
                    return True
            pump.push()
        self.pump = pump
        try:
            return await pump.needs_reader
        except asyncio.CancelledError:
            if not pump.needs_reader.cancelled():
                self._stopped = pump
            raise
        finally:
            self.pump = None

    def data_received(self, data: bytes) -> None:
        pump = self.pump
        if pump is not None and self._between and pump.take(data):
            return
        if len(data) > PART_BYTES:
            self._rest = memoryview(data)
            self._pause_transport_reading()
            self._wait_for_part()
            return
        if self._head_left is not None:
            self._head_left -= len(data)
            if self._head_left < 0:
                self._refuse_head()
                return
        _marks.clear()
        ResponseHandler.data_received(self, data)
        self._between = _marks.between(data) and not self._was_paused
        pump = self.pump
        if pump is not None:
            pump.push()
            if self._was_paused and data and not pump.needs_reader.done():
                self.resume_reading()  # as reading would: for what the parser holds back

    def _wait_for_part(self) -> None:
        if not self._waits:
            self._waits = True
            self._large_reads.add(self)

    def receive_part(self) -> None:
        """Receive the next part of a large read; after the last one, the transport reads on."""
        self._waits = False
        if self._reading_paused or not self._rest:
            return  # `_resume_transport_reading` goes on, or the connection has ended
        self.data_received(self._take_part())
        if not self._reading_paused:
            self._resume_transport_reading()

    def _take_part(self) -> bytes:
        part, self._rest = self._rest[:PART_BYTES], self._rest[PART_BYTES:]
        return bytes(part)

    def _resume_transport_reading(self) -> None:
        """Go on with the rest of a read, and only then with the next one."""
        if self._rest:
            self._wait_for_part()
        else:
            super()._resume_transport_reading()

    def set_exception(self, exc: BaseException, *cause: Any, **named: Any) -> None:  # noqa: ANN401
        """End the wait for an answer."""
        ended = isinstance(exc, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError)
        if ended and self._head_left == MAX_HEAD_BYTES and self.reused_at is not None:
            exc = ReusedConnectionEnded(exc, time.monotonic() - self.reused_at)
        super().set_exception(exc, *cause, **named)

    def _refuse_head(self) -> None:
        self._head_left = None
        self._rest = b""
        if self.transport is not None:
            self.transport.abort()
        error = f"over {MAX_HEAD_BYTES} bytes came, and no answer has begun"
        self.set_exception(aiohttp.ClientPayloadError(error))

    def pause_reading(self) -> None:
        self._was_paused = True
        self._between = False
        super().pause_reading()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Only after a pause: aiohttp resumes after each read, and parses no bytes each time."""
        if self._was_paused:
            super().resume_reading(resume_parser)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Tell the reader of a body that nothing more comes.

        On bytes in mid-body that are no HTTP, aiohttp 3.14 closes the connection without an error.
        """
        while self._rest:  # it had come before the end
            self.data_received(self._take_part())
        body = self._payload
        super().connection_lost(exc)
        if body is not None and not body.is_eof() and body.exception() is None:
            body.set_exception(aiohttp.ClientPayloadError("the connection is gone"))
        if self.pump is not None:
            self.pump.push()
