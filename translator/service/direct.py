"""The short way for pieces of an answer: written where they arise, and no task is woken for them.

ASGI's `send` is a coroutine and takes a message: that costs more than the write itself, and only a
task can wait for it. A server that can do without offers a `Direct` among the `extensions` of a
request; ours does (`process.http1`). It is for what an answer consists of once it has begun. Its
beginning and its end, and whatever may have to wait, go the long way.
"""

from __future__ import annotations

from typing import Protocol

EXTENSION = "translator.direct"
"""The name of the extension."""


class Direct(Protocol):
    """The rest of one answer, as far as its client takes it."""

    def ready(self) -> bool:
        """Whether a piece can be written now: the client is there, and takes what it is given."""
        ...

    def write(self, piece: bytes) -> None:
        """Write one piece."""
        ...
