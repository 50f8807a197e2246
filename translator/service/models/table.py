"""Which upstream answers for a model, and under which facts.

With a model table, ids are exact and case-sensitive: an unknown one is a 404 that names the ones
there are. Without it any model goes to the only upstream, under the name that the client used.
"""

from __future__ import annotations

from functools import lru_cache

from msgspec import UNSET, Struct, UnsetType

from translator import Dialect, Options
from translator.service.access.clients import Client
from translator.service.config.facts import resolved
from translator.service.config.settings import Model, Server, Settings, Upstream, options
from translator.wire.errors import InvalidRequest, NotFound

from .codex_catalog import Entry, Known, entries

MAX_KNOWN = 256
"""Models without a table whose facts are kept: to find them costs as much as ten tokens."""

MAX_KNOWN_LENGTH = 256
"""Longest id of such a model, in characters."""


class Route(Struct, frozen=True, kw_only=True):
    """Where a request goes. None leaves a field as the client asked."""

    upstream: Upstream
    dialect: Dialect
    options: Options
    upstream_model: str | None = None
    max_output_tokens: int | None = None
    vision: bool = True


def known(model: Model) -> Known:
    """What clients can be told of a model in the table."""
    return Known(
        id=model.id,
        upstream=model.upstream.name,
        dialect=model.dialect,
        context_window=model.context_window,
        max_output_tokens=model.max_output_tokens,
        vision=model.vision,
        hosted_tools_refused=_refuses_hosted_tools(model.options),
    )


def unlisted(model: str, upstream: Upstream, server: Server) -> Known:
    """What clients can be told of a model that goes to the only upstream without a table."""
    return Known(
        id=model,
        upstream=upstream.name,
        dialect=resolved(upstream.dialect, model, upstream.facts),
        hosted_tools_refused=_refuses_hosted_tools(options(server)),
    )


def _refuses_hosted_tools(options: Options) -> bool:
    return options.strict or options.hosted_tools == "reject"


class ModelEntry(Struct, frozen=True, kw_only=True):
    """A model as `GET /v1/models` shows it; what is not known is left out."""

    id: str
    created: int
    owned_by: str
    vision: bool
    context_window: int | UnsetType = UNSET
    max_output_tokens: int | UnsetType = UNSET
    object: str = "model"


class ModelList(Struct, frozen=True, kw_only=True):
    """The answer to `GET /v1/models`: a list as OpenAI's clients know it, and Codex's catalog."""

    data: list[ModelEntry]
    object: str = "list"
    models: list[Entry]


class ModelTable:
    """The models there are. `created` stands for the unknown birthday of each, in seconds."""

    def __init__(self, settings: Settings, created: int) -> None:
        self.upstreams = tuple(settings.upstreams.values())
        self._models = settings.models
        self._created = created
        self._options = options(settings.server)
        self._only: Upstream | None = None
        if not settings.models:
            [self._only] = settings.upstreams.values()
        self._known = lru_cache(MAX_KNOWN)(self._to_only)

    @property
    def only_upstream(self) -> Upstream | None:
        """The upstream that answers for every model; None when there is a table."""
        return self._only

    def route(self, model: str | None, client: Client | None = None) -> Route:
        """Where a request of this client for `model` goes; None for the upstream's own choice.

        Raises NotFound for a model that is not there, or not for this client, and InvalidRequest
        where one must be named.
        """
        if self._only is not None and (client is None or client.may_use_any_model):
            return self._unlisted(model or "")
        if model is None:
            raise InvalidRequest(
                "Missing required parameter: 'model'.",
                param="model",
                code="missing_required_parameter",
            )
        if self._only is not None:
            self._check_allowed(model, client)
            return self._unlisted(model)
        row = self._row(model, client)
        return Route(
            upstream=row.upstream,
            dialect=row.dialect,
            options=row.options,
            upstream_model=row.upstream_model,
            max_output_tokens=row.max_output_tokens,
            vision=row.vision,
        )

    def _unlisted(self, model: str) -> Route:
        """A model that only the upstream knows; clients may name any, of any length."""
        find = self._known if len(model) <= MAX_KNOWN_LENGTH else self._to_only
        return find(model)

    def _to_only(self, model: str) -> Route:
        assert self._only is not None
        dialect = resolved(self._only.dialect, model, self._only.facts)
        return Route(upstream=self._only, dialect=dialect, options=self._options)

    def entry(self, model: str, client: Client | None = None) -> ModelEntry:
        """One model as clients see it; raises NotFound."""
        return self._entry(self._row(model, client))

    def entries(self, client: Client | None = None) -> ModelList:
        """All models of the table that this client may use."""
        rows = [row for row in self._models.values() if client is None or client.may_use(row.id)]
        return ModelList(data=[self._entry(row) for row in rows], models=entries(map(known, rows)))

    def _row(self, model: str, client: Client | None) -> Model:
        self._check_allowed(model, client)
        row = self._models.get(model)
        if row is None:
            raise _no_model(model, list(self._models))
        return row

    def _check_allowed(self, model: str, client: Client | None) -> None:
        if client is not None and not client.may_use(model):
            raise _no_model(model, [entry.id for entry in self.entries(client).data])

    def _entry(self, row: Model) -> ModelEntry:
        return ModelEntry(
            id=row.id,
            created=self._created,
            owned_by=row.upstream.name,
            vision=row.vision,
            context_window=row.context_window or UNSET,
            max_output_tokens=row.max_output_tokens or UNSET,
        )


def _no_model(model: str, there_are: list[str]) -> NotFound:
    models = f" Models: {', '.join(there_are)}." if there_are else ""
    return NotFound(
        f"The model '{model[:200]}' does not exist.{models}", param="model", code="model_not_found"
    )
