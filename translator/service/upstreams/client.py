"""The HTTP client for upstreams: headers of requests, errors of answers.

One client lives as long as the process: a connection pool and a TLS context per request cost more
than the request. It asks for no compression (an upstream would buffer a stream to compress it),
follows no redirect (the key would be sent along) and keeps no cookies (all clients would share
them).

Whose key is sent decides what a 401 means. The operator's own, if there is one: then the gateway is
at fault (502). Else the client's `Authorization` is passed on, and so is the 401. Neither key comes
back: it is taken out of errors, headers and the log (`Redaction`).
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial

import httpx

from translator.reader.upstream_errors import read_upstream_error
from translator.service.base.errors import OutOfDescriptors
from translator.service.base.hops import HEADER as HOPS
from translator.service.base.hops import Hops
from translator.service.base.redaction import Redaction
from translator.service.base.reusable_timeout import ReusableTimeout
from translator.service.base.sinks import ChunkSink
from translator.service.config.secrets import secrets_in, upstream_secrets
from translator.service.config.settings import Server, Upstream
from translator.service.observe.context import RequestContext
from translator.service.observe.observer import (
    NOBODY,
    ChunkReceived,
    Observer,
    UpstreamAnswered,
    UpstreamCalled,
)
from translator.wire.errors import UpstreamError, UpstreamTimeout

from .health import PROBE_TIMEOUT_S, UpstreamHealth
from .inflate import inflated
from .injected import InjectedTransport
from .judging import judged
from .replicas import Replicas
from .response import Transport as AnyTransport
from .response import UpstreamResponse
from .retries import Budget, RetryLoop
from .transport import Timeouts, Transport
from .transport_errors import TRANSPORT_ERRORS, is_ours, remedy, upstream_error

log = logging.getLogger(__name__)

MAX_ERROR_BYTES = 1024 * 1024
"""How much of an upstream's error body is read, in bytes; the rest cannot change the message."""

MAX_LOGGED_CHARACTERS = 500
"""Longest text of a transport's error in the log: it may quote what an upstream sent."""

RETRY_HEADERS = (
    "retry-after",
    "retry-after-ms",
    # OpenAI, Groq, Azure, Fireworks, DeepInfra
    *(
        f"x-ratelimit-{what}-{noun}"
        for what in ("limit", "remaining", "reset")
        for noun in (
            *("requests", "tokens", "input-tokens", "output-tokens", "project-tokens"),
            *("tokens-prompt", "tokens-generated", "tokens-cached-prompt"),  # Fireworks
            *("requests-minute", "requests-hour", "requests-day"),  # Cerebras
            *(
                "tokens-minute",
                "tokens-hour",
                "tokens-day",
                "tokens-month",
                "req-minute",
            ),  # Mistral
        )
    ),
    "x-ratelimit-over-limit",  # Fireworks
    "x-ratelimit-tokens-query-cost",  # Mistral
    "x-ratelimit-limit",  # OpenRouter, Together
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
)
"""The headers of an upstream that are passed on: those that tell a client when to try again."""

NO_HEADERS: Mapping[str, str] = {}

DEFAULT_HEADERS: Mapping[str, str] = {
    "accept": "*/*",
    "connection": "keep-alive",
    "accept-encoding": "identity",
    "user-agent": "translator",
}
"""The headers of a request that has none of these names."""

_DEFAULTS = {name: text for name, text in DEFAULT_HEADERS.items() if name != "accept"}

_MEDIA_TYPE = re.compile(r"[A-Za-z0-9.+-]+/[A-Za-z0-9.+*-]+")
_PARAMETERS = re.compile(r"[A-Za-z0-9 ;=._\"-]{0,100}")
_RETRY_VALUE = re.compile(r"[A-Za-z0-9 .,:;=_+-]{1,100}")

UPSTREAM_KEEPALIVE_S = 30.0
"""How long an idle connection to an upstream is kept. Load balancers close theirs after 60 s and
more, and a request that meets a closing connection is lost."""


