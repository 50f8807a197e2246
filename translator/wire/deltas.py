"""The neutral model between the two protocols: what one piece of an answer says.

Every dialect of Chat Completions is read into these few structs (`from_chat`), and one machine
writes them as Responses events (`stream`). Neither half knows the other.

    answer = { Text | Reasoning | ReasoningDetails | Refusal | Citation | Sources | ToolCall
             | CallExtra | Compaction | Usage | ServiceTier }, ( Finish | Failure ) ;
"""

from __future__ import annotations

from typing import Literal

from msgspec import Raw, Struct

from .errors import UpstreamError


class TokenLogprob(Struct, frozen=True, gc=False):
    """One alternative for a token: natural logarithm of its probability."""

    token: str
    logprob: float
    bytes: list[int]


class Logprob(Struct, frozen=True):
    """A sampled token with the alternatives that were considered."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TokenLogprob]


class Text(Struct, frozen=True, gc=False):
    """A piece of the visible answer."""

    text: str
    logprobs: list[Logprob] | None = None


class Reasoning(Struct, frozen=True, gc=False):
    """A piece of the model's thinking.

    `field` is the name it arrived under (`reasoning_content`, `reasoning`, …): the text goes back
    to the upstream under the same name.
    """

    text: str
    field: str


class ReasoningDetails(Struct, frozen=True):
    """Opaque pieces of reasoning (signatures, encrypted parts) that must go back verbatim.

    `details` is a JSON array as the upstream sent it in one chunk.
    """

    details: Raw


class CallExtra(Struct, frozen=True):
    """What an upstream hangs on a call and wants back with it (Gemini's thought signature).

    `key` is the call's; None: it belongs to the message. `extra` is a JSON object.
    """

    key: int | None
    extra: Raw


class Refusal(Struct, frozen=True, gc=False):
    """A piece of a refusal."""

    text: str


class Citation(Struct, frozen=True, gc=False):
    """A web source of the text so far; indexes count characters of the whole message."""

    url: str
    title: str
    start_index: int
    end_index: int


class Source(Struct, frozen=True, gc=False):
    """A web page that an answer rests on."""

    url: str
    title: str


class Sources(Struct, frozen=True):
    """The sources of an answer, all of them each time; its text refers to the first one as [1]."""

    sources: tuple[Source, ...]


class ToolCall(Struct, frozen=True, gc=False):
    """A piece of one function call.

    `key` tells the calls of one answer apart and never leaves us. `id` comes once, not always
    first. `name` is the whole name as far as it is known and may still grow until the first
    argument. `arguments` is a slice of JSON text, not JSON.
    """

    key: int
    id: str | None
    name: str | None
    arguments: str


class Compaction(Struct, frozen=True, gc=False):
    """The conversation, summed up; no upstream says this, it is made of a whole answer.

    `blob` is the summary as a client carries it.
    """

    blob: str


class Usage(Struct, frozen=True, gc=False):
    """What the answer cost, in tokens. Sane: cached ≤ input, reasoning ≤ output."""

    input_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int


class ServiceTier(Struct, frozen=True, gc=False):
    """The tier that the upstream says it served the request with."""

    name: str


class Finish(Struct, frozen=True, gc=False):
    """The answer is over: whole, cut at the token limit, or cut by a content filter."""

    reason: Literal["stop", "length", "content_filter"]


class Failure(Struct, frozen=True):
    """The answer broke off."""

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
