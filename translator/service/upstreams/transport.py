"""Our transport: requests over aiohttp's connections.

    Transport ──► aiohttp's pool ──► Connection          (`direct`, or by aiohttp's ClientSession)

httpx's own transport costs more CPU per token and per request, and looks through its whole
connection pool for each request; aiohttp returns what one network read brought, at once. Nor is
httpx's client before it: it would parse the URL, merge headers and cookies and pass a request
through flows of authentication and redirects, none of which there are.

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
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import httpx
from msgspec import Struct

from translator.service.config.proxies import Proxies, proxies_of

from .body import ConnectionBody
from .connection import ReusedConnectionEnded, new_connections, session
from .direct import DirectRequests, direct_requests
from .large_bodies import body_to_send, is_large
from .response import UpstreamResponse

log = logging.getLogger(__name__)

LOST_S = 1.0
"""A request on an idle connection that the upstream was closing meanwhile is lost within a round
trip. One that is lost later may have been worked on."""


class Timeouts(Struct, frozen=True):
    """Seconds that may pass until a connection is there, and until the headers of an answer are."""

    connect_s: float
    read_s: float


def needs_tls(urls: Iterable[str], proxies: Proxies) -> bool:
    """Whether a request to one of these URLs needs TLS, or its proxy does.

    To read the certificates of all authorities takes a quarter of a start.
    """
    for url in urls:
        proxy = proxies.proxy_for(url)
        if "https" in {urlsplit(url).scheme, urlsplit(proxy.url).scheme if proxy else ""}:
            return True
    return False


class _Target(Struct, frozen=True):
    """What is the same for all requests to one URL."""

    url: str
    host: str
    """As in the header: with the port, unless it is the scheme's own."""

    options: Mapping[str, Any]
    """The options of a request that name its proxy, if there is one."""

    direct: DirectRequests | None


class Transport:
    """Sends requests by aiohttp. Raises TRANSPORT_ERRORS; most are aiohttp's own."""

    def __init__(
        self,
        timeouts: Timeouts,
        *,
        keepalive_s: float,
        proxies: Proxies | None = None,
        tls: bool = True,
    ) -> None:
        """`keepalive_s` is how long an idle connection is kept; `proxies` are the environment's.

        `tls`: some request may need it. Without, none could be verified, so it would fail.
        """
        self._timeout = aiohttp.ClientTimeout(
            connect=timeouts.connect_s,  # resolving the name and all
            sock_connect=timeouts.connect_s,
            sock_read=timeouts.read_s,
        )
        self._ssl = httpx.create_ssl_context() if tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._keepalive_s = keepalive_s
        self._proxies = proxies or proxies_of(os.environ)
        self._targets: dict[str, _Target] = {}
        self._session: aiohttp.ClientSession | None = None

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> UpstreamResponse:
        """Send one request. Raises TRANSPORT_ERRORS, and ValueError for headers that are none."""
        if self._session is None:
            self._session = session(self._ssl, self._keepalive_s)
        target = self._targets.get(url)
        if target is None:
            target = self._target(self._session, url)
            if body is not None:  # few URLs, while clients choose the end of others
                self._targets[url] = target
        try:
            response = await self._send(self._session, method, target, headers, body)
        except ReusedConnectionEnded as ended:
            if ended.after_s >= LOST_S:
                raise ended.take_error() from None
            host = httpx.URL(url).host
            log.debug("%s: a reused connection ended, the request is sent again", host)
            response = None
        if response is None:  # outside of the handler, so that nothing holds the first attempt
            with new_connections():
                response = await self._send(self._session, method, target, headers, body)
        return response

    async def _send(
        self,
        session: aiohttp.ClientSession,
        method: str,
        target: _Target,
        headers: Mapping[str, str],
        body: bytes | None,
    ) -> UpstreamResponse:
        if body is not None:
            headers = {**headers, "content-length": str(len(body))}
        if target.direct is not None and "expect" not in headers and not is_large(body):
            head = await target.direct.send(method, headers, body)
            return UpstreamResponse(
                head.status, decoded(head.raw_headers), ConnectionBody(head.body)
            )
        "".join(headers.values()).encode("ascii")  # aiohttp would send it in UTF-8
        response = await session.request(
            method,
            target.url,
            headers={"host": target.host, **headers},
            data=body_to_send(body),
            allow_redirects=False,
            auto_decompress=False,
            timeout=self._timeout,
            **target.options,
        )
        return UpstreamResponse(
            response.status, decoded(response.raw_headers), ConnectionBody(response)
        )

    def _target(self, session: aiohttp.ClientSession, url: str) -> _Target:
        parsed = httpx.URL(url)
        spelled, host = str(parsed), parsed.netloc.decode("ascii")
        options = self._through_proxy(parsed)
        direct = None if options else direct_requests(session, spelled, host, self._timeout)
        return _Target(spelled, host, options, direct)

    def _through_proxy(self, url: httpx.URL) -> dict[str, Any]:
        found = self._proxies.proxy_for(str(url))
        if found is None:
            return {}
        proxy = httpx.Proxy(found.url)
        if proxy.auth is None:
            return {"proxy": str(proxy.url)}
        user = base64.b64encode(":".join(proxy.auth).encode()).decode()
        # aiohttp moves it to Proxy-Authorization, for plain requests and tunnels alike
        return {"proxy": str(proxy.url), "proxy_headers": {"Authorization": f"Basic {user}"}}

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()


def decoded(raw_headers: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers with their names in lower case; values of one name are joined by commas.

    All are UTF-8, or all Latin-1, in which any bytes are text.
    """
    try:
        return _decoded(raw_headers, "utf-8")
    except UnicodeDecodeError:
        return _decoded(raw_headers, "latin-1")


def _decoded(raw_headers: Iterable[tuple[bytes, bytes]], encoding: str) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in raw_headers:
        name, value = raw_name.lower().decode(encoding), raw_value.decode(encoding)
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers
