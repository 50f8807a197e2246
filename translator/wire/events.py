"""Stream events of the Responses API. The struct's tag is the wire `type`.

    stream    = Created, [ Queued ], InProgress, { item }, end ;
    end       = Completed | Incomplete | ( Error, Failed ) ;
    item      = OutputItemAdded, { part | arguments | input | search }, OutputItemDone ;
    part      = ContentPartAdded, { …Delta }, …Done, ContentPartDone
              | ReasoningSummaryPartAdded, { …Delta }, …Done, ReasoningSummaryPartDone ;
    arguments = { FunctionCallArgumentsDelta }, FunctionCallArgumentsDone ;
    input     = { CustomToolCallInputDelta }, CustomToolCallInputDone ;
    search    = WebSearchCallInProgress, [ WebSearchCallSearching ], [ WebSearchCallCompleted ] ;
                those of MCP tools: mcp.py

`sequence_number` starts at 0 and counts every event. No other event type is ever sent:
openai-node throws on an unknown type.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from .deltas import Logprob
from .items import OutputItem, OutputPart, SummaryText, UrlCitation
from .mcp import McpEvent
from .responses import Response

ReasoningEvents = Literal["summary", "text", "both", "none"]
"""The family of events that shows reasoning: summary, raw text, both, or none of them."""


class _Event(Struct, frozen=True, tag_field="type"):
    sequence_number: int


class Created(_Event, frozen=True, tag="response.created"):
    """The request was accepted; `output` is empty, `usage` null."""

    response: Response


class Queued(_Event, frozen=True, tag="response.queued"):
    """The response will be produced in the background."""

    response: Response


class InProgress(_Event, frozen=True, tag="response.in_progress"):
    """Work continues. Repeated as a heartbeat: clients' idle timers count events, not comments."""

    response: Response


class Completed(_Event, frozen=True, tag="response.completed"):
    """The end of a complete answer."""

    response: Response


class Incomplete(_Event, frozen=True, tag="response.incomplete"):
    """The end of an answer that was cut by the token limit or a content filter."""

    response: Response


class Failed(_Event, frozen=True, tag="response.failed"):
    """The end of an answer that broke off."""

    response: Response


class ErrorBody(Struct, frozen=True):
    """The nested error object of OpenAI's live API."""

    type: str
    code: str | None
    message: str
    param: str | None


class Error(_Event, frozen=True, tag="error"):
    """The reason why the answer broke off; `response.failed` follows.

    Flat as in OpenAI's documentation and nested as in its live API: clients read either form, and
    openai-python ends a stream silently when the nested one is missing.
    """

    code: str | None
    message: str
    param: str | None
    error: ErrorBody


class OutputItemAdded(_Event, frozen=True, tag="response.output_item.added"):
    """A new item opens, empty, at the next `output_index`."""

    output_index: int
    item: OutputItem


class OutputItemDone(_Event, frozen=True, tag="response.output_item.done"):
    """The item is closed; the final `response.output` contains the same object."""

    output_index: int
    item: OutputItem


class ContentPartAdded(_Event, frozen=True, tag="response.content_part.added"):
    """A part of a message or of raw reasoning opens, empty."""

    item_id: str
    output_index: int
    content_index: int
    part: OutputPart


class ContentPartDone(_Event, frozen=True, tag="response.content_part.done"):
    """The part is closed."""

    item_id: str
    output_index: int
    content_index: int
    part: OutputPart


class OutputTextDelta(_Event, frozen=True, gc=False, tag="response.output_text.delta"):
    """More text; never empty."""

    item_id: str
    output_index: int
    content_index: int
    delta: str
    logprobs: list[Logprob]


class OutputTextDone(_Event, frozen=True, tag="response.output_text.done"):
    """All text of the part."""

    item_id: str
    output_index: int
    content_index: int
    text: str
    logprobs: list[Logprob]


class OutputTextAnnotationAdded(_Event, frozen=True, tag="response.output_text.annotation.added"):
    """A source of the text."""

    item_id: str
    output_index: int
    content_index: int
    annotation_index: int
    annotation: UrlCitation


