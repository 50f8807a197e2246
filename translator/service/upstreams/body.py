"""The body of an upstream's answer, read where it is needed: each read is what has come since.

    read = { piece taken by the taker }, ( piece | end | nothing: the taker wants a look ) ;

A read that is cancelled loses nothing. So whoever reads can stop waiting, say to its client that
work goes on, and read on; there is no task between the network and the reader. And where pieces can
be done with at once, no task is woken for them at all: a taker gets them as the network brings
them, until it says that the reader has to look.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol

import httpx

from .connection import Taker
from .transport import Content, content


class Body(Protocol):
    """What can be read."""

    async def read(self, taker: Taker | None = None) -> bytes | None:
        """What has come since, and at least one byte of it; empty at the end.

        What a taker can take may go there instead; None when it wants a look. Raises one of FAULTS.
        """
        ...

    async def aclose(self) -> None:
        """Let go of the connection, which goes on if the whole body has been read."""
        ...


def body(response: httpx.Response) -> Body:
    """The body of a response, as it was sent; the response is not asked for anything more."""
    found = content(response)
    if found is None:
        return _Other(response)
    response.stream = found.stream  # httpx's own holds the response, and that the request
    return _Network(found)


class _Network:
    """What aiohttp has read, without httpx's own layers around it."""

    def __init__(self, content: Content) -> None:
        self._reader = content.reader
        self._connection = content.connection
        self._stream = content.stream

    async def read(self, taker: Taker | None = None) -> bytes | None:
        reader = self._reader
        goes_on = not reader.is_eof() and reader.exception() is None
        if goes_on and taker is not None and self._connection is not None:
            wants_a_look = await self._connection.give(reader, taker)
            if wants_a_look:
                return None
        if reader.exception() is not None:
            return await self._rest()
        return await reader.readany()

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
        await self._stream.aclose()


class _Other:
    """What any other transport of httpx gives: an iterator, which a cancelled read would break."""

    def __init__(self, response: httpx.Response) -> None:
        stream = response.stream
        assert isinstance(stream, httpx.AsyncByteStream)
        self._response = response
        self._pieces: AsyncIterator[bytes] = aiter(stream)
        self._next: asyncio.Task[bytes | None] | None = None

    async def read(self, taker: Taker | None = None) -> bytes:
        piece: bytes | None = b""
        while piece == b"":
            if self._next is None:
                self._next = asyncio.create_task(self._read())
            await asyncio.wait((self._next,))
            done, self._next = self._next, None
            piece = done.result()
        return piece or b""

    async def _read(self) -> bytes | None:
        return await anext(self._pieces, None)

    async def aclose(self) -> None:
        if self._next is not None:
            self._next.cancel()
            await asyncio.wait((self._next,))
        await self._response.aclose()
