"""Probe client: sends requests one at a time, within limits, with backoff for rate limits.

    outcome = attempt, { delay, attempt } ;

Each attempt has a connection of its own: some servers promise to keep a connection and close it
after a stream, and a request that meets the end of one is lost.

All text from an upstream passes through `redact`, so that no key gets into a report: some
upstreams repeat the key that they reject.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any

import msgspec
from msgspec.structs import replace

from translator.service.base.redaction import Redaction
from translator.service.config.secrets import upstream_secrets
from translator.service.config.settings import Upstream
from translator.service.upstreams.client import Answer, Upstreams
from translator.service.upstreams.transport_errors import TRANSPORT_ERRORS
from translator.wire.errors import UpstreamError
from translator.wire.json_values import NOT_JSON, as_object, as_string, objects_in

from .payloads import ProbeRequest
from .replies import (
    NO_QUOTA,
    Accepted,
    Inconclusive,
    Outcome,
    Rejected,
    ReplyReader,
    classify,
    describe,
    quoted,
)

MAX_ANSWER_BYTES = 4 * 1024 * 1024
"""Largest response body, in bytes: a thousand tokens, each in a chunk of a few hundred bytes."""

MAX_DELAY_S = 30.0
"""Longest delay before a retry; for a longer one, the request is not retried."""

DELAYS_S = (2.0, 5.0, 10.0)
"""Delay before each retry of a rate-limited request, where the upstream does not state one."""

REQUEST_TIMEOUT_S = 90.0
"""Longest time for one request, its response included."""

_SECONDS = re.compile(r"\d+(?:\.\d+)?")
_DELAY = re.compile(r"(?:try again|retry) (?:in|after) (\d+(?:\.\d+)?)\s*(ms|s)", re.IGNORECASE)


class ProbeClient:
    """Sends requests to one upstream. `requests` counts them."""

    def __init__(
        self,
        connect: Callable[[], Upstreams],
        upstream: Upstream,
        *,
        max_requests: int,
        max_seconds: float,
        now: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        progress: Callable[[str], None],
    ) -> None:
        """`connect` makes a client without connections."""
        self._connect = connect
        self._upstream = upstream
        self._max_requests = max_requests
        self._now = now
        self._deadline = now() + max_seconds
        self._sleep = sleep
        self._progress = progress
        self._stopped = ""  # the reason why no more requests are sent
        self.requests = 0
        self.status = 0
        """HTTP status of the last response; 0 without one."""
        self.marks: set[str] = set()
        """The marks outside of the answers: headers, and the owner of the model."""
        self.redact = Redaction(
            {*upstream_secrets(upstream), *upstream.headers.values(), upstream.api_key or ""}
        ).text

    async def models(self, model: str) -> list[str]:
        """The ids of the models that the upstream lists; empty where it has no model list.

        The owner of the probed one becomes a mark; of one that is not listed, the owner of all.
        """
        models: list[dict[str, Any]] = []
        for topic in ("models", "models, again"):
            models, lost = await self._list_models()
            self._log(
                f"{self.requests:4} {topic}: {'no answer' if lost else f'{len(models)} listed'}"
            )
            if not lost:
                break
        rows = [row for row in models if row.get("id") == model] or models
        owners = {as_string(row.get("owned_by")) or "" for row in rows}
        if len(owners) == 1 and (owner := owners.pop()):
            self.marks.add(f"owner:{owner}")
        return [name for row in models if (name := as_string(row.get("id"))) is not None]

    async def _list_models(self) -> tuple[list[dict[str, Any]], bool]:
        """The rows of the model list, and whether the request was lost."""
        self.requests += 1
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S), self._call("models") as answer:
                body = await _body(answer) if answer.status == 200 else b""
            listed = as_object(msgspec.json.decode(body)) or {}
        except (UpstreamError, TimeoutError, *NOT_JSON) as error:
            return [], _is_lost(error)
        return list(objects_in(listed.get("data"))), False

    async def send(self, request: ProbeRequest) -> Outcome:
        """The outcome of one request, retried where the upstream limits the rate."""
        outcome: Outcome = Inconclusive("not sent")
        delay: float | None = None
        for default_delay in (*DELAYS_S, None):
            if (stopped := self._stop_outcome()) is not None:
                return stopped
            outcome, delay = await self._attempt(request)
            if delay is None or default_delay is None:
                break
            delay = delay or default_delay
            if delay > min(MAX_DELAY_S, self._deadline - self._now()):
                outcome = Inconclusive(f"rate limited for {delay:.0f} s, which is too long to wait")
                break
            self._log(f"     {request.topic}: rate limited, waiting {delay:.0f} s")
            await self._sleep(delay)
        if delay is not None and isinstance(outcome, Inconclusive):
            outcome = replace(outcome, lost=False)  # it was sent often enough
        if isinstance(outcome, Inconclusive) and (self.status in (401, 403) or outcome == NO_QUOTA):
            self._stopped = outcome.reason
        self._log(f"{self.requests:4} {request.topic}: {describe(outcome)}")
        return outcome

    def _stop_outcome(self) -> Inconclusive | None:
        """The outcome of every further request, once the probe has stopped."""
        if not self._stopped:
            if self.requests >= self._max_requests:
                self._stopped = f"not sent: the limit of {self.requests} requests is reached"
            elif self._now() >= self._deadline:
                self._stopped = "not sent: the time limit is reached"
        return Inconclusive(self._stopped) if self._stopped else None

    async def _attempt(self, request: ProbeRequest) -> tuple[Outcome, float | None]:
        """One attempt, and the delay before the next in seconds (0: unstated; None: no retry)."""
        self.requests += 1
        self.status = 0
        body: Any = msgspec.json.encode(request.body)
        seconds = min(REQUEST_TIMEOUT_S, max(1.0, self._deadline - self._now()))
        try:
            accept = "text/event-stream" if request.body.get("stream") else "*/*"
            async with (
                asyncio.timeout(seconds),
                self._call("chat/completions", body=body, accept=accept) as answer,
            ):
                self.status = answer.status
                if 200 <= answer.status < 300:
                    return await self._read(answer, request)
                if answer.status in (401, 403):
                    return Inconclusive(f"the key was rejected ({answer.status})"), None
                return self._failed(await answer.error())
        except UpstreamError as error:
            return Inconclusive(self.redact(error.message), lost=_is_lost(error)), None
        except TimeoutError:
            return Inconclusive(f"no answer within {seconds:.0f} s"), None

    @asynccontextmanager
    async def _call(
        self, path: str, *, body: bytes | None = None, accept: str = "application/json"
    ) -> AsyncGenerator[Answer]:
        """An answer, on a connection of its own."""
        async with (
            aclosing(self._connect()) as upstreams,
            upstreams.call(
                self._upstream, path, body=body, authorization=None, accept=accept
            ) as answer,
        ):
            self.marks |= header_marks(answer.headers)
            yield answer

    async def _read(self, answer: Answer, request: ProbeRequest) -> tuple[Outcome, float | None]:
        reader = ReplyReader()
        read = bytearray()
        async with aclosing(answer.chunks()) as chunks:
            async for chunk in chunks:
                reader.feed(chunk)
                read += chunk
                if len(read) > MAX_ANSWER_BYTES:
                    return Inconclusive(f"the answer exceeded {MAX_ANSWER_BYTES} bytes"), None
                enough = not request.whole and not reader.reply(whole=False).empty
                if reader.over or enough:
                    break
            else:
                reader.end()
        reply = reader.reply(whole=request.whole)
        if reader.failure is not None and (reply.empty or reply.finish is None):
            return self._failed(reader.failure)
        if reply.empty and not (reply.done or reply.finish or reply.usage):
            stray = self.redact(reader.stray)
            reason = f"the response is not an answer: {quoted(stray)}" if stray else "no answer"
            return Inconclusive(reason, lost=not stray), None
        if (text := self.redact(reply.text)) != reply.text:
            reply = replace(reply, chunks=(text,))
        return Accepted(reply, bytes(read) if request.whole else b""), None

    def _failed(self, error: UpstreamError) -> tuple[Outcome, float | None]:
        retryable = error.code in ("rate_limit_exceeded", "server_is_overloaded")
        delay = _delay(error) if retryable else None
        match classify(error):
            case Rejected(text, code):
                return Rejected(self.redact(text), code), delay
            case Inconclusive(reason, text, lost):
                return Inconclusive(self.redact(reason), self.redact(text), lost), delay

    def _log(self, line: str) -> None:
        self._progress(self.redact(line))


def _is_lost(error: Exception) -> bool:
    """Whether the connection broke, or there was none."""
    return isinstance(error.__cause__, TRANSPORT_ERRORS)


def header_marks(headers: Mapping[str, str]) -> set[str]:
    """The names of headers, and the server that one of them names."""
    server = headers.get("server")
    return {f"header:{name}" for name in headers} | ({f"server:{server}"} if server else set())


def _delay(error: UpstreamError) -> float:
    """The delay that the upstream asks for, in seconds; 0 where it does not state one."""
    given = error.headers.get("retry-after", "")
    if _SECONDS.fullmatch(given):
        return float(given)
    match = _DELAY.search(error.text or error.message)
    return float(match[1]) / (1000 if match[2].lower() == "ms" else 1) if match else 0.0


async def _body(answer: Answer) -> bytes:
    body = bytearray()
    async with aclosing(answer.chunks()) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > MAX_ANSWER_BYTES:
                break
    return bytes(body)
