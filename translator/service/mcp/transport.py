"""HTTP for the SDK: every connection of an MCP session is made here, within the rules.

    request  ──►  allowed?  ──►  aiohttp, to a resolved and checked address  ──►  answer, bounded

The SDK ends a whole session when its HTTP client raises. So whatever goes wrong becomes an answer
of its own, a JSON-RPC error with the failure in its `data`; `failure_in` finds it there again.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from functools import cache

import aiohttp
import httpx
import httpx2
import msgspec
from mcp.shared.exceptions import MCPError
from msgspec import Raw, Struct

from translator.service.base.version import VERSION
from translator.service.tools.addresses import AddressRules, CheckedResolver, NotAllowed
from translator.wire.json_values import as_object

from .failures import (
    REFUSED,
    ConnectionBroke,
    McpFailed,
    SessionLost,
    broken,
    http_error,
    refused,
    unreadable,
)

USER_AGENT = f"translator/{VERSION} (calls tools for a model)"
SESSION_HEADER = "mcp-session-id"

MAX_OTHER_BYTES = 2 * 1024 * 1024
"""Largest answer to what is no call of a tool: to the beginning of a session, and to a list."""

MAX_ERROR_BYTES = 64 * 1024
LARGE_BYTES = 1024 * 1024
MAX_LARGE = 4
"""Answers beyond LARGE_BYTES that are read at once; others wait, with their connection."""

KEPT_S = 4.0
"""How long an unused connection is kept: less than servers do, which close it after 5 s or more."""

NOTICE_S = 5.0
"""Longest time for what needs no answer: a notification, and the end of a session."""

_CALL = "tools/call"
_LAST_EVENT = "last-event-id"
_JSON = "application/json"
_EVENTS = "text/event-stream"
_MARK = secrets.token_hex(8)
_NOT_PASSED = frozenset({"connection", "content-length", "host", "transfer-encoding"})


class _Message(Struct):
    """What is read of a JSON-RPC message that is sent, or answered with."""

    method: str = ""
    id: Raw | msgspec.UnsetType = msgspec.UNSET
    error: Raw | msgspec.UnsetType = msgspec.UNSET


_read_message = msgspec.json.Decoder(_Message).decode


class Connections:
    """The connections to all servers: those that the operator names, and those of clients."""

    def __init__(
        self,
        rules: AddressRules,
        *,
        connect_timeout_s: float,
        max_answer_bytes: int,
        own_headers: Mapping[str, str],
        proxy: str | None = None,
    ) -> None:
        """`own_headers` are those by which a request that leads back to this service is known."""
        self.max_answer_bytes = max_answer_bytes
        self.large = asyncio.Semaphore(MAX_LARGE)
        self._rules = rules
        self._own_headers = own_headers
        self._proxy = proxy
        self._timeout = aiohttp.ClientTimeout(
            total=None, connect=connect_timeout_s, sock_connect=connect_timeout_s
        )
        self._resolver: CheckedResolver | None = None
        self._checked: aiohttp.ClientSession | None = None
        self._named: aiohttp.ClientSession | None = None

    def open(self) -> None:
        """To be called in the event loop, before the first request."""
        if self._proxy is None:  # else the proxy resolves names, and keeps to the rules
            self._resolver = CheckedResolver(self._rules)
        self._checked = _session(self._resolver)
        self._named = _session(None)

    async def aclose(self) -> None:
        for session in (self._checked, self._named):
            if session is not None:
                await session.close()
        if self._resolver is not None:
            await self._resolver.close()

    def transport(self, *, checked: bool) -> McpTransport:
        """The transport of one session; `checked` where a client has named the URL."""
        http = self._checked if checked else self._named
        assert http is not None, "the connections are not open"
        return McpTransport(self, http, checked=checked)

    async def send(
        self, http: aiohttp.ClientSession, request: httpx2.Request, seconds: float | None
    ) -> aiohttp.ClientResponse:
        """The answer to a request, without its body. Raises McpFailed."""
        url = str(request.url)
        if http is self._checked:
            try:
                url = self._rules.check_url(url)
            except NotAllowed as error:
                raise _not_allowed(error) from None
        headers = {
            name: value for name, value in request.headers.items() if name not in _NOT_PASSED
        }
        headers |= {"user-agent": USER_AGENT, "accept-encoding": "identity", **self._own_headers}
        timeout = self._timeout
        if seconds is not None:
            timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=timeout.sock_connect)
        try:
            return await http.request(
                request.method,
                url,
                headers=headers,
                data=request.content or None,
                allow_redirects=False,
                proxy=self._proxy,
                timeout=timeout,
            )
        except NotAllowed as error:
            raise _not_allowed(error) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _broken(error) from None


class McpTransport(httpx2.AsyncBaseTransport):
    """The transport of one session. It never raises for what a server does."""

    def __init__(
        self, connections: Connections, http: aiohttp.ClientSession, *, checked: bool
    ) -> None:
        self._connections = connections
        self._http = http
        self._checked = checked
        self._notifying = 0
        self._notified = asyncio.Event()
        self._notified.set()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        is_get = request.method == "GET"
        if is_get and _LAST_EVENT not in request.headers:
            # a stream of what the server says unasked, of which nothing is needed
            return httpx2.Response(405)
        message = _message(request)
        wants_answer = message.id is not msgspec.UNSET or is_get
        if not wants_answer:
            self._notifying += 1
            self._notified.clear()
        try:
            answer = await self._connections.send(
                self._http, request, None if wants_answer else NOTICE_S
            )
            is_call = message.method == _CALL or is_get
            limit = self._connections.max_answer_bytes if is_call else MAX_OTHER_BYTES
            reading = _Reading(answer, limit, self._connections.large)
            return await _answer(request, message, reading, wants_answer=wants_answer)
        except McpFailed as failure:
            return _failure(failure, request)
        finally:
            if not wants_answer:
                self._notifying -= 1
                if not self._notifying:
                    self._notified.set()

    async def notified(self, seconds: float) -> None:
        """Wait until every notification is out, but no longer than this."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._notified.wait(), seconds)


