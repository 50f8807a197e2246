"""An HTTP/1.1 protocol for uvicorn: ignored upgrades, limited headers, direct writes.

Upgrades: Java's HTTP client offers `Upgrade: h2c` with each request. httptools then ends the
request with its headers, and takes the body for data of the other protocol: it would never be
answered. A server may ignore the offer, so the headers are parsed again without it.

Headers: the size of a request's first line, headers and trailers is limited. httptools alone has no
limit.

Writes: chunks of a response are written by a `DirectWriter`, past ASGI's `send`.

It uses what uvicorn does not document. `_NEEDS` names it; pyproject.toml bounds uvicorn's version.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import httptools
import msgspec
import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from translator.service.base.internals import missing_attributes
from translator.service.base.sinks import EXTENSION
from translator.wire.errors import TranslatorError

DISCARD_S = 1.0
"""How long a connection is still read, and the data discarded, after a 431."""

MAX_PIPELINED = 8
"""Pipelined requests behind the current one. With more, the connection is not read any more, so
its end is not noticed either."""

_NEEDS: dict[type, str] = {
    HttpToolsProtocol: (
        "parser cycle scope pipeline flow loop transport timeout_keep_alive"
        " handle_websocket_upgrade connection_lost eof_received data_received on_message_begin"
        " on_url on_header on_headers_complete on_body on_message_complete"
    ),
    RequestResponseCycle: "scope flow transport disconnected chunked_encoding response_complete",
    FlowControl: "write_paused resume_reading",
}

MISSING = missing_attributes(_NEEDS)

_UPGRADE_HEADERS = frozenset({b"upgrade", b"http2-settings"})


class Http1(HttpToolsProtocol):
    """uvicorn's HTTP protocol over a `Parser`."""

    # slots, as more instance attributes than uvicorn's own would make each connection larger
    __slots__ = ("_max_header_bytes", "_refused", "_writers")

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        max_header_bytes: int,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._max_header_bytes = max_header_bytes
        self.parser = cast("httptools.HttpRequestParser", Parser(self, max_header_bytes))
        self._refused = False
        self._writers: set[ChunkWriter] = set()  # of requests whose client is watched

    def handle_websocket_upgrade(self) -> None:
        super().handle_websocket_upgrade()
        cast("Parser", self.parser).close()  # another protocol has the connection

    def connection_lost(self, exc: Exception | None) -> None:
        cast("Parser", self.parser).close()
        super().connection_lost(exc)
        for writer in tuple(self._writers):
            writer.disconnected()

    def eof_received(self) -> None:
        """Do not wait for a client that closes its side and does not read its response."""
        if self._writers and self.transport.get_write_buffer_size():
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        try:
            super().data_received(data)
        except HeaderTooLarge:
            self._refuse()

    def _refuse(self) -> None:
        """Send a 431, unless a response has begun, and close the connection.

        Not at once: data that the client is still sending would reset it, and the 431 be lost.
        """
        self._refused = True
        current = cast("RequestResponseCycle | None", self.cycle)
        if current is None or current.response_complete:
            error = TranslatorError(
                f"The request's header is over {self._max_header_bytes} bytes.",
                code="header_too_large",
            )
            error.type = "invalid_request_error"
            body = msgspec.json.encode(error.envelope())
            self.transport.write(
                b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
                b"content-type: application/json\r\ncontent-length: %d\r\n"
                b"connection: close\r\n\r\n%b" % (len(body), body)
            )
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(DISCARD_S, self.transport.close)

    def on_body(self, body: bytes) -> None:
        """Discard what is not read: held back, it would hide the end of the connection."""
        if not any(writer.is_for(self.cycle) for writer in self._writers):
            super().on_body(body)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        cycle = cast("RequestResponseCycle | None", self.cycle)
        if cycle is not None and cycle.scope is self.scope:
            cast("dict[str, Any]", self.scope)["extensions"] = {
                EXTENSION: ChunkWriter(cycle, self._writers)
            }
        if self._writers and 0 < len(self.pipeline) <= MAX_PIPELINED:
            self.flow.resume_reading()


