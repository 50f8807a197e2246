"""Dialects of the APIs that model makers run for their own models.

A comment gives the source of the facts below it: the upstream's error message, its documentation or
its source code, and when it was read. The fixtures under a dialect's name show its exchanges.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from translator.common.schemas import SchemaRules

from .base import ALL_LEVELS, UP_TO_XHIGH, derived
from .dialect import EFFORT_LEVELS, ChoiceKind, Efforts, ModelFacts, named_efforts
from .think_tags import Tags

_THINKING_OFF: Mapping[str, Any] = {"thinking": {"type": "disabled"}}
_THINKING_ON: Mapping[str, Any] = {"thinking": {"type": "enabled"}}
_THINKING_KEPT: Mapping[str, Any] = {"thinking": {"type": "enabled", "clear_thinking": False}}
_ON_OR_OFF: Efforts = {
    "none": _THINKING_OFF,
    **dict.fromkeys(EFFORT_LEVELS[1:], _THINKING_ON),
}

_THINKING_OF_ALL_TURNS: Mapping[str, Any] = {"thinking": {"type": "enabled", "keep": "all"}}

_AUTO_ONLY: frozenset[ChoiceKind] = frozenset({"auto"})
_AUTO_OR_NONE: frozenset[ChoiceKind] = frozenset({"auto", "none"})
_SAMPLING = frozenset({"temperature", "top_p", "presence_penalty", "frequency_penalty"})
_PENALTIES = frozenset({"presence_penalty", "frequency_penalty"})

_LOW_MEDIUM_HIGH = named_efforts(low="low", medium="medium", high="high")
_KIMI_K3: Mapping[str, Any] = {
    "efforts": named_efforts(low="low", high="high", max="max"),
    "tool_choices_thinking": frozenset({"auto", "none", "required"}),
}

VENDORS = (
    derived(
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
        efforts=UP_TO_XHIGH,
        strict_functions=True,
        forwarded=frozenset(
            {"verbosity", "service_tier", "prompt_cache_key", "safety_identifier", "user"}
        ),
    ),
    derived(
        "deepseek",
        "api.deepseek.com",
        # The only field that its documentation names (2026-08).
        reasoning_field="reasoning_content",
        reasoning_details=False,
        extra_content=False,
        # The `reasoning_content` in the thinking mode must be passed back to the API. (2026-08)
        reasoning_required=True,
        thinks_by_default=True,
        # Accepted requests have "" beside calls (recorded, 2026).
        content_beside_calls="empty",
        # unknown variant `image_url`, expected `text` (2026-08)
        images=False,
        # A switch with three efforts (documentation, 2026-08).
        efforts={
            "none": _THINKING_OFF,
            "low": {**_THINKING_ON, "reasoning_effort": "low"},
            "high": {**_THINKING_ON, "reasoning_effort": "high"},
            "max": {**_THINKING_ON, "reasoning_effort": "max"},
        },
        # Thinking mode does not support this tool_choice (2026-08)
        tool_choices_thinking=_AUTO_OR_NONE,
        # The field is ignored; JSON mode has no schema (documentation, 2026-08).
        parallel_tool_calls=False,
        response_formats=frozenset({"json_object"}),
    ),
    derived(
        "moonshot",
        "api.moonshot.ai",
        "api.moonshot.cn",
        "api.kimi.com",
        # thinking is enabled but reasoning_content is missing in assistant tool call message (2026)
        reasoning_field="reasoning_content",
        reasoning_details=False,
        extra_content=False,
        reasoning_required=True,
        # A switch, on by default; the newer name of the token limit (documentation, 2026-08).
        thinks_by_default=True,
        efforts=_ON_OR_OFF,
        max_tokens_field="max_completion_tokens",
        # It knows the cache key, but not parallel_tool_calls (documentation, 2026-08).
        parallel_tool_calls=False,
        forwarded=frozenset({"prompt_cache_key"}),
        # tool_choice 'required' is incompatible with thinking enabled (2026-08)
        tool_choices_thinking=frozenset({"auto", "none", "named"}),
        # invalid temperature: only 1 is allowed for this model (2026-08)
        refused=_SAMPLING,
        # It fetches no images: base64 or its own ms:// only (documentation, 2026-08).
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
            # It always thinks; only the effort can be set (documentation, 2026-08).
            ModelFacts("kimi-k3*", {**_KIMI_K3}),
            # Its ids at api.kimi.com, k3 and k3-256k (CodexPlusPlus#1909, 2026-11).
            ModelFacts("k3*", {**_KIMI_K3}),
            # invalid thinking: only type=enabled is allowed for this model (opencode-kimi-full#11,
            # 2026-11)
            ModelFacts("*kimi-k2.7*", {"efforts": {"high": _THINKING_OF_ALL_TURNS}}),
            # With keep its template reads the reasoning of earlier turns (documentation, 2026-11).
            ModelFacts(
                "*kimi-k2.6*",
                {
                    "efforts": {
                        "none": _THINKING_OFF,
                        **dict.fromkeys(EFFORT_LEVELS[1:], _THINKING_OF_ALL_TURNS),
                    }
                },
            ),
        ),
    ),
    derived(
        "zai",
        "api.z.ai",
        "open.bigmodel.cn",
        # This field in messages; a switch, on by default (documentation, 2026-08).
        reasoning_field="reasoning_content",
        reasoning_details=False,
        extra_content=False,
        thinks_by_default=True,
        # It requires a string beside calls (recorded, 2026).
        content_beside_calls="empty",
        # With clear_thinking it drops the reasoning of earlier turns (documentation, 2026-08).
        efforts={"none": _THINKING_OFF, "high": _THINKING_KEPT},
        # Only auto, no penalties, JSON mode without a schema (documentation, 2026-08).
        tool_choices=_AUTO_ONLY,
        parallel_tool_calls=False,
        refused=_PENALTIES,
        response_formats=frozenset({"json_object"}),
        models=(
            # From 5.2 on the switch has efforts (documentation, 2026-09).
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
    derived(
        "dashscope",
        ".aliyuncs.com",
        # Reasoning of earlier turns is read only with preserve_thinking (documentation, 2026-08).
        reasoning_replay="drop",
        reasoning_details=False,
        extra_content=False,
        # The template accepts a system message only first (reports, 2026).
        system_messages="demote_later",
        # Accepted requests have "" beside calls (recorded, 2026).
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
        models=(
            # It has efforts instead of a budget (VulcanBench#35, 2026-11).
            ModelFacts(
                "*qwen3.8*",
                {
                    "efforts": {
                        "none": {"enable_thinking": False},
                        **{
                            level: {"enable_thinking": True, "reasoning_effort": level}
                            for level in ("low", "medium", "xhigh")
                        },
                    }
                },
            ),
        ),
    ),
    derived(
        "minimax",
        ".minimax.io",
        ".minimaxi.com",
        # Only the M3 models accept images (documentation, 2026-08).
        images=False,
        # invalid params, chat content has invalid message role: system (2013; reports, 2026)
        system_messages="demote_later",
        # It requires a string beside calls (clients' code, 2026).
        content_beside_calls="empty",
        # Chunks may repeat the whole text so far (clients' code, 2026).
        cumulative=True,
        # A stray closing tag in the text was seen (M3), and reasoning between calls (M2; reports,
        # 2026).
        think_tags=Tags(stray_close=True, interleaved=True),
        # Without it the text contains the reasoning, between tags (documentation, 2026-08).
        extra={"reasoning_split": True},
        # M2 always thinks, and has neither forced calls nor structured output (its OpenAPI file,
        # 2026-08).
        extra_content=False,
        thinks_by_default=True,
        max_tokens_field="max_completion_tokens",
        tool_choices=_AUTO_OR_NONE,
        parallel_tool_calls=False,
        response_formats=frozenset(),
        models=(
            # It accepts images, has a switch and structured output (documentation, 2026-08).
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
    derived(
        "mistral",
        "api.mistral.ai",
        # reasoning_content → 422 extra_forbidden (recorded, 2026)
        reasoning_replay="drop",
        reasoning_details=False,
        extra_content=False,
        # Accepted requests have "" beside calls (recorded, 2026).
        content_beside_calls="empty",
        # Unexpected role 'user' after role 'tool' (3230; reports, 2026)
        answer_between_tool_and_user=True,
        # Expected last role User or Tool (or Assistant with prefix True) (3230; reports, 2026)
        assistant_last=False,
        # Tool call id was call_abc but must be a-z, A-Z, 0-9, with a length of 9. (3280; 2026)
        call_ids="nine_alphanumerics",
        # Usage is always sent; the field is unknown (recorded, 2026).
        stream_usage=False,
        # Logprobs are not enabled for this model (3051; recorded, 2026)
        refused=frozenset({"logprobs"}),
        # One leading system message, its own names (API reference, 2026-08).
        system_messages="merge_leading",
        required_word="any",
        renamed={"seed": "random_seed"},
        # Clients strip these from schemas for it (their code, 2026).
        schema_rules=SchemaRules(dropped=frozenset({"$schema", "$id"})),
        models=(
            # Two efforts (API reference, 2026-08); not for Large and Codestral (models.dev#1986,
            # 2026-11).
            *(
                ModelFacts(pattern, {"efforts": named_efforts(none="none", high="high")})
                for pattern in (
                    "*small-2603*",
                    "*small-latest*",
                    "*medium-2604*",
                    "*medium-3.5*",
                    "*medium-3-5*",
                    "*medium-latest*",
                    "*magistral*",
                )
            ),
        ),
    ),
    derived(
        "xai",
        "api.x.ai",
        # This field in accepted requests (recorded, 2026).
        reasoning_field="reasoning_content",
        reasoning_details=False,
        extra_content=False,
        # Argument not supported on this model: presencePenalty (2026)
        refused=_PENALTIES,
        # Any role in any order; structured output by schema only (API reference, 2026-08).
        developer_role=True,
        max_tokens_field="max_completion_tokens",
        strict_functions=True,
        response_formats=frozenset({"json_schema"}),
        models=(
            # Model X does not support parameter reasoningEffort. Only these do (2026); 4.5 has
            # three efforts, and 4.6 four (reports, 2026-11).
            ModelFacts("grok-3-mini*", {"efforts": named_efforts(low="low", high="high")}),
            ModelFacts("grok-4.5*", {"efforts": _LOW_MEDIUM_HIGH}),
            ModelFacts(
                "grok-4.6*", {"efforts": {**_LOW_MEDIUM_HIGH, **named_efforts(xhigh="xhigh")}}
            ),
            ModelFacts("grok-4.*", {"efforts": named_efforts(low="low", high="high")}),
        ),
    ),
    derived(
        "gemini",
        "generativelanguage.googleapis.com",
        "aiplatform.googleapis.com",
        "-aiplatform.googleapis.com",
        # Requested thoughts are between tags (report, 2026).
        think_tags=Tags((("<thought>", "</thought>"),)),
        # Only the signatures of calls are sent back (documentation, 2026-08).
        reasoning_replay="drop",
        reasoning_details=False,
        # Function call is missing a thought_signature in functionCall parts. (2026); the value that
        # skips the check is documented (2026-08).
        extra_content_required={
            "google": {"thought_signature": "skip_thought_signature_validator"}
        },
        # Efforts, and structured output by schema (documentation of the compatible API, 2026-08).
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
    derived(
        "mimo",
        ".xiaomimimo.com",
        # The `reasoning_content` in the thinking mode must be passed back to the API.
        # (documentation; MiMo#44, GCMP#171, 2026-05)
        reasoning_field="reasoning_content",
        reasoning_details=False,
        extra_content=False,
        reasoning_required=True,
        # A switch without levels, on by default (OpenViking#2477, Codewhale#2240, 2026).
        thinks_by_default=True,
        efforts=_ON_OR_OFF,
        # The name of the limit in its documentation (lobehub#13123, 2026).
        max_tokens_field="max_completion_tokens",
        # `text` is not set: a null content beside calls is refused (MiMo-V2-Flash#8, 2026).
        content_beside_calls="empty",
        # JSON mode has no schema (a client's documentation, 2026).
        response_formats=frozenset({"json_object"}),
        models=(
            # It ignores images without a word (picoclaw#2915, 2026).
            ModelFacts("*-pro*", {"images": False}),
            ModelFacts("*-flash*", {"images": False}),
        ),
    ),
    derived(
        "volcengine",
        ".volces.com",
        ".bytepluses.com",
        # This field in messages; omitted, the effort is high; minimal does not think
        # (aiden-firmware#476, 2026-11).
        reasoning_field="reasoning_content",
        reasoning_details=False,
        extra_content=False,
        thinks_by_default=True,
        efforts=named_efforts(
            none="minimal", minimal="minimal", low="low", medium="medium", high="high"
        ),
        # Without a limit an answer ends after 4,096 tokens (fastgpt-plugin#381, 2026-11).
        default_output_tokens=32768,
        models=(
            # Newer ids take all levels, and one of them two (dify-official-plugins#3771, 2026-11).
            ModelFacts("*2-0-mini-260428*", {"efforts": ALL_LEVELS}),
            ModelFacts(
                "*character-260628*",
                {"efforts": named_efforts(none="none", minimal="minimal")},
            ),
            # Models of others have the switch alone (documentation, 2026-11).
            ModelFacts("*deepseek*", {"efforts": _ON_OR_OFF}),
            ModelFacts("*kimi*", {"efforts": _ON_OR_OFF}),
            ModelFacts("*glm*", {"efforts": _ON_OR_OFF}),
        ),
    ),
)
