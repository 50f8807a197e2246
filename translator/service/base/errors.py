"""HTTP errors of the service itself: wrong method, unknown key, overload, loop, shutdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from translator.wire.errors import InvalidRequest, TranslatorError


class MethodNotAllowed(InvalidRequest):
    """405: the path does not support the method."""

    status_hint = 405

    def __init__(self, method: str, path: str, allowed: list[str]) -> None:
        allow = ", ".join(sorted(allowed))
        super().__init__(f"{method} is not allowed on {path}; allowed: {allow}.", param=None)
        self.headers["allow"] = allow


class MalformedRequest(InvalidRequest):
    """400: the request is not valid HTTP. Nothing on its connection can be read any more."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The request is not valid HTTP: {reason}.", param=None)
        self.headers["connection"] = "close"


class CodingUnknown(TranslatorError):
    """501: the body has a transfer coding other than `chunked`; RFC 9112, section 6.1."""

    status_hint = 501
    type = "invalid_request_error"

    def __init__(self) -> None:
        super().__init__("Of all transfer codings only 'chunked' is supported.")
        self.headers["connection"] = "close"


class HeaderTooLarge(InvalidRequest):
    """431: the request's first line and headers are over the limit."""

    status_hint = 431

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"The request's header is over {limit} bytes.", param=None, code="header_too_large"
        )
        self.headers["connection"] = "close"


class RequestStalled(InvalidRequest):
    """408: the request's header or body did not arrive in time."""

    status_hint = 408

    def __init__(self, part: str = "body") -> None:
        super().__init__(f"The request {part} did not arrive in time.", param=None)
        self.headers["connection"] = "close"


class UnsupportedEncoding(InvalidRequest):
    """415: the request body is compressed in a way that is not known; `known` lists the others."""

    status_hint = 415

    def __init__(self, message: str, known: Iterable[str]) -> None:
        super().__init__(message, param=None)
        self.headers["accept-encoding"] = ", ".join(known)


class UpgradeRefused(InvalidRequest):
    """426: WebSockets are off. It is the only status on which Codex falls back to HTTP at once."""

    status_hint = 426

    def __init__(self) -> None:
        super().__init__("WebSockets are not supported here; use POST.", param=None)
        self.headers["connection"] = "close"


class Overloaded(TranslatorError):
    """503: a limit of this process is reached, such as that of concurrent requests."""

    status_hint = 503
    type = "service_unavailable_error"

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"{reason}; try again in 1s.",
            code="server_is_overloaded",
            headers={"retry-after": "1"},
        )


class TooManyRequests(Overloaded):
    """503: the limit of concurrent requests or WebSockets is reached."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} requests are being answered already")


class TooManyFeeds(Overloaded):
    """503: so many browsers follow what is being answered that one more may not."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} browsers follow what is being answered already")


class TooManyConnections(Overloaded):
    """503: the limit of connections is reached."""

    def __init__(self) -> None:
        super().__init__("Too many connections are open")
        self.headers["connection"] = "close"


class TooManyUploads(Overloaded):
    """503: request bodies that are still arriving take too much memory."""

    def __init__(self) -> None:
        super().__init__("Too many large requests are arriving")
        self.headers["connection"] = "close"


class AccountsUnavailable(Overloaded):
    """503: the request could not be checked, since the database of the accounts is away."""

    def __init__(self) -> None:
        super().__init__("The accounts cannot be read or written now")


class OutOfDescriptors(Overloaded):
    """503: the process has no file descriptor left for a connection to the upstream."""

    def __init__(self) -> None:
        super().__init__("The service has too many files and connections open")


class InvalidKey(InvalidRequest):
    """401: the client's key is missing or unknown."""

    status_hint = 401

    def __init__(self, message: str) -> None:
        super().__init__(message, param=None, code="invalid_api_key")
        self.headers["www-authenticate"] = "Bearer"


class AccountDeactivated(InvalidRequest):
    """401: the account of the client's key is suspended."""

    status_hint = 401

    def __init__(self) -> None:
        super().__init__(
            "The account of this API key is suspended; ask the operator of this service.",
            param=None,
            code="account_deactivated",
        )
        self.headers["www-authenticate"] = "Bearer"


