"""A chunk sink that translates: events are written where the upstream's chunks arrive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from translator import Translation
from translator.service.base.sinks import DirectWriter
from translator.service.observe.observer import EventsSent, ObservedEvent
from translator.service.upstreams.framing import CRLF
from translator.service.upstreams.streams import UpstreamStream
from translator.text_run import Framing, TextRun
from translator.wire.events import Event

from .progress import ProgressTimeout

P = TypeVar("P")


class EventWriter(NamedTuple, Generic[P]):
    """A direct writer to the client, and how events are encoded for it: several, or one.

    `write_one` writes an encoded event in its `framing`; False: the client's buffer is full now.
    """

    direct: DirectWriter[P]
    encode: Callable[[Sequence[Event]], P]
    encode_one: Callable[[Event], bytes]
    write_one: Callable[[bytes], bool]
    framing: Framing


class TranslatingSink:
    """Writes the events of an answer that has begun, until its last ones.

    Those that only add text pass as bytes, where nobody observes events (`translator.text_run`).
    """

    __slots__ = (
        *("_encode", "_encode_one", "_framing", "_now", "_observe", "_progress", "_run", "_stream"),
        *("_translation", "_write", "_write_one", "ready", "sent_at", "unsent"),
    )

    def __init__(
        self,
        translation: Translation,
        progress: ProgressTimeout,
        stream: UpstreamStream,
        writer: EventWriter[Any],
        observe: Callable[[ObservedEvent], None] | None,
    ) -> None:
        self._translation = translation
        self._progress = progress
        self._stream = stream
        self._now = asyncio.get_running_loop().time
        self._encode = writer.encode
        self._write = writer.direct.write
        self._encode_one = writer.encode_one
        self._write_one = writer.write_one
        self._framing = writer.framing
        self._observe = observe
        self._run = self._text_run()
        self.ready = writer.direct.ready
        self.sent_at = stream.last_activity
        """When events were written last, by the loop's clock."""
        self.unsent: list[Event] = []
        """The last events, which are not for the sink to write."""

    def push_framed(self, data: bytes, line: bytes, size: int) -> bool | None:
        """Write the event of a chunk that only adds text; False: the reader must go on."""
        run = self._run
        if run is None or (frame := run.framed(data, line, size)) is None:
            return None
        time, write = self._now, self._write_one  # calling an attribute costs twice as much
        self._stream.last_activity = self.sent_at = time()
        return write(frame)

    def push(self, chunk: bytes) -> bool:
        """Write the events of a chunk; False: the reader must go on."""
        run = self._run
        if run is not None and (frame := run.frame(chunk)) is not None:
            time, write = self._now, self._write_one  # calling an attribute costs twice as much
            self._stream.last_activity = self.sent_at = time()
            return write(frame)
        translation = self._translation
        events = translation.receive(chunk)
        self._run = self._text_run()
        now = self._stream.last_activity = self._now()
        if not events:
            self._progress.check(now, len(chunk))
            return True
        if translation.round_over:
            self.unsent = events
            return False
        if self._observe is not None:
            self._observe(EventsSent(events))
        writes_on = self._write(self._encode(events))
        self.sent_at = now
        return writes_on

    def _text_run(self) -> TextRun | None:
        if self._observe is not None:
            return None
        return self._translation.text_run(self._encode_one, self._framing, CRLF)