class Upstreams:
    """The one HTTP client of the process. `secrets` are those of the settings."""

    def __init__(
        self,
        server: Server,
        transport: httpx.AsyncBaseTransport | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        secrets: Iterable[str] = (),
        hops: Hops | None = None,
        tls: bool = True,
    ) -> None:
        """`tls`: an upstream, or a proxy on the way to one, needs it."""
        self._hops = hops
        self._secrets = Redaction(secrets)
        self._redactions: dict[str, Redaction] = {}
        self.health = UpstreamHealth(clock)
        self._server = server
        self._clock = clock
        self._targets: dict[tuple[str, ...], tuple[Replicas, Budget]] = {}
        self._transport = _transport(server, transport, tls=tls)

    async def aclose(self) -> None:
        await self._transport.aclose()

    @asynccontextmanager
    async def call(
        self,
        upstream: Upstream,
        path: str,
        *,
        body: bytes | None = None,
        authorization: str | None,
        accept: str = "application/json",
        context: RequestContext | None = None,
    ) -> AsyncGenerator[Answer]:
        """`open` as a context manager, which closes the answer."""
        answer = await self.open(
            upstream, path, body=body, authorization=authorization, accept=accept, context=context
        )
        try:
            yield answer
        finally:
            await answer.aclose()

    async def open(
        self,
        upstream: Upstream,
        path: str,
        *,
        body: bytes | None = None,
        authorization: str | None,
        accept: str = "application/json",
        more: Mapping[str, str] = NO_HEADERS,
        context: RequestContext | None = None,
        redaction: Redaction | None = None,
        retries: int | None = None,
    ) -> Answer:
        """Send one request, POST when it has a body; the answer must be closed.

        `authorization` is the client's own, used only where the operator gave no key. `more` are
        further headers; the operator's replace them. `context` is that of the client's request.
        `redaction` is what `redaction()` returns, where that is there. `retries` is how often it
        may be sent again, where that is less than `server.retries`.
        Raises UpstreamError, and OutOfDescriptors.
        """
        observer: Observer = NOBODY
        if context is not None:
            context.record.upstream = upstream.name
            observer = context.observer
        headers = {"accept": accept, **more}
        if body is not None:
            headers["content-type"] = "application/json"
        if upstream.api_key is not None:
            headers["authorization"] = f"Bearer {upstream.api_key}"
        elif authorization is not None and not upstream.has_credential:
            headers["authorization"] = authorization
        headers |= {name.lower(): value for name, value in upstream.headers.items()}
        method = "GET" if body is None else "POST"

        async def send(url: str) -> UpstreamResponse:
            observer.on(UpstreamCalled(path, body))
            # each request has a span of its own, which `UpstreamCalled` begins
            identity = {} if context is None else context.record.upstream_headers()
            if context is not None and self._hops is not None:
                identity[HOPS] = self._hops.forwarded(context.record.headers)
            response = await self._transport.send(
                method, f"{url}/{path}", _with_defaults(identity, headers), body
            )
            observer.on(UpstreamAnswered(response.status, response.headers))
            return response

        try:
            response = await self._retry_loop(upstream, context, retries).run(send)
        except TRANSPORT_ERRORS as error:
            self.health.failed(upstream.name)
            redaction = redaction or self.redaction(upstream, authorization)
            raise _logged(error, upstream, "before it answered", redaction) from error
        self.health.answered(upstream.name, response.status)
        redaction = redaction or self.redaction(upstream, authorization)
        return Answer(response, upstream, observer, self._server.read_timeout_s, redaction)

    def redaction(self, upstream: Upstream, authorization: str | None) -> Redaction:
        """The secrets that an answer of an upstream must not tell; `authorization` as in `open`."""
        found = self._redactions.get(upstream.name)
        if found is None:
            found = self._secrets.with_secrets(upstream_secrets(upstream))
            self._redactions[upstream.name] = found
        if authorization is None or upstream.has_credential:
            return found
        return Redaction(partial(_secrets_with, found, authorization))  # most answers need none

    def take_retry(self, upstream: Upstream) -> bool:
        """Take a retry from the budget of an upstream; False: no retry now."""
        return self._server.retries > 0 and self._target(upstream)[1].take()

    def _retry_loop(
        self, upstream: Upstream, context: RequestContext | None, retries: int | None
    ) -> RetryLoop:
        replicas, budget = self._target(upstream)
        loop = RetryLoop(replicas, budget, self._server, context, upstream.name)
        if retries is not None:
            loop.retries = retries
        return loop

    def _target(self, upstream: Upstream) -> tuple[Replicas, Budget]:
        urls = upstream.urls
        if urls not in self._targets:
            server = self._server
            replicas = Replicas(
                urls, failures=server.breaker_failures, open_s=server.breaker_s, now=self._clock
            )
            self._targets[urls] = replicas, Budget(server.retry_budget_percent)
        return self._targets[urls]

    async def probe(self, upstream: Upstream) -> int | None:
        """The status of the answer to a `GET` of the base URL, without a key; None without one.

        The best one of several replicas. Raises OutOfDescriptors.
        """

        async def status_of(url: str) -> int | None:
            try:
                async with asyncio.timeout(PROBE_TIMEOUT_S):
                    response = await self._transport.send("GET", url, DEFAULT_HEADERS, None)
                    await response.body.aclose()
            except (*TRANSPORT_ERRORS, TimeoutError) as error:
                if not isinstance(error, TimeoutError) and is_ours(error):
                    raise OutOfDescriptors from None
                return None
            return response.status

        statuses = await asyncio.gather(*map(status_of, upstream.urls))
        return min((status for status in statuses if status is not None), default=None)

    async def fetch(self, url: str, max_bytes: int) -> tuple[int, bytes] | None:
        """The status of a `GET` without a key and the beginning of its body; None without one."""
        body = bytearray()
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                response = await self._transport.send("GET", url, DEFAULT_HEADERS, None)
                try:
                    while len(body) < max_bytes and (chunk := await response.body.read()):
                        body += chunk
                finally:
                    await response.body.aclose()
        except (*TRANSPORT_ERRORS, TimeoutError):
            return None
        return response.status, bytes(body[:max_bytes])


