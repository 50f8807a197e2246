"""The tokens of an answer that passes through unread, for a client whose tokens are counted.

    {"choices": […], …, "usage": {"prompt_tokens": 3, …, "total_tokens": 5}}     near its end

Inside a text the quotes of `"usage"` are escaped, so what is found is the upstream's own word. A
stream tells its usage only to clients that asked for it; else each event counts as a token.
"""

from __future__ import annotations

import re

MAX_TAIL_BYTES = 64 * 1024
"""How much of an answer's end is kept, in bytes; an answer's usage is its last field or chunk."""

_TOTAL = re.compile(rb'"usage"\s*:\s*\{.*?"total_tokens"\s*:\s*(\d{1,12})', re.DOTALL)


class Tally:
    """Looks on as an answer passes."""

    def __init__(self) -> None:
        self._tail = bytearray()
        self._events = 0

    def add(self, piece: bytes) -> None:
        self._events += piece.count(b"data:")
        self._tail += piece
        if len(self._tail) > 2 * MAX_TAIL_BYTES:
            del self._tail[:-MAX_TAIL_BYTES]

    @property
    def total(self) -> int | None:
        """The tokens of request and answer, as the upstream tells them."""
        last = self._tail.rfind(b'"usage"')
        found = _TOTAL.match(self._tail, last) if last >= 0 else None
        return int(found[1]) if found else None

    @property
    def events(self) -> int:
        """How many events have passed."""
        return self._events
