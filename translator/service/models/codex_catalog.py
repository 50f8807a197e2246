"""The catalog from which Codex learns what a model can do.

    catalog = { "models": [ entry, ... ] }

The same text is `model_catalog.json` beside a Codex configuration, and what Codex reads under
`models` in the answer to `GET /v1/models` when its provider has a `model_catalog_url`. For a model
that is in neither, Codex shows a warning, offers no `apply_patch` and guesses the context window.
Field names and required fields are those of Codex CLI 0.169.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from translator import Dialect
from translator.dialects import EFFORT_LEVELS, nearest_effort

from .codex_prompt import INSTRUCTIONS

DEFAULT_EFFORT = "medium"
"""The level to begin with, or the one nearest to it."""

TOOL_OUTPUT_TOKENS = 10_000
"""How much of a command's output goes to the model; Codex's own value for its own models."""

_LEVELS = {
    "none": "No reasoning",
    "minimal": "Hardly any reasoning",
    "low": "Fast answers with light reasoning",
    "medium": "Speed and depth in balance",
    "high": "Deep reasoning for hard problems",
    "xhigh": "Deeper reasoning for the hardest problems",
    "max": "As much reasoning as the model can do",
}


class Known(Struct, frozen=True, kw_only=True):
    """A model that a client can ask for, and what is known of it."""

    id: str
    upstream: str  # its name in the settings
    dialect: Dialect
    context_window: int | None = None  # tokens
    max_output_tokens: int | None = None
    vision: bool = True
    hosted_tools_refused: bool = False
    """A request with a tool that cannot run here is refused, and not only stripped of it."""

    @property
    def images(self) -> bool:
        """Whether images reach the model."""
        return self.vision and self.dialect.images

    @property
    def efforts(self) -> list[str]:
        """Its levels of reasoning effort, from least to most."""
        return [level for level in EFFORT_LEVELS if level in self.dialect.efforts]


class Level(Struct, frozen=True):
    """One level of reasoning effort that users can choose."""

    effort: str
    description: str


class Truncation(Struct, frozen=True):
    """How much of a tool's output is kept."""

    limit: int
    mode: Literal["tokens", "bytes"] = "tokens"


class Entry(Struct, frozen=True, kw_only=True):
    """One model in the catalog. What has no default is what Codex insists on."""

    slug: str
    display_name: str
    description: str
    default_reasoning_level: str | UnsetType = UNSET
    supported_reasoning_levels: list[Level]
    shell_type: str = "unified_exec"
    visibility: str = "list"
    supported_in_api: bool = True
    priority: int
    """The place in the list of models; the least is the first."""

    base_instructions: str = INSTRUCTIONS
    supports_reasoning_summaries: bool = True
    default_reasoning_summary: str = "auto"
    support_verbosity: bool
    apply_patch_tool_type: str = "freeform"
    truncation_policy: Truncation = Truncation(TOOL_OUTPUT_TOKENS)
    supports_parallel_tool_calls: bool = True
    context_window: int | UnsetType = UNSET
    """Codex compacts a conversation that fills nine tenths of it."""

    experimental_supported_tools: tuple[str, ...] = ()
    input_modalities: list[str]
    supports_search_tool: bool = False
    """Tools that are searched for are declared in mid-conversation, which costs the upstream's
    cache; without the search, Codex declares all of them from the beginning."""


def entry(model: Known, priority: int) -> Entry:
    """What Codex is told of one model."""
    levels = model.efforts
    return Entry(
        slug=model.id,
        display_name=model.id,
        description=f"Served by {model.upstream}",
        default_reasoning_level=(
            nearest_effort(model.dialect.efforts, DEFAULT_EFFORT) if levels else UNSET
        ),
        supported_reasoning_levels=[Level(level, _LEVELS[level]) for level in levels],
        priority=priority,
        support_verbosity="verbosity" in model.dialect.forwarded,
        context_window=model.context_window or UNSET,
        input_modalities=["text", "image"] if model.images else ["text"],
    )


def entries(models: Iterable[Known]) -> list[Entry]:
    """The catalog's models, in the order in which users see them."""
    return [entry(model, priority) for priority, model in enumerate(models, 1)]