def _transport(
    server: Server, injected: httpx.AsyncBaseTransport | None, *, tls: bool
) -> AnyTransport:
    if injected is None:
        timeouts = Timeouts(connect_s=server.connect_timeout_s, read_s=server.read_timeout_s)
        return Transport(timeouts, keepalive_s=UPSTREAM_KEEPALIVE_S, tls=tls)
    timeout = httpx.Timeout(
        server.read_timeout_s, connect=server.connect_timeout_s, pool=server.connect_timeout_s
    )
    return InjectedTransport(injected, timeout)


def _secrets_with(known: Redaction, authorization: str) -> frozenset[str]:
    words = secrets_in({"authorization": authorization}) - {authorization}
    return known.secrets | (words or {authorization})


def _with_defaults(identity: Mapping[str, str], headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of a request that has an `accept`, those of its identity before its own."""
    defaults = _DEFAULTS
    if not _DEFAULTS.keys().isdisjoint(headers):  # the operator has set one
        defaults = {name: text for name, text in _DEFAULTS.items() if name not in headers}
    return {**defaults, **identity, **headers}


class Answer:
    """An upstream's answer: status, headers, and a body to be read."""

    __slots__ = (
        *("_body", "_compression", "_observe", "_silence_s", "headers", "redaction"),
        *("status", "upstream"),
    )

    def __init__(
        self,
        response: UpstreamResponse,
        upstream: Upstream,
        observer: Observer,
        silence_s: float,
        redaction: Redaction,
    ) -> None:
        self.upstream = upstream
        self.redaction = redaction
        """The secrets that must not reach a client in the upstream's words."""
        self._observe = observer.on if ChunkReceived in observer.wants else None
        self._silence_s = silence_s
        self._body = response.body
        self.status = response.status
        self.headers = response.headers
        """Names in lower case."""

        self._compression = self.headers.get("content-encoding", "")  # until the first read

    async def read(self, sink: ChunkSink | None = None) -> bytes | None:
        """The bytes received since the last read, as the network cuts it; empty at the end.

        What the sink can consume is pushed there, unless an observer wants chunks; None when the
        sink needs its reader. May be cancelled, and called again. May wait forever. Raises
        UpstreamError when the connection breaks.
        """
        if self._compression:
            self.decompress()
        try:
            chunk = await self._body.read(sink if self._observe is None else None)
        except TRANSPORT_ERRORS as error:
            raise _logged(error, self.upstream, "in mid-answer", self.redaction) from error
        if self._observe is not None and chunk:
            self._observe(ChunkReceived(chunk))
        return chunk

    @property
    def at_end(self) -> bool:
        """Whether all of the body has been read, as far as that is known."""
        return self._body.at_end

    def decompress(self) -> None:
        """Decompress the body, as the first read does. Raises UpstreamError where it cannot."""
        self._body = inflated(self._body, self._compression)
        self._compression = ""

    def content_type(self) -> str:
        """The type of the body; without its parameters if they are odd."""
        given = self.headers.get("content-type", "")
        if self.redaction.spans(given.encode()):
            given = ""
        found = _MEDIA_TYPE.match(given)
        if found is None:
            return "application/octet-stream"
        return given if _PARAMETERS.fullmatch(given[found.end() :]) else found[0]

    async def chunks(self) -> AsyncGenerator[bytes]:
        """All reads of the body. Raises UpstreamTimeout when none comes for too long."""
        now = asyncio.get_running_loop().time
        timeout = ReusableTimeout()
        try:
            while True:
                with timeout.until(now() + self._silence_s):
                    chunk = await self.read()
                if not chunk:
                    return
                yield chunk
        except TimeoutError:
            raise UpstreamTimeout("The upstream fell silent in mid-answer.") from None
        finally:
            timeout.close()

    async def aclose(self) -> None:
        """Release the connection, which is reused if the whole body has been read."""
        await self._body.aclose()

    async def error(self, *, silent_overflow: bool = False) -> UpstreamError:
        """The error for our client that an answer means whose status is not 2xx.

        `silent_overflow`: the request is so large that an error without a reason may mean that.
        """
        if (error := self.private_error()) is not None:
            return error
        read = bytearray()
        with suppress(UpstreamError):  # the status says enough
            async with aclosing(self.chunks()) as chunks:
                async for chunk in chunks:
                    read += chunk
                    if len(read) >= MAX_ERROR_BYTES:
                        break
        clean = self.redaction(bytes(read[:MAX_ERROR_BYTES]))
        return self.judged_error(clean, silent_overflow=silent_overflow)

    def judged_error(self, body: bytes, *, silent_overflow: bool = False) -> UpstreamError:
        """The error for our client that a status and a body without secrets mean."""
        error = read_upstream_error(
            self.status,
            body,
            retry_after=self.retry_headers().get("retry-after"),
            silent_overflow=silent_overflow,
        )
        if self.status in (404, 405):
            from .base_url import path_hint  # few need it

            error.message += path_hint(self.upstream, error)
        error.headers = self.retry_headers() | error.headers
        return judged(error, self.upstream, self.redaction, self.status)

    def private_error(self) -> UpstreamError | None:
        """The error of an answer that is not for the client, by its status alone; or None.

        A 401 needs no body, while a 403 may also mean that the account is empty.
        """
        if self.status == 401 and self.upstream.has_credential:
            return judged(read_upstream_error(401, b""), self.upstream, self.redaction)
        if self.status < 200:
            return UpstreamError("The upstream switched protocols, unasked.")
        if 300 <= self.status < 400:
            to_tls = self.headers.get("location", "").lower().startswith("https://")
            begins = to_tls and any(url.startswith("http://") for url in self.upstream.urls)
            log.error(
                "upstream %s answered with a redirect (%d): its base_url is wrong%s",
                self.upstream.name,
                self.status,
                "; it may have to begin with https://" if begins else "",
            )
            return UpstreamError(
                "The upstream answered with a redirect, which is not followed.",
                headers={"x-should-retry": "false"},
            )
        return None

    def retry_headers(self) -> dict[str, str]:
        """The headers that say when to retry."""
        return {
            name: value
            for name in RETRY_HEADERS
            if (value := self.headers.get(name)) is not None
            and _RETRY_VALUE.fullmatch(value)
            and not self.redaction.spans(value.encode())
        }


def _logged(error: Exception, upstream: Upstream, when: str, redaction: Redaction) -> UpstreamError:
    text = redaction.message(str(error)[:MAX_LOGGED_CHARACTERS])  # which may quote the answer
    kind = type(error).__name__
    log.warning("upstream %s: %s: %s%s", upstream.name, kind, text, remedy(error))
    return upstream_error(error, when)
