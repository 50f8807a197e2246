"""Causes of failures: for each, a phrase on what is wrong, and a sentence on what to do.

exception of the connection | HTTP status, error ──► Cause
"""

from __future__ import annotations

import os
import ssl
from typing import NamedTuple
from urllib.parse import urlsplit

import aiohttp
from msgspec import Struct

from translator.service.base.errors import OutOfDescriptors
from translator.service.config.proxies import proxies_of
from translator.wire.errors import AccountEmpty, UpstreamError, UpstreamTimeout


class Cause(NamedTuple):
    """Why a request failed."""

    summary: str
    advice: str
    of_all: bool = True
    """It concerns every request to this upstream, and not one model alone."""

    unknown_path: bool = False
    """It is a 404 that does not speak of a model: the URL may be wrong."""


class Names(Struct, frozen=True):
    """How the operator calls the settings of an upstream: by their paths, or by options."""

    url: str
    key: str
    dialect: str
    credential: str
    """What is sent to it, as in "the key in FIREWORKS_API_KEY"."""

    def with_value(self, name: str, value: str) -> str:
        """A setting or an option with its value, as it is written."""
        return f"{name} {value}" if name.startswith("--") else f'{name} = "{value}"'


def connection_cause(error: Exception, url: str, names: Names, seconds: float) -> Cause:
    """Why there was no answer from `url`: `error` came of the call, after up to `seconds`."""
    cause = error.__cause__ if isinstance(error, UpstreamError) and error.__cause__ else error
    place, host = urlsplit(url).netloc, urlsplit(url).hostname
    proxy = proxies_of(os.environ).proxy_for(url)
    variable = proxy.variable if proxy is not None else "HTTPS_PROXY"
    match cause:
        case OutOfDescriptors():
            return Cause("no connection: too many files are open", "Raise the limit: ulimit -n.")
        case aiohttp.ClientProxyConnectionError():
            return Cause(
                "the proxy cannot be reached", f"Correct {variable}, or add {host} to NO_PROXY."
            )
        case aiohttp.ClientHttpProxyError():
            return Cause(
                f"the proxy refuses ({cause.status})",
                f"Correct {variable} and its password, or add {host} to NO_PROXY.",
            )
        case aiohttp.ClientConnectorDNSError():
            return Cause(
                f"the host {host} has no address",
                f"Correct {names.url}, or the name server of this machine.",
            )
        case aiohttp.ClientConnectorCertificateError():
            return _certificate_cause(cause.certificate_error, names)
        case aiohttp.ClientSSLError():
            return Cause(
                f"TLS fails at {place}: {_reason(cause)}",
                f"If it speaks plain HTTP, begin {names.url} with http://.",
            )
        case aiohttp.ConnectionTimeoutError():
            return Cause(
                "cannot be connected to in time", f"Check {names.url}, and the firewall on the way."
            )
        case aiohttp.ServerTimeoutError() | TimeoutError() | UpstreamTimeout():
            return Cause(
                f"no answer within {seconds:.3g} s",
                "See its log, or wait longer: --timeout SECONDS.",
            )
        case aiohttp.ClientConnectorError():
            return Cause(
                f"cannot be reached: {_os_reason(cause)}",
                f"Start the server at {place}, or correct {names.url}.",
            )
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError():
            other = "https" if url.startswith("http:") else "http"
            return Cause(
                "it closes the connection without an answer",
                f"See its log; or begin {names.url} with {other}://, if that is what it speaks.",
            )
        case aiohttp.ClientOSError():
            return Cause("the connection broke", "See the log of the upstream.")
        case UpstreamError():  # such as for a body that cannot be decompressed
            return Cause(cause.message.rstrip("."), "See the log of the upstream.")
        case _:
            other = "https" if url.startswith("http:") else "http"
            return Cause(
                "its answer is not HTTP",
                f"Correct {names.url}: the port, or whether it begins with {other}://.",
            )


def _certificate_cause(error: Exception, names: Names) -> Cause:
    reason = getattr(error, "verify_message", "") or str(error)
    if "mismatch" in reason.lower():
        advice = f"Correct the host in {names.url}: the certificate is for another one."
    elif "expired" in reason or "not yet valid" in reason:
        advice = "Its operator must renew it; or correct the clock of this machine."
    else:
        advice = "To trust its authority, name a file with its certificate: SSL_CERT_FILE=FILE."
    return Cause(f"its certificate is not accepted: {reason}", advice)


def _reason(error: Exception) -> str:
    inner = getattr(error, "os_error", error)
    reason = inner.reason if isinstance(inner, ssl.SSLError) else None
    return reason.lower().replace("_", " ") if reason else "no handshake"


def _os_reason(error: aiohttp.ClientConnectorError) -> str:
    inner = error.os_error
    if inner.errno:
        return os.strerror(inner.errno).lower()
    # several addresses: asyncio joins the texts of all attempts
    return "connection refused" if "refused" in str(inner).lower() else str(inner)


def status_cause(status: int, error: UpstreamError, names: Names, *, own_key: bool) -> Cause | None:
    """What a status means for all requests to an upstream; None where it concerns one request.

    `own_key`: a key was sent, of the settings or of `--key-env`.
    """
    if isinstance(error, AccountEmpty) or error.lacks == "credit":
        return Cause("its account has no credit left", "Add credit at the upstream.")
    if status in (401, 403) or error.lacks == "key":
        if not own_key:
            return Cause(
                f"it needs a key, and none is set ({status})",
                f"Name the variable that holds one: {names.key}; or, where clients send their own, "
                "try it with --key-env NAME.",
            )
        said = "" if error.message.startswith("The upstream") else f": {error.message}"
        return Cause(
            f"it refuses the key ({status}){said}",
            f"Correct {names.credential}: it is wrong, expired, or not allowed to do this.",
        )
    if status == 429:
        return Cause(f"it limits the rate (429): {error.message}", "Wait, and check again.")
    return None
