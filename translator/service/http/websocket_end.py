"""How a WebSocket ends: what its client is told, and what the log says of it.

client left: …    it closed the connection, was lost, or does not read
closed: …         the service closed it: for its age, its place, a fault of the client, its own end
"""

from __future__ import annotations

from starlette.types import Message

from translator.service.base.errors import ClientLeft
from translator.service.base.sinks import MessageWriter
from translator.service.observe.record import ENDED_WITH_SERVICE
from translator.wire.errors import InvalidRequest

LOST = "connection lost"
UNREAD = "it does not read its response"

_DEPARTURES: dict[object, str] = {
    1001: "it went away",
    1005: "it closed the connection without a code",
}
"""How clients close a connection, by the code; others just close it."""


class WebSocketEnd:
    """Why one WebSocket has ended, as soon as it has."""

    def __init__(self, direct: MessageWriter | None) -> None:
        self._direct = direct
        self._left = ""  # no exception, whose traceback would hold the session

    def client_left(self, reason: str) -> ClientLeft:
        """The error for a client that has left; the first reason is the one that counts."""
        self._left = self._left or reason
        return ClientLeft(self._left)

    def outcome(self, *, closing: bool) -> str:
        """The outcome of the connection; `closing`: it was to be closed for another reason."""
        if fault := self._fault:
            return f"closed: {fault}"
        late = ", while it was being closed" if closing else ""
        return f"client left: {self._left}{late}"

    def of_turn(self) -> str:
        """The outcome of a turn that was cut with its connection."""
        if not self._left:
            return ENDED_WITH_SERVICE
        fault = self._fault or (UNREAD if self._left == UNREAD else "")
        return f"client left: {fault}" if fault else "client left"

    @property
    def _fault(self) -> str:
        return "" if self._direct is None else self._direct.ended()


def departure(message: Message) -> str:
    """How a client has left, by the `websocket.disconnect` that reports it."""
    if "reason" not in message:
        return LOST
    code = message.get("code")
    return f"{_DEPARTURES.get(code, 'it closed the connection')} ({code})"


def raise_other(ended: ExceptionGroup[Exception]) -> None:
    """Raise what has ended a session, but for a client that has left."""
    _, others = ended.split(ClientLeft)
    if others is not None:
        raise others


def time_is_up(limit_s: float) -> InvalidRequest:
    """The error for a connection that is too old."""
    return _closing(
        f"The connection has reached its limit of {limit_s / 60:g} minutes; open another one."
    )


def gives_way() -> InvalidRequest:
    """The error for an idle connection whose place another client needs."""
    return _closing(
        "The connection was idle, and another client needs its place; open another one."
    )


def restarting() -> InvalidRequest:
    """The error at the end of the service."""
    return _closing("The service is restarting; open another connection.")


def _closing(message: str) -> InvalidRequest:
    """With the code on which clients reconnect, and send the whole conversation again."""
    return InvalidRequest(message, param=None, code="websocket_connection_limit_reached")
