"""The ASGI application: the only place where network, time and randomness enter the service.

Every request becomes an `Exchange`. What an endpoint raises before the first byte of its response
becomes an HTTP error here, in OpenAI's envelope; after it, endpoints end their streams themselves.
Each exchange leaves one line in the log, and so does each turn on a WebSocket.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import httpx
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from translator.service.access.client import Clients
from translator.service.access.clients import Clients as ConfiguredClients
from translator.service.access.clients import NewClient
from translator.service.base import connection_meter, uploads
from translator.service.base.drain import Drain
from translator.service.base.errors import (
    ClientLeft,
    InternalError,
    TooManyRequests,
    UpgradeRefused,
)
from translator.service.base.hops import Hops
from translator.service.base.ids import REQUEST_ID, NewId, random_id
from translator.service.base.sinks import EXTENSION
from translator.service.base.uploads import Uploads
from translator.service.config.proxies import proxies_of
from translator.service.config.secrets import settings_secrets
from translator.service.config.settings import Settings, SettingsError
from translator.service.models.table import ModelTable
from translator.service.observe.fan_out import fan_out
from translator.service.observe.observer import (
    NOBODY,
    AttemptFailed,
    ErrorSent,
    ObserverFactory,
)
from translator.service.observe.record import ENDED_WITH_SERVICE, PROBED
from translator.service.turns.dispatcher import Dispatcher
from translator.service.upstreams.client import Upstreams
from translator.service.upstreams.transport import needs_tls
from translator.wire.errors import TranslatorError

from .absent_endpoints import absent_error, unknown_path
from .cors import OriginPolicy
from .exchange import Exchange
from .history import Histories
from .near_paths import plain_path
from .routes import Endpoints
from .websocket import WebSocketSession

if TYPE_CHECKING:
    from translator.service.database.statement import DatabaseTime
    from translator.service.telemetry.metrics import Metrics
    from translator.service.telemetry.otel import Spans

    from .page import Page

OPEN_PATHS = frozenset({"/healthz", "/readyz", "/openapi.json"})
"""Paths that need no key: health, and the description of the API."""

PAGE_PATHS = frozenset(
    {"/", *(f"/page/{name}" for name in ("style.css", "script.js", "icon.svg", "readme"))}
)
"""The same where there is a page for people: what of it tells nothing of the requests."""

log = logging.getLogger(__name__)


def create_app(
    settings: Settings,
    *,
    transport: httpx.AsyncBaseTransport | None = None,
    clock: Callable[[], float] = time.time,
    timer: Callable[[], float] | None = None,
    new_id: NewId = random_id,
    observe: ObserverFactory | None = None,
    drain: Drain | None = None,
    new_client: NewClient | None = None,
    peers: socket.socket | None = None,
    database_time: DatabaseTime | None = None,
) -> ASGIApp:
    """The application for these settings.

    `transport` replaces the network to the upstreams, `clock` the time in seconds since 1970.
    `timer` measures durations: by default the monotonic clock, which no one sets, or `clock` where
    that is replaced. `observe` makes the observer of each request. The server says through `drain`
    that it shuts down. `new_client` makes each client, where its limits are not those of this
    process alone. `peers` is the socket on which workers ask each other what is being answered.
    `database_time` is the time of databases, for tests.
    """
    timer = timer or (time.monotonic if clock is time.time else clock)
    hops = Hops(random_id("")[:16])
    secrets = settings_secrets(settings)
    urls = [url for upstream in settings.upstreams.values() for url in upstream.urls]
    upstreams = Upstreams(
        settings.server,
        transport,
        clock=timer,
        secrets=secrets,
        hops=hops,
        tls=needs_tls(urls, proxies_of(os.environ)),
    )
    metrics = None
    if settings.server.metrics:
        from translator.service.telemetry.metrics import Metrics  # not before: see there

        metrics = Metrics(settings)
    spans = _spans() if settings.server.traces else None
    store = None
    if settings.store is not None:
        from .stores import open_store  # which imports what only a store needs

        store = open_store(
            settings.store,
            settings.server,
            new_id,
            database_time,
            None if metrics is None else metrics.store,
        )
    layer = accounts = None
    if settings.accounts is not None:
        from .account_layer import open_layer  # which imports what only accounts need

        layer = open_layer(
            settings.accounts,
            settings,
            database_time,
            None if metrics is None else metrics.accounts,
        )
        accounts = layer.accounts
    dispatcher = Dispatcher(
        server=settings.server,
        models=ModelTable(settings, created=int(clock())),
        upstreams=upstreams,
        clock=clock,
        timer=timer,
        new_id=new_id,
        drain=drain or Drain(),
        store=None if store is None else store.responses,
    )
    mcp = search = None
    if (tools := settings.tools) is not None and tools.mcp is not None:
        from .mcp_layer import open_mcp  # which imports what only MCP servers need

        mcp = open_mcp(settings.server, tools, tools.mcp, timer, hops)
    if tools is not None and tools.search is not None:
        from .alpha_search import search_endpoint  # which imports what only a search needs

        search = search_endpoint(settings.server, tools, tools.search, dispatcher, hops, mcp)
    if tools is not None and mcp is not None:
        from .mcp_layer import host_servers

        host_servers(dispatcher, tools, mcp)
    page_paths: frozenset[str] = PAGE_PATHS if settings.serves_page else frozenset()

    @cache
    def load_page() -> Page:
        from .page import Page  # few ask for it

        return Page(settings, dispatcher, peers)

    endpoints = Endpoints(
        dispatcher,
        metrics,
        load_page if page_paths else None,
        None if store is None else store.endpoints,
        layer,
        search,
    )

    @asynccontextmanager
    async def lifespan(_app: object) -> AsyncGenerator[None]:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(upstreams.aclose)
            if store is not None:
                await stack.enter_async_context(store.running())
            if accounts is not None:
                await stack.enter_async_context(accounts.running())
            if mcp is not None:
                await stack.enter_async_context(mcp.running())
            if search is not None:
                await stack.enter_async_context(search.running())
            if not all(one.has_version for one in settings.upstreams.values()):
                await stack.enter_async_context(_checking_base_urls(settings, upstreams))
            if peers is not None:
                loop = asyncio.get_running_loop()
                loop.add_reader(peers, lambda: load_page().asked())
                stack.callback(loop.remove_reader, peers)
            if metrics is not None:
                await stack.enter_async_context(metrics.measuring_lag())
            if spans is not None:
                stack.push_async_callback(asyncio.to_thread, spans.close)
            yield

    factories = [one for one in (spans, metrics, observe) if one is not None]
    clients: Clients | None = accounts
    if settings.clients:
        clients = ConfiguredClients(settings.clients, timer, new_client)
    return Gateway(
        endpoints.router(lifespan),
        dispatcher=dispatcher,
        clients=clients,
        observe=fan_out(factories),
        metrics=metrics,
        hops=hops,
        open_paths=OPEN_PATHS | page_paths,
        own_door=None if layer is None else layer.own_door,
    )


@asynccontextmanager
async def _checking_base_urls(settings: Settings, upstreams: Upstreams) -> AsyncGenerator[None]:
    """Check the base URLs in a task, which ends with the service."""
    from translator.service.upstreams.base_url import check_base_urls  # not before: see there

    task = asyncio.create_task(check_base_urls(upstreams, settings.upstreams.values()))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def _spans() -> Spans:
    try:
        from translator.service.telemetry.otel import otlp_spans
    except ModuleNotFoundError as error:
        from translator.program.invocation import install_hint

        raise SettingsError(
            [f"server.traces: {error.name} is missing; {install_hint('service,otel')} installs it"]
        ) from None
    return otlp_spans()


class Gateway:
    """The outermost ASGI application: authentication, origins, and errors of every request."""

    def __init__(
        self,
        inner: ASGIApp,
        *,
        dispatcher: Dispatcher,
        clients: Clients | None,
        observe: ObserverFactory | None,
        metrics: Metrics | None,
        hops: Hops,
        open_paths: frozenset[str],
        own_door: Callable[[str], bool] | None = None,
    ) -> None:
        """`open_paths` need no key; whom those of the `own_door` let in they see to themselves."""
        self._inner = inner
        self._hops = hops
        self._dispatcher = dispatcher
        self._server = dispatcher.server
        self._clients = clients
        self._open_paths = open_paths
        self._own_door = own_door
        self._origins = OriginPolicy(dispatcher.server)
        self._observe = observe
        self._metrics = metrics
        self._websockets = 0
        server = self._server
        self._sessions: set[WebSocketSession] = set()
        self._histories = Histories(self._server.max_held_bytes)
        self._uploads = Uploads(
            max_bytes=server.max_upload_bytes,
            silence_s=server.client_timeout_s,
            total_s=server.upload_timeout_s,
            bytes_per_s=server.min_upload_bytes_per_s,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            self._share(scope.get("state", {}))
            await self._inner(scope, receive, send)
            return
        timer = self._dispatcher.bounds.timer
        http = _as_http(scope, receive, send) if scope["type"] == "websocket" else None
        exchange = Exchange(
            *(http or (scope, receive, send)),
            server=self._server,
            new_id=self._dispatcher.new_id,
            drain=self._dispatcher.bounds.drain,
            uploads=self._uploads,
            started_at=timer(),
        )
        REQUEST_ID.set(exchange.record.request_id)
        opens_websocket = (
            http is not None
            and self._server.websocket
            and plain_path(exchange.path) == "/responses"
            and self._served_on_this_port(scope, exchange.path)
        )
        knows_clients = self._clients is not None and not self._has_own_door(exchange.path)
        key = exchange.pop_header("authorization") if knows_clients else None
        if self._observe is not None and not opens_websocket:
            exchange.context.observer = self._observe(exchange.record) or NOBODY
        try:
            if opens_websocket:
                await self._respond(exchange, self._websocket(exchange, key, scope, receive, send))
            else:
                await self._respond(exchange, self._route(exchange, key, scope, receive, send))
        finally:
            exchange.close()
            if not exchange.context.goes_on:
                exchange.context.end(timer())

    def _share(self, state: MutableMapping[str, Any]) -> None:
        """Give our server what it shares with the application: ASGI's lifespan state."""
        state[uploads.STATE] = self._uploads
        if self._metrics is not None:
            state[connection_meter.STATE] = self._metrics.connections

    async def _admit(self, exchange: Exchange, key: str | None, *, websocket: bool = False) -> None:
        """Check the host, the origin, the key and the way of a request.

        Raises InvalidRequest and LoopDetected.
        """
        if self._has_own_door(exchange.path):
            self._origins.check_host(exchange)
            self._hops.check(exchange.record.headers)
            return
        self._origins.check(exchange, websocket=websocket)
        on_own_port = self._server.metrics_port is not None and exchange.path in PROBED
        if self._clients is not None and exchange.path not in self._open_paths and not on_own_port:
            client = await self._clients.find(key, fresh=websocket or exchange.method != "POST")
            exchange.context.admit(client)
        self._hops.check(exchange.record.headers)

    async def _route(
        self, exchange: Exchange, key: str | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Have the endpoint of the path respond."""
        if (allowed := self._origins.preflight(exchange)) is not None:
            await exchange.start(204, allowed)
            await exchange.end()
            return
        await self._admit(exchange, key)
        if not self._served_on_this_port(scope, exchange.path):
            raise unknown_path(exchange.method, exchange.path)
        if (exchange.header("upgrade") or "").lower() == "websocket":
            raise absent_error("GET", exchange.path) or UpgradeRefused()
        scope["exchange"] = exchange
        try:
            await self._inner(scope, receive, send)
        finally:
            del scope["exchange"]  # which holds the scope

    def _has_own_door(self, path: str) -> bool:
        return self._own_door is not None and self._own_door(path)

    def _served_on_this_port(self, scope: Scope, path: str) -> bool:
        """Whether a path is served on the port that the request came to."""
        own_port = self._server.metrics_port
        if own_port is None:
            return True
        server: tuple[str, int | None] | None = scope.get("server")
        if server is not None and server[1] == own_port:
            return path in PROBED
        return path != "/metrics"

    async def _websocket(
        self, exchange: Exchange, key: str | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Serve a WebSocket for as long as it is open."""
        await self._admit(exchange, key, websocket=True)
        limit = self._server.max_websockets
        if self._websockets >= limit and not self._close_idle_websocket():
            raise TooManyRequests(limit)
        self._websockets += 1
        if self._metrics is not None:
            self._metrics.websockets_open.inc()
        try:
            session = WebSocketSession(
                receive,
                send,
                context=exchange.context,
                dispatcher=self._dispatcher,
                authorization=exchange.authorization(),
                observe=self._observe,
                direct=scope.get("extensions", {}).pop(EXTENSION, None),
                uploads=self._uploads,
                histories=self._histories,
            )
            self._sessions.add(session)
            try:
                await session.run()
            finally:
                self._sessions.discard(session)
        finally:
            self._websockets -= 1
            if self._metrics is not None:
                self._metrics.websockets_open.dec()

    def _close_idle_websocket(self) -> bool:
        """Close the WebSocket that has been idle for longest; False if there is none."""
        idle = [(one.idle_since, one) for one in self._sessions if one.idle_since is not None]
        if not idle:
            return False
        min(idle, key=itemgetter(0))[1].give_way()
        return True

    async def _respond(self, exchange: Exchange, responding: Awaitable[None]) -> None:
        try:
            try:
                await responding
            except TranslatorError as error:
                await _refuse(exchange, error)
            except ClientLeft:
                raise
            except Exception:
                log.exception("internal error")
                await _refuse(exchange, InternalError())
        except asyncio.CancelledError:
            exchange.record.outcome = exchange.record.outcome or ENDED_WITH_SERVICE
            raise
        except ClientLeft as left:
            reason = str(left)
            exchange.record.outcome = f"client left: {reason}" if reason else "client left"


async def _refuse(exchange: Exchange, error: TranslatorError) -> None:
    """Respond with an error. A response that has begun stays cut, which clients notice."""
    exchange.record.outcome = error.code or error.type
    exchange.record.failure = error
    observer = exchange.context.observer
    if not exchange.started:
        observer.on(ErrorSent(error))
        await exchange.error(error)
    else:
        observer.on(AttemptFailed(error))


def _as_http(scope: Scope, receive: Receive, send: Send) -> tuple[Scope, Receive, Send]:
    """A WebSocket handshake as the HTTP request that it is, so that it can get an HTTP error."""
    extensions = dict(scope.get("extensions", {}))
    extensions.pop(EXTENSION, None)  # it writes messages
    can_refuse = "websocket.http.response" in extensions

    async def send_refusal(message: Message) -> None:
        if can_refuse:
            await send({**message, "type": f"websocket.{message['type']}"})
        elif message["type"] == "http.response.start":
            await send({"type": "websocket.close"})

    as_http = {**scope, "type": "http", "method": "GET", "extensions": extensions}
    return as_http, receive, send_refusal
