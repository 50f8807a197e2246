"""The exceptions of a call upstream, and our error, its sentence and its word for each.

    exception of aiohttp or httpx ──► one row of the table ──► UpstreamError, kind

aiohttp's come from our own transport, httpx's from any other that the application is given.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import aiohttp
import httpx

from translator.service.base.descriptors import is_exhaustion
from translator.wire.errors import UpstreamError, UpstreamTimeout

_NO_TLS = re.compile(
    "WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|PACKET_LENGTH_TOO_LONG|HTTP_REQUEST"
)
"""OpenSSL's words for an answer that is not TLS."""

TRANSPORT_ERRORS = (httpx.HTTPError, aiohttp.ClientError)
"""All that a call can raise."""


class _Row(NamedTuple):
    theirs: type[Exception]
    ours: type[UpstreamError]
    sentence: str
    """`{when}` is the moment, as in "before it answered". It never holds the upstream's address."""
    kind: str
    """A word for metrics and spans."""


_CONNECT_TIMEOUT = (
    UpstreamTimeout,
    "The upstream could not be connected to in time.",
    "connect_timeout",
)
_SILENCE = (UpstreamTimeout, "The upstream fell silent {when}.", "silence")
_UNREACHABLE = (UpstreamError, "The upstream could not be reached.", "unreachable")
_NO_PROXY = (
    UpstreamError,
    "The proxy in front of the upstream could not be reached.",
    "unreachable",
)
_PROXY_REFUSED = (UpstreamError, "The proxy in front of the upstream refused.", "unreachable")
_CLOSED = (UpstreamError, "The upstream closed the connection {when}.", "broken")
_BROKEN = (UpstreamError, "The connection to the upstream broke {when}.", "broken")
_NOT_HTTP = (UpstreamError, "The upstream's answer was not valid HTTP.", "not_http")
_NO_CALL = (UpstreamError, "The upstream could not be called.", "not_http")

_TABLE = (
    _Row(aiohttp.ConnectionTimeoutError, *_CONNECT_TIMEOUT),
    _Row(aiohttp.ServerTimeoutError, *_SILENCE),
    _Row(aiohttp.ClientProxyConnectionError, *_NO_PROXY),
    _Row(aiohttp.ClientHttpProxyError, *_PROXY_REFUSED),
    _Row(aiohttp.ClientConnectorError, *_UNREACHABLE),
    _Row(aiohttp.ServerDisconnectedError, *_CLOSED),
    _Row(aiohttp.ClientPayloadError, *_CLOSED),
    _Row(aiohttp.ClientConnectionError, *_BROKEN),
    _Row(aiohttp.ClientError, *_NOT_HTTP),
    _Row(httpx.ConnectTimeout, *_CONNECT_TIMEOUT),
    _Row(httpx.TimeoutException, *_SILENCE),
    _Row(httpx.ConnectError, *_UNREACHABLE),
    _Row(httpx.ProxyError, *_PROXY_REFUSED),
    _Row(httpx.RemoteProtocolError, *_CLOSED),
    _Row(httpx.NetworkError, *_BROKEN),
    _Row(httpx.HTTPError, *_NO_CALL),
)
"""The first row that fits counts."""

KINDS = frozenset(row.kind for row in _TABLE)


def _row_of(error: BaseException) -> _Row:
    return next(row for row in _TABLE if isinstance(error, row.theirs))


def upstream_error(error: Exception, when: str) -> UpstreamError:
    """One of TRANSPORT_ERRORS as ours."""
    row = _row_of(error)
    return row.ours(row.sentence.format(when=when))


def kind_of(error: BaseException) -> str:
    """The word for one of TRANSPORT_ERRORS."""
    return _row_of(error).kind


def remedy(error: Exception) -> str:
    """What the operator may have to do about one of TRANSPORT_ERRORS, for the log; often empty."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "; its certificate is not trusted here: SSL_CERT_FILE can name the authority's"
    if isinstance(error, aiohttp.ClientConnectorSSLError) and _NO_TLS.search(str(error)):
        return "; it does not answer in TLS: its base_url may have to begin with http://"
    return ""


def was_not_processed(error: Exception) -> bool:
    """Whether the upstream cannot have worked on the request that failed so."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return not isinstance(error, aiohttp.ClientSSLError)
    return isinstance(error, httpx.ConnectError)


def could_not_connect(error: Exception) -> bool:
    """Whether there was no connection; another address may have one."""
    return isinstance(
        error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError | httpx.ConnectTimeout
    )


def is_ours(error: Exception) -> bool:
    """Whether it came for want of file descriptors here, and says nothing of the upstream."""
    return isinstance(error, aiohttp.ClientConnectorError) and is_exhaustion(error.os_error)
