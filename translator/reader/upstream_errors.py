"""Error mapping: an upstream's error, of any shape, becomes an UpstreamError for the client.

    body ── error_bodies ──► message, code ── _RULES, error_words ──► UpstreamError

One table of rules (`_RULES`) decides on three things that clients act on: the HTTP status, the
code, and whether a retry can help. What words mean is in `error_words`; codes are listed with their
upstreams; the tests hold a sample of each.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from translator.wire.errors import AccountEmpty, CredentialRefused, UpstreamError
from translator.wire.json_values import replace_lone_surrogates

from . import error_words
from .error_bodies import NO_MESSAGE, Found, error_in, found_in

MAX_MESSAGE_CHARACTERS = 1000
"""An error text longer than this is cut; some upstreams repeat the whole request in it."""

SHORT_WAIT_S = 300
"""An upstream that asks for a shorter wait has a limit of its rate, not an empty account."""

MAX_CLASSIFIED_CHARACTERS = 4000
"""How much of an error text decides what the error means."""

_OVERLOAD_CODES = frozenset(
    {
        "engine_overloaded_error",  # Moonshot, with 429
        "overloaded_error",  # MiniMax, Anthropic
        "3040",  # Cloudflare, with 429: no capacity
    }
)
_MODEL_CODES = frozenset({"model_not_found", "invalid_model", "resource_not_found_error"})
_STATUS_BY_CODE: Mapping[str, int] = {
    # MiniMax: numbers inside a 200
    "1000": 500,
    "1001": 504,
    "1002": 429,
    "1004": 401,
    "1008": 429,
    "1013": 500,
    "1026": 400,
    "1027": 400,
    "1039": 429,
    "1041": 429,
    "2013": 400,
    "2049": 401,
    "2056": 429,
    # names that come without a status
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "rate_limit_reached_error": 429,
    "insufficient_quota": 429,
    "invalid_api_key": 401,
    "authentication_error": 401,
    "invalid_request_error": 400,
    "bad_request_error": 400,
    "badrequesterror": 400,
    "bad_request": 400,
    "invalid_parameter": 400,
    "invalid_parameter_error": 400,  # DashScope
    "invalidparameter": 400,
    "data_inspection_failed": 400,
    "tool_use_failed": 400,
    "gousagelimiterror": 429,
    "freeusagelimiterror": 429,
    "usage_limit_reached": 429,
    "overloaded_error": 503,
    "engine_overloaded_error": 503,
    "unavailable_error": 503,
}
_CONTENT_CODES = frozenset({"content_filter", "data_inspection_failed", "1026", "1027", "1301"})
_DELAY_TEXT = re.compile(
    r"(?:try again|retry) (?:in|after) (\d+(?:\.\d+)?)\s*(m?s|seconds?)", re.IGNORECASE
)
_SECONDS = re.compile(r"\d+(\.\d+)?")


def read_upstream_error(
    status: int, body: bytes, *, retry_after: str | None = None, silent_overflow: bool = False
) -> UpstreamError:
    """The error that an upstream answered with `status` (HTTP) and `body` (bytes, any shape).

    `retry_after` is the value of its Retry-After header. `silent_overflow`: an empty 400 or 413
    means that the context is too long (`Dialect.overflows_silently`). A 401 or 403 keeps
    its status: the caller knows whose key it was.
    """
    if silent_overflow and not body.strip() and status in (400, 413):
        message = "The conversation is longer than the model's context window."
        return _refusal(message, 400, "context_length_exceeded")
    message = f"The upstream answered HTTP {status}."
    found = found_in(body) or Found(message, text=message if status != 413 else "")
    return _classified(found, status, retry_after)


def for_client(error: UpstreamError, *, own_credential: bool) -> UpstreamError:
    """An upstream's error as the client should see it.

    `own_credential`: the request was sent with the operator's key. Then a refused key and an empty
    account are no fault of the client's, who would doubt its own: CredentialRefused, AccountEmpty.
    """
    if not own_credential:
        return error
    if error.lacks == "credit":
        return AccountEmpty()
    return CredentialRefused() if error.lacks == "key" else error


def read_error_object(decoded: object) -> UpstreamError | None:
    """The error that a decoded payload of a 200 answer holds; None when it holds none."""
    found = error_in(decoded)
    if found is None:
        return None
    named = (_STATUS_BY_CODE.get(name.lower()) for name in (found.code, found.type))
    return _classified(found, found.status or next(filter(None, named), 502), None)


class _Facts(Struct, frozen=True):
    """What the rules test: an error's text, its lower-case code and type, and its HTTP status.

    `message` is for the client, `text` is all that the upstream says. `status` is 503 where a code
    means overload, whatever the upstream `answered`.
    """

    message: str
    text: str
    names: frozenset[str]
    code: str
    param: str
    answered: int
    status: int
    retry_after: str | None

    @property
    def delay(self) -> dict[str, str]:
        """The header with which the client waits as long as the upstream asks."""
        return {"retry-after": self.retry_after} if self.retry_after else {}


_REFUSES_REQUEST = (400, 413, 422)
_REPORTS_ITSELF = (400, 409, 412, 422, 424, 425)
"""Statuses with which servers report their own state, or their model's."""


def _is_quota(facts: _Facts) -> bool:
    return (
        facts.answered == 402
        or bool(facts.names & error_words.QUOTA_CODES)
        or (
            facts.answered in (403, 429)
            and error_words.is_quota(facts.text)
            and not _asks_for_a_short_wait(facts)
        )
        or (facts.answered in (400, 502) and error_words.is_plan_limit(facts.text))
    )


def _asks_for_a_short_wait(facts: _Facts) -> bool:
    """Whether it says when to try again, and soon: Gemini's quotas are per minute, too."""
    given = _DELAY_TEXT.search(facts.text)
    if given is not None:
        return given[2].lower() == "ms" or float(given[1]) <= SHORT_WAIT_S
    stated = facts.retry_after or ""
    return _SECONDS.fullmatch(stated) is not None and float(stated) <= SHORT_WAIT_S


def _lacks_key(facts: _Facts) -> bool:
    """Whether the upstream says that the key is wrong: some do so with a 400 (xAI, Gemini)."""
    if facts.status in (401, 403) or facts.names & error_words.KEY_CODES:
        return True
    found = error_words.lacks_key(facts.text)
    return found and not _is_rate_limit(facts) and not _is_context(facts)


def _is_rate_limit(facts: _Facts) -> bool:
    return facts.status == 429 or (facts.status == 413 and error_words.is_rate(facts.text))


def _is_context(facts: _Facts) -> bool:
    return any(map(error_words.CONTEXT_CODES.fullmatch, facts.names)) or (
        facts.status in (*_REFUSES_REQUEST, 500, 502)
        and error_words.is_context_overflow(facts.text, too_large=facts.status == 413)
    )


def _is_model_failure(facts: _Facts) -> bool:
    return bool(facts.names & error_words.MODEL_FAILURE_CODES) or (
        facts.status in (*_REPORTS_ITSELF, 500, 502) and error_words.is_model_failure(facts.text)
    )


def _is_unwell(facts: _Facts) -> bool:
    return facts.status in _REPORTS_ITSELF and error_words.is_unwell(facts.text)


def _is_overload(facts: _Facts) -> bool:
    return facts.status in (503, 529) or (
        facts.status >= 500 and error_words.is_overload(facts.text)
    )


def _names_model(facts: _Facts) -> bool:
    return bool(facts.names & _MODEL_CODES) or error_words.names_model(facts.text)


def _quota(facts: _Facts) -> UpstreamError:
    kind, stop = "insufficient_quota", {"x-should-retry": "false"}
    return UpstreamError(facts.message, status=429, code=kind, type=kind, headers=stop)


def _rate_limit(facts: _Facts) -> UpstreamError:
    return UpstreamError(
        _with_delay(facts.message, facts.retry_after),
        status=429,
        code="rate_limit_exceeded",
        type="rate_limit_error",
        headers=facts.delay,
    )


def _overload(facts: _Facts) -> UpstreamError:
    return UpstreamError(
        facts.message,
        status=503,
        code="server_is_overloaded",
        type="service_unavailable_error",
        headers=facts.delay,
    )


def _timeout(facts: _Facts) -> UpstreamError:
    return UpstreamError(facts.message, status=504, code="upstream_timeout")


