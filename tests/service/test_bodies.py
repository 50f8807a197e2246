"""However an upstream wraps its body: compressed, or under any content type."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import time
import tracemalloc
import zlib
from typing import Any

import httpx
import pytest

from translator.service.base.sinks import ChunkSink
from translator.service.upstreams.inflate import (
    MAX_CHUNK_BYTES,
    MAX_EMPTY_MEMBERS,
    UNCHECKED_BYTES,
    inflated,
)
from translator.wire.errors import UpstreamError

from .chat_bodies import COMPLETION, HELLO, chunk
from .responses_api import ASK, PATH, events
from .wire import Call, ScriptedUpstream, bounded

pytestmark = pytest.mark.anyio


GZIP, ZLIB, RAW = 31, 15, -15
"""zlib's numbers for the three formats."""


def without_ids(body: bytes) -> list[dict[str, Any]]:
    """The events of an answer, without what is different each time."""

    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(one) for one in value]
        if not isinstance(value, dict):
            return value
        skipped = ("id", "item_id", "created_at", "completed_at")
        return {key: plain(one) for key, one in value.items() if key not in skipped}

    found: list[dict[str, Any]] = plain(events(body))
    return found


@pytest.mark.parametrize(
    ("encoding", "format_"),
    [("gzip", GZIP), ("x-gzip", GZIP), ("GZip", GZIP), ("deflate", ZLIB), ("deflate", RAW)],
)
async def test_a_compressed_stream_stays_a_stream(
    upstream: ScriptedUpstream, encoding: str, format_: int
) -> None:
    """Each event is compressed to its last byte, and is read before the next one exists."""
    seen = asyncio.Queue[None]()

    async def script(call: Call) -> None:
        packer = zlib.compressobj(wbits=format_)
        await call.head(headers={"content-encoding": encoding})
        for number, piece in enumerate(HELLO):
            await call.send(packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH))
            if number in (1, 2):
                await bounded(seen.get())
        await call.send(packer.flush())
        await call.end()

    upstream.script = script
    body = b""
    async with (
        upstream.socket_client() as client,
        client.stream("POST", PATH, json=ASK) as answer,
    ):
        async for piece in answer.aiter_raw():
            body += piece
            if b"output_text.delta" in piece:
                seen.put_nowait(None)
        assert "content-encoding" not in answer.headers
        plain = ScriptedUpstream()
        async with plain.running(), plain.client() as other:
            expected = await other.post(PATH, json=ASK)
    assert without_ids(body) == without_ids(expected.content)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_compressed_error_is_understood(upstream: ScriptedUpstream, stream: bool) -> None:
    async def script(call: Call) -> None:
        body = gzip.compress(b'{"error":{"message":"no such field"}}')
        await call.answer(body, 400, headers={"content-encoding": "gzip"})

    upstream.script = script
    async with upstream.client() as client:
        answer = await client.post(PATH, json=ASK | {"stream": stream})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "no such field"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("encoding", "body", "words"),
    [
        ("br", b"\x0b\x02\x80hello\x03", "('br')"),
        ("gzip, br", b"x", "('gzip, br')"),
        ("gzip", b"data: {}\n\n", "could not be decompressed"),
        ("gzip", gzip.compress(b"data: x\n\n" * 1000)[:20] + b"\xff" * 100, "decompressed"),
        ("deflate", b"\xff\xff\xff", "could not be decompressed"),
    ],
)
async def test_what_cannot_be_decompressed_is_a_502(
    upstream: ScriptedUpstream, stream: bool, encoding: str, body: bytes, words: str
) -> None:
    async def script(call: Call) -> None:
        await call.answer(body, headers={"content-encoding": encoding})

    upstream.script = script
    async with upstream.client() as client:
        answer = await client.post(PATH, json=ASK | {"stream": stream})
    assert answer.status_code == 502
    assert words in answer.json()["error"]["message"]


class Pieces:
    """A body that is cut so."""

    def __init__(self, *data: bytes) -> None:
        self._left = [piece for piece in data if piece]

    async def read(self, sink: ChunkSink | None = None) -> bytes:
        return self._left.pop(0) if self._left else b""

    async def aclose(self) -> None:
        pass


