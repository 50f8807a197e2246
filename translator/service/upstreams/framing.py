"""Chunked framing (RFC 9112, 7.1): a read that is one whole chunk, recognised without a parser.

    read = size in hexadecimal, CRLF, data, CRLF ;

A server writes each token as one chunk, and most come as one read. Between two chunks a parser is
in the same state before such a read and after it, so it need not see it: a comparison of a few
bytes takes the place of aiohttp's parser and of what it calls. Whether a read ends between two
chunks, the parser tells through `marks`.
"""

from __future__ import annotations

from functools import partial

CRLF = b"\r\n"

_MAX_DIGITS = 4
_MAX_HEADS = 4096
_NO_HEADS = (b"-", b"-")  # no read begins like this


class Heads(dict[int, tuple[bytes, bytes]]):
    """The heads that a read of some size has if it is one chunk: in small letters, in capitals."""

    def __missing__(self, size: int) -> tuple[bytes, bytes]:
        heads = _heads_of(size)
        if len(self) < _MAX_HEADS:
            self[size] = heads
        return heads


def _heads_of(size: int) -> tuple[bytes, bytes]:
    for digits in range(1, _MAX_DIGITS + 1):
        data = size - digits - 2 * len(CRLF)
        if data > 0 and len(b"%x" % data) == digits:
            return b"%x\r\n" % data, b"%X\r\n" % data
    return _NO_HEADS


class Marks:
    """What a parser told last of the chunks in one read: one began, or ended; None: nothing."""

    def __init__(self) -> None:
        self.open: bool | None = None
        # they cost no Python call
        self.begin = partial(setattr, self, "open", True)
        self.end = partial(setattr, self, "open", False)

    def clear(self) -> None:
        """Forget it, before the next read."""
        self.open = None

    def between(self, data: bytes) -> bool:
        """Whether the next chunk begins behind this read: no part of its size has come."""
        return self.open is False and data[-2:] == CRLF
