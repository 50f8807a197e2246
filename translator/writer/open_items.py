"""Open items: output items that are still growing. Each writes its own part of the event grammar.

    opened()          the item is announced, empty
    add(delta)        the events of one delta
    append(delta)     the fast path of `add`, for a delta of `fast_type`: more of the same
    closed(status)    parts, then the item; returns the item that stands in the response

An open item knows what its events are; which item is open, and when it closes, is decided in
`stream`. Text is only ever joined from the deltas that were sent. Calls are in `open_calls`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import Any, Literal, Protocol, TypeVar, assert_never

from msgspec import UNSET, Raw, Struct
from msgspec.structs import replace

from translator.common.pieces import Pieces
from translator.common.sealed import Thought, merge_details, seal
from translator.wire import events, items
from translator.wire.deltas import (
    Citation,
    Logprob,
    Reasoning,
    ReasoningDetails,
    Refusal,
    Sources,
    Text,
    ToolCall,
)
from translator.wire.events import Event, ReasoningEvents
from translator.wire.notices import Notice

from .citation_marks import citations_in
from .sizes import RECORD_BYTES, size_of_logprobs, size_of_source

Events = Iterable[Event]
Closing = Generator[Event, None, items.OutputItem]
MessageDelta = Text | Refusal | Citation | Sources
ReasoningDelta = Reasoning | ReasoningDetails
FinalStatus = Literal["completed", "incomplete"]

TOO_MUCH_REASONING = Notice(
    "include",
    "reasoning_dropped",
    "The reasoning is too large to be sealed; the next request will not have it.",
)

_D = TypeVar("_D", contravariant=True)


class Place(Struct, frozen=True):
    """Where an item's events belong, and the counter that numbers them."""

    item_id: str
    output_index: int
    number: Callable[[], int]

    def added(self, item: items.OutputItem) -> Event:
        return events.OutputItemAdded(self.number(), self.output_index, item)

    def done(self, item: items.OutputItem) -> Event:
        return events.OutputItemDone(self.number(), self.output_index, item)


class Growing(Struct, frozen=True):
    """The text of an open item to which deltas of one kind can be added, one event for each.

    `kind` is their type, `source` the field of a `Reasoning`, or the key of a call. `append(text)`
    keeps the text, and `event(number(), text)` is the event that shows it.
    """

    kind: type[Text | Reasoning | ToolCall]
    source: str
    append: Callable[[str], None]
    number: Callable[[], int]
    event: Callable[[int, str], Event]

    def grows_like(self, other: Growing) -> bool:
        """Whether the two grow the same text from the same kind of delta."""
        same = self.kind is other.kind and self.source == other.source
        return same and self.append == other.append


class OpenNarrative(Protocol[_D]):
    """A message or reasoning, written as its deltas come."""

    @property
    def fast_type(self) -> type[object] | None:
        """The type of delta that `append` takes now; None: any delta may need more."""
        ...

    @property
    def growing(self) -> Growing | None:
        """Its text, where a delta of `fast_type` is one event; None where it is not."""
        ...

    @property
    def size(self) -> int:
        """The bytes that it holds."""
        ...

    @property
    def written(self) -> int:
        """The bytes of its text so far, in UTF-8, whether events show it or not."""
        ...

    def opened(self) -> Events: ...
    def add(self, delta: _D) -> Events: ...
    def append(self, delta: Any) -> list[Event]: ...  # noqa: ANN401 - of the fast type
    def closed(self, status: FinalStatus) -> Closing: ...


