"""The dialect type: facts about the requests and answers of one kind of upstream.

Code branches on facts, never on a dialect's name. An operator can replace a single fact in the
settings, so a new quirk needs no release. The known dialects are in `known`.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta, Struct

from translator.common.schemas import SchemaRules
from translator.wire.responses import Effort

from .think_tags import Tags

ChoiceKind = Literal["auto", "none", "required", "named"]
Efforts = Mapping[str, Mapping[str, Any]]

EFFORT_LEVELS: tuple[str, ...] = get_args(Effort)
"""The Responses API's levels of `reasoning.effort`, from least to most."""

IDENTITY_FIELDS = frozenset({"name", "hosts", "models"})
"""The fields of `Dialect` that are no facts: which upstreams and models it applies to."""


def named_efforts(field: str = "reasoning_effort", **names: str) -> Efforts:
    """Levels that are sent as a name: `named_efforts(low="low", max="high")`."""
    return {level: {field: name} for level, name in names.items()}


class ModelFacts(Struct, frozen=True):
    """Facts that apply only to some models of a dialect.

    `pattern` is a shell-style pattern over the upstream's model id, in lower case; `facts` are the
    dialect's fields that differ.
    """

    pattern: str
    facts: dict[str, Any]


class Dialect(Struct, frozen=True):
    """Facts about one kind of upstream.

    Most are about requests: the reader accepts every known shape of answer, so it needs few.
    """

    name: str
    hosts: tuple[str, ...] = ()
    """Domains that identify the upstream, with all their subdomains; "-x.test" identifies the hosts
    whose first label ends in "-x"."""

    # answers
    think_tags: Tags | None = None
    """The tags around reasoning inside the text; None: text has no reasoning."""
    cumulative: bool = False
    """A chunk may repeat all text so far instead of adding to it."""
    prompt_excludes_cached: bool = False
    """Cached tokens are not part of the prompt tokens, and the total does not reveal it."""
    silent_overflow_bytes: int | None = None
    """The upstream answers a context that is too long with an empty 400 or 413: to a request of at
    least this many bytes, such an answer means just that. None: it has no such meaning."""
    lenient_eof: bool = False
    """A body that ends after complete calls, without a finish reason, is complete."""
    repeats_prefill: bool = False
    """An answer that is not streamed begins with the text of the last message, where that is the
    assistant's."""
    recover_calls: bool = False
    """The upstream's parser misses calls: they are parsed from the text instead."""

    # messages
    developer_role: bool = False
    """Accepts the role `developer`; otherwise it is sent as `system`."""
    system_messages: Literal["keep", "merge_leading", "demote_later"] = "keep"
    """How several system messages are sent: unchanged; leading ones merged into one; or also later
    ones as user messages, because the chat template accepts a system message only first."""
    content_beside_calls: Literal["omit", "null", "empty"] = "omit"
    """The `content` of an assistant message with calls and no text."""
    images: bool = True
    """Accepts images in user messages, for at least one of its models."""
    image_urls: bool = True
    """Fetches images by URL; otherwise it accepts data URLs only."""
    files: bool = False
    """Accepts file parts in user messages."""
    answer_between_tool_and_user: bool = False
    """Refuses a user message directly after a tool message."""
    assistant_last: bool = True
    """Accepts a conversation that ends with the assistant's message, to go on with it."""
    alternating_roles: bool = False
    """Refuses two messages of the user, or of the assistant, in a row; they are joined."""
    one_call_per_message: bool = False
    """Refuses several calls in one message: they are sent as call, result, call, result."""
    user_message_required: bool = False
    """Refuses a conversation that does not begin with the user: the last of the leading system
    messages is sent as the user's."""

    # reasoning
    reasoning_replay: Literal["as_it_came", "drop"] = "as_it_came"
    """Whether reasoning of earlier turns is sent back."""
    reasoning_field: Literal["reasoning_content", "reasoning"] | None = None
    """The field in which reasoning is sent back; None: the field that it was received in."""
    reasoning_details: bool = True
    """Accepts `reasoning_details` in messages."""
    extra_content: bool = True
    """Accepts `extra_content` in calls and messages."""
    extra_content_required: Mapping[str, Any] | None = None
    """While thinking, refuses calls without `extra_content`; this placeholder is set on the first
    call of a message."""
    reasoning_required: bool = False
    """While thinking, refuses an assistant message without reasoning; a blank is sent instead."""
    reasoning_not_beside_text_and_calls: bool = False
    """Refuses a message with text, calls and reasoning at once; the reasoning is left out."""
    efforts: Efforts = {}
    """The fields to send for each level of effort; a missing level is sent as the nearest one.
    Empty: the effort cannot be set."""
    thinks_by_default: bool = False
    """Thinks when the request sets no effort."""
    thinks_only_streaming: bool = False
    """Refuses to think without streaming; thinking is then switched off."""

    # parameters
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """The chat field of the token limit."""
    default_output_tokens: Annotated[int, Meta(ge=1)] | None = None
    """The token limit that is sent where the request has none, because the upstream's own default
    is too low for an answer; at most a quarter of the model's context. None: no limit is sent."""
    stream_usage: bool = True
    """Accepts `stream_options.include_usage`."""
    refused: frozenset[str] = frozenset()
    """Chat fields that the upstream refuses or ignores."""
    forwarded: frozenset[str] = frozenset()
    """Fields of the Responses request that the upstream knows under the same name."""
    renamed: Mapping[str, str] = {}
    """The upstream's own names for chat fields."""
    extra: Mapping[str, Any] = {}
    """Fields to add to every request."""
    session_header: str | None = None
    """The header that names the conversation, so that its requests meet the same cache: the service
    sends `prompt_cache_key` in it. None: there is none."""
    parallel_tool_calls: bool = True
    """Accepts `parallel_tool_calls`."""
    tool_choices: frozenset[ChoiceKind] = frozenset({"auto", "none", "required", "named"})
    """The accepted kinds of `tool_choice`; without "auto" the field is left out."""
    tool_choices_thinking: frozenset[ChoiceKind] | None = None
    """The accepted kinds while thinking; None: the same."""
    tools_with_choice_none: bool = True
    """Keeps the tools from the model where the choice is `none`; otherwise they are left out."""
    required_word: str = "required"
    """The upstream's word for the tool choice `required`."""
    strict_functions: bool = False
    """Accepts `strict` in a function declaration."""
    response_formats: frozenset[Literal["json_object", "json_schema"]] = frozenset(
        {"json_object", "json_schema"}
    )
    """The accepted types of `response_format`; for another an instruction is sent."""
    response_format_with_tools: bool = True
    """Accepts `response_format` together with tools."""
    schema_rules: SchemaRules | None = None
    """The limits of its JSON Schemas; None: schemas are sent unchanged."""
    call_ids: Literal["as_is", "nine_alphanumerics"] = "as_is"
    """The required form of tool call ids."""

    # beside the chat
    token_endpoint: Literal["tokenize", "apply_template"] | None = None
    """What counts the tokens of a chat request, beside `/v1`: `/tokenize`, which takes its messages
    and tools, or `/apply-template`, whose prompt `/tokenize` takes. None: nothing is known."""

    # models
    models: tuple[ModelFacts, ...] = ()
    """Facts of single models; the first matching pattern counts."""

    def overflows_silently(self, request_bytes: int) -> bool:
        """Whether an empty 400 or 413 to a request of this size means a context overflow."""
        least = self.silent_overflow_bytes
        return least is not None and request_bytes >= least

    def for_model(self, model: str) -> Dialect:
        """The dialect with the facts of one model, by the upstream's id."""
        for known in self.models:
            if fnmatchcase(model.lower(), known.pattern):
                return msgspec.structs.replace(self, models=(), **known.facts)
        return self


def nearest_effort(efforts: Efforts, requested: str) -> str:
    """The level of `efforts` nearest to the requested one; of two the higher one.

    "none" is never chosen for another level while there is an alternative.
    """
    if requested in efforts:
        return requested
    rank = EFFORT_LEVELS.index(requested)
    levels = [level for level in EFFORT_LEVELS if level in efforts]
    thinking = [level for level in levels if level != "none"] or levels
    return min(reversed(thinking), key=lambda level: abs(EFFORT_LEVELS.index(level) - rank))
