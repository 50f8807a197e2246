"""uvicorn's WebSocket protocol (over the websockets library) with direct writes.

A text message that is not UTF-8 closes the connection with 1007, as RFC 6455 wants it (8.1), and a
handshake that websockets cannot read gets an HTTP error: uvicorn logs a traceback for the one, and
leaves the other without an answer.

It uses what uvicorn does not document. `_NEEDS` names it; pyproject.toml bounds uvicorn's version.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import msgspec
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidMessage
from websockets.frames import CloseCode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from translator.service.base.internals import missing_attributes
from translator.service.base.sinks import EXTENSION
from translator.wire.errors import InvalidRequest

_NEEDS: dict[type, str] = {
    WebSocketsSansIOProtocol: (
        "conn scope response transport writable disconnected handle_connect eof_received"
        " close_sent curr_msg_data_type data_received frames handle_parser_exception"
        " handshake_initiated queue read_paused send_receive_event_to_app"
    ),
    ServerProtocol: "state send_text data_to_send fail handshake_exc",
}

MISSING = missing_attributes(_NEEDS)


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """Offers a `MessageWriter` to the application."""

    def eof_received(self) -> None:
        """Do not wait for a client that closes its side and does not read."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        error = self.conn.handshake_exc
        if error is not None and not self.handshake_initiated and not self.transport.is_closing():
            self._refuse(error)

    def _refuse(self, error: Exception) -> None:
        """Answer a request that websockets could not read as a handshake."""
        if isinstance(error, InvalidMessage):  # a body, or a header that is no text
            status, code = b"400 Bad Request", None
            message = "The request is not the handshake of a WebSocket."
        else:
            status, code = b"431 Request Header Fields Too Large", "header_too_large"
            message = "The header of the handshake is too large."
        refusal = InvalidRequest(message, param=None, code=code)
        body = msgspec.json.encode(refusal.envelope())
        self.transport.write(
            b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
            b"connection: close\r\n\r\n%b" % (status, len(body), body)
        )
        self.transport.close()

    def send_receive_event_to_app(self) -> None:
        if self.close_sent or self.curr_msg_data_type != "text":
            super().send_receive_event_to_app()
            return
        data, self.frames = b"".join(self.frames), []
        try:
            text = data.decode()
        except UnicodeDecodeError:
            if self.conn.state is State.OPEN:
                self.conn.fail(CloseCode.INVALID_DATA, "a text message is not UTF-8")
                self.handle_parser_exception()
            return
        self.queue.put_nowait({"type": "websocket.receive", "text": text})
        if not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if self.response.status_code == 101:  # else the handshake was refused
            scope = cast("dict[str, Any]", self.scope)
            scope["extensions"][EXTENSION] = TextWriter(self)


class TextWriter:
    """A `MessageWriter`."""

    __slots__ = ("_socket",)

    def __init__(self, socket: WebSocketProtocol) -> None:
        self._socket = socket

    def ready(self) -> bool:
        socket = self._socket
        return (
            socket.conn.state is State.OPEN
            and not socket.disconnected
            and socket.writable.is_set()
            and not socket.transport.is_closing()
        )

    def write(self, chunk: Sequence[bytes]) -> None:
        connection = self._socket.conn
        for message in chunk:
            connection.send_text(message)
        self._socket.transport.write(b"".join(connection.data_to_send()))

    def waits(self) -> bool:
        return not self._socket.writable.is_set()

    def abort(self) -> None:
        self._socket.transport.abort()
