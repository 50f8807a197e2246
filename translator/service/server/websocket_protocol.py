"""uvicorn's WebSocket protocol (over the websockets library) with direct writes and bounds.

A message that arrives in parts is an upload: its time and its bytes are bounded as those of a
request body are. A client that sends one cannot answer a ping in the middle of a frame, so a ping
counts as answered while more of a message arrives.

A text message that is not UTF-8 closes the connection with 1007, as RFC 6455 wants it (8.1), and a
handshake that websockets cannot read gets an HTTP error: uvicorn logs a traceback for the one, and
leaves the other without an answer.

It uses what uvicorn does not document. `_NEEDS` names it; pyproject.toml bounds uvicorn's version.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any, cast

import msgspec
import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.exceptions import SecurityError
from websockets.frames import CloseCode
from websockets.http11 import MAX_LINE_LENGTH, Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from translator.service.base import uploads
from translator.service.base.internals import missing_attributes
from translator.service.base.sinks import EXTENSION
from translator.service.base.uploads import Upload, Uploads
from translator.wire.errors import InvalidRequest

from .connections import Connections

POLICY_VIOLATION = 1008
TRY_AGAIN_LATER = 1013

MANY_FRAMES, SMALL_FRAME_BYTES = 4096, 64
"""A message of more frames than the first must have so many bytes in each, on average: each frame
takes more memory than its bytes, an empty one, too."""

_FAULTS: dict[int, str] = {
    CloseCode.PROTOCOL_ERROR: "protocol error",
    CloseCode.INVALID_DATA: "invalid data",
    CloseCode.MESSAGE_TOO_BIG: "message too large",
}
"""What a client did wrong, by the code that it gets."""

_NO_HANDSHAKE = "The request is not the handshake of a WebSocket."

_NEEDS: dict[type, str] = {
    WebSocketsSansIOProtocol: (
        "conn scope response transport writable disconnected handle_connect eof_received"
        " connection_made connection_lost data_received handle_events keepalive_timeout"
        " schedule_ping ping_sent_at pong_timer frames loop app_state handshake_initiated"
        " handle_parser_exception handle_ping close_sent curr_msg_data_type queue read_paused"
        " send_receive_event_to_app"
    ),
    ServerProtocol: "state send_text data_to_send events reader fail handshake_exc",
}

MISSING = missing_attributes(_NEEDS)


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """Offers a `MessageWriter` to the application, and bounds what arrives."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        connections: Connections,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._connections = connections
        self.counts = False
        self._uploads: Uploads | None = app_state.get(uploads.STATE)
        self._upload: Upload | None = None  # of a message that has not arrived whole
        self._upload_timer: asyncio.TimerHandle | None = None
        self._last_read = -math.inf
        self._had_events = False  # in the latest read
        self.ended = ""
        """Why this closes the connection, of itself, with the code."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connections.took_over(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.closed(self)
        self._end_upload()
        super().connection_lost(exc)

    def eof_received(self) -> None:
        """Do not wait for a client that closes its side and does not read."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        self._had_events = False
        super().data_received(data)
        if not self.handshake_initiated:
            self._refuse_handshake(data)
            return
        # without an event, it is in the middle of a frame, perhaps of its first bytes
        partial = self.frames or self.conn.reader.buffer or not self._had_events
        if partial and self._uploads is not None and self.conn.state is State.OPEN:
            self._last_read = now = self.loop.time()
            if self._upload is None:
                self._upload = self._uploads.begin(now, self._give_way)
                self._check_upload()
            self._upload.add(len(data))
            if len(self.frames) > max(MANY_FRAMES, self._upload.size // SMALL_FRAME_BYTES):
                self._fail(POLICY_VIOLATION, "the message has too many small frames")
        elif self._upload is not None:
            self._end_upload()

    def handle_events(self) -> None:
        self._had_events = bool(self.conn.events)
        super().handle_events()

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
        if self.response.status_code == 101:
            scope = cast("dict[str, Any]", self.scope)
            scope["extensions"][EXTENSION] = TextWriter(self)
        else:  # the handshake was refused
            self._report_refusal(
                InvalidRequest(_NO_HANDSHAKE, param=None), self.response.status_code
            )

    def _report_refusal(self, refusal: InvalidRequest, status: int) -> None:
        """Have the log and the metrics say that the server itself has answered."""
        refusal.status_hint = status
        self._connections.answered(refusal)

    def _refuse_handshake(self, data: bytes) -> None:
        """Answer a request that websockets cannot read; uvicorn leaves it without an answer."""
        if self.transport.is_closing():
            return
        error = self.conn.handshake_exc
        too_large = error if isinstance(error, SecurityError) else error and error.__cause__
        if not isinstance(too_large, SecurityError):  # a body, or a header that is not text
            status, code = b"400 Bad Request", None
            message = _NO_HANDSHAKE
        elif len(data.partition(b"\n")[0]) > MAX_LINE_LENGTH:
            status, code = b"414 URI Too Long", "header_too_large"
            message = "The path of the handshake is too long."
        else:
            status, code = b"431 Request Header Fields Too Large", "header_too_large"
            message = "The header of the handshake is too large."
        refusal = InvalidRequest(message, param=None, code=code)
        self._report_refusal(refusal, int(status[:3]))
        body = msgspec.json.encode(refusal.envelope())
        self.transport.write(
            b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
            b"connection: close\r\n\r\n%b" % (status, len(body), body)
        )
        self.transport.close()

    # --- messages that arrive in parts ------------------------------------------------------------

    def _check_upload(self) -> None:
        """Close if a message is late, else look again when it would be."""
        upload = self._upload
        assert upload is not None
        deadline = upload.deadline(self._last_read)
        if self.loop.time() >= deadline:
            self._fail(POLICY_VIOLATION, "the message did not arrive in time")
        else:
            self._upload_timer = self.loop.call_at(deadline, self._check_upload)

    def _give_way(self) -> None:
        self._fail(TRY_AGAIN_LATER, "too many large requests are arriving; try again in 1s")

    def _fail(self, code: int, reason: str) -> None:
        self._end_upload()
        self.conn.fail(code, reason)
        self.handle_parser_exception()  # tells the application, too

    def handle_parser_exception(self) -> None:
        close = self.conn.close_sent
        if close is not None and not self.ended:
            what = ": ".join(filter(None, (_FAULTS.get(close.code), close.reason)))
            self.ended = f"{what} ({close.code})".lstrip()
        super().handle_parser_exception()

    def _end_upload(self) -> None:
        if self._upload_timer is not None:
            self._upload_timer.cancel()
            self._upload_timer = None
        if self._upload is not None:
            self._upload.close()
            self._upload = None

    def handle_ping(self) -> None:
        """Answer only a client that reads: else one that sends pings would fill our memory."""
        if self.writable.is_set() or self.conn.state is not State.OPEN:
            super().handle_ping()
        else:
            self.conn.data_to_send()  # which is the pong

    def keepalive_timeout(self) -> None:
        if self._upload is not None and self._last_read > self.ping_sent_at:
            self.pong_timer = None
            self.schedule_ping()
            return
        if not self.close_sent and not self.transport.is_closing():
            self.ended = "no answer to a ping (1011)"
        super().keepalive_timeout()

    # --- as Connections has it: a WebSocket never waits there -------------------------------------

    def has_unread(self) -> bool:
        return True

    def give_way(self) -> None: ...

    def header_is_late(self) -> None: ...

    def refuse(self) -> None: ...


class TextWriter:
    """A `MessageWriter`."""

    __slots__ = ("_socket",)

    def __init__(self, socket: WebSocketProtocol) -> None:
        self._socket = socket

    def ready(self) -> bool:
        return self._is_open() and self._socket.writable.is_set()

    def _is_open(self) -> bool:
        socket = self._socket
        is_open = socket.conn.state is State.OPEN and not socket.disconnected
        return is_open and not socket.transport.is_closing()

    def write(self, chunk: Sequence[bytes]) -> bool:
        if not self._is_open():
            return False
        socket = self._socket
        for message in chunk:
            socket.conn.send_text(message)
        socket.transport.write(b"".join(socket.conn.data_to_send()))
        return socket.writable.is_set()

    def write_message(self, message: bytes) -> bool:
        return self.write((message,))

    def waits(self) -> bool:
        return not self._socket.writable.is_set()

    def abort(self) -> None:
        self._socket.transport.abort()

    def ended(self) -> str:
        return self._socket.ended
