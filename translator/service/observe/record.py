"""What is told of one request: in the log, in the metrics, and to whoever looks on.

A request is one HTTP exchange, or one turn on a WebSocket. Secrets are never part of it, and what
came from the client is quoted where it is not plain.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from translator import Notice, TranslatorError
from translator.service.base.ids import NewId
from translator.service.base.trace_context import trace_context, trace_id
from translator.wire.responses import Usage

if TYPE_CHECKING:
    from translator.service.access.clients import Charge, Client

    from .observer import Witness

log = logging.getLogger(__name__)

PROBED = frozenset({"/healthz", "/readyz", "/metrics"})
"""Paths that machines ask for every few seconds: no news, and only logged at debug."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


Ending = Literal["completed", "incomplete", "refused", "failed", "client_left"]


class Record:
    """One request, as far as it has come. A text that is empty is not known, or does not apply."""

    def __init__(self, method: str, path: str, *, given_id: str = "", new_id: NewId) -> None:
        """`given_id` is the client's own id for the request, taken when it is a sane one."""
        self.method = method
        self.path = path
        self.request_id = given_id if _REQUEST_ID.fullmatch(given_id) else new_id("req_")
        self.status: int | None = None
        """The HTTP status of the answer, as soon as it is sent; a turn's events are a 200, too."""
        self.model = ""
        self.dialect = ""
        self.upstream = ""
        """Its name in the settings."""
        self.attempts = 0
        """How often the request was written for the upstream."""
        self.retries = 0
        """How often it was sent upstream again, because it had not been taken."""
        self.translating_s: float | None = None
        """How long it took to write the first time."""
        self.client: Client | None = None
        """Who asks, where the settings know clients."""
        self.charge: Charge | None = None
        """What the request costs its client, as far as it is known."""
        self.began = 0.0
        """When the request came, by the clock of the service in seconds."""
        self.first_token_s: float | None = None
        """How long the client of a stream waited until something of an answer was sent."""
        self.usage: Usage | None = None
        self.notices: Sequence[Notice] = ()
        self.notes = ""
        """How many notices there are, and their codes."""
        self.outcome = ""
        self.failure: TranslatorError | None = None
        """Why there is no answer, or why it is cut. Its message may quote what was said."""
        self.headers: Iterable[tuple[bytes, bytes]] = ()
        """Those of the client's request, names in lower case, with every secret in them: whoever
        keeps what was said must know what to take out of it."""
        self.trace_context: dict[str, str] | None = None
        """The headers of a trace that goes on upstream, in place of the client's own."""
        self.seconds = 0.0
        """How long the request took, once it is over."""
        self.witness: Witness | None = None
        """Whoever looks on."""

    def carried(self) -> dict[str, str]:
        """The headers that go upstream with it, so that it is found in the logs there."""
        if self.trace_context is None:
            self.trace_context = trace_context(self.headers)
        return {"x-request-id": self.request_id, **self.trace_context}

    def charged(self, size: int) -> None:
        """Charge the client for a request of so many bytes; raises LimitReached."""
        if self.client is not None:
            self.charge = self.client.charge(size)

    @property
    def ending(self) -> Ending:
        """How it ended, in one word; `outcome` may hold words of an upstream."""
        if self.outcome.startswith("client left"):
            return "client_left"
        status = self.status or 0
        if 400 <= status < 500:
            return "refused"
        if status >= 500 or self.failure is not None or self.outcome.startswith("failed"):
            return "failed"
        return "incomplete" if self.outcome == "incomplete" else "completed"

    def over(self, seconds: float) -> None:
        """The request is over, after so long."""
        self.seconds = max(0.0, seconds)
        self._settle()
        log.log(logging.DEBUG if self.path in PROBED else logging.INFO, Line(self))
        if self.witness is not None:
            self.witness.ended(self)
            self.witness = None  # which holds this
        _without_frames(self.failure)

    def _settle(self) -> None:
        """Put what the request has cost in the place of what was charged for it."""
        if self.charge is None:
            return
        if self.usage is not None:
            self.charge.settle(self.usage.total_tokens)
        elif self.status is None or self.status >= 400:
            self.charge.settle(0)

    def facts(self) -> dict[str, Any]:
        """What is known of it, for programs; times in milliseconds."""
        usage, failure = self.usage, self.failure
        known: dict[str, Any] = {
            "id": self.request_id,
            "method": self.method,
            "path": self.path[:200],
            "status": self.status,
            "duration_ms": _ms(self.seconds),
            "first_token_ms": None if self.first_token_s is None else _ms(self.first_token_s),
            "client": "" if self.client is None else self.client.name,
            "model": self.model[:200],
            "dialect": self.dialect,
            "upstream": self.upstream,
            "attempts": self.attempts,
            "retries": self.retries or None,
            "outcome": self.outcome,
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
            known["error"] = {name: text[:200] for name, text in parts.items() if text}
        return {name: value for name, value in known.items() if value not in (None, "", {})}


class Line:
    """The log line of a request that is over: words for people, facts for programs."""

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
        if record.retries:
            words.append(f"retries={record.retries}")
        if record.client is not None:
            words.append(f"client={_plain(record.client.name)}")
        facts = {name: getattr(record, name) for name in ("model", "dialect", "notes", "outcome")}
        if record.failure is not None and record.failure.param:
            facts["param"] = record.failure.param
        words += [f"{name}={_plain(value)}" for name, value in facts.items() if value]
        words.append(f"id={record.request_id}")
        return " ".join(words)


def _without_frames(error: BaseException | None) -> None:
    """Let an error go of the frames that it came through: they hold the request that holds it."""
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _plain(text: str) -> str:
    text = text[:200]
    return text if text.isascii() and text.isprintable() and " " not in text else ascii(text)
