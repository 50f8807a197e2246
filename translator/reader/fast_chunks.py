"""Fast path of the reader: typed decoders for chunks that hold one thing and nothing else.

Nearly every chunk only adds to the text, the reasoning or the arguments of the chunk before it. To
test each of the dozen fields of a chunk costs more than to read the one that is set, so the decoder
tests them: a payload fits such a type only when every other field that could matter is missing,
null or empty. `ChatReader` tries the type that fitted last; a chunk that does not fit is read on
the general path, with the same result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Generic, Literal, TypeVar

import msgspec
from msgspec import Struct

from translator.wire.deltas import Delta, Reasoning, Text

Empty = Literal[""] | None
EmptyList = tuple[()] | None
NonEmpty = Annotated[str, msgspec.Meta(min_length=1)]


class _EmptyDelta(Struct, frozen=True, kw_only=True, gc=False):
    """A delta without content: `chat.Delta`, each field missing, null or empty."""

    content: Empty = None
    reasoning_content: Empty = None
    reasoning: Empty = None
    reasoning_text: Empty = None
    reasoning_details: EmptyList = None
    refusal: Empty = None
    tool_calls: EmptyList = None
    function_call: None = None
    annotations: EmptyList = None
    extra_content: None = None


class _TextDelta(_EmptyDelta, frozen=True, kw_only=True, gc=False):
    content: NonEmpty  # type: ignore[assignment] # narrower there, wider here


class _ReasoningContentDelta(_EmptyDelta, frozen=True, kw_only=True, gc=False):
    reasoning_content: NonEmpty  # type: ignore[assignment]


class _ReasoningDelta(_EmptyDelta, frozen=True, kw_only=True, gc=False):
    reasoning: NonEmpty  # type: ignore[assignment]


class _Arguments(Struct, frozen=True, gc=False):
    arguments: NonEmpty
    name: Empty = None


class _CallDelta(Struct, frozen=True, gc=False):
    function: _Arguments
    index: int | None = None
    id: Empty = None
    extra_content: None = None


class _CallsDelta(_EmptyDelta, frozen=True, kw_only=True, gc=False):
    tool_calls: tuple[_CallDelta]  # type: ignore[assignment]


class FastReader(Struct, frozen=True):
    """Reads chunks that only add to the last delta, each as a delta or as its text alone.

    `kind` is the type of that delta, `source` the field of a `Reasoning`, or the key of a call.
    `delta` and `text` raise one of NOT_JSON for a chunk that holds anything else; where `delta`
    returns None for one, `text` raises NotMore. `plain`: the text is that of one JSON string in the
    chunk, and reading it changes nothing.
    """

    kind: type[Delta]
    source: str
    delta: Callable[[bytes], Delta | None]
    text: Callable[[bytes], str]
    plain: bool = True


class NotMore(ValueError):
    """A chunk adds to another delta than the last one."""


_D = TypeVar("_D", bound=_EmptyDelta)


class _Choice(Struct, Generic[_D], frozen=True, gc=False):
    delta: _D
    index: Literal[0] | None = None
    message: None = None
    finish_reason: Empty = None
    logprobs: None = None
    usage: None = None


class _Chunk(Struct, Generic[_D], frozen=True, gc=False):
    choices: tuple[_Choice[_D]]
    usage: None = None
    error: None = None
    service_tier: None = None
    x_groq: None = None
    citations: None = None
    search_results: None = None


_decode_text = msgspec.json.Decoder(_Chunk[_TextDelta]).decode
_decode_reasoning_content = msgspec.json.Decoder(_Chunk[_ReasoningContentDelta]).decode
_decode_reasoning = msgspec.json.Decoder(_Chunk[_ReasoningDelta]).decode
_decode_arguments = msgspec.json.Decoder(_Chunk[_CallsDelta]).decode


def read_text(payload: bytes) -> Text:
    """The text of a chunk that holds only text; raises one of NOT_JSON for any other."""
    return Text(_decode_text(payload).choices[0].delta.content)


def _text(payload: bytes) -> str:
    return _decode_text(payload).choices[0].delta.content


def _reasoning_content(payload: bytes) -> str:
    return _decode_reasoning_content(payload).choices[0].delta.reasoning_content


def _reasoning(payload: bytes) -> str:
    return _decode_reasoning(payload).choices[0].delta.reasoning


def read_reasoning_content(payload: bytes) -> Reasoning:
    """The same for reasoning in `reasoning_content`."""
    return Reasoning(
        _decode_reasoning_content(payload).choices[0].delta.reasoning_content, "reasoning_content"
    )


def read_reasoning(payload: bytes) -> Reasoning:
    """The same for reasoning in `reasoning`."""
    return Reasoning(_decode_reasoning(payload).choices[0].delta.reasoning, "reasoning")


def read_arguments(payload: bytes) -> tuple[int | None, str]:
    """The same for arguments of one call: its index, where the delta has one, and the text."""
    call = _decode_arguments(payload).choices[0].delta.tool_calls[0]
    return call.index, call.function.arguments


TEXT = FastReader(Text, "", read_text, _text)
REASONING = {
    "reasoning_content": FastReader(
        Reasoning, "reasoning_content", read_reasoning_content, _reasoning_content
    ),
    "reasoning": FastReader(Reasoning, "reasoning", read_reasoning, _reasoning),
}
"""The readers of reasoning, by the field that holds it."""
