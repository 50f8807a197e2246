"""Dialects of clouds and routers, which host the models of others.

A comment gives the source of the facts below it, as in `vendors`.
"""

from __future__ import annotations

from .base import LOW_TO_HIGH, UP_TO_XHIGH, derived
from .dialect import EFFORT_LEVELS, ModelFacts, named_efforts
from .think_tags import Tags

CLOUDS = (
    derived(
        "azure",
        ".openai.azure.com",
        ".services.ai.azure.com",
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
        # gpt-oss cannot stop thinking (documentation, 2026-08).
        models=(ModelFacts("*gpt-oss*", {"efforts": LOW_TO_HIGH}),),
    ),
)
