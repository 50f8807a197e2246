"""Requests that a client has compressed: `content-encoding`, and its bounds."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import random
import zlib
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from types import SimpleNamespace
from typing import Any

import brotli
import httpx
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from translator.service.base.errors import UnsupportedEncoding
from translator.service.base.keys import new_key, store
from translator.service.base.uploads import Uploads
from translator.service.config.loading import read_table
from translator.service.http import content_coding
from translator.service.http.content_coding import (
    CODINGS,
    MAX_BLOCK_BYTES,
    MAX_FRAMES,
    brotli_coding,
    decoder_of,
    zstd_coding,
)
from translator.wire.errors import InvalidRequest, RequestTooLarge, TranslatorError

from .responses_api import ASK
from .wire import ScriptedUpstream, bounded, client_of, make_settings

pytestmark = pytest.mark.anyio


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


COMPRESS: Mapping[str, Callable[[bytes], bytes]] = {
    "zstd": zstd.compress,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "deflate (raw)": raw_deflate,
    "br": partial(brotli.compress, quality=2),
}
"""How each coding is written; the word before the blank is its name."""

PATHS: Mapping[str, dict[str, Any]] = {
    "/v1/responses": ASK | {"stream": False},
    "/v1/responses/compact": {"model": "m", "input": "Hi."},
    "/v1/chat/completions": {"model": "m", "messages": [{"role": "user", "content": "Hi."}]},
}
PLENTY = 1 << 30


def name_of(coding: str) -> str:
    return coding.partition(" ")[0]


def decode(encoding: str, chunks: Iterable[bytes], limit: int = PLENTY) -> bytes:
    """The whole body, from chunks."""
    decoder = decoder_of(encoding, limit)
    assert decoder is not None
    body = b"".join(block for chunk in chunks for block in decoder.feed(chunk))
    decoder.end()
    return body


async def post(
    client: httpx.AsyncClient, encoding: str, content: Any, path: str = "/v1/responses"
) -> httpx.Response:
    return await client.post(path, content=content, headers={"content-encoding": encoding})


# --- what is served -------------------------------------------------------------------------------


async def test_each_path_takes_each_coding(upstream: ScriptedUpstream) -> None:
    """What goes upstream is the same as for a plain body, over a real connection, too."""
    async with upstream.client() as client:
        for (path, ask), (coding, compress) in itertools.product(PATHS.items(), COMPRESS.items()):
            plain = json.dumps(ask).encode()
            await client.post(path, content=plain)
            answer = await post(client, name_of(coding), compress(plain), path)
            assert answer.status_code == 200, answer.text
            before, after = upstream.calls[-2:]
            assert before.body == after.body
            assert "content-encoding" not in after.headers
    async with upstream.service() as url, httpx.AsyncClient(base_url=url) as client:
        for coding, compress in COMPRESS.items():
            assert (await post(client, name_of(coding), compress(PLAIN))).status_code == 200


async def test_a_stream_has_the_same_events(upstream: ScriptedUpstream) -> None:
    async def pieces(body: bytes) -> AsyncGenerator[bytes]:
        for start in range(0, len(body), 7):
            yield body[start : start + 7]

    texts: list[list[str]] = []
    async with upstream.service() as url, httpx.AsyncClient(base_url=url) as client:
        plain = json.dumps(ASK | {"stream": True}).encode()
        for encoding, body in (("identity", plain), ("zstd", zstd.compress(plain))):
            answer = await post(client, encoding, pieces(body))
            texts.append([line for line in answer.text.splitlines() if line.startswith("event")])
    assert texts[0] == texts[1]
    assert "event: response.completed" in texts[0]


async def test_names_are_read_as_http_has_them(upstream: ScriptedUpstream) -> None:
    plain = json.dumps(PATHS["/v1/responses"]).encode()
    async with upstream.client() as client:
        for encoding in ("ZSTD", " gzip ", "x-gzip", "identity", "", "identity, zstd,"):
            name = encoding.lower().replace("identity", "").strip(" ,").removeprefix("x-")
            answer = await post(client, encoding, COMPRESS[name](plain) if name else plain)
            assert answer.status_code == 200, answer.text


async def test_several_codings_are_undone_from_the_last_one(upstream: ScriptedUpstream) -> None:
    """In one header or in several."""
    plain = json.dumps(PATHS["/v1/responses"]).encode()
    body = brotli.compress(zstd.compress(gzip.compress(plain)))
    async with upstream.client() as client:
        for headers in (
            [("content-encoding", "gzip, zstd, br")],
            [("content-encoding", "gzip"), ("content-encoding", "zstd,br")],
        ):
            answer = await client.post("/v1/responses", content=body, headers=headers)
            assert answer.status_code == 200, answer.text
        wrong = await post(client, "br, zstd, gzip", body)
        many = await post(client, ", ".join(["gzip"] * 5), body)
    assert wrong.status_code == 400
    assert many.status_code == 415
    assert many.headers["accept-encoding"] == "zstd, br, gzip, deflate"


def test_a_coding_whose_library_is_missing_is_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> object:
        raise ModuleNotFoundError(name=name)

    assert list(CODINGS) == ["zstd", "br", "gzip", "deflate"]
    monkeypatch.setattr(content_coding, "import_module", nothing)
    assert list(content_coding._codings()) == ["gzip", "deflate"]
    old = SimpleNamespace(Decompressor=object, error=ValueError)  # of before 1.2: it has no bound
    monkeypatch.setattr(content_coding, "import_module", lambda name: {"brotli": old}[name])
    monkeypatch.setattr(
        content_coding, "_first_module", lambda *names: old if "brotli" in names else None
    )
    assert list(content_coding._codings()) == ["gzip", "deflate"]
    monkeypatch.setattr(content_coding, "CODINGS", content_coding._codings())
    with pytest.raises(UnsupportedEncoding) as refusal:
        decoder_of("zstd", PLENTY)
    assert refusal.value.headers["accept-encoding"] == "gzip, deflate"


@given(data=st.data())
def test_the_cuts_of_the_network_do_not_matter(data: st.DataObject) -> None:
    """Any body, in any coding, in any chunks: also in several frames, where there may be some."""
    coding = data.draw(st.sampled_from(sorted(COMPRESS)))
    several = name_of(coding) in ("gzip", "zstd")
    parts = data.draw(st.lists(st.binary(max_size=200), min_size=1, max_size=3 if several else 1))
    body = b"".join(map(COMPRESS[coding], parts))
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=8).map(sorted))
    chunks = [body[a:b] for a, b in itertools.pairwise([0, *cuts, len(body)])]
    assert decode(name_of(coding), chunks) == b"".join(parts)


@pytest.mark.parametrize("coding", COMPRESS)
def test_a_large_body_comes_out_whole(coding: str) -> None:
    """Text that compresses well, and chance that does not: both need many blocks."""
    text = b"".join(b'{"line":%d}' % n for n in range(60_000)) + bytes(2_000_000)
    text += random.Random(1).randbytes(600_000)
    body = COMPRESS[coding](text)
    for size in (1000, 64 * 1024, len(body)):
        chunks = [body[start : start + size] for start in range(0, len(body), size)]
        assert decode(name_of(coding), chunks) == text


# --- what is no such data -------------------------------------------------------------------------

PLAIN = json.dumps(PATHS["/v1/responses"]).encode()


async def test_a_broken_body_is_a_400(upstream: ScriptedUpstream) -> None:
    """Cut, damaged, followed by something else, or not compressed at all."""
    async with upstream.client() as client:
        for coding, compress in COMPRESS.items():
            name, body = name_of(coding), compress(PLAIN)
            broken = {
                "half": body[: len(body) // 2],
                "one byte": body[:1],
                "without its last byte": body[:-1],
                "damaged": body[:9] + bytes([body[9] ^ 255, body[10] ^ 255]) + body[11:],
                "with garbage behind it": body + b"garbage",
                "with zeros behind it": body + bytes(8),
                "plain": b"\xf7" + PLAIN,
            }
            for what, content in broken.items():
                answer = await post(client, name, content)
                assert answer.status_code == 400, (coding, what)
                error = answer.json()["error"]
                assert error["type"] == "invalid_request_error"
                # without a checksum, a damaged body may decompress: it is no JSON then
                assert name in error["message"] or "JSON" in error["message"], (coding, what)
            empty = await post(client, name, b"")
            assert empty.status_code == 400
            assert "JSON" in empty.json()["error"]["message"], "no data is an empty body"
    assert upstream.calls == []


def test_what_follows_is_only_another_frame() -> None:
    for coding in ("gzip", "zstd"):
        body = COMPRESS[coding](b"a") + COMPRESS[coding](b"b")
        assert decode(coding, [body]) == b"ab"
    skippable = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"
    assert decode("zstd", [skippable + zstd.compress(b"a") + skippable]) == b"a"
    for coding in ("deflate", "br"):
        for chunks in ([COMPRESS[coding](b"a") * 2], [COMPRESS[coding](b"a")] * 2):
            with pytest.raises(InvalidRequest):
                decode(coding, chunks)


# --- bounds ---------------------------------------------------------------------------------------


def taken(encoding: str, chunks: Iterable[bytes], limit: int) -> tuple[int, TranslatorError | None]:
    """How many bytes came of a body before it was refused, and the refusal."""
    decoder = decoder_of(encoding, limit)
    assert decoder is not None
    size = 0
    try:
        for chunk in chunks:
            for block in decoder.feed(chunk):
                assert len(block) <= 2 * MAX_BLOCK_BYTES
                size += len(block)
        decoder.end()
    except TranslatorError as error:
        return size, error
    return size, None


BOMB = bytes(8_000_000)


@pytest.mark.parametrize("coding", COMPRESS)
def test_a_bomb_is_decompressed_up_to_the_limit(coding: str) -> None:
    """And not beyond it: no block is larger, and none comes after the refusal."""
    body = COMPRESS[coding](BOMB)
    for limit in (1000, 1_000_000):
        size, error = taken(name_of(coding), [body], limit)
        assert isinstance(error, RequestTooLarge)
        assert size <= limit


def test_no_layer_becomes_more_than_the_limit() -> None:
    """Not even one of which nothing is left in the end: many blocks of deflate that are empty."""
    nothing = b"\x00\x00\x00\xff\xff" * 500_000
    body = zstd.compress(nothing)
    size, error = taken("deflate, zstd", [body], 1_000_000)
    assert (size, type(error)) == (0, RequestTooLarge)


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_the_number_of_frames_is_bounded(coding: str) -> None:
    """Frames with nothing in them take time all the same."""
    frame = COMPRESS[coding](b"")
    assert taken(coding, [frame * MAX_FRAMES], 1000) == (0, None)
    _, error = taken(coding, [frame * (MAX_FRAMES + 1)], 1000)
    assert isinstance(error, InvalidRequest)


def test_a_window_of_zstd_is_bounded() -> None:
    """A frame may ask for 2 GiB of memory in six bytes; HTTP has 8 MiB."""
    for log, fits in ((23, True), (24, False)):
        options = {
            zstd.CompressionParameter.window_log: log,
            zstd.CompressionParameter.content_size_flag: 0,
        }
        compressor = zstd.ZstdCompressor(options=options)
        body = compressor.compress(b"abc") + compressor.flush()
        _, error = taken("zstd", [body], 1000)
        assert (error is None) is fits


async def test_a_body_over_the_limit_is_a_413(upstream: ScriptedUpstream) -> None:
    """By what it becomes, and by what it is; an endless one, too."""
    fits = json.dumps(PATHS["/v1/responses"] | {"input": "a" * 800}).encode()
    noise = random.Random(1).randbytes(1500).hex().encode()

    async def endless() -> AsyncGenerator[bytes]:
        compressor = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
        while True:
            yield compressor.compress(bytes(100_000)) + compressor.flush(zlib.Z_SYNC_FLUSH)

    async with upstream.client(max_body_bytes=1000) as client:
        for coding, compress in COMPRESS.items():
            name = name_of(coding)
            assert (await post(client, name, compress(fits))).status_code == 200
            for body in (compress(bytes(1001)), compress(noise)):
                answer = await post(client, name, body)
                assert answer.status_code == 413
                assert answer.json()["error"]["code"] == "request_too_large"
        assert (await post(client, "gzip", endless())).status_code == 413
    assert len(upstream.calls) == len(COMPRESS)


async def test_other_tasks_have_their_turn_meanwhile(upstream: ScriptedUpstream) -> None:
    """Once for each block or two, also where nothing comes of the data."""
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    bodies = {"gzip": gzip.compress(BOMB), "zstd": zstd.compress(b"") * MAX_FRAMES}
    async with upstream.client() as client:
        for encoding, body in bodies.items():
            turns = 0
            task = asyncio.create_task(others())
            assert (await post(client, encoding, body)).status_code == 400
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            assert turns >= (len(BOMB) // (2 * MAX_BLOCK_BYTES) if encoding == "gzip" else 50)


def test_what_a_body_becomes_counts_among_the_uploads() -> None:
    """Its bytes are held, but say nothing of the rate at which they came."""
    uploads = Uploads(max_bytes=1000, silence_s=1, total_s=100, bytes_per_s=10)
    refused: list[str] = []
    first = uploads.begin(0, lambda: refused.append("first"))
    first.add(10)
    first.grow(500)
    assert (uploads.bytes, first.deadline(0)) == (510, 1)
    second = uploads.begin(0, lambda: refused.append("second"))
    second.add(5)
    second.grow(486)
    assert (uploads.bytes, refused, first.gave_way) == (491, ["first"], True)
    first.grow(100)
    second.close()
    assert uploads.bytes == 0


async def test_a_bomb_gives_way_to_other_uploads(upstream: ScriptedUpstream) -> None:
    """Memory is bounded by what bodies become, however little arrives."""
    async with upstream.service(max_upload_bytes=1_000_000) as url:
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            begun, go_on = asyncio.Event(), asyncio.Event()

            async def slow() -> AsyncGenerator[bytes]:
                compressor = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
                yield compressor.compress(bytes(900_000)) + compressor.flush(zlib.Z_SYNC_FLUSH)
                begun.set()
                await go_on.wait()
                yield compressor.flush()

            first = asyncio.create_task(post(client, "gzip", slow()))
            await bounded(begun.wait())
            text = {"input": "a" * 600_000}
            body = gzip.compress(json.dumps(PATHS["/v1/responses"] | text).encode())
            assert (await post(client, "gzip", body)).status_code == 200
            go_on.set()
            assert (await first).status_code == 503


async def test_a_request_is_charged_for_what_it_becomes(upstream: ScriptedUpstream) -> None:
    key = new_key()
    table = {
        "upstreams": {"up": {"base_url": upstream.url}},
        "clients": {"a": {"keys": [str(store(key))], "tokens_per_minute": 100_000}},
    }
    left: list[int] = []
    ask = PATHS["/v1/responses"] | {"input": "a" * 40_000}
    plain = json.dumps(ask).encode()
    async with client_of(read_table(table, {}), clock=lambda: 0.0) as client:
        for encoding, body in (("identity", plain), ("zstd", zstd.compress(plain))):
            headers = {"authorization": f"Bearer {key}", "content-encoding": encoding}
            answer = await client.post("/v1/responses", content=body, headers=headers)
            assert answer.status_code == 200
            left.append(int(answer.headers["x-ratelimit-remaining-tokens"]))
    assert left[0] < 90_000
    assert left[1] < 90_000, "as for the plain one; what it cost is settled by now"


def test_the_codings_stand_alone() -> None:
    """Each can be made of its module, under whichever name that is installed."""
    assert zstd_coding(zstd).begin(b"").decompress(zstd.compress(b"a"), 10) == b"a"
    assert brotli_coding(brotli).begin(b"").decompress(brotli.compress(b"a"), 10) == b"a"
    assert make_settings("http://up.test").server.max_body_bytes == 64 * 1024 * 1024
