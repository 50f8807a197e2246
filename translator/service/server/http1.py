"""HTTP/1.1, with upgrades that nobody here takes left unheard, as the standard allows.

Java's HTTP client offers `Upgrade: h2c` with each request. httptools then takes the request for
finished with its headers, and a body for what follows the upgrade: it would never be answered. So
such a head is parsed once more without the offer, and the body behind it.

What is held of a request before the application sees it is bounded: its first line, its headers,
and what follows a body (its trailers). httptools alone would hold any number of them.

Pieces of an answer have a shorter way out than ASGI's (`direct`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import httptools
import msgspec
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from translator.service.base import sinks as direct
from translator.wire.errors import TranslatorError

LINGER_S = 1.0
"""How long a connection is still read, and what comes thrown away, after a refused header."""

MAX_PIPELINED = 8
"""Requests behind the one that is answered. With more, nothing is read any more, and so not the
end of the connection either."""

_OFFER = frozenset({b"upgrade", b"http2-settings"})


class Http1(HttpToolsProtocol):
    """uvicorn's protocol over a `Parser`."""

    # beside uvicorn's own, so that those stay few enough for Python to keep them in little space
    __slots__ = ("_max_header_bytes", "_refused", "_watched")

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
        self._watched: set[_Direct] = set()

    def handle_websocket_upgrade(self) -> None:
        super().handle_websocket_upgrade()
        cast("Parser", self.parser).close()  # another protocol has the connection

    def connection_lost(self, exc: Exception | None) -> None:
        cast("Parser", self.parser).close()
        super().connection_lost(exc)
        for request in tuple(self._watched):
            request.left()

    def eof_received(self) -> None:
        """Nobody waits for a client that leaves, and takes nothing of its answer."""
        if self._watched and self.transport.get_write_buffer_size():
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        try:
            super().data_received(data)
        except HeaderTooLarge:
            self._refuse()

    def _refuse(self) -> None:
        """Answer with a 431, unless an answer has begun; the connection ends.

        Not at once: what a client is still sending would reset it, and the answer be lost.
        """
        self._refused = True
        answering = cast("RequestResponseCycle | None", self.cycle)
        if answering is None or answering.response_complete:
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
        self.loop.call_later(LINGER_S, self.transport.close)

    def on_body(self, body: bytes) -> None:
        """Throw away what nobody reads: held back, it would hide the end of the connection."""
        if not any(request.is_for(self.cycle) for request in self._watched):
            super().on_body(body)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        cycle = cast("RequestResponseCycle | None", self.cycle)
        if cycle is not None and cycle.scope is self.scope:
            cast("dict[str, Any]", self.scope)["extensions"] = {
                direct.EXTENSION: _Direct(cycle, self._watched)
            }
        if self._watched and 0 < len(self.pipeline) <= MAX_PIPELINED:
            self.flow.resume_reading()


class _Direct:
    """A `direct.Http`."""

    __slots__ = ("_cycle", "_flow", "_left", "_transport", "_watched")

    def __init__(self, cycle: RequestResponseCycle, watched: set[_Direct]) -> None:
        """`watched` are those of the connection that want to know of its end."""
        self._cycle = cycle
        self._watched = watched
        self._left: Callable[[], None] | None = None
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

    def write(self, piece: bytes) -> None:
        self._transport.write(b"%x\r\n%b\r\n" % (len(piece), piece))

    def watch(self, left: Callable[[], None]) -> bool:
        if self._transport.is_closing():
            return False
        self._left = left
        self._watched.add(self)
        self._flow.resume_reading()  # else a large body keeps the end of the connection away
        return True

    def unwatch(self) -> None:
        self._left = None
        self._watched.discard(self)

    def abort(self) -> None:
        self._cycle.disconnected = True
        self._transport.abort()

    def left(self) -> None:
        """The connection is gone."""
        self._cycle.disconnected = True  # uvicorn says so only to the last request on it
        if self._left is not None:
            self._left()


class HeaderTooLarge(Exception):
    """More is held of a request's header than may be."""


class Parser:
    """An `httptools.HttpRequestParser` that knows one upgrade: to a WebSocket.

    `protocol` gets the parser's calls; those of a head that is parsed once more come twice, and
    begin with `on_message_begin` each time. `feed_data` also raises HeaderTooLarge.
    """

    def __init__(self, protocol: HttpToolsProtocol, max_header_bytes: int) -> None:
        self._protocol = protocol
        self._max = max_header_bytes
        self._whole = 0  # bytes of what is known of the header
        self._line = 0  # bytes of a line whose end has not come
        self._in_body = False
        self._parser = self._fresh()
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._unheard = False

    def close(self) -> None:
        """Nothing more is parsed: let go of the parser and of the protocol, which hold this one."""
        del self._parser, self._protocol

    def _fresh(self) -> httptools.HttpRequestParser:
        parser = httptools.HttpRequestParser(self)
        parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own
        return parser

    def feed_data(self, data: bytes) -> None:
        self._in_body = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if not self._unheard:
                raise
            self._unheard = False
            [end] = upgrade.args
            head = self._head()
            self._parser = self._fresh()  # the old one may be done with the connection
            self._parser.feed_data(head)
            self.feed_data(data[end:])
            return
        except httptools.HttpParserCallbackError:
            if self._whole > self._max:
                raise HeaderTooLarge from None
            raise
        if self._in_body:
            self._line = 0
            return
        ended = data.rfind(b"\n") + 1
        self._line = len(data) - ended + (0 if ended else self._line)
        if self._line > self._max:
            raise HeaderTooLarge

    def _known(self, size: int) -> None:
        """So many more bytes of the header are known."""
        self._whole += size
        if self._whole > self._max:
            raise HeaderTooLarge  # goes through the parser as its HttpParserCallbackError

    def _head(self) -> bytes:
        version = self._parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self._parser.get_method(), self._url, version)]
        for name, value in self._headers:
            if name.lower() == b"connection":
                options = [one.strip() for one in value.split(b",")]
                value = b", ".join(one for one in options if one.lower() not in _OFFER)
            if name.lower() not in _OFFER:
                lines.append(b"%b: %b" % (name, value))
        return b"\r\n".join([*lines, b"", b""])

    def __getattr__(self, name: str) -> object:
        """What is not about upgrades is the real parser's, or for the protocol."""
        return getattr(self._protocol if name.startswith("on_") else self._parser, name)

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers = []
        self._whole = 0
        self._protocol.on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._known(len(url))
        self._url += url
        self._protocol.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._known(len(name) + len(value))
        self._headers.append((name, value))
        self._protocol.on_header(name, value)

    def on_headers_complete(self) -> None:
        offers = [value.lower() for name, value in self._headers if name.lower() == b"upgrade"]
        self._unheard = self._parser.should_upgrade() and offers != [b"websocket"]
        if not self._unheard:
            self._headers = []
            self._protocol.on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._in_body = True
        self._protocol.on_body(body)

    def on_message_complete(self) -> None:
        if not self._unheard:
            self._protocol.on_message_complete()
