"""From an upstream's answer to the client's: the three ways an answer goes through.

    stream = first, { frames }, last ;      a Responses stream, one write per upstream read
    whole                                   one Responses body
    verbatim                                the upstream's own bytes

Before the first byte, exceptions; after it, events. The status line of a stream waits until the
upstream's body holds a piece of an answer, because many upstreams say 200, then a comment or a
role, and then what is wrong; but not longer than a grace time, because proxies and clients give up
on a request that stays without a status.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

import translator
from translator.errors import TranslatorError, UpstreamError, UpstreamTimeout
from translator.events import Event

from .attempts import Attempt
from .exchange import JSON, Exchange
from .settings import Server
from .upstream import Answer, Body

log = logging.getLogger(__name__)

EVENT_STREAM = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # nginx holds a stream back without it
}

MAX_NOTICE_CODES = 10
"""How many different notice codes the response header lists: proxies bound a header's size."""

_PASSED_ON = ("content-type", "content-length", "content-encoding")


def notices_header(notices: Sequence[translator.Notice]) -> dict[str, str]:
    """What was lost, in short: how many notices, and their codes."""
    if not notices:
        return {}
    codes = list(dict.fromkeys(notice.code for notice in notices))
    shown = codes[:MAX_NOTICE_CODES] + (["..."] if len(codes) > MAX_NOTICE_CODES else [])
    return {"x-translator-notices": f"{len(notices)}; {','.join(shown)}"}


class Progress:
    """Whether an answer grows.

    Signs of life alone are a stall: the HTTP client's clock starts anew with each comment, this one
    does not.
    """

    def __init__(
        self, translation: translator.Translation, limit_s: float, now: Callable[[], float]
    ) -> None:
        self._translation = translation
        self._limit_s = limit_s
        self._now = now
        self._pieces = translation.pieces
        self._since = self._now()

    def check(self) -> None:
        """To be called after each piece; raises UpstreamTimeout."""
        if self._translation.pieces != self._pieces:
            self._pieces = self._translation.pieces
            self._since = self._now()
        elif self._now() - self._since > self._limit_s:
            raise UpstreamTimeout("The upstream sent signs of life, but its answer did not go on.")


async def stream(exchange: Exchange, attempt: Attempt, answer: Answer, *, server: Server) -> None:
    """Answer with Responses events. Raises what went wrong only while no byte has been sent."""
    translation = attempt.translation
    async with answer.body() as body:
        async with aclosing(_frames(translation, body, server)) as frames:
            async for piece in frames:
                if not exchange.started:
                    headers = EVENT_STREAM | notices_header(attempt.notices)
                    await exchange.start(200, headers)
                await exchange.write(piece)
        await exchange.end()
        exchange.outcome = translation.response.status
        if translation.error is not None:
            exchange.outcome += f" {translation.error.code}"
        else:
            await body.drain()


async def _frames(
    translation: translator.Translation, body: Body, server: Server
) -> AsyncGenerator[bytes]:
    """What is written, each time: all events of one upstream read; at the end `[DONE]`."""
    begun = False  # from the first yield on, an error is an event
    broken: TranslatorError | None = None
    held: list[Event] = []
    now = asyncio.get_running_loop().time
    deadline = now() + server.headers_grace_s
    progress = Progress(translation, server.progress_timeout_s, now)
    try:
        while not translation.finished:
            piece = await (body.next() if begun else body.next_within(deadline - now()))
            if piece == b"":
                break
            if piece is not None:
                held += translation.receive(piece)
                progress.check()
                if not begun and not translation.produced:
                    _raise_if_nothing_came(translation)
                    if now() < deadline:
                        continue  # a comment, a role: an error may still come in their place
            if not translation.finished and (events := held or translation.start()):
                begun = True
                yield _encoded(events)
                held = []
    except UpstreamError as error:
        if not begun:
            raise
        broken = error
    except Exception:
        if not begun:
            raise
        log.exception("this is a fault in translator")
        broken = TranslatorError("The translator failed.", code="server_error")
    held += translation.close(broken)
    if not begun:
        _raise_if_nothing_came(translation)
    yield _encoded(held) + translator.DONE


def _raise_if_nothing_came(translation: translator.Translation) -> None:
    """An error in place of an answer is still an HTTP error that clients know how to retry."""
    if translation.error is not None and not translation.produced:
        raise translation.error


def _encoded(events: Sequence[Event]) -> bytes:
    return b"".join(map(translator.encode_sse, events))


async def whole(exchange: Exchange, attempt: Attempt, answer: Answer, *, server: Server) -> None:
    """Answer with one Responses body."""
    translation = attempt.translation
    now = asyncio.get_running_loop().time
    progress = Progress(translation, server.progress_timeout_s, now)
    left = server.max_answer_bytes
    async with answer.body() as body:
        while not translation.finished and (piece := await body.next()):
            left -= len(piece)
            if left < 0:
                raise UpstreamError(
                    f"The upstream's answer is over {server.max_answer_bytes} bytes."
                )
            translation.receive(piece)
            progress.check()
    response = translation.complete(b"")
    exchange.outcome = response.status
    encoded = translator.encode_json(response)
    await exchange.whole(200, encoded, JSON | notices_header(attempt.notices))


async def verbatim(exchange: Exchange, answer: Answer) -> None:
    """Answer with the upstream's own status and bytes, each piece as soon as it is read."""
    if (refusal := answer.refusal()) is not None:
        raise refusal
    headers = {name: answer.headers[name] for name in _PASSED_ON if name in answer.headers}
    if headers.get("content-type", "").startswith("text/event-stream"):
        headers = EVENT_STREAM | headers
    async with answer.body(raw=True) as body:
        await exchange.start(answer.status, headers | answer.retry_headers())
        while piece := await body.next():
            await exchange.write(piece)
    await exchange.end()
