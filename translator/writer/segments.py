"""Segments: the parts of an answer in the queue of the state machine, each one output item.

A segment keeps the deltas that came before its item could be opened, and sends them when it is.
"""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeAlias, TypeVar

from msgspec import Raw

from translator.common.json_text import JsonExtent
from translator.common.pieces import Pieces
from translator.wire.deltas import Citation, Text, ToolCall
from translator.wire.events import Event
from translator.wire.json_values import utf8_size

from .open_calls import OpenCall, OpenFunctionCall
from .open_items import (
    Events,
    Growing,
    MessageDelta,
    OpenCompaction,
    OpenNarrative,
    ReasoningDelta,
)
from .sizes import RECORD_BYTES, size_of, text_size

_D = TypeVar("_D")


class Waiting(list[_D]):
    """Deltas that wait for their item to open, or for more than white space."""

    __slots__ = ("size",)

    def __init__(self) -> None:
        self.size = 0
        """The bytes that they hold."""

    def add(self, delta: _D) -> None:
        self.append(delta)
        self.size += size_of(delta)

    def clear(self) -> None:
        del self[:]
        self.size = 0


class Narrative(Generic[_D]):
    """A message or reasoning, open or waiting: the next segment ends it."""

    __slots__ = ("open", "waiting")

    whole = True

    def __init__(self) -> None:
        self.open: OpenNarrative[_D] | None = None
        self.waiting: Waiting[_D] = Waiting()

    @property
    def size(self) -> int:
        """The bytes that it holds."""
        return self.waiting.size + (0 if self.open is None else self.open.size)

    def send(self) -> Events:
        if not self.waiting:
            return ()
        assert self.open is not None
        sent: list[Event] = []
        for delta in self.waiting:
            sent += self.open.add(delta)
        self.waiting.clear()
        return sent

    @property
    def written(self) -> int:
        """The bytes of its text so far, in UTF-8."""
        return (0 if self.open is None else self.open.written) + text_size(self.waiting)


class MessageSegment(Narrative[MessageDelta]):
    """A message."""

    __slots__ = ()


class ReasoningSegment(Narrative[ReasoningDelta]):
    """Reasoning."""

    __slots__ = ()


class CallSegment:
    """A call: pending (not queued yet), waiting, open, or closed."""

    __slots__ = (
        *("_arguments", "_beginning", "_extent", "_late", "call_id", "closed", "extra"),
        *("id", "key", "name", "open", "queued", "renamed", "waiting"),
    )

    def __init__(self, key: int) -> None:
        self.key = key
        self.id: str | None = None
        self.name: str | None = None
        self.open: OpenCall | None = None
        self.call_id = ""
        self.extra: Raw | None = None
        self.queued = False
        self.closed = False
        self.renamed = False  # when it was announced, whose name clients have then
        self.waiting: list[str] = []
        self._beginning: list[str] | None = []  # slices of arguments that may be nothing yet
        self._arguments = Pieces()  # all of them: `whole` is needed late, if ever
        self._extent = JsonExtent(self._arguments)
        self._late = 0  # bytes that came when it was closed, and are dropped

    def add(self, call: ToolCall) -> None:
        self.id = self.id or call.id
        if self.open is None and call.name:
            self.name = call.name
        elif call.name and call.name != self.name:
            self.renamed = True
        if call.arguments and not self.closed:
            if self._beginning is not None:
                self._begin(self._beginning, call.arguments)
            self._arguments.append(call.arguments)
            self.waiting.append(call.arguments)
        else:
            self._late += utf8_size(call.arguments)

    def _begin(self, slices: list[str], arguments: str) -> None:
        slices.append(arguments)
        if len(slices) > 7 or not "null".startswith("".join(slices).strip()):
            self._beginning = None

    def append(self, delta: ToolCall) -> list[Event] | None:
        """The fast path: more arguments of an open call; None where any may wait, or for others."""
        if self.open is None or self._beginning is not None or self.waiting:
            return None
        if delta.key != self.key or not delta.arguments:
            return None
        self._arguments.append(delta.arguments)
        return self.open.arguments(delta.arguments)

    @property
    def growing(self) -> Growing | None:
        """Its arguments, where each slice of them is one event; None where it is not."""
        if self._beginning is not None or self.waiting:
            return None
        if not isinstance(self.open, OpenFunctionCall):
            return None
        return Growing(ToolCall, str(self.key), self._grow, self.open.number, self.open.delta)

    def _grow(self, arguments: str) -> None:
        assert isinstance(self.open, OpenFunctionCall)
        self._arguments.append(arguments)
        self.open.texts.append(arguments)

    @property
    def size(self) -> int:
        """The bytes that it holds beside its arguments, which the reader counts."""
        self._arguments.settle()
        if self.open is not None:
            self.open.settle()
        return len(self.waiting) * RECORD_BYTES

    @property
    def written(self) -> int:
        """The bytes of its arguments so far, in UTF-8."""
        return self._arguments.settle() + self._late

    @property
    def begun(self) -> bool:
        """There are arguments, and not just the beginning of a `null` that means none."""
        return self._beginning is None

    @property
    def whole(self) -> bool:
        return self._extent.whole

    @property
    def cut(self) -> bool:
        """Its arguments stop in the middle of a JSON object."""
        return self._extent.cut

    def send(self) -> Events:
        assert self.open is not None
        sent: list[Event] = []
        if not self.begun:
            return sent  # `null` so far: the next delta shows what it is, or the end
        for arguments in self.waiting:
            sent += self.open.arguments(arguments)
        self.waiting.clear()
        return sent

    def send_empty(self) -> Events:
        """`{}` for a call without arguments: clients parse them, so they must be JSON."""
        assert self.open is not None
        if not self.begun:
            self.waiting.clear()
            yield from self.open.arguments("{}")


class Blank:
    """Deltas at which a message or reasoning may begin, if more than white space follows."""

    __slots__ = ("_dropped", "reasoning", "text")

    def __init__(self) -> None:
        self.text: Waiting[Text | Citation] = Waiting()
        self.reasoning: Waiting[ReasoningDelta] = Waiting()
        self._dropped = 0

    def drop(self, deltas: Waiting[Any]) -> None:
        """Drop one of the two lists: something else begins."""
        if deltas:
            self._dropped += text_size(deltas)
            deltas.clear()

    @property
    def size(self) -> int:
        """The bytes that it holds."""
        return self.text.size + self.reasoning.size

    @property
    def written(self) -> int:
        """The bytes of its text, in UTF-8, dropped or not."""
        return self._dropped + text_size(self.text) + text_size(self.reasoning)


class CompactionSegment:
    """A compaction, which arrives in one piece."""

    __slots__ = ("blob", "open", "size", "written")

    whole = True

    def __init__(self, blob: str) -> None:
        self.open: OpenCompaction | None = None
        self.blob = blob
        self.size = len(blob)
        self.written = 0  # the summary's text was counted when it came

    def send(self) -> Events:
        return ()


Segment = MessageSegment | ReasoningSegment | CallSegment | CompactionSegment


Writing: TypeAlias = Literal["", "reasoning", "message", "call"]
"""The kinds of items that an answer can be at; a summary of a conversation is a message."""


def writing_of(segment: Segment | None) -> tuple[Writing, str]:
    """The kind of a segment and, of a call, the name of its tool."""
    match segment:
        case None:
            return "", ""
        case CallSegment():
            return "call", segment.name or ""
        case ReasoningSegment():
            return "reasoning", ""
        case _:
            return "message", ""
