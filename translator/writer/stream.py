"""The state machine: which item is open, when it closes, and how the response ends.

    created, in_progress, { item }, ( completed | incomplete | error, failed )

The state is a phase, and a line of segments. A segment is what becomes one output item: a message,
some reasoning, a call. Only the first in the line is open, so items never overlap on the wire; what
arrives for a later one waits with it. The first is closed as soon as another stands behind it and
it can be complete:

    message, reasoning,
    compaction           at once: whatever follows ends them
    call                 when its arguments are a whole JSON value; upstreams interleave calls

A call joins the line when its name is known and its arguments begin, or when anything else begins.
Until then it has no `output_index`, so no event can be sent for it by mistake.

Blank text before an answer, between calls, or at the end is noise of chat templates: it waits, and
is dropped unless more text follows.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterable
from enum import Enum, auto
from typing import Any, Generic, TypeVar, assert_never, get_args

import msgspec
from msgspec import Raw

from translator.common.json_text import JsonExtent
from translator.common.tools import REPEAT_MARK, Declared, Toolset
from translator.wire import events, responses
from translator.wire.deltas import (
    CallExtra,
    Citation,
    Compaction,
    Delta,
    Failure,
    Finish,
    Reasoning,
    ReasoningDetails,
    Refusal,
    ServiceTier,
    Sources,
    Text,
    ToolCall,
    Usage,
    Verdict,
)
from translator.wire.events import Event, ReasoningEvents
from translator.wire.items import OutputItem

from .open_items import (
    ITEM_ID_PREFIXES,
    Events,
    FinalStatus,
    MessageDelta,
    OpenCall,
    OpenCompaction,
    OpenMessage,
    OpenNarrative,
    OpenReasoning,
    Place,
    ReasoningDelta,
    open_call,
)

_FATAL_TYPES = {
    "context_length_exceeded": "invalid_request_error",
    "insufficient_quota": "insufficient_quota",
    "rate_limit_exceeded": "rate_limit_error",
}
"""Codes that clients act on, with their types. Every other failure is `server_error`, which they
retry: `server_is_overloaded` would end a Codex turn for good."""

_D = TypeVar("_D")

_More = Callable[[Any], list[Event] | None]
"""Takes a delta that goes on with what is open; None: it does not."""

_TIERS = frozenset(get_args(responses.Tier))


class Phase(Enum):
    """Where a response is; each is entered once, in this order."""

    NEW = auto()
    OPEN = auto()
    OVER = auto()


class _Narrative(Generic[_D]):
    """What is told in one piece, open or waiting: whatever follows ends it."""

    whole = True

    def __init__(self) -> None:
        self.open: OpenNarrative[_D] | None = None
        self.waiting: list[_D] = []

    def send(self) -> Events:
        assert self.open is not None
        for delta in self.waiting:
            yield from self.open.take(delta)
        self.waiting.clear()


class _MessageSegment(_Narrative[MessageDelta]):
    """A message."""


class _ReasoningSegment(_Narrative[ReasoningDelta]):
    """Reasoning."""


class _CallSegment:
    """A call: pending (not in the line yet), waiting, open, or closed."""

    def __init__(self, key: int) -> None:
        self._key = key
        self.id: str | None = None
        self.name: str | None = None
        self.open: OpenCall | None = None
        self.call_id = ""
        self.extra: Raw | None = None
        self.in_line = False
        self.closed = False
        self.waiting: list[str] = []
        self._arguments: list[str] = []  # all of them: `whole` is asked late, if ever
        self._extent = JsonExtent()
        self._scanned = 0

    def add(self, call: ToolCall) -> None:
        self.id = self.id or call.id
        if self.open is None and call.name:
            self.name = call.name
        if call.arguments and not self.closed:
            self._arguments.append(call.arguments)
            self.waiting.append(call.arguments)

    def more(self, delta: ToolCall) -> list[Event] | None:
        """Go on with an open call whose arguments have been sent so far."""
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
        while self._scanned < len(self._arguments):
            self._extent.feed(self._arguments[self._scanned])
            self._scanned += 1
        return self._extent.whole

    def send(self) -> Events:
        assert self.open is not None
        if not self.begun:
            return  # `null` so far: what it is shows at the next piece, or at the end
        for arguments in self.waiting:
            yield from self.open.arguments(arguments)
        self.waiting.clear()

    def send_none(self) -> Events:
        """The arguments of a call without any: clients parse them, so they must be JSON."""
        assert self.open is not None
        if not self.begun:
            self.waiting.clear()
            yield from self.open.arguments("{}")


class _CompactionSegment:
    """A compacted context, which comes whole."""

    whole = True

    def __init__(self, blob: str) -> None:
        self.open: OpenCompaction | None = None
        self.blob = blob

    def send(self) -> Events:
        yield from ()


_Segment = _MessageSegment | _ReasoningSegment | _CallSegment | _CompactionSegment


class ResponseStream:
    """One response, from its first event to its last.

    `start()`, `feed(delta)`, `finish(verdict)` and `heartbeat()` each return the events to send
    now, in order. `finish` may be called at any time, once or more often: after the terminal event
    every method returns an empty list.
    """

    def __init__(
        self,
        response: responses.Response,
        *,
        new_id: Callable[[str], str],
        now: Callable[[], int],
        tools: Toolset,
        reasoning_events: ReasoningEvents = "summary",
        seal_reasoning: bool = False,
        one_call: bool = False,
        allowed: frozenset[str] | None = None,
        known_call_ids: Iterable[str] = (),
    ) -> None:
        """`allowed` are the function names that may be called; None: all.

        `known_call_ids` are those of the request's history, which a new call must not repeat.
        """
        self.phase = Phase.NEW
        self._base = response
        self._final: responses.Response | None = None
        self._new_id = new_id
        self._now = now
        self._tools = tools
        self._family: ReasoningEvents = reasoning_events
        self._seal = seal_reasoning
        self._one_call = one_call
        self._allowed = allowed
        self._call_ids = set(known_call_ids)
        self._number = itertools.count().__next__
        self._next_index = 0
        self._output: list[OutputItem] = []
        self._line: list[_Segment] = []
        self._last: _Segment | None = None  # where text goes on, unless something else began
        self._told: type[object] | None = None  # the kind of delta that only goes on, as most do,
        self._more: _More  # and what takes it
        self._calls: dict[int, _CallSegment] = {}
        self._blank: list[Text | Citation] = []
        self._blank_reasoning: list[Reasoning | ReasoningDetails] = []
        self._extras: dict[str, Raw] = {}
        self._sources: Sources | None = None
        self._usage: responses.Usage | None = None
        self._tier: str | None = None

    @property
    def response(self) -> responses.Response:
        """The response so far; final after the terminal event."""
        if self._final is not None:
            return self._final
        return msgspec.structs.replace(self._base, output=list(self._output))

    @property
    def produced(self) -> bool:
        """Whether anything of an answer has been announced to the client."""
        return self._next_index > 0

    # --- what comes in ------------------------------------------------------------------------

    def start(self) -> list[Event]:
        """Announce the response."""
        if self.phase is not Phase.NEW:
            return []
        self.phase = Phase.OPEN
        return [
            events.Created(self._number(), self._base),
            events.InProgress(self._number(), self._base),
        ]

    def heartbeat(self) -> list[Event]:
        """Say that work goes on."""
        if self.phase is not Phase.OPEN:
            return []
        return [events.InProgress(self._number(), self._base)]

    def feed(self, delta: Delta) -> list[Event]:
        """Take the next piece of the answer."""
        if type(delta) is self._told and (more := self._more(delta)) is not None:
            return more
        if self.phase is not Phase.OPEN:
            return []
        events = list(self._feed(delta))
        self._expect_more()
        return events

    def _expect_more(self) -> None:
        """Which kind of delta can only be more of what is open, and what takes it.

        So nothing else may be in the line, or wait for what comes next.
        """
        self._told = None
        if len(self._line) != 1 or self._blank or self._blank_reasoning:
            return
        first = self._line[0]
        if isinstance(first, _CallSegment):
            self._told, self._more = ToolCall, first.more
        elif isinstance(first, _Narrative) and first.open is not None and first is self._last:
            self._told, self._more = first.open.tells, first.open.more

    def finish(self, verdict: Verdict) -> list[Event]:
        """End the response: whole, cut, or failed."""
        if self.phase is not Phase.OPEN:
            return []
        self.phase = Phase.OVER
        self._told = None
        match verdict:
            case Finish():
                return list(self._finish(verdict))
            case Failure():
                return list(self._fail(verdict))
            case _ as never:
                assert_never(never)

    # --- transitions --------------------------------------------------------------------------

    def _feed(self, delta: Delta) -> Iterable[Event]:
        match delta:
            case Text() | Refusal():
                return self._said(delta)
            case Reasoning() | ReasoningDetails():
                return self._reasoning(delta)
            case ToolCall():
                return self._tool_call(delta)
            case Citation():
                return self._cited(delta)
            case Compaction():
                self._join(_CompactionSegment(delta.blob))
                return self._advance()
            case _:
                self._remember(delta)
                return ()

    def _remember(self, delta: Sources | CallExtra | Usage | ServiceTier) -> None:
        """What shows only at the end."""
        match delta:
            case Sources():
                self._sources = delta
            case CallExtra():
                if delta.key is None:
                    self._extras[""] = delta.extra
                else:
                    self._calls[delta.key].extra = delta.extra
            case Usage():
                self._usage = _usage(delta)
            case ServiceTier():
                self._tier = delta.name if delta.name in _TIERS else None
            case _ as never:
                assert_never(never)

    def _said(self, delta: Text | Refusal) -> Iterable[Event]:
        message = self._last
        if not isinstance(message, _MessageSegment):
            return self._said_anew(delta)
        if self._blank_reasoning:
            self._blank_reasoning.clear()
        return self._goes_on(message, delta)

    def _said_anew(self, delta: Text | Refusal) -> Events:
        if isinstance(delta, Text) and delta.text.isspace():
            self._blank.append(delta)
            return
        message = yield from self._new_message()
        self._blank_reasoning.clear()
        message.waiting.append(delta)
        yield from self._advance()

    def _goes_on(self, narrative: _Narrative[_D], delta: _D) -> Events:
        """More of what was told last."""
        narrative.waiting.append(delta)
        return self._advance()

    def _cited(self, delta: Citation) -> Iterable[Event]:
        if isinstance(self._last, _MessageSegment):
            return self._goes_on(self._last, delta)
        self._blank.append(delta)
        return ()

    def _new_message(self) -> Generator[Event, None, _MessageSegment]:
        """A message at the end of the line, behind all that was said before."""
        yield from self._line_up()
        message = _MessageSegment()
        message.waiting.extend(self._blank)
        self._blank.clear()
        self._join(message)
        return message

    def _reasoning(self, delta: Reasoning | ReasoningDetails) -> Iterable[Event]:
        if isinstance(self._last, _ReasoningSegment):
            self._blank.clear()
            return self._goes_on(self._last, delta)
        if isinstance(delta, Reasoning) and delta.text.isspace():
            self._blank_reasoning.append(delta)
            return ()
        self._blank.clear()
        if self._family == "none" and not self._seal:
            return ()  # nobody would see it
        return self._new_reasoning(delta)

    def _new_reasoning(self, delta: Reasoning | ReasoningDetails) -> Events:
        yield from self._line_up()
        reasoning = _ReasoningSegment()
        reasoning.waiting.extend(self._blank_reasoning)
        reasoning.waiting.append(delta)
        self._blank_reasoning.clear()
        self._join(reasoning)
        yield from self._advance()

    def _tool_call(self, delta: ToolCall) -> Events:
        call = self._calls.get(delta.key)
        if call is None:
            if self._one_call and self._calls:
                return  # parallel_tool_calls is false, and the upstream did not know
            call = self._calls[delta.key] = _CallSegment(delta.key)
            yield from self._line_up(but=call)
            self._blank.clear()
            self._blank_reasoning.clear()
        call.add(delta)
        if not call.in_line and call.begun:
            self._admit(call)
        yield from self._advance()

    def _line_up(self, but: _CallSegment | None = None) -> Events:
        """Something else begins: calls that are named but not begun take their place."""
        for call in self._calls.values():
            if call is not but and not call.in_line:
                self._admit(call)
        yield from self._advance()

    def _admit(self, call: _CallSegment) -> None:
        if not call.name or not self._may_call(call.name):
            return
        call.in_line = True
        self._join(call)

    def _may_call(self, name: str) -> bool:
        if self._allowed is None:
            return True
        tool = self._tools.called(name)
        return self._tools.chat_name(tool.name, tool.namespace) in self._allowed

    def _join(self, segment: _Segment) -> None:
        self._line.append(segment)
        self._last = segment

    # --- the line -------------------------------------------------------------------------------

    def _advance(self) -> Events:
        """Send what the first segment has; close it, and go on, while another can follow."""
        while self._line:
            first = self._line[0]
            if first.open is None:
                yield from self._open(first)
            yield from first.send()
            if len(self._line) == 1 or not first.whole:
                return
            yield from self._close(first, "completed")

    def _open(self, segment: _Segment) -> Events:
        match segment:
            case _MessageSegment():
                segment.open = OpenMessage(self._place("msg_"))
            case _ReasoningSegment():
                place = self._place("rs_")
                segment.open = OpenReasoning(place, self._family, sealed=self._seal)
            case _CallSegment():
                tool = self._called(segment)
                place = self._place(ITEM_ID_PREFIXES[tool.kind])
                segment.call_id = self._call_id(segment.id)
                segment.open = open_call(place, segment.call_id, tool)
            case _CompactionSegment():
                segment.open = OpenCompaction(self._place("cmp_"), segment.blob)
            case _ as never:
                assert_never(never)
        yield from segment.open.opened()

    def _close(self, segment: _Segment, status: FinalStatus) -> Events:
        assert segment.open is not None
        if isinstance(segment, _CallSegment):
            yield from segment.send_none()
            segment.closed = True
        if isinstance(segment, _MessageSegment) and self._sources is not None:
            segment.waiting.append(self._sources)
            yield from segment.send()
        item = yield from segment.open.closed(status)
        self._output.append(item)
        self._line.pop(0)

    def _place(self, prefix: str) -> Place:
        index = self._next_index
        self._next_index += 1
        return Place(self._new_id(prefix), index, self._number)

    def _called(self, call: _CallSegment) -> Declared:
        return self._tools.called(call.name or "")

    def _call_id(self, given: str | None) -> str:
        """The upstream's id, or a new one; made unique when the upstream repeats itself."""
        call_id = given or self._new_id("call_")
        if call_id in self._call_ids:
            numbered = (f"{call_id}{REPEAT_MARK}{n}" for n in itertools.count(2))
            call_id = next(one for one in numbered if one not in self._call_ids)
        self._call_ids.add(call_id)
        return call_id

    # --- ends -----------------------------------------------------------------------------------

    def _finish(self, verdict: Finish) -> Events:
        whole = verdict.reason == "stop"
        for call in self._calls.values():
            if not call.in_line and (whole or call.begun):
                self._admit(call)
        while self._line:
            first = self._line[0]
            if first.open is None:
                yield from self._open(first)
            yield from first.send()
            cut = not whole and len(self._line) == 1
            cut = cut and not (isinstance(first, _CallSegment) and first.whole)
            yield from self._close(first, "incomplete" if cut else "completed")
        usage, tier = self._usage, self._tier or self._base.service_tier
        if whole:
            yield from self._seal_extras()
            self._final = msgspec.structs.replace(
                self._base,
                status="completed",
                completed_at=max(self._now(), self._base.created_at),
                output=self._output,
                service_tier=tier,
                usage=usage,
            )
            yield events.Completed(self._number(), self._final)
        else:
            self._final = msgspec.structs.replace(
                self._base,
                status="incomplete",
                incomplete_details=responses.IncompleteDetails(
                    "max_output_tokens" if verdict.reason == "length" else "content_filter"
                ),
                output=self._output,
                service_tier=tier,
                usage=usage,
            )
            yield events.Incomplete(self._number(), self._final)

    def _seal_extras(self) -> Events:
        """What the upstream hung on its calls goes back with them: it waits in a last item.

        Clients keep of a call only what the API knows of it, but all of a reasoning item.
        """
        for call in self._calls.values():
            if call.extra is not None and call.closed:
                self._extras[call.call_id] = call.extra
        if self._seal and self._extras:
            item = OpenReasoning(self._place("rs_"), "none", sealed=True)
            item.extras(self._extras)
            yield from item.opened()
            self._output.append((yield from item.closed("completed")))

    def _fail(self, verdict: Failure) -> Events:
        """An item cut by a failure is never closed: a client would run half a call."""
        error = verdict.error
        code, kind = "server_error", "server_error"
        if error.code in _FATAL_TYPES:
            code, kind = error.code, _FATAL_TYPES[error.code]
        self._final = msgspec.structs.replace(
            self._base,
            status="failed",
            error=responses.ResponseError(code, error.message),
            output=self._output,
            service_tier=self._tier or self._base.service_tier,
            usage=self._usage,
        )
        body = events.ErrorBody(kind, code, error.message, error.param)
        yield events.Error(self._number(), code, error.message, error.param, body)
        yield events.Failed(self._number(), self._final)


def _usage(usage: Usage) -> responses.Usage:
    return responses.Usage(
        usage.input_tokens,
        responses.InputTokensDetails(usage.cached_tokens, usage.cache_write_tokens),
        usage.output_tokens,
        responses.OutputTokensDetails(usage.reasoning_tokens),
        usage.input_tokens + usage.output_tokens,
    )
