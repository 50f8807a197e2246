"""The service as an ASGI application: the only place where network, time and randomness enter.

Every request becomes an `Exchange`. Whatever an endpoint raises before the first byte of its answer
becomes an HTTP error here, in OpenAI's envelope; after it, endpoints end their streams themselves.
Each exchange leaves one line in the log, and so does each turn on a WebSocket. Secrets are in
neither.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import httpx
from starlette.routing import Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from translator.service.access.clients import Clients
from translator.service.base.drain import Drain
from translator.service.base.errors import ClientLeft, Overloaded, UpgradeRefused
from translator.service.base.ids import NewId, random_id
from translator.service.base.sinks import EXTENSION
from translator.service.config.settings import Settings, SettingsError
from translator.service.models.table import ModelTable
from translator.service.observe.fan_out import together
from translator.service.observe.observer import Watch
from translator.service.observe.record import PROBED
from translator.service.turns.turn import Turns
from translator.service.upstreams.client import Upstreams
from translator.wire.errors import TranslatorError

from .cors import Browsers
from .exchange import Exchange
from .routes import Endpoints, unknown_path
from .websocket import Connection

if TYPE_CHECKING:
    from translator.service.telemetry.metrics import Metrics
    from translator.service.telemetry.otel import Spans

WEBSOCKET_PATHS = frozenset({"/v1/responses", "/responses"})

log = logging.getLogger(__name__)


def create_app(
    settings: Settings,
    *,
    transport: httpx.AsyncBaseTransport | None = None,
    clock: Callable[[], float] = time.time,
    new_id: NewId = random_id,
    watch: Watch | None = None,
    drain: Drain | None = None,
) -> ASGIApp:
    """The application for these settings.

    `transport` stands in for the network to the upstreams, `clock` for the time in seconds.
    `watch` decides who looks on at a request. `drain` is how the server says that it stops.
    """
    upstreams = Upstreams(settings.server, transport, clock=clock)
    metrics = None
    if settings.server.metrics:
        from translator.service.telemetry.metrics import Metrics  # not before: see there

        metrics = Metrics(settings)
    spans = _spans() if settings.server.traces else None
    turns = Turns(
        server=settings.server,
        models=ModelTable(settings, created=int(clock())),
        upstreams=upstreams,
        clock=clock,
        new_id=new_id,
        drain=drain or Drain(),
    )
    endpoints = Endpoints(turns, metrics)

    @asynccontextmanager
    async def lifespan(_app: object) -> AsyncGenerator[None]:
        async with AsyncExitStack() as until_the_end:
            until_the_end.push_async_callback(upstreams.aclose)
            if metrics is not None:
                await until_the_end.enter_async_context(metrics.watching_the_loop())
            if spans is not None:
                until_the_end.push_async_callback(asyncio.to_thread, spans.close)
            yield

    router = Router(
        endpoints.routes(), redirect_slashes=False, default=endpoints.unknown, lifespan=lifespan
    )
    watches = [one for one in (spans, metrics, watch) if one is not None]
    clients = Clients(settings.clients, clock) if settings.clients else None
    return Front(router, turns=turns, clients=clients, watch=together(watches), metrics=metrics)


def _spans() -> Spans:
    try:
        from translator.service.telemetry.otel import exporting
    except ModuleNotFoundError as error:
        raise SettingsError(
            [f"server.traces: {error.name} is missing; pip install 'translator[otel]'"]
        ) from None
    return exporting()


OPEN_PATHS = frozenset({"/healthz", "/readyz", "/openapi.json"})
"""What needs no key: whether the service is up, and how to speak to it."""


class Front:
    """What every request passes on its way in, and every answer on its way out."""

    def __init__(
        self,
        inner: ASGIApp,
        *,
        turns: Turns,
        clients: Clients | None,
        watch: Watch | None,
        metrics: Metrics | None,
    ) -> None:
        self._inner = inner
        self._turns = turns
        self._clients = clients
        self._browsers = Browsers(turns.server)
        self._watch = watch
        self._metrics = metrics
        self._websockets = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._inner(scope, receive, send)
            return
        turns = self._turns
        http = _as_http(scope, receive, send) if scope["type"] == "websocket" else None
        exchange = Exchange(
            *(http or (scope, receive, send)),
            server=turns.server,
            new_id=turns.new_id,
            drain=turns.drain,
        )
        opens = (
            http is not None
            and turns.server.websocket
            and exchange.path in WEBSOCKET_PATHS
            and self._has_door(scope, exchange.path)
        )
        key = None if self._clients is None else exchange.take("authorization")
        if self._watch is not None and not opens:
            exchange.witness = self._watch(exchange)
        exchange.began = turns.clock()
        try:
            if opens:
                await self._answer(exchange, self._converse(exchange, key, scope, receive, send))
            else:
                await self._answer(exchange, self._route(exchange, key, scope, receive, send))
        finally:
            exchange.close()
            exchange.over(turns.clock() - exchange.began)

    def _admit(self, exchange: Exchange, key: str | None, *, websocket: bool = False) -> None:
        """Let in who may ask; raises InvalidRequest."""
        self._browsers.check(exchange, websocket=websocket)
        on_own_port = self._turns.server.metrics_port is not None and exchange.path in PROBED
        if self._clients is not None and exchange.path not in OPEN_PATHS and not on_own_port:
            exchange.client = self._clients.of_key(key)

    async def _route(
        self, exchange: Exchange, key: str | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Have the endpoint of a path answer."""
        if (allowed := self._browsers.preflight(exchange)) is not None:
            await exchange.start(204, allowed)
            await exchange.end()
            return
        self._admit(exchange, key)
        if not self._has_door(scope, exchange.path):
            raise unknown_path(exchange)
        if (exchange.header("upgrade") or "").lower() == "websocket":
            raise UpgradeRefused
        scope["exchange"] = exchange
        try:
            await self._inner(scope, receive, send)
        finally:
            del scope["exchange"]  # which holds the scope

    def _has_door(self, scope: Scope, path: str) -> bool:
        """Whether a path is answered on the port that it was asked on."""
        own_port = self._turns.server.metrics_port
        if own_port is None:
            return True
        server: tuple[str, int | None] | None = scope.get("server")
        if server is not None and server[1] == own_port:
            return path in PROBED
        return path != "/metrics"

    async def _converse(
        self, exchange: Exchange, key: str | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer on a WebSocket for as long as it is open."""
        self._admit(exchange, key, websocket=True)
        limit = self._turns.server.max_websockets
        if self._websockets >= limit:
            raise Overloaded(limit)
        self._websockets += 1
        if self._metrics is not None:
            self._metrics.websockets_open.inc()
        try:
            connection = Connection(
                receive,
                send,
                record=exchange,
                turns=self._turns,
                authorization=exchange.header("authorization"),
                watch=self._watch,
                direct=scope.get("extensions", {}).pop(EXTENSION, None),
            )
            await connection.run()
        finally:
            self._websockets -= 1
            if self._metrics is not None:
                self._metrics.websockets_open.dec()

    async def _answer(self, exchange: Exchange, answering: Awaitable[None]) -> None:
        try:
            try:
                await answering
            except TranslatorError as error:
                await _refuse(exchange, error)
            except ClientLeft:
                raise
            except Exception:
                log.exception("%s: this is a fault in translator", exchange.request_id)
                fault = TranslatorError("The translator failed.", code="server_error")
                await _refuse(exchange, fault)
        except ClientLeft as left:
            exchange.outcome = f"client left: {left}" if str(left) else "client left"


async def _refuse(exchange: Exchange, error: TranslatorError) -> None:
    """Answer with an error. Where an answer has begun it stays cut, which clients notice."""
    exchange.outcome = error.code or error.type
    exchange.failure = error
    if not exchange.started:
        if exchange.witness is not None:
            exchange.witness.refused(error)
        await exchange.error(error)
    elif exchange.witness is not None:
        exchange.witness.broke(error)


def _as_http(scope: Scope, receive: Receive, send: Send) -> tuple[Scope, Receive, Send]:
    """A WebSocket handshake as the HTTP request that it is; it is answered with a status so."""
    extensions = dict(scope.get("extensions", {}))
    extensions.pop(EXTENSION, None)  # it is for messages
    answerable = "websocket.http.response" in extensions

    async def send_refusal(message: Message) -> None:
        if answerable:
            await send({**message, "type": f"websocket.{message['type']}"})
        elif message["type"] == "http.response.start":
            await send({"type": "websocket.close"})

    as_http = {**scope, "type": "http", "method": "GET", "extensions": extensions}
    return as_http, receive, send_refusal