class OpenMessage:
    """A message: text parts and refusal parts, one after the other."""

    __slots__ = (
        *("_citations", "_closed_size", "_logprobs", "_part", "_parts", "_place"),
        *("_records_size", "_texts"),
    )

    def __init__(self, place: Place) -> None:
        self._place = place
        self._parts: list[items.OutputText | items.OutputRefusal] = []
        self._texts = Pieces()
        self._logprobs: list[Logprob] = []
        self._citations: list[items.UrlCitation] = []
        self._closed_size = 0  # of the text in closed parts, in bytes
        self._records_size = 0  # of all that is not text
        self._part: Literal["text", "refusal"] | None = None

    def opened(self) -> Events:
        return (self._place.added(items.Message(self._place.item_id, "in_progress", [])),)

    @property
    def size(self) -> int:
        return self._records_size + self.written

    @property
    def written(self) -> int:
        return self._closed_size + self._texts.settle()

    @property
    def fast_type(self) -> type[Text] | None:
        return Text if self._part == "text" else None

    @property
    def growing(self) -> Growing | None:
        if self._part != "text":
            return None
        place, index = self._place, len(self._parts)

        def event(number: int, text: str) -> Event:
            return events.OutputTextDelta(
                number, place.item_id, place.output_index, index, text, []
            )

        return Growing(Text, "", self._texts.append, place.number, event)

    def append(self, delta: Text) -> list[Event]:
        self._texts.append(delta.text)
        if delta.logprobs:
            self._logprobs.extend(delta.logprobs)
            self._records_size += size_of_logprobs(delta.logprobs)
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

    def add(self, delta: MessageDelta) -> Events:
        match delta:
            case Text():
                return self._text(delta)
            case Refusal():
                return self._refusal(delta.text)
            case Citation():
                return self._citation(delta)
            case Sources():
                return self._references(delta)
            case _ as never:
                assert_never(never)

    def _text(self, delta: Text) -> Events:
        if self._part == "text":
            return self.append(delta)
        return self._open_part("text", items.OutputText("", [], [])) + self.append(delta)

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
        self._records_size += size_of_source(citation)

    def _references(self, delta: Sources) -> Events:
        """Annotate the marks of the open text that refer to sources: [1] is the first one."""
        if self._part != "text" or self._citations:
            return
        for citation in citations_in(self._texts.text(), delta):
            yield from self._citation(citation)

    def _refusal(self, text: str) -> Events:
        if self._part != "refusal":
            yield from self._open_part("refusal", items.OutputRefusal(""))
        self._texts.append(text)
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
    ) -> list[Event]:
        closing = self._close_part()
        self._part = kind
        place = self._place
        added = events.ContentPartAdded(
            place.number(), place.item_id, place.output_index, len(self._parts), empty
        )
        return [*closing, added]

    def _close_part(self) -> list[Event]:
        if self._part is None:
            return []
        done: Event
        place, index = self._place, len(self._parts)
        text = self._texts.text()
        part: items.OutputText | items.OutputRefusal
        if self._part == "text":
            part = items.OutputText(text, self._citations, self._logprobs)
            done = events.OutputTextDone(
                place.number(), place.item_id, place.output_index, index, text, part.logprobs
            )
        else:
            part = items.OutputRefusal(text)
            done = events.RefusalDone(
                place.number(), place.item_id, place.output_index, index, text
            )
        part_done = events.ContentPartDone(
            place.number(), place.item_id, place.output_index, index, part
        )
        self._parts.append(part)
        self._closed_size += self._texts.settle()
        self._records_size += RECORD_BYTES
        self._texts, self._logprobs, self._citations, self._part = Pieces(), [], [], None
        return [done, part_done]


