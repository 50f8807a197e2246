"""The errors that only a server can have: wrong method, too many requests, a client that left."""

from __future__ import annotations

from translator.errors import InvalidRequest, TranslatorError


class MethodNotAllowed(InvalidRequest):
    """The path exists, but not for this method."""

    status_hint = 405

    def __init__(self, method: str, path: str, allowed: list[str]) -> None:
        allow = ", ".join(sorted(allowed))
        super().__init__(f"{method} is not possible on {path}; possible: {allow}.", param=None)
        self.headers["allow"] = allow


class RequestStalled(InvalidRequest):
    """The client began a request body and does not go on."""

    status_hint = 408

    def __init__(self) -> None:
        super().__init__("The request body did not arrive in time.", param=None)
        self.headers["connection"] = "close"


class UnsupportedEncoding(InvalidRequest):
    """The request body is compressed."""

    status_hint = 415


class UpgradeRefused(InvalidRequest):
    """A WebSocket was asked for. 426 is the one answer that makes Codex use HTTP at once."""

    status_hint = 426

    def __init__(self) -> None:
        super().__init__("WebSockets are not supported here; use POST.", param=None)
        self.headers["connection"] = "close"


class Overloaded(TranslatorError):
    """As many requests are open as the settings allow."""

    status_hint = 503
    type = "service_unavailable_error"

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"{limit} requests are being answered already; try again in 1s.",
            code="server_is_overloaded",
            headers={"retry-after": "1"},
        )


class TooManyWaiting(TranslatorError):
    """A WebSocket's client sends requests faster than they are answered."""

    status_hint = 429
    type = "rate_limit_error"

    def __init__(self) -> None:
        super().__init__(
            "Too many requests wait on this connection; try again in 1s.",
            code="rate_limit_exceeded",
        )


class ClientLeft(Exception):
    """There is nobody to answer any more. Never sent, only logged."""
