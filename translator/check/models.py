"""The check of one model: a small request, as the service would send it, and what comes back.

request ──► route ──► AdaptiveRequest ──► upstream ──► events of the answer ──► row
                          ▲  refused                │
                          └─────────────────────────┘
"""

from __future__ import annotations

import asyncio
import difflib
import time
from collections.abc import Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

import msgspec
from msgspec import Struct

from translator import Translation, parse_request
from translator.probe.payloads import TAGS
from translator.probe.replies import Reply, ReplyReader
from translator.service.base.errors import OutOfDescriptors
from translator.service.base.ids import random_id
from translator.service.models.table import Route, in_order
from translator.service.turns.adaptive import AdaptiveRequest
from translator.service.turns.learned import LearnedFacts
from translator.service.upstreams.client import Answer, Upstreams
from translator.service.upstreams.transport_errors import TRANSPORT_ERRORS
from translator.wire.errors import InvalidRequest, UpstreamError, UpstreamTimeout
from translator.wire.items import FunctionCall, Message, OutputText, Reasoning

from .causes import Cause, Names, connection_cause, status_cause
from .results import Row
from .upstreams import is_web_page

PROMPT = "Reply with the word OK."
MAX_OUTPUT_TOKENS = 200
"""Token limit of the request: enough for most models to finish reasoning about it."""

MAX_ANSWER_BYTES = 2 * 1024 * 1024
"""Largest answer that is read, in bytes."""

MAX_SHOWN_CHARACTERS = 40
"""Longest text of the answer in the row."""

MAX_MODELS_NAMED = 3


class ModelResult(Struct, frozen=True):
    """The row of a model, and what its request shows of the upstream."""

    row: Row
    marks: frozenset[str] = frozenset()
    unknown_path: bool = False
    """It was a 404 that does not speak of the model."""

    stop: str = ""
    """Why no other model of the upstream needs to be asked; empty where others may do."""


class _Outcome(Struct, frozen=True):
    """One answer, read to its end."""

    translation: Translation
    reply: Reply
    first_s: float | None
    """Seconds from the request to the first output."""


