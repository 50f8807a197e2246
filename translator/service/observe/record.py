"""The record of a request: its facts as they become known, and its line in the log.

A request is one HTTP exchange, or one turn on a WebSocket. Secrets are never part of the log line,
and text from the client is quoted in it unless it is plain.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from translator import Notice, TranslatorError
from translator.service.access.client import NO_LABELS, Result
from translator.service.base.ids import NewId
from translator.service.base.trace_context import trace_context, trace_id
from translator.wire.responses import Usage

PROBED = frozenset({"/healthz", "/readyz", "/metrics"})
"""Paths that machines request every few seconds; they are logged at debug level only."""

QUIET = PROBED | {
    "/",
    *(
        f"/page/{name}"
        for name in ("content", "icon.svg", "live", "readme", "script.js", "style.css")
    ),
}
"""Requests that are neither measured nor logged above debug level: also those of the page, whose
feed is open for as long as somebody looks."""

MAX_NOTICE_CODES = 10
"""How many different notice codes a summary lists: proxies bound the size of a header."""

MAX_WORD_CHARACTERS = 200
"""Longest outcome, and type, code and param of an error, in the log: upstreams give any text."""

ENDED_WITH_SERVICE = "failed: the service ended"
"""The outcome of a request that was cut because the process ended, and could wait no longer."""

_NOT_IN_A_WORD = re.compile(r"[^A-Za-z0-9_ .,:;/()\[\]$'*+@-]")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def request_id(given: str, new_id: NewId) -> str:
    """The client's own id for its request if it is well-formed, else a new one."""
    return given if _REQUEST_ID.fullmatch(given) else new_id("req_")


class Record(Struct, kw_only=True, eq=False):
    """One request. An empty text is unknown, or does not apply."""

    method: str
    """The HTTP method; "WS" for a turn on a WebSocket, "IMAGE" for the description of an image."""

    path: str
    """Of an image, its place in the request."""

    route: str = ""
    """The path of its endpoint, with `{id}` for what clients choose; empty for an unknown one."""

    request_id: str
    started_at: float
    """When the request arrived, in seconds of the service's timer."""

    status: int | None = None
    """The HTTP status, as soon as it is sent; 200 for the events of a WebSocket turn."""

    client: str = ""
    """The client's name in the settings, or its account and key."""

    charged: Mapping[str, str] = NO_LABELS
    """Whose request it was, and what it has cost, where the client has an account."""

    model: str = ""
    """The model that the client asked for."""

    served_by: str = ""
    """The id of the model that the request goes to in place of that one; MODEL@UPSTREAM where it
    is the same one elsewhere."""

    why: str = ""
    """Why another one was asked, in one word, where the first did not answer."""

    dialect: str = ""
    upstream: str = ""
    """The upstream's name in the settings."""

    attempts: int = 0
    """How often the request was translated: once, and again for each rejected field."""

    rounds: int = 1
    """The upstream turns of the response: more where tools were run between them."""

    retries: int = 0
    """How often the same body was sent again, because the upstream had not accepted it."""

    translation_s: float | None = None
    """Seconds that the first translation took."""

    first_token_s: float | None = None
    """Seconds from the request to the first output item of its stream."""

    seconds: float = 0.0
    """Duration of the request, set at its end."""

    usage: Usage | None = None
    notices: Sequence[Notice] = ()
    remarks: str = ""
    """A summary for the log: of the notices, or of a WebSocket's turns."""

    store_s: float | None = None
    """Seconds that the request has waited for the store."""

    not_stored: str = ""
    """Why its response is not stored, or not yet, though it was to be; without content."""

    outcome: str = ""
    failure: TranslatorError | None = None
    """Why there is no answer, or why it was cut. Its message may quote the conversation."""

    headers: Iterable[tuple[bytes, bytes]] = ()
    """The request's headers, names in lower case, secrets included: redaction needs them."""

    trace_context: dict[str, str] | None = None
    """The `traceparent` and `tracestate` to send upstream; None: those of the client."""

    def upstream_headers(self) -> dict[str, str]:
        """The headers that identify this request in the upstream's logs and traces."""
        if self.trace_context is None:
            self.trace_context = trace_context(self.headers)
        return {"x-request-id": self.request_id, **self.trace_context}

    @property
    def result(self) -> Result:
        """How the request ended, as one of a few words; `outcome` may quote an upstream."""
        if self.outcome.startswith("client left"):
            return "client_left"
        status = self.status or 0
        if 400 <= status < 500:
            return "refused"
        if status >= 500 or self.failure is not None or self.outcome.startswith("failed"):
            return "failed"
        return "incomplete" if self.outcome == "incomplete" else "completed"

    def facts(self) -> dict[str, Any]:
        """All that is known, for programs; times in milliseconds."""
        usage, failure = self.usage, self.failure
        known: dict[str, Any] = {
            "id": self.request_id,
            "method": self.method,
            "path": self.path[:200],
            "status": self.status,
            "duration_ms": _ms(self.seconds),
            "first_token_ms": None if self.first_token_s is None else _ms(self.first_token_s),
            "client": self.client,
            **self.charged,
            "model": self.model[:200],
            "served_by": self.served_by[:200],
            "dialect": self.dialect,
            "upstream": self.upstream,
            "fallback": self.why,
            "attempts": self.attempts,
            "retries": self.retries or None,
            "store_ms": None if self.store_s is None else _ms(self.store_s),
            "not_stored": bounded(self.not_stored),
            "outcome": bounded(self.outcome),
            "notices": Counter(notice.code for notice in self.notices),
            "trace_id": trace_id(self.trace_context or {}),
        }
        if usage is not None:
            known |= {
                "input_tokens": usage.input_tokens,
                "cached_tokens": usage.input_tokens_details.cached_tokens,
                "output_tokens": usage.output_tokens,
                "reasoning_tokens": usage.output_tokens_details.reasoning_tokens,
            }
        if failure is not None:
            parts = {"type": failure.type, "code": failure.code, "param": failure.param}
            known["error"] = {name: bounded(text) for name, text in parts.items() if text}
        return {name: value for name, value in known.items() if value not in (None, "", {})}


