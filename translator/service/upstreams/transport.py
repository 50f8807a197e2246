"""httpx's client over aiohttp's connections.

    httpx.AsyncClient ──► Transport (httpx's interface) ──► aiohttp.ClientSession ──► Connection

httpx stays the interface. Its own transport costs more CPU per token and per request, and looks
through its whole connection pool for each request; aiohttp returns what one network read brought,
at once.

The pool has no limit (ours stands before it) and keeps no cookies, which clients would share.
"""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import aiohttp
import httpx

from translator.service.base.internals import missing_attributes, warn_once

from .body import EXTENSION, ConnectionBody
from .connection import connector
from .transport_errors import StaleConnection

LOST_S = 1.0
"""A request on an idle connection that the upstream was closing meanwhile is lost within a round
trip. One that is lost later may have been worked on."""

_NEEDS: dict[type, str] = {httpx.AsyncClient: "_init_transport _init_proxy_transport"}

MISSING = missing_attributes(_NEEDS)


class Client(httpx.AsyncClient):
    """An httpx client over `Transport`, also for the proxies that the environment names.

    httpx has no other way to keep its proxy rules with another transport. If it calls these methods
    no more, its own transport is used.
    """

    def __init__(self, **options: Any) -> None:  # noqa: ANN401
        if MISSING:
            warn_once("httpx", MISSING, "upstreams are called without aiohttp, which costs CPU")
        super().__init__(**options)

    # httpx passes all of these by name.
    def _init_transport(
        self,
        *_: Any,  # noqa: ANN401
        transport: httpx.AsyncBaseTransport | None = None,
        **options: Any,  # noqa: ANN401
    ) -> httpx.AsyncBaseTransport:
        return transport or Transport(**options)

    def _init_proxy_transport(
        self,
        proxy: httpx.Proxy,
        *_: Any,  # noqa: ANN401
        **options: Any,  # noqa: ANN401
    ) -> httpx.AsyncBaseTransport:
        return Transport(proxy=proxy, **options)


class Transport(httpx.AsyncBaseTransport):
    """Sends requests by aiohttp. Raises TRANSPORT_ERRORS; most are aiohttp's own."""

    def __init__(
        self,
        *,
        verify: bool = True,
        trust_env: bool = True,
        limits: httpx.Limits,
        proxy: httpx.Proxy | None = None,
        **_: object,
    ) -> None:
        self._ssl = httpx.create_ssl_context(verify=verify, trust_env=trust_env)
        self._keepalive_s = limits.keepalive_expiry
        self._proxy: dict[str, Any] = {}
        if proxy is not None:
            self._proxy = {"proxy": str(proxy.url), "proxy_headers": proxy.headers}
            if proxy.auth is not None:
                self._proxy["proxy_auth"] = aiohttp.BasicAuth(*proxy.auth)
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._session is None:
            self._session = self._new_session()
        timeout = request.extensions["timeout"]
        reuse: dict[str, float] = {}
        try:
            response = await self._session.request(
                request.method,
                str(request.url),
                headers=request.headers,
                data=request.content or None,
                allow_redirects=False,
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(
                    connect=timeout["pool"],
                    sock_connect=timeout["connect"],
                    sock_read=timeout["read"],
                ),
                trace_request_ctx=reuse,
                **self._proxy,
            )
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            if "began" in reuse and time.monotonic() - reuse["began"] < LOST_S:
                raise StaleConnection(str(error)) from error
            raise
        body = ConnectionBody(response)
        return httpx.Response(
            response.status,
            headers=response.raw_headers,
            stream=body,
            extensions={EXTENSION: body},
        )

    def _new_session(self) -> aiohttp.ClientSession:
        trace = aiohttp.TraceConfig()
        trace.on_connection_reuseconn.append(_note_reuse)
        return aiohttp.ClientSession(
            connector=connector(self._ssl, self._keepalive_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            trace_configs=[trace],
        )

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()


async def _note_reuse(_: object, context: SimpleNamespace, __: object) -> None:
    """A request is sent on a connection that was idle."""
    context.trace_request_ctx["began"] = time.monotonic()
