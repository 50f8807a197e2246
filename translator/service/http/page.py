"""The endpoints of the page at `/`, loaded when the first of them is asked for.

    GET /                the page, whole without JavaScript; `?model=ID` chooses the model
    GET /page/content    what depends on the key and the model, as JSON, for the page's script
    GET /page/live       what is being answered, as server-sent events
    GET /page/FILE       style.css, script.js, icon.svg; readme: the documentation as text

Where there are `[clients]`, content and live rows need a key, and show what is that client's. Else
live rows are for visitors on this machine (`page.visitors`). No page of another origin can read any
of it: `cors_origins` do not apply here.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Mapping
from functools import cache
from urllib.parse import urlsplit

import msgspec

from translator.service.access.client import Client
from translator.service.base.errors import ClientLeft, OriginRefused, PageRefused, TooManyFeeds
from translator.service.config.settings import Settings
from translator.service.page import document, running
from translator.service.page.models import Models
from translator.service.page.peers import Peers
from translator.service.page.running import Running
from translator.service.page.visitors import Visitor
from translator.service.turns.dispatcher import Dispatcher

from .absent_endpoints import unknown_path
from .exchange import Exchange

KEY_ENV = "TRANSLATOR_API_KEY"
"""The environment variable of a key in the snippets."""

MAX_FEEDS = 16
"""Most browsers that follow what is being answered, for each worker."""

UPDATE_S = 0.5
"""Seconds between two updates of a feed."""

KEEP_ALIVE_S = 15.0
"""Longest silence of a feed."""

MAX_FEED_S = 3600.0
"""How long a feed lasts; then the browser asks for the next."""

SECURITY = {
    "cache-control": "no-store",
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "clipboard-write=(self)",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}

_HTML = {"content-type": "text/html; charset=utf-8"}
_TEXT = {"content-type": "text/plain; charset=utf-8"}
_JSON = {"content-type": "application/json"}
_EVENTS = {
    "content-type": "text/event-stream; charset=utf-8",
    "x-accel-buffering": "no",  # else nginx buffers a stream
}


class _Update(msgspec.Struct):
    """What an event of the feed holds."""

    now: float
    rows: list[running.Row]
    total: int
    silent: int


class Page:
    """The endpoints."""

    def __init__(
        self, settings: Settings, dispatcher: Dispatcher, peers: socket.socket | None
    ) -> None:
        """`peers` is this worker's socket for the others; None: there are none."""
        self._settings = settings
        self._dispatcher = dispatcher
        self._models = Models(dispatcher.models, dispatcher.bounds)
        self.peers = None if peers is None else Peers(peers, self._here)
        self._feeds = 0
        self._key_env = KEY_ENV if _needs_key(settings) else None

    async def respond(self, exchange: Exchange) -> None:
        """Respond to a request of the page. Raises InvalidRequest."""
        exchange.added = {}  # no headers of CORS
        visitor = Visitor.of(exchange.peer, exchange.record.headers)
        # By default the page is for this machine alone, under whatever name others call it.
        if self._settings.server.status_page is None and not visitor.names_this_machine:
            raise unknown_path(exchange.method, exchange.path)
        name = exchange.path.removeprefix("/page/")
        if name in document.CONTENT_TYPES:
            await _send(exchange, document.asset(name), _type(name))
        elif exchange.path == "/":
            await self._document(exchange, visitor)
        elif name == "content":
            _check_origin(visitor)
            found = await self._content(exchange, visitor)
            await _send(exchange, msgspec.json.encode(found), _JSON)
        elif name == "live":
            _check_origin(visitor)
            await self._live(exchange, visitor)
        elif name == "readme" and (text := readme()):
            await _send(exchange, text.encode(), _TEXT)
        else:
            raise unknown_path(exchange.method, exchange.path)

    async def _document(self, exchange: Exchange, visitor: Visitor) -> None:
        if not (visitor.is_own_page or visitor.opens_page):
            raise OriginRefused(visitor.origin)
        own_keys = self._settings.needs_keys
        is_open = not own_keys and visitor.is_local
        access = document.Access(
            key_env=self._key_env,
            own_keys=own_keys,
            live="key" if own_keys else "open" if is_open else "none",
            has_metrics=self._shows_metrics(),
            has_readme=bool(readme()),
        )
        base_url = self._base_url(visitor)
        if own_keys:
            found = document.content([], 0, "", chosen="", base_url=base_url, key_env=self._key_env)
            found = msgspec.structs.replace(found, remark="Enter a key above to see its models")
        else:
            found = await self._content(exchange, visitor)
        sample = await self._sample(None) if is_open else Running([], 0)
        page = document.document(found, sample, self._dispatcher.clock(), base_url, access)
        await _send(exchange, page, _HTML)

    def _shows_metrics(self) -> bool:
        """Whether a browser finds /metrics beside the page: a link sends no key."""
        server = self._dispatcher.server
        return server.metrics and server.metrics_port is None and not self._settings.needs_keys

    async def _content(self, exchange: Exchange, visitor: Visitor) -> document.Content:
        listed = await self._models.listed(exchange.context.client)
        return document.content(
            listed.models,
            listed.total,
            listed.remark,
            chosen=exchange.query("model"),
            base_url=self._base_url(visitor),
            key_env=self._key_env,
        )

    def _base_url(self, visitor: Visitor) -> str:
        """The base URL by the name that the visitor uses, else by the settings."""
        server = self._dispatcher.server
        host = f"[{server.host}]" if ":" in server.host else server.host
        return f"http://{visitor.host or f'{host}:{server.port}'}/v1"

    def asked(self) -> None:
        """Other workers have sent something to this worker's socket."""
        if self.peers is not None:
            self.peers.receive()

    # --- what is being answered -----------------------------------------------------------------

    def _here(self, client: str | None) -> Running:
        return running.running(self._dispatcher.bounds, client, self._dispatcher.clock)

    async def _sample(self, client: Client | None) -> Running:
        """The answers of all workers; with a client, only its own."""
        name = None if client is None else client.name
        others, silent = list[Running](), self._dispatcher.server.workers - 1
        if self.peers is not None:
            others, silent = await self.peers.ask(name)
        return running.joined([self._here(name), *others], silent)

    async def _live(self, exchange: Exchange, visitor: Visitor) -> None:
        if exchange.context.client is None and not visitor.is_local:
            raise PageRefused
        if exchange.method == "HEAD":
            await _send(exchange, b"", _EVENTS)
            return
        if self._feeds >= MAX_FEEDS:
            raise TooManyFeeds(MAX_FEEDS)
        self._feeds += 1
        try:
            await exchange.while_connected(self._feed(exchange))
        except ClientLeft:
            if not exchange.started:
                raise  # else it is how a feed ends
        finally:
            self._feeds -= 1

    async def _feed(self, exchange: Exchange) -> None:
        """Send an event when something has changed, and comments meanwhile.

        The next sample is taken when the one before is on its way, so a slow browser gets fewer,
        and nothing is held for it.
        """
        now = asyncio.get_running_loop().time
        until = now() + MAX_FEED_S
        await exchange.start(200, SECURITY | _EVENTS)
        before: Running | None = None
        sent_at = now()
        while now() < until and not exchange.draining:
            sample = await self._sample(exchange.context.client)
            if sample != before:
                update = _Update(self._dispatcher.clock(), sample.rows, sample.total, sample.silent)
                await exchange.write(b"data: %b\n\n" % msgspec.json.encode(update))
                before, sent_at = sample, now()
            elif now() - sent_at >= KEEP_ALIVE_S:
                await exchange.write(b":\n\n")
                sent_at = now()
            await asyncio.sleep(UPDATE_S)
        await exchange.end()


async def _send(exchange: Exchange, body: bytes, headers: Mapping[str, str]) -> None:
    await exchange.whole(200, body, {**SECURITY, **headers})


def _type(name: str) -> dict[str, str]:
    return {"content-type": document.CONTENT_TYPES[name], "cache-control": "no-cache"}


def _check_origin(visitor: Visitor) -> None:
    """Raise OriginRefused for a page of another origin."""
    if not visitor.is_own_page:
        raise OriginRefused(visitor.origin)


def _needs_key(settings: Settings) -> bool:
    """Whether a client needs a key: one of this service, or its own for an upstream elsewhere."""
    return settings.needs_keys or any(
        not upstream.has_credential and not _is_here(upstream.base_url)
        for upstream in settings.upstreams.values()
    )


def _is_here(url: str) -> bool:
    """Whether an upstream runs on this machine: such a one seldom has keys."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


@cache
def readme() -> str:
    """The documentation that is installed with the package; empty where there is none."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        text = distribution("translator").read_text("METADATA") or ""
    except PackageNotFoundError:
        return ""
    return text.partition("\n\n")[2].strip()  # below the headers
