"""The Responses API's request and response objects.

The request declares every field of the API's schema, and fields that clients send although the
schema lacks them; a test fails on one that is neither translated nor noticed. The response has
every field that any client or schema requires, in every event.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from .items import OutputItem

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Verbosity = Literal["low", "medium", "high"]
Tier = Literal["auto", "default", "flex", "scale", "priority", "fast", "ultrafast"]
Summary = Literal["auto", "concise", "detailed"]
ReasoningContext = Literal["auto", "current_turn", "all_turns"]
ReasoningMode = Literal["standard", "pro"]
Truncation = Literal["auto", "disabled"]
CacheRetention = Literal["in_memory", "in-memory", "24h"]
ResponseStatus = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]

INCLUDE_LOGPROBS = "message.output_text.logprobs"
INCLUDE_REASONING = "reasoning.encrypted_content"
INCLUDE_SOURCES = "web_search_call.action.sources"
INCLUDE_RESULTS = "web_search_call.results"
"""The values of `include` that are supported; the last two where the search runs here."""

NO_SUMMARY = frozenset({"none", "off"})
"""OpenAI knows neither word; Codex ("none") and VS Code ("off") send them for no summary."""

# Words that steer the answer. Clients send words of later versions of the API, so these are known
# words, not all that are accepted; `request.advice` says what becomes of others.
_EffortWord = Annotated[str, Meta(examples=list(get_args(Effort)))]
_VerbosityWord = Annotated[str, Meta(examples=list(get_args(Verbosity)))]
_TierWord = Annotated[str, Meta(examples=list(get_args(Tier)))]
_SummaryWord = Annotated[str, Meta(examples=list(get_args(Summary)))]
_ContextWord = Annotated[str, Meta(examples=list(get_args(ReasoningContext)))]
_ModeWord = Annotated[str, Meta(examples=list(get_args(ReasoningMode)))]
_TruncationWord = Annotated[str, Meta(examples=list(get_args(Truncation)))]
_RetentionWord = Annotated[str, Meta(examples=list(get_args(CacheRetention)))]

_Penalty = Annotated[float, Meta(ge=-2, le=2)]
_MetadataKey = Annotated[str, Meta(max_length=64)]
_MetadataValue = Annotated[str, Meta(max_length=512)]

# --- request ----------------------------------------------------------------------------------


class TextFormat(Struct, frozen=True, tag_field="type", tag="text"):
    """Plain text."""


class JsonObjectFormat(Struct, frozen=True, tag_field="type", tag="json_object"):
    """Any JSON object."""


class JsonSchemaFormat(Struct, frozen=True, tag_field="type", tag="json_schema"):
    """JSON that matches a schema."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    schema: Raw
    description: str | None = None
    strict: bool | None = None


Format = TextFormat | JsonObjectFormat | JsonSchemaFormat


class TextConfig(Struct, frozen=True):
    """Settings of the text output."""

    format: Format | None = None
    verbosity: _VerbosityWord | None = None


class ReasoningConfig(Struct, frozen=True):
    """How much the model thinks, and how much of its reasoning is shown."""

    effort: _EffortWord | None = None
    summary: _SummaryWord | None = None
    generate_summary: _SummaryWord | None = None
    context: _ContextWord | None = None
    mode: _ModeWord | None = None


class StreamOptions(Struct, frozen=True):
    """Options of the event stream."""

    include_obfuscation: bool | None = None


class Moderation(Struct, frozen=True):
    """Moderation by the server."""

    model: str | None = None
    policy: Raw | UnsetType = UNSET