class _Failed(Exception):
    """The request failed for this cause."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(cause.summary)
        self.cause = cause


class ModelCheck:
    """The check of one model: `run` returns its result."""

    def __init__(
        self,
        upstreams: Upstreams,
        route: Route,
        name: str,
        names: Names,
        *,
        listed: Sequence[str] | None,
        authorization: str | None,
        seconds: float,
        may_retry: bool,
    ) -> None:
        """`listed` are the models that the upstream lists; None: it has no list."""
        self._upstreams = upstreams
        self._route = route
        self._name = name
        self._names = names
        self._listed = listed
        self._authorization = authorization
        self._seconds = seconds
        self._may_retry = may_retry
        self._status: int | None = None
        self._attempts = 0
        self._id = route.upstream_model or name
        self._as_id = "" if self._id == name else f"as {self._id}: "

    async def run(self) -> ModelResult:
        """Send the request; nothing is raised."""
        details: dict[str, Any] = {
            "upstream": self._route.upstream.name,
            "upstream_model": self._id,
            "dialect": self._route.dialect.name,
            "fallbacks": [f"{one.model}@{one.upstream.name}" for one in self._route.others],
        }
        try:
            request = self._request()
        except InvalidRequest as error:  # such as by strict = true
            cause = Cause(f"cannot be asked: {error.message}", "Check its settings.", of_all=False)
            return ModelResult(self._failed_row(cause, details))
        try:
            outcome = await self._asked(request)
        except _Failed as failed:
            stop = failed.cause.summary if failed.cause.of_all else ""
            details |= {"http_status": self._status, "attempts": self._attempts}
            row = self._failed_row(failed.cause, details)
            return ModelResult(row, unknown_path=failed.cause.unknown_path, stop=stop)
        row = self._row(outcome, request, details)
        return ModelResult(row, outcome.reply.marks)

    def _request(self) -> AdaptiveRequest:
        limit = min(MAX_OUTPUT_TOKENS, self._route.max_output_tokens or MAX_OUTPUT_TOKENS)
        body = {
            "model": self._name,
            "input": PROMPT,
            "max_output_tokens": limit,
            "stream": True,
            "store": False,
        }
        request = AdaptiveRequest(
            parse_request(msgspec.json.encode(body)),
            self._route,
            LearnedFacts(3600, time.monotonic),
            model=self._name,
            may_retry=self._may_retry,
            clock=lambda: int(time.time()),
            new_id=random_id,
            redaction=partial(self._upstreams.redaction, authorization=self._authorization),
        )
        request.write()
        return request

    async def _asked(self, request: AdaptiveRequest) -> _Outcome:
        """The answer to the request, which is adapted as refusals teach; raises _Failed."""
        try:
            async with asyncio.timeout(self._seconds):
                while True:
                    try:
                        return await self._attempt(request)
                    except UpstreamError as error:
                        if _is_of_connection(error) or not request.adapt_to(error):
                            raise
        except (UpstreamError, OutOfDescriptors, TimeoutError) as error:
            raise _Failed(self._cause(error)) from None

    async def _attempt(self, request: AdaptiveRequest) -> _Outcome:
        """One attempt; raises UpstreamError."""
        translation, body = request.attempt.translation, request.attempt.body
        route, began = self._route, time.monotonic()
        self._attempts += 1
        self._status = None
        async with self._upstreams.call(
            route.upstream,
            "chat/completions",
            body=body,
            authorization=self._authorization,
            accept="text/event-stream",
        ) as answer:
            self._status = answer.status
            if not 200 <= answer.status < 300:
                silent = route.dialect.overflows_silently(len(body))
                raise await answer.error(silent_overflow=silent)
            if is_web_page(answer.headers, b""):
                raise _Failed(
                    Cause("it answers with a web page, not an API", f"Correct {self._names.url}.")
                )
            outcome = await self._read(answer, translation, began)
        if isinstance(translation.error, UpstreamError):
            raise translation.error
        request.accepted()
        return outcome

    async def _read(self, answer: Answer, translation: Translation, began: float) -> _Outcome:
        reader, first, size = ReplyReader(), None, 0
        async with aclosing(answer.chunks()) as chunks:
            async for chunk in chunks:
                reader.feed(chunk)
                translation.receive(chunk)
                if first is None and translation.progress:
                    first = time.monotonic() - began
                size += len(chunk)
                if translation.finished:
                    break
                if size > MAX_ANSWER_BYTES:
                    raise _Failed(
                        Cause(
                            f"its answer has no end after {size} bytes, in spite of a token limit",
                            "See the log of the upstream; translator probe may find its dialect.",
                            of_all=False,
                        )
                    )
        reader.end()
        translation.close()
        return _Outcome(translation, reader.reply(whole=True), first)

    def _cause(self, error: Exception) -> Cause:
        upstream, names = self._route.upstream, self._names
        if not isinstance(error, UpstreamError) or _is_of_connection(error):
            cause = connection_cause(error, upstream.base_url, names, self._seconds)
            slow = isinstance(error, TimeoutError | UpstreamTimeout)
            return cause._replace(of_all=not slow)  # another model may be loaded already
        status = self._status or error.status_hint
        own_key = upstream.has_credential or self._authorization is not None
        of_all = status_cause(status, error, names, own_key=own_key)
        if of_all is not None:
            return of_all
        said = error.message
        if status == 404 or error.code == "model_not_found":
            if self._listed is not None and self._id in self._listed:
                advice = "Ask whoever runs the upstream: its account may have no access to it."
                return Cause(f"it is listed, and not found: {said}", advice, of_all=False)
            advice = self._near() or (
                f"Correct the model's name, or {names.url}, which ends before /chat/completions."
            )
            unknown_path = status == 404 and error.code != "model_not_found"
            summary = (
                f"{'not found' if unknown_path else 'there is no such model'} ({status}): {said}"
            )
            return Cause(summary, advice, of_all=False, unknown_path=unknown_path)
        if 300 <= status < 400:
            summary = f"it redirects ({status}), which is not followed"
            return Cause(summary, f"Correct {names.url}.")
        if status >= 500 or status < 300:
            what = f"it fails ({status})" if status >= 500 else "its answer fails"
            advice = "See the log of the upstream, or wait, and check again."
            return Cause(f"{what}: {said}", advice, of_all=False)
        return Cause(
            f"it refuses the request ({status}): {said}",
            "Find out what it takes with translator probe.",
            of_all=False,
        )

    def _near(self) -> str:
        """A sentence with the listed models whose names are the nearest."""
        if not self._listed:
            return ""
        near = difflib.get_close_matches(self._id, self._listed, n=MAX_MODELS_NAMED, cutoff=0.4)
        known = near or self._listed[:MAX_MODELS_NAMED]
        others = len(self._listed) - len(known)
        more = f" and {others} more" if others else ""
        return f"Correct upstream_model, or its name; the upstream lists {', '.join(known)}{more}."

    def _failed_row(self, cause: Cause, details: dict[str, Any]) -> Row:
        return Row(
            kind="model",
            name=self._name,
            status="failed",
            summary=self._as_id + cause.summary,
            advice=cause.advice,
            details=details,
        )

    def _row(self, outcome: _Outcome, request: AdaptiveRequest, details: dict[str, Any]) -> Row:
        response = outcome.translation.response
        text = "".join(
            part.text
            for item in response.output
            if isinstance(item, Message)
            for part in item.content
            if isinstance(part, OutputText)
        ).strip()
        reasons = any(isinstance(item, Reasoning) for item in response.output)
        calls = any(isinstance(item, FunctionCall) for item in response.output)
        usage = response.usage
        notices = [f"{one.path}: {one.message}" for one in request.attempt.notices]
        found = [
            *([f"text “{_shortened(text)}”"] if text else []),
            *(["reasoning"] if reasons else []),
            *(["a call"] if calls else []),
            f"{usage.input_tokens} + {usage.output_tokens} tokens" if usage else "no usage",
        ]
        if outcome.first_s is not None:
            found.append(f"first output after {outcome.first_s:.1f} s")
        if self._route.others:
            found.append(f"then {in_order(self._route)}")
        advice = ""
        if not (text or reasons or calls):
            found.insert(0, "no text")
            advice = "Its answer was empty; translator probe may find its dialect."
        elif any(text.startswith(opening) or closing in text for opening, closing in TAGS):
            found.append("reasoning in the text")
            advice = (
                "Its reasoning arrives as text: translator probe finds the dialect, or the fact "
                "think_tags, with which it is told apart."
            )
        elif self._attempts > 1:
            found.append(f"{self._attempts} attempts")
            advice = (
                "It refused part of the request, which was sent again without: translator probe "
                "finds the settings with which the first attempt succeeds."
            )
        elif usage is None:
            advice = "Tokens are not counted; limits of clients take four bytes for a token."
        return Row(
            kind="model",
            name=self._name,
            status="warning" if advice else "ok",
            summary=self._as_id + ", ".join(found),
            advice=advice,
            details={
                **details,
                "http_status": self._status,
                "attempts": self._attempts,
                "text": _shortened(text),
                "reasoning": reasons,
                "reasoning_fields": sorted(outcome.reply.reasoning),
                "finish_reason": outcome.reply.finish,
                "usage": None if usage is None else msgspec.to_builtins(usage),
                "first_output_s": None if outcome.first_s is None else round(outcome.first_s, 3),
                "notices": notices,
            },
        )


def _is_of_connection(error: UpstreamError) -> bool:
    return isinstance(error.__cause__, TRANSPORT_ERRORS) or isinstance(error, UpstreamTimeout)


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MAX_SHOWN_CHARACTERS else line[: MAX_SHOWN_CHARACTERS - 1] + "…"
