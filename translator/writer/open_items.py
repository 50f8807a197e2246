"""Items that are still growing. Each speaks its own part of the event grammar.

    opened()                    the item is announced, empty
    take(delta), arguments(…)   one delta each
    more(delta)                 the same for a delta of the kind that it `tells`: more of the same
    closed(status)              parts, then the item; returns the item that stands in the response

An open item knows how its events look; which item is open, and when it closes, is decided in
`stream`. Text is only ever joined from the deltas that were sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Sequence
from typing import Any, Literal, Protocol, TypeVar, assert_never

import msgspec
from msgspec import UNSET, Raw, Struct

from translator.common.json_text import StringArgument
from translator.common.sealed import Thought, merge_details, seal
from translator.common.tools import INPUT_ARGUMENT, Declared
from translator.wire import events, items
from translator.wire.deltas import (
    Citation,
    Logprob,
    Reasoning,
    ReasoningDetails,
    Refusal,
    Source,
    Sources,
    Text,
)
from translator.wire.events import Event, ReasoningEvents
from translator.wire.json_values import NOT_JSON

Events = Generator[Event, None, None]
Closing = Generator[Event, None, items.OutputItem]
MessageDelta = Text | Refusal | Citation | Sources
ReasoningDelta = Reasoning | ReasoningDetails
FinalStatus = Literal["completed", "incomplete"]

_D = TypeVar("_D", contravariant=True)

_MARK = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|\[(\d{1,3})\]", re.DOTALL)
"""A number in brackets; what stands in code is passed over."""


class Place(Struct, frozen=True):
    """Where an item's events belong, and the counter that numbers them."""

    item_id: str
    output_index: int
    number: Callable[[], int]

    def added(self, item: items.OutputItem) -> Event:
        return events.OutputItemAdded(self.number(), self.output_index, item)

    def done(self, item: items.OutputItem) -> Event:
        return events.OutputItemDone(self.number(), self.output_index, item)


class OpenNarrative(Protocol[_D]):
    """An item that tells something: it takes its deltas as they come."""

    @property
    def tells(self) -> type[object] | None: ...
    def opened(self) -> Events: ...
    def take(self, delta: _D) -> Events: ...
    def more(self, delta: Any) -> list[Event]: ...  # noqa: ANN401 - of the kind that it tells
    def closed(self, status: FinalStatus) -> Closing: ...


