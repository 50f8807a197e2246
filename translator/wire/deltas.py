"""Deltas: the neutral model of an answer, between the two protocols.

The reader turns every dialect of Chat Completions into these few structs, and the writer turns them
into Responses events. Neither half knows the other.

    answer = { Text | Reasoning | ReasoningDetails | Refusal | Citation | Sources | ToolCall
             | CallExtra | Compaction | Usage | ServiceTier }, ( Finish | Failure ) ;
"""

from __future__ import annotations

from typing import Literal

from msgspec import Raw, Struct

from .errors import UpstreamError

MAX_ITEMS = 20_000
"""How many output items an answer may have, and calls, unless a program says otherwise."""


class TokenLogprob(Struct, frozen=True, gc=False):
    """One alternative for a token: natural logarithm of its probability."""

    token: str
    logprob: float
    bytes: list[int]


class Logprob(Struct, frozen=True):
    """A sampled token with its alternatives."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TokenLogprob]


class Text(Struct, frozen=True, gc=False):
    """More of the visible answer."""

    text: str
    logprobs: list[Logprob] | None = None


class Reasoning(Struct, frozen=True, gc=False):
    """More of the model's reasoning.

    `field` is the chat field that held it (`reasoning_content`, `reasoning`, …): the text is sent
    back to the upstream in the same field.
    """

    text: str
    field: str


class ReasoningDetails(Struct, frozen=True):
    """Opaque reasoning objects (signatures, encrypted parts) that must be sent back verbatim.

    `details` is a JSON array as the upstream sent it in one chunk.
    """

    details: Raw


class CallExtra(Struct, frozen=True):
    """The `extra_content` of a call, to be sent back with it (Gemini's thought signature).

    `key` is the call's; None: it belongs to the message. `extra` is a JSON object.
    """

    key: int | None
    extra: Raw


class Refusal(Struct, frozen=True, gc=False):
    """More of a refusal."""

    text: str


class Citation(Struct, frozen=True, gc=False):
    """A web source of the text so far; indexes count characters of the whole message."""

    url: str
    title: str
    start_index: int
    end_index: int


class Source(Struct, frozen=True, gc=False):
    """A web page that an answer is based on."""

    url: str
    title: str


class Sources(Struct, frozen=True):
    """All sources of an answer so far; its text refers to the first one as [1], or as `first`.

    `linked`: its text may also link to them.
    """

    sources: tuple[Source, ...]
    first: int = 1
    linked: bool = False


class ToolCall(Struct, frozen=True, gc=False):
    """A fragment of one function call.

    `key` distinguishes the calls of one answer and never leaves us. `id` is sent once, not always
    first. `name` is the whole name so far, and may grow until the first argument. `arguments` is a
    slice of JSON text, not JSON.
    """

    key: int
    id: str | None
    name: str | None
    arguments: str


class Compaction(Struct, frozen=True, gc=False):
    """The summary of a conversation, made from a whole answer; `blob` is its sealed form."""

    blob: str


class Usage(Struct, frozen=True, gc=False):
    """Token counts of the answer. Guaranteed: cached ≤ input, reasoning ≤ output."""

    input_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int


class ServiceTier(Struct, frozen=True, gc=False):
    """The service tier that the upstream reports."""

    name: str


class Finish(Struct, frozen=True, gc=False):
    """The end of an answer: complete, cut at the token limit, or cut by a content filter."""

    reason: Literal["stop", "length", "content_filter"]


class Failure(Struct, frozen=True):
    """The end of an answer that broke off."""

    error: UpstreamError


Delta = (
    Text
    | Reasoning
    | ReasoningDetails
    | CallExtra
    | Refusal
    | Citation
    | Sources
    | ToolCall
    | Compaction
    | Usage
    | ServiceTier
)
Verdict = Finish | Failure
