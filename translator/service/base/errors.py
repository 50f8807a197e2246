"""The errors that only a server can have: wrong key or method, too many requests, nobody there."""

from __future__ import annotations

import math
from collections.abc import Mapping

from translator.wire.errors import InvalidRequest, TranslatorError


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


class InvalidKey(InvalidRequest):
    """The client's key is missing, or none that is known."""

    status_hint = 401

    def __init__(self, message: str) -> None:
        super().__init__(message, param=None, code="invalid_api_key")
        self.headers["www-authenticate"] = "Bearer"


class LimitReached(TranslatorError):
    """A client has used up what is allowed to it. `noun` is what of: requests or tokens."""

    status_hint = 429

    def __init__(
        self, message: str, noun: str, wait_s: float, *, headers: Mapping[str, str] | None = None
    ) -> None:
        wait_s = max(wait_s, 0.001)
        super().__init__(
            f"{message}. Please try again in {math.ceil(wait_s * 1000) / 1000:g}s.",
            code="rate_limit_exceeded",
            headers={
                "retry-after": str(math.ceil(wait_s)),
                "retry-after-ms": str(math.ceil(wait_s * 1000)),
                **(headers or {}),
            },
        )
        self.type = noun


class HostUnknown(InvalidRequest):
    """The request is for a host that is not this service, as a page behind a forged name asks."""

    status_hint = 421

    def __init__(self, host: str) -> None:
        super().__init__(
            f"The host {host[:200]!a} is not served here.", param=None, code="host_not_allowed"
        )


class OriginRefused(InvalidRequest):
    """A page of another origin asks, which no setting allows."""

    status_hint = 403

    def __init__(self, origin: str) -> None:
        super().__init__(
            f"Pages of {origin[:200]!a} may not use this service.",
            param=None,
            code="origin_not_allowed",
        )


class Stopping(TranslatorError):
    """The service ends before the answer does. Whoever asks again finds another process."""

    status_hint = 503
    type = "service_unavailable_error"

    def __init__(self) -> None:
        super().__init__(
            "The service is restarting; try again in 1s.",
            code="server_shutting_down",
            headers={"retry-after": "1"},
        )


class InternalError(TranslatorError):
    """A fault of ours. Its cause is in the log."""

    def __init__(self) -> None:
        super().__init__("The translator failed.", code="server_error")


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
