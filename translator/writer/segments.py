"""Segments: the parts of an answer in the queue of the state machine, each one output item.

A segment keeps the deltas that came before its item could be opened, and sends them when it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Generic, TypeVar

from msgspec import Raw

from translator.common.json_text import JsonExtent
from translator.wire.deltas import Citation, Reasoning, Refusal, Text, ToolCall
from translator.wire.events import Event
from translator.wire.json_values import utf8_size

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

    @property
    def written(self) -> int:
        """Bytes of its text so far, in UTF-8."""
        return (0 if self.open is None else self.open.written) + text_size(self.waiting)


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
        self._arguments: list[str] = []  # all of them: `whole` is needed late, if ever
        self._extent = JsonExtent(self._arguments)
        self._late = 0  # bytes that came when it was closed, and are dropped

    def add(self, call: ToolCall) -> None:
        self.id = self.id or call.id
        if self.open is None and call.name:
            self.name = call.name
        if call.arguments and not self.closed:
            self._arguments.append(call.arguments)
            self.waiting.append(call.arguments)
        else:
            self._late += utf8_size(call.arguments)

    def append(self, delta: ToolCall) -> list[Event] | None:
        """The fast path: more arguments of an open call; None where any may wait, or for others."""
        if self.open is None or not self._arguments or self.waiting:
            return None
        if delta.key != self._key or not delta.arguments:
            return None
        self._arguments.append(delta.arguments)
        return self.open.arguments(delta.arguments)

    @property
    def begun(self) -> bool:
        """There are arguments, and not just the beginning of a `null` that means none."""
        text = "".join(self._arguments).strip() if len(self._arguments) < 8 else "{"
        return not "null".startswith(text)

    @property
    def whole(self) -> bool:
        return self._extent.whole

    @property
    def written(self) -> int:
        """Bytes of its arguments so far, in UTF-8."""
        return utf8_size("".join(self._arguments)) + self._late

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


class Blank:
    """Deltas at which a message or reasoning may begin, if more than white space follows."""

    def __init__(self) -> None:
        self.text: list[Text | Citation] = []
        self.reasoning: list[ReasoningDelta] = []
        self._dropped = 0

    def drop(self, deltas: list[Any]) -> None:
        """Drop one of the two lists: something else begins."""
        if deltas:
            self._dropped += text_size(deltas)
            deltas.clear()

    @property
    def written(self) -> int:
        """Bytes of its text, in UTF-8, dropped or not."""
        return self._dropped + text_size(self.text) + text_size(self.reasoning)


class CompactionSegment:
    """A compaction, which arrives in one piece."""

    whole = True

    def __init__(self, blob: str) -> None:
        self.open: OpenCompaction | None = None
        self.blob = blob

    def send(self) -> Events:
        yield from ()


def text_size(deltas: Iterable[object]) -> int:
    """Bytes of the text and the arguments in deltas, in UTF-8."""
    size = 0
    for delta in deltas:
        match delta:
            case Text() | Refusal() | Reasoning():
                size += utf8_size(delta.text)
            case ToolCall():
                size += utf8_size(delta.arguments)
            case _:
                pass
    return size


Segment = MessageSegment | ReasoningSegment | CallSegment | CompactionSegment
