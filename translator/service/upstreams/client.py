"""Calls to upstreams: what is sent besides the body, and what each failure of HTTP means.

One client lives as long as the process: a pool and a TLS context per request cost more than the
request. It asks for no compression (an upstream would buffer a stream to compress it), follows no
redirect (the key would travel along) and keeps no cookies (they would be shared by all clients).

Whose key is sent decides what a 401 means. The operator's own, when there is one: then a refusal is
the gateway's fault (502). Else the client's `Authorization` is passed on, and so is the refusal.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx

from translator.reader.upstream_errors import read_upstream_error
from translator.service.base.reusable_timeout import Patience
from translator.service.config.settings import Server, Upstream
from translator.service.observe.context import RequestContext
from translator.service.observe.observer import (
    NOBODY,
    ChunkReceived,
    Observer,
    UpstreamAnswered,
    UpstreamCalled,
)
from translator.wire.errors import CredentialRefused, UpstreamError, UpstreamTimeout

from .body import Body, body
from .connection import Taker
from .health import PROBE_S, Lately
from .inflate import inflated
from .replicas import Endpoints
from .retries import Budget, Tries
from .transport import FAULTS, Client, cause, fault

log = logging.getLogger(__name__)

MAX_ERROR_BYTES = 1024 * 1024
"""How much of an upstream's error body is read, in bytes; the rest cannot matter to a sentence."""

UPSTREAM_KEEPALIVE_S = 30.0
"""How long an idle connection is kept. Load balancers close theirs after 60 s and more, and a
request that meets a closing connection is lost."""


class Upstreams:
    """The one HTTP client of the process."""

    def __init__(
        self,
        server: Server,
        transport: httpx.AsyncBaseTransport | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.lately = Lately(clock)
        self._server = server
        self._clock = clock
        self._targets: dict[tuple[str, ...], tuple[Endpoints, Budget]] = {}
        self._http = Client(
            transport=transport,
            timeout=httpx.Timeout(
                server.read_timeout_s,
                connect=server.connect_timeout_s,
                pool=server.connect_timeout_s,  # aiohttp: resolving the name and all
            ),
            limits=httpx.Limits(max_connections=None, keepalive_expiry=UPSTREAM_KEEPALIVE_S),
            headers={"accept-encoding": "identity", "user-agent": "translator"},
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            follow_redirects=False,
        )

    async def aclose(self) -> None:
        await self._http.aclose()

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
        """`open`; the answer lives as long as the context."""
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
        context: RequestContext | None = None,
    ) -> Answer:
        """Send one request, POST when it has a body; the answer must be closed.

        `authorization` is the client's own, used only where the operator gave no key. `context` is
        that of the client's request. Raises UpstreamError.
        """
        observer: Observer = NOBODY
        if context is not None:
            context.record.upstream = upstream.name
            observer = context.observer
        headers = {"accept": accept}
        if body is not None:
            headers["content-type"] = "application/json"
        if upstream.api_key is not None:
            headers["authorization"] = f"Bearer {upstream.api_key}"
        elif authorization is not None and not upstream.has_credential:
            headers["authorization"] = authorization
        headers |= {name.lower(): value for name, value in upstream.headers.items()}
        method = "GET" if body is None else "POST"

        async def ask(url: str) -> httpx.Response:
            observer.on(UpstreamCalled(path, body))
            # each request has a span of its own, which `UpstreamCalled` begins
            identity = {} if context is None else context.record.upstream_headers()
            request = self._http.build_request(
                method, f"{url}/{path}", content=body, headers=identity | headers
            )
            response = await self._http.send(request, stream=True)
            observer.on(UpstreamAnswered(response.status_code, response.headers))
            return response

        try:
            response = await self._tries(upstream, context).answer(ask)
        except FAULTS as error:
            self.lately.failed(upstream.name)
            raise _fault(error, upstream, "before it answered") from error
        self.lately.heard(upstream.name, response.status_code)
        return Answer(response, upstream, observer, self._server.read_timeout_s)

    def _tries(self, upstream: Upstream, context: RequestContext | None) -> Tries:
        urls = upstream.urls
        if urls not in self._targets:
            server = self._server
            endpoints = Endpoints(
                urls, failures=server.breaker_failures, out_s=server.breaker_s, now=self._clock
            )
            self._targets[urls] = endpoints, Budget(server.retry_budget_percent)
        endpoints, budget = self._targets[urls]
        return Tries(endpoints, budget, self._server, context, upstream.name)

    async def probe(self, upstream: Upstream) -> int | None:
        """The status of its answer to a request without key or meaning; None without an answer.

        Of several addresses, the best status.
        """

        async def ask(url: str) -> int | None:
            try:
                async with asyncio.timeout(PROBE_S):
                    request = self._http.build_request("GET", url)
                    response = await self._http.send(request, stream=True)
                    await body(response).aclose()
            except (*FAULTS, TimeoutError):
                return None
            return response.status_code

        statuses = await asyncio.gather(*map(ask, upstream.urls))
        return min((status for status in statuses if status is not None), default=None)


