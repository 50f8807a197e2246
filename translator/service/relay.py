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
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import translator
from translator.errors import TranslatorError, UpstreamError
from translator.events import Event

from .exchange import JSON, Exchange
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


async def stream(
    exchange: Exchange, translation: translator.Translation, answer: Answer, *, grace_s: float
) -> None:
    """Answer with Responses events. Raises what went wrong only while no byte has been sent."""
    async with answer.body() as body:
        async with aclosing(_frames(translation, body, grace_s)) as frames:
            async for piece in frames:
                if not exchange.started:
                    headers = EVENT_STREAM | notices_header(translation.notices)
                    await exchange.start(200, headers)
                await exchange.write(piece)
        await exchange.end()
        exchange.outcome = translation.response.status
        if translation.error is not None:
            exchange.outcome += f" {translation.error.code}"
        await body.drain()


async def _frames(
    translation: translator.Translation, body: Body, grace_s: float
) -> AsyncGenerator[bytes]:
    """What is written, each time: all events of one upstream read; at the end `[DONE]`."""
    begun = False  # from the first yield on, an error is an event
    broken: TranslatorError | None = None
    held: list[Event] = []
    now = asyncio.get_running_loop().time
    deadline = now() + grace_s
    try:
        while not translation.finished:
            piece = await (body.next() if begun else body.next_within(deadline - now()))
            if piece == b"":
                break
            if piece is not None:
                held += translation.receive(piece)
                if not begun and not translation.produced:
                    _raise_if_nothing_came(translation)
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


async def whole(
    exchange: Exchange, translation: translator.Translation, answer: Answer, *, limit: int
) -> None:
    """Answer with one Responses body."""
    response = translation.complete(await answer.read(limit))
    exchange.outcome = response.status
    body = translator.encode_json(response)
    await exchange.whole(200, body, JSON | notices_header(translation.notices))


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
