"""aiohttp's connection, as far as it is ours: it says when the network has brought something.

aiohttp wakes the task that reads, which costs a future, a turn of the event loop and a dozen frames
for each read; with few bytes in each, as tokens come, that is a quarter of what a token costs here
(`bench/service.py`). So whoever can do with a piece where it arrives is called from there instead.

This is the one place that leans on what aiohttp does not promise: the class of its connections, the
attribute of a connector that makes them, how a body is held, and a constant. pyproject.toml bounds
its version.
"""

# ruff: noqa: SLF001
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import Callable
from functools import partial

import aiohttp
from aiohttp import payload
from aiohttp.client_proto import ResponseHandler

setattr(payload, "TOO_LARGE_BYTES_BODY", sys.maxsize)  # noqa: B010 - it is declared final
"""It warns of bodies over 1 MiB, which would better be read from a file; ours are no files."""


class Connector(aiohttp.TCPConnector):
    """Makes such connections, as many as there are requests: our own bound stands before them."""

    def __init__(self, context: ssl.SSLContext, keepalive_timeout: float | None) -> None:
        super().__init__(  # pyright: ignore[reportUnknownMemberType]
            limit=0, ssl=context, keepalive_timeout=keepalive_timeout
        )
        loop = asyncio.get_running_loop()
        self._factory = partial(Connection, loop)  # type: ignore[assignment, unused-ignore]


class Connection(ResponseHandler):
    """`heard` is called after each read of the network, and when the connection is gone."""

    heard: Callable[[], None] | None = None

    def leave_clock(self) -> None:
        """Bound no reads: aiohttp winds its clock with each chunk, which costs more than that."""
        self.read_timeout = None
        self.start_timeout()

    def all_of(self, body: aiohttp.StreamReader) -> bytes:
        """What `body.read_nowait()` returns, which are five calls of Python for one small piece."""
        held = body._buffer
        if len(held) != 1 or self._reading_paused:
            return body.read_nowait()
        piece = held.popleft()
        body._size -= len(piece)
        body._cursor += len(piece)
        if body._http_chunk_splits:
            body._http_chunk_splits.clear()
        return piece

    def data_received(self, data: bytes) -> None:
        ResponseHandler.data_received(self, data)
        if data and self.heard is not None:  # without data, aiohttp goes on with what it held back
            self.heard()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Only what was paused: aiohttp resumes after each read, and parses no bytes each time."""
        if self._reading_paused or self._buffer_paused:
            super().resume_reading(resume_parser)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Tell whoever reads a body that nothing more comes.

        On bytes in mid-body that are no HTTP, aiohttp 3.14 closes the connection without a word.
        """
        body = self._payload
        super().connection_lost(exc)
        if body is not None and not body.is_eof() and body.exception() is None:
            body.set_exception(aiohttp.ClientPayloadError("the connection is gone"))
        if self.heard is not None:
            self.heard()
