"""Bodies that an upstream compresses although it was asked not to.

    body = { piece }        each piece as far as it is known, so a stream stays a stream

What a few bytes can grow to has no end, so they grow by one bounded piece at a time: whoever reads
decides after each whether that is enough.
"""

from __future__ import annotations

import zlib

from translator.wire.errors import UpstreamError

from .body import Body
from .connection import Taker

MAX_PIECE_BYTES = 256 * 1024
"""Largest piece that is decompressed at once, in bytes."""

_GZIP = b"\x1f\x8b"


def inflated(body: Body, encoding: str) -> Body:
    """A body under the `content-encoding` that its answer names.

    Raises UpstreamError for one that is not known.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    if name not in ("gzip", "x-gzip", "deflate"):
        raise UpstreamError(f"The upstream compresses its answer ({encoding[:40]!a}), unasked.")
    return _Inflated(body)


class _Inflated:
    """A body under gzip or one of the two formats that are called deflate."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self._begun = b""  # the bytes that tell how it is compressed
        self._member = zlib.decompressobj()
        self._data = b""
        self._full = False  # there may be more, without more data

    async def read(self, taker: Taker | None = None) -> bytes:
        """What has come since, at most MAX_PIECE_BYTES; empty at the end. No taker gets anything.

        Raises UpstreamError for bytes that do not follow the encoding.
        """
        while True:
            while self._data or self._full:
                if piece := self._inflate():
                    return piece
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
                self._data, self._full = b"", False  # what fills up the last block
                return b""
            self._member = zlib.decompressobj(_window_bits(self._data))
        try:
            piece = self._member.decompress(self._data, MAX_PIECE_BYTES)
        except zlib.error:
            message = "The upstream's answer could not be decompressed."
            raise UpstreamError(message) from None
        self._full = len(piece) == MAX_PIECE_BYTES
        self._data = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
        return piece

    async def aclose(self) -> None:
        await self._body.aclose()


def _window_bits(begun: bytes) -> int:
    """The format in the terms of zlib: gzip, zlib, or neither's header (`deflate` as some send)."""
    if begun.startswith(_GZIP):
        return 16 + zlib.MAX_WBITS
    named = begun[0] & 0x0F == zlib.DEFLATED and int.from_bytes(begun[:2], "big") % 31 == 0
    return zlib.MAX_WBITS if named else -zlib.MAX_WBITS
