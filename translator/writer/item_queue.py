"""The item queue: the segments of an answer in order, of which the first is the open item.

    segment = waits, open, closed ;

A segment becomes one output item: a message, some reasoning, a call. Only the first in the queue is
open, so items never overlap on the wire; deltas of a later one wait with it. The first is closed as
soon as another stands behind it and it can be complete:

    message, reasoning,
    compaction           at once: the next segment ends them
    call                 when its arguments are a whole JSON value; upstreams interleave calls

Until a segment is open it has no `output_index`, so no event can be sent for it by mistake.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection
from typing import assert_never

from translator.common.tools import Declared, Toolset
from translator.wire.events import Event, ReasoningEvents
from translator.wire.notices import Notice

from .at_end import AtEnd
from .losses import Losses
from .open_calls import ITEM_ID_PREFIXES, OpenCall, open_call
from .open_items import (
    Events,
    FinalStatus,
    OpenCompaction,
    OpenMessage,
    OpenReasoning,
    Place,
)
from .output import CallIds, Output
from .segments import (
    CallSegment,
    CompactionSegment,
    MessageSegment,
    ReasoningSegment,
    Segment,
)


class ItemQueue:
    """The segments that are not closed yet, and the output of those that are."""

    __slots__ = (
        "_at_end",
        "_call_ids",
        "_done_size",
        "_family",
        "_item_count",
        "_keeps",
        "_last",
        "_losses",
        "_max_items",
        "_new_id",
        "_next_index",
        "_number",
        "_origin",
        "_queue",
        "_seal",
        "_tools",
        "_unsealed",
        "_written",
        "is_full",
        "output",
    )

    def __init__(
        self,
        tools: Toolset,
        new_id: Callable[[str], str],
        *,
        reasoning_events: ReasoningEvents,
        seals: bool,
        keeps: bool,
        known_call_ids: Collection[str],
        max_items: int,
        origin: str | None,
    ) -> None:
        """`seals`: the client is shown sealed reasoning; the others are as in `ResponseStream`."""
        self.output = Output(keeps=keeps)
        self.is_full = False
        """Whether there are more output items than there may be, those that wait included."""
        self._tools = tools
        self._new_id = new_id
        self._family: ReasoningEvents = reasoning_events
        self._seal = seals
        self._keeps = keeps
        self._origin = origin
        self._call_ids = CallIds(known_call_ids, new_id)
        self._max_items = max_items
        self._item_count = 0
        self._number = itertools.count().__next__
        self._next_index = 0
        self._queue: list[Segment] = []  # mostly one: a deque takes 760 bytes
        self._last: Segment | None = None  # which text continues, unless another segment began
        self._losses: Losses | None = None
        self._unsealed: list[Notice] = []  # of open items, which do not refer to the queue itself
        self._at_end = AtEnd()
        self._done_size: int = 0  # of closed items and of extra content, in bytes
        self._written: int = 0  # bytes of closed narratives, and of deltas that were dropped

    def _join(self, segment: Segment) -> None:
        self._queue.append(segment)
        self._last = segment
        self._item_count += 1
        self.is_full = self._item_count > self._max_items

    def _advance(self) -> list[Event]:
        """Send what waits in the first segment; close it, and repeat, while another can follow."""
        advanced: list[Event] = []
        while self._queue:
            first = self._queue[0]
            advanced += self._sent(first)
            if len(self._queue) == 1 or not first.whole:
                break
            advanced += self._close(first, "completed")
        return advanced

    def _sent(self, segment: Segment) -> list[Event]:
        """Send what waits in a segment, which is opened for that."""
        sent = [] if segment.open is not None else [*self._open(segment)]
        sent += segment.send()
        return sent

    def _open(self, segment: Segment) -> Events:
        """Make the item of a segment; returns the events that announce it."""
        match segment:
            case MessageSegment():
                segment.open = OpenMessage(self._place("msg_"))
            case ReasoningSegment():
                segment.open = self._open_reasoning(self._family)
            case CallSegment():
                segment.open = self._open_call(segment, self._called(segment))
            case CompactionSegment():
                segment.open = OpenCompaction(self._place("cmp_"), segment.blob)
            case _ as never:
                assert_never(never)
        return segment.open.opened()

    def _close(self, segment: Segment, status: FinalStatus) -> Events:
        assert segment.open is not None
        if isinstance(segment, CallSegment):
            yield from segment.send_empty()
            segment.closed = True
        elif self._at_end.sources is not None and isinstance(segment, MessageSegment):
            segment.waiting.append(self._at_end.sources)
            yield from segment.send()
        item = yield from segment.open.closed(status)
        self.output.add(item, segment.open)
        del self._queue[0]
        if not isinstance(segment, CallSegment):  # which are asked as long as there are any
            self._done_size += segment.size
            self._written += segment.written

    def _place(self, prefix: str) -> Place:
        index = self._next_index
        self._next_index += 1
        return Place(self._new_id(prefix), index, self._number)

    def _open_reasoning(self, family: ReasoningEvents) -> OpenReasoning:
        place = self._place("rs_")
        return OpenReasoning(
            place, family, self._unsealed.append, self._origin, sealed=self._seal, keeps=self._keeps
        )

    def _lost(self) -> Losses:
        if self._losses is None:
            self._losses = Losses()
        return self._losses

    def _called(self, call: CallSegment) -> Declared:
        return self._tools.called(call.name or "")

    def _open_call(self, segment: CallSegment, tool: Declared) -> OpenCall:
        place = self._place(ITEM_ID_PREFIXES[tool.kind])
        segment.call_id = self._call_ids.unique(segment.id)
        return open_call(place, segment.call_id, tool)
