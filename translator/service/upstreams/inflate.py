"""Decompression of bodies that an upstream compresses although it was asked not to.

    body = { chunk }        each as far as it is known, so a stream stays a stream

A few bytes can decompress to any number. So each read returns a bounded chunk, and the reader
decides after each whether that is enough.
"""

from __future__ import annotations

import zlib

from translator.service.base.sinks import ChunkSink
from translator.wire.errors import UpstreamError

from .body import Body

MAX_CHUNK_BYTES = 256 * 1024
"""Largest chunk that is decompressed at once, in bytes."""

_GZIP = b"\x1f\x8b"

_KNOWN = frozenset({"gzip", "x-gzip", "deflate"})


def inflated(body: Body, encoding: str) -> Body:
    """A body decompressed as its `content-encoding` says.

    Raises UpstreamError for an encoding that is not known.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    if name not in _KNOWN:
        raise UpstreamError(f"The upstream compresses its answer ({encoding[:40]!a}), unasked.")
    return _Inflated(body)


class _Inflated:
    """A body under gzip or one of the two formats that are called deflate."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self._begun = b""  # the first bytes, which show the format
        self._member = zlib.decompressobj()
        self._data = b""
        self._full = False  # there may be more, without more data

    async def read(self, sink: ChunkSink | None = None) -> bytes:
        """What has come since, at most MAX_CHUNK_BYTES; empty at the end. The sink is not used.

        Raises UpstreamError for bytes that do not follow the encoding.
        """
        while True:
            while self._data or self._full:
                if chunk := self._inflate():
                    return chunk
            data = await self._body.read()
            if not data:
                return b""
            if len(self._begun) >= len(_GZIP):
                self._data = data
                continue
            self._begun += data
            if len(self._begun) >= len(_GZIP):
                self._data = self._begun
                self._member = zlib.decompressobj(_window_bits(self._data))

    def _inflate(self) -> bytes:
        if self._member.eof:
            if not self._data.startswith(_GZIP):
                self._data, self._full = b"", False  # padding behind the last member
                return b""
            self._member = zlib.decompressobj(_window_bits(self._data))
        try:
            chunk = self._member.decompress(self._data, MAX_CHUNK_BYTES)
        except zlib.error:
            message = "The upstream's answer could not be decompressed."
            raise UpstreamError(message) from None
        self._full = len(chunk) == MAX_CHUNK_BYTES
        self._data = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
        return chunk

    async def aclose(self) -> None:
        await self._body.aclose()


def _window_bits(begun: bytes) -> int:
    """The format in the terms of zlib: gzip, zlib, or raw deflate as some send it."""
    if begun.startswith(_GZIP):
        return 16 + zlib.MAX_WBITS
    has_header = begun[0] & 0x0F == zlib.DEFLATED and int.from_bytes(begun[:2], "big") % 31 == 0
    return zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS
