"""Error mapping: an upstream's error, of any shape, becomes an UpstreamError for the client.

There are some thirty shapes of error body in the wild: OpenAI's envelope, strings, arrays, FastAPI
details, numbers for codes, HTML pages, empty bodies, errors inside a 200. This module finds the
message in them (`error_in`) and decides, by one table of rules (`_RULES`), on three things that
clients act on: the HTTP status, the code, and whether a retry can help. Codes and wordings are
listed with their upstreams; the tests hold a sample of each.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from translator.wire.errors import AccountEmpty, CredentialRefused, UpstreamError
from translator.wire.json_values import (
    NOT_JSON,
    as_integer,
    as_list,
    as_object,
    as_string,
    replace_lone_surrogates,
)

MAX_MESSAGE_CHARACTERS = 1000
"""An error text longer than this is cut; some upstreams repeat the whole request in it."""

_CONTEXT_CODES = frozenset(
    {
        "context_length_exceeded",
        "exceed_context_size_error",  # llama.cpp
        "too_many_prompt_tokens",  # Perplexity
        "model_context_window_exceeded",  # Z.ai
        "1261",  # Z.ai
        "request_too_large",  # Anthropic
    }
)
_OVERLOAD_CODES = frozenset(
    {
        "engine_overloaded_error",  # Moonshot, with 429
        "overloaded_error",  # MiniMax, Anthropic
    }
)
_CONTEXT_TEXT = re.compile(
    r"prompt is too long|prompt too long|input is too long for requested model"
    r"|exceeds? the context window|context window exceeds limit"
    r"|input token count.*exceeds the maximum|maximum prompt length is \d+"
    r"|reduce the length of (the|either|your)|maximum context length"
    r"|exceeds the available context size|greater than the context length"
    r"|exceeded model token limit|too large for model with \d+ maximum"
    r"|maximum allowed input length|max input limit|prompt token count of \d+ exceeds"
    r"|context[_ ]length[_ ]exceeded|too many tokens|token limit exceeded"
    r"|range of input length should be|inputs?.? tokens \+ .?max_new_tokens.? must be"
    r"|total length of all messages is too long|exceeds max length"
    r"|longer than the model's context length|requested token count exceeds"
    r"|exceeds the limit of \d+(?: tokens|[^\w ]|$)"
    r"|invalid '(input|messages)[^']*': string too long",
    re.IGNORECASE,
)
_RATE_TEXT = re.compile(
    r"tokens per (minute|day|hour)|\bTPM\b|rate.?limit|too many requests", re.IGNORECASE
)
_QUOTA_CODES = frozenset(
    {
        "insufficient_quota",
        "exceeded_current_quota_error",  # Moonshot
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "project_spend_limit_exceeded",
        "billing_hard_limit_reached",
        "billing_not_active",
        "1113",  # Z.ai
        "1008",  # MiniMax
    }
)
_QUOTA_TEXT = re.compile(
    r"insufficient.{0,20}(quota|balance|credit|funds)|exceeded your (current|monthly) quota"
    r"|quota exceeded|out of credits|billing|payment required",
    re.IGNORECASE,
)
_CREDIT_TEXT = re.compile(
    r"credit balance is too low|out of credits|payment required"  # Anthropic, with 400
    r"|insufficient (account )?(balance|credits?|funds)|exceeded your current quota",
    re.IGNORECASE,
)
_KEY_CODES = frozenset(
    {
        "invalid_api_key",
        "incorrect_api_key",
        "api_key_invalid",  # Gemini
        "authentication_error",
        "invalid_authentication_error",  # Moonshot
        "invalid_authentication",
        "unauthenticated",
        "unauthorized",
    }
)
_KEY_NOUN = r"(api|access|subscription|secret|auth\w*)[ _-]?(key|token|credential)s?\b"
_KEY_TEXT = re.compile(
    r"\b(incorrect|invalid|wrong|bad|unknown|expired|revoked|disabled|missing|malformed|no)"
    rf" (\w+ ){{0,2}}{_KEY_NOUN}"
    rf"|\b{_KEY_NOUN}.{{0,60}}\b(invalid|incorrect|expired|revoked|disabled|wrong|missing|required"
    r"|not (valid|found|recogni[sz]ed|provided|active|exist))\b"
    r"|invalid (bearer|authentication|authorization|credentials?)\b|no auth credentials"
    r"|\b(authentication|authorization) (failed|fails|failure|error|required)|^unauthori[sz]ed"
    r"|login fail",  # MiniMax
    re.IGNORECASE,
)
_FIRST_WORDS = 300
"""In how many characters an upstream says what is wrong; behind them some quote the request."""
_OVERLOAD_TEXT = re.compile(r"overloaded|over capacity|capacity exceeded", re.IGNORECASE)
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
    "data_inspection_failed": 400,
    "tool_use_failed": 400,
    "overloaded_error": 503,
    "engine_overloaded_error": 503,
    "unavailable_error": 503,
}
_CONTENT_CODES = frozenset({"content_filter", "data_inspection_failed", "1026", "1027", "1301"})
_DELAY_TEXT = re.compile(
    r"(?:try again|retry) (?:in|after) (\d+(?:\.\d+)?)\s*(m?s|seconds?)", re.IGNORECASE
)
_SECONDS = re.compile(r"\d+(\.\d+)?")
_HTML_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_TAGS = re.compile(r"<[^>]*>")


def read_upstream_error(
    status: int, body: bytes, *, retry_after: str | None = None, silent_overflow: bool = False
) -> UpstreamError:
    """The error that an upstream answered with `status` (HTTP) and `body` (bytes, any shape).

    `retry_after` is the value of its Retry-After header. `silent_overflow`: an empty 400 or 413
    means that the context is too long (`Dialect.overflows_silently`). A 401 or 403 keeps
    its status: the caller knows whose key it was.
    """
    payload = body.strip()
    if silent_overflow and not payload and status in (400, 413):
        message = "The conversation is longer than the model's context window."
        return _refusal(message, 400, "context_length_exceeded")
    if payload.startswith(b"data:"):  # DashScope answers 400 with one SSE event
        payload = payload.removeprefix(b"data:").strip()
    try:
        decoded: object = msgspec.json.decode(payload)
    except NOT_JSON:
        decoded = None
    found = error_in(decoded)
    if found is None:
        found = _Found(message=plain_message(payload) or f"The upstream answered HTTP {status}.")
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
    return _classified(found, found.status or _STATUS_BY_CODE.get(found.code.lower()) or 502, None)


class _Found(Struct, frozen=True):
    """An error as the upstream gave it; a missing text is empty."""

    message: str
    code: str = ""
    type: str = ""
    status: int = 0
    param: str = ""


def error_in(decoded: object) -> _Found | None:
    """The error in a decoded JSON value, in any of the places where upstreams put it."""
    entries = as_list(decoded)
    body = as_object(entries[0] if entries else decoded)
    if body is None:
        return None
    error = as_object(body.get("error"))
    if error is not None:
        return _from_object(error, body)
    text = as_string(body.get("error"))
    if text:
        detail = as_string(body.get("message"))
        if detail:
            text = f"{text}: {detail}"
        return _Found(text, _word(body.get("code")), _word(body.get("error_type")))
    status = as_object(body.get("base_resp")) or {}
    code = as_integer(status.get("status_code"))
    if code:  # MiniMax; 0 means success
        text = _sentence(status.get("status_msg")) or f"The upstream answered status {code}."
        return _Found(text, str(code))
    if isinstance(body.get("choices"), list):
        return None
    if body.get("object") == "error" or ("message" in body and body.keys() & {"code", "type"}):
        return _from_object(body, {})
    text = _sentence(body.get("detail")) or _sentence(body.get("message"))
    if text:
        return _Found(text)
    errors = as_list(body.get("errors"))
    return error_in({"error": errors[0]}) if errors else None


def _from_object(error: dict[str, Any], around: dict[str, Any]) -> _Found:
    inner = as_string(error.get("error"))
    if inner is not None:  # Together, older: {"error": {"error": "…"}}
        error = {"message": inner, "type": error.get("error_type")}
    code = _word(error.get("code"))
    numbers = (_number(error.get(key)) for key in _STATUS_KEYS)
    status = next((number for number in numbers if 400 <= number < 600), 0)
    message = (
        _sentence(error.get("message"))
        or _sentence(around.get("message"))
        or _word(error.get("type"))
        or "The upstream reported an error without a message."
    )
    raw = as_string((as_object(error.get("metadata")) or {}).get("raw"))
    if raw:
        message = f"{message}: {raw}"  # OpenRouter: the routed upstream's words
    if code == str(status):
        code = ""
    return _Found(message, code, _word(error.get("type")), status, _word(error.get("param")))


_STATUS_KEYS = ("http_code", "status_code", "http_status_code", "status", "code")


class _Facts(Struct, frozen=True):
    """What the rules test: an error's text, its lower-case code and type, and its HTTP status.

    `status` is 503 where a code means overload, whatever the upstream `answered`.
    """

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


def _is_quota(facts: _Facts) -> bool:
    return (
        facts.answered == 402
        or bool(facts.names & _QUOTA_CODES)
        or (facts.answered in (403, 429) and _matches(_QUOTA_TEXT, facts))
    )


def _lacks_credit(facts: _Facts) -> bool:
    begin = facts.text[:_FIRST_WORDS]
    return _is_quota(facts) or _CREDIT_TEXT.search(begin) is not None


def _lacks_key(facts: _Facts) -> bool:
    """Whether the upstream says that the key is wrong: some do so with a 400 (xAI, Gemini)."""
    if facts.status in (401, 403) or facts.names & _KEY_CODES:
        return True
    found = _KEY_TEXT.search(facts.text[:_FIRST_WORDS])
    return found is not None and not _is_rate_limit(facts) and not _is_context(facts)


def _is_rate_limit(facts: _Facts) -> bool:
    return facts.status == 429 or (facts.status == 413 and _matches(_RATE_TEXT, facts))


def _is_context(facts: _Facts) -> bool:
    return bool(facts.names & _CONTEXT_CODES) or (
        facts.status in (400, 413, 422, 500, 502)
        and _matches(_CONTEXT_TEXT, facts)
        and not _matches(_RATE_TEXT, facts)
    )


def _is_overload(facts: _Facts) -> bool:
    return facts.status in (503, 529) or (facts.status >= 500 and _matches(_OVERLOAD_TEXT, facts))


def _names_model(facts: _Facts) -> bool:
    return bool(facts.names & _MODEL_CODES) or "model" in facts.text.lower()


def _matches(words: re.Pattern[str], facts: _Facts) -> bool:
    return words.search(facts.text) is not None


def _quota(facts: _Facts) -> UpstreamError:
    kind, stop = "insufficient_quota", {"x-should-retry": "false"}
    return UpstreamError(facts.text, status=429, code=kind, type=kind, headers=stop)


def _rate_limit(facts: _Facts) -> UpstreamError:
    return UpstreamError(
        _with_delay(facts.text, facts.retry_after),
        status=429,
        code="rate_limit_exceeded",
        type="rate_limit_error",
        headers=facts.delay,
    )


def _overload(facts: _Facts) -> UpstreamError:
    return UpstreamError(
        facts.text,
        status=503,
        code="server_is_overloaded",
        type="service_unavailable_error",
        headers=facts.delay,
    )


def _timeout(facts: _Facts) -> UpstreamError:
    return UpstreamError(facts.text, status=504, code="upstream_timeout")


def _loop(facts: _Facts) -> UpstreamError:
    stop = {"x-should-retry": "false"}
    return UpstreamError(facts.text, status=508, code="loop_detected", headers=stop)


def _other_refusal(facts: _Facts) -> UpstreamError:
    status = facts.status if facts.status in (409, 413) else 400
    return _refusal(facts.text, status, facts.code or None)


def _fault(facts: _Facts) -> UpstreamError:
    status = 500 if facts.status == 500 else 502
    return UpstreamError(facts.text, status=status, headers=facts.delay)


def _refused_as(
    status: int, code: str | None, *, with_param: bool = False
) -> Callable[[_Facts], UpstreamError]:
    def refusal(facts: _Facts) -> UpstreamError:
        return _refusal(facts.text, status, code, (facts.param or None) if with_param else None)

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
    (lambda facts: facts.status == 401, _refused_as(401, "invalid_api_key")),
    (lambda facts: facts.status == 403, _refused_as(403, None)),
    (
        lambda facts: facts.status == 404 and _names_model(facts),
        _refused_as(404, "model_not_found"),
    ),
    (lambda facts: facts.status == 404, _refused_as(404, None)),
    (_is_overload, _overload),
    (lambda facts: facts.status in (408, 504, 524), _timeout),
    (lambda facts: 400 <= facts.status < 500, _other_refusal),
    (lambda facts: True, _fault),
)
"""What an error means to the client: the first rule that holds decides."""


def _classified(found: _Found, status: int, retry_after: str | None) -> UpstreamError:
    text = shorten(found.message)
    names = frozenset({found.code.lower(), found.type.lower()})
    facts = _Facts(
        text=text,
        names=names,
        code=found.code,
        param=found.param,
        answered=status,
        status=503 if names & _OVERLOAD_CODES else status,
        retry_after=retry_after,
    )
    error = next(meaning(facts) for holds, meaning in _RULES if holds(facts))
    error.text = found.message
    error.lacks = "credit" if _lacks_credit(facts) else "key" if _lacks_key(facts) else ""
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


def _sentence(value: object) -> str:
    """The text in a message of any shape: a string, FastAPI's details, an object around them."""
    if isinstance(value, str):
        return value
    entries = as_list(value)
    if entries is not None:
        return "; ".join(filter(None, map(_sentence, entries)))
    fields = as_object(value)
    if fields is None:
        return ""
    path, text = as_list(fields.get("loc")), as_string(fields.get("msg"))
    if path is not None and text is not None:
        return f"{'.'.join(map(str, path))}: {text}"
    return _sentence(fields.get("detail")) or _sentence(fields.get("message"))


def _word(value: object) -> str:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _number(value: object) -> int:
    word = _word(value)
    return int(word) if word.isascii() and word.isdigit() else 0


def plain_message(body: bytes) -> str:
    """The sentence in a body that is no JSON: the title of a page, or the beginning of the text."""
    text = body[: 16 * 1024].decode("utf-8", "replace")
    title = _HTML_TITLE.search(text)
    if title:
        return " ".join(title[1].split())
    return " ".join(_TAGS.sub(" ", text).split())[:500]
