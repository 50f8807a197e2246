"""The body of an upstream's answer; each read returns what has come since the last one.

    read = { chunk pushed to the sink }, ( chunks | end | the sink needs its reader ) ;

A read that is cancelled loses nothing. So a reader can stop waiting, send its client a heartbeat,
and read on, without a task between the network and the reader. Chunks that a sink can consume wake
no task at all: they are pushed as the network brings them, until the sink needs its reader.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol

import aiohttp
import httpx

from translator.service.base.sinks import ChunkSink

from .connection import Connection
from .direct import DirectBody


class Body(Protocol):
    """The body of a response."""

    async def read(self, sink: ChunkSink | None = None) -> bytes | None:
        """What has come since, at least one byte; empty at the end.

        What the sink can consume may be pushed there instead; None when it needs its reader. Raises
        one of TRANSPORT_ERRORS.
        """
        ...

    @property
    def at_end(self) -> bool:
        """Whether all of it has been read, as far as that is known without a read."""
        ...

    async def aclose(self) -> None:
        """Release the connection, which is reused if the whole body has been read."""
        ...


class ConnectionBody:
    """A body as aiohttp receives it. Its reads are not bounded where there is a `Connection`."""

    __slots__ = ("_connection", "_reader", "_response")

    def __init__(self, response: aiohttp.ClientResponse | DirectBody) -> None:
        self._response = response
        self._reader = response.content
        connection = response.connection  # None: the whole body has come
        protocol = None if connection is None else connection.protocol
        self._connection = protocol if isinstance(protocol, Connection) else None
        if self._connection is not None:
            self._connection.begin_body(self._reader)

    async def read(self, sink: ChunkSink | None = None) -> bytes | None:
        reader = self._reader
        if sink is not None and self._connection is not None:
            open_still = not reader.is_eof() and reader.exception() is None
            if open_still and await self._connection.pump_into(sink, reader):
                return None
        if reader.exception() is not None:
            return await self._rest()
        return await reader.readany()

    @property
    def at_end(self) -> bool:
        return self._reader.at_eof() and self._reader.exception() is None

    async def _rest(self) -> bytes:
        """What came before the connection broke: aiohttp keeps it, and raises instead."""
        reader, error = self._reader, self._reader.exception()
        reader.set_exception(None)  # type: ignore[arg-type] # as it was before
        try:
            rest = reader.read_nowait()
        finally:
            if error is not None:
                reader.set_exception(error)
        return rest or await reader.readany()

    async def aclose(self) -> None:
        self._response.release()
        await self._response.wait_for_close()


class StreamBody:
    """A body of any other transport of httpx: an iterator, which a cancelled read would break."""

    __slots__ = ("_chunks", "_reading", "_response")

    at_end = False

    def __init__(self, response: httpx.Response) -> None:
        stream = response.stream
        assert isinstance(stream, httpx.AsyncByteStream)
        self._response = response
        self._chunks: AsyncIterator[bytes] = aiter(stream)
        self._reading: asyncio.Task[bytes | None] | None = None

    async def read(self, sink: ChunkSink | None = None) -> bytes:
        chunk: bytes | None = b""
        while chunk == b"":
            if self._reading is None:
                self._reading = asyncio.create_task(self._next())
            await asyncio.wait((self._reading,))
            done, self._reading = self._reading, None
            chunk = done.result()
        return chunk or b""

    async def _next(self) -> bytes | None:
        return await anext(self._chunks, None)

    async def aclose(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait((self._reading,))
        await self._response.aclose()
