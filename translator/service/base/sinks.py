"""The short way to a client and from it: a function is called, and no task is woken.

ASGI's `send` is a coroutine and takes a message: that costs more than the write itself, and only a
task can wait for it. Another task has to wait in `receive` all the time to hear that a client has
left. A server that can do without offers a `Direct` among the `extensions` of a request; ours does
(`server.http1`, `server.websocket_protocol`). What is written so is what an answer consists of once
it has begun. Its beginning and its end, and whatever may have to wait, go the long way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

EXTENSION = "translator.direct"
"""The name of the extension."""

P = TypeVar("P", contravariant=True)


class Direct(Protocol[P]):
    """A way out for pieces of an answer."""

    def ready(self) -> bool:
        """Whether a piece can be written now: the client is there, and takes what it is given."""
        ...

    def write(self, piece: P) -> None:
        """Write one piece."""
        ...

    def waits(self) -> bool:
        """Whether `send` would wait, as the client does not take what it is given."""
        ...

    def abort(self) -> None:
        """End the connection, with all that the client has not taken."""
        ...


class Http(Direct[bytes], Protocol):
    """That of an HTTP request, while it is answered: pieces of the body."""

    def watch(self, left: Callable[[], None]) -> bool:
        """Have `left` called when the client leaves; False: it has left.

        What there is of the request's body and has not been read is not wanted any more.
        """
        ...

    def unwatch(self) -> None:
        """It does not matter any more."""
        ...


class Messages(Direct[Sequence[bytes]], Protocol):
    """That of a WebSocket: text messages, several at a time."""
