"""WebSockets: uvicorn's protocol over the websockets library, with a short way out for messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request
from websockets.protocol import State

from translator.service.base import sinks as direct


class WebSocket(WebSocketsSansIOProtocol):
    """Offers a `direct.Messages` to the application."""

    def eof_received(self) -> None:
        """The client has left, and takes nothing of what it was sent: then nobody waits for it."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if self.response.status_code == 101:  # else there is nobody to offer it to
            scope = cast("dict[str, Any]", self.scope)
            scope["extensions"][direct.EXTENSION] = _Messages(self)


class _Messages:
    """A `direct.Messages`."""

    __slots__ = ("_socket",)

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket

    def ready(self) -> bool:
        socket = self._socket
        return (
            socket.conn.state is State.OPEN
            and not socket.disconnected
            and socket.writable.is_set()
            and not socket.transport.is_closing()
        )

    def write(self, piece: Sequence[bytes]) -> None:
        connection = self._socket.conn
        for message in piece:
            connection.send_text(message)
        self._socket.transport.write(b"".join(connection.data_to_send()))

    def waits(self) -> bool:
        return not self._socket.writable.is_set()

    def abort(self) -> None:
        self._socket.transport.abort()
