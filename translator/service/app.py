"""The service as an ASGI application: the only place where network, time and randomness enter.

Every request becomes an `Exchange`. Whatever an endpoint raises before the first byte of its answer
becomes an HTTP error here, in OpenAI's envelope; after it, endpoints end their streams themselves.
Each exchange leaves one line in the log. Secrets are in neither.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import httpx
from starlette.routing import Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from translator.errors import TranslatorError

from .errors import ClientLeft, UpgradeRefused
from .exchange import Exchange, NewId
from .models import ModelTable
from .routes import Endpoints
from .settings import Settings
from .upstream import Upstreams

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
) -> ASGIApp:
    """The application for these settings.

    `transport` stands in for the network to the upstreams, `clock` for the time in seconds.
    """
    upstreams = Upstreams(settings.server, transport)
    endpoints = Endpoints(
        server=settings.server,
        models=ModelTable(settings, created=int(clock())),
        upstreams=upstreams,
        clock=clock,
        new_id=new_id,
    )

    @asynccontextmanager
    async def lifespan(_app: object) -> AsyncGenerator[None]:
        yield
        await upstreams.aclose()

    router = Router(
        endpoints.routes(), redirect_slashes=False, default=endpoints.unknown, lifespan=lifespan
    )
    return Front(router, settings=settings, clock=clock, new_id=new_id)


class Front:
    """What every request passes on its way in, and every answer on its way out."""

    def __init__(
        self, inner: ASGIApp, *, settings: Settings, clock: Callable[[], float], new_id: NewId
    ) -> None:
        self._inner = inner
        self._server = settings.server
        self._clock = clock
        self._new_id = new_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._inner(scope, receive, send)
            return
        if scope["type"] == "websocket":
            scope, receive, send = _as_http(scope, receive, send)
        exchange = Exchange(scope, receive, send, server=self._server, new_id=self._new_id)
        scope["exchange"] = exchange
        began = self._clock()
        try:
            await self._answer(exchange, scope, receive, send)
        finally:
            log.info("%s", _line(exchange, self._clock() - began))

    async def _answer(self, exchange: Exchange, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            try:
                if (exchange.header("upgrade") or "").lower() == "websocket":
                    raise UpgradeRefused
                await self._inner(scope, receive, send)
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
    """A WebSocket handshake as the HTTP request that it is, to refuse it with a status and a body.

    Only where the server was started with a WebSocket library does it call us so.
    """
    answerable = "websocket.http.response" in scope.get("extensions", {})

    async def send_refusal(message: Message) -> None:
        if answerable:
            await send({**message, "type": f"websocket.{message['type']}"})
        elif message["type"] == "http.response.start":
            await send({"type": "websocket.close"})

    return {**scope, "type": "http", "method": "GET"}, receive, send_refusal


def _line(exchange: Exchange, seconds: float) -> str:
    """The log line of one exchange. What came from the client is quoted where it is not plain."""
    words = [exchange.method, _plain(exchange.path), str(exchange.status or "-")]
    words.append(f"{max(0, round(seconds * 1000))}ms")
    facts = {name: getattr(exchange, name) for name in ("model", "dialect", "notes", "outcome")}
    words += [f"{name}={_plain(value)}" for name, value in facts.items() if value]
    words.append(f"id={exchange.request_id}")
    return " ".join(words)


def _plain(text: str) -> str:
    text = text[:200]
    return text if text.isascii() and text.isprintable() and " " not in text else ascii(text)