class LogLine:
    """The log message of a request that has ended: words for people, facts for programs."""

    __slots__ = ("_record",)

    def __init__(self, record: Record) -> None:
        self._record = record

    def facts(self) -> Mapping[str, Any]:
        return self._record.facts()

    def __str__(self) -> str:
        record = self._record
        words = [record.method, _plain(record.path), str(record.status or "-")]
        words.append(f"{_ms(record.seconds)}ms")
        if record.first_token_s is not None:
            words.append(f"first={_ms(record.first_token_s)}ms")
        if (usage := record.usage) is not None:
            words.append(f"tokens={usage.input_tokens}+{usage.output_tokens}")
        if record.attempts > 1:
            words.append(f"attempts={record.attempts}")
        if record.rounds > 1:
            words.append(f"rounds={record.rounds}")
        if record.retries:
            words.append(f"retries={record.retries}")
        named = {
            **(record.charged or {"client": record.client}),
            "model": record.model,
            "served_by": record.served_by,
            "dialect": record.dialect,
            "fallback": record.why,
            "notes": record.remarks,
            "not_stored": bounded(record.not_stored),
            "outcome": bounded(record.outcome),
            "param": bounded((record.failure and record.failure.param) or ""),
        }
        words += [f"{name}={_plain(value)}" for name, value in named.items() if value]
        words.append(f"id={record.request_id}")
        return " ".join(words)


def notices_summary(notices: Sequence[Notice]) -> str:
    """The number of notices and their codes; empty when there are none."""
    if not notices:
        return ""
    codes = list(dict.fromkeys(notice.code for notice in notices))
    shown = codes[:MAX_NOTICE_CODES] + (["..."] if len(codes) > MAX_NOTICE_CODES else [])
    return f"{len(notices)}; {','.join(shown)}"


def bounded(text: str) -> str:
    """A word of an upstream, such as an error's code, as a log may show it."""
    return _NOT_IN_A_WORD.sub("?", text[:MAX_WORD_CHARACTERS]) if text else ""


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _plain(text: str) -> str:
    text = text[:200]
    return text if text.isascii() and text.isprintable() and " " not in text else ascii(text)
