"""Sinks and writers: synchronous calls on the path of a chunk, which wake no task.

    upstream connection ──► ChunkSink ──► DirectWriter ──► client connection

ASGI's `send` is a coroutine and takes a message: that costs CPU for each chunk, and only a task can
wait for it. Another task has to wait in `receive` all the time to notice that the client
disconnects. A server that can do without offers a `DirectWriter` among the `extensions` of a
request; ours does (`server.http1`, `server.websocket_protocol`). It writes chunks of a response
that has begun. The beginning and the end, and whatever may have to wait, go through `send`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from translator.text_run import Framing
from translator.wire.errors import TranslatorError

EXTENSION = "translator.direct"
"""The name of the ASGI extension."""

T = TypeVar("T", contravariant=True)


class ChunkSink(Protocol):
    """A synchronous consumer of body chunks."""

    def ready(self) -> bool:
        """Whether it can consume a chunk now, where no push has just said so."""
        ...

    def push_framed(self, data: bytes, line: bytes, size: int) -> bool | None:
        """Consume a read of the size of one chunk: a chunk-size line, data of some size, and CRLF.

        Whether it is one, the sink has to check. None: it is not, or not what the sink expects;
        nothing is consumed, and it is to be parsed and pushed.
        """
        ...

    def push(self, chunk: bytes) -> bool:
        """Consume a chunk; False: it needs its reader before the next one.

        What it raises, the read raises.
        """
        ...


class DirectWriter(Protocol[T]):
    """Writes chunks of a response without waiting."""

    def ready(self) -> bool:
        """Whether a chunk can be written now: the client is connected, and its buffer not full."""
        ...

    def write(self, chunk: T) -> bool:
        """Write one chunk; False: the client's buffer is full now, or the client has gone."""
        ...

    def waits(self) -> bool:
        """Whether `send` would wait, because the client does not read."""
        ...

    def abort(self) -> None:
        """Close the connection at once, and discard what the client has not read."""
        ...


class HttpWriter(DirectWriter[bytes], Protocol):
    """Writes chunks of the body while an HTTP request is answered."""

    framing: Framing
    """What `write_framed` expects around each chunk."""

    problem: TranslatorError | None
    """Why no more of the request's body can be read, and what has been read is not all of it."""

    def write_framed(self, chunk: bytes) -> bool:
        """Write one chunk in its framing; False: the client's buffer is full now.

        Nothing is written to a client that has gone.
        """
        ...

    def take_body(self) -> bytes | None:
        """The request's body, past ASGI's `receive`; None where `receive` has more to tell."""
        ...

    def on_disconnect(self, callback: Callable[[], None]) -> bool:
        """Have `callback` called when the client disconnects; False: it has disconnected.

        What has not been read of the request's body is discarded from then on.
        """
        ...

    def ignore_disconnect(self) -> None:
        """Do not call the callback any more."""
        ...


class MessageWriter(DirectWriter[Sequence[bytes]], Protocol):
    """Writes text messages of a WebSocket, several at a time."""

    def write_message(self, message: bytes) -> bool:
        """Write one message; False: the client's buffer is full now, or the client has gone."""
        ...

    def ended(self) -> str:
        """Why the server has closed the connection by itself, with the code; empty: it has not."""
        ...
