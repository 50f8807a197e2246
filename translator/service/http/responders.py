"""How an answer goes to a client over HTTP.

stream      events, all of one upstream read in one write, and `[DONE]` behind the last
whole       one Responses body
verbatim    the upstream's own bytes
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing, nullcontext

import translator
from translator.service.access.token_meter import Tally
from translator.service.base.sinks import Http
from translator.service.turns.turn import Outlet, Turn, in_short, stalled
from translator.service.upstreams.streams import Reading
from translator.writer.sse import encode_all

from .exchange import JSON, Exchange

EVENT_STREAM = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # nginx holds a stream back without it
}

_PASSED_ON = ("content-type", "content-length", "content-encoding")


def notices_header(notices: Sequence[translator.Notice]) -> dict[str, str]:
    """What was lost, in short."""
    return {"x-translator-notices": in_short(notices)} if notices else {}


class _Passing:
    """What is to be known of the pieces of a body that is passed on."""

    def __init__(self, reading: Reading, tally: Tally | None) -> None:
        self._reading = reading
        self._tally = tally
        self._grew = reading.heard

    def check(self, piece: bytes) -> None:
        """To be called as each piece has come; raises UpstreamTimeout."""
        if self._tally is not None:
            self._tally.add(piece)
        if not _is_sign_of_life(piece):
            self._grew = self._reading.heard
        elif self._reading.heard - self._grew > self._reading.progress_s:
            raise stalled()


def _is_sign_of_life(piece: bytes) -> bool:
    """Whether there is nothing in it but comments of an event stream, and blank lines."""
    if piece[0] not in b": \t\r\n":  # as nearly all
        return False
    return all(line[:1] == b":" or not line.strip() for line in piece.splitlines())


class _Pieces:
    """The short way for such pieces."""

    def __init__(self, direct: Http, reading: Reading, passing: _Passing) -> None:
        self.ready = direct.ready
        self._write = direct.write
        self._reading = reading
        self._check = passing.check

    def take(self, piece: bytes) -> bool:
        self._reading.hears()
        self._check(piece)
        self._write(piece)
        return True


async def stream(exchange: Exchange, turn: Turn) -> None:
    """Answer with Responses events. Raises what went wrong only while no byte has been sent."""
    outlet = None if exchange.direct is None else Outlet(exchange.direct, encode_all)
    async with aclosing(turn.events(outlet)) as batches:
        async for events in batches:
            if not exchange.started:
                await exchange.start(200, EVENT_STREAM | notices_header(turn.notices))
            if turn.translation.finished:
                await exchange.end(encode_all(events) + translator.DONE)
            else:
                await exchange.write(encode_all(events))
            del events  # so that they are not kept while nothing comes


async def whole(exchange: Exchange, turn: Turn) -> None:
    """Answer with one Responses body."""
    encoded = translator.encode_json(await turn.response())
    await exchange.whole(200, encoded, JSON | notices_header(turn.notices))


async def verbatim(exchange: Exchange, reading: Reading) -> None:
    """Answer with the upstream's own status and bytes, each piece as soon as it is read."""
    answer = await reading.answer()
    if (refusal := answer.refusal()) is not None:
        raise refusal
    answer.as_sent()
    headers = {name: answer.headers[name] for name in _PASSED_ON if name in answer.headers}
    if headers.get("content-type", "").startswith("text/event-stream"):
        headers = EVENT_STREAM | headers
    charge = exchange.charge
    await exchange.start(answer.status, headers | answer.retry_headers())
    with nullcontext() if charge is None else charge.tallied() as tally:
        direct = exchange.direct
        passing = _Passing(reading, tally)
        taker = None if direct is None else _Pieces(direct, reading, passing)
        while piece := await reading.next(taker=taker):
            passing.check(piece)
            await exchange.write(piece)
    await exchange.end()
