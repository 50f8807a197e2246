"""aiohttp's connection with a pump: body chunks are pushed to a sink from `data_received`.

    socket ──► data_received ──► aiohttp's parser ──► receive buffer ──► pump ──► ChunkSink

aiohttp wakes the task that reads, which costs a future, a turn of the event loop and a dozen frames
for each read; with few bytes in each, as tokens come, that is much of what a token costs here. A
sink that needs no waiting is called from there instead.

This is the one file that uses what aiohttp does not document. `_NEEDS` names it; pyproject.toml
bounds aiohttp's version. Where something is missing, bodies are read without a pump.
"""

# ruff: noqa: SLF001
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import ssl
import sys
from functools import partial

import aiohttp
from aiohttp import payload
from aiohttp.client_proto import ResponseHandler

from translator.service.base.internals import missing_attributes, warn_once
from translator.service.base.sinks import ChunkSink

_NEEDS: dict[type, str] = {
    aiohttp.TCPConnector: "_factory",
    ResponseHandler: (
        "_payload _reading_paused data_received pause_reading resume_reading"
        " connection_lost read_timeout start_timeout"
    ),
    aiohttp.StreamReader: "_buffer _eof _exception read_nowait set_exception",
}

MISSING = missing_attributes(_NEEDS)

setattr(payload, "TOO_LARGE_BYTES_BODY", sys.maxsize)  # noqa: B010 - it is declared final
"""It warns of bodies over 1 MiB, which would better be read from a file; ours are no files."""


def connector(context: ssl.SSLContext, keepalive_timeout: float | None) -> aiohttp.TCPConnector:
    """A connection pool without a limit of its own: ours stands before it."""
    pool = aiohttp.TCPConnector(limit=0, ssl=context, keepalive_timeout=keepalive_timeout)
    if MISSING:
        warn_once("aiohttp", MISSING, "upstream bodies are read without a pump, which costs CPU")
    else:
        loop = asyncio.get_running_loop()
        pool._factory = partial(Connection, loop)  # type: ignore[assignment, unused-ignore]
    return pool


class Pump:
    """Pushes what comes into a body's receive buffer to a sink."""

    __slots__ = ("_body", "_buffer", "_push", "_ready", "needs_reader")

    def __init__(self, body: aiohttp.StreamReader, sink: ChunkSink) -> None:
        self._body = body
        self._buffer = body._buffer
        self._ready = sink.ready
        self._push = sink.push
        self.needs_reader: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        """Why the pump has stopped: the sink needs its reader (True), or the body does (False).

        The body needs it for a chunk that the sink is not ready for, and for its end.
        """

    def push(self) -> None:
        """Push the receive buffer to the sink, unless the pump has stopped."""
        body, needs_reader = self._body, self.needs_reader
        if needs_reader.done():
            return
        try:
            while self._buffer:
                if not self._ready():
                    needs_reader.set_result(False)
                    return
                if not self._push(body.read_nowait()):
                    needs_reader.set_result(True)
                    return
            if body._eof or body._exception is not None:
                needs_reader.set_result(False)
        except Exception as error:
            needs_reader.set_exception(error)


class Connection(ResponseHandler):
    """A ResponseHandler that can pump its body into a sink."""

    _pump: Pump | None = None
    _stopped: Pump | None = None  # its reader was cancelled in the moment in which it stopped
    _was_paused = False  # in this body; then aiohttp's parser may hold bytes back

    def begin_body(self) -> None:
        """The headers have come.

        From here on the reader bounds its reads: aiohttp's own timer is set again with each chunk.
        """
        self._stopped = None
        self._was_paused = self._reading_paused
        self.read_timeout = None
        self.start_timeout()

    async def pump(self, body: aiohttp.StreamReader, sink: ChunkSink) -> bool:
        """Pump the body into a sink until one of them needs the reader: whether the sink does.

        Raises what the sink raises. May be cancelled, and called again.
        """
        pump, self._stopped = self._stopped or Pump(body, sink), None
        self._pump = pump
        try:
            pump.push()  # what came before
            return await pump.needs_reader
        except asyncio.CancelledError:
            if not pump.needs_reader.cancelled():
                self._stopped = pump
            raise
        finally:
            self._pump = None

    def data_received(self, data: bytes) -> None:
        ResponseHandler.data_received(self, data)
        if data and self._pump is not None:  # without data, aiohttp resumes its parser
            self._pump.push()

    def pause_reading(self) -> None:
        self._was_paused = True
        super().pause_reading()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Only after a pause: aiohttp resumes after each read, and parses no bytes each time."""
        if self._was_paused:
            super().resume_reading(resume_parser)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Tell the reader of a body that nothing more comes.

        On bytes in mid-body that are no HTTP, aiohttp 3.14 closes the connection without an error.
        """
        body = self._payload
        super().connection_lost(exc)
        if body is not None and not body.is_eof() and body.exception() is None:
            body.set_exception(aiohttp.ClientPayloadError("the connection is gone"))
        if self._pump is not None:
            self._pump.push()
