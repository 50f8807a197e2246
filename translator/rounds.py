"""Rounds: the loop of hosted tools in one response, without I/O and without a clock.

    turn over ──► todo ──► each call's outcome ──► next turn ──► … ──► an answer, or a bound

A `Translation` that is given `hosted` tools, and whose request declares one, makes a `Rounds`. One
whose upstream turn is over (`round_over`) and not `finished` waits for tools:

    while not t.finished:
        for call in t.rounds.todo:                  # at once, or one by one
            events += t.ran(call.key, outcome_of(call))
        if not t.finished:                          # the last outcome may have ended it
            t = Translation(request, …, rounds=t.rounds)
            send t.chat_body upstream, and give the answer to t, as ever

All translations of a response write to one stream: one numbering, one output. Each is one attempt
at one round; a round of which nothing was announced may have another one. The body of a round
begins with the messages of the one before, and is what the client's replay of the output would
give: the response's own items are read as history is.

What is not run is told the model: too many calls, a tool that is not there, bad arguments, or
the same call again and again. After `max_rounds` rounds with calls, or more than `max_calls`, one
round follows in which no tool can be called; it follows the last call at once where the model has
hosted tools alone. Of the calls that are not run, a response has at most MAX_REFUSED: any more are
ignored, as if the model had not made them. A tool that the client forces is forced in the first
round only.

An input that ends within the assistant's own turn is gone on with in the same message, as an
upstream would.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw, UnsetType
from msgspec.structs import replace

from .common.hosted import Hosted, HostedCall, HostedFunction, Outcome
from .common.sealed import Thought
from .common.tools import Toolset
from .common.web_search import arguments_of, missing_in
from .request.parse import ParsedRequest
from .wire import responses
from .wire.deltas import Finish
from .wire.events import Event
from .wire.json_values import as_object, utf8_size
from .wire.notices import Notice
from .writer.phase import Phase
from .writer.round_items import RoundCall
from .writer.round_stream import RoundStream

MAX_SAME_CALLS = 2
"""How often in a row a call with the same arguments is run."""

MAX_REFUSED = 64
"""Most calls of a response that are not run, and answered with the reason."""

_AUTO, _NONE = Raw(b'"auto"'), Raw(b'"none"')
_NOTHING: frozenset[str] = frozenset()


class Rounds:
    """The loop of one response; it decides what is run, and whether there is another round.

    `todo` are the calls to run now; `ran` takes what became of one. `number` is that of the current
    round, from 1 on.
    """

    __slots__ = (
        *("_calls", "_calls_left", "_hosted", "_last_call", "_max_output_tokens", "_next_key"),
        *("_refusals_left", "_same", "is_last", "notices", "number", "stream"),
    )

    def __init__(
        self,
        hosted: Hosted,
        request: responses.Request,
        notices: tuple[Notice, ...],
        stream: RoundStream,
    ) -> None:
        """`notices` are those of the first round: the later ones have no others."""
        self.stream = stream
        self.notices = notices
        self.number = 1
        self.is_last = False
        """Whether no tool can be called in the current round."""
        self._hosted = hosted
        self._calls: dict[int, tuple[RoundCall, HostedCall]] = {}
        most = request.max_tool_calls
        self._calls_left = hosted.max_calls if most is None else min(most, hosted.max_calls)
        self._max_output_tokens = request.max_output_tokens
        self._refusals_left = MAX_REFUSED
        self._next_key = 0
        self._last_call: tuple[HostedFunction, str | bytes] | None = None
        self._same = 0  # how often in a row it came

    @property
    def todo(self) -> list[HostedCall]:
        """The calls to run, in their order."""
        return [call for _, call in self._calls.values()]

    @property
    def waits(self) -> bool:
        """Whether calls have no outcome yet."""
        return bool(self._calls)

    @property
    def tools(self) -> Toolset:
        """The tools that the request declares."""
        return self.stream.tools

    @property
    def usage(self) -> responses.Usage | None:
        """The usage of all rounds so far; None where none has told any."""
        return self.stream.total_usage

    @property
    def history(self) -> list[Raw | Thought]:
        """What the response holds by now, as the input of a later round."""
        return self.stream.history

    @property
    def takes_cut_calls(self) -> bool:
        """Whether a turn goes on in which calls stop in the middle: they are not run."""
        return self.stream.cuts_hosted_calls

    def withdraw_tools(self) -> None:
        """Let no tool be called any more: the next round is the last."""
        self.is_last = True

    # --- the end of a round ---------------------------------------------------------------------

    def turn_over(self) -> list[Event]:
        """The events when an upstream turn is over whose calls wait in the stream."""
        limit = self._max_output_tokens
        if limit is not None and self.stream.output_tokens >= limit:
            return self.stream.finish(Finish("length"))
        events = self.stream.run()
        not_run: dict[RoundCall, Outcome] = {}
        ignored: set[RoundCall] = set()
        for call in self.stream.waiting:
            function = call.function
            if refusal := self._refusal(function, call.text):
                if self._refusals_left:
                    self._refusals_left -= 1
                    not_run[call] = Outcome((refusal,), failed=True)
                else:
                    ignored.add(call)
            elif function.asks:
                not_run[call] = Outcome((), asks=True)
            else:
                self._calls_left -= 1
                key, self._next_key = self._next_key, self._next_key + 1
                hosted = HostedCall(key, function.kind, function.server, function.name, call.text)
                self._calls[key] = call, hosted
        if not self._refusals_left or (not self._calls_left and self.tools.are_hosted):
            self.is_last = True
        if ignored:
            self.stream.ignore(ignored)
        for call, outcome in not_run.items():
            events += self.stream.settle(call, outcome)
        return events if self._calls else events + self._all_ran()

    def ran(self, key: int, outcome: Outcome) -> list[Event]:
        """The events of an outcome; none for a call that has one already."""
        found = self._calls.pop(key, None)
        if found is None or self.stream.phase is Phase.OVER:
            return []
        events = self.stream.settle(found[0], outcome)
        return events if self._calls else events + self._all_ran()

    def _all_ran(self) -> list[Event]:
        events = self.stream.end_round()
        self.number += 1
        self.is_last = self.is_last or self.number > self._hosted.max_rounds
        return events

    def _refusal(self, function: HostedFunction, text: str) -> str:
        """Why a call is not run, for the model; empty where it is."""
        arguments = arguments_of(text)
        written = text if arguments is None else _sorted(arguments)
        same = (function, written)
        self._same = self._same + 1 if same == self._last_call else 1
        self._last_call = same
        if self._calls_left <= 0:
            self.is_last = True
            return "Not run: the limit of tool calls is reached. Answer with what there is."
        if not self.tools.hosted_names(function.kind, function.server, function.name):
            return "Not run: there is no such tool."
        if utf8_size(text) > self._hosted.max_argument_bytes:
            return "Not run: the arguments are too long."
        if arguments is None:
            return "Not run: the arguments are not a JSON object."
        if function.kind == "web_search" and (missing := missing_in(function.name, arguments)):
            return f"Not run: '{missing}' is missing."
        if self._same > MAX_SAME_CALLS:
            return "Not run: it is the same call as before, and would have the same result."
        return ""

    # --- the next round -------------------------------------------------------------------------

    def continued(self, parsed: ParsedRequest) -> ParsedRequest:
        """The request of the current round, after the first."""
        request = parsed.request
        left = request.max_output_tokens
        if left is not None:
            left = max(1, left - self.stream.usage.output_tokens)
        choice = _NONE if self.is_last else _later_choice(request.tool_choice)
        return replace(parsed, request=replace(request, tool_choice=choice, max_output_tokens=left))

    def allowed(self, names: frozenset[str] | None) -> frozenset[str] | None:
        """The functions that may be called in this round, of those that the choice allows."""
        return _NOTHING if self.is_last else names


_sorted = msgspec.json.Encoder(order="sorted").encode
"""Arguments as JSON that is the same for the same values."""


def _later_choice(raw: Raw | UnsetType) -> Raw | UnsetType:
    """A tool choice after the first round: what was forced has been called."""
    choice = None if isinstance(raw, UnsetType) else msgspec.json.decode(raw)
    if choice in (None, "auto", "none"):
        return raw
    fields: Mapping[str, Any] = as_object(choice) or {}
    if fields.get("type") == "allowed_tools":
        return Raw(msgspec.json.encode({**fields, "mode": "auto"}))
    return _AUTO
