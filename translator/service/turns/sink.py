"""A chunk sink that translates: events are written where the upstream's chunks arrive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from translator import Translation
from translator.service.base.sinks import DirectWriter
from translator.service.observe.observer import EventsSent, ObservedEvent
from translator.service.upstreams.streams import UpstreamStream
from translator.wire.events import Event

from .progress import ProgressTimeout

P = TypeVar("P")


class EventWriter(NamedTuple, Generic[P]):
    """A direct writer to the client, and how events are encoded for it."""

    direct: DirectWriter[P]
    encode: Callable[[Sequence[Event]], P]


class TranslatingSink:
    """Writes the events of an answer that has begun, until its last ones."""

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
        self._observe = observe
        self.ready = writer.direct.ready
        self.sent_at = stream.last_activity
        """When events were written last, by the loop's clock."""
        self.unsent: list[Event] = []
        """The last events, which are not for the sink to write."""

    def push(self, chunk: bytes) -> bool:
        """Write the events of a chunk; False: the reader must go on."""
        translation = self._translation
        events = translation.receive(chunk)
        now = self._stream.last_activity = self._now()
        if not events:
            self._progress.check(now, len(chunk))
            return True
        if translation.finished:
            self.unsent = events
            return False
        if self._observe is not None:
            self._observe(EventsSent(events))
        self._write(self._encode(events))
        self.sent_at = now
        return True
