"""An HTTP/1.1 protocol for uvicorn: bounded connections, refused requests, direct writes.

Connections: each of them is known to `Connections`, which bounds their number, and the time that
the header of a request may take.

Refusals: a request that is not valid HTTP, or too large, gets an error like any other: after the
responses before it, and instead of none. Then its connection is closed, but not at once: data that
the client is still sending would reset it, and the error be lost.

Writes: chunks of a response are written by a `DirectWriter`, past ASGI's `send`. HTTP/1.0 knows no
chunks: there the end of the connection is the end of the response.

It uses what uvicorn does not document. `_NEEDS` names it; pyproject.toml bounds uvicorn's version.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, cast

import httptools
import msgspec
import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from translator.service.base.descriptors import unread_bytes
from translator.service.base.errors import MalformedRequest, RequestStalled, TooManyConnections
from translator.service.base.internals import missing_attributes
from translator.service.base.light import LightEvent, LightQueue
from translator.service.base.sinks import EXTENSION
from translator.service.observe.record import PROBED
from translator.text_run import Framing, Lines
from translator.wire.errors import TranslatorError

from .connections import Connections
from .parser import Parser, RequestRefused

DISCARD_S = 1.0
"""How long a connection is still read, and the data discarded, when the rest of a request is of no
use any more."""

MAX_PIPELINED = 8
"""Pipelined requests behind the current one. With more, the connection is not read any more, so
its end is not noticed either."""

_NEEDS: dict[type, str] = {
    HttpToolsProtocol: (
        "parser cycle scope pipeline flow loop transport timeout_keep_alive url"
        " handle_websocket_upgrade connection_made connection_lost eof_received headers"
        " on_message_begin on_url on_header on_headers_complete on_body on_message_complete"
        " on_response_complete ws_protocol_class app_state _unset_keepalive_if_required"
        " _should_upgrade _unsupported_upgrade_warning"
    ),
    RequestResponseCycle: (
        "scope flow transport disconnected chunked_encoding response_complete keep_alive"
        " more_body message_event expected_content_length send body waiting_for_100_continue"
    ),
    FlowControl: "write_paused resume_reading _is_writable_event",
}

MISSING = missing_attributes(_NEEDS)

_PROBED = frozenset(path.encode() for path in PROBED)


class Http1(HttpToolsProtocol):
    """uvicorn's HTTP protocol over a `Parser`."""

    # slots, as more instance attributes than uvicorn's own would make each connection larger
    __slots__ = (
        *("_closing", "_connections", "_problem", "_requests", "_unread_timer"),
        *("_writer", "_writers", "counts"),
    )

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        max_header_bytes: int,
        connections: Connections,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._requests = Parser(self, max_header_bytes)  # which makes and feeds `parser`
        self.pipeline = cast("Any", LightQueue())
        self._connections = connections
        self.counts = False
        self._closing = False  # it is only read, for a while
        self._unread_timer: asyncio.TimerHandle | None = None  # of responses that are complete
        self._problem: TranslatorError | None = None  # after which nothing more is parsed
        self._writer: ChunkWriter | None = None  # of the latest request
        self._writers: set[ChunkWriter] = set()  # of requests whose client is watched

    @property
    def _is_busy(self) -> bool:
        cycle = self.cycle  # None before the first request
        return bool(cycle and not cycle.response_complete)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        setattr(self.flow, "_is_writable_event", LightEvent(is_set=True))  # noqa: B010 - private
        self._connections.opened(self, self.app_state)

    def handle_websocket_upgrade(self) -> None:
        self._connections.closed(self)
        self._closing = True
        super().handle_websocket_upgrade()
        self._requests.close()  # another protocol has the connection

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.closed(self)
        self._closing = True
        if self._unread_timer is not None:
            self._unread_timer.cancel()
        self._requests.close()
        super().connection_lost(exc)
        if self.cycle:
            self.cycle.transport = self.transport  # a LingeringTransport would hold this
        for writer in tuple(self._writers):
            writer.disconnected()

    def eof_received(self) -> None:
        """Do not wait for a client that closes its side and does not read its response."""
        if self._writers and self.transport.get_write_buffer_size():
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._problem is not None or self._closing:
            return
        self._unset_keepalive_if_required()
        try:
            self._requests.feed_data(data)
        except RequestRefused as refused:
            self._refuse(refused.error)
            return
        except httptools.HttpParserUpgrade:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
            else:
                self._unsupported_upgrade_warning()
        self._has_read()

    def _has_read(self) -> None:
        if self._closing:
            return
        if not self._is_busy:
            self._connections.awaits_header(self)
        elif self._requests.in_body and self.cycle.transport is self.transport:
            self.cycle.transport = cast("asyncio.Transport", LingeringTransport(self))

    def _refuse(self, error: TranslatorError) -> None:
        """Answer a request that cannot be read with an error, in its turn; it is the last one."""
        self._problem = error
        self._unset_keepalive_if_required()
        if not self._is_busy:
            # of a body whose request has had its response, there is no more to say
            self.close() if self._requests.in_body else self._answer(error)
        elif self._requests.in_body:  # the application reads it, or will
            cycle = self.cycle
            cycle.transport = cast("asyncio.Transport", LingeringTransport(self))
            cycle.keep_alive = False
            cycle.more_body = False
            if self._writer is not None:
                self._writer.problem = error
            cycle.message_event.set()

    def _answer(self, error: TranslatorError) -> None:
        """Write an error as a whole response, and close."""
        if self._closing:
            return
        self._connections.answered(error)
        status = HTTPStatus(error.status_hint)
        body = msgspec.json.encode(error.envelope())
        headers = {
            "content-type": "application/json",
            "content-length": str(len(body)),
            **error.headers,
            "connection": "close",
        }
        lines = [f"HTTP/1.1 {status.value} {status.phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.transport.write("\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + body)
        self.close()

    def close(self) -> None:
        """Close the connection after what has been written, but read on for a while."""
        if self._closing:
            return
        self._closing = True
        self._connections.lingers(self)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self.loop.call_later(DISCARD_S, self.transport.close)

    def close_after_response(self) -> None:
        """Close; at once, if the request has been read whole by now."""
        if self._closing:
            return
        if self._problem is not None or self._requests.in_body:
            self.close()
        else:
            self.transport.close()

    def _close_now(self) -> None:
        """Close; at once, if the client has not read all by now."""
        self._closing = True
        self.transport.abort() if self.transport.get_write_buffer_size() else self.transport.close()

    def _drop_unread(self) -> None:
        """Close if the client has not read a complete response in all this time."""
        self._unread_timer = None
        if self.transport.get_write_buffer_size() and not self._is_busy:
            self.transport.abort()

    # --- as Connections has it ------------------------------------------------------------------

    def has_unread(self) -> bool:
        return unread_bytes(self.transport) > 0

    def give_way(self) -> None:
        self._close_now()

    def header_is_late(self) -> None:
        if self._requests.in_header:
            self._answer(RequestStalled("header"))
        else:
            self._close_now()

    def refuse(self) -> None:
        self._answer(TooManyConnections())
        self._close_now()

    # --- callbacks of the parser ----------------------------------------------------------------

    def on_body(self, body: bytes) -> None:
        """Discard what is not read: held back, it would hide the end of the connection."""
        if not self._writers or not any(writer.is_for(self.cycle) for writer in self._writers):
            super().on_body(body)

    def on_headers_complete(self) -> None:
        admitted = self._connections.admits(self)
        if not admitted and self.url.partition(b"?")[0] not in _PROBED:
            self._connections.refused(self)
            raise RequestRefused(TooManyConnections())
        before, was_busy = self.cycle, self._is_busy
        super().on_headers_complete()
        cycle = self.cycle
        if cycle is before and was_busy:
            raise RequestRefused(MalformedRequest("a WebSocket cannot begin within a response"))
        self._connections.is_busy(self)
        if cycle is before:  # a WebSocket begins
            return
        cycle.message_event = cast("Any", LightEvent())
        if not admitted:
            self._connections.lingers(self)
            cycle.keep_alive = False
        if self.scope["http_version"] == "1.0":
            cycle.__class__ = CloseDelimited
        self._writer = ChunkWriter(cycle, self.transport, self._writers)
        cast("dict[str, Any]", self.scope)["extensions"] = {EXTENSION: self._writer}
        if self._writers and 0 < len(self.pipeline) <= MAX_PIPELINED:
            self.flow.resume_reading()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None
        if self.transport.get_write_buffer_size():
            self._unread_timer = self.loop.call_later(
                self._connections.read_response_s, self._drop_unread
            )
        if self._closing:
            self._unset_keepalive_if_required()
        elif self.transport.is_closing():
            self._connections.is_idle(self)  # until its client has read all of it
        elif self._is_busy:
            pass  # the next one
        elif self._problem is not None:
            self._answer(self._problem)
        elif self._requests.in_header or self._requests.in_body:
            self._connections.awaits_header(self)
        else:
            self._connections.is_idle(self)


