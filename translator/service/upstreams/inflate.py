"""Decompression of bodies that an upstream compresses although it was asked not to.

    body   = member, { member }, [ padding ] ;      only gzip has several members
    chunks = as far as the body is known, so a stream stays a stream

A few bytes can decompress to any number. So each read returns a bounded chunk, and the reader
decides after each whether that is enough; and a body that grows more than any text does, or that
consists of empty members, is refused. Between two reads of the same data other tasks get their
turn.
"""

from __future__ import annotations

import asyncio
import zlib
from typing import Protocol

from translator.service.base.sinks import ChunkSink
from translator.wire.errors import UpstreamError

from .body import Body

MAX_CHUNK_BYTES = 256 * 1024
"""Largest chunk that is decompressed at once, in bytes."""

MAX_RATIO = 250
"""How many bytes one compressed byte may become; deflate can do 1032. Event streams reach 20."""

UNCHECKED_BYTES = 8 * 1024 * 1024
"""How many bytes a body may become before its ratio is checked."""

MAX_EMPTY_MEMBERS = 100
"""Most members in a row that hold nothing."""

_WINDOW_BYTES = 4096  # zlib copies what follows a member: little, so that many cost linear time
_MAX_STEPS = 500  # windows and members of one read, which lasts some milliseconds

_GZIP = b"\x1f\x8b"

_KNOWN = frozenset({"gzip", "x-gzip", "deflate"})
_REGISTERED = _KNOWN | {"br", "zstd", "compress", "x-compress", "dcb", "dcz", "identity", ""}
"""Names that may be quoted: any other may be anything, the operator's key included."""


def inflated(body: Body, encoding: str) -> Body:
    """A body decompressed as its `content-encoding` says.

    Raises UpstreamError for an encoding that is not known.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    if name not in _KNOWN:
        codings = {word.strip() for word in name.split(",")}
        shown = f"({name[:40]!a})" if codings <= _REGISTERED else "in a way that is not known"
        raise UpstreamError(f"The upstream compresses its answer {shown}, unasked.")
    return _Inflated(body)


class _Member(Protocol):
    """What `zlib.decompressobj` returns."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def unconsumed_tail(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _Inflated:
    """A body under gzip or one of the two formats that are called deflate."""

    __slots__ = (
        *("_body", "_busy", "_compressed_size", "_data", "_empty_members", "_full", "_is_empty"),
        *("_member", "_members", "_over", "_place", "_size"),
    )

    at_end = False

    def __init__(self, body: Body) -> None:
        self._body = body
        self._data = b""
        self._place = 0  # in the data
        self._member: _Member | None = None  # None: its format is not known yet
        self._members = 0
        self._empty_members = 0
        self._is_empty = True  # the member, so far
        self._full = False  # there may be more, without more data
        self._over = False  # the last member has ended
        self._busy = False  # the latest read did not wait
        self._size = 0
        self._compressed_size = 0

    async def read(self, sink: ChunkSink | None = None) -> bytes:
        """What has come since, at most MAX_CHUNK_BYTES; empty at the end. The sink is not used.

        Raises UpstreamError for bytes that do not follow the encoding, or become too many.
        """
        while True:
            if self._can_go_on():
                if self._busy:
                    await asyncio.sleep(0)
                self._busy = True
                if chunk := self._inflate():
                    return chunk
                continue
            data = await self._body.read()
            if not data:
                return b""
            self._busy = False
            if not self._over:
                self._data = self._data[self._place :] + data
                self._place = 0

    def _can_go_on(self) -> bool:
        """Whether there is something to do without more data."""
        left = len(self._data) - self._place
        return self._full or left >= (len(_GZIP) if self._member is None else 1)

    def _inflate(self) -> bytes:
        """The next chunk of what the data holds; may be empty before its end."""
        chunks: list[bytes] = []
        room = MAX_CHUNK_BYTES
        for _ in range(_MAX_STEPS):
            if room == 0 or not self._can_go_on():
                break
            if self._member is None and not self._begin_member():
                break
            chunk = self._step(room)
            room -= len(chunk)
            chunks.append(chunk)
        return b"".join(chunks)

    def _begin_member(self) -> bool:
        """Choose the format of the next member; False if there is none but padding."""
        begun = self._data[self._place : self._place + len(_GZIP)]
        if self._members and begun != _GZIP:
            self._data, self._place, self._over = b"", 0, True
            return False
        self._member = zlib.decompressobj(_window_bits(begun))
        self._is_empty = True
        return True

    def _step(self, room: int) -> bytes:
        """What one window of the data becomes, at most `room` bytes."""
        member = self._member
        assert member is not None
        window = self._data[self._place : self._place + _WINDOW_BYTES]
        try:
            chunk = member.decompress(window, room)
        except zlib.error:
            raise _not_decompressed() from None
        left = member.unused_data if member.eof else member.unconsumed_tail
        self._place += len(window) - len(left)
        self._compressed_size += len(window) - len(left)
        self._size += len(chunk)
        if self._size > UNCHECKED_BYTES and self._size > MAX_RATIO * self._compressed_size:
            raise _not_decompressed()
        self._full = len(chunk) == room
        self._is_empty = self._is_empty and not chunk
        if member.eof:
            self._end_member()
        return chunk

    def _end_member(self) -> None:
        self._member, self._full = None, False
        self._members += 1
        self._empty_members = self._empty_members + 1 if self._is_empty else 0
        if self._empty_members > MAX_EMPTY_MEMBERS:
            raise _not_decompressed()

    async def aclose(self) -> None:
        await self._body.aclose()


def _not_decompressed() -> UpstreamError:
    return UpstreamError("The upstream's answer could not be decompressed.")


def _window_bits(begun: bytes) -> int:
    """The format in the terms of zlib: gzip, zlib, or raw deflate as some send it."""
    if begun.startswith(_GZIP):
        return 16 + zlib.MAX_WBITS
    has_header = begun[0] & 0x0F == zlib.DEFLATED and int.from_bytes(begun[:2], "big") % 31 == 0
    return zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS
