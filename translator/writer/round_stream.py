"""One response over several rounds: upstream turns with calls of hosted tools between them.

    response = created, in_progress, { round, tools run }, round, end
    round    = { reasoning | message | call }

Numbers, indexes and ids go on from round to round, and so does the output. A hosted call is open
from its first argument until its outcome is there; what stands behind it waits, as with calls that
upstreams interleave. The outcomes of a round travel in the next reasoning, sealed, or in an item of
their own where none follows. `rounds` decides what is run, and whether another round follows.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence, Set
from typing import Any, Literal

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from translator.common.hosted import (
    Asked,
    Hosted,
    Outcome,
    Ran,
    RanRound,
    shortened,
)
from translator.common.sealed import Thought
from translator.common.tools import Declared, Toolset
from translator.common.web_search import SEARCH
from translator.wire import responses
from translator.wire.deltas import (
    Delta,
    Failure,
    Finish,
    Reasoning,
    ReasoningDetails,
    Source,
    Sources,
    Verdict,
)
from translator.wire.events import Event, ReasoningEvents
from translator.wire.json_values import replace_lone_surrogates, utf8_size

from .hosted_items import Shown, open_hosted_call, prefix_of
from .losses import WhyNot
from .mcp_items import first_items
from .open_calls import OpenCall, OpenHostedCall
from .open_items import (
    Closing,
    Events,
    FinalStatus,
    OpenReasoning,
    Place,
)
from .phase import Phase
from .round_items import OpenRoundReasoning, RoundCall
from .round_usage import RoundUsage
from .segments import Blank, CallSegment, MessageSegment, ReasoningSegment, Segment
from .stream import ResponseStream

_CALL_BYTES = 256
"""What a call in a seal has beside its arguments and its output: ids, and names."""

_encode = msgspec.json.encode


class RoundStream(ResponseStream):
    """One response of several rounds.

    When a round's upstream turn is over and has hosted calls, `finish` leaves the response open,
    with these calls in `waiting`. `settle` gives each its outcome, then `end_round` ends the round:
    the response ends with it where the client has calls to run, too; else `begin_round` begins the
    next one, once for each attempt at it. `history` is what the response holds by then, as input.
    """

    call_type = RoundCall

    __slots__ = (
        "_closed_calls",
        "_first_source",
        "_hosted",
        "_is_last",
        "_numbers",
        "_restored",
        "_results",
        "_results_left",
        "_round_index",
        "_runs",
        "_seal_left",
        "_searches",
        "_shown",
        "_sources",
        "_unsent",
        "_written_before",
        "history",
        "usage",
        "waiting",
    )

    def __init__(
        self,
        response: responses.Response,
        *,
        hosted: Hosted,
        shown: Shown,
        last_source: int,
        **given: Any,  # noqa: ANN401 - for the response itself
    ) -> None:
        """`last_source` is the number of the last source that the history tells the model."""
        super().__init__(response, **given)
        self._hosted = hosted
        self._shown = shown
        self._results: RanRound | None = None  # of the round before, and in no item yet
        self._results_left = hosted.max_results_bytes
        self._seal_left = hosted.max_seal_bytes  # of the round
        self._round_index = 0  # where the items of the round begin
        self._runs = False  # the calls of the round run
        self._searches: int | None = None  # that have run; None: no hosted tool was called
        self._first_source = last_source + 1
        self._sources: list[Source] = []
        self._numbers: dict[str, int] = {}  # of sources, by URL
        self._closed_calls: list[RoundCall] = []  # of the round
        self.usage = RoundUsage()
        self._restored: tuple[RanRound | None, int, int] | None = None  # by another attempt
        self._unsent = 0  # events at its end, which another attempt takes back
        self._written_before = 0
        self._is_last = False
        self.history: list[Raw | Thought] = []
        self.waiting: Sequence[RoundCall] = ()

    @property
    def output_tokens(self) -> int:
        """The tokens of output so far; of the current round, those that it has told."""
        usage = self._at_end.usage
        return self.usage.output_tokens + (0 if usage is None else usage.output_tokens)

    @property
    def tools(self) -> Toolset:
        """The tools that the request declares."""
        return self._tools

    @property
    def cuts_hosted_calls(self) -> bool:
        """Whether calls stop in the middle of their arguments, none of which the client runs."""
        cut = [call for call in self._calls.values() if call.cut]
        return bool(cut) and all(self._called(call).hosted is not None for call in cut)

    def _called(self, call: CallSegment) -> Declared:
        return self._tools.undeclared(call.name or "") or super()._called(call)

    @property
    def _forbids(self) -> WhyNot:
        return "tools" if self._is_last else super()._forbids

    @property
    def _is_hidden(self) -> bool:
        return self._family == "none" and not self._seal and not self._keeps

    @property
    def produced(self) -> bool:
        return self._next_index > self._round_index

    # --- rounds ---------------------------------------------------------------------------------

    def start(self) -> list[Event]:
        """The first events, and the items that the response begins with: every attempt has them."""
        events = super().start()
        if events and (self._tools.mcp or self._tools.approved):
            for closing in first_items(self._tools, self._place_of):
                events += self._first_item(closing)
            self._round_index = self._next_index
            if self._tools.approved:
                self._results = RanRound(
                    [], approved={one.id: one.output for one in self._tools.approved}
                )
        return events

    def _first_item(self, closing: Closing) -> Events:
        item = yield from closing
        self.output.add(item, None)
        self._item_count += 1
        self._done_size += len(_encode(item))

    def _place_of(self, item_id: str) -> Place:
        return replace(self._place(""), item_id=item_id)

    def finish(self, verdict: Verdict) -> list[Event]:
        """End the round: with calls in `waiting`, or with the response."""
        if self.phase is Phase.OPEN and verdict == Finish("stop") and not self.is_full:
            for call in self._calls.values():
                if not call.queued:
                    self._admit(call)
            queued = [one for one in self._queue if isinstance(one, RoundCall)]
            for call in queued:
                call.hosted = self._called(call).hosted
            self.waiting = [one for one in queued if one.hosted is not None]
            self._fast_type = self._fast_item = None
            if self.waiting:
                self._searches = self._searches or 0
                return self._advance()
        return self._end(verdict)

    def _end(self, verdict: Verdict) -> list[Event]:
        self.waiting = ()
        events: list[Event] = []
        if self.phase is Phase.OPEN and verdict != Finish("stop"):
            if isinstance(verdict, Failure):
                events += self._seal_before_failure()
            elif self._results is not None:
                events += self._seal_results()
        events += super().finish(verdict)
        self._unsent = len(events)
        return events

    def _seal_before_failure(self) -> list[Event]:
        """What ran, in an item before the end of a response that fails between two items.

        Nothing of the round counts as produced by that: another attempt takes it back.
        """
        if self._results is None or (self._queue and self._queue[0].open is not None):
            return []
        self._restored = self._results, self._next_index, len(self.output.shown)
        events = list(self._seal_results())
        self._round_index = self._next_index
        return events

    def seal_results(self) -> list[Event]:
        """What ran and is in no whole item yet, in one of its own: the response is left here."""
        opened = self._queue[0].open if self._queue else None
        if isinstance(opened, OpenRoundReasoning):
            self._results, opened.ran = opened.ran, None
        elif any(call.hosted is not None for call in self._closed_calls):
            self._results, self._closed_calls = self._ran(), []
        return [] if self._results is None else list(self._seal_results())

    def ignore(self, calls: Set[RoundCall]) -> None:
        """Take waiting calls back that nothing has announced, as if they had not been made."""
        for call in calls:
            self._lost().call_dropped(call.key, "tools")
        self.waiting = [one for one in self.waiting if one not in calls]
        self._queue = [one for one in self._queue if one not in calls]

    def run(self) -> list[Event]:
        """The waiting calls begin to run: events say so of each once it is announced."""
        self._runs = True
        arguments = sum(_CALL_BYTES + len(_encode(call.text)) for call in self.waiting)
        self._seal_left = self._hosted.max_seal_bytes - arguments
        opened = self._queue[0].open
        return list(opened.running()) if isinstance(opened, OpenHostedCall) else []

    def settle(self, call: RoundCall, outcome: Outcome) -> list[Event]:
        """Give a waiting call its outcome."""
        if call.function.kind == "mcp" and not outcome.asks:  # its item shows what the model reads
            call.told = self._told(outcome)
            outcome = replace(outcome, output=(call.told,))
        call.outcome = outcome
        if not outcome.failed and call.function.name == SEARCH and not call.function.server:
            self._searches = (self._searches or 0) + 1
        return self._advance()

    def end_round(self) -> list[Event]:
        """End a round whose calls have their outcomes, and the response, where it cannot go on."""
        events: list[Event] = []
        while self._queue:
            first = self._queue[0]
            events += self._sent(first)
            events += self._close(first, "completed")
        asks = any(one.outcome is not None and one.outcome.asks for one in self._closed_calls)
        goes_on = len(self._closed_calls) == len(self.waiting) and not asks
        self._results = ran = self._ran()
        self.waiting, self._runs = (), False
        if not goes_on:
            return events + self._end(Finish("stop"))
        self.history.append(Thought("", "", ran=ran))
        self._done_size += sum(call.size for call in self._closed_calls) + len(_encode(ran))
        self._spend()
        self._written += sum(call.written for call in self._closed_calls)
        self._calls, self._closed_calls = {}, []
        self._round_index = self._next_index
        if self._losses is not None:
            self._losses.round_over()
        return events

    def begin_round(
        self,
        *,
        tools: Toolset,
        allowed: frozenset[str] | None,
        origin: str | None,
        is_last: bool,
    ) -> None:
        """Begin the next round, or another attempt at it, of which nothing was announced.

        `is_last`: no tool can be called in it.
        """
        if self.phase is Phase.OVER:
            self.phase = Phase.OPEN
            self._final = None
            self._number = itertools.count(self._number() - self._unsent).__next__
            if self._restored is not None:
                self._results, index, count = self._restored
                self._next_index = self._round_index = index
                self.output.cut(count)
                self._restored = None
        if self._losses is not None:
            self._losses.round_again()
        self._tools, self._allowed, self._origin = tools, allowed, origin
        self._is_last = is_last
        self._calls, self._named, self._queue = {}, {}, []
        self._blank, self._last = Blank(), None
        self._fast_type = self._fast_item = None
        self._at_end.usage, self._at_end.extras = None, {}

    # --- what ran -------------------------------------------------------------------------------

    def _ran(self) -> RanRound:
        """What ran in the round, with all output as the model reads it."""
        calls: list[Ran] = []
        searches = 0
        behind = own = sum(call.hosted is None for call in self._closed_calls)
        for call in self._closed_calls:
            if call.hosted is None:
                behind -= 1
                continue
            assert call.outcome is not None, "the call has no outcome yet"
            searches += call.hosted.kind == "web_search"
            tool = self._called(call)
            name = self._tools.chat_name(tool.name, tool.namespace)
            ran = Ran(call.call_id, name, call.text, "", behind)
            if call.hosted.kind == "mcp":
                ran = replace(ran, item=call.item_id)
            if call.outcome.asks:
                server = call.hosted.server
                target = self._tools.mcp[server].target
                asked = Asked(call.item_id, server, call.hosted.name, target)
                calls.append(replace(ran, asked=asked))
            else:
                told = self._told(call.outcome) if call.told is None else call.told
                calls.append(replace(ran, output=told))
        extras = self._call_extras()
        self._at_end.extras = {}
        last_source = self._first_source + len(self._sources) - 1
        return RanRound(calls, extras, last_source, searches, own=own)

    def _told(self, outcome: Outcome) -> str:
        """The output of a call for the model, within the bounds, with the numbers of sources."""
        text = "".join(one if isinstance(one, str) else self._mark(one) for one in outcome.output)
        text = replace_lone_surrogates(text)
        limit = self._hosted.result_bytes(seals=self._seal)
        text = self._fitting(shortened(text, min(limit, self._results_left)))
        text = text or "No room is left for further results. Answer with what there is."
        self._results_left = max(0, self._results_left - utf8_size(text))
        return text

    def _fitting(self, text: str) -> str:
        """An output that fits into the seal of the round, if there is one, with those before it."""
        if not (self._seal or self._keeps):
            return text
        left = max(0, self._seal_left)
        while text and (size := len(_encode(text))) > left:
            text = shortened(text, utf8_size(text) * left // size)
        self._seal_left -= len(_encode(text))
        return text

    def _mark(self, source: Source) -> str:
        """The number of a source, in brackets: one URL has one number in all of the response."""
        number = self._numbers.setdefault(source.url, self._first_source + len(self._sources))
        if number == self._first_source + len(self._sources):
            self._sources.append(source)
        return f"[{number}]"

    # --- the response ---------------------------------------------------------------------------

    def _feed(self, delta: Delta) -> Iterable[Event]:
        if isinstance(delta, Sources) and self._sources:
            return ()  # the text refers to those of the tools
        return super()._feed(delta)

    def _reasoning(self, delta: Reasoning | ReasoningDetails) -> Iterable[Event]:
        if self._is_hidden and not isinstance(self._last, ReasoningSegment):
            return self._new_reasoning(delta)  # the client sees none of it, but the next round does
        return super()._reasoning(delta)

    def _open(self, segment: Segment) -> Events:
        if self._results is not None and not isinstance(segment, ReasoningSegment):
            yield from self._seal_results()
        yield from super()._open(segment)

    def _sent(self, segment: Segment) -> list[Event]:
        sent = super()._sent(segment)
        if self._runs and isinstance(segment.open, OpenHostedCall):
            sent += segment.open.running()
        return sent

    def _open_call(self, segment: CallSegment, tool: Declared) -> OpenCall:
        if tool.hosted is None:
            return super()._open_call(segment, tool)
        assert isinstance(segment, RoundCall)
        segment.hosted = tool.hosted
        place = self._place(prefix_of(tool.hosted))
        segment.call_id = self._call_ids.unique(segment.id)
        return open_hosted_call(place, segment.call_id, tool, tool.hosted, self._shown)

    def _open_reasoning(self, family: ReasoningEvents) -> OpenReasoning:
        item = OpenRoundReasoning(
            self._place("rs_"),
            family,
            self._unsealed.append,
            self._origin,
            sealed=self._seal,
            keeps=self._keeps,
        )
        item.ran, self._results = self._results, None
        return item

    def _close(self, segment: Segment, status: FinalStatus) -> Events:
        if isinstance(segment, MessageSegment) and self._sources:
            self._at_end.sources = Sources(tuple(self._sources), self._first_source, linked=True)
        if isinstance(segment, RoundCall):
            self._closed_calls.append(segment)
            if isinstance(segment.open, OpenHostedCall):
                segment.open.outcome = segment.outcome
        yield from super()._close(segment, status)
        if isinstance(segment, RoundCall):
            segment.item_id = self.output.shown[-1].id  # known by now: it may be asked about
        if isinstance(segment.open, OpenRoundReasoning):
            self.history.append(segment.open.thought)
        elif isinstance(segment, MessageSegment):
            self.history.append(Raw(_encode(self.output.shown[-1])))

    def _seal_results(self) -> Events:
        """Put what ran into an item of its own, unless nothing of it is sealed."""
        if self._seal or self._keeps:
            yield from self._sealing_item({})
        self._results = None

    def _seal_extras(self) -> Events:
        if self._results is None or not (self._seal or self._keeps):
            yield from super()._seal_extras()
        else:
            yield from self._sealing_item(self._call_extras())

    # --- usage ----------------------------------------------------------------------------------

    def _spend(self) -> None:
        """Count the usage of a round that is over."""
        written = self.written - self._written_before
        self._written_before += written
        self.usage.spend(self._at_end.usage, written)
        self._at_end.usage = None

    @property
    def total_usage(self) -> responses.Usage | None:
        """The usage of all rounds so far; None where none has told any."""
        return self.usage.total(self._at_end.usage)

    def _terminal(
        self,
        status: FinalStatus | Literal["failed"],
        **fields: Any,  # noqa: ANN401 - of a response
    ) -> responses.Response:
        own = self._at_end.usage
        self._at_end.usage = self.usage.told(own, self._hosted.round_usage)
        if self._searches is not None:
            searches = responses.WebSearchUsage(self._searches)
            fields["tool_usage"] = responses.ToolUsage(searches)
        response = super()._terminal(status, **fields)
        self._at_end.usage = own
        return response
