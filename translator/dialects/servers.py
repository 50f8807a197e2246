"""Dialects of inference servers that operators run themselves: no host name identifies them.

A comment gives the source of the facts below it, as in `vendors`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from translator.common.schemas import SchemaRules

from .base import ALL_LEVELS, LOW_TO_HIGH, derived
from .dialect import EFFORT_LEVELS, ChoiceKind, ModelFacts
from .think_tags import Tags

# Chat templates have two names for the switch: Qwen and GLM read the first, DeepSeek and Kimi the
# second; a template ignores an unknown name (sources of vLLM and SGLang, 2026-09).
_TEMPLATE_OFF: Mapping[str, Any] = {
    "chat_template_kwargs": {"enable_thinking": False, "thinking": False}
}
_TEMPLATE_ON: Mapping[str, Any] = {
    "chat_template_kwargs": {"enable_thinking": True, "thinking": True}
}
# System message must be at the beginning. (Qwen's own template, 2026-09)
_QWEN_TEMPLATE = ModelFacts("*qwen*", {"system_messages": "demote_later"})

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
        models=(ModelFacts("*gpt-oss*", {"efforts": LOW_TO_HIGH}), _QWEN_TEMPLATE),
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
        models=(
            ModelFacts("*gpt-oss*", {"efforts": LOW_TO_HIGH}),
            _QWEN_TEMPLATE,
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
        ),
    ),
    derived(
        "llama_cpp",
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
        models=(
            ModelFacts(
                "*gpt-oss*",
                {
                    "efforts": {
                        level: {"chat_template_kwargs": {"reasoning_effort": level}}
                        for level in ("low", "medium", "high")
                    }
                },
            ),
            _QWEN_TEMPLATE,
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
        # ValueError: 'type' must be a string (tool schemas, 2026)
        schema_rules=SchemaRules(type_lists="any_of"),
        models=(ModelFacts("*gpt-oss*", {"efforts": LOW_TO_HIGH}), _QWEN_TEMPLATE),
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
)
