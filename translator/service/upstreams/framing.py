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
_MAX_KEPT = 1024
"""Bytes of a read whose frame is kept: those of tokens are smaller."""

_NO_FRAME = (b"-", 0, ())


Frame = tuple[bytes, int, tuple[bytes, ...]]


class Frames(dict[int, Frame]):
    """What a read of some size is if it is one chunk: its chunk-size line, and its data's size.

    Then all forms of that line, with small letters and with capitals: none where no chunk has the
    size.
    """

    def __missing__(self, size: int) -> Frame:
        found = _frame_of(size)
        if size < _MAX_KEPT:
            self[size] = found
        return found


def _frame_of(size: int) -> Frame:
    for digits in range(1, _MAX_DIGITS + 1):
        data = size - digits - 2 * len(CRLF)
        if data > 0 and len(b"%x" % data) == digits:
            line = b"%x\r\n" % data
            return line, data, (line, line.upper())
    return _NO_FRAME


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
