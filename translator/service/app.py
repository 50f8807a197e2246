"""The service as an ASGI application: the only place where network, time and randomness enter.

Every request becomes an `Exchange`. Whatever an endpoint raises before the first byte of its answer
becomes an HTTP error here, in OpenAI's envelope; after it, endpoints end their streams themselves.
Each exchange leaves one line in the log, and so does each turn on a WebSocket. Secrets are in
neither.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
from starlette.routing import Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from translator.errors import TranslatorError

from .errors import ClientLeft, Overloaded, UpgradeRefused
from .exchange import Exchange
from .models import ModelTable
from .record import NewId
from .routes import Endpoints
from .settings import Settings
from .turn import Turns
from .upstream import Upstreams
from .websocket import Connection
from .witness import Watch

WEBSOCKET_PATHS = frozenset({"/v1/responses", "/responses"})

log = logging.getLogger(__name__)


def random_id(prefix: str) -> str:
    """An id that cannot be guessed: 128 random bits."""
    return prefix + secrets.token_hex(16)


def create_app(
    settings: Settings,
    *,
    transport: httpx.AsyncBaseTransport | None = None,
    clock: Callable[[], float] = time.time,
    new_id: NewId = random_id,
    watch: Watch | None = None,
) -> ASGIApp:
    """The application for these settings.

    `transport` stands in for the network to the upstreams, `clock` for the time in seconds.
    `watch` decides who looks on at a request.
    """
    upstreams = Upstreams(settings.server, transport)
    turns = Turns(
        server=settings.server,
        models=ModelTable(settings, created=int(clock())),
        upstreams=upstreams,
        clock=clock,
        new_id=new_id,
    )
    endpoints = Endpoints(turns)

    @asynccontextmanager
    async def lifespan(_app: object) -> AsyncGenerator[None]:
        yield
        await upstreams.aclose()

    router = Router(
        endpoints.routes(), redirect_slashes=False, default=endpoints.unknown, lifespan=lifespan
    )
    return Front(router, turns=turns, watch=watch)


class Front:
    """What every request passes on its way in, and every answer on its way out."""

    def __init__(self, inner: ASGIApp, *, turns: Turns, watch: Watch | None) -> None:
        self._inner = inner
        self._turns = turns
        self._watch = watch
        self._websockets = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._inner(scope, receive, send)
            return
        turns = self._turns
        http = _as_http(scope, receive, send) if scope["type"] == "websocket" else None
        exchange = Exchange(
            *(http or (scope, receive, send)), server=turns.server, new_id=turns.new_id
        )
        opens = http is not None and turns.server.websocket and exchange.path in WEBSOCKET_PATHS
        if self._watch is not None and not opens:
            exchange.witness = self._watch(exchange)
        began = turns.clock()
        try:
            if opens:
                await self._answer(exchange, self._converse(exchange, receive, send))
            else:
                await self._answer(exchange, self._route(exchange, scope, receive, send))
        finally:
            exchange.over(turns.clock() - began)

    async def _route(self, exchange: Exchange, scope: Scope, receive: Receive, send: Send) -> None:
        """Have the endpoint of a path answer."""
        if (exchange.header("upgrade") or "").lower() == "websocket":
            raise UpgradeRefused
        scope["exchange"] = exchange
        await self._inner(scope, receive, send)

    async def _converse(self, exchange: Exchange, receive: Receive, send: Send) -> None:
        """Answer on a WebSocket for as long as it is open."""
        limit = self._turns.server.max_websockets
        if self._websockets >= limit:
            raise Overloaded(limit)
        self._websockets += 1
        try:
            connection = Connection(
                receive,
                send,
                record=exchange,
                turns=self._turns,
                authorization=exchange.header("authorization"),
                watch=self._watch,
            )
            await connection.run()
        finally:
            self._websockets -= 1

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
    if not exchange.started:
        await exchange.error(error)


def _as_http(scope: Scope, receive: Receive, send: Send) -> tuple[Scope, Receive, Send]:
    """A WebSocket handshake as the HTTP request that it is; it is answered with a status so."""
    answerable = "websocket.http.response" in scope.get("extensions", {})

    async def send_refusal(message: Message) -> None:
        if answerable:
            await send({**message, "type": f"websocket.{message['type']}"})
        elif message["type"] == "http.response.start":
            await send({"type": "websocket.close"})

    return {**scope, "type": "http", "method": "GET"}, receive, send_refusal
