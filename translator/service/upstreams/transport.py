"""How bytes travel to upstreams: aiohttp, beneath httpx's interface.

httpx stays what we call. Its own transport costs about twice as much CPU per token and per request
(`bench/service.py` measures it), and looks through its whole pool for each request; aiohttp hands
over what one network read brought, at once.

What is decided here is what `httpx-aiohttp` leaves to its defaults: as many connections as there
are requests (our own bound stands before them), and no cookies, which clients would share.
"""

from __future__ import annotations

import math
import ssl
import time
from contextvars import ContextVar
from typing import Any

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport, HttpxAiohttpClient

from translator.wire.errors import UpstreamError, UpstreamTimeout

from .connection import Connection, Connector

FAULTS = (httpx.HTTPError, aiohttp.ClientError)
"""What the client raises when a call fails. Not all of aiohttp's errors become httpx's."""

LOST_S = 1.0
"""A request on an idle connection that the upstream was closing meanwhile is lost within a round
trip. One that is lost later may have been worked on."""

_SENTENCES: tuple[tuple[type[Exception], type[UpstreamError], str], ...] = (
    (
        aiohttp.ConnectionTimeoutError,
        UpstreamTimeout,
        "The upstream could not be connected to in time.",
    ),
    (aiohttp.ServerTimeoutError, UpstreamTimeout, "The upstream fell silent {when}."),
    (
        aiohttp.ClientProxyConnectionError,
        UpstreamError,
        "The proxy in front of the upstream could not be reached.",
    ),
    (
        aiohttp.ClientHttpProxyError,
        UpstreamError,
        "The proxy in front of the upstream refused.",
    ),
    (aiohttp.ClientConnectorError, UpstreamError, "The upstream could not be reached."),
    (
        aiohttp.ServerDisconnectedError,
        UpstreamError,
        "The upstream closed the connection {when}.",
    ),
    (aiohttp.ClientPayloadError, UpstreamError, "The upstream closed the connection {when}."),
    (
        aiohttp.ClientConnectionError,
        UpstreamError,
        "The connection to the upstream broke {when}.",
    ),
    (aiohttp.ClientError, UpstreamError, "The upstream's answer was no HTTP that can be read."),
    # of any other transport
    (
        httpx.ConnectTimeout,
        UpstreamTimeout,
        "The upstream could not be connected to in time.",
    ),
    (httpx.TimeoutException, UpstreamTimeout, "The upstream fell silent {when}."),
    (httpx.ConnectError, UpstreamError, "The upstream could not be reached."),
    (httpx.ProxyError, UpstreamError, "The proxy in front of the upstream refused."),
    (httpx.RemoteProtocolError, UpstreamError, "The upstream closed the connection {when}."),
    (httpx.NetworkError, UpstreamError, "The connection to the upstream broke {when}."),
    (httpx.HTTPError, UpstreamError, "The upstream could not be called."),
)
"""Their errors to ours; the first row that fits. No sentence holds the upstream's address."""


def cause(error: Exception) -> Exception:
    """What really happened: `httpx-aiohttp` calls every lost connection a ConnectTimeout."""
    return error.__cause__ if isinstance(error.__cause__, aiohttp.ClientError) else error


def fault(error: Exception, when: str) -> UpstreamError:
    """An error of FAULTS as ours."""
    seen = cause(error)
    kind, sentence = next(
        (kind, sentence) for theirs, kind, sentence in _SENTENCES if isinstance(seen, theirs)
    )
    return kind(sentence.format(when=when))


class Client(HttpxAiohttpClient):
    """An httpx client over `Transport`, also for the proxies that the environment names."""

    # httpx gives all of these by name.
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


class Transport(AiohttpTransport):
    """Connections without a limit of their own, and without cookies."""

    ssl_context: ssl.SSLContext

    def get_client(self) -> aiohttp.ClientSession:
        connector = Connector(self.ssl_context, self.limits.keepalive_expiry)
        trace = aiohttp.TraceConfig()
        trace.on_connection_reuseconn.append(_reused)
        trace.on_request_end.append(_began)
        return aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trace_configs=[trace]
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        sending = _Sending()
        _sending.set(sending)
        try:
            response = await super().handle_async_request(request)
        finally:
            if time.monotonic() - sending.reused_at < LOST_S:
                request.extensions[_LOST] = True
            content, sending.content = sending.content, None
        assert content is not None
        assert isinstance(response.stream, httpx.AsyncByteStream)
        content.stream = response.stream
        request.extensions[_CONTENT] = content
        return response


class _Sending:
    """What is found out about a request while it is sent; aiohttp does not know httpx's.

    A connection keeps the context in which it was made, and so the first one of these: it must not
    hold the request.
    """

    def __init__(self) -> None:
        self.reused_at = -math.inf
        """When an idle connection was taken for it."""

        self.content: Content | None = None


_sending: ContextVar[_Sending] = ContextVar("sending")


async def _reused(*_: object) -> None:
    _sending.get().reused_at = time.monotonic()


class Content:
    """The body of a response as aiohttp reads it. Whoever reads it bounds its reads.

    It is what is left of a response once its status and headers are known.
    """

    def __init__(self, reader: aiohttp.StreamReader, connection: Connection | None) -> None:
        """`connection` is None where the whole body has come."""
        self.reader = reader
        self.connection = connection
        self.stream: httpx.AsyncByteStream
        """The same for httpx; here only to be closed."""


async def _began(_: object, __: object, end: aiohttp.TraceRequestEndParams) -> None:
    """An answer has begun: from here on its body is read without what is around it."""
    connection = end.response.connection
    protocol = None if connection is None else connection.protocol
    if isinstance(protocol, Connection):
        protocol.begins()
    else:
        protocol = None
    _sending.get().content = Content(end.response.content, protocol)


def content(response: httpx.Response) -> Content | None:
    """That of a response; None where it came another way."""
    found = response.request.extensions.get(_CONTENT)
    return found if isinstance(found, Content) else None


_LOST = "translator.lost"
_CONTENT = "translator.request.content"


def was_idle(error: Exception) -> bool:
    """Whether a request has failed as it was put on a connection that had been idle before."""
    return isinstance(error, httpx.RequestError) and _LOST in error.request.extensions
