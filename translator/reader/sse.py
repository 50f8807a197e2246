"""SSE decoder: an upstream's body, cut anywhere by the network, to the payloads of its events.

It accepts the forms that upstreams send: LF, CRLF and CR line ends (but never U+2028, which is
legal inside JSON), a byte order mark, comments anywhere, `data:` with and without a space, indented
lines, a last event without its blank line. Event names are ignored: upstreams that use them repeat
the fact in the payload.

A line that belongs to no event (a proxy's plain-text error, a page of HTML) is kept as `stray`: it
explains why a stream broke off.
"""

from __future__ import annotations

import re

from translator.wire.errors import AnswerTooLarge

MAX_EVENT_BYTES = 8 * 1024 * 1024
"""Largest single event read from an upstream, in bytes: it is held whole before it is decoded."""

MAX_STRAY_BYTES = 500
"""How much text outside of any event is kept, in bytes; enough for an error sentence."""

BULK_BYTES = 8192
"""Longer data is read in parts of this size, without the lines that mean nothing: a loop in Python
over millions of comments or blank lines would take seconds."""

_LF, _CR = b"\n\r"  # as numbers, which `find` and `in` find faster
_BOM = b"\xef\xbb\xbf"
_FIELDS_WITHOUT_PAYLOAD = (b"event", b"id", b"retry")

_FIRST_END = re.compile(rb"\r\n|\n|\r")


def _idle_lines(skipped: bytes) -> re.Pattern[bytes]:
    """Runs of blank lines and of lines that are `skipped`; a group holds the first blank one.

    A run begins behind a line end, and is possessive: no data makes the search slow.
    """
    eol = rb"(?:\r\n|\n|\r(?!\n))"
    end = rb"(%b)" % eol
    line = rb"[ \t\v\f]*+(?:%b[^\r\n]*+|data: ?)%b|[ \t\v\f]++%b" % (skipped, eol, eol)
    return re.compile(
        rb"(?<![^\r\n])(?!(?<=\r)\n)(?:(?:%b)++%b?+(?:[\r\n]++|%b)*+|%b(?:[\r\n]++|%b)++)"
        % (line, end, line, end, line)
    )


_WITHOUT_PAYLOAD = _idle_lines(rb"(?::|(?:event|id|retry)(?=[:\r\n]))")
_WITHOUT_PAYLOAD_OR_STRAY = _idle_lines(rb"(?!data:|error:[ \t\v\f]*+\{)[^\r\n]")


def _blank(run: re.Match[bytes]) -> bytes:
    """What a run of idle lines means: a blank line, if it has one."""
    return b"\r" if run.lastindex else b""  # no "\n", which could be half of a CRLF


