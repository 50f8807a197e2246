"""Dialects: what one kind of upstream does differently, as data.

A dialect is a frozen struct of facts. Every known one is BASE with the facts replaced that were
observed to differ; nothing in the code branches on a name. An operator can replace a single field
in the settings, so a new quirk needs no release.

Sources are named beside the values: a provider's documentation or a recorded refusal, with the
month in which it was read, and the fixture that shows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, Literal

import msgspec
from msgspec import Struct

from .think_tags import Tags

ChoiceKind = Literal["auto", "none", "required", "named"]
Efforts = Mapping[str, Mapping[str, Any]]

EFFORT_LEVELS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""The Responses API's levels of `reasoning.effort`, from least to most."""


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
    lenient_eof: bool = False
    """A body that ends after whole calls, without a finish reason, is an end and no failure."""

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
    reasoning_required: bool = False
    """Refuses an assistant message without reasoning while it thinks; a blank stands in."""
    reasoning_not_beside_text_and_calls: bool = False
    """Refuses a message that has text, calls and reasoning at once; the reasoning yields."""
    efforts: Efforts = {}
    """For each level of effort the fields to send; the nearest level stands for one that is
    missing. Empty: effort cannot be steered."""
    thinks_by_default: bool = False
    """Thinks when no effort is asked for."""

    # parameters
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    stream_usage: bool = True
    """Takes `stream_options.include_usage`."""
    refused: frozenset[str] = frozenset()
    """Chat fields that it refuses, or that change nothing there."""
    forwarded: frozenset[str] = frozenset()
    """Fields of the Responses request that it knows under the same name."""
    extra: Mapping[str, Any] = {}
    """Fields that every request carries."""
    parallel_tool_calls: bool = True
    """Takes `parallel_tool_calls`."""
    tool_choices: frozenset[ChoiceKind] = frozenset({"auto", "none", "required", "named"})
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
    call_ids: Literal["as_is", "nine_alphanumerics"] = "as_is"
    """The form that ids of tool calls must have."""

    # models
    models: tuple[ModelFacts, ...] = ()
    """Facts of single models; the first pattern that fits counts."""

    def for_model(self, model: str) -> Dialect:
        """The dialect with the facts of one model (the upstream's id) put in."""
        for known in self.models:
            if fnmatchcase(model.lower(), known.pattern):
                return msgspec.structs.replace(self, models=(), **known.facts)
        return self


BASE = Dialect(name="base")
"""The tolerant base: reads everything, sends only what every upstream takes."""

_THINKING_OFF: Mapping[str, Any] = {"thinking": {"type": "disabled"}}
_THINKING_ON: Mapping[str, Any] = {"thinking": {"type": "enabled"}}
_ON_OR_OFF: Efforts = {
    "none": _THINKING_OFF,
    **dict.fromkeys(EFFORT_LEVELS[1:], _THINKING_ON),
}
_AUTO_ONLY: frozenset[ChoiceKind] = frozenset({"auto"})
_AUTO_OR_NONE: frozenset[ChoiceKind] = frozenset({"auto", "none"})
_SAMPLING = frozenset({"temperature", "top_p", "presence_penalty", "frequency_penalty"})
_LOW_TO_HIGH = named_efforts(minimal="low", low="low", medium="medium", high="high")

