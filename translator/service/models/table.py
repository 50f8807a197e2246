"""The model table: from the model of a request to its route.

With models in the settings, ids are exact and case-sensitive; an unknown one gets the catch-all
`[models."*"]`, or else a 404 that lists the known ones. Without, any model goes to the only
upstream, under the name that the client used.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import lru_cache

import msgspec
from msgspec import UNSET, Struct, UnsetType

from translator import Dialect, Options
from translator.common.invalid import missing_parameter
from translator.service.access.client import Client
from translator.service.config.facts import catch_all_dialect, resolve_dialect
from translator.service.config.loading import translation_options
from translator.service.config.sections import CATCH_ALL
from translator.service.config.settings import CatchAll, Model, Settings, Upstream
from translator.wire.errors import NotFound

from .codex_catalog import CatalogEntry, catalog_entries
from .info import model_info

MAX_CACHED_ROUTES = 256
"""Routes of unlisted models that are cached: making one copies a dialect with all its facts."""

MAX_CACHED_ID_LENGTH = 256
"""Longest id of a cached model, in characters."""

MAX_NAMED = 50
"""How many models an error names."""


class Route(Struct, frozen=True, kw_only=True):
    """The upstream and model of a request, and its options. None: as the client asked."""

    model: str = ""
    """The id of its row; empty where it has none."""

    upstream: Upstream
    dialect: Dialect
    options: Options
    upstream_model: str | None = None
    max_output_tokens: int | None = None
    vision: bool = True
    context_window: int | None = None
    origin: str | None = None
    """What answers, for reasoning that only its maker takes back; None where there is no choice."""

    others: tuple[Route, ...] = ()
    """The routes that are asked after it, in this order; those have none."""

    after_overflow: bool = False
    """The others are asked, too, where the request is too long for the context window."""

    after_s: float | None = None
    """Longest wait for the first byte where another one is left to ask; None: no other limit."""
    compact_with: str | None = None
    """The id of the model that compacts conversations in its place."""
    describe_images_with: str | None = None
    """The id of the model that describes images for it."""


class ModelEntry(Struct, frozen=True, kw_only=True):
    """A model in `GET /v1/models`; unknown fields are left out."""

    id: str
    created: int
    owned_by: str
    vision: bool
    context_window: int | UnsetType = UNSET
    max_output_tokens: int | UnsetType = UNSET
    object: str = "model"


class ModelList(Struct, frozen=True, kw_only=True):
    """The body of `GET /v1/models`: OpenAI's list of models, and the Codex catalog."""

    data: list[ModelEntry]
    object: str = "list"
    models: list[CatalogEntry]