class LingeringTransport:
    """The transport of a response to a request that has not been read whole."""

    __slots__ = ("_protocol", "is_closing", "write")

    def __init__(self, protocol: Http1) -> None:
        self._protocol = protocol
        self.write = protocol.transport.write
        self.is_closing = protocol.transport.is_closing

    def close(self) -> None:
        self._protocol.close_after_response()


class CloseDelimited(RequestResponseCycle):
    """A response over HTTP/1.0: without a length, it ends where the connection does."""

    async def send(self, message: Any) -> None:  # noqa: ANN401 - as uvicorn has it
        if message["type"] == "http.response.start":
            if not any(name == b"content-length" for name, _ in message["headers"]):
                self.chunked_encoding = False  # and its length is not known
                self.close_delimited = True
        elif getattr(self, "close_delimited", False):
            self.expected_content_length = len(message.get("body", b""))
        await super().send(message)


class ChunkWriter:
    """An `HttpWriter` for responses in chunked encoding."""

    framing = Framing(Lines(b"%x\r\n"), b"\r\n")

    __slots__ = ("_cycle", "_flow", "_on_disconnect", "_transport", "_writers", "problem")

    def __init__(
        self,
        cycle: RequestResponseCycle,
        transport: asyncio.Transport,
        writers: set[ChunkWriter],
    ) -> None:
        """`writers` are those of the connection that have a callback for its end."""
        self._cycle = cycle
        self._writers = writers
        self._on_disconnect: Callable[[], None] | None = None
        self._flow = cycle.flow
        self._transport = transport
        self.problem: TranslatorError | None = None

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

    def take_body(self) -> bytes | None:
        cycle = self._cycle
        missing = cycle.more_body or cycle.waiting_for_100_continue
        if missing or cycle.disconnected or cycle.response_complete or self.problem is not None:
            return None
        self._flow.resume_reading()
        cycle.message_event.clear()
        body, cycle.body = bytes(cycle.body), bytearray()
        return body

    def waits(self) -> bool:
        return self._flow.write_paused

    def write(self, chunk: bytes) -> bool:
        transport = self._transport
        if transport.is_closing():
            return False
        transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        return not self._flow.write_paused

    def write_framed(self, chunk: bytes) -> bool:
        try:
            self._transport.write(chunk)
        except RuntimeError:  # uvloop's, of a connection that is lost
            return False
        return not self._flow.write_paused

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
