"""Body sniffer: finds out whether an upstream's body is a stream or one value (JSON, or HTML).

Upstreams answer with JSON where a stream was asked for, and the other way round; the content type
is not reliable. The first byte that is not white space tells: `{`, `[` and `<` begin a value.
"""

from __future__ import annotations

from translator.wire.errors import UpstreamError

MAX_BODY_BYTES = 64 * 1024 * 1024
"""Largest body that is one value, in bytes: it is held whole before it is decoded."""

_BLANK = b" \t\r\n\xef\xbb\xbf"  # white space and the byte order mark
_KEPT_BLANK_BYTES = 8  # enough for a byte order mark that is cut


class BodySniffer:
    """Passes a stream on, and holds anything else.

    `feed(data)` returns the data for the stream's decoder: none of it while the body is blank, and
    none at all when the body is one value. `streams` is set once the body has shown to be a stream:
    all further data belongs to the decoder.
    """

    def __init__(self) -> None:
        self.streams = False
        self._blank: bytes = b""  # the end of a beginning that does not tell
        self._value: list[bytes] | None = None
        self._size = 0

    @property
    def value(self) -> bytes | None:
        """The body so far when it is one value."""
        return None if self._value is None else b"".join(self._value)

    @property
    def holds_value(self) -> bool:
        """Whether the body is one value."""
        return self._value is not None

    @property
    def size(self) -> int:
        """The bytes of the body so far when it is one value."""
        return self._size

    def feed(self, data: bytes) -> bytes:
        """The data for the decoder. Raises UpstreamError when the value is over MAX_BODY_BYTES."""
        if self._value is None:
            data = self._blank + data
            value = data.lstrip(_BLANK)
            if not value:
                self._blank = data[-_KEPT_BLANK_BYTES:]
                return b""
            if value[:1] not in (b"{", b"[", b"<"):
                self.streams = True
                return data
            self._value = []
            data = value
        self._size += len(data)
        if self._size > MAX_BODY_BYTES:
            raise UpstreamError(f"The upstream's answer is over {MAX_BODY_BYTES} bytes.")
        self._value.append(data)
        return b""
