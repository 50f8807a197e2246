"""How an answer goes to a client over HTTP.

stream      events, all of one upstream read in one write, and `[DONE]` behind the last
whole       one Responses body
verbatim    the upstream's own bytes
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing, nullcontext

import translator

from .exchange import JSON, Exchange
from .turn import Turn, in_short
from .upstreams.upstream import Answer

EVENT_STREAM = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # nginx holds a stream back without it
}

_PASSED_ON = ("content-type", "content-length", "content-encoding")


def notices_header(notices: Sequence[translator.Notice]) -> dict[str, str]:
    """What was lost, in short."""
    return {"x-translator-notices": in_short(notices)} if notices else {}


async def stream(exchange: Exchange, turn: Turn) -> None:
    """Answer with Responses events. Raises what went wrong only while no byte has been sent."""
    async with aclosing(turn.events()) as batches:
        async for events in batches:
            if not exchange.started:
                await exchange.start(200, EVENT_STREAM | notices_header(turn.notices))
            piece = b"".join(map(translator.encode_sse, events))
            if turn.translation.finished:
                await exchange.end(piece + translator.DONE)
            else:
                await exchange.write(piece)


async def whole(exchange: Exchange, turn: Turn) -> None:
    """Answer with one Responses body."""
    encoded = translator.encode_json(await turn.response())
    await exchange.whole(200, encoded, JSON | notices_header(turn.notices))


async def verbatim(exchange: Exchange, answer: Answer) -> None:
    """Answer with the upstream's own status and bytes, each piece as soon as it is read."""
    if (refusal := answer.refusal()) is not None:
        raise refusal
    headers = {name: answer.headers[name] for name in _PASSED_ON if name in answer.headers}
    if headers.get("content-type", "").startswith("text/event-stream"):
        headers = EVENT_STREAM | headers
    charge = exchange.charge
    async with aclosing(answer.pieces(raw=True)) as pieces:
        await exchange.start(answer.status, headers | answer.retry_headers())
        with nullcontext() if charge is None else charge.tallied() as tally:
            async for piece in pieces:
                if tally is not None:
                    tally.add(piece)
                await exchange.write(piece)
    await exchange.end()
