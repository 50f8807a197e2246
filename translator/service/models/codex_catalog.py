"""The Codex catalog: the capabilities of each model, in the form that Codex reads.

    catalog = { "models": [ entry, ... ] }

It is the content of `model_catalog.json` beside a Codex configuration, and the field `models` of
the response to `GET /v1/models`, which Codex reads when its provider has a `model_catalog_url`. For
a model without an entry, Codex shows a warning, offers no `apply_patch` and guesses the context
window. Field names and required fields are those of Codex CLI 0.169 to 0.171.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from translator.dialects import nearest_effort

from .codex_prompt import INSTRUCTIONS
from .info import ModelInfo

DEFAULT_EFFORT = "medium"
"""The default level of reasoning effort; the nearest one where a model does not have it."""

TOOL_OUTPUT_TOKENS = 10_000
"""Limit of a command's output that goes to the model; Codex's own value for its own models."""

_LEVELS = {
    "none": "No reasoning",
    "minimal": "Hardly any reasoning",
    "low": "Fast answers with light reasoning",
    "medium": "Speed and depth in balance",
    "high": "Deep reasoning for hard problems",
    "xhigh": "Deeper reasoning for the hardest problems",
    "max": "As much reasoning as the model can do",
}


class EffortLevel(Struct, frozen=True):
    """A level of reasoning effort that users can choose."""

    effort: str
    description: str


class TruncationPolicy(Struct, frozen=True):
    """The limit to which a tool's output is truncated."""

    limit: int
    mode: Literal["tokens", "bytes"] = "tokens"


class CatalogEntry(Struct, frozen=True, kw_only=True):
    """One model in the catalog. Codex requires the fields without a default."""

    slug: str
    display_name: str
    description: str
    default_reasoning_level: str | UnsetType = UNSET
    supported_reasoning_levels: list[EffortLevel]
    shell_type: str = "unified_exec"
    visibility: str = "list"
    supported_in_api: bool = True
    priority: int
    """Position in the list of models, in ascending order."""

    base_instructions: str = INSTRUCTIONS
    supports_reasoning_summaries: bool = True
    default_reasoning_summary: str = "auto"
    support_verbosity: bool
    apply_patch_tool_type: str = "freeform"
    truncation_policy: TruncationPolicy = TruncationPolicy(TOOL_OUTPUT_TOKENS)
    supports_parallel_tool_calls: bool = True
    context_window: int | UnsetType = UNSET
    """Tokens. Codex compacts a conversation that fills nine tenths of it."""

    experimental_supported_tools: tuple[str, ...] = ()
    input_modalities: list[str]
    supports_search_tool: bool = False
    """A tool that is found by search is declared in mid-conversation, which invalidates the
    upstream's prompt cache; without the search, Codex declares all tools in the first request."""


def catalog_entry(model: ModelInfo, priority: int) -> CatalogEntry:
    """The catalog entry of one model."""
    levels = model.efforts
    return CatalogEntry(
        slug=model.id,
        display_name=model.id,
        description=f"Served by {model.upstream}",
        default_reasoning_level=(
            nearest_effort(model.dialect.efforts, DEFAULT_EFFORT) if levels else UNSET
        ),
        supported_reasoning_levels=[EffortLevel(level, _LEVELS[level]) for level in levels],
        priority=priority,
        support_verbosity="verbosity" in model.dialect.forwarded,
        context_window=model.context_window or UNSET,
        input_modalities=["text", "image"] if model.images else ["text"],
    )


def catalog_entries(models: Iterable[ModelInfo]) -> list[CatalogEntry]:
    """The entries of several models, in the order in which users see them."""
    return [catalog_entry(model, priority) for priority, model in enumerate(models, 1)]
