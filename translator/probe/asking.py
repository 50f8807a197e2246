"""Asking over HTTP: one question after the other, within bounds, and never faster than allowed.

    asked = question, { too many requests, a wait } ;

Whatever an upstream says passes through `_clean`, so that no key gets into a report: some repeat
the key that they refuse.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

import msgspec
from msgspec.structs import replace

from translator.service.config.settings import Upstream
from translator.service.upstreams.client import Answer, Upstreams
from translator.wire.errors import UpstreamError
from translator.wire.json_values import NOT_JSON, as_object, as_string, objects_in

from .questions import Question
from .replies import NO_QUOTA, Outcome, Refused, ReplyReader, Taken, Unclear, quoted, refusal, told

MAX_ANSWER_BYTES = 4 * 1024 * 1024
"""Largest answer that is read, in bytes: a thousand tokens, each in a chunk of a few hundred."""

MAX_WAIT_S = 30.0
"""Longest wait that an upstream is granted before its next question; longer ones are not waited."""

WAITS_S = (2.0, 5.0, 10.0)
"""How long to wait after each refusal for too many requests, where it does not say how long."""

QUESTION_S = 90.0
"""Longest time for one answer."""

MIN_SECRET_CHARACTERS = 6
"""A header's value that is shorter is no secret, and would be found in any text."""

_SECONDS = re.compile(r"\d+(?:\.\d+)?")
_DELAY = re.compile(r"(?:try again|retry) (?:in|after) (\d+(?:\.\d+)?)\s*(ms|s)", re.IGNORECASE)


class Asker:
    """Asks one upstream. `requests` counts what was sent."""

    def __init__(
        self,
        upstreams: Upstreams,
        upstream: Upstream,
        *,
        max_requests: int,
        max_seconds: float,
        now: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        progress: Callable[[str], None],
    ) -> None:
        self._upstreams = upstreams
        self._upstream = upstream
        self._max_requests = max_requests
        self._now = now
        self._until = now() + max_seconds
        self._sleep = sleep
        self._progress = progress
        self._stopped = ""  # why nothing more is asked
        self.requests = 0
        self.status = 0
        """HTTP status of the last answer; 0: there was none."""
        values = (upstream.api_key or "", *upstream.headers.values())
        self._secrets = [value for value in values if len(value) >= MIN_SECRET_CHARACTERS]

    async def models(self) -> tuple[list[str], set[str]]:
        """The ids of the models that the upstream lists, and marks of who they belong to.

        Both empty where it has no such list.
        """
        try:
            async with asyncio.timeout(QUESTION_S):
                async with self._upstreams.call(
                    self._upstream, "models", authorization=None
                ) as answer:
                    self.requests += 1
                    body = await _body(answer) if answer.status == 200 else b""
            listed = as_object(msgspec.json.decode(body)) or {}
        except (UpstreamError, TimeoutError, *NOT_JSON):
            listed = {}
        models = objects_in(listed.get("data"))
        ids = [name for model in models if (name := as_string(model.get("id"))) is not None]
        self._say(f"{self.requests:4} models: {len(ids)} listed")
        owners = {f"owner:{owner}" for m in models if (owner := as_string(m.get("owned_by")))}
        return ids, owners

    async def ask(self, question: Question) -> Outcome:
        """The outcome of one question, tried again where the upstream asks for patience."""
        outcome: Outcome = Unclear("not asked")
        for wait in (*WAITS_S, None):
            if (bound := self._bounds()) is not None:
                return bound
            outcome, delay = await self._once(question)
            if delay is None or wait is None:
                break
            delay = delay or wait
            if delay > min(MAX_WAIT_S, self._until - self._now()):
                outcome = Unclear(f"rate limited for {delay:.0f} s, which is too long to wait")
                break
            self._say(f"     {question.topic}: rate limited, waiting {delay:.0f} s")
            await self._sleep(delay)
        if isinstance(outcome, Unclear) and (self.status in (401, 403) or outcome == NO_QUOTA):
            self._stopped = outcome.reason
        self._say(f"{self.requests:4} {question.topic}: {told(outcome)}")
        return outcome

    def _bounds(self) -> Unclear | None:
        if not self._stopped:
            if self.requests >= self._max_requests:
                self._stopped = f"not asked: {self.requests} requests are the limit"
            elif self._now() >= self._until:
                self._stopped = "not asked: the time is up"
        return Unclear(self._stopped) if self._stopped else None

    async def _once(self, question: Question) -> tuple[Outcome, float | None]:
        """One attempt. The number is the time to wait (s; 0: it does not say) before another."""
        self.requests += 1
        self.status = 0
        body: Any = msgspec.json.encode(question.body)
        seconds = min(QUESTION_S, max(1.0, self._until - self._now()))
        try:
            async with asyncio.timeout(seconds):
                async with self._upstreams.call(
                    self._upstream,
                    "chat/completions",
                    body=body,
                    authorization=None,
                    accept="text/event-stream" if question.body.get("stream") else "*/*",
                ) as answer:
                    self.status = answer.status
                    if 200 <= answer.status < 300:
                        return await self._read(answer, question)
                    if answer.status in (401, 403):
                        return Unclear(f"the key was not accepted ({answer.status})"), None
                    return self._failed(await answer.error())
        except UpstreamError as error:
            return Unclear(self._clean(error.message)), None
        except TimeoutError:
            return Unclear(f"no answer within {seconds:.0f} s"), None

    async def _read(self, answer: Answer, question: Question) -> tuple[Outcome, float | None]:
        reader = ReplyReader()
        size = 0
        async with aclosing(answer.chunks()) as pieces:
            async for piece in pieces:
                reader.feed(piece)
                size += len(piece)
                if size > MAX_ANSWER_BYTES:
                    return Unclear(f"the answer was over {MAX_ANSWER_BYTES} bytes"), None
                enough = not question.whole and not reader.reply(whole=False).said_nothing
                if reader.over or enough:
                    break
            else:
                reader.end()
        reply = reader.reply(whole=question.whole)
        if reader.failure is not None and (reply.said_nothing or reply.finish is None):
            return self._failed(reader.failure)
        if reply.said_nothing and not (reply.done or reply.finish or reply.usage):
            said = self._clean(reader.stray)
            return Unclear(f"the answer was none: {quoted(said)}" if said else "no answer"), None
        if (text := self._clean(reply.text)) != reply.text:
            reply = replace(reply, pieces=(text,))
        return Taken(reply), None

    def _failed(self, error: UpstreamError) -> tuple[Outcome, float | None]:
        patience = error.code in ("rate_limit_exceeded", "server_is_overloaded")
        delay = _delay(error) if patience else None
        match refusal(error):
            case Refused(text, code):
                return Refused(self._clean(text), code), delay
            case Unclear(reason, text):
                return Unclear(self._clean(reason), self._clean(text)), delay

    def _say(self, line: str) -> None:
        self._progress(self._clean(line))

    def _clean(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "…")
        return text


def _delay(error: UpstreamError) -> float:
    """How long an upstream wants to be left alone, in seconds; 0 where it does not say."""
    given = error.headers.get("retry-after", "")
    if _SECONDS.fullmatch(given):
        return float(given)
    match = _DELAY.search(error.text or error.message)
    return float(match[1]) / (1000 if match[2].lower() == "ms" else 1) if match else 0.0


async def _body(answer: Answer) -> bytes:
    read = bytearray()
    async with aclosing(answer.chunks()) as pieces:
        async for piece in pieces:
            read += piece
            if len(read) > MAX_ANSWER_BYTES:
                break
    return bytes(read)
