"""aiohttp's connection, as far as it is ours: pieces of a body are taken where they come.

aiohttp wakes the task that reads, which costs a future, a turn of the event loop and a dozen frames
for each read; with few bytes in each, as tokens come, that is a quarter of what a token costs here
(`bench/service.py`). So whoever can do with a piece where it arrives is called from there instead.

    read ──► parser ──► held ──► taker         and a read that is one whole chunk: read ──► taker

The second way saves another tenth, as the parser calls Python three times for each chunk. It is
taken only where the parser stands between two chunks, so that it misses nothing by not seeing one.

This is the one place that leans on what aiohttp does not promise: the class of its connections, the
attribute of a connector that makes them, how a body is held and where its chunks end, and a
constant. pyproject.toml bounds its version.
"""

# ruff: noqa: SLF001
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import Callable
from functools import partial
from typing import Protocol

import aiohttp
from aiohttp import payload
from aiohttp.client_proto import ResponseHandler

setattr(payload, "TOO_LARGE_BYTES_BODY", sys.maxsize)  # noqa: B010 - it is declared final
"""It warns of bodies over 1 MiB, which would better be read from a file; ours are no files."""

_EVENT_END = b"\n\n\r\n"
"""With this a chunk of whole events ends, and no line between two chunks."""


def chunk(data: bytes) -> bytes | None:
    """What is in a chunk (RFC 9112 §7.1) that is there whole, alone, and not the last."""
    size = data.find(b"\r\n")
    piece = data[size + 2 : -2]
    if data[:size].lower() == b"%x" % len(piece) and piece and data.endswith(b"\r\n"):
        return piece
    return None


class Taker(Protocol):
    """Does with pieces of a body, as they come, what needs no waiting."""

    def ready(self) -> bool:
        """Whether it can take a piece now."""
        ...

    def take(self, piece: bytes) -> bool:
        """Take a piece; False: whoever reads has to look now. It may raise, which the read does."""
        ...


class Connector(aiohttp.TCPConnector):
    """Makes such connections, as many as there are requests: our own bound stands before them."""

    def __init__(self, context: ssl.SSLContext, keepalive_timeout: float | None) -> None:
        super().__init__(  # pyright: ignore[reportUnknownMemberType]
            limit=0, ssl=context, keepalive_timeout=keepalive_timeout
        )
        loop = asyncio.get_running_loop()
        self._factory = partial(Connection, loop)  # type: ignore[assignment, unused-ignore]


class Connection(ResponseHandler):
    """Has somebody take what comes, where it comes."""

    _heard: Callable[[bytes], None] | None = None
    _unseen: asyncio.Future[bool] | None = None  # what a cancelled `give` would have said
    _was_paused = False  # in this answer; then aiohttp's parser may be in the middle of anything

    def begins(self) -> None:
        """An answer has begun.

        Its reads are not bounded here: aiohttp winds its clock with each chunk, which costs more
        than that.
        """
        self._unseen = None
        self._was_paused = self._reading_paused
        self.read_timeout = None
        self.start_timeout()

    async def give(self, body: aiohttp.StreamReader, taker: Taker) -> bool:
        """Give what comes to a taker, until it wants a look (True), or there is what to read."""
        looks: asyncio.Future[bool] = self._unseen or self._loop.create_future()
        self._unseen = None
        held = body._buffer
        ready, take = taker.ready, taker.take
        between = False  # whether aiohttp's parser is between two chunks

        def heard(data: bytes) -> None:
            nonlocal between
            try:
                if between and not held and not looks.done() and ready():
                    piece = chunk(data)
                    if piece is not None:  # and the parser is still between two
                        if not take(piece):
                            looks.set_result(True)
                        return
                if data:
                    ResponseHandler.data_received(self, data)
                    ends = body._http_chunk_splits
                    ended = bool(ends and ends[-1] == body.total_bytes)
                    between = ended and data.endswith(_EVENT_END) and not self._was_paused
                if not looks.done():
                    hand_over()
            except Exception as error:
                looks.set_exception(error)

        def hand_over() -> None:
            while held:
                if not ready():
                    looks.set_result(False)
                    return
                if len(held) == 1 and not self._was_paused:
                    # what `read_nowait` does, which are five calls for one small piece
                    piece = held.popleft()
                    body._size -= len(piece)
                    body._cursor += len(piece)
                    if ends := body._http_chunk_splits:
                        ends.clear()
                else:
                    piece = body.read_nowait()
                if not take(piece):
                    looks.set_result(True)
                    return
            if body._eof or body._exception is not None:
                looks.set_result(False)

        self._heard = heard
        try:
            heard(b"")  # something may have come meanwhile
            return await looks
        except asyncio.CancelledError:
            if looks.done() and not looks.cancelled():
                self._unseen = looks
            raise
        finally:
            self._heard = None

    def data_received(self, data: bytes) -> None:
        if data and self._heard is not None:
            self._heard(data)
        else:  # without data, aiohttp goes on with what it held back
            ResponseHandler.data_received(self, data)

    def pause_reading(self) -> None:
        self._was_paused = True
        super().pause_reading()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Only what was paused: aiohttp resumes after each read, and parses no bytes each time."""
        if self._was_paused or self._buffer_paused:
            super().resume_reading(resume_parser)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Tell whoever reads a body that nothing more comes.

        On bytes in mid-body that are no HTTP, aiohttp 3.14 closes the connection without a word.
        """
        body = self._payload
        super().connection_lost(exc)
        if body is not None and not body.is_eof() and body.exception() is None:
            body.set_exception(aiohttp.ClientPayloadError("the connection is gone"))
        if self._heard is not None:
            self._heard(b"")
