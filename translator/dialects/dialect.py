"""What a dialect is: facts about what one kind of upstream takes and gives.

Nothing in the code branches on a dialect's name, only on its facts. An operator can replace a
single one in the settings, so a new quirk needs no release. `dialects` has the table of known ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

import msgspec
from msgspec import Struct

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
    """Facts that hold for some models of a dialect only.

    `pattern` is a shell-style pattern over the upstream's model id, in lower case; `facts` are the
    dialect's fields that differ.
    """

    pattern: str
    facts: dict[str, Any]


class Dialect(Struct, frozen=True):
    """What one kind of upstream takes and gives.

    Reading needs few facts, because the reader accepts every shape that was ever seen. Most facts
    are about what may be sent.
    """

    name: str
    hosts: tuple[str, ...] = ()
    """Host names (or their endings, with a leading dot) by which an upstream is recognised."""

    # what it gives
    think_tags: Tags | None = None
    """Reasoning that stands between tags inside the text; None: text is text."""
    cumulative: bool = False
    """Each chunk may repeat all text so far instead of adding to it."""
    prompt_excludes_cached: bool = False
    """Counts cached tokens beside those of the prompt, and its total does not show it."""
    silent_overflow_bytes: int | None = None
    """Answers an empty 400 or 413 where the context is too long: for a request of so many bytes or
    more, that is what such an answer means. None: it says nothing."""
    lenient_eof: bool = False
    """A body that ends after whole calls, without a finish reason, is an end and no failure."""

    recover_calls: bool = False
    """Its parser misses calls: those that stand in the text are read from there."""

    # messages
    developer_role: bool = False
    """Takes the role `developer`; otherwise it is sent as `system`."""
    system_messages: Literal["keep", "merge_leading", "demote_later"] = "keep"
    """Later system messages: kept where they are; leading ones merged into one; or besides that,
    later ones sent as user messages, because the template takes a system message only first."""
    content_beside_calls: Literal["omit", "null", "empty"] = "omit"
    """What stands for `content` in an assistant message that only calls."""
    images: bool = True
    """Takes images in user messages (some model of it does)."""
    image_urls: bool = True
    """Fetches images by URL; otherwise it takes data URLs only."""
    files: bool = False
    """Takes file parts in user messages."""
    answer_between_tool_and_user: bool = False
    """A user message may not follow a tool message directly."""

    # reasoning
    reasoning_replay: Literal["as_it_came", "drop"] = "as_it_came"
    """Whether reasoning of earlier turns goes back."""
    reasoning_field: Literal["reasoning_content", "reasoning"] | None = None
    """The only field that it may go back in; None: the one that it came in."""
    reasoning_details: bool = True
    """Takes `reasoning_details` back."""
    extra_content: bool = True
    """Takes `extra_content` back: what it hung on a call, or on the message."""
    extra_content_required: Mapping[str, Any] | None = None
    """Refuses calls without their `extra_content` while it thinks; this stands in on the first call
    of a message."""
    reasoning_required: bool = False
    """Refuses an assistant message without reasoning while it thinks; a blank stands in."""
    reasoning_not_beside_text_and_calls: bool = False
    """Refuses a message that has text, calls and reasoning at once; the reasoning yields."""
    efforts: Efforts = {}
    """For each level of effort the fields to send; the nearest level stands for one that is
    missing. Empty: effort cannot be steered."""
    thinks_by_default: bool = False
    """Thinks when no effort is asked for."""
    thinks_only_streaming: bool = False
    """Refuses to think in an answer that is no stream: then thinking is switched off."""

    # parameters
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    stream_usage: bool = True
    """Takes `stream_options.include_usage`."""
    refused: frozenset[str] = frozenset()
    """Chat fields that it refuses, or that change nothing there."""
    forwarded: frozenset[str] = frozenset()
    """Fields of the Responses request that it knows under the same name."""
    renamed: Mapping[str, str] = {}
    """Its own names of chat fields."""
    extra: Mapping[str, Any] = {}
    """Fields that every request carries."""
    parallel_tool_calls: bool = True
    """Takes `parallel_tool_calls`."""
    tool_choices: frozenset[ChoiceKind] = frozenset({"auto", "none", "required", "named"})
    """The kinds of `tool_choice` that it takes; without "auto" the field is left out."""
    tool_choices_thinking: frozenset[ChoiceKind] | None = None
    """The same while it thinks; None: no difference."""
    required_word: str = "required"
    """Its word for tool_choice `required`."""
    strict_functions: bool = False
    """Takes `strict` in a function declaration."""
    response_formats: frozenset[Literal["json_object", "json_schema"]] = frozenset(
        {"json_object", "json_schema"}
    )
    response_format_with_tools: bool = True
    """Takes `response_format` together with tools."""
    schema_rules: SchemaRules | None = None
    """What its JSON Schemas may not contain; None: they go as they are."""
    call_ids: Literal["as_is", "nine_alphanumerics"] = "as_is"
    """The form that ids of tool calls must have."""

    # models
    models: tuple[ModelFacts, ...] = ()
    """Facts of single models; the first pattern that fits counts."""

    def overflows_silently(self, request_bytes: int) -> bool:
        """Whether an empty refusal of a request of this size means that the context is too long."""
        least = self.silent_overflow_bytes
        return least is not None and request_bytes >= least

    def for_model(self, model: str) -> Dialect:
        """The dialect with the facts of one model (the upstream's id) put in."""
        for known in self.models:
            if fnmatchcase(model.lower(), known.pattern):
                return msgspec.structs.replace(self, models=(), **known.facts)
        return self


def nearest_effort(efforts: Efforts, asked: str) -> str:
    """The level of `efforts` that is nearest to the one asked for; the higher one of two.

    "none" is only near to itself when it is there: someone who asks for thought gets some.
    """
    if asked in efforts:
        return asked
    rank = EFFORT_LEVELS.index(asked)
    levels = [level for level in EFFORT_LEVELS if level in efforts]
    thinking = [level for level in levels if level != "none"] or levels
    higher_first = sorted(thinking, key=EFFORT_LEVELS.index, reverse=True)
    return min(higher_first, key=lambda level: abs(EFFORT_LEVELS.index(level) - rank))