async def inflate(*data: bytes, encoding: str = "gzip") -> list[bytes]:
    body, found = inflated(Pieces(*data), encoding), list[bytes]()
    while piece := await body.read():
        found.append(piece)
    return found


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
async def test_the_cuts_of_the_network_do_not_matter(size: int) -> None:
    text = b"".join(HELLO)
    packed = {
        "gzip": gzip.compress(text),
        "deflate": zlib.compress(text),
        "": text,
    }
    for encoding, body in packed.items():
        cut = [body[start : start + size] for start in range(0, len(body), size)]
        assert b"".join(await inflate(*cut, encoding=encoding)) == text
    raw = zlib.compress(text, wbits=RAW)
    cut = [raw[start : start + size] for start in range(0, len(raw), size)]
    assert b"".join(await inflate(*cut, encoding="deflate")) == text


async def test_several_files_and_what_fills_up_the_last_block() -> None:
    body = gzip.compress(b"Hello") + gzip.compress(b" world") + bytes(20)
    assert b"".join(await inflate(body)) == b"Hello world"
    assert b"".join(await inflate(body[:25], body[25:])) == b"Hello world"
    assert await inflate(b"", b"\x1f") == []


@pytest.mark.parametrize("over", [0, 1, 4, 257])
@pytest.mark.parametrize("format_", [GZIP, RAW])
async def test_a_piece_of_exactly_the_bound_loses_nothing(over: int, format_: int) -> None:
    """All bytes may be read while some of what they say is still to come."""
    text = (b"xy" * MAX_CHUNK_BYTES)[: MAX_CHUNK_BYTES + over]
    body = zlib.compress(text, wbits=format_)
    found = await inflate(body, encoding="gzip" if format_ == GZIP else "deflate")
    assert b"".join(found) == text
    assert max(map(len, found)) == MAX_CHUNK_BYTES


async def test_a_small_body_does_not_grow_in_memory() -> None:
    """A bomb: the reader stops when it has enough, and until then one piece is held at a time."""
    bomb = gzip.compress(bytes(256 * 1024 * 1024), compresslevel=9)
    read = 0
    tracemalloc.start()
    try:
        body = inflated(Pieces(bomb), "gzip")
        with pytest.raises(UpstreamError, match="could not be decompressed"):
            while piece := await body.read():
                read += len(piece)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 16 * MAX_CHUNK_BYTES
    assert UNCHECKED_BYTES - MAX_CHUNK_BYTES <= read <= UNCHECKED_BYTES


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_body_that_grows_as_text_does_may_be_large(encoding: str) -> None:
    line = b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"%d"}}]}\n\n'
    text = b"".join(line % (number * 7919) for number in range(300_000))
    packed = gzip.compress(text, 1) if encoding == "gzip" else zlib.compress(text, 1)
    assert len(text) > 2 * UNCHECKED_BYTES
    cut = [packed[start : start + 65536] for start in range(0, len(packed), 65536)]
    assert b"".join(await inflate(*cut, encoding=encoding)) == text


MEMBER, NOTHING = gzip.compress(b"x"), gzip.compress(b"")


async def test_empty_members_are_bounded() -> None:
    """Each costs as much as a full one, and a body of them has no end."""
    assert await inflate(NOTHING * MAX_EMPTY_MEMBERS + MEMBER) == [b"x"]
    body = (NOTHING * MAX_EMPTY_MEMBERS + MEMBER) * 3
    assert b"".join(await inflate(body)) == b"xxx"
    with pytest.raises(UpstreamError, match="could not be decompressed"):
        await inflate(MEMBER + NOTHING * (MAX_EMPTY_MEMBERS + 1) + MEMBER)


async def test_many_members_cost_linear_time() -> None:
    async def seconds(count: int) -> float:
        body = MEMBER * count
        began = time.process_time()
        assert b"".join(await inflate(body)) == b"x" * count
        return time.process_time() - began

    small, large = [min([await seconds(count) for _ in range(3)]) for count in (3000, 24_000)]
    assert large / small <= 8 * 2.5


