"""RFC 9112, as hostile clients read it: each request is answered or refused, and none hangs."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

from tests.service.chat_bodies import HELLO
from tests.service.responses_api import ASK, events
from tests.service.wire import Call, ScriptedUpstream, bounded

from .test_connections import HEALTH, connected, each

pytestmark = pytest.mark.anyio

BODY = json.dumps(ASK).encode()
ANY = b'{"model":"m","input":"Hi"}'
LINE = b"POST /v1/responses HTTP/1.1\r\n"
CHUNKED = LINE + b"host: a\r\ntransfer-encoding: chunked\r\n\r\n"


def with_length(*lines: bytes, body: bytes = ANY) -> bytes:
    return b"\r\n".join([LINE + b"host: a", *lines, b"content-length: %d" % len(body), b"", body])


def in_chunks(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return CHUNKED + b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in chunks) + end


MANY = in_chunks(*(bytes([byte]) for byte in ANY[:-1] + b" " * 200_000 + b"}"))

REFUSED = {
    "no host": (LINE + b"content-length: 0\r\n\r\n", 400),
    "two hosts": (with_length(b"host: a"), 400),
    "two hosts in 1.0": (b"GET /healthz HTTP/1.0\r\nhost: a\r\nhost: b\r\n\r\n", 400),
    "a host that is none": (b"GET /healthz HTTP/1.1\r\nhost: a b\r\n\r\n", 400),
    "two lengths": (with_length(b"content-length: 26"), 400),
    "two different lengths": (with_length(b"content-length: 5"), 400),
    "a list of lengths": (LINE + b"host: a\r\ncontent-length: 26, 26\r\n\r\n" + ANY, 400),
    "a negative length": (LINE + b"host: a\r\ncontent-length: -1\r\n\r\n", 400),
    "a huge length": (LINE + b"host: a\r\ncontent-length: " + b"9" * 30 + b"\r\n\r\n", 400),
    "a length and chunks": (with_length(b"transfer-encoding: chunked"), 400),
    "chunks and a length": (CHUNKED[:-2] + b"content-length: 26\r\n\r\n" + ANY, 400),
    "another coding": (CHUNKED.replace(b"chunked", b"gzip, chunked") + b"0\r\n\r\n", 501),
    "chunked, and then another coding": (CHUNKED.replace(b"chunked", b"chunked, gzip"), 400),
    "only another coding": (CHUNKED.replace(b"chunked", b"identity"), 501),
    "chunks in 1.0": (b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "a space before the colon": (with_length(b"x-a : b"), 400),
    "a folded line": (with_length(b"x-a: b\r\n c"), 400),
    "a space before the first header": (LINE + b" host: a\r\n\r\n", 400),
    "a line feed alone": (HEALTH.replace(b"\r\n", b"\n"), 400),
    "a carriage return alone": (with_length(b"x-a: b\rc"), 400),
    "a zero byte": (with_length(b"x-a: \x00"), 400),
    "a path that is no path": (b"GET http:// HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    "a huge chunk size": (CHUNKED + b"f" * 40 + b"\r\n", 400),
    "a chunk size without end": (CHUNKED + b"0" * 100_000, 400),
    "no chunk size": (CHUNKED + b"\r\n", 400),
    "a chunk that is too long": (CHUNKED + b"2\r\n{}x\r\n", 400),
    "a long extension": (CHUNKED + b"2;" + b"x" * 1_000_000 + b"\r\n{}\r\n0\r\n\r\n", 400),
    "a long value of an extension": (CHUNKED + b'2;a="' + b"x" * 1_000_000, 400),
    "many extensions": (CHUNKED + b"2;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n{}\r\n" * 10_000, 400),
    "chunks of one byte": (MANY, 400),
    "trailers without end": (in_chunks(ANY, end=b"0\r\n" + b"a: b\r\n" * 200_000), 400),
    "a long trailer": (in_chunks(ANY, end=b"0\r\na: " + b"x" * 1_000_000), 400),
    "a length among the trailers": (in_chunks(ANY, end=b"0\r\ncontent-length: 5\r\n\r\n"), 400),
}


async def test_it_is_refused_with_a_body_and_closed(
    upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    async def check(case: tuple[bytes, int]) -> None:
        data, status = case
        async with connected(url) as client:
            sending = asyncio.ensure_future(client.send(data))
            answered, headers, body = await client.answer()
            assert answered == status
            assert headers["connection"] == "close"
            error = json.loads(body)["error"]
            assert set(error) == {"message", "type", "param", "code"}
            assert error["type"] == "invalid_request_error"
            assert await client.rest() == b""
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            async with connected(url) as other:
                await other.send(HEALTH)
                assert (await other.answer())[0] == 200

    async with upstream.service() as url:
        await each(REFUSED, check)
    assert upstream.calls == []
    assert not [one for one in caplog.records if one.levelno > logging.WARNING]
    # most are no exchange, and leave one line for all of them
    assert len([one for one in caplog.records if "a client's request gets" in one.message]) == 1


FINE = {
    "with a length": with_length(),
    "one chunk": in_chunks(ANY),
    "small chunks": in_chunks(*(ANY[at : at + 5] for at in range(0, len(ANY), 5))),
    "few chunks of one byte": in_chunks(*(bytes([byte]) for byte in ANY)),
    "many small chunks": in_chunks(ANY[:-1], *[b" " * 16] * 20_000, b"}"),
    "an extension": CHUNKED + b'1a;a=b;c="d"\r\n' + ANY + b"\r\n0\r\n\r\n",
    "a trailer": in_chunks(ANY, end=b"0\r\nx-checksum: 1\r\n\r\n"),
    "zeros before a size": CHUNKED + b"0001a\r\n" + ANY + b"\r\n0\r\n\r\n",
    "an empty host": with_length().replace(b"host: a", b"host:"),
    "a host with a port": with_length().replace(b"host: a", b"host: [::1]:8080"),
    "a whole url": with_length().replace(b"POST /v1", b"POST http://a/v1"),
    "another offer": with_length(b"connection: upgrade", b"upgrade: h2c"),
    "blank lines before": b"\r\n\r\n" + with_length(),
}


async def test_it_is_served(upstream: ScriptedUpstream) -> None:
    async def check(data: bytes) -> None:
        async with connected(url) as client:
            for _ in range(2):
                await client.send(data)
                status, _, body = await client.answer()
                assert status == 200
                assert json.loads(body)["status"] == "completed"

    async with upstream.service() as url:
        await each(FINE, check)
    assert len(upstream.calls) == 2 * len(FINE)


async def test_a_broken_body_is_logged_as_its_client_s_fault(
    upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="translator")
    async with upstream.service() as url, connected(url) as client:
        await client.send(CHUNKED + b"xyz\r\n")
        assert (await client.answer())[0] == 400
        await client.rest()
    [line] = [one.getMessage() for one in caplog.records if "POST" in one.getMessage()]
    assert line.startswith("POST /v1/responses 400 ")


async def test_a_broken_body_that_nobody_reads_gets_no_second_response(
    upstream: ScriptedUpstream,
) -> None:
    head = b"POST /nowhere HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
    async with upstream.service() as url, connected(url) as client:
        await client.send(head)
        assert (await client.answer())[0] == 404
        await client.send(b"xyz\r\n")
        assert await client.rest() == b""


async def test_of_pipelined_requests_those_before_a_broken_one_are_answered(
    upstream: ScriptedUpstream,
) -> None:
    async with upstream.service() as url, connected(url) as client:
        await client.send(with_length() + with_length() + CHUNKED + b"xyz\r\n" + with_length())
        statuses = [(await client.answer())[0] for _ in range(3)]
        assert statuses == [200, 200, 400]
        assert await client.rest() == b""
    assert len(upstream.calls) == 2


async def test_a_trailer_is_no_header(upstream: ScriptedUpstream) -> None:
    end = b"0\r\nauthorization: Bearer x\r\nx-request-id: mine\r\n\r\n"
    async with upstream.service() as url, connected(url) as client:
        head = in_chunks(ANY, end=b"")
        await client.send(head)
        await asyncio.sleep(0.05)
        await client.send(end)
        assert (await client.answer())[0] == 200
    [call] = upstream.calls
    assert "authorization" not in call.headers
    assert call.headers["x-request-id"] != "mine"


# --- HTTP/1.0 -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("lines", [b"", b"connection: keep-alive\r\n"])
@pytest.mark.parametrize("path", ["/v1/responses", "/v1/chat/completions"])
async def test_a_stream_over_http_1_0_ends_with_its_connection(
    upstream: ScriptedUpstream, path: str, lines: bytes
) -> None:
    async def script(call: Call) -> None:
        await call.head()
        for chunk in HELLO:
            await call.send(chunk)
            await asyncio.sleep(0.01)
        await call.end()

    upstream.script = script
    body = json.dumps({**ASK, "messages": [{"role": "user", "content": "Hi"}]}).encode()
    head = b"POST %b HTTP/1.0\r\n%bcontent-length: %d\r\n\r\n" % (path.encode(), lines, len(body))
    async with upstream.service() as url, connected(url) as client:
        await client.send(head + body)
        answer = await client.rest()
    head, _, stream = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
    if path.endswith("responses"):
        assert events(stream)[-1]["type"] == "response.completed"
    else:
        assert stream == b"".join(HELLO)


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
async def test_a_whole_response_over_http_1_0_has_its_length(
    upstream: ScriptedUpstream, method: bytes
) -> None:
    async with upstream.service() as url, connected(url) as client:
        await client.send(method + b" /healthz HTTP/1.0\r\n\r\n")
        answer = await client.rest()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-length: 15\r\n" in head
    assert b"connection: close" in head
    assert body == (b'{"status":"ok"}' if method == b"GET" else b"")


async def test_a_stream_over_http_1_0_that_is_cut_has_no_end(upstream: ScriptedUpstream) -> None:
    """What the client sees is the failure within the stream."""

    async def script(call: Call) -> None:
        await call.head()
        await call.send(*HELLO[:2])
        await call.cut(HELLO[2])

    upstream.script = script
    head = b"POST /v1/responses HTTP/1.0\r\ncontent-length: %d\r\n\r\n" % len(BODY)
    async with upstream.service() as url, connected(url) as client:
        await client.send(head + BODY)
        stream = (await bounded(client.reader.read())).partition(b"\r\n\r\n")[2]
    assert events(stream)[-1]["type"] == "response.failed"
