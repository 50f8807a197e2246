"""Bodies that an upstream compresses although it was asked not to.

    body = { piece }        each piece as far as it is known, so a stream stays a stream

What a few bytes can grow to has no end, so they grow by one bounded piece at a time: whoever reads
decides after each whether that is enough.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncGenerator, AsyncIterator

from translator.errors import UpstreamError

MAX_PIECE_BYTES = 256 * 1024
"""Largest piece that is decompressed at once, in bytes."""

_GZIP = b"\x1f\x8b"


async def inflated(source: AsyncIterator[bytes], encoding: str) -> AsyncGenerator[bytes]:
    """The pieces of a body under the `content-encoding` that its answer names.

    Raises UpstreamError for an encoding that is not known, and for bytes that do not follow it.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        async for data in source:
            yield data
        return
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise UpstreamError(f"The upstream compresses its answer ({encoding[:40]!a}), unasked.")
    member = zlib.decompressobj()
    begun = b""  # the bytes that tell how it is compressed
    async for data in source:
        if len(begun) < len(_GZIP):
            begun += data
            if len(begun) < len(_GZIP):
                continue
            data = begun
            member = zlib.decompressobj(_window_bits(data))
        full = False
        while data or full:
            if member.eof:
                if not data.startswith(_GZIP):
                    break  # what fills up the last block
                member = zlib.decompressobj(_window_bits(data))
            try:
                piece = member.decompress(data, MAX_PIECE_BYTES)
            except zlib.error:
                message = "The upstream's answer could not be decompressed."
                raise UpstreamError(message) from None
            full = len(piece) == MAX_PIECE_BYTES  # there may be more, without more data
            data = member.unused_data if member.eof else member.unconsumed_tail
            if piece:
                yield piece


def _window_bits(begun: bytes) -> int:
    """The format in the terms of zlib: gzip, zlib, or neither's header (`deflate` as some send)."""
    if begun.startswith(_GZIP):
        return 16 + zlib.MAX_WBITS
    named = begun[0] & 0x0F == zlib.DEFLATED and int.from_bytes(begun[:2], "big") % 31 == 0
    return zlib.MAX_WBITS if named else -zlib.MAX_WBITS