class Request(Struct, frozen=True):
    """The body of `POST /v1/responses`.

    `input` items, tools and `tool_choice` stay raw here: their own readers decode them, and know
    the index for the error path.
    """

    model: str | None = None
    input: str | list[Raw] | None = None
    instructions: str | None = None
    tools: list[Raw] | None = None
    tool_choice: Raw | UnsetType = UNSET
    parallel_tool_calls: bool | None = None
    max_output_tokens: Annotated[int, Meta(ge=1)] | None = None
    max_tool_calls: Annotated[int, Meta(ge=1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    presence_penalty: _Penalty | None = None
    frequency_penalty: _Penalty | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    text: TextConfig | None = None
    reasoning: ReasoningConfig | None = None
    include: list[str] | None = None
    metadata: Annotated[dict[_MetadataKey, _MetadataValue], Meta(max_length=16)] | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    service_tier: _TierWord | None = None
    truncation: _TruncationWord | None = None
    user: str | None = None
    safety_identifier: Annotated[str, Meta(max_length=128)] | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: _RetentionWord | None = None
    prompt_cache_options: Raw | UnsetType = UNSET
    previous_response_id: str | None = None
    conversation: Raw | UnsetType = UNSET
    background: bool | None = None
    background_options: Raw | UnsetType = UNSET
    context_management: Raw | UnsetType = UNSET
    moderation: Moderation | None = None
    prompt: Raw | UnsetType = UNSET
    access_programs: Raw | UnsetType = UNSET
    image: Raw | UnsetType = UNSET
    client_metadata: Raw | UnsetType = UNSET
    generate: bool | None = None
    n: int | None = None


# --- response -----------------------------------------------------------------------------------


class InputTokensDetails(Struct, frozen=True, gc=False):
    """Cached input tokens, read and written."""

    cached_tokens: int
    cache_write_tokens: int


class OutputTokensDetails(Struct, frozen=True, gc=False):
    """The reasoning tokens among the output tokens."""

    reasoning_tokens: int


class Usage(Struct, frozen=True):
    """Token counts. All keys are required: Codex fails on a missing one after the work is done."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class ImageTokens(Struct, frozen=True):
    """Tokens of image generation, by what they are for."""

    image_tokens: int = 0
    text_tokens: int = 0


class ImageGenUsage(Struct, frozen=True):
    """The use of image generation: none."""

    input_tokens: int = 0
    input_tokens_details: ImageTokens = ImageTokens()
    output_tokens: int = 0
    output_tokens_details: ImageTokens = ImageTokens()
    total_tokens: int = 0


class WebSearchUsage(Struct, frozen=True):
    """The searches of a response; opening a page is none."""

    num_requests: int


class ToolUsage(Struct, frozen=True):
    """The use of hosted tools. The API requires both keys."""

    web_search: WebSearchUsage
    image_gen: ImageGenUsage = ImageGenUsage()


class ResponseError(Struct, frozen=True):
    """Why a response failed."""

    code: str
    message: str


class IncompleteDetails(Struct, frozen=True):
    """Why a response is incomplete."""

    reason: Literal["max_output_tokens", "content_filter"]


class TextEcho(Struct, frozen=True):
    """`text`, repeated in the response, in the client's word."""

    format: Format
    verbosity: _VerbosityWord


class ReasoningEcho(Struct, frozen=True):
    """`reasoning`, repeated in the client's words: both keys, null when not given."""

    effort: _EffortWord | None
    summary: _SummaryWord | None


class ConversationEcho(Struct, frozen=True):
    """The conversation that a response belongs to."""

    id: str


class Response(Struct, frozen=True):
    """The response object. `output` is empty and `usage` null until the terminal event.

    Times are in seconds since 1970. `completed_at` is set only where the status is completed. Only
    a response in the background is ever queued, and only a stored one cancelled.
    """

    id: str
    created_at: int
    model: str
    object: Literal["response"] = "response"
    status: ResponseStatus = "in_progress"
    background: bool = False
    completed_at: int | None = None
    conversation: ConversationEcho | UnsetType = UNSET
    error: ResponseError | None = None
    frequency_penalty: float = 0.0
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    metadata: dict[str, str] = {}
    moderation: None = None
    output: list[OutputItem] = []
    parallel_tool_calls: bool = True
    presence_penalty: float = 0.0
    previous_response_id: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    reasoning: ReasoningEcho = ReasoningEcho(None, None)
    safety_identifier: str | None = None
    service_tier: str = "default"
    store: bool = False
    temperature: float = 1.0
    text: TextEcho = TextEcho(TextFormat(), "medium")
    tool_choice: Any = "auto"
    tool_usage: ToolUsage | UnsetType = UNSET
    tools: list[Raw] = []
    top_logprobs: int = 0
    top_p: float = 1.0
    truncation: _TruncationWord = "disabled"
    usage: Usage | None = None
    user: str | None = None
