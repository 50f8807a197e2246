"""httpx's client over aiohttp's connections.

    httpx.AsyncClient ──► Transport (httpx's interface) ──► aiohttp.ClientSession ──► Connection

httpx stays the interface. Its own transport costs more CPU per token and per request, and looks
through its whole connection pool for each request; aiohttp returns what one network read brought,
at once.

The pool has no limit (ours stands before it) and keeps no cookies, which clients would share.

    request = [ attempt on an idle connection that the upstream was closing ], attempt

Some servers promise to keep a connection and close it after a streamed answer; all close idle ones
when they like. A request that meets this is sent again at once, on a new connection. It is the same
attempt for all above: no retry, no failure of the upstream. RFC 9112, 9.3.1, lets a client repeat a
POST where it can tell that the first one was never applied: here, by a connection that had already
answered, and ended at once and before any byte.
"""

from __future__ import annotations

import base64
import logging
import os
import ssl
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import httpx

from translator.service.base.internals import missing_attributes, warn_once
from translator.service.config.proxies import Proxies, proxies_of

from .body import EXTENSION, ConnectionBody
from .connection import ReusedConnectionEnded, new_connections, session

log = logging.getLogger(__name__)

LOST_S = 1.0
"""A request on an idle connection that the upstream was closing meanwhile is lost within a round
trip. One that is lost later may have been worked on."""

_NEEDS: dict[type, str] = {httpx.AsyncClient: "_init_transport"}

MISSING = missing_attributes(_NEEDS)


def needs_tls(urls: Iterable[str], proxies: Proxies) -> bool:
    """Whether a request to one of these URLs needs TLS, or its proxy does.

    To read the certificates of all authorities takes a quarter of a start.
    """
    for url in urls:
        proxy = proxies.proxy_for(url)
        if "https" in {urlsplit(url).scheme, urlsplit(proxy.url).scheme if proxy else ""}:
            return True
    return False


class Client(httpx.AsyncClient):
    """An httpx client over `Transport`. If httpx calls the method no more, its own is used."""

    def __init__(self, *, tls: bool = True, **options: Any) -> None:  # noqa: ANN401
        """`tls`: some request may need it."""
        self._tls = tls
        if MISSING:
            warn_once("httpx", MISSING, "upstreams are called without aiohttp, which costs CPU")
        # `Transport` knows the proxies of the environment itself
        super().__init__(trust_env=bool(MISSING), **options)

    # httpx passes all of these by name.
    def _init_transport(
        self,
        *_: Any,  # noqa: ANN401
        transport: httpx.AsyncBaseTransport | None = None,
        **options: Any,  # noqa: ANN401
    ) -> httpx.AsyncBaseTransport:
        return transport or Transport(
            limits=options["limits"], proxies=proxies_of(os.environ), tls=self._tls
        )


class Transport(httpx.AsyncBaseTransport):
    """Sends requests by aiohttp. Raises TRANSPORT_ERRORS; most are aiohttp's own."""

    def __init__(
        self,
        *,
        limits: httpx.Limits,
        proxies: Proxies,
        tls: bool = True,
    ) -> None:
        """`tls`: some request may need it. Without, none could be verified, so it would fail."""
        self._ssl = httpx.create_ssl_context() if tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._keepalive_s = limits.keepalive_expiry
        self._proxies = proxies
        self._proxy_options: dict[tuple[str, str, int | None], dict[str, Any]] = {}
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._session is None:
            self._session = session(self._ssl, self._keepalive_s)
        try:
            response = await self._send(self._session, request)
        except ReusedConnectionEnded as ended:
            if ended.after_s >= LOST_S:
                raise ended.take_error() from None
            log.debug("%s: a reused connection ended, the request is sent again", request.url.host)
            response = None
        if response is None:  # outside of the handler, so that nothing holds the first attempt
            with new_connections():
                response = await self._send(self._session, request)
        body = ConnectionBody(response)
        return httpx.Response(
            response.status,
            headers=response.raw_headers,
            stream=body,
            extensions={EXTENSION: body},
        )

    async def _send(
        self, session: aiohttp.ClientSession, request: httpx.Request
    ) -> aiohttp.ClientResponse:
        timeout = request.extensions["timeout"]
        return await session.request(
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
            **self._through_proxy(request.url),
        )

    def _through_proxy(self, url: httpx.URL) -> dict[str, Any]:
        """The options of a request that name its proxy, if there is one."""
        target = (url.scheme, url.host, url.port)  # those of the settings, so there are few
        if target not in self._proxy_options:
            found = self._proxies.proxy_for(str(url))
            options: dict[str, Any] = {}
            if found is not None:
                proxy = httpx.Proxy(found.url)
                options = {"proxy": str(proxy.url)}
                if proxy.auth is not None:
                    user = base64.b64encode(":".join(proxy.auth).encode()).decode()
                    # aiohttp moves it to Proxy-Authorization, for plain requests and tunnels alike
                    options["proxy_headers"] = {"Authorization": f"Basic {user}"}
            self._proxy_options[target] = options
        return self._proxy_options[target]

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()
