"""The endpoints: which path and method does what.

    POST /v1/responses            translated
    POST /v1/chat/completions     passed through, with the model table applied
    GET  /v1/models[/ID]          from the model table, else the upstream's
    GET  /healthz                 the process is up

All but the last also without `/v1`, for base URLs that were given without it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from urllib.parse import quote

import msgspec
from starlette.routing import Route as PathRoute
from starlette.types import Receive, Scope, Send

from translator.errors import InvalidRequest, NotFound, UpstreamError
from translator.json_values import NOT_JSON
from translator.to_chat import read_request

from . import relay
from .attempts import Asking, Attempt, Memory
from .errors import MethodNotAllowed, Overloaded
from .exchange import Exchange, NewId
from .models import ModelTable, Route
from .settings import Server, Upstream
from .upstream import Upstreams

log = logging.getLogger(__name__)

_LIMIT_FIELDS = ("max_tokens", "max_completion_tokens")


class _Head(msgspec.Struct, frozen=True):
    """As much of a request as says where it goes."""

    model: str | None = None


_read_head = msgspec.json.Decoder(_Head).decode
_read_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


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

    def __init__(
        self,
        *,
        server: Server,
        models: ModelTable,
        upstreams: Upstreams,
        clock: Callable[[], float],
        new_id: NewId,
    ) -> None:
        self._server = server
        self._models = models
        self._upstreams = upstreams
        self._clock = clock
        self._new_id = new_id
        self._memory = Memory()
        self._open = 0

    def routes(self) -> list[PathRoute]:
        paths = {
            "/responses": Endpoint({"POST": self.responses}),
            "/chat/completions": Endpoint({"POST": self.chat_completions}),
            "/models": Endpoint({"GET": self.models}),
            "/models/{id:path}": Endpoint({"GET": self.model}),
        }
        return [
            PathRoute("/healthz", Endpoint({"GET": self.health})),
            *(PathRoute(f"/v1{path}", endpoint) for path, endpoint in paths.items()),
            *(PathRoute(path, endpoint) for path, endpoint in paths.items()),
        ]

    async def unknown(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Every other path."""
        exchange: Exchange = scope["exchange"]
        raise _unknown_path(exchange)

    async def health(self, exchange: Exchange) -> None:
        await exchange.whole(200, b'{"status":"ok"}')

    async def responses(self, exchange: Exchange) -> None:
        with self._place():
            body = await exchange.body()
            model = _model_of(body)
            route = self._models.route(model)
            exchange.model = model or ""
            exchange.dialect = route.dialect.name
            asking = Asking(
                body,
                route,
                self._memory,
                model=exchange.model,
                may_retry=self._server.retry_refused,
                clock=self._clock,
                new_id=self._new_id,
            )
            await exchange.while_client_waits(self._translated(exchange, asking, route))

    async def _translated(self, exchange: Exchange, asking: Asking, route: Route) -> None:
        while True:
            try:
                await self._attempt(exchange, asking, route.upstream)
            except UpstreamError as error:
                if exchange.started or not asking.again(error):
                    raise
            else:
                return

    async def _attempt(self, exchange: Exchange, asking: Asking, upstream: Upstream) -> None:
        attempt = asking.attempt
        _note(exchange, attempt)
        streams = bool(attempt.translation.request.stream)
        call = self._upstreams.call(
            upstream,
            "chat/completions",
            body=attempt.body,
            authorization=exchange.header("authorization"),
            accept="text/event-stream" if streams else "application/json",
        )
        async with call as answer:
            if not 200 <= answer.status < 300:
                raise await answer.error()
            asking.taken()
            give = relay.stream if streams else relay.whole
            await give(exchange, attempt, answer, server=self._server)

    async def chat_completions(self, exchange: Exchange) -> None:
        with self._place():
            body = await exchange.body()
            try:
                fields = _read_fields(body)
                model = msgspec.json.decode(fields.get("model", b"null"), type=str | None)
            except msgspec.ValidationError as error:
                raise InvalidRequest(f"{error}.", param=None, code="invalid_type") from None
            except NOT_JSON as error:
                raise InvalidRequest(f"The body is not JSON: {error}.", param=None) from None
            route = self._models.route(model)
            exchange.model = model or ""
            exchange.dialect = route.dialect.name
            if _apply(route, fields):
                body = msgspec.json.encode(fields)
            work = self._verbatim(exchange, route.upstream, "chat/completions", body)
            await exchange.while_client_waits(work)

    async def models(self, exchange: Exchange) -> None:
        upstream = self._models.only_upstream
        if upstream is None:
            await exchange.whole(200, msgspec.json.encode(self._models.entries()))
            return
        with self._place():
            await exchange.while_client_waits(self._verbatim(exchange, upstream, "models"))

    async def model(self, exchange: Exchange) -> None:
        model = exchange.path_param("id")
        upstream = self._models.only_upstream
        if upstream is None:
            await exchange.whole(200, msgspec.json.encode(self._models.entry(model)))
            return
        if any(part in ("", ".", "..") for part in model.split("/")):
            raise _unknown_path(exchange)  # such a path would lead elsewhere on the upstream
        path = f"models/{quote(model, safe='/:@')}"
        with self._place():
            await exchange.while_client_waits(self._verbatim(exchange, upstream, path))

    async def _verbatim(
        self, exchange: Exchange, upstream: Upstream, path: str, body: bytes | None = None
    ) -> None:
        call = self._upstreams.call(
            upstream,
            path,
            body=body,
            authorization=exchange.header("authorization"),
            accept=exchange.header("accept") or "application/json",
        )
        async with call as answer:
            await relay.verbatim(exchange, answer)

    @contextmanager
    def _place(self) -> Generator[None]:
        """A place among the requests that are answered at once; raises Overloaded without one."""
        limit = self._server.max_concurrent_requests
        if self._open >= limit:
            raise Overloaded(limit)
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1


def _model_of(body: bytes) -> str | None:
    """The model that a request asks for; raises InvalidRequest for what is no JSON object."""
    try:
        return _read_head(body).model
    except NOT_JSON:
        read_request(body)  # raises, and says what is wrong
        return None


def _note(exchange: Exchange, attempt: Attempt) -> None:
    """What an attempt loses, for the log."""
    exchange.notes = relay.notices_header(attempt.notices).get("x-translator-notices", "")
    for notice in attempt.notices:
        log.debug("%s: %s: %s", exchange.request_id, notice.path, notice.message)


def _unknown_path(exchange: Exchange) -> NotFound:
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
