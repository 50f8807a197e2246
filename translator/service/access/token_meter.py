"""A token meter for answers that are passed through, for clients with a token limit.

    {"choices": […], …, "usage": {"prompt_tokens": 3, …, "total_tokens": 5}}     near its end

Inside a text the quotes of `"usage"` are escaped, so a match is the upstream's own field. A stream
has usage only for clients that asked for it; else each event counts as a token.
"""

from __future__ import annotations

import re

MAX_TAIL_BYTES = 64 * 1024
"""Bytes of an answer's end that are kept: its usage is its last field or chunk."""

_TOTAL = re.compile(rb'"usage"\s*:\s*\{.*?"total_tokens"\s*:\s*(\d{1,12})', re.DOTALL)


class TokenMeter:
    """Counts the tokens of a body, from its events and the usage near its end."""

    def __init__(self) -> None:
        self._tail = bytearray()
        self._events = 0

    def add(self, chunk: bytes) -> None:
        self._events += chunk.count(b"data:")
        self._tail += chunk
        if len(self._tail) > 2 * MAX_TAIL_BYTES:
            del self._tail[:-MAX_TAIL_BYTES]

    @property
    def total(self) -> int | None:
        """The tokens of request and answer, if the upstream states them."""
        last = self._tail.rfind(b'"usage"')
        found = _TOTAL.match(self._tail, last) if last >= 0 else None
        return int(found[1]) if found else None

    @property
    def events(self) -> int:
        """The number of events so far."""
        return self._events
