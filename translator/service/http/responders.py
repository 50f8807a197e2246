"""Responders: how an answer goes to a client over HTTP.

stream         Responses events, those of one upstream read in one write, then `[DONE]`
whole          one Responses body
passthrough    the upstream's own bytes
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import aclosing, nullcontext

import translator
from translator.service.access.token_meter import TokenMeter
from translator.service.base.sinks import HttpWriter
from translator.service.observe.record import notices_summary
from translator.service.turns.progress import no_progress
from translator.service.turns.sink import EventWriter
from translator.service.turns.turn import Turn
from translator.service.upstreams.streams import UpstreamStream
from translator.writer.sse import encode_all

from .exchange import JSON, Exchange

EVENT_STREAM = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # else nginx buffers a stream
}

_KEEP_ALIVE = re.compile(rb"(?:[ \t\r\n]++|(?<![^\r\n]):[^\r\n]*+)*+")
"""Comments of an event stream and blank lines, matched without a loop in Python."""

_PASSED_ON = ("content-type", "content-length", "content-encoding")


def notices_header(notices: Sequence[translator.Notice]) -> dict[str, str]:
    """The header that lists what was lost of a request."""
    return {"x-translator-notices": notices_summary(notices)} if notices else {}


class _ChunkCheck:
    """Meters the chunks of a body that is passed through, and applies the progress timeout."""

    def __init__(self, stream: UpstreamStream, meter: TokenMeter | None) -> None:
        self._stream = stream
        self._meter = meter
        self._grew_at = stream.last_activity

    def check(self, chunk: bytes) -> None:
        """Call it when a chunk has arrived; raises UpstreamTimeout."""
        if self._meter is not None:
            self._meter.add(chunk)
        if not _is_keep_alive(chunk):
            self._grew_at = self._stream.last_activity
        elif self._stream.last_activity - self._grew_at > self._stream.progress_s:
            raise no_progress()


def _is_keep_alive(chunk: bytes) -> bool:
    """Whether a chunk holds only comments of an event stream, and blank lines."""
    if chunk[0] not in b": \t\r\n":  # as nearly all
        return False
    return _KEEP_ALIVE.fullmatch(chunk) is not None


class PassthroughSink:
    """A chunk sink that writes each chunk to the client as it is."""

    def __init__(self, direct: HttpWriter, stream: UpstreamStream, check: _ChunkCheck) -> None:
        self.ready = direct.ready
        self._write = direct.write
        self._stream = stream
        self._check = check.check

    def push(self, chunk: bytes) -> bool:
        self._stream.touch()
        self._check(chunk)
        self._write(chunk)
        return True


async def stream(exchange: Exchange, turn: Turn) -> None:
    """Respond with Responses events. Raises TranslatorError only while nothing has been sent."""
    writer = None if exchange.direct is None else EventWriter(exchange.direct, encode_all)
    async with aclosing(turn.events(writer)) as batches:
        async for events in batches:
            if not exchange.started:
                await exchange.start(200, EVENT_STREAM | notices_header(turn.notices))
            if turn.translation.finished:
                await exchange.end(encode_all(events) + translator.DONE)
            else:
                await exchange.write(encode_all(events))
            del events  # so that they are not held while nothing comes


async def whole(exchange: Exchange, turn: Turn) -> None:
    """Respond with one Responses body."""
    encoded = translator.encode_json(await turn.response())
    await exchange.whole(200, encoded, JSON | notices_header(turn.notices))


async def passthrough(exchange: Exchange, stream: UpstreamStream) -> None:
    """Respond with the upstream's own status and bytes, each chunk as it arrives."""
    answer = await stream.answer()
    if (error := answer.private_error()) is not None:
        raise error
    answer.keep_compression()
    headers = {name: answer.headers[name] for name in _PASSED_ON if name in answer.headers}
    if headers.get("content-type", "").startswith("text/event-stream"):
        headers = EVENT_STREAM | headers
    charge = exchange.context.charge
    await exchange.start(answer.status, headers | answer.retry_headers())
    with nullcontext() if charge is None else charge.metered() as meter:
        direct = exchange.direct
        check = _ChunkCheck(stream, meter)
        sink = None if direct is None else PassthroughSink(direct, stream, check)
        while chunk := await stream.next(sink=sink):
            check.check(chunk)
            await exchange.write(chunk)
    await exchange.end()
