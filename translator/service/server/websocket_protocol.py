"""uvicorn's WebSocket protocol (over the websockets library) with direct writes.

It uses what uvicorn does not document. `_NEEDS` names it; pyproject.toml bounds uvicorn's version.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from translator.service.base.internals import missing_attributes
from translator.service.base.sinks import EXTENSION

_NEEDS: dict[type, str] = {
    WebSocketsSansIOProtocol: (
        "conn scope response transport writable disconnected handle_connect eof_received"
    ),
    ServerProtocol: "state send_text data_to_send",
}

MISSING = missing_attributes(_NEEDS)


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """Offers a `MessageWriter` to the application."""

    def eof_received(self) -> None:
        """Do not wait for a client that closes its side and does not read."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()

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
