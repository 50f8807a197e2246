"""What can go wrong with a server, in the words that the model reads and the numbers of its item.

    failure = http_error, status | mcp_protocol_error, code ;

A message holds neither a URL, nor a header, nor what a server says beside a JSON-RPC error.
"""

from __future__ import annotations

from typing import Any, Literal

TIMEOUT = -32001
REFUSED = -32000
"""Codes of failures of our own: something took too long; a bound or a rule was in the way."""

UNREADABLE = -32700
"""The code of an answer that is none of the protocol, or has no end: JSON-RPC's for bad JSON."""

MAX_MESSAGE_CHARACTERS = 2000

Kind = Literal["http_error", "mcp_protocol_error"]


class McpFailed(Exception):
    """A server has given no result; the message is for the model and holds no secret."""

    def __init__(self, kind: Kind, code: int, message: str) -> None:
        super().__init__(message)
        self.kind: Kind = kind
        self.code = code
        self.message = message

    def as_error(self) -> dict[str, Any]:
        """The `error` of an `mcp_call`."""
        return {"type": self.kind, "code": self.code, "message": self.message}


class SessionLost(McpFailed):
    """The server does not know the session any more, so it has not run the call either."""

    def __init__(self) -> None:
        super().__init__(
            "http_error", 404, "The server has lost the session; the call was not run."
        )


class ConnectionBroke(McpFailed):
    """There was no whole answer; whether the server has run the call is not known."""


def refused(message: str) -> McpFailed:
    """A failure by a bound or a rule of this service."""
    return McpFailed("mcp_protocol_error", REFUSED, message)


def too_late(seconds: float) -> McpFailed:
    """A server that took too long."""
    message = f"The server did not answer within {seconds:g} s."
    return McpFailed("mcp_protocol_error", TIMEOUT, message)


def http_error(status: int) -> McpFailed:
    """A status that is no answer."""
    return McpFailed("http_error", status, f"The server answered with HTTP {status}.")


def unreadable(why: str) -> ConnectionBroke:
    """An answer that has begun, and is not one of the protocol."""
    return ConnectionBroke("mcp_protocol_error", UNREADABLE, why)


def broken(why: str) -> ConnectionBroke:
    """A server that could not be reached, or has not answered."""
    return ConnectionBroke("http_error", 502, why)