def _loop(facts: _Facts) -> UpstreamError:
    stop = {"x-should-retry": "false"}
    return UpstreamError(facts.message, status=508, code="loop_detected", headers=stop)


def _other_refusal(facts: _Facts) -> UpstreamError:
    status = facts.status if facts.status in (409, 413) else 400
    return _refusal(facts.message, status, facts.code or None)


def _transient(status: int) -> Callable[[_Facts], UpstreamError]:
    """A failure that another attempt at the same request may not meet, whatever the status was."""

    def failure(facts: _Facts) -> UpstreamError:
        error = UpstreamError(facts.message, status=status, headers=facts.delay)
        error.again = True
        return error

    return failure


def _fault(facts: _Facts) -> UpstreamError:
    status = 500 if facts.status == 500 else 502
    return UpstreamError(facts.message, status=status, headers=facts.delay)


def _refused_as(
    status: int, code: str | None, *, with_param: bool = False
) -> Callable[[_Facts], UpstreamError]:
    def refusal(facts: _Facts) -> UpstreamError:
        return _refusal(facts.message, status, code, (facts.param or None) if with_param else None)

    return refusal


_RULES: Sequence[tuple[Callable[[_Facts], bool], Callable[[_Facts], UpstreamError]]] = (
    (lambda facts: facts.status == 508, _loop),  # of a translator behind the upstream
    (_is_quota, _quota),
    (_is_rate_limit, _rate_limit),
    (_is_context, _refused_as(400, "context_length_exceeded")),
    (
        lambda facts: bool(facts.names & _CONTENT_CODES),
        _refused_as(400, "content_filter", with_param=True),
    ),
    (_is_model_failure, _transient(502)),
    (_is_unwell, _transient(503)),
    (lambda facts: facts.status == 401, _refused_as(401, "invalid_api_key")),
    (lambda facts: facts.status == 403, _refused_as(403, None)),
    (
        lambda facts: facts.status == 404 and _names_model(facts),
        _refused_as(404, "model_not_found"),
    ),
    (lambda facts: facts.status == 404, _refused_as(404, None)),
    (_is_overload, _overload),
    # llama.cpp says 500 for what the client did; a client would send that again
    (
        lambda facts: facts.status == 500 and error_words.is_clients_fault(facts.text),
        _other_refusal,
    ),
    (lambda facts: facts.status in (408, 504, 524), _timeout),
    (lambda facts: 400 <= facts.status < 500, _other_refusal),
    (lambda facts: True, _fault),
)
"""What an error means to the client: the first rule that holds decides."""


def _classified(found: Found, status: int, retry_after: str | None) -> UpstreamError:
    names = frozenset({found.code.lower(), found.type.lower()})
    facts = _Facts(
        message=shorten(found.message) or NO_MESSAGE,
        text=found.text[:MAX_CLASSIFIED_CHARACTERS],
        names=names,
        code=found.code,
        param=found.param,
        answered=status,
        status=503 if names & _OVERLOAD_CODES else status,
        retry_after=retry_after,
    )
    error = next(meaning(facts) for holds, meaning in _RULES if holds(facts))
    error.text = found.text or found.message
    lacks_credit = _is_quota(facts) or (
        error_words.lacks_credit(facts.text) and not _asks_for_a_short_wait(facts)
    )
    error.lacks = "credit" if lacks_credit else "key" if _lacks_key(facts) else ""
    return error


def shorten(text: str) -> str:
    """An upstream's error text as the message of an error."""
    text = replace_lone_surrogates(text.strip())
    return text if len(text) <= MAX_MESSAGE_CHARACTERS else text[:MAX_MESSAGE_CHARACTERS] + "…"


def _refusal(
    message: str, status: int, code: str | None, param: str | None = None
) -> UpstreamError:
    return UpstreamError(
        message, status=status, code=code, type="invalid_request_error", param=param
    )


def _with_delay(message: str, retry_after: str | None) -> str:
    """Codex reads the delay from the sentence "try again in 7s", not from the header."""
    if retry_after and _SECONDS.fullmatch(retry_after) and not _DELAY_TEXT.search(message):
        return f"{message} Please try again in {retry_after}s."
    return message