class RefusalDelta(_Event, frozen=True, gc=False, tag="response.refusal.delta"):
    """More of a refusal; never empty."""

    item_id: str
    output_index: int
    content_index: int
    delta: str


class RefusalDone(_Event, frozen=True, tag="response.refusal.done"):
    """The whole refusal."""

    item_id: str
    output_index: int
    content_index: int
    refusal: str


class ReasoningTextDelta(_Event, frozen=True, gc=False, tag="response.reasoning_text.delta"):
    """More raw reasoning; never empty."""

    item_id: str
    output_index: int
    content_index: int
    delta: str


class ReasoningTextDone(_Event, frozen=True, tag="response.reasoning_text.done"):
    """All raw reasoning of the part."""

    item_id: str
    output_index: int
    content_index: int
    text: str


class ReasoningSummaryPartAdded(_Event, frozen=True, tag="response.reasoning_summary_part.added"):
    """A part of a reasoning summary opens, empty."""

    item_id: str
    output_index: int
    summary_index: int
    part: SummaryText


class ReasoningSummaryPartDone(_Event, frozen=True, tag="response.reasoning_summary_part.done"):
    """The part is closed."""

    item_id: str
    output_index: int
    summary_index: int
    part: SummaryText


class ReasoningSummaryTextDelta(
    _Event, frozen=True, gc=False, tag="response.reasoning_summary_text.delta"
):
    """More of a reasoning summary; never empty."""

    item_id: str
    output_index: int
    summary_index: int
    delta: str


class ReasoningSummaryTextDone(_Event, frozen=True, tag="response.reasoning_summary_text.done"):
    """The whole reasoning summary of the part."""

    item_id: str
    output_index: int
    summary_index: int
    text: str


class FunctionCallArgumentsDelta(
    _Event, frozen=True, gc=False, tag="response.function_call_arguments.delta"
):
    """A slice of the arguments' JSON text; never empty."""

    item_id: str
    output_index: int
    delta: str


class FunctionCallArgumentsDone(_Event, frozen=True, tag="response.function_call_arguments.done"):
    """The arguments' JSON text; `name` is required by OpenAI's schema only."""

    item_id: str
    output_index: int
    arguments: str
    name: str


class CustomToolCallInputDelta(
    _Event, frozen=True, gc=False, tag="response.custom_tool_call_input.delta"
):
    """More free-form input, as plain text; never empty."""

    item_id: str
    output_index: int
    delta: str


class CustomToolCallInputDone(_Event, frozen=True, tag="response.custom_tool_call_input.done"):
    """All free-form input."""

    item_id: str
    output_index: int
    input: str


class WebSearchCallInProgress(_Event, frozen=True, tag="response.web_search_call.in_progress"):
    """The search is called."""

    output_index: int
    item_id: str


class WebSearchCallSearching(_Event, frozen=True, tag="response.web_search_call.searching"):
    """The search runs; opening a page is no search."""

    output_index: int
    item_id: str


class WebSearchCallCompleted(_Event, frozen=True, tag="response.web_search_call.completed"):
    """The search has ended well. The API has no event for one that has not."""

    output_index: int
    item_id: str


Event = (
    Created
    | Queued
    | InProgress
    | Completed
    | Incomplete
    | Failed
    | Error
    | OutputItemAdded
    | OutputItemDone
    | ContentPartAdded
    | ContentPartDone
    | OutputTextDelta
    | OutputTextDone
    | OutputTextAnnotationAdded
    | RefusalDelta
    | RefusalDone
    | ReasoningTextDelta
    | ReasoningTextDone
    | ReasoningSummaryPartAdded
    | ReasoningSummaryPartDone
    | ReasoningSummaryTextDelta
    | ReasoningSummaryTextDone
    | FunctionCallArgumentsDelta
    | FunctionCallArgumentsDone
    | CustomToolCallInputDelta
    | CustomToolCallInputDone
    | WebSearchCallInProgress
    | WebSearchCallSearching
    | WebSearchCallCompleted
    | McpEvent
)