class QuotaExceeded(TranslatorError):
    """429: the money of a client does not pay for the request; a retry would not help."""

    status_hint = 429
    type = "insufficient_quota"

    def __init__(self, message: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(
            message,
            code="insufficient_quota",
            headers={"x-should-retry": "false", **(headers or {})},
        )


class LimitReached(TranslatorError):
    """429: a client has reached its rate limit. `noun` is its unit, "requests" or "tokens"."""

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
    """421: the `Host` header is not allowed, as after DNS rebinding by a page in a browser."""

    status_hint = 421

    def __init__(self, host: str) -> None:
        super().__init__(
            f"The host {host[:200]!a} is not allowed.", param=None, code="host_not_allowed"
        )


class OriginRefused(InvalidRequest):
    """403: the `Origin` header is not allowed."""

    status_hint = 403

    def __init__(self, origin: str) -> None:
        super().__init__(
            f"The origin {origin[:200]!a} is not allowed.",
            param=None,
            code="origin_not_allowed",
        )


class PageRefused(InvalidRequest):
    """403: what is being answered is not shown to this visitor."""

    status_hint = 403

    def __init__(self) -> None:
        super().__init__(
            "What is being answered is shown only to browsers on this machine: open the page there,"
            " as http://127.0.0.1 and the port. With [clients] in the settings, a key opens it from"
            " elsewhere.",
            param=None,
            code="page_refused",
        )


class Stopping(TranslatorError):
    """503: the service shuts down. A retry reaches another process."""

    status_hint = 503
    type = "service_unavailable_error"

    def __init__(self) -> None:
        super().__init__(
            "The service is restarting; try again in 1s.",
            code="server_shutting_down",
            headers={"retry-after": "1"},
        )


class Restarting(TranslatorError):
    """500: a response in the background is cut, because the service shuts down."""

    def __init__(self) -> None:
        super().__init__("The service is restarting.", code="server_error")


class StoreUnavailable(TranslatorError):
    """503: the request needs the store, which cannot be used now."""

    status_hint = 503
    type = "service_unavailable_error"

    def __init__(self) -> None:
        super().__init__(
            "Stored responses cannot be read or written now; try again in 2s.",
            code="store_unavailable",
            headers={"retry-after": "2"},
        )


class ConversationLocked(InvalidRequest):
    """400: another response is about to append to the conversation. Agents retry on this code."""

    def __init__(self) -> None:
        super().__init__(
            "Another process is currently operating on this conversation."
            " Please retry in a few seconds.",
            param="conversation",
            code="conversation_locked",
        )


class NotStored(TranslatorError):
    """500: a response is complete, and could not be stored, which its request asked for."""

    def __init__(self) -> None:
        super().__init__(
            "The response could not be stored; send the request again.", code="server_error"
        )


class StoreQuotaExceeded(InvalidRequest):
    """400: something is over a bound of what is stored. Clients do not send it again as it is."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message, param=param, code="store_quota_exceeded")


class LoopDetected(TranslatorError):
    """508: the request has been here before: an upstream leads back to this service."""

    status_hint = 508

    def __init__(self) -> None:
        super().__init__(
            "The request has come through this service before: an upstream leads back to it.",
            code="loop_detected",
            headers={"x-should-retry": "false"},
        )


class InternalError(TranslatorError):
    """500: a bug of the translator. The log has its cause."""

    def __init__(self) -> None:
        super().__init__("The translator failed.", code="server_error")


class TooManyWaiting(TranslatorError):
    """429: too many requests are queued on a WebSocket."""

    status_hint = 429
    type = "rate_limit_error"

    def __init__(self) -> None:
        super().__init__(
            "Too many requests wait on this connection; try again in 1s.",
            code="rate_limit_exceeded",
        )


def drop_tracebacks(error: BaseException | None) -> None:
    """Release the frames of an error that is kept: they hold the request, and some the error."""
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


class ClientLeft(Exception):
    """The client has disconnected. Logged, never sent."""
