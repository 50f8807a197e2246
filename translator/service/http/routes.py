"""The endpoints: which path and method does what.

    POST /v1/responses            translated; GET may become a WebSocket (`websocket`)
    POST /v1/responses/compact    translated: a conversation becomes a shorter one
    POST /v1/chat/completions     passed through, with the model table applied
    GET  /v1/models[/ID]          from the model table, else the upstream's; the list holds Codex's
                                  catalog, too
    GET  /healthz                 the process is up
    GET  /readyz                  an upstream is reachable, too
    GET  /metrics                 for Prometheus
    GET  /openapi.json            all of this, for programs

All but the last four also without `/v1`, for base URLs that were given without it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec
from starlette.routing import Route as PathRoute
from starlette.types import Receive, Scope, Send

from translator.common.invalid import nested_too_deeply
from translator.service.base.errors import MethodNotAllowed
from translator.service.config.settings import Upstream
from translator.service.models.info import unlisted_model_info
from translator.service.models.table import Route
from translator.service.turns.counts import check_counts
from translator.service.turns.turn import Turns
from translator.service.upstreams.health import Readiness
from translator.wire.errors import InvalidRequest, NotFound
from translator.wire.json_values import NOT_JSON

from . import models_list as listing
from . import openapi
from . import responders as relay
from .compact import compact
from .exchange import JSON, Exchange

if TYPE_CHECKING:
    from translator.service.telemetry.metrics import Metrics

_LIMIT_FIELDS = ("max_tokens", "max_completion_tokens")
_LISTS = ("messages", "tools")

NOT_KEPT = {"cache-control": "no-store"}

_read_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_read_values = msgspec.json.Decoder(list[msgspec.Raw] | None).decode


class Endpoint:
    """One path. What is not in its table of methods is a 405 that says what is."""

    def __init__(self, methods: Mapping[str, Callable[[Exchange], Awaitable[None]]]) -> None:
        self._methods = methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange: Exchange = scope["exchange"]
        method = "GET" if exchange.method == "HEAD" else exchange.method
        if method not in self._methods:
            raise MethodNotAllowed(exchange.method, exchange.path, list(self._methods))
        await self._methods[method](exchange)


class Endpoints:
    """What the service can be asked."""

    def __init__(self, turns: Turns, metrics: Metrics | None = None) -> None:
        self._turns = turns
        self._models = turns.models
        self._metrics = metrics

    def routes(self) -> list[PathRoute]:
        paths = {
            "/responses": Endpoint({"POST": self.responses}),
            "/responses/compact": Endpoint({"POST": self.compact}),
            "/chat/completions": Endpoint({"POST": self.chat_completions}),
            "/models": Endpoint({"GET": self.models}),
            "/models/{id:path}": Endpoint({"GET": self.model}),
        }
        return [
            PathRoute("/healthz", Endpoint({"GET": self.health})),
            PathRoute("/readyz", Endpoint({"GET": self.ready})),
            PathRoute("/metrics", Endpoint({"GET": self.metrics})),
            PathRoute("/openapi.json", Endpoint({"GET": self.description})),
            *(PathRoute(f"/v1{path}", endpoint) for path, endpoint in paths.items()),
            *(PathRoute(path, endpoint) for path, endpoint in paths.items()),
        ]

    async def unknown(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Every other path."""
        exchange: Exchange = scope["exchange"]
        raise unknown_path(exchange)

    async def health(self, exchange: Exchange) -> None:
        await exchange.whole(200, b'{"status":"ok"}')

    async def description(self, exchange: Exchange) -> None:
        await exchange.whole(200, openapi.document())

    async def ready(self, exchange: Exchange) -> None:
        upstreams = self._turns.upstreams
        if self._turns.drain.begun.is_set():
            found = Readiness("draining", {})
        else:
            found = await upstreams.lately.readiness(self._models.upstreams, upstreams.probe)
        status = 200 if found.status == "ready" else 503
        await exchange.whole(status, msgspec.json.encode(found), JSON | NOT_KEPT)

    async def metrics(self, exchange: Exchange) -> None:
        if self._metrics is None:
            raise unknown_path(exchange)
        page, content_type = await self._metrics.page(exchange.header("accept") or "")
        await exchange.whole(200, page, {"content-type": content_type} | NOT_KEPT)

    async def responses(self, exchange: Exchange) -> None:
        with self._turns.place(exchange.client):
            authorization = exchange.header("authorization")
            turn = self._turns.begin(exchange, await exchange.body(), authorization=authorization)
            give = relay.stream if turn.streams else relay.whole
            await exchange.while_client_waits(give(exchange, turn))

    async def compact(self, exchange: Exchange) -> None:
        await compact(exchange, self._turns)

    async def chat_completions(self, exchange: Exchange) -> None:
        with self._turns.place(exchange.client):
            route, body = self._chat(exchange, await exchange.body())
            work = self._verbatim(exchange, route.upstream, "chat/completions", body)
            del body  # which is not held while the answer comes
            await exchange.while_client_waits(work)

    def _chat(self, exchange: Exchange, body: bytes) -> tuple[Route, bytes]:
        """Where a chat request goes, and as what; raises InvalidRequest."""
        try:
            fields = _read_fields(body)
            model = msgspec.json.decode(fields.get("model", b"null"), type=str | None)
        except msgspec.ValidationError as error:
            raise InvalidRequest(f"{error}.", param=None, code="invalid_type") from None
        except RecursionError:
            raise nested_too_deeply() from None
        except NOT_JSON as error:
            raise InvalidRequest(f"The body is not JSON: {error}.", param=None) from None
        route = self._models.route(model, exchange.client)
        self._check(exchange, fields, len(body))
        exchange.model = model or ""
        exchange.dialect = route.dialect.name
        if exchange.witness is not None:
            exchange.witness.asked(body)
            exchange.witness.routed(route, None)
        if _apply(route, fields) or not _chooses_freely(exchange):
            body = msgspec.json.encode(fields)
        return route, body

    def _check(self, exchange: Exchange, fields: Mapping[str, msgspec.Raw], size: int) -> None:
        """Hold a chat request to its bounds, and charge for it."""
        try:
            messages, tools = (_read_values(fields.get(name, b"[]")) for name in _LISTS)
        except NOT_JSON:
            messages = tools = None  # which the upstream will say in its own words
        check_counts(self._turns.server, items=messages, tools=tools, name="messages")
        if "models" in fields and not _chooses_freely(exchange):
            raise InvalidRequest(
                "Unsupported parameter: 'models'. This key is for certain models; name one.",
                param="models",
                code="unsupported_parameter",
            )
        exchange.charged(size)

    async def models(self, exchange: Exchange) -> None:
        upstream = self._models.only_upstream
        if upstream is None:
            await exchange.whole(200, msgspec.json.encode(self._models.entries(exchange.client)))
            return
        with self._turns.place(exchange.client):
            if exchange.asks("client_version") or not _chooses_freely(exchange):
                work = self._listed(exchange, upstream)
            else:
                work = self._verbatim(exchange, upstream, "models")
            await exchange.while_client_waits(work)

    async def _listed(self, exchange: Exchange, upstream: Upstream) -> None:
        """The upstream's models that the client may use, with Codex's catalog beside them."""
        describe = partial(unlisted_model_info, upstream=upstream, server=self._turns.server)
        opening = self._turns.upstreams.open(
            upstream,
            "models",
            authorization=exchange.header("authorization"),
            record=exchange,
        )
        async with self._turns.reading(opening) as reading:
            await listing.with_catalog(exchange, reading, describe)

    async def model(self, exchange: Exchange) -> None:
        model = exchange.path_param("id")
        upstream = self._models.only_upstream
        if upstream is None:
            entry = self._models.entry(model, exchange.client)
            await exchange.whole(200, msgspec.json.encode(entry))
            return
        self._models.route(model, exchange.client)  # raises where the client may not use it
        if any(part in ("", ".", "..") for part in model.split("/")):
            raise unknown_path(exchange)  # such a path would lead elsewhere on the upstream
        path = f"models/{quote(model, safe='/:@')}"
        with self._turns.place(exchange.client):
            await exchange.while_client_waits(self._verbatim(exchange, upstream, path))

    async def _verbatim(
        self, exchange: Exchange, upstream: Upstream, path: str, body: bytes | None = None
    ) -> None:
        opening = self._turns.upstreams.open(
            upstream,
            path,
            body=body,
            authorization=exchange.header("authorization"),
            accept=exchange.header("accept") or "application/json",
            record=exchange,
        )
        del body
        async with self._turns.reading(opening) as reading:
            await relay.verbatim(exchange, reading)


def _chooses_freely(exchange: Exchange) -> bool:
    return exchange.client is None or exchange.client.chooses_freely


def unknown_path(exchange: Exchange) -> NotFound:
    message = f"Unknown path: {exchange.method} {exchange.path[:200]}."
    return NotFound(message, param=None, code="unknown_path")


def _apply(route: Route, fields: dict[str, msgspec.Raw]) -> bool:
    """Put the model table into a chat request; True when that changed it.

    The other fields keep their bytes: a float must not come out with other digits.
    """
    changed = False
    if route.upstream_model is not None:
        fields["model"] = msgspec.Raw(msgspec.json.encode(route.upstream_model))
        changed = True
    limit = route.max_output_tokens
    for name in _LIMIT_FIELDS:
        if limit is None or name not in fields:
            continue
        asked = msgspec.json.decode(fields[name])
        if isinstance(asked, int | float) and asked > limit:
            fields[name] = msgspec.Raw(str(limit).encode())
            changed = True
    return changed
