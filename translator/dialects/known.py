"""The known dialects, as data.

Every one is BASE with the facts replaced that were observed to differ. A comment says where the
facts below it come from: the upstream's own words of refusal, its documentation or its source, with
the time when that was read. What it sends, and what is sent to it, is in the fixtures under its
name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from translator.common.schemas import SchemaRules

from .dialect import EFFORT_LEVELS, ChoiceKind, Dialect, Efforts, ModelFacts, named_efforts
from .think_tags import Tags

BASE = Dialect(name="base")
"""The tolerant base: reads everything, sends only what every upstream takes."""

_THINKING_OFF: Mapping[str, Any] = {"thinking": {"type": "disabled"}}
_THINKING_ON: Mapping[str, Any] = {"thinking": {"type": "enabled"}}
_THINKING_KEPT: Mapping[str, Any] = {"thinking": {"type": "enabled", "clear_thinking": False}}
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
# System message must be at the beginning. (Qwen's own template, 2026-09)
_QWEN_TEMPLATE = ModelFacts("*qwen*", {"system_messages": "demote_later"})

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
        # Its chat messages have no field for reasoning (API reference, 2026-09).
        reasoning_replay="drop",
        reasoning_details=False,
        extra_content=False,
        # Unsupported parameter: 'max_tokens' … Use 'max_completion_tokens' instead. (2026)
        max_tokens_field="max_completion_tokens",
        # Its request has all of these (API reference, 2026-09).
        developer_role=True,
        files=True,
        efforts=named_efforts(**{level: level for level in EFFORT_LEVELS if level != "max"}),
        strict_functions=True,
        forwarded=frozenset(
            {"verbosity", "service_tier", "prompt_cache_key", "safety_identifier", "user"}
        ),
    ),
    _dialect(
        "azure",
        ".openai.azure.com",
        ".services.ai.azure.com",
        # Unknown parameter (2026-09): every key that its API version does not list is refused.
        reasoning_replay="drop",
        reasoning_details=False,
        extra_content=False,
        # Its newer API versions have these of OpenAI's (documentation, 2026-09).
        developer_role=True,
        files=True,
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
        # Some deployments leave the tags in the text; Kimi and MiniMax think between calls, too
        # (reports, 2025).
        think_tags=Tags(interleaved=True),
        # The templates of Qwen and MiniMax fail on a second system message (reports, 2026).
        system_messages="merge_leading",
        # Structured output is a grammar over the whole answer (client tables, 2026-08).
        response_format_with_tools=False,
        # The types of its SDK, and what its models do by default (documentation, 2026-09).
        efforts=named_efforts(none="none", minimal="low", low="low", medium="medium", high="high"),
        thinks_by_default=True,
        forwarded=frozenset({"prompt_cache_key", "user"}),
        models=(
            # Invalid reasoning effort: none (2026-09)
            ModelFacts("*gpt-oss*", {"efforts": _LOW_TO_HIGH}),
            ModelFacts("*minimax*", {"efforts": _LOW_TO_HIGH, "system_messages": "demote_later"}),
            # As above: its template takes one system message (reports, 2026).
            ModelFacts("*qwen*", {"system_messages": "demote_later"}),
            # V4 knows two efforts there (clients' tables, 2026-08).
            ModelFacts(
                "*deepseek*",
                {"efforts": named_efforts(none="none", low="high", high="high", max="max")},
            ),
        ),
    ),
    _dialect(
        "deepseek",
        "api.deepseek.com",
        # The field of its documentation, which takes no other (2026-08).
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
        # Three efforts beside the switch (documentation, 2026-08).
        efforts={
            "none": _THINKING_OFF,
            "low": {**_THINKING_ON, "reasoning_effort": "low"},
            "high": {**_THINKING_ON, "reasoning_effort": "high"},
            "max": {**_THINKING_ON, "reasoning_effort": "max"},
        },
        # Thinking mode does not support this tool_choice (2026-08)
        tool_choices_thinking=_AUTO_OR_NONE,
        # Ignored there, and JSON mode without a schema (documentation, 2026-08).
        parallel_tool_calls=False,
        response_formats=frozenset({"json_object"}),
    ),
    _dialect(
        "moonshot",
        "api.moonshot.ai",
        "api.moonshot.cn",
        "api.kimi.com",
        # thinking is enabled but reasoning_content is missing in assistant tool call message (2026)
        reasoning_field="reasoning_content",
        reasoning_details=False,
        extra_content=False,
        reasoning_required=True,
        # A switch, on by default; the newer name of the limit (documentation, 2026-08).
        thinks_by_default=True,
        efforts=_ON_OR_OFF,
        max_tokens_field="max_completion_tokens",
        # It does not know parallel_tool_calls; the cache key it does (documentation, 2026-08).
        parallel_tool_calls=False,
        forwarded=frozenset({"prompt_cache_key"}),
        # tool_choice 'required' is incompatible with thinking enabled (2026-08)
        tool_choices_thinking=frozenset({"auto", "none", "named"}),
        # invalid temperature: only 1 is allowed for this model (2026-08)
        refused=_SAMPLING,
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
        models=(
            # It thinks always, more or less (documentation, 2026-08).
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
        # Reasoning goes back under this name; a switch, on by default (documentation, 2026-08).
        reasoning_field="reasoning_content",
        reasoning_details=False,
        extra_content=False,
        thinks_by_default=True,
        # It wants a string beside calls (recorded requests, 2026).
        content_beside_calls="empty",
        # With clear_thinking it drops the reasoning of earlier turns (documentation, 2026-08).
        efforts={"none": _THINKING_OFF, "high": _THINKING_KEPT},
        # Only auto, no penalties, JSON mode without a schema (documentation, 2026-08).
        tool_choices=_AUTO_ONLY,
        parallel_tool_calls=False,
        refused=_PENALTIES,
        response_formats=frozenset({"json_object"}),
        models=(
            # From 5.2 on there are efforts beside the switch (documentation, 2026-09).
            ModelFacts(
                "glm-5.[2-9]*",
                {
                    "efforts": {
                        "none": _THINKING_OFF,
                        "low": {**_THINKING_KEPT, "reasoning_effort": "low"},
                        "high": {**_THINKING_KEPT, "reasoning_effort": "high"},
                        "max": {**_THINKING_KEPT, "reasoning_effort": "max"},
                    }
                },
            ),
        ),
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
        # Recorded requests that were accepted have "" beside calls (2026).
        content_beside_calls="empty",
        # A switch, and a budget in tokens (documentation, 2026-08).
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
        # invalid params, chat content has invalid message role: system (2013; reports, 2026)
        system_messages="demote_later",
        # It wants a string beside calls (clients' code, 2026).
        content_beside_calls="empty",
        # Chunks may repeat the text from its beginning (clients' code, 2026).
        cumulative=True,
        # A closing tag was seen left over in the text (M3), and several blocks of reasoning with
        # calls between (M2; reports, 2026).
        think_tags=Tags(stray_close=True, interleaved=True),
        # Without it the reasoning stands in the text, between tags (documentation, 2026-08).
        extra={"reasoning_split": True},
        # M2 always thinks, calls at will, and has no structured output (its OpenAPI file, 2026-08).
        extra_content=False,
        thinks_by_default=True,
        max_tokens_field="max_completion_tokens",
        tool_choices=_AUTO_OR_NONE,
        parallel_tool_calls=False,
        response_formats=frozenset(),
        models=(
            # It sees, can stop thinking, and has structured output (documentation, 2026-08).
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
        # property 'reasoning_content' is unsupported, did you mean 'reasoning'? (2026); some models
        # refuse `reasoning` too.
        reasoning_replay="drop",
        reasoning_details=False,
        extra_content=False,
        # json mode cannot be combined with tool/function calling (2026)
        response_format_with_tools=False,
        # The role is taken, the older name of the limit is not for long, log probabilities are not
        # (API reference, 2026-08).
        developer_role=True,
        max_tokens_field="max_completion_tokens",
        refused=frozenset({"logprobs"}),
        models=(
            # Efforts by model, and `reasoning` back (API reference, 2026-08).
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
        # Recorded requests that were accepted have "" beside calls (2026).
        content_beside_calls="empty",
        # Unexpected role 'user' after role 'tool' (3230; reports, 2026)
        answer_between_tool_and_user=True,
        # Tool call id was call_abc but must be a-z, A-Z, 0-9, with a length of 9. (3280; 2026)
        call_ids="nine_alphanumerics",
        # Usage comes unasked; the field is unknown (recorded, 2026).
        stream_usage=False,
        # Logprobs are not enabled for this model (3051; recorded, 2026)
        refused=frozenset({"logprobs"}),
        # One leading system message, two efforts, its own words (API reference, 2026-08).
        system_messages="merge_leading",
        efforts=named_efforts(none="none", high="high"),
        required_word="any",
        renamed={"seed": "random_seed"},
        # Clients strip these from schemas for it (their code, 2026).
        schema_rules=SchemaRules(dropped=frozenset({"$schema", "$id"})),
    ),
    _dialect(
        "openrouter",
        "openrouter.ai",
        # Signatures of Claude and Gemini come and go in reasoning_details, as in the base; the rest
        # it takes for all that it routes to (documentation, 2026-08).
        developer_role=True,
        files=True,
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
        # Reasoning does not go back; a switch, for gpt-oss efforts (documentation, 2026-08).
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
        # Reasoning goes back under this name (recorded requests that were accepted, 2026).
        reasoning_field="reasoning_content",
        reasoning_details=False,
        extra_content=False,
        # Argument not supported on this model: presencePenalty (2026)
        refused=_PENALTIES,
        # Any role in any order, schemas alone (API reference, 2026-08).
        developer_role=True,
        max_tokens_field="max_completion_tokens",
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
        # Its reasoning goes back as the signatures of calls alone (documentation, 2026-08).
        reasoning_replay="drop",
        reasoning_details=False,
        # Function call is missing a thought_signature in functionCall parts. (2026); the value that
        # skips the check is documented (2026-08).
        extra_content_required={
            "google": {"thought_signature": "skip_thought_signature_validator"}
        },
        # Efforts, and schemas of a kind (documentation of the compatible API, 2026-08).
        thinks_by_default=True,
        efforts=named_efforts(
            none="none", minimal="minimal", low="low", medium="medium", high="high"
        ),
        parallel_tool_calls=False,
        response_formats=frozenset({"json_schema"}),
        # Function calling with a response mime type: 'application/json' is unsupported (2026)
        response_format_with_tools=False,
        # Unknown name "…": Cannot find field. (2026)
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
        # property '…' is unsupported (2026): it knows neither more roles nor more fields, and its
        # models do not see (documentation, 2026-08).
        reasoning_replay="drop",
        reasoning_details=False,
        extra_content=False,
        system_messages="merge_leading",
        images=False,
        max_tokens_field="max_completion_tokens",
        # Usage comes unasked with the finish (recorded, 2026).
        stream_usage=False,
        # A context that is too long is an empty 400 or 413 (a client's source, 2026); its smallest
        # context, of 8,192 tokens, holds some 32 KiB of text.
        silent_overflow_bytes=32 * 1024,
        # gpt-oss cannot stop thinking (documentation, 2026-08).
        models=(ModelFacts("*gpt-oss*", {"efforts": _LOW_TO_HIGH}),),
    ),
    # --- servers that people run themselves: no host tells them apart ---------------------------
    _dialect(
        "vllm",
        # System message must be at the beginning. (templates, 2026-09)
        system_messages="merge_leading",
        # It has all names of efforts, and hands the switch to the template (source, 2026-09).
        efforts={
            "none": {"reasoning_effort": "none", **_TEMPLATE_OFF},
            **{level: {"reasoning_effort": level, **_TEMPLATE_ON} for level in EFFORT_LEVELS[1:]},
        },
        models=(ModelFacts("*gpt-oss*", {"efforts": _LOW_TO_HIGH}), _QWEN_TEMPLATE),
    ),
    _dialect(
        "sglang",
        # The same templates; its messages have one field for reasoning, and content is a string
        # (source, 2026-09).
        system_messages="merge_leading",
        content_beside_calls="empty",
        reasoning_field="reasoning_content",
        reasoning_details=False,
        efforts={"none": _TEMPLATE_OFF, "high": _TEMPLATE_ON},
        models=(
            ModelFacts("*gpt-oss*", {"efforts": _LOW_TO_HIGH}),
            _QWEN_TEMPLATE,
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
        # Cannot pass both content and thinking in an assistant message with tool calls! (2026-08)
        reasoning_not_beside_text_and_calls=True,
        # System message must be at the beginning. (templates); one field for reasoning, the switch
        # handed to the template (source, 2026-09).
        reasoning_field="reasoning_content",
        reasoning_details=False,
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
            _QWEN_TEMPLATE,
        ),
    ),
    _dialect(
        "ollama",
        # Its messages have this field, and content is a string; all efforts (source, 2026-09).
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
        models=(ModelFacts("*gpt-oss*", {"efforts": _LOW_TO_HIGH}), _QWEN_TEMPLATE),
    ),
    _dialect(
        "tgi",
        # It splits no reasoning off; its messages are checked by their types (source, 2026).
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