async def test_a_long_read_lets_others_run() -> None:
    """What one packet holds may take long; an event loop has more to do."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(count())
    for body in (MEMBER * 20_000, gzip.compress(bytes(UNCHECKED_BYTES))):
        before = turns
        await inflate(body)
        assert turns - before >= 20
    other.cancel()


async def test_a_member_that_is_cut_behind_its_first_byte_is_read() -> None:
    body = MEMBER * 3
    for place in range(len(body)):
        assert b"".join(await inflate(body[:place], body[place:])) == b"xxx"
    assert b"".join(await inflate(MEMBER + b"\x1f", b"\x00", MEMBER)) == b"x"


async def test_an_error_for_a_bomb_comes_before_it_is_read(upstream: ScriptedUpstream) -> None:
    async def script(call: Call) -> None:
        bomb = gzip.compress(bytes(64 * 1024 * 1024), compresslevel=9)
        await call.answer(bomb, headers={"content-encoding": "gzip"})

    upstream.script = script
    async with upstream.client(max_answer_bytes=1_000_000) as client:
        answer = await bounded(client.post(PATH, json=ASK | {"stream": False}))
    assert answer.status_code == 502
    assert answer.json()["error"]["message"] == "The upstream's answer is over 1000000 bytes."


async def test_an_unknown_encoding_is_named_without_its_tricks() -> None:
    with pytest.raises(UpstreamError) as caught:
        await inflate(b"x", encoding="é\n" + "x" * 100)
    assert caught.value.message.isascii()
    assert len(caught.value.message) < 120


CONTENT_TYPES = [
    "text/event-stream;charset=UTF-8",
    "application/octet-stream",
    "text/plain",
    "application/json",
    "",
]


@pytest.mark.parametrize("content_type", CONTENT_TYPES)
async def test_the_content_type_of_an_upstream_does_not_matter(
    upstream: ScriptedUpstream, content_type: str
) -> None:
    """What a body is shows in its first bytes."""
    bodies = itertools.cycle([b"".join(HELLO), json.dumps(COMPLETION).encode()])

    async def script(call: Call) -> None:
        await call.head(content_type=content_type)
        await call.send(next(bodies))
        await call.end()

    upstream.script = script
    answers: list[Any] = []
    async with upstream.client() as client:
        for stream in (True, True, False, False):
            answer = await client.post(PATH, json=ASK | {"stream": stream})
            assert answer.status_code == 200
            response = events(answer.content)[-1]["response"] if stream else answer.json()
            answers.append(response["output"][0]["content"])
    assert answers == [answers[0]] * 4
    assert answers[0][0]["text"] == "Hello world"


async def test_a_hundred_answers_at_once_do_not_cross(upstream: ScriptedUpstream) -> None:
    """Each question has its own answer: thoughts, text and call, cut into its own pieces."""
    count = 100
    arrived = 0
    all_there = asyncio.Event()

    async def script(call: Call) -> None:
        nonlocal arrived
        arrived += 1
        if arrived == count:
            all_there.set()
        number = int(call.json["messages"][0]["content"])
        await bounded(all_there.wait())
        function = {"name": "ls", "arguments": json.dumps({"number": number})}
        text = f"text of {number} " * (number % 7 + 1)
        await call.head()
        await call.send(chunk({"reasoning_content": f"thought of {number}"}))
        for start in range(0, len(text), number % 5 + 1):
            await call.send(chunk({"content": text[start : start + number % 5 + 1]}))
            await asyncio.sleep(0)
        await call.send(
            chunk({"tool_calls": [{"index": 0, "id": f"call_{number}", "function": function}]}),
            chunk({}, "tool_calls", usage={"prompt_tokens": number, "completion_tokens": 1}),
            b"data: [DONE]\n\n",
        )
        await call.end()

    upstream.script = script

    async def ask(client: httpx.AsyncClient, number: int) -> None:
        stream = number % 3 != 0
        answer = await client.post(PATH, json=ASK | {"input": str(number), "stream": stream})
        assert answer.status_code == 200
        response = events(answer.content)[-1]["response"] if stream else answer.json()
        thought, message, call = response["output"]
        assert thought["summary"][0]["text"] == f"thought of {number}"
        assert message["content"][0]["text"] == f"text of {number} " * (number % 7 + 1)
        assert json.loads(call["arguments"]) == {"number": number}
        assert call["call_id"] == f"call_{number}"
        assert response["usage"]["input_tokens"] == number

    async with upstream.client() as client:
        await bounded(asyncio.gather(*(ask(client, number) for number in range(count))))
