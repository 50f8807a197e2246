"""The routes: the endpoint of each path and method.

    POST /v1/responses            translated; GET may become a WebSocket (`websocket`)
    POST /v1/responses/compact    translated: a conversation becomes a shorter one
    POST /v1/responses/input_tokens   translated, and only counted
    POST /v1/chat/completions     passed through, with the model table applied
    GET, DELETE /v1/responses/ID   with a store (`stored_responses`), and what is below it
    /v1/conversations, …          with a store (`stored_conversations`)
    POST /v1/alpha/search         with a search backend (`alpha_search`)
    GET  /v1/key, /v1/usage, …    with accounts (`account_endpoints`)
    GET  /v1/models[/ID]          the model table, else the upstream's list; with Codex's catalog
    GET  /healthz                 liveness
    GET  /readyz                  readiness: an upstream is reachable
    GET  /metrics                 for Prometheus
    GET  /openapi.json            the description of this API
    GET  /, /page/NAME            the page for people, where the settings have one
    /account/…                    the pages of accounts (`console`)

All but the last six also without `/v1`, for base URLs that were given without it, and with slashes
or `/v1` too many (`near_paths`). What other endpoints of these APIs are answered with is in
`absent_endpoints`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

import msgspec
from msgspec.structs import replace
from starlette.types import Receive, Scope, Send

from translator.common.invalid import missing_parameter, nested_too_deeply
from translator.dialects import BASE, Dialect
from translator.service.access.client import Ask, Charge
from translator.service.config.settings import Upstream
from translator.service.models.info import unlisted_model_info
from translator.service.models.table import Route
from translator.service.observe.observer import RequestReceived, Routed
from translator.service.turns.counts import check_counts
from translator.service.turns.dispatcher import Dispatcher
from translator.service.turns.slices import LARGE_BYTES
from translator.service.upstreams.health import Readiness
from translator.wire.errors import InvalidRequest
from translator.wire.json_values import NOT_JSON
from translator.wire.notices import Notice, clamped

from . import models_list, responders
from .absent_endpoints import absent_error, unknown_path
from .begin import begin_turn
from .chat_fields import (
    LIMIT_FIELDS,
    asked_output_tokens,
    check_fields,
    number_of_choices,
    paid_for,
)
from .compact import compact
from .exchange import JSON, Exchange
from .input_tokens import input_tokens
from .near_paths import nearest_path
from .router import Endpoint, Methods, PageEndpoint, PathRouter
from .wanted_body import wanted_body

if TYPE_CHECKING:
    from translator.service.telemetry.metrics import Metrics

    from .alpha_search import SearchEndpoint
    from .page import Page
    from .stored_conversations import ConversationEndpoints
    from .stored_responses import StoredEndpoints

API_PATHS = (
    "/responses",
    "/responses/compact",
    "/responses/input_tokens",
    "/chat/completions",
    "/models",
)
"""The endpoints of the API, without `/v1` and without those of single models."""

_FOR_RESPONSES = "'input' is a field of the Responses API: send this request to /v1/responses."

_LISTS = ("messages", "tools")

NO_STORE = {"cache-control": "no-store"}

_read_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_read_values = msgspec.json.Decoder(list[msgspec.Raw] | None).decode
_read_model = msgspec.json.Decoder(str | None).decode


class AccountRoutes(Protocol):
    """The accounts, as far as routes and readiness are asked for."""

    @property
    def failing(self) -> bool:
        """Whether the database does not take what has to be written."""
        ...

    @property
    def api(self) -> Mapping[str, Methods]:
        """Their endpoints of the API, by paths without `/v1`."""
        ...

    @property
    def paths(self) -> Mapping[str, Methods]:
        """Their other endpoints, by exact paths, or in the terms of Starlette."""
        ...


class Endpoints:
    """The endpoints of the service."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        metrics: Metrics | None = None,
        load_page: Callable[[], Page] | None = None,
        stored: StoredEndpoints | None = None,
        accounts: AccountRoutes | None = None,
        search: SearchEndpoint | None = None,
    ) -> None:
        """`load_page` makes the page at `/`, `stored` serves stored responses; None: not served."""
        self._accounts = accounts
        self._stored = stored
        self._background = None if stored is None else stored.background(dispatcher)
        self._search = search
        self._dispatcher = dispatcher
        self._bounds = dispatcher.bounds
        self._models = dispatcher.models
        self._metrics = metrics
        self._load_page = load_page

    def router(self, lifespan: Callable[[Any], AbstractAsyncContextManager[None]]) -> PathRouter:
        paths = {
            "/healthz": Endpoint({"GET": self.health}),
            "/readyz": Endpoint({"GET": self.ready}),
            "/metrics": Endpoint({"GET": self.metrics}),
            "/openapi.json": Endpoint({"GET": self.description}),
        }
        api = {
            "/responses": Endpoint({"POST": self.responses}),
            "/responses/compact": Endpoint({"POST": self.compact}),
            "/responses/input_tokens": Endpoint({"POST": self.input_tokens}),
            "/chat/completions": Endpoint({"POST": self.chat_completions}),
            "/models": Endpoint({"GET": self.models}),
            "/models/{id:path}": Endpoint({"GET": self.model}),
        }
        if self._stored is not None:
            one = {"GET": self._stored.get, "DELETE": self._stored.delete}
            api |= {
                "/responses/{id}": Endpoint(one),
                "/responses/{id}/input_items": Endpoint({"GET": self._stored.input_items}),
                "/responses/{id}/cancel": Endpoint({"POST": self._stored.cancel}),
            }
            api |= _of_conversations(self._stored.conversations)
        if self._search is not None:
            api["/alpha/search"] = Endpoint({"POST": self._search.post})
        if self._accounts is not None:
            api |= {path: Endpoint(one) for path, one in self._accounts.api.items()}
            paths |= {path: Endpoint(one) for path, one in self._accounts.paths.items()}
        paths |= {f"/v1{path}": endpoint for path, endpoint in api.items()} | api
        if self._load_page is not None:
            page = PageEndpoint(self._load_page)
            paths |= {"/": page, "/page/{name}": page}
        return PathRouter(paths, default=self.unknown, lifespan=lifespan)

    async def unknown(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The default endpoint, for every other path."""
        exchange: Exchange = scope["exchange"]
        absent = absent_error(exchange.method, exchange.path)
        known: list[str] = list(API_PATHS)
        if self._stored is not None:
            known.append("/conversations")
        if self._accounts is not None:
            known.extend(self._accounts.api)
        meant = nearest_path(exchange.path, known)
        raise absent or unknown_path(exchange.method, exchange.path, meant)

    async def health(self, exchange: Exchange) -> None:
        await exchange.whole(200, b'{"status":"ok"}')

    async def description(self, exchange: Exchange) -> None:
        from . import openapi  # few ask for it

        stores, search = self._stored is not None, self._search is not None
        accounts = self._accounts is not None
        await exchange.whole(200, openapi.document(stores=stores, search=search, accounts=accounts))

    async def ready(self, exchange: Exchange) -> None:
        upstreams = self._bounds.upstreams
        if self._bounds.drain.begun.is_set():
            found = Readiness("draining", {})
        else:
            checking = upstreams.health.readiness(self._models.upstreams, upstreams.probe)
            stored = self._stored
            found = await (checking if stored is None else stored.health.added_to(checking))
        if self._accounts is not None:
            failing = self._accounts.failing
            found = replace(found, accounts="failing" if failing else "ready")
            if failing and found.status == "ready":
                found = replace(found, status="not_ready")
        status = 200 if found.status == "ready" else 503
        await exchange.whole(status, msgspec.json.encode(found), JSON | NO_STORE)

    async def metrics(self, exchange: Exchange) -> None:
        if self._metrics is None:
            raise unknown_path(exchange.method, exchange.path)
        page, content_type = await self._metrics.page(exchange.header("accept") or "")
        await exchange.whole(200, page, {"content-type": content_type} | NO_STORE)

    async def responses(self, exchange: Exchange) -> None:
        body = await wanted_body(exchange, self._dispatcher)
        with self._dispatcher.slot(exchange.context.client):
            turn = await begin_turn(exchange, self._dispatcher, body)
            del body  # which is not held while the answer comes
            if not turn.runs_in_background:
                respond = responders.stream if turn.streams else responders.whole
                async with turn:
                    await exchange.while_connected(respond(exchange, turn))
                return
            assert self._background is not None
            admitted = await self._background.admit(turn)
        await self._background.respond(exchange, admitted)

    async def compact(self, exchange: Exchange) -> None:
        await compact(exchange, self._dispatcher)

    async def input_tokens(self, exchange: Exchange) -> None:
        await input_tokens(exchange, self._dispatcher)

    async def chat_completions(self, exchange: Exchange) -> None:
        body = await wanted_body(exchange, self._dispatcher)
        with self._dispatcher.slot(exchange.context.client):
            route, body, is_of_responses = await self._chat(exchange, body)
            work = self._passthrough(
                exchange,
                route.upstream,
                "chat/completions",
                body,
                dialect=route.dialect,
                refusal=missing_parameter("messages", _FOR_RESPONSES) if is_of_responses else None,
            )
            del body  # which is not held while the answer comes
            passing = self._bounds.passing
            passing.add(exchange.context)
            try:
                await exchange.while_connected(work)
            finally:
                passing.discard(exchange.context)

    async def _chat(self, exchange: Exchange, body: bytes) -> tuple[Route, bytes, bool]:
        """The route of a chat request, the body to send there, and whether it is none.

        True: it has the fields of a Responses request. Raises InvalidRequest.

        Between the passes over a large body, everything else has its turn.
        """
        large = len(body) >= LARGE_BYTES
        try:
            fields = _read_fields(body)
            model = _model_of(fields)
        except msgspec.ValidationError as error:
            raise InvalidRequest(f"{error}.", param=None, code="invalid_type") from None
        except RecursionError:
            raise nested_too_deeply() from None
        except NOT_JSON as error:
            raise InvalidRequest(f"The body is not JSON: {error}.", param=None) from None
        exchange.record.model = model or ""
        route = self._models.route(model, exchange.context.client)
        exchange.record.dialect = route.dialect.name
        client = exchange.context.client
        limited = client if client is not None and not client.may_use_any_model else None
        if large:
            await asyncio.sleep(0)
        if limited is not None:
            check_fields(route, fields, limited)
        charge = await self._check(exchange, fields, route, body)
        route, paid = paid_for(route, fields, charge)
        if large:
            await asyncio.sleep(0)
        exchange.context.observer.on(RequestReceived(body))
        exchange.context.observer.on(Routed(route, None))
        changed, notices = _apply(route, fields)
        exchange.context.note(notices)
        if changed or paid or limited is not None or _may_repeat_a_name(body):
            body = msgspec.json.encode(fields)
        return route, body, "input" in fields and "messages" not in fields

    async def _check(
        self, exchange: Exchange, fields: Mapping[str, msgspec.Raw], route: Route, body: bytes
    ) -> Charge | None:
        """Check the bounds of a chat request, and charge for it."""
        try:
            messages, tools = (_read_values(fields.get(name, b"[]")) for name in _LISTS)
        except NOT_JSON:
            messages = tools = None  # the upstream says so in its own words
        check_counts(self._dispatcher.server, items=messages, tools=tools, name="messages")
        if exchange.context.client is None:
            return None
        return await exchange.context.charge_for(
            Ask(
                size=len(body),
                choices=number_of_choices(fields),
                model=exchange.record.model,
                path=exchange.path,
                request_id=exchange.record.request_id,
                max_output_tokens=asked_output_tokens(fields),
                model_output_tokens=route.max_output_tokens,
                body=body,
            )
        )

    async def models(self, exchange: Exchange) -> None:
        upstream = self._models.only_upstream
        if upstream is None:
            await exchange.whole(
                200, msgspec.json.encode(self._models.entries(exchange.context.client))
            )
            return
        with self._dispatcher.slot(exchange.context.client):
            if exchange.has_query("client_version") or not _may_use_any_model(exchange):
                work = self._filtered_list(exchange, upstream)
            else:
                work = self._passthrough(exchange, upstream, "models")
            await exchange.while_connected(work)

    async def _filtered_list(self, exchange: Exchange, upstream: Upstream) -> None:
        """The upstream's models that the client may use, with Codex's catalog."""
        describe = partial(unlisted_model_info, upstream=upstream, server=self._dispatcher.server)
        opening = self._bounds.upstreams.open(
            upstream,
            "models",
            authorization=exchange.authorization(),
            context=exchange.context,
        )
        async with self._bounds.stream(opening) as stream:
            await models_list.with_catalog(exchange, stream, describe)

    async def model(self, exchange: Exchange) -> None:
        model = exchange.path_param("id")
        upstream = self._models.only_upstream
        if upstream is None:
            entry = self._models.entry(model, exchange.context.client)
            await exchange.whole(200, msgspec.json.encode(entry))
            return
        self._models.route(model, exchange.context.client)  # raises where the client may not use it
        if any(part in ("", ".", "..") for part in model.split("/")):
            raise unknown_path(
                exchange.method, exchange.path
            )  # such a path would lead elsewhere on the upstream
        path = f"models/{quote(model, safe='/:@')}"
        with self._dispatcher.slot(exchange.context.client):
            await exchange.while_connected(self._passthrough(exchange, upstream, path))

    async def _passthrough(
        self,
        exchange: Exchange,
        upstream: Upstream,
        path: str,
        body: bytes | None = None,
        *,
        dialect: Dialect = BASE,
        refusal: InvalidRequest | None = None,
    ) -> None:
        """Pass a request and its answer through; `refusal` is raised where the upstream refuses."""
        opening = self._bounds.upstreams.open(
            upstream,
            path,
            body=body,
            authorization=exchange.authorization(),
            accept=exchange.header("accept") or "application/json",
            context=exchange.context,
        )
        del body
        async with self._bounds.stream(opening) as stream:
            if refusal is not None and (await stream.answer()).status in (400, 422):
                raise refusal
            await responders.passthrough(exchange, stream, dialect)


def _of_conversations(stored: ConversationEndpoints) -> dict[str, Endpoint]:
    one = {"GET": stored.get, "POST": stored.change, "DELETE": stored.delete}
    item = {"GET": stored.item, "DELETE": stored.remove_item}
    return {
        "/conversations": Endpoint({"POST": stored.create}),
        "/conversations/{id}": Endpoint(one),
        "/conversations/{id}/items": Endpoint({"GET": stored.items, "POST": stored.add_items}),
        "/conversations/{id}/items/{item}": Endpoint(item),
    }


def _may_use_any_model(exchange: Exchange) -> bool:
    client = exchange.context.client
    return client is None or client.may_use_any_model


def _may_repeat_a_name(body: bytes) -> bool:
    """Whether `model` may stand twice in a body: the upstream must read the one that we read."""
    return body.count(b'"model"') > 1 or b"\\u00" in body


def _model_of(fields: Mapping[str, msgspec.Raw]) -> str | None:
    """The model of a chat request; raises InvalidRequest where it is not a string."""
    try:
        return _read_model(fields.get("model", b"null"))
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"model: {error}.", param=None, code="invalid_type") from None


def _apply(route: Route, fields: dict[str, msgspec.Raw]) -> tuple[bool, list[Notice]]:
    """Apply the model table to the fields of a chat request: whether it changed any, and notices.

    The other fields keep their bytes: a float must not come out with other digits. Raises
    InvalidRequest for a notice where the operator wants none (`strict`).
    """
    changed = False
    notices: list[Notice] = []
    if route.upstream_model is not None:
        fields["model"] = msgspec.Raw(msgspec.json.encode(route.upstream_model))
        changed = True
    limit = route.max_output_tokens
    for name in LIMIT_FIELDS:
        if limit is None or name not in fields:
            continue
        asked = msgspec.json.decode(fields[name])
        if isinstance(asked, int | float) and asked > limit:
            notice = clamped(name, limit)
            if route.options.strict:
                raise InvalidRequest(notice.refusal, param=name, code=notice.error_code)
            notices.append(notice)
            fields[name] = msgspec.Raw(str(limit).encode())
            changed = True
    return changed, notices
