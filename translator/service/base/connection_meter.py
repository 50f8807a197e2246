"""What the server tells the application's metrics about client connections."""

from __future__ import annotations

from typing import Literal, Protocol

STATE = "translator.connection_meter"
"""The key of the application's meter in the state of the ASGI lifespan."""

CutReason = Literal["overload", "made_room", "late_header", "refused", "no_descriptor"]
"""Why the service closed a connection by itself: it was over the limit and got a 503; it was idle,
and made room for another; its request header was late, or no valid HTTP; there was no descriptor
for it."""


class ConnectionMeter(Protocol):
    """Counts connections."""

    def opened(self) -> None: ...

    def closed(self) -> None: ...

    def cut(self, reason: CutReason) -> None:
        """The service closes a connection by itself."""
        ...
