"""The known dialects, as data.

Every one is BASE with the facts replaced that were observed to differ. Where a value comes from is
said beside it: the upstream's own words of refusal, its documentation, or its source, with the
month in which that was read; the fixtures of the dialect show what it sends.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from .dialect import (
    EFFORT_LEVELS,
    ChoiceKind,
    Dialect,
    Efforts,
    ModelFacts,
    named_efforts,
    nearest_effort,
)
from .schemas import SchemaRules
from .think_tags import Tags

__all__ = [
    "BASE",
    "DIALECTS",
    "EFFORT_LEVELS",
    "Dialect",
    "ModelFacts",
    "known_host",
    "nearest_effort",
]

BASE = Dialect(name="base")
"""The tolerant base: reads everything, sends only what every upstream takes."""

_THINKING_OFF: Mapping[str, Any] = {"thinking": {"type": "disabled"}}
_THINKING_ON: Mapping[str, Any] = {"thinking": {"type": "enabled"}}
_ON_OR_OFF: Efforts = {
    "none": _THINKING_OFF,
    **dict.fromkeys(EFFORT_LEVELS[1:], _THINKING_ON),
}
_LOW_TO_HIGH = named_efforts(minimal="low", low="low", medium="medium", high="high")
_ALL_LEVELS = named_efforts(**{level: level for level in EFFORT_LEVELS})

# Chat templates know the switch under two names: Qwen and GLM read the first, DeepSeek and Kimi the
# second; a template skips a name that it does not know (sources of vLLM and SGLang, 2026-09).
_TEMPLATE_OFF: Mapping[str, Any] = {
    "chat_template_kwargs": {"enable_thinking": False, "thinking": False}
}
_TEMPLATE_ON: Mapping[str, Any] = {
    "chat_template_kwargs": {"enable_thinking": True, "thinking": True}
}

_AUTO_ONLY: frozenset[ChoiceKind] = frozenset({"auto"})
_AUTO_OR_NONE: frozenset[ChoiceKind] = frozenset({"auto", "none"})
_NO_CHOICE: frozenset[ChoiceKind] = frozenset()
_SAMPLING = frozenset({"temperature", "top_p", "presence_penalty", "frequency_penalty"})
_PENALTIES = frozenset({"presence_penalty", "frequency_penalty"})


def _dialect(name: str, *hosts: str, **facts: Any) -> Dialect:  # noqa: ANN401 - see Dialect
    return msgspec.structs.replace(BASE, name=name, hosts=hosts, **facts)


_DIALECTS = (
    BASE,
    _dialect(
        "openai",
        "api.openai.com",
        developer_role=True,
        files=True,
        # Its chat messages have no field for reasoning (API reference, 2026-09).
        reasoning_replay="drop",
        reasoning_details=False,
        extra_content=False,
        efforts=named_efforts(**{level: level for level in EFFORT_LEVELS if level != "max"}),
        # Unsupported parameter: 'max_tokens' … Use 'max_completion_tokens' instead.
        max_tokens_field="max_completion_tokens",
        strict_functions=True,
        forwarded=frozenset(
            {"verbosity", "service_tier", "prompt_cache_key", "safety_identifier", "user"}
        ),
    ),
    _dialect(
        "azure",
        ".openai.azure.com",
        ".services.ai.azure.com",
        developer_role=True,
        files=True,
        # Unknown parameter (2026-09): every key that its API version does not list is refused.
        reasoning_replay="drop",
        reasoning_details=False,
        extra_content=False,
        efforts=named_efforts(**{level: level for level in EFFORT_LEVELS if level != "max"}),
        max_tokens_field="max_completion_tokens",
        strict_functions=True,
        forwarded=frozenset({"prompt_cache_key", "user"}),
    ),
    _dialect(
        "fireworks",
        "api.fireworks.ai",
        # Extra inputs are not permitted, field: 'messages[1].reasoning' (2026-09)
        reasoning_field="reasoning_content",
        reasoning_details=False,
        extra_content=False,
        # Some deployments leave the tags in the text (reports, 2025).
        think_tags=Tags(),
        # The templates of Qwen and MiniMax fail on a second system message (reports, 2026).
        system_messages="merge_leading",
        efforts=named_efforts(none="none", minimal="low", low="low", medium="medium", high="high"),
        thinks_by_default=True,
        # Structured output is a grammar over the whole answer (client tables, 2026-08).
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
    _dialect(
        "deepseek",
        "api.deepseek.com",
        reasoning_field="reasoning_content",
        reasoning_details=False,
        extra_content=False,
        # The `reasoning_content` in the thinking mode must be passed back to the API. (2026-08)
        reasoning_required=True,
        thinks_by_default=True,
        # Recorded requests that were accepted have "" beside calls (2026).
        content_beside_calls="empty",
        # unknown variant `image_url`, expected `text` (2026-08)
        images=False,
        efforts={
            "none": _THINKING_OFF,
            "low": {**_THINKING_ON, "reasoning_effort": "low"},
            "high": {**_THINKING_ON, "reasoning_effort": "high"},
            "max": {**_THINKING_ON, "reasoning_effort": "max"},
        },
        # Thinking mode does not support this tool_choice (2026-08)
        tool_choices_thinking=_AUTO_OR_NONE,
        # Ignored there (documentation, 2026-08).
        parallel_tool_calls=False,
        response_formats=frozenset({"json_object"}),
    ),
    _dialect(
        "moonshot",
        "api.moonshot.ai",
        "api.moonshot.cn",
        "api.kimi.com",
        reasoning_field="reasoning_content",
        reasoning_details=False,
        extra_content=False,
        # thinking is enabled but reasoning_content is missing in assistant tool call message (2026)
        reasoning_required=True,
        thinks_by_default=True,
        efforts=_ON_OR_OFF,
        # tool_choice 'required' is incompatible with thinking enabled (2026-08)
        tool_choices_thinking=frozenset({"auto", "none", "named"}),
        max_tokens_field="max_completion_tokens",
        # invalid temperature: only 1 is allowed for this model (2026-08)
        refused=_SAMPLING,
        parallel_tool_calls=False,
        # Images by URL are not fetched: base64, or its own ms:// (documentation, 2026-08).
        image_urls=False,
        # response_format.json_schema is not a valid moonshot flavored json schema (2026-08)
        schema_rules=SchemaRules(
            dropped=frozenset({"$schema", "$id"}),
            type_lists="any_of",
            types_required=True,
            bare_refs=True,
            object_root=True,
        ),
        forwarded=frozenset({"prompt_cache_key"}),
        models=(
            ModelFacts(
                "kimi-k3*",
                {"efforts": named_efforts(none="low", low="low", high="high", max="max")},
            ),
        ),
    ),
    _dialect(
        "zai",
        "api.z.ai",
        "open.bigmodel.cn",
        reasoning_field="reasoning_content",
        reasoning_details=False,
        extra_content=False,
        thinks_by_default=True,
        # It wants a string beside calls (recorded requests, 2026).
        content_beside_calls="empty",
        efforts={
            "none": _THINKING_OFF,
            # Without it the server drops the reasoning of earlier turns (documentation, 2026-08).
            "high": {"thinking": {"type": "enabled", "clear_thinking": False}},
        },
        # Only auto is documented (2026-08).
        tool_choices=_AUTO_ONLY,
        parallel_tool_calls=False,
        refused=_PENALTIES,
        response_formats=frozenset({"json_object"}),
    ),
    _dialect(
        "dashscope",
        ".aliyuncs.com",
        # Reasoning of earlier turns is read only with preserve_thinking (documentation, 2026-08).
        reasoning_replay="drop",
        reasoning_details=False,
        extra_content=False,
        # The template takes a system message only first (reports, 2026).
        system_messages="demote_later",
        content_beside_calls="empty",
        efforts={
            "none": {"enable_thinking": False},
            "minimal": {"enable_thinking": True, "thinking_budget": 1024},
            "low": {"enable_thinking": True, "thinking_budget": 4096},
            "medium": {"enable_thinking": True, "thinking_budget": 16384},
            "high": {"enable_thinking": True, "thinking_budget": 32768},
            "max": {"enable_thinking": True},
        },
        # parameter.enable_thinking must be set to false for non-streaming calls (2026)
        thinks_only_streaming=True,
        # The tool_choice parameter does not support being set to required or object … (2026)
        tool_choices=frozenset({"auto", "none", "named"}),
        tool_choices_thinking=_AUTO_OR_NONE,
    ),
    _dialect(
        "minimax",
        ".minimax.io",
        ".minimaxi.com",
        # Only the M3 models see (documentation, 2026-08).
        images=False,
        # invalid params, chat content has invalid message role: system (2013)
        system_messages="demote_later",
        content_beside_calls="empty",
        # Chunks may repeat the text from its beginning (clients' code, 2026).
        cumulative=True,
        # A closing tag was seen left over in the text (M3, reports, 2026).
        think_tags=Tags(stray_close=True),
        # Without it the reasoning stands in the text, between tags (documentation, 2026-08).
        extra={"reasoning_split": True},
        extra_content=False,
        thinks_by_default=True,
        max_tokens_field="max_completion_tokens",
        tool_choices=_AUTO_OR_NONE,
        parallel_tool_calls=False,
        response_formats=frozenset(),
        models=(
            ModelFacts(
                "minimax-m3*",
                {
                    "images": True,
                    "efforts": {"none": _THINKING_OFF, "high": {"thinking": {"type": "adaptive"}}},
                    "response_formats": frozenset({"json_object", "json_schema"}),
                },
            ),
        ),
    ),
    _dialect(
        "groq",
        "api.groq.com",
        developer_role=True,
        # property 'reasoning_content' is unsupported, did you mean 'reasoning'? (2026); some models
        # refuse `reasoning` too.
        reasoning_replay="drop",
        reasoning_details=False,
        extra_content=False,
        max_tokens_field="max_completion_tokens",
        # json mode cannot be combined with tool/function calling (2026)
        response_format_with_tools=False,
        refused=frozenset({"logprobs"}),
        models=(
            ModelFacts(
                "*gpt-oss*",
                {
                    "efforts": _LOW_TO_HIGH,
                    "strict_functions": True,
                    "reasoning_replay": "as_it_came",
                    "reasoning_field": "reasoning",
                },
            ),
            ModelFacts("*qwen*", {"efforts": named_efforts(none="none", high="default")}),
        ),
    ),
    _dialect(
        "mistral",
        "api.mistral.ai",
        # reasoning_content → 422 extra_forbidden (recorded, 2026)
        reasoning_replay="drop",
        reasoning_details=False,
        extra_content=False,
        system_messages="merge_leading",
        content_beside_calls="empty",
        # Unexpected role 'user' after role 'tool' (3230)
        answer_between_tool_and_user=True,
        # Tool call id was call_abc but must be a-z, A-Z, 0-9, with a length of 9. (3280)
        call_ids="nine_alphanumerics",
        efforts=named_efforts(none="none", high="high"),
        required_word="any",
        # Usage comes unasked; the field is unknown (recorded, 2026).
        stream_usage=False,
        renamed={"seed": "random_seed"},
        # Logprobs are not enabled for this model (3051)
        refused=frozenset({"logprobs"}),
        schema_rules=SchemaRules(dropped=frozenset({"$schema", "$id"})),
    ),
    _dialect(
        "openrouter",
        "openrouter.ai",
        developer_role=True,
        files=True,
        # Signatures of Claude and Gemini stand in reasoning_details (documentation, 2026-08).
        efforts={
            level: {"reasoning": {"effort": "xhigh" if level == "max" else level}}
            for level in EFFORT_LEVELS
        },
        strict_functions=True,
        forwarded=frozenset({"verbosity", "user"}),
    ),
    _dialect(
        "together",
        "api.together.xyz",
        "api.together.ai",
        # R1 and its kin put the reasoning between tags (recorded, 2025).
        think_tags=Tags(),
        reasoning_replay="drop",
        reasoning_details=False,
        extra_content=False,
        system_messages="merge_leading",
        content_beside_calls="empty",
        efforts={
            "none": {"reasoning": {"enabled": False}},
            "high": {"reasoning": {"enabled": True}},
        },
        parallel_tool_calls=False,
        models=(ModelFacts("*gpt-oss*", {"efforts": _LOW_TO_HIGH}),),
    ),
    _dialect(
        "xai",
        "api.x.ai",
        developer_role=True,
        reasoning_field="reasoning_content",
        reasoning_details=False,
        extra_content=False,
        max_tokens_field="max_completion_tokens",
        # Argument not supported on this model: presencePenalty (2026)
        refused=_PENALTIES,
        strict_functions=True,
        response_formats=frozenset({"json_schema"}),
        models=(
            # Model X does not support parameter reasoningEffort.: only these do (2026).
            ModelFacts("grok-3-mini*", {"efforts": named_efforts(low="low", high="high")}),
            ModelFacts("grok-4.*", {"efforts": named_efforts(low="low", high="high")}),
        ),
    ),
    _dialect(
        "gemini",
        "generativelanguage.googleapis.com",
        # Thoughts that are asked for stand between tags (report, 2026).
        think_tags=Tags((("<thought>", "</thought>"),)),
        reasoning_replay="drop",
        reasoning_details=False,
        # Function call is missing a thought_signature in functionCall parts. (2026); the value that
        # skips the check is documented (2026-08).
        extra_content_required={
            "google": {"thought_signature": "skip_thought_signature_validator"}
        },
        thinks_by_default=True,
        efforts=named_efforts(
            none="none", minimal="minimal", low="low", medium="medium", high="high"
        ),
        parallel_tool_calls=False,
        response_formats=frozenset({"json_schema"}),
        # Function calling with a response mime type: 'application/json' is unsupported
        response_format_with_tools=False,
        # Unknown name "…": Cannot find field.
        schema_rules=SchemaRules(
            dropped=frozenset({"$schema", "$id", "additionalProperties", "const", "default"}),
            type_lists="nullable",
            types_required=True,
        ),
        models=(
            # Thinking of the 3 models cannot be switched off (documentation, 2026-08).
            ModelFacts(
                "*gemini-3*",
                {
                    "efforts": named_efforts(
                        minimal="minimal", low="low", medium="medium", high="high"
                    )
                },
            ),
        ),
    ),
    _dialect(
        "cerebras",
        "api.cerebras.ai",
        reasoning_replay="drop",
        reasoning_details=False,
        extra_content=False,
        system_messages="merge_leading",
        images=False,
        max_tokens_field="max_completion_tokens",
        # Usage comes unasked with the finish (recorded, 2026).
        stream_usage=False,
        models=(ModelFacts("*gpt-oss*", {"efforts": _LOW_TO_HIGH}),),
    ),
    # --- servers that people run themselves: no host tells them apart ---------------------------
    _dialect(
        "vllm",
        # System message must be at the beginning. (templates, 2026-09)
        system_messages="merge_leading",
        efforts={
            "none": {"reasoning_effort": "none", **_TEMPLATE_OFF},
            **{level: {"reasoning_effort": level, **_TEMPLATE_ON} for level in EFFORT_LEVELS[1:]},
        },
        models=(ModelFacts("*gpt-oss*", {"efforts": _LOW_TO_HIGH}),),
    ),
    _dialect(
        "sglang",
        system_messages="merge_leading",
        content_beside_calls="empty",
        reasoning_field="reasoning_content",
        reasoning_details=False,
        efforts={"none": _TEMPLATE_OFF, "high": _TEMPLATE_ON},
        models=(
            ModelFacts("*gpt-oss*", {"efforts": _LOW_TO_HIGH}),
            # Its V4 template takes two efforts and drops the others (source, 2026-09).
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
    _dialect(
        "llama_cpp",
        reasoning_field="reasoning_content",
        reasoning_details=False,
        # Cannot pass both content and thinking in an assistant message with tool calls! (2026-08)
        reasoning_not_beside_text_and_calls=True,
        system_messages="merge_leading",
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
        ),
    ),
    _dialect(
        "ollama",
        reasoning_field="reasoning",
        reasoning_details=False,
        content_beside_calls="empty",
        efforts=_ALL_LEVELS,
        # Read and ignored (source, 2026-09).
        tool_choices=_NO_CHOICE,
        parallel_tool_calls=False,
        # invalid image input: it takes base64 only (source, 2026-09)
        image_urls=False,
    ),
    _dialect(
        "lm_studio",
        # Without its setting the reasoning stands between tags (reports, 2026).
        think_tags=Tags(),
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
        models=(ModelFacts("*gpt-oss*", {"efforts": _LOW_TO_HIGH}),),
    ),
    _dialect(
        "tgi",
        think_tags=Tags(),
        reasoning_replay="drop",
        reasoning_details=False,
        extra_content=False,
        system_messages="demote_later",
        content_beside_calls="empty",
        parallel_tool_calls=False,
        # It has schemas under a shape of its own (source, 2026).
        response_formats=frozenset(),
        schema_rules=SchemaRules(dropped=frozenset({"$schema", "$id"})),
    ),
)

DIALECTS: Mapping[str, Dialect] = {dialect.name: dialect for dialect in _DIALECTS}
"""Every known dialect by its name."""


def known_host(host: str) -> str:
    """The name of the dialect that is spoken at a host; "base" when the host is not known."""
    host = "." + host.lower().removeprefix(".")
    for dialect in _DIALECTS:
        if any(host.endswith("." + known.removeprefix(".")) for known in dialect.hosts):
            return dialect.name
    return BASE.name
