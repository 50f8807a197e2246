"""Requests on connections of aiohttp's pool, without aiohttp's ClientSession.

    connect, write, { informational response }, response ──► its body, release

A ClientSession merges headers, checks options, makes a ClientRequest, a task that writes it, and a
ClientResponse that holds all of this as long as the answer lasts. Here a request has been decided
on: its head is one string, and its response is a status, headers and a body. Connections are of the
same pool, and errors are those of a ClientSession.

`Transport` leaves to a ClientSession what is rare: requests through a proxy, those that expect
`100 Continue`, and all of them where aiohttp lacks what is used here. Both send the same bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError

from translator.service.base.internals import missing_attributes, warn_once

from . import connection
from .connection import Connection, Pool

_NEEDS: dict[type, str] = {
    aiohttp.ClientRequest: "connection_key request_info url",
    aiohttp.TCPConnector: "connect _release",
    ResponseHandler: "read is_connected resume_writing writing_paused upgraded",
    aiohttp.StreamReader: "on_eof set_exception is_eof",
}

MISSING = missing_attributes(_NEEDS)

_Url = type(aiohttp.ClientRequest.url)
"""yarl's, which comes with aiohttp."""

_FORBIDDEN = bytes((*range(9), *range(10, 32), 127))
"""RFC 9110, 5.5. All other characters of ASCII may stand in a header."""


class _Held(Protocol):
    """A connection of the pool that is in use: aiohttp's class has no public name."""

    @property
    def protocol(self) -> ResponseHandler | None: ...
    def release(self) -> None: ...
    def close(self) -> None: ...


class DirectBody:
    """The body of a direct request's response: as much of an aiohttp.ClientResponse as it needs."""

    __slots__ = ("connection", "content")

    def __init__(self, held: _Held, content: aiohttp.StreamReader) -> None:
        self.connection: _Held | None = held
        """None as soon as the whole body has come: then another request may use it."""

        self.content = content
        content.on_eof(self._ended)

    def release(self) -> None:
        """Release the connection, which is closed unless the whole body has come."""
        if self.connection is not None and not self.content.is_eof():
            self.content.set_exception(aiohttp.ClientConnectionError("Connection closed"))
        self._let_go()

    async def wait_for_close(self) -> None:
        """Nothing is left to wait for: a request that is still being written ends with it."""

    def _ended(self) -> None:
        protocol = None if self.connection is None else self.connection.protocol
        if protocol is None or not protocol.upgraded:
            self._let_go()

    def _let_go(self) -> None:
        held, self.connection = self.connection, None
        if held is None:
            return
        if isinstance(held.protocol, Connection) and held.protocol.is_uploading:
            held.close()
        else:
            held.release()


class Head(NamedTuple):
    """The status and headers of a response. Not kept, while its body may take minutes."""

    status: int
    raw_headers: tuple[tuple[bytes, bytes], ...]
    body: DirectBody


class _Prototype(aiohttp.ClientRequest):
    """A template of all requests to one URL; the key of its connections is computed once."""

    @cached_property
    def connection_key(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
    ) -> Any:  # noqa: ANN401 - aiohttp's own
        return super().connection_key


class DirectRequests:
    """Sends requests to one URL."""

    def __init__(
        self,
        pool: Pool,
        session: aiohttp.ClientSession,
        url: str,
        host: str,
        timeout: aiohttp.ClientTimeout,
    ) -> None:
        """`host` is the value of the header, where a request has none."""
        self._pool = pool
        self._timeout = timeout
        self._host = host
        # For the pool: which connections may serve it, and how one is made.
        self._prototype = _Prototype(
            "GET", _Url(url), loop=asyncio.get_running_loop(), session=session
        )
        self._path = self._prototype.url.raw_path_qs

    async def send(self, method: str, headers: Mapping[str, str], body: bytes | None) -> Head:
        """Send one request. Raises what `ClientSession.request` does, and ReusedConnectionEnded.

        ValueError for headers that are none.
        """
        head = self._head(method, headers)
        try:
            return await self._send(head, body)
        except aiohttp.ClientError:
            raise
        except OSError as error:
            if error.errno is None and isinstance(error, TimeoutError):
                raise
            raise aiohttp.ClientOSError(*error.args) from error

    async def _send(self, head: bytes, body: bytes | None) -> Head:
        try:
            held = await self._pool.connect(self._prototype, [], self._timeout)
        except TimeoutError as error:
            url = self._prototype.url
            raise aiohttp.ConnectionTimeoutError(f"Connection timeout to host {url}") from error
        protocol = held.protocol
        assert isinstance(protocol, Connection)
        try:
            protocol.set_response_params(
                read_until_eof=True, auto_decompress=False, read_timeout=self._timeout.sock_read
            )
            if protocol.is_connected():
                protocol.write_request(head, body)
            else:
                gone = f"Can not write request body for {self._prototype.url}"
                protocol.set_exception(aiohttp.ClientOSError(None, gone))
            while True:
                message, content = await protocol.read()
                if not 100 <= message.code <= 199 or message.code == 101:
                    return Head(message.code, message.raw_headers, DirectBody(held, content))
        except HttpProcessingError as error:
            held.close()
            raise aiohttp.ClientResponseError(
                self._prototype.request_info,
                (),
                status=error.code,
                message=error.message,
                headers=error.headers,
            ) from error
        except BaseException:
            held.close()
            raise

    def _head(self, method: str, headers: Mapping[str, str]) -> bytes:
        lines = {"host": self._host, **headers}
        fields = "\r\n".join(map(": ".join, lines.items()))
        head = f"{method} {self._path} HTTP/1.1\r\n{fields}\r\n\r\n".encode("ascii")
        ends = len(b"\r\n") * (len(lines) + 2)
        if len(head) - len(head.translate(None, _FORBIDDEN)) != ends:
            raise ValueError("a control character in a header")
        return head


def direct_requests(
    session: aiohttp.ClientSession, url: str, host: str, timeout: aiohttp.ClientTimeout
) -> DirectRequests | None:
    """What sends requests to a URL directly; None where aiohttp lacks what that needs."""
    pool = session.connector
    if MISSING and not connection.MISSING:
        warn_once("aiohttp", MISSING, "requests pass its ClientSession, which costs CPU")
    if MISSING or not isinstance(pool, Pool):
        return None
    return DirectRequests(pool, session, url, host, timeout)