class _Reading(httpx2.AsyncByteStream):
    """The chunks of an answer, up to a limit for all of them."""

    def __init__(
        self, answer: aiohttp.ClientResponse, limit: int, large: asyncio.Semaphore
    ) -> None:
        self.answer = answer
        self.limit = limit
        self.advice = "; ask for less" if limit != MAX_OTHER_BYTES else ""
        self._large = large
        self._is_large = False

    async def chunks(self) -> AsyncIterator[bytes]:
        """Raises McpFailed."""
        if self.answer.headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise unreadable("The server's answer is compressed, which was not asked for.")
        size = 0
        try:
            async for chunk in self.answer.content.iter_any():
                size += len(chunk)
                if size > self.limit:
                    raise refused(
                        f"The server's answer is larger than {self.limit} bytes{self.advice}."
                    )
                if size > LARGE_BYTES and not self._is_large:
                    await self._large.acquire()
                    self._is_large = True
                yield chunk
        except (aiohttp.ClientError, OSError):
            raise unreadable("The server broke off its answer.") from None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self.chunks():
                yield chunk
        except McpFailed as failure:  # the SDK ends the request then, and not the session
            raise httpx2.SSEError(failure.message) from None

    async def aclose(self) -> None:
        self.answer.close()
        if self._is_large:
            self._is_large = False
            self._large.release()


async def _answer(
    request: httpx2.Request, asked: _Message, reading: _Reading, *, wants_answer: bool
) -> httpx2.Response:
    """The answer for the SDK. Raises McpFailed."""
    answer = reading.answer
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    headers = {"content-type": kind}
    if session := answer.headers.get(SESSION_HEADER):
        headers[SESSION_HEADER] = session
    if answer.status == 200 and kind == _EVENTS:
        return httpx2.Response(200, headers=headers, stream=reading)
    try:
        if answer.status == 404 and SESSION_HEADER in request.headers:
            raise SessionLost
        if not wants_answer or answer.status == 202:
            return httpx2.Response(answer.status)
        if 400 <= answer.status < 500 and answer.status not in (401, 403) and kind == _JSON:
            reading.limit = MAX_ERROR_BYTES
            body = await _body(reading)
            if _is_error(body):
                return httpx2.Response(answer.status, headers=headers, content=body)
        if answer.status != 200:
            raise http_error(answer.status)
        if kind != _JSON:
            raise unreadable("The server's answer is neither JSON nor a stream of events.")
        body = await _body(reading)
        with suppress(msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            if _read_message(body).id == asked.id:  # else the SDK would wait for another one
                return httpx2.Response(200, headers=headers, content=body)
        raise unreadable("The server's answer is no JSON-RPC message for this request.")
    finally:
        await reading.aclose()


async def _body(reading: _Reading) -> bytes:
    body = bytearray()
    async for chunk in reading.chunks():
        body += chunk
    return bytes(body)


def failure_in(error: MCPError) -> McpFailed | None:
    """The failure of this transport that the SDK has carried; None for a server's own error."""
    data = as_object(error.data) or {}
    fields = as_object(data.get(_MARK))
    if fields is None:
        return None
    if fields["what"] == SessionLost.__name__:
        return SessionLost()
    made = ConnectionBroke if fields["what"] == ConnectionBroke.__name__ else McpFailed
    return made(fields["type"], fields["code"], fields["message"])


def _failure(failure: McpFailed, request: httpx2.Request) -> httpx2.Response:
    """A failure as an answer with a JSON-RPC error, which the SDK hands to who has asked."""
    if request.method != "POST":
        return httpx2.Response(502)
    carried = {_MARK: {"what": type(failure).__name__, **failure.as_error()}}
    error = {"code": REFUSED, "message": failure.message, "data": carried}
    body = msgspec.json.encode({"jsonrpc": "2.0", "id": None, "error": error})
    return httpx2.Response(400, headers={"content-type": _JSON}, content=body)


def _message(request: httpx2.Request) -> _Message:
    return _read_message(request.content) if request.content else _Message()


def _is_error(body: bytes) -> bool:
    """Whether a body is a JSON-RPC error."""
    try:
        return _read_message(body).error is not msgspec.UNSET
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return False


def _not_allowed(error: NotAllowed) -> McpFailed:
    return refused(f"The server must not be connected to: {error}.")


def _broken(error: Exception) -> McpFailed:
    """The failure of a connection; its own words may quote the URL, which may hold a secret."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return broken("The server could not be reached in time.")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return broken("The server's host is not known.")
    if isinstance(error, aiohttp.ClientSSLError | aiohttp.ClientConnectorCertificateError):
        return broken("The server has no valid certificate.")
    return broken("The server could not be reached, or broke off.")


@cache
def _certificates() -> ssl.SSLContext:
    """The authorities of servers, which take a while to read."""
    return httpx.create_ssl_context()


def _session(resolver: CheckedResolver | None) -> aiohttp.ClientSession:
    """Connections without cookies, and without what the environment says."""
    connector = aiohttp.TCPConnector(
        limit=0,
        ssl=_certificates(),
        resolver=resolver,
        use_dns_cache=False,
        keepalive_timeout=KEPT_S,
    )
    jar = aiohttp.DummyCookieJar()
    return aiohttp.ClientSession(
        connector=connector, cookie_jar=jar, auto_decompress=False, trust_env=False
    )
