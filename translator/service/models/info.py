"""Model information: what clients can learn about a model."""

from __future__ import annotations

from msgspec import Struct

from translator import Dialect, Options
from translator.dialects import EFFORT_LEVELS
from translator.service.config.facts import catch_all_dialect, resolve_dialect
from translator.service.config.loading import translation_options
from translator.service.config.settings import CatchAll, Model, Server, Upstream


class ModelInfo(Struct, frozen=True, kw_only=True):
    """One model that clients can ask for. None: not known."""

    id: str
    upstream: str  # its name in the settings
    dialect: Dialect
    context_window: int | None = None  # tokens
    max_output_tokens: int | None = None
    vision: bool = True
    describes_images: bool = False
    """Another model describes images for it."""

    rejects_hosted_tools: bool = False
    """A request with a tool that only OpenAI's servers can run is rejected."""

    @property
    def images(self) -> bool:
        """Whether images reach the model, if only as descriptions."""
        return self.describes_images or (self.vision and self.dialect.images)

    @property
    def efforts(self) -> list[str]:
        """Its levels of reasoning effort, from least to most."""
        return [level for level in EFFORT_LEVELS if level in self.dialect.efforts]


def model_info(model: Model) -> ModelInfo:
    """The information about a model of the model table."""
    return ModelInfo(
        id=model.id,
        upstream=model.upstream.name,
        dialect=model.dialect,
        context_window=model.context_window,
        max_output_tokens=model.max_output_tokens,
        vision=model.vision,
        describes_images=model.describe_images_with is not None,
        rejects_hosted_tools=_rejects_hosted_tools(model.options),
    )


def unlisted_model_info(model_id: str, upstream: Upstream, server: Server) -> ModelInfo:
    """The information about a model of the only upstream, where there is no model table."""
    return ModelInfo(
        id=model_id,
        upstream=upstream.name,
        dialect=resolve_dialect(upstream.dialect, model_id, upstream.facts),
        rejects_hosted_tools=_rejects_hosted_tools(translation_options(server)),
    )


def caught_model_info(model_id: str, row: CatchAll) -> ModelInfo:
    """The information about a model that the catch-all serves."""
    return ModelInfo(
        id=model_id,
        upstream=row.upstream.name,
        dialect=catch_all_dialect(row, model_id),
        context_window=row.context_window,
        max_output_tokens=row.max_output_tokens,
        vision=row.vision,
        describes_images=row.describe_images_with is not None,
        rejects_hosted_tools=_rejects_hosted_tools(row.options),
    )


def _rejects_hosted_tools(options: Options) -> bool:
    return options.strict or options.hosted_tools == "reject"
