"""Body sniffer: finds out whether an upstream's body is a stream or one value (JSON, or HTML).

Upstreams answer with JSON where a stream was asked for, and the other way round; the content type
is not reliable. The first byte that is not white space tells: `{`, `[` and `<` begin a value.
"""

from __future__ import annotations

from translator.wire.errors import AnswerTooLarge

_BLANK = b" \t\r\n\xef\xbb\xbf"  # white space and the byte order mark
_KEPT_BLANK_BYTES = 8  # enough for a byte order mark that is cut


def begins_value(body: bytes) -> bool:
    """Whether a body is one value, by its first byte that is not white space."""
    return body.lstrip(_BLANK)[:1] in (b"{", b"[", b"<")


class BodySniffer:
    """Passes a stream on, and holds anything else.

    `feed(data)` returns the data for the stream's decoder: none of it while the body is blank, and
    none at all when the body is one value. `streams` is set once the body has shown to be a stream:
    all further data belongs to the decoder.
    """

    __slots__ = ("_blank", "_max_bytes", "_value", "size", "streams")

    def __init__(self, max_bytes: int) -> None:
        """`max_bytes` is the largest body that is one value: it is held whole."""
        self.streams = False
        self._max_bytes = max_bytes
        self._blank: bytes = b""  # the end of a beginning that does not tell
        self._value: list[bytes] | None = None
        self.size = 0
        """The bytes of the body so far when it is one value."""

    @property
    def value(self) -> bytes | None:
        """The body so far when it is one value."""
        return None if self._value is None else b"".join(self._value)

    @property
    def holds_value(self) -> bool:
        """Whether the body is one value."""
        return self._value is not None

    def feed(self, data: bytes) -> bytes:
        """The data for the decoder. Raises AnswerTooLarge when the value is over the limit."""
        if self._value is None:
            data = self._blank + data
            value = data.lstrip(_BLANK)
            if not value:
                self._blank = data[-_KEPT_BLANK_BYTES:]
                return b""
            if not begins_value(value):
                self.streams = True
                return data
            self._value = []
            data = value
        self.size += len(data)
        if self.size > self._max_bytes:
            raise AnswerTooLarge.than(self._max_bytes)
        self._value.append(data)
        return b""
