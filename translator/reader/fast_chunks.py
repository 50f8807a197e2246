"""What nearly every chunk is: more of what the chunk before it told, and nothing else.

A chunk can say a dozen things, and to ask for each of them costs more than to read the one that is
there. So the decoder asks: a payload is of such a type only when every other key that could mean
something is missing, null or empty. Whoever reads an answer tries the type that fitted last; where
it does not fit, the chunk is read the long way (`from_chat`), with the same result.
"""

from __future__ import annotations

from typing import Annotated, Generic, Literal, TypeVar

import msgspec
from msgspec import Struct

from translator.wire.deltas import Reasoning, Text

Nothing = Literal[""] | None
NoneOfThem = tuple[()] | None
Some = Annotated[str, msgspec.Meta(min_length=1)]


class _Silent(Struct, frozen=True, kw_only=True, gc=False):
    """A delta that says nothing: `chat.Delta`, each field without its meaning."""

    content: Nothing = None
    reasoning_content: Nothing = None
    reasoning: Nothing = None
    reasoning_text: Nothing = None
    reasoning_details: NoneOfThem = None
    refusal: Nothing = None
    tool_calls: NoneOfThem = None
    function_call: None = None
    annotations: NoneOfThem = None
    extra_content: None = None


class _OfText(_Silent, frozen=True, kw_only=True, gc=False):
    content: Some  # type: ignore[assignment] # what is narrower there is wider here


class _OfReasoningContent(_Silent, frozen=True, kw_only=True, gc=False):
    reasoning_content: Some  # type: ignore[assignment]


class _OfReasoning(_Silent, frozen=True, kw_only=True, gc=False):
    reasoning: Some  # type: ignore[assignment]


class _Arguments(Struct, frozen=True, gc=False):
    arguments: Some
    name: Nothing = None


class _Piece(Struct, frozen=True, gc=False):
    function: _Arguments
    index: int | None = None
    id: Nothing = None
    extra_content: None = None


class _OfArguments(_Silent, frozen=True, kw_only=True, gc=False):
    tool_calls: tuple[_Piece]  # type: ignore[assignment]


_D = TypeVar("_D", bound=_Silent)


class _Choice(Struct, Generic[_D], frozen=True, gc=False):
    delta: _D
    index: Literal[0] | None = None
    message: None = None
    finish_reason: Nothing = None
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


_read_text = msgspec.json.Decoder(_Chunk[_OfText]).decode
_read_reasoning_content = msgspec.json.Decoder(_Chunk[_OfReasoningContent]).decode
_read_reasoning = msgspec.json.Decoder(_Chunk[_OfReasoning]).decode
_read_arguments = msgspec.json.Decoder(_Chunk[_OfArguments]).decode


def more_text(payload: bytes) -> Text:
    """The text of a chunk that holds nothing else; raises one of NOT_JSON for any other."""
    return Text(_read_text(payload).choices[0].delta.content)


def more_reasoning_content(payload: bytes) -> Reasoning:
    """The same for reasoning in `reasoning_content`."""
    return Reasoning(
        _read_reasoning_content(payload).choices[0].delta.reasoning_content, "reasoning_content"
    )


def more_reasoning(payload: bytes) -> Reasoning:
    """The same for reasoning in `reasoning`."""
    return Reasoning(_read_reasoning(payload).choices[0].delta.reasoning, "reasoning")


def more_arguments(payload: bytes) -> tuple[int | None, str]:
    """The same for arguments of one call: its index, where the piece has one, and the text."""
    piece = _read_arguments(payload).choices[0].delta.tool_calls[0]
    return piece.index, piece.function.arguments
