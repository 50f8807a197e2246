"""Decompression of what a foreign server sends, within bounds.

plain = at most `max_bytes`, then cut ;
beyond UNCHECKED_BYTES: at most MAX_RATIO times what was sent
"""

from __future__ import annotations

import zlib

UNCHECKED_BYTES = 1024 * 1024
"""How much a body may become before its ratio is checked."""

MAX_RATIO = 20
"""How many bytes one compressed byte may become; pages reach 10."""

ACCEPTED = "gzip, deflate"
"""The value of `accept-encoding`."""

_GZIP_BITS = 16 + zlib.MAX_WBITS
_GZIP = frozenset({"gzip", "x-gzip"})


class NotInflated(Exception):
    """The body cannot be decompressed, or becomes too large; the message is for the model."""


class Inflater:
    """Collects a body chunk by chunk, up to a size."""

    __slots__ = ("_member", "_sent", "body", "cut", "max_bytes")

    def __init__(self, encoding: str, max_bytes: int) -> None:
        """Raises NotInflated for an encoding that was not asked for."""
        name = encoding.strip().lower()
        if name not in _GZIP | {"", "identity", "deflate"}:
            raise NotInflated("it is compressed in a way that was not asked for")
        self.max_bytes = max_bytes
        self.body = bytearray()
        self.cut = False
        """Whether there was more than `max_bytes`."""

        self._sent = 0
        bits = {"": None, "identity": None, "deflate": zlib.MAX_WBITS}.get(name, _GZIP_BITS)
        self._member = None if bits is None else zlib.decompressobj(bits)

    def feed(self, chunk: bytes) -> None:
        """Add a chunk as it was sent; once `cut` is set, no more is needed. Raises NotInflated."""
        self._sent += len(chunk)
        member = self._member
        if member is None:
            self._add(chunk)
            return
        while chunk and not self.cut and not member.eof:
            try:
                self._add(member.decompress(chunk, self.max_bytes - len(self.body) + 1))
            except zlib.error:
                raise NotInflated("it could not be decompressed") from None
            chunk = member.unconsumed_tail
            size = len(self.body)
            if size > UNCHECKED_BYTES and size > MAX_RATIO * self._sent:
                raise NotInflated("it becomes too large when it is decompressed")

    def _add(self, data: bytes) -> None:
        room = self.max_bytes - len(self.body)
        self.body += data[:room]
        self.cut = len(data) > room
