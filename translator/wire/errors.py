"""The exception hierarchy, split first by whose fault an error is.

    TranslatorError
    ├── InvalidRequest          the client's request is invalid or unsupported (400)
    │   ├── NotFound            it names something that does not exist (404)
    │   └── RequestTooLarge     its body is over a limit (413)
    └── UpstreamError           the upstream refused, failed, or could not be reached (502)
        ├── CredentialRefused   it refused the operator's key (502)
        ├── AccountEmpty        the operator's account there has no credit left (502)
        ├── AnswerTooLarge      its answer is over a limit (502)
        └── UpstreamTimeout     it did not answer in time (504)

An error carries its HTTP status, the four keys of OpenAI's error object, and the headers that
control an SDK's retries. Before the first byte of an answer it becomes an HTTP response; after it,
an `error` event and `response.failed`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

REMOVED = "[removed]"
"""What stands in an upstream's words in place of a secret."""


class TranslatorError(Exception):
    """An error that is reported to the client. Base of all exceptions of this package."""

    status_hint: int = 500
    type: str = "server_error"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code
        self.headers: dict[str, str] = dict(headers or {})

    def envelope(self) -> dict[str, dict[str, str | None]]:
        """The body of an HTTP error: OpenAI's object with all four keys, null where empty."""
        return {
            "error": {
                "message": self.message,
                "type": self.type,
                "param": self.param,
                "code": self.code,
            }
        }


class InvalidRequest(TranslatorError):
    """The request breaks a rule of the Responses API, or is not supported here.

    `param` is the path in the request body, as in "input[3].call_id"; None for the whole body.
    """

    status_hint = 400
    type = "invalid_request_error"

    def __init__(self, message: str, *, param: str | None, code: str | None = None) -> None:
        super().__init__(message, param=param, code=code)


class NotFound(InvalidRequest):
    """The request names a model, an item or a path that does not exist."""

    status_hint = 404


class RequestTooLarge(InvalidRequest):
    """The request body is over a limit."""

    status_hint = 413

    def __init__(self, message: str) -> None:
        super().__init__(message, param=None, code="request_too_large")


class UpstreamError(TranslatorError):
    """The upstream refused the request, broke off its answer, or could not be reached.

    `status` is the HTTP status for our client, which may differ from the upstream's. `text` is the
    upstream's whole error text, where it sent one. `lacks` is what it says is missing to whoever
    sent the request: a right key, or credit. `again`: nothing is wrong with the request, and the
    same one may succeed at once; the model has failed, or the server is not well.
    """

    status_hint = 502
    text = ""
    again = False
    lacks: Literal["", "key", "credit"] = ""

    def __init__(
        self,
        message: str,
        *,
        status: int = 502,
        code: str | None = "upstream_error",
        type: str = "server_error",
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, param=param, code=code, headers=headers)
        self.status_hint = status
        self.type = type


class UpstreamTimeout(UpstreamError):
    """The upstream did not answer, or sent nothing more, within the timeout."""

    def __init__(self, message: str) -> None:
        super().__init__(message, status=504, code="upstream_timeout")


class AnswerTooLarge(UpstreamError):
    """The upstream's answer is over a limit.

    Its code is one that clients do not retry, Codex included: another answer of that length would
    be paid for again.
    """

    def __init__(self, message: str) -> None:
        super().__init__(
            message,
            code="invalid_prompt",
            type="invalid_request_error",
            headers={"x-should-retry": "false"},
        )

    @classmethod
    def than(cls, limit: int, unit: str = "bytes") -> Self:
        """The error for a limit."""
        return cls(f"The upstream's answer is over {limit} {unit}.")


class CredentialRefused(UpstreamError):
    """The upstream refused the operator's key, which no client can correct."""

    def __init__(self) -> None:
        super().__init__(
            "The upstream refused the gateway's credential; its operator must correct it.",
            headers={"x-should-retry": "false"},
        )


class AccountEmpty(UpstreamError):
    """The operator's account at the upstream has no credit left, which no client can mend."""

    def __init__(self) -> None:
        super().__init__(
            "The gateway's account at the upstream has no credit left; its operator must add some.",
            headers={"x-should-retry": "false"},
        )


def as_upstream_error(error: TranslatorError | str) -> UpstreamError:
    """An error, or its message, as that of an answer which broke off."""
    if isinstance(error, UpstreamError):
        return error
    if isinstance(error, str):
        return UpstreamError(error)
    return UpstreamError(error.message, status=error.status_hint, code=error.code, type=error.type)