class ChunkWriter:
    """An `HttpWriter` for responses in chunked encoding."""

    __slots__ = ("_cycle", "_flow", "_on_disconnect", "_transport", "_writers")

    def __init__(self, cycle: RequestResponseCycle, writers: set[ChunkWriter]) -> None:
        """`writers` are those of the connection that have a callback for its end."""
        self._cycle = cycle
        self._writers = writers
        self._on_disconnect: Callable[[], None] | None = None
        self._flow = cycle.flow
        self._transport = cycle.transport

    def is_for(self, cycle: RequestResponseCycle) -> bool:
        return cycle is self._cycle

    def ready(self) -> bool:
        cycle = self._cycle
        return not (
            self._flow.write_paused
            or cycle.disconnected
            or not cycle.chunked_encoding
            or self._transport.is_closing()
        )

    def waits(self) -> bool:
        return self._flow.write_paused

    def write(self, chunk: bytes) -> None:
        self._transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))

    def on_disconnect(self, callback: Callable[[], None]) -> bool:
        if self._transport.is_closing():
            return False
        self._on_disconnect = callback
        self._writers.add(self)
        self._flow.resume_reading()  # else a large body hides the end of the connection
        return True

    def ignore_disconnect(self) -> None:
        self._on_disconnect = None
        self._writers.discard(self)

    def abort(self) -> None:
        self._cycle.disconnected = True
        self._transport.abort()

    def disconnected(self) -> None:
        """The connection is closed."""
        self._cycle.disconnected = True  # uvicorn sets it only for the last request on it
        if self._on_disconnect is not None:
            self._on_disconnect()


class HeaderTooLarge(Exception):
    """The size of a request's headers is over the limit."""


class Parser:
    """An `httptools.HttpRequestParser` that ignores every upgrade but that to a WebSocket.

    `protocol` gets the parser's callbacks; for headers that are parsed again, from
    `on_message_begin` on. `feed_data` also raises HeaderTooLarge.
    """

    def __init__(self, protocol: HttpToolsProtocol, max_header_bytes: int) -> None:
        self._protocol = protocol
        self._max = max_header_bytes
        self._header_bytes = 0  # of the complete parts
        self._line_bytes = 0  # of a line not terminated yet
        self._in_body = False
        self._parser = self._new_parser()
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._ignores_upgrade = False

    def close(self) -> None:
        """Release the parser and the protocol, which hold this one."""
        del self._parser, self._protocol

    def _new_parser(self) -> httptools.HttpRequestParser:
        parser = httptools.HttpRequestParser(self)
        parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own
        return parser

    def feed_data(self, data: bytes) -> None:
        self._in_body = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if not self._ignores_upgrade:
                raise
            self._ignores_upgrade = False
            [end] = upgrade.args
            head = self._head()
            self._parser = self._new_parser()  # the old one may expect no other request
            self._parser.feed_data(head)
            self.feed_data(data[end:])
            return
        except httptools.HttpParserCallbackError:
            if self._header_bytes > self._max:
                raise HeaderTooLarge from None
            raise
        if self._in_body:
            self._line_bytes = 0
            return
        ended = data.rfind(b"\n") + 1
        self._line_bytes = len(data) - ended + (0 if ended else self._line_bytes)
        if self._line_bytes > self._max:
            raise HeaderTooLarge

    def _count(self, size: int) -> None:
        """Add to the size of the headers."""
        self._header_bytes += size
        if self._header_bytes > self._max:
            raise HeaderTooLarge  # goes through the parser as its HttpParserCallbackError

    def _head(self) -> bytes:
        """The first line and the headers, without the offer of an upgrade."""
        version = self._parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self._parser.get_method(), self._url, version)]
        for name, value in self._headers:
            if name.lower() == b"connection":
                options = [one.strip() for one in value.split(b",")]
                value = b", ".join(one for one in options if one.lower() not in _UPGRADE_HEADERS)
            if name.lower() not in _UPGRADE_HEADERS:
                lines.append(b"%b: %b" % (name, value))
        return b"\r\n".join([*lines, b"", b""])

    def __getattr__(self, name: str) -> object:
        """Other callbacks go to the protocol, other calls to the real parser."""
        return getattr(self._protocol if name.startswith("on_") else self._parser, name)

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers = []
        self._header_bytes = 0
        self._protocol.on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        self._url += url
        self._protocol.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        self._headers.append((name, value))
        self._protocol.on_header(name, value)

    def on_headers_complete(self) -> None:
        offers = [value.lower() for name, value in self._headers if name.lower() == b"upgrade"]
        self._ignores_upgrade = self._parser.should_upgrade() and offers != [b"websocket"]
        if not self._ignores_upgrade:
            self._headers = []
            self._protocol.on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._in_body = True
        self._protocol.on_body(body)

    def on_message_complete(self) -> None:
        if not self._ignores_upgrade:
            self._protocol.on_message_complete()
