"""The state machine: how a response begins, what each delta adds to it, and how it ends.

    created, [ queued ], in_progress, { item }, ( completed | incomplete | error, failed )

The state is a phase, and the queue of segments (`item_queue`). A call joins the queue when its name
is known and its arguments begin, or when anything else begins.

Blank text before an answer, between calls, or at the end is noise of chat templates: it waits, and
is dropped unless more text follows.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable
from typing import Any, Literal, TypeVar, assert_never

import msgspec
from msgspec import Raw

from translator.common.tools import Toolset
from translator.wire import events, responses
from translator.wire.deltas import (
    MAX_ITEMS,
    CallExtra,
    Citation,
    Compaction,
    Delta,
    Failure,
    Finish,
    Reasoning,
    ReasoningDetails,
    Refusal,
    Text,
    ToolCall,
    Verdict,
)
from translator.wire.events import Event, ReasoningEvents
from translator.wire.notices import Notice

from .at_end import error_body, why_incomplete
from .first_events import first_events
from .item_queue import ItemQueue
from .losses import WhyNot
from .open_items import (
    Events,
    FinalStatus,
    Growing,
    OpenNarrative,
)
from .phase import Phase
from .segments import (
    Blank,
    CallSegment,
    CompactionSegment,
    MessageSegment,
    Narrative,
    ReasoningSegment,
    Segment,
)
from .sizes import RECORD_BYTES, text_size

_D = TypeVar("_D")
_Append = Callable[[Any], list[Event] | None]
"""Events of a delta that only adds to the open item; None: it may do more."""


class ResponseStream(ItemQueue):
    """One response, from its first event to its last.

    `start()`, `feed(delta)`, `finish(verdict)` and `heartbeat()` each return the events to send
    now, in order. `finish` may be called at any time, once or more often: after the terminal event
    every method returns an empty list.
    """

    call_type: type[CallSegment] = CallSegment

    __slots__ = (
        "_allowed",
        "_base",
        "_blank",
        "_calls",
        "_fast_append",
        "_fast_item",
        "_fast_type",
        "_final",
        "_named",
        "_now",
        "_one_call",
        "phase",
    )

    def __init__(
        self,
        response: responses.Response,
        *,
        new_id: Callable[[str], str],
        now: Callable[[], int],
        tools: Toolset,
        reasoning_events: ReasoningEvents = "summary",
        seal_reasoning: bool = False,
        keeps: bool = False,
        one_call: bool = False,
        allowed: frozenset[str] | None = None,
        known_call_ids: Collection[str] = (),
        max_items: int = MAX_ITEMS,
        origin: str | None = None,
    ) -> None:
        """`allowed` are the function names that may be called; None: all.

        `keeps`: reasoning is sealed in `kept_output`, whatever the client is shown.
        `known_call_ids` are those of the request's history, which a new call must not repeat.
        What comes after `max_items` output items is ignored. `origin` is sealed with reasoning.
        """
        super().__init__(
            tools,
            new_id,
            reasoning_events=reasoning_events,
            seals=seal_reasoning,
            keeps=keeps,
            known_call_ids=known_call_ids,
            max_items=max_items,
            origin=origin,
        )
        self.phase = Phase.NEW
        self._base = response
        self._final: responses.Response | None = None
        self._now = now
        self._one_call = one_call
        self._allowed = allowed
        self._fast_type: type[object] | None = None  # of a delta that can only add to the open item
        self._fast_append: _Append  # which does that
        self._fast_item: CallSegment | OpenNarrative[Any] | None = None  # whose text it adds to
        self._calls: dict[int, CallSegment] = {}
        self._named: dict[int, CallSegment] = {}  # and not queued yet
        self._blank = Blank()

    @property
    def response(self) -> responses.Response:
        """The response so far; final after the terminal event."""
        if self._final is not None:
            return self._final
        return msgspec.structs.replace(self._base, output=list(self.output.shown))

    @property
    def produced(self) -> bool:
        """Whether anything of an answer has been announced to the client."""
        return self._next_index > 0

    @property
    def size(self) -> int:
        """The bytes that are held of the answer, beside the arguments of its calls."""
        calls = sum(call.size for call in self._calls.values())
        narratives = sum(one.size for one in self._queue if not isinstance(one, CallSegment))
        return self._done_size + calls + narratives + self._blank.size + self._at_end.size

    @property
    def written(self) -> int:
        """The bytes of text, reasoning and arguments that have come, in UTF-8, sent or not."""
        narratives = (one for one in self._queue if isinstance(one, Narrative))
        open_ones = (self._blank, *narratives, *self._calls.values())
        return self._written + sum(one.written for one in open_ones)

    @property
    def open_segment(self) -> Segment | None:
        """The part of the answer that is being written; None before the first."""
        return self._queue[0] if self._queue else None

    @property
    def notices(self) -> tuple[Notice, ...]:
        """What of the answer is not in the response, so far."""
        calls = () if self._losses is None else self._losses.notices
        return (*calls, *dict.fromkeys(self._unsealed))  # each counts once

    @property
    def renamed(self) -> bool:
        """Whether a call got another name when it had been announced."""
        return any(call.renamed for call in self._calls.values())

    # --- what comes in ------------------------------------------------------------------------

    def start(self) -> list[Event]:
        """The events that announce the response."""
        if self.phase is not Phase.NEW:
            return []
        self.phase = Phase.OPEN
        return first_events(self._number, self._base)

    def heartbeat(self) -> list[Event]:
        """A keep-alive event."""
        open_ = self.phase is Phase.OPEN
        return [events.InProgress(self._number(), self._base)] if open_ else []

    def feed(self, delta: Delta) -> list[Event]:
        """The events of the next delta of the answer."""
        if type(delta) is self._fast_type and (events := self._fast_append(delta)) is not None:
            return events
        if self.phase is not Phase.OPEN or self.is_full:
            return []
        events = list(self._feed(delta))
        self._choose_fast_path()
        return events

    def _choose_fast_path(self) -> None:
        """Let the open item take deltas of its type directly, while nothing else waits."""
        self._fast_type = self._fast_item = None
        if len(self._queue) != 1 or self._blank.text or self._blank.reasoning:
            return
        first = self._queue[0]
        if isinstance(first, CallSegment):
            self._fast_type, self._fast_item, self._fast_append = ToolCall, first, first.append
        elif isinstance(first, Narrative) and (item := first.open) is not None:
            self._fast_type, self._fast_item, self._fast_append = item.fast_type, item, item.append

    @property
    def growing(self) -> Growing | None:
        """The text that deltas of one kind only add to; None while any delta may do more."""
        return None if self._fast_item is None else self._fast_item.growing

    def finish(self, verdict: Verdict) -> list[Event]:
        """End the response: whole, cut, or failed."""
        if self.phase is not Phase.OPEN:
            return []
        self.phase = Phase.OVER
        self._fast_type = self._fast_item = None
        match verdict:
            case Finish():
                return list(self._finish(verdict))
            case Failure():
                return list(self._fail(verdict))
            case _ as never:
                assert_never(never)

    def retract(self, failure: Failure) -> list[Event]:
        """The end of a response whose terminal event was not sent, as that of a failed one.

        It takes the number of that event. Empty for a response that failed.
        """
        if self._final is None or self._final.status == "failed":
            return []
        self._number = itertools.count(self._number() - 1).__next__
        return list(self._fail(failure))

    @property
    def _forbids(self) -> WhyNot:
        """What forbids the calls that are not allowed."""
        return "tool_choice"

    # --- transitions --------------------------------------------------------------------------

    def _feed(self, delta: Delta) -> Iterable[Event]:
        match delta:
            case Text() | Refusal():
                return self._message(delta)
            case Reasoning() | ReasoningDetails():
                return self._reasoning(delta)
            case ToolCall():
                return self._tool_call(delta)
            case Citation():
                return self._citation(delta)
            case Compaction():
                self._join(CompactionSegment(delta.blob))
                return self._advance()
            case CallExtra():
                self._keep_extra(delta)
                return ()
            case _:
                self._at_end.keep(delta)
                return ()

    def _keep_extra(self, delta: CallExtra) -> None:
        extra = delta.extra.copy()  # or it would hold the whole chunk
        self._done_size += RECORD_BYTES + len(memoryview(extra))
        if delta.key is None:
            self._at_end.extras[""] = extra
        else:
            self._calls[delta.key].extra = extra

    def _message(self, delta: Text | Refusal) -> Iterable[Event]:
        message = self._last
        if not isinstance(message, MessageSegment):
            return self._new_message(delta)
        self._blank.drop(self._blank.reasoning)
        return self._continue(message, delta)

    def _new_message(self, delta: Text | Refusal) -> list[Event]:
        if isinstance(delta, Text) and delta.text.isspace():
            self._blank.text.add(delta)
            return []
        sent = self._queue_named_calls() if self._named else []
        message = MessageSegment()
        if self._blank.text:
            message.waiting.extend(self._blank.text)
            self._blank.text.clear()
        message.waiting.append(delta)
        self._blank.drop(self._blank.reasoning)
        self._join(message)
        return sent + self._advance()

    def _continue(self, narrative: Narrative[_D], delta: _D) -> Iterable[Event]:
        if narrative.open is None:
            narrative.waiting.add(delta)
            return ()
        narrative.waiting.append(delta)
        return self._advance()

    def _citation(self, delta: Citation) -> Iterable[Event]:
        if isinstance(self._last, MessageSegment):
            return self._continue(self._last, delta)
        self._blank.text.add(delta)
        return ()

    def _reasoning(self, delta: Reasoning | ReasoningDetails) -> Iterable[Event]:
        if isinstance(self._last, ReasoningSegment):
            self._blank.drop(self._blank.text)
            return self._continue(self._last, delta)
        if isinstance(delta, Reasoning) and delta.text.isspace():
            self._blank.reasoning.add(delta)
            return ()
        self._blank.drop(self._blank.text)
        if self._family == "none" and not self._seal and not self._keeps:
            self._written += text_size((delta,))
            return ()  # the client would see none of it
        return self._new_reasoning(delta)

    def _new_reasoning(self, delta: Reasoning | ReasoningDetails) -> list[Event]:
        sent = self._queue_named_calls() if self._named else []
        reasoning = ReasoningSegment()
        if self._blank.reasoning:
            reasoning.waiting.extend(self._blank.reasoning)
            self._blank.reasoning.clear()
        reasoning.waiting.append(delta)
        self._join(reasoning)
        return sent + self._advance()

    def _tool_call(self, delta: ToolCall) -> list[Event]:
        call = self._calls.get(delta.key)
        sent: list[Event] = []
        if call is None:
            if self._one_call and self._calls:
                self._written += text_size((delta,))
                self._lost().call_dropped(delta.key, "parallel_tool_calls")
                return sent  # parallel_tool_calls is false, and the upstream did not know
            call = self._calls[delta.key] = self.call_type(delta.key)
            sent = self._queue_named_calls() if self._named else []
            self._blank.drop(self._blank.text)
            self._blank.drop(self._blank.reasoning)
        call.add(delta)
        if not call.queued and call.name:
            if call.begun:
                self._named.pop(delta.key, None)
                self._admit(call)
            else:
                self._named[delta.key] = call
        return sent + self._advance()

    def _queue_named_calls(self) -> list[Event]:
        """Another segment begins: calls that are named but not begun take their places before."""
        for key in sorted(self._named):
            self._admit(self._named[key])
        self._named.clear()
        return self._advance()

    def _admit(self, call: CallSegment) -> None:
        if not call.name:
            return
        if not self._may_call(call.name):
            self._lost().call_dropped(call.key, self._forbids)
            return
        if self._losses is not None:
            self._losses.call_taken(call.key)
        call.queued = True
        self._join(call)

    def _may_call(self, name: str) -> bool:
        if self._allowed is None:
            return True
        tool = self._tools.called(name)
        return self._tools.chat_name(tool.name, tool.namespace) in self._allowed

    # --- ends -----------------------------------------------------------------------------------

    def _finish(self, verdict: Finish) -> Events:
        whole = verdict.reason == "stop"
        for call in self._calls.values():
            if not call.queued and (whole or call.begun):
                self._admit(call)
        cut = False
        while self._queue:
            first = self._queue[0]
            yield from self._sent(first)
            cut = not whole and len(self._queue) == 1
            if isinstance(first, CallSegment):
                cut = first.cut or (cut and not first.whole)
            yield from self._close(first, "incomplete" if cut else "completed")
            if cut:
                self._queue.clear()  # only the last item may be cut
        if whole and not cut:
            yield from self._seal_extras()
            at = max(self._now(), self._base.created_at)
            response = self._terminal("completed", completed_at=at)
            yield events.Completed(self._number(), response)
        else:
            response = self._terminal("incomplete", incomplete_details=why_incomplete(verdict))
            yield events.Incomplete(self._number(), response)

    def _seal_extras(self) -> Events:
        """Put extra content of calls, which must go back upstream, into a last reasoning item.

        Clients keep of a call only the fields of the API, but all of a reasoning item.
        """
        if (self._seal or self._keeps) and (extras := self._call_extras()):
            yield from self._sealing_item(extras)

    def _call_extras(self) -> dict[str, Raw]:
        extras = dict(self._at_end.extras)
        for one in self._calls.values():
            if one.closed and one.extra is not None:
                extras[one.call_id] = one.extra
        return extras

    def _sealing_item(self, extras: dict[str, Raw]) -> Events:
        item = self._open_reasoning("none")
        item.extras(extras)
        yield from item.opened()
        self.output.add((yield from item.closed("completed")), item)

    def _fail(self, verdict: Failure) -> Events:
        """An item cut by a failure is never closed: a client would run half a call."""
        body = error_body(verdict.error)
        yield events.Error(self._number(), body.code, body.message, body.param, body)
        failure = responses.ResponseError(body.code or body.type, body.message)
        yield events.Failed(self._number(), self._terminal("failed", error=failure))

    def _terminal(
        self,
        status: FinalStatus | Literal["failed"],
        **fields: Any,  # noqa: ANN401 - of a response
    ) -> responses.Response:
        """The final response, which the terminal event holds."""
        self._final = self._at_end.final(
            self._base, status=status, output=self.output.shown, **fields
        )
        return self._final
