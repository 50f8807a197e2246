"""Chat Completions wire types: the messages we send, the chunks and completions we read.

Only used fields are declared; unknown fields are skipped. Types are those of well-behaved
upstreams. A payload that does not match is read again by `lenient`, which drops only the fields of
a wrong type.
"""

from __future__ import annotations

import json
from typing import Any

from msgspec import UNSET, Raw, Struct, UnsetType

from .json_values import as_integer, as_list, as_object, as_string, objects_in

# --- requests ---------------------------------------------------------------------------------


class TextPart(Struct, frozen=True, tag_field="type", tag="text"):
    """Text in a message of several parts."""

    text: str


class ImageUrl(Struct, frozen=True, omit_defaults=True):
    """The URL of an image, as the JSON string that the client sent."""

    url: Raw
    detail: str | UnsetType = UNSET


class ImagePart(Struct, frozen=True, tag_field="type", tag="image_url"):
    """An image in a user message."""

    image_url: ImageUrl


class FileBody(Struct, frozen=True, omit_defaults=True):
    """A file, as base64 or a data URL."""

    file_data: str
    filename: str | UnsetType = UNSET


class FilePart(Struct, frozen=True, tag_field="type", tag="file"):
    """A file in a user message."""

    file: FileBody


class AudioBody(Struct, frozen=True):
    """Audio, as base64, and its format."""

    data: str
    format: str


class AudioPart(Struct, frozen=True, tag_field="type", tag="input_audio"):
    """Audio in a user message."""

    input_audio: AudioBody


Part = TextPart | ImagePart | FilePart | AudioPart


class Function(Struct, frozen=True):
    """The function of a call and its arguments, as JSON text."""

    name: str
    arguments: str


class ToolCall(Struct, frozen=True, omit_defaults=True, tag_field="type", tag="function"):
    """A tool call of the assistant.

    `extra_content` is Gemini's signature of the call, which must be sent back with it.
    """

    id: str
    function: Function
    extra_content: Any = UNSET


class Message(Struct, frozen=True, omit_defaults=True):
    """One message of the conversation.

    Beside tool calls `content` is left out, null or a string, depending on the dialect; a raw
    `content` is a JSON string. At most one reasoning field is set, the one that the upstream knows.
    """

    role: str
    content: str | Raw | list[Part] | UnsetType | None = UNSET
    reasoning_content: str | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET
    reasoning_text: str | UnsetType = UNSET
    reasoning_details: list[Any] | UnsetType = UNSET
    refusal: str | UnsetType = UNSET
    tool_calls: list[ToolCall] | UnsetType = UNSET
    extra_content: Any = UNSET
    tool_call_id: str | UnsetType = UNSET


class FunctionDeclaration(Struct, frozen=True, omit_defaults=True):
    """A function that the model may call; `parameters` is a JSON Schema."""

    name: str
    parameters: Raw
    description: str | UnsetType = UNSET
    strict: bool | UnsetType = UNSET


class Tool(Struct, frozen=True, tag_field="type", tag="function"):
    """A function tool, the only kind that every chat upstream knows."""

    function: FunctionDeclaration


# --- chunks and completions -------------------------------------------------------------------


class FunctionDelta(Struct, frozen=True, gc=False):
    """A fragment of a call's name and arguments; some upstreams send arguments as an object."""

    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class ToolCallDelta(Struct, frozen=True, gc=False):
    """A fragment of one tool call."""

    index: int | None = None
    id: str | None = None
    function: FunctionDelta | None = None
    extra_content: Raw | UnsetType = UNSET


REASONING_FIELDS = ("reasoning_content", "reasoning", "reasoning_text")
"""The fields of a chunk that may hold reasoning; of several in one chunk the first counts."""


class Delta(Struct, frozen=True, gc=False):
    """The delta of one chunk, or the whole message of a completion."""

    content: str | list[Any] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_text: str | None = None
    reasoning_details: Raw | UnsetType = UNSET
    refusal: str | None = None
    tool_calls: list[ToolCallDelta] | None = None
    function_call: FunctionDelta | None = None
    annotations: list[Any] | None = None
    extra_content: Raw | UnsetType = UNSET


