"""Responders: how an answer goes to a client over HTTP.

stream         Responses events, those of one upstream read in one write, then `[DONE]`
whole          one Responses body
passthrough    the upstream's own bytes
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import msgspec

import translator
from translator import Event, Translation
from translator.dialects import BASE, Dialect
from translator.service.access.token_meter import TokenMeter
from translator.service.base.sinks import HttpWriter
from translator.service.observe.observer import AttemptFailed
from translator.service.observe.record import notices_summary
from translator.service.turns.progress import no_progress
from translator.service.turns.sink import EventWriter
from translator.service.turns.slices import LARGE_BYTES
from translator.service.turns.turn import Turn
from translator.service.upstreams.client import MAX_ERROR_BYTES, Answer
from translator.service.upstreams.judging import judged
from translator.service.upstreams.streams import UpstreamStream
from translator.wire.errors import AccountEmpty, CredentialRefused, UpstreamError
from translator.wire.responses import Response
from translator.writer.sse import encode, encode_all

from .error_filter import MAX_HELD_BYTES, ErrorFilter
from .exchange import JSON, Exchange

EVENT_STREAM = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # else nginx buffers a stream
}

_KEEP_ALIVE = re.compile(rb"(?:[ \t\r\n]++|(?<![^\r\n]):[^\r\n]*+)*+")
"""Comments of an event stream and blank lines, matched without a loop in Python."""


def notices_header(notices: Sequence[translator.Notice]) -> dict[str, str]:
    """The header that lists what was lost of a request."""
    return {"x-translator-notices": notices_summary(notices)} if notices else {}


class _ChunkRelay:
    """Meters the chunks of a body that is passed through, filters its errors, bounds its pauses."""

    __slots__ = ("_filter", "_grew_at", "_meter", "_stream")

    def __init__(
        self, stream: UpstreamStream, errors: ErrorFilter, meter: TokenMeter | None
    ) -> None:
        self._stream = stream
        self._filter = errors.feed
        self._meter = meter
        self._grew_at = stream.last_activity

    def push(self, chunk: bytes) -> bytes:
        """What may be sent to the client after a chunk; raises UpstreamTimeout."""
        now = self._stream.touch()
        if self._meter is not None:
            self._meter.add(chunk)
        if chunk[0] not in b": \t\r\n" or not _is_keep_alive(chunk):
            self._grew_at = now
        elif now - self._grew_at > self._stream.progress_s:
            raise no_progress()
        return self._filter(chunk)


def _is_keep_alive(chunk: bytes) -> bool:
    """Whether a chunk holds only comments of an event stream, and blank lines."""
    return _KEEP_ALIVE.fullmatch(chunk) is not None


class PassthroughSink:
    """A chunk sink that writes to the client what may be passed on of each chunk."""

    __slots__ = ("_relay", "_write", "ready")

    def __init__(self, direct: HttpWriter, relay: _ChunkRelay) -> None:
        self.ready = direct.ready
        self._write = direct.write
        self._relay = relay.push

    def push_framed(self, data: bytes, line: bytes, size: int) -> None:
        """Leave it to `push`."""

    def push(self, chunk: bytes) -> bool:
        data = self._relay(chunk)
        return self._write(data) if data else True


async def stream(exchange: Exchange, turn: Turn) -> None:
    """Respond with Responses events. Raises TranslatorError only while nothing has been sent."""
    writer = None if exchange.direct is None else _event_writer(exchange.direct)
    batches = turn.events(writer)
    try:
        async for events in batches:
            first, last = not exchange.started, turn.translation.finished
            if first:
                await exchange.start(200, EVENT_STREAM | notices_header(turn.notices))
            if (first or last) and _repeat_much(events, turn.translation):
                encoded = await _encoded_in_turns(events)
            else:
                encoded = encode_all(events)
            if last:
                await exchange.end(encoded + translator.DONE)
            else:
                await exchange.write(encoded)
            del encoded
            del events  # so that they are not held while nothing comes
    finally:
        await batches.aclose()


def _event_writer(direct: HttpWriter) -> EventWriter[bytes]:
    return EventWriter(direct, encode_all, encode, direct.write_framed, direct.framing)


def _repeat_much(events: Sequence[Event], translation: Translation) -> bool:
    """Whether the first or last events are large: both repeat the tools, and these the answer."""
    size = 0
    if translation.finished and translation.received >= LARGE_BYTES:
        size = translation.held
    for event in (events[0], events[-1]):
        response: Response | None = getattr(event, "response", None)
        if response is not None:
            size += sum(map(len, response.tools))
    return size >= LARGE_BYTES


async def _encoded_in_turns(events: Sequence[Event]) -> bytes:
    """Events as frames; after each, everything else has its turn."""
    frames: list[bytes] = []
    for event in events:
        frames.append(encode_all([event]))
        await asyncio.sleep(0)
    return b"".join(frames)


async def whole(exchange: Exchange, turn: Turn) -> None:
    """Respond with one Responses body."""
    encoded = translator.encode_json(await turn.response())
    await exchange.whole(200, encoded, JSON | notices_header(turn.notices))


async def passthrough(exchange: Exchange, stream: UpstreamStream, dialect: Dialect = BASE) -> None:
    """Respond with the upstream's own status and bytes, each chunk as it arrives.

    Secrets are taken out of errors. `dialect` is that of the model: the text is counted by it,
    where it is charged for. Raises UpstreamError for an error that is not for the client.
    """
    answer = await stream.answer()
    if (error := answer.private_error()) is not None:
        raise error
    if answer.status >= 400:
        await _pass_error(exchange, stream, answer)
        return
    answer.decompress()
    headers = {"content-type": answer.content_type()} if "content-type" in answer.headers else {}
    streamed = headers.get("content-type", "").startswith("text/event-stream")
    if streamed:
        headers = EVENT_STREAM | headers
    errors = error_filter(answer, streamed=streamed, request_id=exchange.record.request_id)
    meter = None
    if exchange.context.charge is not None:
        meter = TokenMeter(dialect)
        exchange.context.answered, exchange.context.progress = meter.answered, meter.so_far
    relay = _ChunkRelay(stream, errors, meter)
    first, over = b"", False
    if answer.upstream.has_credential or "content-encoding" in answer.headers:
        first, over = await _first_bytes(stream, relay, errors, exchange.grace_s)
    headers |= answer.retry_headers() | notices_header(exchange.record.notices)
    await exchange.start(answer.status, headers)
    if first:
        await exchange.write(first)
    del first
    sink = None if exchange.direct is None else PassthroughSink(exchange.direct, relay)
    while not over:
        chunk = await stream.next(sink=sink)
        if chunk is None:
            continue  # the client does not keep up: the next chunk waits for it
        if not chunk:
            break
        if data := relay.push(chunk):
            await exchange.write(data)
        del chunk, data  # so that they are not held while nothing comes
    rest = errors.end()
    if errors.private is not None:
        exchange.context.observer.on(AttemptFailed(errors.private))
    if (error := errors.private or errors.found) is not None:
        exchange.record.failure = error
        exchange.record.outcome = f"failed {error.code or error.type}"
    await exchange.end(rest)


def error_filter(answer: Answer, *, streamed: bool, request_id: str) -> ErrorFilter:
    """The filter for the body of the answer to a request."""
    judge = partial(
        judged, upstream=answer.upstream, redaction=answer.redaction, request_id=request_id
    )
    return ErrorFilter(answer.redaction, judge, streamed=streamed)


async def _first_bytes(
    stream: UpstreamStream, relay: _ChunkRelay, errors: ErrorFilter, grace_s: float
) -> tuple[bytes, bool]:
    """What may be passed on until an answer begins, and whether that is all.

    Raises an error that is not for the client, and that of a body that cannot be decompressed:
    there still is a status to say so.
    """
    until = asyncio.get_running_loop().time() + grace_s
    parts: list[bytes] = []
    over = False
    while not (errors.ordinary or over) and sum(map(len, parts)) < MAX_HELD_BYTES:
        chunk = await stream.next(until)
        if chunk is None:
            break
        over = not chunk
        parts.append(errors.end() if over else relay.push(chunk))
        if errors.private is not None and not errors.ordinary:
            raise errors.private
    return b"".join(parts), over


async def _pass_error(exchange: Exchange, stream: UpstreamStream, answer: Answer) -> None:
    """Respond with an upstream's error: its own status, and its own bytes without secrets.

    A body that breaks off, is too long or cannot be decompressed is replaced by its message.
    """
    read = bytearray()
    whole = False
    with suppress(UpstreamError):
        while len(read) <= MAX_ERROR_BYTES and (chunk := await stream.next()):
            read += chunk
        whole = len(read) <= MAX_ERROR_BYTES
    body = answer.redaction(bytes(read[:MAX_ERROR_BYTES]))
    error = answer.judged_error(body)
    if isinstance(error, AccountEmpty | CredentialRefused):
        raise error
    exchange.record.failure = error
    exchange.record.outcome = error.code or error.type
    headers = JSON
    if whole and "content-type" in answer.headers:
        headers = {"content-type": answer.content_type()}
    if not whole:
        body = msgspec.json.encode(error.envelope())
    await exchange.whole(answer.status, body, headers | answer.retry_headers())