class OpenMessage:
    """A message: text parts and refusal parts, one after the other."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._parts: list[items.OutputText | items.OutputRefusal] = []
        self._pieces: list[str] = []
        self._logprobs: list[Logprob] = []
        self._citations: list[items.UrlCitation] = []
        self._part: Literal["text", "refusal"] | None = None

    def opened(self) -> Events:
        yield self._place.added(items.Message(self._place.item_id, "in_progress", []))

    @property
    def tells(self) -> type[Text] | None:
        return Text if self._part == "text" else None

    def more(self, delta: Text) -> list[Event]:
        self._pieces.append(delta.text)
        if delta.logprobs:
            self._logprobs.extend(delta.logprobs)
        place = self._place
        return [
            events.OutputTextDelta(
                place.number(),
                place.item_id,
                place.output_index,
                len(self._parts),
                delta.text,
                delta.logprobs or [],
            )
        ]

    def take(self, delta: MessageDelta) -> Events:
        match delta:
            case Text():
                return self._text(delta)
            case Refusal():
                return self._refusal(delta.text)
            case Citation():
                return self._citation(delta)
            case Sources():
                return self._references(delta.sources)
            case _ as never:
                assert_never(never)

    def _text(self, delta: Text) -> Events:
        if self._part != "text":
            yield from self._open_part("text", items.OutputText("", [], []))
        yield from self.more(delta)

    def _citation(self, citation: Citation) -> Events:
        if self._part != "text":
            yield from self._open_part("text", items.OutputText("", [], []))
        place = self._place
        annotation = items.UrlCitation(
            citation.start_index, citation.end_index, citation.title, citation.url
        )
        yield events.OutputTextAnnotationAdded(
            place.number(),
            place.item_id,
            place.output_index,
            len(self._parts),
            len(self._citations),
            annotation,
        )
        self._citations.append(annotation)

    def _references(self, sources: Sequence[Source]) -> Events:
        """Annotate the marks of the open text that refer to sources: [1] is the first one."""
        if self._part != "text" or self._citations:
            return
        for mark in _MARK.finditer("".join(self._pieces)):
            number = int(mark[1] or 0)
            if 0 < number <= len(sources):
                source = sources[number - 1]
                yield from self._citation(Citation(source.url, source.title, *mark.span()))

    def _refusal(self, text: str) -> Events:
        if self._part != "refusal":
            yield from self._open_part("refusal", items.OutputRefusal(""))
        self._pieces.append(text)
        place = self._place
        yield events.RefusalDelta(
            place.number(), place.item_id, place.output_index, len(self._parts), text
        )

    def closed(self, status: FinalStatus) -> Closing:
        yield from self._close_part()
        item = items.Message(self._place.item_id, status, self._parts)
        yield self._place.done(item)
        return item

    def _open_part(
        self, kind: Literal["text", "refusal"], empty: items.OutputText | items.OutputRefusal
    ) -> Events:
        yield from self._close_part()
        self._part = kind
        place = self._place
        yield events.ContentPartAdded(
            place.number(), place.item_id, place.output_index, len(self._parts), empty
        )

    def _close_part(self) -> Events:
        if self._part is None:
            return
        place, index = self._place, len(self._parts)
        text = "".join(self._pieces)
        part: items.OutputText | items.OutputRefusal
        if self._part == "text":
            part = items.OutputText(text, self._citations, self._logprobs)
            yield events.OutputTextDone(
                place.number(), place.item_id, place.output_index, index, text, part.logprobs
            )
        else:
            part = items.OutputRefusal(text)
            yield events.RefusalDone(place.number(), place.item_id, place.output_index, index, text)
        yield events.ContentPartDone(place.number(), place.item_id, place.output_index, index, part)
        self._parts.append(part)
        self._pieces, self._logprobs, self._citations, self._part = [], [], [], None


class OpenReasoning:
    """Reasoning, in the event family that was chosen, sealed when the client asked for it.

    summary: `reasoning_summary_part` and `reasoning_summary_text`. text: `content_part` and
    `reasoning_text`. both: the two side by side. none: neither; the item holds the sealed text.
    """

    def __init__(self, place: Place, family: ReasoningEvents, *, sealed: bool) -> None:
        self._place = place
        self._summary = family in ("summary", "both")
        self._content = family in ("text", "both")
        self._sealed = sealed
        self._pieces: list[str] = []
        self._details: list[Raw] = []
        self._extras: dict[str, Raw] = {}
        self._field = ""

    def opened(self) -> Events:
        yield self._place.added(items.Reasoning(self._place.item_id, []))

    @property
    def tells(self) -> type[Reasoning] | None:
        return Reasoning if self._pieces else None

    def more(self, delta: Reasoning) -> list[Event]:
        self._field = delta.field
        self._pieces.append(delta.text)
        place = self._place
        told: list[Event] = []
        if self._summary:
            told.append(
                events.ReasoningSummaryTextDelta(
                    place.number(), place.item_id, place.output_index, 0, delta.text
                )
            )
        if self._content:
            told.append(
                events.ReasoningTextDelta(
                    place.number(), place.item_id, place.output_index, 0, delta.text
                )
            )
        return told

    def take(self, delta: ReasoningDelta) -> Events:
        match delta:
            case Reasoning():
                return self._text(delta)
            case ReasoningDetails():
                return self._keep(delta.details)
            case _ as never:
                assert_never(never)

    def _text(self, delta: Reasoning) -> Events:
        if not self._pieces:
            yield from self._open_parts()
        yield from self.more(delta)

    def _keep(self, details: Raw) -> Events:
        """Opaque details are seen only by the upstream, sealed."""
        self._details.append(details)
        yield from ()

    def extras(self, extras: dict[str, Raw]) -> None:
        """Keep what was hung on calls, by their ids, in the same way."""
        self._extras = extras

    def closed(self, status: FinalStatus) -> Closing:
        del status  # reasoning items carry none in OpenAI's live answers
        text = "".join(self._pieces)
        if text:
            yield from self._close_parts(text)
        blob = None
        if self._sealed:
            details = merge_details(self._details)
            blob = seal(Thought(text, self._field, details, dict(self._extras)))
        place = self._place
        item = items.Reasoning(
            place.item_id,
            [items.SummaryText(text)] if text and self._summary else [],
            [items.ReasoningText(text)] if text and self._content else UNSET,
            UNSET if blob is None else blob,
        )
        yield place.done(item)
        return item

    def _open_parts(self) -> Events:
        place = self._place
        if self._summary:
            yield events.ReasoningSummaryPartAdded(
                place.number(), place.item_id, place.output_index, 0, items.SummaryText("")
            )
        if self._content:
            yield events.ContentPartAdded(
                place.number(), place.item_id, place.output_index, 0, items.ReasoningText("")
            )

    def _close_parts(self, text: str) -> Events:
        place = self._place
        if self._summary:
            yield events.ReasoningSummaryTextDone(
                place.number(), place.item_id, place.output_index, 0, text
            )
            yield events.ReasoningSummaryPartDone(
                place.number(), place.item_id, place.output_index, 0, items.SummaryText(text)
            )
        if self._content:
            yield events.ReasoningTextDone(
                place.number(), place.item_id, place.output_index, 0, text
            )
            yield events.ContentPartDone(
                place.number(), place.item_id, place.output_index, 0, items.ReasoningText(text)
            )


class _OpenCall:
    """What is known of a call when it begins; its text comes in pieces."""

    def __init__(self, place: Place, call_id: str, tool: Declared) -> None:
        self._place = place
        self._call_id = call_id
        self._tool = tool
        self._pieces: list[str] = []


class _StreamedCall(_OpenCall):
    """What calls of functions and of free-form tools share: the text is shown as it grows."""

    kind: type[items.FunctionCall | items.CustomToolCall]

    def opened(self) -> Events:
        yield self._place.added(self._item("", "in_progress"))

    def _done(self, text: str, status: FinalStatus) -> Closing:
        item = self._item(text, status)
        yield self._place.done(item)
        return item

    def _item(self, text: str, status: items.Status) -> items.FunctionCall | items.CustomToolCall:
        tool = self._tool
        namespace = UNSET if tool.namespace is None else tool.namespace
        place = self._place
        return self.kind(place.item_id, self._call_id, tool.name, text, status, namespace)


class OpenFunctionCall(_StreamedCall):
    """A function call: its arguments stream as the JSON text that they are."""

    kind = items.FunctionCall

    def arguments(self, text: str) -> list[Event]:
        self._pieces.append(text)
        place = self._place
        return [
            events.FunctionCallArgumentsDelta(
                place.number(), place.item_id, place.output_index, text
            )
        ]

    def closed(self, status: FinalStatus) -> Closing:
        place, text = self._place, "".join(self._pieces)
        yield events.FunctionCallArgumentsDone(
            place.number(), place.item_id, place.output_index, text, self._tool.name
        )
        return (yield from self._done(text, status))


class OpenCustomToolCall(_StreamedCall):
    """A free-form call: the text inside the one argument streams as plain text."""

    kind = items.CustomToolCall

    def __init__(self, place: Place, call_id: str, tool: Declared) -> None:
        super().__init__(place, call_id, tool)
        self._argument = StringArgument(INPUT_ARGUMENT)

    def arguments(self, text: str) -> list[Event]:
        return self._input(self._argument.feed(text))

    def closed(self, status: FinalStatus) -> Closing:
        yield from self._input(self._argument.end())
        place, text = self._place, "".join(self._pieces)
        yield events.CustomToolCallInputDone(
            place.number(), place.item_id, place.output_index, text
        )
        return (yield from self._done(text, status))

    def _input(self, text: str) -> list[Event]:
        if not text:
            return []
        self._pieces.append(text)
        place = self._place
        return [
            events.CustomToolCallInputDelta(place.number(), place.item_id, place.output_index, text)
        ]


class OpenActionCall(_OpenCall):
    """A call whose arguments are fields of the item (a search, a command, a change of a file).

    There are no delta events for these in use by any client, and the item cannot be built before
    its fields are known: it is announced and closed in one go, when the arguments are whole.
    """

    def opened(self) -> Events:
        yield from ()

    def arguments(self, text: str) -> list[Event]:
        self._pieces.append(text)
        return []

    def closed(self, status: FinalStatus) -> Closing:
        place, arguments = self._place, "".join(self._pieces)
        item = self._item(arguments, status)
        if item is None:
            # Nothing that the tool could be asked for: the client gets to see what the model wrote.
            call = OpenFunctionCall(place, self._call_id, self._tool)
            yield from call.opened()
            yield from call.arguments(arguments)
            return (yield from call.closed(status))
        yield place.added(msgspec.structs.replace(item, status="in_progress"))
        yield place.done(item)
        return item

    def _item(
        self, arguments: str, status: FinalStatus
    ) -> (
        items.ToolSearchCall | items.LocalShellCall | items.ShellCall | items.ApplyPatchCall | None
    ):
        item_id, call_id = self._place.item_id, self._call_id
        body = arguments.encode()
        try:
            match self._tool.kind:
                case "tool_search":
                    fields = msgspec.json.decode(body, type=dict[str, Any])
                    encoded = Raw(msgspec.json.encode(fields))
                    return items.ToolSearchCall(item_id, call_id, encoded, status)
                case "local_shell":
                    action = msgspec.json.decode(body, type=_LocalShellArguments)
                    return items.LocalShellCall(
                        item_id,
                        call_id,
                        items.LocalShellAction(
                            action.command,
                            action.env or {},
                            action.timeout_ms,
                            None,
                            action.working_directory,
                        ),
                        status,
                    )
                case "shell":
                    shell = msgspec.json.decode(body, type=items.ShellAction)
                    return items.ShellCall(item_id, call_id, shell, status)
                case _:
                    operation = msgspec.json.decode(body, type=items.FileOperation)
                    return items.ApplyPatchCall(item_id, call_id, operation, status)
        except NOT_JSON:
            return None


class _LocalShellArguments(Struct, frozen=True):
    command: list[str]
    env: dict[str, str] | None = None
    timeout_ms: int | None = None
    working_directory: str | None = None


class OpenCompaction:
    """The conversation summed up. It has no parts and comes whole, so it is announced whole."""

    def __init__(self, place: Place, blob: str) -> None:
        self._place = place
        self._item = items.Compaction(place.item_id, blob)

    def opened(self) -> Events:
        yield self._place.added(self._item)

    def closed(self, status: FinalStatus) -> Closing:
        del status  # such an item carries none
        yield self._place.done(self._item)
        return self._item


OpenCall = OpenFunctionCall | OpenCustomToolCall | OpenActionCall


def open_call(place: Place, call_id: str, tool: Declared) -> OpenCall:
    """The open item for a call of a tool of this kind."""
    match tool.kind:
        case "function":
            return OpenFunctionCall(place, call_id, tool)
        case "custom":
            return OpenCustomToolCall(place, call_id, tool)
        case _:
            return OpenActionCall(place, call_id, tool)


ITEM_ID_PREFIXES = {
    "function": "fc_",
    "custom": "ctc_",
    "tool_search": "tsc_",
    "local_shell": "lsh_",
    "shell": "sh_",
    "apply_patch": "apc_",
}
"""How the id of a call's item begins, by the tool's kind; some suites check it."""