class Answer:
    """An upstream's answer, whose body has not been read."""

    def __init__(
        self,
        response: httpx.Response,
        upstream: Upstream,
        observer: Observer,
        silence_s: float,
    ) -> None:
        self._upstream = upstream
        self._observe = observer.on if ChunkReceived in observer.wants else None
        self._silence_s = silence_s
        self._body: Body = body(response)
        self.status = response.status_code
        self.headers: Mapping[str, str] = dict(response.headers.items())
        """Names in lower case."""

        self._compression = self.headers.get("content-encoding", "")  # until it is seen to

    async def read(self, taker: Taker | None = None) -> bytes | None:
        """What has come of the body since, as the network cuts it; empty at the end.

        What a taker can take goes there, unless somebody else looks at pieces; None when it wants a
        look. May be cancelled, and called again. It may wait for ever. Raises UpstreamError when
        the connection breaks.
        """
        if self._compression:
            self._body = inflated(self._body, self._compression)
            self._compression = ""
        try:
            piece = await self._body.read(taker if self._observe is None else None)
        except FAULTS as error:
            raise _fault(error, self._upstream, "in mid-answer") from error
        if self._observe is not None and piece:
            self._observe(ChunkReceived(piece))
        return piece

    def as_sent(self) -> None:
        """A compression is to be left on: to be called before the first read."""
        self._compression = ""

    async def pieces(self) -> AsyncGenerator[bytes]:
        """All reads of the body. Raises UpstreamTimeout when none comes for too long."""
        now = asyncio.get_running_loop().time
        patience = Patience()
        try:
            while True:
                with patience.until(now() + self._silence_s):
                    piece = await self.read()
                if not piece:
                    return
                yield piece
        except TimeoutError:
            raise UpstreamTimeout("The upstream fell silent in mid-answer.") from None
        finally:
            patience.close()

    async def aclose(self) -> None:
        """Let go of the connection, which goes on if the whole body has been read."""
        await self._body.aclose()

    async def error(self, *, silent_overflow: bool = False) -> UpstreamError:
        """What this answer means, when its status is not 2xx, as an error for our client.

        `silent_overflow`: to so large a request the upstream may say nothing but that.
        """
        if (refusal := self.refusal()) is not None:
            return refusal
        read = bytearray()
        with suppress(UpstreamError):  # the status says enough
            async with aclosing(self.pieces()) as pieces:
                async for piece in pieces:
                    read += piece
                    if len(read) >= MAX_ERROR_BYTES:
                        break
        error = read_upstream_error(
            self.status,
            bytes(read[:MAX_ERROR_BYTES]),
            retry_after=self.headers.get("retry-after"),
            silent_overflow=silent_overflow,
        )
        error.headers = self.retry_headers() | error.headers
        return error

    def refusal(self) -> UpstreamError | None:
        """The error in an answer that must not be passed on as it is."""
        if self.status in (401, 403) and self._upstream.has_credential:
            return _own_credential_refused(self._upstream, self.status)
        if self.status < 200:
            return UpstreamError("The upstream switched to another protocol, unasked.")
        if 300 <= self.status < 400:
            log.error(
                "upstream %s answered with a redirect (%d): its base_url is wrong",
                self._upstream.name,
                self.status,
            )
            return UpstreamError(
                "The upstream answered with a redirect, which is not followed.",
                headers={"x-should-retry": "false"},
            )
        return None

    def retry_headers(self) -> dict[str, str]:
        """What tells a client when to come back."""
        return {
            name: value
            for name, value in self.headers.items()
            if name in ("retry-after", "retry-after-ms") or name.startswith("x-ratelimit-")
        }


def judged(error: UpstreamError, upstream: Upstream) -> UpstreamError:
    """What an error inside a 200 is for the client: a refused key may not have been its own."""
    if error.status_hint in (401, 403) and upstream.has_credential:
        return _own_credential_refused(upstream, error.status_hint)
    return error


def _own_credential_refused(upstream: Upstream, status: int) -> UpstreamError:
    log.error("upstream %s refused the gateway's own credential (%d)", upstream.name, status)
    return CredentialRefused()


def _fault(error: Exception, upstream: Upstream, when: str) -> UpstreamError:
    seen = cause(error)
    log.warning("upstream %s: %s: %s", upstream.name, type(seen).__name__, seen)
    return fault(error, when)
