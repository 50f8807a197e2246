"""Usage of an answer, from any of the forms in which upstreams count tokens.

Some count a part of the tokens beside the others instead of among them: reasoning beside the
completion, cached tokens beside the prompt. Where the total shows that, no dialect has to say it.
"""

from __future__ import annotations

from typing import Any

from translator.wire.deltas import Usage
from translator.wire.json_values import as_object


def read_usage(
    usage: dict[str, Any], timings: dict[str, Any] | None, *, prompt_excludes_cached: bool
) -> Usage:
    """Usage from any of its forms; counts that are missing or senseless become 0.

    `timings` are llama.cpp's. `prompt_excludes_cached`: cached tokens are counted beside those of
    the prompt, even where the total does not show it.
    """
    prompt = as_object(usage.get("prompt_tokens_details")) or {}
    input_tokens = read_count(usage.get("prompt_tokens"))
    output_tokens = read_count(usage.get("completion_tokens"))
    cached = _first_count(
        prompt.get("cached_tokens"),
        usage.get("prompt_cache_hit_tokens"),  # DeepSeek
        usage.get("cached_tokens"),  # Moonshot, Together
        usage.get("cache_read_input_tokens"),
        usage.get("num_cached_tokens"),  # Mistral
        (timings or {}).get("cache_n"),  # llama.cpp
    )
    written = _first_count(
        prompt.get("cache_write_tokens"), usage.get("cache_creation_input_tokens")
    )
    reasoning = _reasoning(usage)
    beside = read_count(usage.get("total_tokens")) - input_tokens - output_tokens
    if reasoning and beside in (reasoning, reasoning + cached):
        output_tokens += reasoning  # xAI counts the reasoning beside the completion
        beside -= reasoning
    if prompt_excludes_cached or (cached and beside == cached):
        input_tokens += cached
    return Usage(
        input_tokens,
        min(cached, input_tokens),
        min(written, input_tokens),
        output_tokens,
        min(reasoning, output_tokens),
    )


def stated_output(usage: dict[str, Any], read: Usage) -> int | None:
    """The tokens of the answer, hidden reasoning among them; None where the usage has no number."""
    stated = usage.get("completion_tokens")
    if not read_count(stated) and stated not in (0, "0"):
        return None
    return max(read.output_tokens, _reasoning(usage))


def _reasoning(usage: dict[str, Any]) -> int:
    completion = as_object(usage.get("completion_tokens_details")) or {}
    return _first_count(completion.get("reasoning_tokens"), usage.get("reasoning_tokens"))


def _first_count(*values: object) -> int:
    return next((read_count(value) for value in values if value is not None), 0)


def read_count(value: object) -> int:
    """A number of tokens: floats and digits in a string count too, anything else is 0."""
    match value:
        case bool():
            return 0
        case int():
            return max(0, value)
        case float() if value == value and abs(value) < 1e18:
            return max(0, int(value))
        case str() if value.isascii() and value.isdigit() and len(value) < 19:
            return int(value)
        case _:
            return 0
