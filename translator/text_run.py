"""Text run: chunks that only add to the text of the open item, translated from bytes to bytes.

    data: {…"content":" there"…}   ──►   event: response.output_text.delta
                                         data: {…"sequence_number":7,…"delta":" there",…}

Nearly all chunks are like the one before but for their text, and so are their events but for text
and number. The parts of the event that stay the same are encoded once. Where the chunk has the same
bytes around its text as one that was decoded, its text is not decoded either: it goes over as is.

`Translation.receive` translates every chunk, these too, into the same bytes: a run only spares the
hops from decoder to reader to writer to encoder, and their objects. Any chunk that may be more than
text is left to it. Of the instructions that a token costs in the service, a run saves four of ten
(`python -m bench instructions --variant "text run"`).
"""

from __future__ import annotations

from collections.abc import Callable

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

_encode_text = msgspec.json.Encoder().encode
_join = b"".join


class TextRun:
    """The translation of a run, for as long as `fast` reads its chunks and `growing` its text.

    `frame(data)` returns the encoded event of some bytes of the body that are one frame, and only
    add text; None for others, which are untouched then. It takes no more than `left` bytes in all.
    `chunks` counts those that it has translated.
    """

    __slots__ = (
        *("_after", "_append", "_around", "_before", "_head", "_learned_at", "_lessons", "_middle"),
        *("_number", "_read_text", "_tail", "chunks", "fast", "growing", "left"),
    )

    def __init__(
        self, fast: FastReader, growing: Growing, encode: Callable[[Event], bytes]
    ) -> None:
        self.fast = fast
        self.growing = growing
        self.left = 0
        self.chunks = 0
        self._append = growing.append
        self._number = growing.number
        self._read_text = fast.text
        encoded = encode(growing.event(_NUMBER, _TEXT))
        self._before, _, rest = encoded.partition(b"%d" % _NUMBER)
        self._middle, _, self._after = rest.rpartition(_encode_text(_TEXT))
        self._lessons = LESSONS if fast.plain else 0
        self._learned_at = 0
        self._head = self._tail = b"-"  # before and behind the text of a chunk; none is like this
        self._around = -1

    def frame(self, data: bytes) -> bytes | None:
        """The encoded event of a frame that only adds text; None for any other bytes."""
        size = len(data)
        left, length = self.left - size, size - self._around
        literal = data.removeprefix(self._head).removesuffix(self._tail)
        if len(literal) != length or length < 1 or left < 0:
            return self._decoded(data)
        try:
            text = literal.decode()
        except UnicodeDecodeError:
            return None
        encoded = _encode_text(text)
        if len(encoded) != length + 2:  # with its quotes: something in it is escaped
            return self._decoded(data)
        self.left = left
        self.chunks += 1
        append, number = self._append, self._number  # calling an attribute costs twice as much
        append(text)
        return _join((self._before, b"%d" % number(), self._middle, encoded, self._after))

    def _decoded(self, data: bytes) -> bytes | None:
        """The same, whatever stands around the text and in it."""
        size = len(data)
        if not data.startswith(b"data: ") or data.find(_LF) != size - 2 or data[-1] != _LF:
            return None
        if size > self.left or _CR in data:
            return None
        try:
            text = self._read_text(data[6:-2])
        except (*NOT_JSON, NotMore):
            return None
        self.left -= size
        self.chunks += 1
        self._append(text)
        number = self._number()
        if self._lessons and not (data.startswith(self._head) and data.endswith(self._tail)):
            self._learn(data, text, number)
        return _join((self._before, b"%d" % number, self._middle, _encode_text(text), self._after))

    def _learn(self, data: bytes, text: str, number: int) -> None:
        """Learn what stands around the text of a chunk: where another text would be read as well.

        Any text without quotes, backslashes and control characters would: where a string begins
        depends on what stands before it, and where it ends on its first quote.
        """
        literal = b'"%b"' % text.encode()
        if data.count(literal) != 1:
            return
        self._lessons = LESSONS if number - self._learned_at >= LASTING else self._lessons - 1
        self._learned_at = number
        head, _, tail = data.partition(literal)
        head, tail = head + b'"', b'"' + tail
        try:
            if self._read_text(b"%b%b%b" % (head[6:], _TEXT.encode(), tail[:-2])) != _TEXT:
                return
        except NOT_JSON:
            return
        self._head, self._tail = head, tail
        self._around = len(head) + len(tail)