class ModelTable:
    """All models of the settings. `created` is the date of each (the real one is not known)."""

    def __init__(self, settings: Settings, created: int) -> None:
        self.upstreams = tuple(settings.upstreams.values())
        self._models = settings.models
        self._created = created
        self._options = translation_options(settings.server)
        self._only_upstream: Upstream | None = None
        self._catch_all = settings.catch_all
        self.describes_images = bool(settings.describing_models)
        """Whether any model has another one describe images for it."""
        if not settings.models and settings.catch_all is None:
            [self._only_upstream] = settings.upstreams.values()
        self._routes = {row.id: _route_of(row, self._models) for row in self._models.values()}
        self._cached_route = lru_cache(MAX_CACHED_ROUTES)(self._unlisted_route)

    @property
    def only_upstream(self) -> Upstream | None:
        """The upstream of every model, when the settings list no models; else None."""
        return self._only_upstream

    def route(self, model: str | None, client: Client | None = None) -> Route:
        """The route of a client's request for `model`; None or empty: the upstream chooses.

        Raises NotFound for a model that does not exist or that the client may not use, and
        InvalidRequest where a model is required.
        """
        if self._only_upstream is not None and (client is None or client.may_use_any_model):
            return self._find_unlisted(model or "")
        if not model:
            raise missing_parameter("model")
        if self._only_upstream is not None:
            self._check_allowed(model, client)
            return self._find_unlisted(model)
        if self._catches(model):
            self._check_allowed(model, client)
            return self._find_unlisted(model)
        return self._routes[self._row(model, client).id]

    def compaction_route(self, model: str) -> Route:
        """The route of the model that a `compact_with` names, whoever may use it."""
        return self._routes[model]

    def describing_route(self, model: str) -> Route:
        """The route of the model that a `describe_images_with` names, whoever may use it."""
        return self._routes[model]

    def _find_unlisted(self, model: str) -> Route:
        """The route of a model without a row; clients may send any id, of any length."""
        if self._catch_all is not None and self._catch_all.upstream_model is not None:
            model = ""  # it is the same route for all
        cached = len(model) <= MAX_CACHED_ID_LENGTH
        return self._cached_route(model) if cached else self._unlisted_route(model)

    def _catches(self, model: str) -> bool:
        """Whether the catch-all serves a model. It serves no empty name, and not its own."""
        if self._catch_all is None or model in self._models:
            return False
        return model not in ("", CATCH_ALL)

    def _unlisted_route(self, model: str) -> Route:
        if (row := self._catch_all) is not None:
            return Route(
                upstream=row.upstream,
                dialect=catch_all_dialect(row, model),
                options=row.options,
                upstream_model=row.upstream_model,
                max_output_tokens=row.max_output_tokens,
                vision=row.vision,
                compact_with=row.compact_with,
                describe_images_with=row.describe_images_with,
            )
        upstream = self._only_upstream
        assert upstream is not None
        dialect = resolve_dialect(upstream.dialect, model, upstream.facts)
        return Route(upstream=upstream, dialect=dialect, options=self._options)

    def entry(self, model: str, client: Client | None = None) -> ModelEntry:
        """The list entry of one model, which need not be listed; raises NotFound."""
        if self._catch_all is not None and self._catches(model):
            self._check_allowed(model, client)
            return self._entry(self._catch_all, model, self._find_unlisted(model).dialect)
        row = self._row(model, client)
        return self._entry(row, row.id, row.dialect)

    def entries(self, client: Client | None = None) -> ModelList:
        """The list of all models that the client may use."""
        catalog = catalog_entries(map(model_info, self._rows(client)))
        return ModelList(data=self.listed(client), models=catalog)

    def listed(self, client: Client | None = None) -> list[ModelEntry]:
        """The same without a catalog."""
        return [self._entry(row, row.id, row.dialect) for row in self._rows(client)]

    @property
    def catches_all(self) -> bool:
        """Whether names without a row are served, too."""
        return self._catch_all is not None

    def _rows(self, client: Client | None) -> list[Model]:
        return [row for row in self._models.values() if client is None or client.may_use(row.id)]

    def _row(self, model: str, client: Client | None) -> Model:
        self._check_allowed(model, client)
        row = self._models.get(model)
        if row is None:
            raise _no_model(model, list(self._models))
        return row

    def _check_allowed(self, model: str, client: Client | None) -> None:
        """Raise NotFound for a model that the client may not use."""
        section = CATCH_ALL if self._catches(model) else model
        if client is not None and not client.may_use(section):
            raise _no_model(model, [entry.id for entry in self.entries(client).data])

    def _entry(self, row: Model | CatchAll, model: str, dialect: Dialect) -> ModelEntry:
        return ModelEntry(
            id=model,
            created=self._created,
            owned_by=row.upstream.name,
            vision=row.describe_images_with is not None or (row.vision and dialect.images),
            context_window=row.context_window or UNSET,
            max_output_tokens=row.max_output_tokens or UNSET,
        )


def in_order(route: Route) -> str:
    """The routes that are asked after one, for people."""
    return ", ".join(
        f"{other.model} on {other.upstream.name}"
        if other.model != route.model
        else f"the same on {other.upstream.name}"
        for other in route.others
    )


def _route_of(row: Model, rows: Mapping[str, Model]) -> Route:
    """The route of a row, and those of its other upstreams and of its fallbacks after it."""
    others = [*row.elsewhere]
    for name in row.fallbacks:
        others += (rows[name], *rows[name].elsewhere)
    return msgspec.structs.replace(
        _single_route(row, row.options, has_choice=bool(others)),
        others=tuple(_single_route(other, row.options, has_choice=True) for other in others),
        after_overflow=row.fallback_on_overflow,
        after_s=row.fallback_after_s,
    )


def _single_route(row: Model, options: Options, *, has_choice: bool) -> Route:
    """The route of one row; the options are those of the model that the client asks for."""
    return Route(
        model=row.id,
        upstream=row.upstream,
        dialect=row.dialect,
        options=options,
        upstream_model=row.upstream_model,
        max_output_tokens=row.max_output_tokens,
        vision=row.vision,
        context_window=row.context_window,
        origin=f"{row.upstream.name}/{row.upstream_model}" if has_choice else None,
        compact_with=row.compact_with,
        describe_images_with=row.describe_images_with,
    )


def _no_model(model: str, known: list[str]) -> NotFound:
    shown = model[:200]
    message = f"The model '{shown}' does not exist."
    # by the last part too: clients leave out the prefix of an id, or give one
    lowered = {name.lower(): name for name in known}
    lowered |= {name.lower().rpartition("/")[2]: name for name in reversed(known)}
    close = difflib.get_close_matches(shown.lower().rpartition("/")[2], lowered, 1)
    if close and len(known) > 1:
        message += f" Did you mean '{lowered[close[0]]}'?"
    if known:
        more = f" and {len(known) - MAX_NAMED} more" if len(known) > MAX_NAMED else ""
        message += f" Models: {', '.join(known[:MAX_NAMED])}{more}."
    return NotFound(message, param="model", code="model_not_found")
