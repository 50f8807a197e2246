"""Fuzz targets: each takes any bytes, and raises where a rule is broken.

    sse        the SSE decoder            the same payloads, however the stream is cut
    request    a client's request         a chat request, or a 4xx that names the field
    receive    an upstream's response     valid events with one end, however the body is cut
    calls      an answer with tool calls  the same, and each call comes back whole (`calls.py`)

The first bytes of `sse` and `receive` choose the size of the chunks and the dialect.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import translator
from tests.invariants import check_events, check_response_types
from tests.replaying import replay, translation
from translator import InvalidRequest, TranslatorError, UpstreamError, encode_sse
from translator.reader.sse import Decoder

from .calls import calls

MAX_EVENT_BYTES = 1024
"""Limit of an event in bytes, low enough to be reached."""

DIALECTS = sorted(translator.DIALECTS)

REQUEST = {
    "model": "m",
    "input": "Hi",
    "stream": True,
    "include": ["reasoning.encrypted_content"],
    "tools": [
        *({"type": "function", "name": name} for name in ("get_weather", "add", "f")),
        {"type": "custom", "name": "patch"},
        {"type": "shell"},
    ],
}


def sse(data: bytes) -> None:
    """The payloads of a stream, whole and in chunks."""
    size, body = data[:1], data[1:]
    whole = _decoded([body])
    chunked = _decoded(_chunks(body, size))
    if whole is None or chunked is None:
        return  # over the limit: the payloads before it depend on the cut
    assert chunked == whole
    assert all(b"\r" not in payload for payload in whole[0])


def request(data: bytes) -> None:
    """A client's request: translated, or rejected."""
    try:
        translated = translation(data)
    except InvalidRequest as error:
        _check_error(error, 400, 500)
    else:
        chat = json.loads(translated.chat_body)
        assert chat["messages"] or not translated.wants_answer
        assert translation(data).chat_body == translated.chat_body
        for event in translated.start():
            encode_sse(event)
    try:
        compacting = translator.CompactRequest(data)
        translation(compacting.body)
    except InvalidRequest as error:
        _check_error(error, 400, 500)


def receive(data: bytes) -> None:
    """An upstream's response, as a stream and as one body."""
    dialect = DIALECTS[(data[0] if data else 0) % len(DIALECTS)]
    size, body = data[1:2], data[2:]
    events, response = replay(body, REQUEST, dialect=dialect)
    check_events(events)
    _, cut = replay(_chunks(body, size), REQUEST, dialect=dialect)
    assert (cut.status, cut.output) == (response.status, response.output)
    try:
        whole = translation({**REQUEST, "stream": False}, dialect=dialect).complete(body)
    except UpstreamError as error:
        _check_error(error, 400, 600)
    else:
        check_response_types(json.loads(translator.encode_json(whole)))


TARGETS: dict[str, Callable[[bytes], None]] = {
    "sse": sse,
    "request": request,
    "receive": receive,
    "calls": calls,
}


def _decoded(chunks: Iterator[bytes] | list[bytes]) -> tuple[list[bytes], str] | None:
    decoder = Decoder(MAX_EVENT_BYTES)
    payloads: list[bytes] = []
    try:
        for chunk in chunks:
            payloads += decoder.feed(chunk)
        payloads += decoder.end()
    except UpstreamError:
        return None
    return payloads, decoder.stray


def _chunks(body: bytes, size: bytes) -> Iterator[bytes]:
    step = 1 + (size[0] if size else 0) % 64
    return (body[start : start + step] for start in range(0, len(body), step))


def _check_error(error: TranslatorError, lowest: int, above: int) -> None:
    assert lowest <= error.status_hint < above
    envelope = json.loads(json.dumps(error.envelope(), ensure_ascii=False).encode())
    assert envelope["error"]["message"]
