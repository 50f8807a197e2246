"""Dialects of inference servers that operators run themselves: no host name identifies them.

A comment gives the source of the facts below it, as in `vendors`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from translator.common.schemas import SchemaRules

from .base import ALL_LEVELS, LOW_TO_HIGH, derived
from .dialect import EFFORT_LEVELS, ChoiceKind, Efforts, ModelFacts
from .templates import template_facts
from .think_tags import Tags

# Chat templates have two names for the switch: Qwen and GLM read the first, DeepSeek and Kimi the
# second; a template ignores an unknown name (sources of vLLM and SGLang, 2026-09).
_TEMPLATE_OFF: Mapping[str, Any] = {
    "chat_template_kwargs": {"enable_thinking": False, "thinking": False}
}
_TEMPLATE_ON: Mapping[str, Any] = {
    "chat_template_kwargs": {"enable_thinking": True, "thinking": True}
}


def _in_template(off: Mapping[str, Any], on: Mapping[str, Any], *levels: str) -> Efforts:
    """Efforts that the template reads as its variable `reasoning_effort`."""
    named = (
        {"chat_template_kwargs": {**on["chat_template_kwargs"], "reasoning_effort": level}}
        for level in levels
    )
    return {"none": off, **dict(zip(levels, named, strict=True))}


def _qwen38(efforts: Efforts) -> ModelFacts:
    """Qwen3.8: the template of 3.5, with three efforts."""
    facts = {"system_messages": "demote_later", "user_message_required": True}
    return ModelFacts("*qwen3.8*", {**facts, "efforts": efforts})


# failed to parse grammar (llama.cpp#26596, qwen-code#10435, 2026-11): builds differ in the largest
# number of repetitions that they take, up to 2000, and in the patterns that they read (source; of
# items, 1999 are refused by b11549). JSON schema error: a schema `true`, as some tools have it for
# any value, and whatever is no JSON Schema (b11549, seen, 2026-11).
_GRAMMAR = SchemaRules(dropped=frozenset({"pattern"}), max_bound=2000, well_formed=True)
_GRAMMAR_OF_LM_STUDIO = SchemaRules(
    dropped=frozenset({"pattern"}), max_bound=2000, type_lists="any_of"
)
_NO_CHOICE: frozenset[ChoiceKind] = frozenset()

SERVERS = (
    derived(
        "vllm",
        # System message must be at the beginning. (templates, 2026-09)
        system_messages="merge_leading",
        # It accepts all efforts, and passes the switch to the template (source, 2026-09).
        efforts={
            "none": {"reasoning_effort": "none", **_TEMPLATE_OFF},
            **{level: {"reasoning_effort": level, **_TEMPLATE_ON} for level in EFFORT_LEVELS[1:]},
        },
        # Its chat form has messages, tools and chat_template_kwargs (source, 2026-09).
        token_endpoint="tokenize",
        # The grammar of a format holds for the whole answer, so that no call can come; the tools
        # are in the prompt whatever the choice is (0.32.0, seen, 2026-11).
        response_format_with_tools=False,
        tools_with_choice_none=False,
        models=(
            # Its chat has Harmony's format; /tokenize has the template, which differs (2026-09).
            ModelFacts("*gpt-oss*", {"efforts": LOW_TO_HIGH, "token_endpoint": None}),
            # Unsupported reasoning_effort: high. Supported levels are xhigh, medium, low.
            # (Qwen3.8#217, vllm#54616, 2026-11)
            _qwen38(
                {
                    "none": _TEMPLATE_OFF,
                    **{
                        level: {"reasoning_effort": level, **_TEMPLATE_ON}
                        for level in ("low", "medium", "xhigh")
                    },
                }
            ),
            # reasoning_effort error … should be no_think/low/high (template, 2026-11)
            ModelFacts(
                "*hy3*",
                {
                    "efforts": {
                        "none": {"chat_template_kwargs": {"reasoning_effort": "no_think"}},
                        "low": {"reasoning_effort": "low"},
                        "high": {"reasoning_effort": "high"},
                    }
                },
            ),
            *template_facts(),
        ),
    ),
    derived(
        "sglang",
        # The same templates; its messages have one field for reasoning, and content is a string
        # (source, 2026-09).
        system_messages="merge_leading",
        content_beside_calls="empty",
        reasoning_field="reasoning_content",
        reasoning_details=False,
        efforts={"none": _TEMPLATE_OFF, "high": _TEMPLATE_ON},
        # Constrained decoding is not compatible with tool calls: the format counts (source, 2026).
        response_format_with_tools=False,
        models=(
            ModelFacts("*gpt-oss*", {"efforts": LOW_TO_HIGH}),
            # Three efforts (template; Qwen3.8#217, 2026-11).
            _qwen38(_in_template(_TEMPLATE_OFF, _TEMPLATE_ON, "low", "medium", "xhigh")),
            # Its V4 template accepts two efforts and drops the others (source, 2026-09).
            ModelFacts(
                "*deepseek-v4*",
                {
                    "efforts": {
                        "none": _TEMPLATE_OFF,
                        "high": {"reasoning_effort": "high", **_TEMPLATE_ON},
                        "max": {"reasoning_effort": "max", **_TEMPLATE_ON},
                    }
                },
            ),
            *template_facts(),
        ),
    ),
    derived(
        "llama_cpp",
        # It appends to the last message and answers with both; a stream has what is new (2026-11).
        repeats_prefill=True,
        # Cannot pass both content and thinking in an assistant message with tool calls! (2026-08)
        reasoning_not_beside_text_and_calls=True,
        # System message must be at the beginning. (templates); one field for reasoning, the switch
        # passed to the template (source, 2026-09).
        reasoning_field="reasoning_content",
        reasoning_details=False,
        system_messages="merge_leading",
        # A choice that is an object is read as "auto", without a word (b11549, 2026-11).
        tool_choices=frozenset({"auto", "none", "required"}),
        efforts={
            "none": {"chat_template_kwargs": {"enable_thinking": False}},
            "high": {"chat_template_kwargs": {"enable_thinking": True}},
        },
        # The grammar of a format holds for the whole answer, so that no call can come; the tools
        # are in the prompt whatever the choice is (b11549, seen, 2026-11).
        response_format_with_tools=False,
        tools_with_choice_none=False,
        # failed to parse grammar (2026-11; see above)
        schema_rules=_GRAMMAR,
        # Both read what the chat reads (source, 2026-09).
        token_endpoint="apply_template",
        models=(
            # Its template has three efforts (source, 2026-09).
            ModelFacts(
                "*gpt-oss*",
                {
                    "efforts": {
                        level: {"chat_template_kwargs": {"reasoning_effort": level}}
                        for level in ("low", "medium", "high")
                    }
                },
            ),
            # Three efforts; Unsloth's files take others, too (Qwen3.8#217, 2026-11).
            _qwen38(
                _in_template(
                    {"chat_template_kwargs": {"enable_thinking": False}},
                    {"chat_template_kwargs": {"enable_thinking": True}},
                    *("low", "medium", "xhigh"),
                )
            ),
            # reasoning_effort error … should be no_think/low/high (template, 2026-11)
            ModelFacts(
                "*hy3*",
                {
                    "efforts": {
                        "none": {"chat_template_kwargs": {"reasoning_effort": "no_think"}},
                        "low": {"chat_template_kwargs": {"reasoning_effort": "low"}},
                        "high": {"chat_template_kwargs": {"reasoning_effort": "high"}},
                    }
                },
            ),
            *template_facts(_GRAMMAR),
        ),
    ),
    derived(
        "ollama",
        # Its messages have this field, and content is a string; all efforts (source, 2026-09).
        reasoning_field="reasoning",
        reasoning_details=False,
        content_beside_calls="empty",
        efforts=ALL_LEVELS,
        # Read and ignored (source, 2026-09).
        tool_choices=_NO_CHOICE,
        parallel_tool_calls=False,
        # invalid image input: it accepts base64 only (source, 2026-09)
        image_urls=False,
    ),
    derived(
        "lm_studio",
        # By default the reasoning is between tags (reports, 2026).
        think_tags=Tags(),
        # The templates of its models, images as base64, no named choice (documentation, 2026-08).
        reasoning_replay="drop",
        reasoning_details=False,
        extra_content=False,
        system_messages="merge_leading",
        content_beside_calls="empty",
        image_urls=False,
        tool_choices=frozenset({"auto", "none", "required"}),
        parallel_tool_calls=False,
        response_formats=frozenset({"json_schema"}),
        # It embeds llama.cpp: the grammar of a format holds for the whole answer (2026-11).
        response_format_with_tools=False,
        # ValueError: 'type' must be a string (tool schemas, 2026); and llama.cpp's grammars.
        schema_rules=_GRAMMAR_OF_LM_STUDIO,
        models=(
            ModelFacts("*gpt-oss*", {"efforts": LOW_TO_HIGH}),
            *template_facts(_GRAMMAR_OF_LM_STUDIO),
        ),
    ),
    derived(
        "tgi",
        # It does not split off reasoning; it validates messages by type (source, 2026).
        think_tags=Tags(),
        reasoning_replay="drop",
        reasoning_details=False,
        extra_content=False,
        system_messages="demote_later",
        content_beside_calls="empty",
        parallel_tool_calls=False,
        # It has schemas in another form (source, 2026).
        response_formats=frozenset(),
        schema_rules=SchemaRules(dropped=frozenset({"$schema", "$id"})),
    ),
    derived(
        "tensorrt_llm",
        # extra_forbidden, for reasoning_content in a message (gsd-2#4647, 2026-11)
        reasoning_replay="drop",
        reasoning_details=False,
        extra_content=False,
        # System message must be at the beginning. (templates, 2026-09)
        system_messages="merge_leading",
        # Its request type knows none, auto and a name, and no unknown field (source, 2026).
        tool_choices=frozenset({"auto", "none", "named"}),
        parallel_tool_calls=False,
        # Guided decoding holds for the whole answer (source, 2026).
        response_format_with_tools=False,
        # It passes the switch to the template (source, 2026).
        efforts={"none": _TEMPLATE_OFF, "high": _TEMPLATE_ON},
        models=(ModelFacts("*gpt-oss*", {"efforts": LOW_TO_HIGH}), *template_facts()),
    ),
)