_DIALECTS = (
    BASE,
    msgspec.structs.replace(
        BASE,
        name="openai",
        hosts=("api.openai.com",),
        developer_role=True,
        files=True,
        # Unknown parameter: 'messages[1].reasoning_content' (not re-checked)
        reasoning_replay="drop",
        efforts=named_efforts(**{level: level for level in EFFORT_LEVELS if level != "max"}),
        max_tokens_field="max_completion_tokens",
        strict_functions=True,
        forwarded=frozenset(
            {"verbosity", "service_tier", "prompt_cache_key", "safety_identifier", "user"}
        ),
    ),
    msgspec.structs.replace(
        BASE,
        name="fireworks",
        hosts=("api.fireworks.ai",),
        # Extra inputs are not permitted, field: 'messages[1].reasoning' (2026-09)
        reasoning_field="reasoning_content",
        reasoning_details=False,
        think_tags=Tags(),  # some deployments leave the tags in the text (2025)
        system_messages="merge_leading",
        efforts=named_efforts(none="none", minimal="low", low="low", medium="medium", high="high"),
        thinks_by_default=True,
        response_format_with_tools=False,
        forwarded=frozenset({"prompt_cache_key", "user"}),
        models=(
            # Invalid reasoning effort: none (2026-09)
            ModelFacts("*gpt-oss*", {"efforts": _LOW_TO_HIGH}),
            ModelFacts("*minimax*", {"efforts": _LOW_TO_HIGH, "system_messages": "demote_later"}),
            ModelFacts("*qwen*", {"system_messages": "demote_later"}),
            ModelFacts(
                "*deepseek*",
                {"efforts": named_efforts(none="none", low="high", high="high", max="max")},
            ),
        ),
    ),
    msgspec.structs.replace(
        BASE,
        name="deepseek",
        hosts=("api.deepseek.com",),
        reasoning_field="reasoning_content",
        reasoning_details=False,
        # The `reasoning_content` in the thinking mode must be passed back to the API. (2026-08)
        reasoning_required=True,
        thinks_by_default=True,
        content_beside_calls="empty",
        images=False,
        efforts={
            "none": _THINKING_OFF,
            "low": {**_THINKING_ON, "reasoning_effort": "low"},
            "high": {**_THINKING_ON, "reasoning_effort": "high"},
            "max": {**_THINKING_ON, "reasoning_effort": "max"},
        },
        # Thinking mode does not support this tool_choice (2026-08)
        tool_choices_thinking=_AUTO_OR_NONE,
        response_formats=frozenset({"json_object"}),
    ),
    msgspec.structs.replace(
        BASE,
        name="moonshot",
        hosts=("api.moonshot.ai", "api.moonshot.cn", "api.kimi.com"),
        reasoning_field="reasoning_content",
        reasoning_details=False,
        # thinking is enabled but reasoning_content is missing in assistant tool call message
        reasoning_required=True,
        thinks_by_default=True,
        efforts=_ON_OR_OFF,
        # tool_choice 'required' is incompatible with thinking enabled (2026-08)
        tool_choices_thinking=frozenset({"auto", "none", "named"}),
        max_tokens_field="max_completion_tokens",
        # invalid temperature: only 1 is allowed for this model (2026-08)
        refused=_SAMPLING,
        parallel_tool_calls=False,
        forwarded=frozenset({"prompt_cache_key"}),
        models=(
            ModelFacts(
                "kimi-k3*",
                {"efforts": named_efforts(none="low", low="low", high="high", max="max")},
            ),
        ),
    ),
    msgspec.structs.replace(
        BASE,
        name="zai",
        hosts=("api.z.ai", "open.bigmodel.cn"),
        reasoning_field="reasoning_content",
        reasoning_details=False,
        thinks_by_default=True,
        content_beside_calls="empty",
        efforts={
            "none": _THINKING_OFF,
            # Without it the server drops the reasoning of earlier turns (documentation, 2026-08).
            "high": {"thinking": {"type": "enabled", "clear_thinking": False}},
        },
        tool_choices=_AUTO_ONLY,
        parallel_tool_calls=False,
        refused=frozenset({"presence_penalty", "frequency_penalty"}),
        response_formats=frozenset({"json_object"}),
    ),
    msgspec.structs.replace(
        BASE,
        name="ollama",
        reasoning_field="reasoning",
        reasoning_details=False,
        content_beside_calls="empty",
        efforts=named_efforts(**{level: level for level in EFFORT_LEVELS}),
        tool_choices=_AUTO_ONLY,
        parallel_tool_calls=False,
    ),
    msgspec.structs.replace(
        BASE,
        name="openrouter",
        hosts=("openrouter.ai",),
        developer_role=True,
        files=True,
        efforts={
            level: {"reasoning": {"effort": "xhigh" if level == "max" else level}}
            for level in EFFORT_LEVELS
        },
        forwarded=frozenset({"verbosity", "user"}),
    ),
    msgspec.structs.replace(
        BASE,
        name="vllm",
        system_messages="merge_leading",
        efforts=named_efforts(**{level: level for level in EFFORT_LEVELS}),
    ),
    msgspec.structs.replace(
        BASE,
        name="llama_cpp",
        reasoning_field="reasoning_content",
        reasoning_details=False,
        # Cannot pass both content and thinking in an assistant message with tool calls! (2026-08)
        reasoning_not_beside_text_and_calls=True,
        system_messages="merge_leading",
    ),
)

DIALECTS: Mapping[str, Dialect] = {dialect.name: dialect for dialect in _DIALECTS}
"""Every known dialect by its name."""


def known_host(host: str) -> str:
    """The name of the dialect that is spoken at a host; "base" when the host is not known."""
    host = host.lower()
    for dialect in _DIALECTS:
        if any(host == known or host.endswith("." + known) for known in dialect.hosts):
            return dialect.name
    return BASE.name


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
