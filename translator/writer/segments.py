"""Segments: the parts of an answer in the queue of the state machine, each one output item.

A segment keeps the deltas that came before its item could be opened, and sends them when it is.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from msgspec import Raw

from translator.common.json_text import JsonExtent
from translator.wire.deltas import ToolCall
from translator.wire.events import Event

from .open_calls import OpenCall
from .open_items import Events, MessageDelta, OpenCompaction, OpenNarrative, ReasoningDelta

_D = TypeVar("_D")


class Narrative(Generic[_D]):
    """A message or reasoning, open or waiting: the next segment ends it."""

    whole = True

    def __init__(self) -> None:
        self.open: OpenNarrative[_D] | None = None
        self.waiting: list[_D] = []

    def send(self) -> Events:
        assert self.open is not None
        for delta in self.waiting:
            yield from self.open.add(delta)
        self.waiting.clear()


class MessageSegment(Narrative[MessageDelta]):
    """A message."""


class ReasoningSegment(Narrative[ReasoningDelta]):
    """Reasoning."""


class CallSegment:
    """A call: pending (not queued yet), waiting, open, or closed."""

    def __init__(self, key: int) -> None:
        self._key = key
        self.id: str | None = None
        self.name: str | None = None
        self.open: OpenCall | None = None
        self.call_id = ""
        self.extra: Raw | None = None
        self.queued = False
        self.closed = False
        self.waiting: list[str] = []
        self._beginning: list[str] | None = []  # slices of arguments that may be nothing yet
        self._extent = JsonExtent()  # `whole` is needed late, if ever

    def add(self, call: ToolCall) -> None:
        self.id = self.id or call.id
        if self.open is None and call.name:
            self.name = call.name
        if call.arguments and not self.closed:
            if self._beginning is not None:
                self._begin(self._beginning, call.arguments)
            self._extent.add(call.arguments)
            self.waiting.append(call.arguments)

    def _begin(self, slices: list[str], arguments: str) -> None:
        slices.append(arguments)
        if len(slices) > 7 or not "null".startswith("".join(slices).strip()):
            self._beginning = None

    def append(self, delta: ToolCall) -> list[Event] | None:
        """The fast path: more arguments of an open call; None where any may wait, or for others."""
        if self.open is None or self._beginning is not None or self.waiting:
            return None
        if delta.key != self._key or not delta.arguments:
            return None
        self._extent.add(delta.arguments)
        return self.open.arguments(delta.arguments)

    @property
    def begun(self) -> bool:
        """There are arguments, and not just the beginning of a `null` that means none."""
        return self._beginning is None

    @property
    def whole(self) -> bool:
        return self._extent.whole

    def send(self) -> Events:
        assert self.open is not None
        if not self.begun:
            return  # `null` so far: the next delta shows what it is, or the end
        for arguments in self.waiting:
            yield from self.open.arguments(arguments)
        self.waiting.clear()

    def send_empty(self) -> Events:
        """`{}` for a call without arguments: clients parse them, so they must be JSON."""
        assert self.open is not None
        if not self.begun:
            self.waiting.clear()
            yield from self.open.arguments("{}")


class CompactionSegment:
    """A compaction, which arrives in one piece."""

    whole = True

    def __init__(self, blob: str) -> None:
        self.open: OpenCompaction | None = None
        self.blob = blob

    def send(self) -> Events:
        yield from ()


Segment = MessageSegment | ReasoningSegment | CallSegment | CompactionSegment