class OpenReasoning:
    """Reasoning, in the event family that was chosen, sealed when the client asked for it.

    summary: `reasoning_summary_part` and `reasoning_summary_text`. text: `content_part` and
    `reasoning_text`. both: the two side by side. none: neither; the item holds the sealed text.
    """

    __slots__ = (
        *("_content", "_details", "_details_size", "_extras", "_field", "_keeps", "_lose"),
        *("_origin", "_place", "_sealed", "_summary", "_texts", "kept"),
    )

    def __init__(
        self,
        place: Place,
        family: ReasoningEvents,
        lose: Callable[[Notice], None],
        origin: str | None = None,
        *,
        sealed: bool,
        keeps: bool = False,
    ) -> None:
        """`sealed`: the client is shown the seal; `keeps`: there is one in any case.

        `origin` is sealed with it. `lose` is told of what cannot be.
        """
        self._place = place
        self._lose = lose
        self._keeps = keeps
        self.kept: items.Reasoning | None = None
        """The closed item with its seal, where it is kept."""
        self._origin = UNSET if origin is None else origin
        self._summary = family in ("summary", "both")
        self._content = family in ("text", "both")
        self._sealed = sealed
        self._texts = Pieces()
        self._details: list[Raw] = []
        self._details_size = 0
        self._extras: dict[str, Raw] = {}
        self._field = ""

    def opened(self) -> Events:
        return (self._place.added(items.Reasoning(self._place.item_id, [])),)

    @property
    def size(self) -> int:
        return self._details_size + self.written

    @property
    def written(self) -> int:
        return self._texts.settle()

    @property
    def fast_type(self) -> type[Reasoning] | None:
        return Reasoning if self._texts else None

    @property
    def growing(self) -> Growing | None:
        if not self._texts or self._summary is self._content:
            return None
        place = self._place
        kind = events.ReasoningSummaryTextDelta if self._summary else events.ReasoningTextDelta

        def event(number: int, text: str) -> Event:
            return kind(number, place.item_id, place.output_index, 0, text)

        return Growing(Reasoning, self._field, self._texts.append, place.number, event)

    def append(self, delta: Reasoning) -> list[Event]:
        self._field = delta.field
        self._texts.append(delta.text)
        place = self._place
        written: list[Event] = []
        if self._summary:
            written.append(
                events.ReasoningSummaryTextDelta(
                    place.number(), place.item_id, place.output_index, 0, delta.text
                )
            )
        if self._content:
            written.append(
                events.ReasoningTextDelta(
                    place.number(), place.item_id, place.output_index, 0, delta.text
                )
            )
        return written

    def add(self, delta: ReasoningDelta) -> Events:
        match delta:
            case Reasoning():
                return self._text(delta)
            case ReasoningDetails():
                return self._keep(delta.details)
            case _ as never:
                assert_never(never)

    def _text(self, delta: Reasoning) -> Events:
        if not self._texts:
            yield from self._open_parts()
        yield from self.append(delta)

    def _keep(self, details: Raw) -> Events:
        """Opaque details go back to the upstream, sealed."""
        self._details.append(details.copy())  # or it would hold the whole chunk
        self._details_size += RECORD_BYTES + len(memoryview(details))
        yield from ()

    def extras(self, extras: dict[str, Raw]) -> None:
        """Seal the extra content of calls, by their ids, too."""
        self._extras = extras

    def closed(self, status: FinalStatus) -> Closing:
        del status  # reasoning items carry none in OpenAI's live answers
        text = self._texts.text()
        if text:
            yield from self._close_parts(text)
        shown = kept = None
        if self._sealed or self._keeps:
            shown, kept = self._seals(self._thought(text))
        place = self._place
        item = items.Reasoning(
            place.item_id,
            [items.SummaryText(text)] if text and self._summary else [],
            [items.ReasoningText(text)] if text and self._content else UNSET,
            shown if shown is not None and self._sealed else UNSET,
        )
        if self._keeps and kept is not None:
            self.kept = replace(item, encrypted_content=kept)
        yield place.done(item)
        return item

    def _thought(self, text: str) -> Thought:
        details = merge_details(self._details)
        return Thought(text, self._field, details, dict(self._extras), self._origin)

    def _seals(self, thought: Thought) -> tuple[str | None, str | None]:
        """The seals of a thought: for the client, and for a store."""
        blob = seal(thought)
        if blob is None:
            self._lose(TOO_MUCH_REASONING)
        return blob, blob

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


class OpenCompaction:
    """A compaction. It has no parts and arrives in one piece, so it is announced whole."""

    __slots__ = ("_item", "_place")

    def __init__(self, place: Place, blob: str) -> None:
        self._place = place
        self._item = items.Compaction(place.item_id, blob)

    def opened(self) -> Events:
        yield self._place.added(self._item)

    def closed(self, status: FinalStatus) -> Closing:
        del status  # such an item carries none
        yield self._place.done(self._item)
        return self._item
