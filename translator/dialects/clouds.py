"""Dialects of clouds and routers, which host the models of others.

A comment gives the source of the facts below it, as in `vendors`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .base import LOW_TO_HIGH, UP_TO_XHIGH, derived
from .dialect import EFFORT_LEVELS, Efforts, ModelFacts, named_efforts
from .templates import template_facts
from .think_tags import Tags

# Qwen and GLM read the first name of the switch, DeepSeek and Kimi the second (sources of vLLM and
# SGLang, 2026-09).
_TEMPLATE_SWITCH: Efforts = {
    "none": {"chat_template_kwargs": {"enable_thinking": False, "thinking": False}},
    "high": {"chat_template_kwargs": {"enable_thinking": True, "thinking": True}},
}
_BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16384, "max": 24576}
_CLAUDE_AT_DATABRICKS: Mapping[str, Any] = {
    "default_output_tokens": 32768,
    "image_urls": False,
    "tool_choices_thinking": frozenset({"auto", "none"}),
    "efforts": {
        "none": {},
        **{
            level: {"thinking": {"type": "enabled", "budget_tokens": tokens}}
            for level, tokens in _BUDGETS.items()
        },
    },
}

CLOUDS = (
    derived(
        "azure",
        ".openai.azure.com",
        ".services.ai.azure.com",
        ".cognitiveservices.azure.com",
        # Unknown parameter (2026-09): every key that its API version does not list is refused.
        reasoning_replay="drop",
        reasoning_details=False,
        extra_content=False,
        # Its newer API versions have these as OpenAI does (documentation, 2026-09).
        developer_role=True,
        files=True,
        efforts=UP_TO_XHIGH,
        max_tokens_field="max_completion_tokens",
        strict_functions=True,
        forwarded=frozenset({"prompt_cache_key", "user"}),
        # Three efforts; reasoning comes and is wanted back; no cache key (pi#9645, Reasonix#1299,
        # 2026-11).
        models=tuple(
            ModelFacts(
                pattern,
                {
                    "efforts": named_efforts(low="low", medium="medium", high="high"),
                    "reasoning_replay": "as_it_came",
                    "reasoning_field": "reasoning_content",
                    "developer_role": False,
                    "forwarded": frozenset({"user"}),
                },
            )
            for pattern in ("*deepseek*", "*kimi*", "*grok*")
        ),
    ),
    derived(
        "fireworks",
        "api.fireworks.ai",
        # Extra inputs are not permitted, field: 'messages[1].reasoning' (2026-09)
        reasoning_field="reasoning_content",
        reasoning_details=False,
        extra_content=False,
        # Some deployments leave the tags in the text; Kimi and MiniMax also think between calls
        # (reports, 2025).
        think_tags=Tags(interleaved=True),
        # The templates of Qwen and MiniMax fail on a second system message (reports, 2026).
        system_messages="merge_leading",
        # Structured output is a grammar over the whole answer (client tables, 2026-08).
        response_format_with_tools=False,
        # The types of its SDK, and its models' default (documentation, 2026-09).
        efforts=named_efforts(none="none", minimal="low", low="low", medium="medium", high="high"),
        thinks_by_default=True,
        forwarded=frozenset({"prompt_cache_key", "user"}),
        models=(
            # Invalid reasoning effort: none (2026-09)
            ModelFacts("*gpt-oss*", {"efforts": LOW_TO_HIGH}),
            ModelFacts("*minimax*", {"efforts": LOW_TO_HIGH, "system_messages": "demote_later"}),
            # As above: its template accepts one system message (reports, 2026).
            ModelFacts("*qwen*", {"system_messages": "demote_later"}),
            # V4 has two efforts (clients' tables, 2026-08).
            ModelFacts(
                "*deepseek*",
                {"efforts": named_efforts(none="none", low="high", high="high", max="max")},
            ),
        ),
    ),
    derived(
        "groq",
        "api.groq.com",
        # property 'reasoning_content' is unsupported, did you mean 'reasoning'? (2026); some models
        # refuse `reasoning` too.
        reasoning_replay="drop",
        reasoning_details=False,
        extra_content=False,
        # json mode cannot be combined with tool/function calling (2026)
        response_format_with_tools=False,
        # The role is accepted, the older name of the limit is deprecated, log probabilities are
        # refused (API reference, 2026-08).
        developer_role=True,
        max_tokens_field="max_completion_tokens",
        refused=frozenset({"logprobs"}),
        models=(
            # Efforts by model, and `reasoning` in messages (API reference, 2026-08).
            ModelFacts(
                "*gpt-oss*",
                {
                    "efforts": LOW_TO_HIGH,
                    "strict_functions": True,
                    "reasoning_replay": "as_it_came",
                    "reasoning_field": "reasoning",
                },
            ),
            ModelFacts("*qwen*", {"efforts": named_efforts(none="none", high="default")}),
        ),
    ),
    derived(
        "openrouter",
        "openrouter.ai",
        # Signatures of Claude and Gemini are in reasoning_details, as in the base; it accepts the
        # rest for all its routes (documentation, 2026-08).
        developer_role=True,
        files=True,
        efforts={
            level: {"reasoning": {"effort": "xhigh" if level == "max" else level}}
            for level in EFFORT_LEVELS
        },
        strict_functions=True,
        forwarded=frozenset({"verbosity", "user"}),
    ),
    derived(
        "together",
        "api.together.xyz",
        "api.together.ai",
        # R1 and similar models put reasoning between tags (recorded, 2025).
        think_tags=Tags(),
        # No reasoning in messages; a switch, efforts for gpt-oss (documentation, 2026-08).
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
        models=(ModelFacts("*gpt-oss*", {"efforts": LOW_TO_HIGH}),),
    ),
    derived(
        "cerebras",
        "api.cerebras.ai",
        # property '…' is unsupported (2026): it has no other roles or fields, and its models accept
        # no images (documentation, 2026-08).
        reasoning_replay="drop",
        reasoning_details=False,
        extra_content=False,
        system_messages="merge_leading",
        images=False,
        max_tokens_field="max_completion_tokens",
        # Usage is always sent, with the finish reason (recorded, 2026).
        stream_usage=False,
        # It answers a context overflow with an empty 400 or 413 (a client's source, 2026); its
        # smallest context, of 8,192 tokens, holds some 32 KiB of text.
        silent_overflow_bytes=32 * 1024,
        models=(
            # gpt-oss cannot stop thinking (documentation, 2026-08).
            ModelFacts("*gpt-oss*", {"efforts": LOW_TO_HIGH}),
            # Four efforts, and the reasoning of earlier turns in `reasoning`, which it drops by
            # default (documentation, 2026-11).
            ModelFacts(
                "*glm-4.7*",
                {
                    "efforts": named_efforts(none="none", low="low", medium="medium", high="high"),
                    "thinks_by_default": True,
                    "reasoning_replay": "as_it_came",
                    "reasoning_field": "reasoning",
                    "extra": {"clear_thinking": False},
                },
            ),
            # It accepts images (documentation, 2026-11).
            ModelFacts("*gemma-4-31b*", {"images": True}),
        ),
    ),
    derived(
        "cloudflare",
        "api.cloudflare.com",
        "gateway.ai.cloudflare.com",
        # Without a limit an answer ends after 256 tokens; content is a string, so it has no place
        # for images; no named choice; a header for its cache; efforts by model (oh-my-pi#12509,
        # cloudflare-docs#33541, 2026-11).
        default_output_tokens=32768,
        content_beside_calls="empty",
        images=False,
        tool_choices=frozenset({"auto", "none", "required"}),
        session_header="x-session-affinity",
        efforts=named_efforts(low="low", medium="medium", high="high"),
        # Not among the fields of its messages (documentation, 2026-11).
        reasoning_details=False,
        extra_content=False,
        # System message must be at the beginning. (templates, 2026-09)
        system_messages="merge_leading",
        models=(
            # gpt-oss always thinks, GLM-4.7 has a switch, Gemma two levels (oh-my-pi#12509,
            # 2026-11).
            ModelFacts("*gpt-oss*", {"efforts": LOW_TO_HIGH}),
            ModelFacts(
                "*glm-4.7*",
                {
                    "efforts": {
                        "none": {"chat_template_kwargs": {"enable_thinking": False}},
                        "high": {"chat_template_kwargs": {"enable_thinking": True}},
                    }
                },
            ),
            ModelFacts("*gemma*", {"efforts": named_efforts(none="none", high="high")}),
            ModelFacts("*qwen*", {"system_messages": "demote_later"}),
        ),
    ),
    derived(
        "nvidia",
        "integrate.api.nvidia.com",
        # It refuses unknown fields by name, and has one for reasoning (lobehub#12333, 2026-11).
        reasoning_field="reasoning_content",
        reasoning_details=False,
        extra_content=False,
        # The switch is passed to the template (lobehub#12333, 2026-11).
        efforts=_TEMPLATE_SWITCH,
        # Streams may end after a whole call without a finish reason (recorded, 2026).
        lenient_eof=True,
        # Its engines hold the whole answer to a format (sources of vLLM and SGLang, 2026-11).
        response_format_with_tools=False,
        # System message must be at the beginning. (templates, 2026-09)
        system_messages="merge_leading",
        models=(
            ModelFacts("*gpt-oss*", {"efforts": LOW_TO_HIGH}),
            # It thinks only with an effort, of two levels (hermes-agent#19888, 2026-11).
            ModelFacts(
                "*deepseek-v4*",
                {
                    "efforts": {
                        "none": _TEMPLATE_SWITCH["none"],
                        **named_efforts(high="high", max="max"),
                    }
                },
            ),
            *template_facts(),
        ),
    ),
    derived(
        "databricks",
        ".cloud.databricks.com",
        ".azuredatabricks.net",
        ".gcp.databricks.com",
        # Reasoning may be left out of messages, which have no field for it (documentation,
        # 2026-11).
        reasoning_replay="drop",
        reasoning_details=False,
        extra_content=False,
        models=(
            # It always thinks, and refuses a budget (documentation, 2026-11).
            ModelFacts(
                "*claude-opus-5-5*",
                {
                    **_CLAUDE_AT_DATABRICKS,
                    "thinks_by_default": True,
                    "efforts": {"high": {"thinking": {"type": "adaptive"}}},
                },
            ),
            # No effort, but a budget in tokens: from 1,024 on, and below the limit, which is sent
            # for that. Images by data URL only (bifrost#6958; documentation, 2026-11).
            ModelFacts("*claude*", {**_CLAUDE_AT_DATABRICKS}),
            # "none" and "minimal" are rejected (documentation, 2026-11).
            ModelFacts(
                "*gemini-4*",
                {
                    "efforts": named_efforts(low="low", medium="medium", high="high"),
                    "thinks_by_default": True,
                },
            ),
            # Efforts of models that always think (documentation, 2026-11).
            ModelFacts("*gpt-oss*", {"efforts": LOW_TO_HIGH}),
            ModelFacts("*gpt-5*", {"efforts": UP_TO_XHIGH}),
        ),
    ),
    derived(
        "snowflake",
        ".snowflakecomputing.com",
        # The newer name of the limit; the kind of a token goes into `headers` of the settings, as
        # X-Snowflake-Authorization-Token-Type (opencode#29900, goose#5997, 2026-11).
        max_tokens_field="max_completion_tokens",
        # Reasoning is given as details, and taken in no field (recorded; crewAI#6006, 2026-11).
        reasoning_replay="drop",
        reasoning_details=False,
        extra_content=False,
        # A stream ends with the usage, without a finish reason (recorded, 2026).
        lenient_eof=True,
        # The conversation is complete: it must not end with an answer (opencode#29901, 2026-11).
        models=(ModelFacts("*claude*", {"assistant_last": False}),),
    ),
    derived(
        "opencode",
        "opencode.ai",
        # Extra inputs are not permitted, field: 'messages[1].reasoning' (Minnow#433, 2026-11)
        reasoning_field="reasoning_content",
        reasoning_details=False,
        extra_content=False,
        # The templates of the models behind it (reports, 2026).
        system_messages="merge_leading",
        models=(
            # These require their reasoning back (opencode-go-copilot#84, 2026-11).
            *(
                ModelFacts(pattern, {"reasoning_required": True, "thinks_by_default": True})
                for pattern in ("*kimi*", "*deepseek*", "*mimo*")
            ),
            ModelFacts("*qwen*", {"system_messages": "demote_later"}),
            ModelFacts("*minimax*", {"system_messages": "demote_later"}),
        ),
    ),
    derived(
        "sambanova",
        "api.sambanova.ai",
        # Content is a string only (claude-code-router#965, 2026-11).
        content_beside_calls="empty",
        images=False,
        # As its documentation names no field for them (2026-11).
        reasoning_replay="drop",
        reasoning_details=False,
        extra_content=False,
        models=(ModelFacts("*gpt-oss*", {"efforts": LOW_TO_HIGH}),),
    ),
    derived(
        "bedrock_mantle",
        ".api.aws",
        # Reasoning comes as `reasoning`, as in vLLM (recorded, 2026).
        reasoning_field="reasoning",
        reasoning_details=False,
        extra_content=False,
        system_messages="merge_leading",
        models=(
            ModelFacts("*gpt-oss*", {"efforts": LOW_TO_HIGH}),
            ModelFacts("*qwen*", {"system_messages": "demote_later"}),
        ),
    ),
)
