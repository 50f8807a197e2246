"""Offers of another protocol are not heard; the request with which they come is answered."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Sequence

import httptools
import pytest

from .responses_api import ASK
from .wire import ScriptedUpstream, bounded, hello_then_silence

pytestmark = pytest.mark.anyio

BODY = json.dumps({"model": "m", "input": "Hi"}).encode()
JAVA = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"


def request(offer: bytes, body: bytes = BODY) -> bytes:
    head = b"POST /v1/responses HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%b\r\n"
    return head % (len(body), offer) + body


async def answers(base: str, pieces: Sequence[bytes], count: int) -> list[tuple[bytes, bytes]]:
    """The status line and the body of each answer on one connection."""
    host, _, port = base.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    found: list[tuple[bytes, bytes]] = []
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.02)  # so that most pieces are reads of their own
        for _ in range(count):
            status, *lines = (await bounded(reader.readuntil(b"\r\n\r\n"))).split(b"\r\n")
            [length] = [int(line[16:]) for line in lines if line.startswith(b"content-length: ")]
            found.append((status, await bounded(reader.readexactly(length))))
    finally:
        writer.close()
        await writer.wait_closed()
    return found


CUTS = {
    "whole": [request(JAVA)],
    "head, then body": [request(JAVA)[: -len(BODY)], BODY],
    "inside the head": [request(JAVA)[:60], request(JAVA)[60:]],
    "byte by byte in the offer": [
        request(JAVA)[:40],
        *(bytes([b]) for b in request(JAVA)[40:60]),
        request(JAVA)[60:],
    ],
    "inside the body": [request(JAVA)[:-3], request(JAVA)[-3:]],
}


@pytest.mark.parametrize("pieces", CUTS.values(), ids=CUTS)
async def test_a_request_that_offers_http2_is_answered(
    upstream: ScriptedUpstream, pieces: list[bytes]
) -> None:
    """As Java's client sends each one, wherever the network cuts it."""
    async with upstream.service() as base:
        [(status, body)] = await answers(base, pieces, 1)
    assert status == b"HTTP/1.1 200 OK"
    assert json.loads(body)["status"] == "completed"
    assert len(upstream.calls) == 1


async def test_the_connection_serves_the_next_request(upstream: ScriptedUpstream) -> None:
    async with upstream.service() as base:
        found = await answers(base, [request(JAVA), request(b""), request(JAVA)], 3)
    assert [status for status, _ in found] == [b"HTTP/1.1 200 OK"] * 3


async def test_what_else_the_connection_is_asked_for_is_heard(upstream: ScriptedUpstream) -> None:
    closing = request(JAVA.replace(b"Upgrade, ", b"close, Upgrade, "))
    async with upstream.service() as base:
        [(status, _)] = await answers(base, [closing], 1)
        assert status == b"HTTP/1.1 200 OK"
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await answers(base, [closing, request(b"")], 2)


async def test_other_offers_are_not_heard_either(upstream: ScriptedUpstream) -> None:
    offer = b"Connection: upgrade\r\nUpgrade: TLS/1.2\r\n"
    async with upstream.service() as base:
        [(status, _)] = await answers(base, [request(offer)], 1)
    assert status == b"HTTP/1.1 200 OK"


async def test_no_parser_is_held_while_a_response_comes(upstream: ScriptedUpstream) -> None:
    """Only while a request comes, each time on a connection that is used again."""

    def parsers() -> int:
        return sum(type(one) is httptools.HttpRequestParser for one in gc.get_objects())

    ask = request(b"", json.dumps(ASK).encode())
    async with upstream.service() as base:
        host, _, port = base.removeprefix("http://").partition(":")
        gc.collect()
        before = parsers()
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(ask)
        await bounded(reader.readuntil(b"[DONE]\n\n\r\n0\r\n\r\n"))
        assert parsers() == before
        upstream.script = hello_then_silence
        writer.write(ask[:-3])
        while parsers() == before:
            await bounded(asyncio.sleep(0.01))
        writer.write(ask[-3:])
        await bounded(reader.readuntil(b"output_text.delta"))
        assert parsers() == before
        writer.close()