class Decoder:
    """Decodes the body of one answer.

    `feed(data)` returns the payloads that are whole now; `end()` the one that the end of the body
    makes whole. Both raise AnswerTooLarge when an event is over `max_event_bytes`.
    """

    __slots__ = (
        *("_after_cr", "_at_start", "_line", "_max", "_payload", "_stray", "_stray_size", "held"),
    )

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max = max_event_bytes
        self._line: list[bytes] = []  # parts of a line not terminated yet
        self._payload: list[bytes] = []  # data lines of an event whose blank line has not come
        self.held = 0
        """The bytes of an event that is not whole yet."""
        self._after_cr = False
        self._at_start = True
        self._stray: list[bytes] = []
        self._stray_size = 0

    @property
    def stray(self) -> str:
        """Text outside of any event, shortened; empty without any."""
        return b"\n".join(self._stray).decode("utf-8", "replace").strip()

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads of the events that end in the next part of the body."""
        if self._after_cr and data[:1] == b"\n":
            data = data[1:]  # the second half of a CRLF that the network cut in two
            self._after_cr = False
        if not data:
            return []
        if not self.held and data.startswith(b"data: ") and _CR not in data:
            self._at_start = False
            if data.find(_LF) == len(data) - 2 and data[-1] == _LF and 8 < len(data) <= self._max:
                return [data[6:-2]]  # one frame of one line, as nearly all reads are
            if frames := self._frames(data):
                return frames
        if len(data) <= BULK_BYTES:
            return self._read_lines(data)
        if _CR not in data and (frames := self._cut_frames(data)):
            return frames
        payloads: list[bytes] = []
        for place in range(0, len(data), BULK_BYTES):
            part = data[place : place + BULK_BYTES]
            if self._after_cr and part[:1] == b"\n":
                part = part[1:]
            after_cr = part.endswith(b"\r")
            if part := self._without_idle_lines(part):
                payloads += self._read_lines(part)
            self._after_cr = after_cr
        return payloads

    def _without_idle_lines(self, data: bytes) -> bytes:
        """The data without lines that change nothing."""
        if self._at_start:  # there may be a byte order mark
            return data
        start = 0
        if self._line:  # the rest of it is no line
            end = _FIRST_END.search(data)
            start = len(data) if end is None else end.end()
        is_full = self._stray_size >= MAX_STRAY_BYTES
        idle = _WITHOUT_PAYLOAD_OR_STRAY if is_full else _WITHOUT_PAYLOAD
        return data[:start] + idle.sub(_blank, data[start:])

    def _read_lines(self, data: bytes) -> list[bytes]:
        """The payloads of the events that end in `data`, line by line."""
        self._after_cr = data.endswith(b"\r")
        lines = data.splitlines()
        rest = None if data.endswith((b"\n", b"\r")) else lines.pop()
        if lines and self._line:
            begun = b"".join(self._line)
            lines[0] = begun + lines[0]
            self._line.clear()
            self.held -= len(begun)
        payloads: list[bytes] = []
        for line in lines:
            self._read_line(line, payloads)
        if rest is not None:
            self._line.append(rest)
            self._hold(len(rest))
        return payloads

    def _frames(self, data: bytes) -> list[bytes]:
        """The payloads of data that is whole frames of one line each; empty for any other."""
        if not data.endswith(b"\n\n") or len(data) > self._max:
            return []
        frames = data[6:-2].split(b"\n\ndata: ")
        for frame in frames:  # which is quicker than to count the line ends
            if not frame or _LF in frame:
                return []
        return frames

    def _cut_frames(self, data: bytes) -> list[bytes]:
        """The payloads of whole frames of one line each, where others are cut at both ends.

        So a read is cut that is filled by an upstream ahead of us. Empty for any other data, of
        which nothing has been read then.
        """
        begin = data.find(b"\n\n") + 2 if self.held else 0
        end = data.rfind(b"\n\n") + 2
        if not data.startswith(b"data: ", begin):
            return []
        frames = self._frames(data[begin:end])
        if not frames:
            return []
        return self.feed(data[:begin]) + frames + self.feed(data[end:])

    def end(self) -> list[bytes]:
        """The payload of an event that ends with the body."""
        payloads: list[bytes] = []
        if self._line:
            self._read_line(b"".join(self._line), payloads)
            self._line.clear()
        self._read_line(b"", payloads)
        return payloads

    def _read_line(self, line: bytes, payloads: list[bytes]) -> None:
        if not line:
            if self._payload:
                payloads.append(
                    self._payload[0] if len(self._payload) == 1 else b"\n".join(self._payload)
                )
                self._payload.clear()
                self.held = 0
            return
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(_BOM)
        if not line.startswith(b"data:"):
            line = self._odd_line(line)
            if not line:
                return
        value = line[6:] if line[5:6] == b" " else line[5:]
        if value:
            self._payload.append(value)
            self._hold(len(value))

    def _odd_line(self, line: bytes) -> bytes:
        """The `data:` line that an odd line means; empty for any other."""
        line = line.lstrip()  # " data: {…}" has been seen
        if line.startswith(b"data:") or not line:
            return line
        field, colon, value = line.partition(b":")
        if colon and field == b"error" and value.lstrip().startswith(b"{"):
            return b'data: {"error":%b}' % value  # llama.cpp before 2025 names the field so
        if not (field == b"" or field in _FIELDS_WITHOUT_PAYLOAD):
            kept = line[: max(0, MAX_STRAY_BYTES - self._stray_size)]
            if kept:
                self._stray.append(kept)
                self._stray_size += len(kept)
        return b""

    def _hold(self, size: int) -> None:
        self.held += size
        if self.held > self._max:
            raise AnswerTooLarge(f"The upstream sent an event of more than {self._max} bytes.")
