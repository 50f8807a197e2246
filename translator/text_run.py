"""Text run: chunks that only add to the text of the open item, translated from bytes to bytes.

    data: {…"content":" there"…}   ──►   event: response.output_text.delta
                                         data: {…"sequence_number":7,…"delta":" there",…}

Nearly all chunks are like the one before but for their text, and so are their events but for text
and number. The parts of the event that stay the same are encoded once. Where the chunk has the same
bytes around its text as one that was decoded, only its text is decoded, and goes over as it is.

`Translation.receive` translates every chunk, these too, into the same bytes: a run only spares the
hops from decoder to reader to writer to encoder, and their objects. Any chunk that may be more than
text is left to it. Of the instructions that a token costs in the service, a run saves six of ten
(`python -m bench instructions --variant "text run"`).

Chunks come and events go in the framing of a connection, such as the chunked coding of HTTP. A run
takes both into account, so that neither is another copy and another call for each token.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from .reader.fast_chunks import FastReader, NotMore
from .wire.events import Event
from .wire.json_values import NOT_JSON
from .writer.open_items import Growing

_LF, _CR = b"\n\r"  # as numbers, which `find` and `in` find faster

_NUMBER = 2**53 - 1
_TEXT = "-text-"
"""Stand for the number and the text in the event that is encoded once."""

LESSONS = 4
"""How often the bytes around the text are learned in vain: with some upstreams they always differ
(OpenAI pads each chunk against eavesdroppers)."""

LASTING = 16
"""After so many chunks, what was learned had its use."""

_UNKNOWN = 2**62
_MAX_KEPT = 4096
"""Numbers whose digits are kept: as many as an answer may have tokens."""

_MAX_SIZE_KEPT = 1024
"""Bytes of an event whose line is kept: those of tokens are smaller."""


_encode_text = msgspec.json.Encoder().encode
_decode_text = msgspec.json.Decoder(str).decode
_join = b"".join

_STAND_IN = _encode_text(_TEXT)


class _Digits(dict[int, bytes]):
    """The digits of a number, made once where it is small."""

    def __missing__(self, number: int) -> bytes:
        digits = b"%d" % number
        if number < _MAX_KEPT:
            self[number] = digits
        return digits


_digits = _Digits()


class Lines(dict[int, bytes]):
    """The line before a number of bytes, made once where that is small.

    The template has one place, for the number; without a template there is no line.
    """

    def __init__(self, template: bytes = b"") -> None:
        self._template = template

    def __missing__(self, size: int) -> bytes:
        line = self._template and self._template % size
        if size < _MAX_SIZE_KEPT:
            self[size] = line
        return line


class Framing(NamedTuple):
    """How encoded events are sent: each between a line that tells its size and an end."""

    lines: Lines
    end: bytes


UNFRAMED = Framing(Lines(), b"")


class TextRun:
    """The translation of a run, for as long as `fast` reads its chunks and `growing` its text.

    `framed` and `frame` return the event of a frame that only adds text, encoded and framed; None
    for any other bytes, which are untouched then. They take no more than `left` bytes in all.
    """

    __slots__ = (
        *("_end", "_event", "_known", "_learned_at", "_lessons", "_read_text", "_settled"),
        *("_taken", "fast", "growing", "left"),
    )

    def __init__(
        self,
        fast: FastReader,
        growing: Growing,
        encode: Callable[[Event], bytes],
        framing: Framing,
        end: bytes,
    ) -> None:
        self.fast = fast
        self.growing = growing
        self.left = 0
        self._taken = self._settled = 0
        self._end = end
        self._read_text = fast.text
        before, _, rest = encode(growing.event(_NUMBER, _TEXT)).partition(b"%d" % _NUMBER)
        middle, _, after = rest.rpartition(_STAND_IN)
        size = len(before) + len(middle) + len(after)
        around = (framing.lines, size, before, middle, after + framing.end)
        self._event = (growing.append, growing.number, *around)
        self._lessons = LESSONS if fast.plain else 0
        self._learned_at = 0
        # What stands before the text of a frame and behind it, to the end, and the size of both
        # without the end; nothing is as large as to be known yet.
        self._known = (b"", b"", _UNKNOWN)

    @property
    def chunks(self) -> int:
        """How many chunks it has translated since it was settled."""
        return self._taken - self._settled

    def settle(self) -> None:
        """Take no more, until `left` is set."""
        self._settled = self._taken
        self.left = 0

    def frame(self, data: bytes) -> bytes | None:
        """The event of a frame without anything around it."""
        return self.framed(data + self._end, b"", len(data))

    def framed(self, data: bytes, line: bytes, size: int) -> bytes | None:
        """The event of a frame of some size that stands between a line and the end."""
        head, tail, around = self._known
        literal = data.removeprefix(line + head).removesuffix(tail)
        length = len(literal)
        try:
            text = _decode_text(literal) if length == size - around else ""
        except NOT_JSON:
            text = ""
        left = self.left - size
        if left < 0:
            return None
        if not text or (len(text) != length - 2 and _encode_text(text) != literal):
            decoded = self._decoded(data, line, size)
            if decoded is None:
                return None
            text, literal = decoded
            length = len(literal)
        self.left = left
        self._taken += 1
        append, number, lines, event_size, before, middle, after = self._event
        append(text)
        digits = _digits[number()]
        sent_line = lines[event_size + len(digits) + length]
        return _join((sent_line, before, digits, middle, literal, after))

    def _decoded(self, data: bytes, line: bytes, size: int) -> tuple[str, bytes] | None:
        """The text, whatever stands around it and is escaped in it; and the same encoded."""
        if not (data.startswith(line + b"data: ") and data.endswith(b"\n\n" + self._end)):
            return None
        data = data[len(line) : len(line) + size]
        if data.find(_LF) != size - 2 or _CR in data:
            return None
        try:
            text = self._read_text(data[6:-2])
        except (*NOT_JSON, NotMore):
            return None
        literal = _encode_text(text)
        if self._lessons:
            self._learn(data, literal)
        return text, literal

    def _learn(self, data: bytes, literal: bytes) -> None:
        """Learn what stands around the text of a chunk: where another text would be read as well.

        Any JSON string would: where it begins depends on what stands before it.
        """
        head, found, tail = data.partition(literal)
        known = (head, tail + self._end, len(head) + len(tail))
        if not found or literal in tail or literal == _STAND_IN or known == self._known:
            return
        lasted = self._taken - self._learned_at >= LASTING
        self._lessons = LESSONS if lasted else self._lessons - 1
        self._learned_at = self._taken
        try:
            if self._read_text(b"%b%b%b" % (head[6:], _STAND_IN, tail[:-2])) != _TEXT:
                return
        except NOT_JSON:
            return
        self._known = known