class TokenLogprob(Struct, frozen=True):
    """An alternative for a sampled token."""

    token: str
    logprob: float
    bytes: list[int] | None = None


class Logprob(Struct, frozen=True):
    """A sampled token."""

    token: str
    logprob: float
    bytes: list[int] | None = None
    top_logprobs: list[TokenLogprob] | None = None


class Logprobs(Struct, frozen=True):
    """Log probabilities of the content in one chunk."""

    content: list[Logprob] | None = None


class Choice(Struct, frozen=True, gc=False):
    """One choice. A completion has `message`, a chunk has `delta`; a few upstreams send both."""

    index: int | None = None
    delta: Delta | None = None
    message: Delta | None = None
    finish_reason: str | None = None
    logprobs: Logprobs | None = None
    usage: dict[str, Any] | None = None


class Groq(Struct, frozen=True):
    """Groq's extension of a chunk."""

    usage: dict[str, Any] | None = None


class Chunk(Struct, frozen=True, gc=False):
    """One chunk of a stream, or a whole completion."""

    choices: list[Choice] | None = None
    usage: dict[str, Any] | None = None
    error: Raw | UnsetType = UNSET
    service_tier: str | None = None
    x_groq: Groq | None = None
    timings: dict[str, Any] | None = None
    citations: Raw | UnsetType = UNSET
    search_results: Raw | UnsetType = UNSET


# --- lenient decoding -------------------------------------------------------------------------


def lenient(value: object) -> Chunk | None:
    """A decoded payload as a chunk, without the fields of a wrong type; None for a non-object."""
    body = as_object(value)
    if body is None:
        return None
    inner = as_object(body.get("data"))
    if inner is not None and "choices" not in body:
        body = inner  # Cline's gateway: {"data": {…}, "success": true}
    groq = as_object(body.get("x_groq"))
    return Chunk(
        choices=[_choice(entry) for entry in objects_in(body.get("choices"))],
        usage=as_object(body.get("usage")),
        service_tier=as_string(body.get("service_tier")),
        x_groq=Groq(as_object(groq.get("usage"))) if groq else None,
        timings=as_object(body.get("timings")),
        citations=_array(body.get("citations")),
        search_results=_array(body.get("search_results")),
    )


def _choice(entry: dict[str, Any]) -> Choice:
    delta, message = as_object(entry.get("delta")), as_object(entry.get("message"))
    return Choice(
        index=as_integer(entry.get("index")),
        delta=None if delta is None else _delta(delta),
        message=None if message is None else _delta(message),
        finish_reason=as_string(entry.get("finish_reason")),
        usage=as_object(entry.get("usage")),
    )


def _delta(entry: dict[str, Any]) -> Delta:
    content = entry.get("content")
    function = as_object(entry.get("function_call"))
    return Delta(
        content=as_string(content) or list(as_list(content) or ()),
        reasoning_content=as_string(entry.get("reasoning_content")),
        reasoning=as_string(entry.get("reasoning")),
        reasoning_text=as_string(entry.get("reasoning_text")),
        reasoning_details=_array(entry.get("reasoning_details")),
        refusal=as_string(entry.get("refusal")),
        tool_calls=[_tool_call(call) for call in objects_in(entry.get("tool_calls"))] or None,
        function_call=None if function is None else _function(function),
        annotations=list(as_list(entry.get("annotations")) or ()),
    )


def _tool_call(call: dict[str, Any]) -> ToolCallDelta:
    function = as_object(call.get("function"))
    number = as_integer(call.get("id"))
    return ToolCallDelta(
        index=as_integer(call.get("index")),
        id=as_string(call.get("id")) if number is None else str(number),
        function=None if function is None else _function(function),
    )


def _array(value: object) -> Raw | UnsetType:
    """An array re-encoded as JSON, with lone surrogates escaped."""
    entries = as_list(value)
    return UNSET if entries is None else Raw(json.dumps(entries).encode())


def _function(function: dict[str, Any]) -> FunctionDelta:
    arguments = function.get("arguments")
    text = as_string(arguments)
    return FunctionDelta(
        name=as_string(function.get("name")),
        arguments=as_object(arguments) if text is None else text,
    )
