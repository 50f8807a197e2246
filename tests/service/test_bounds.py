"""What one request may hold: each bound is a clear error, and the next request is served."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from .chat_bodies import HELLO
from .wire import Call, ScriptedUpstream, bounded

pytestmark = pytest.mark.anyio

RESPONSES = "/v1/responses"
CHAT = "/v1/chat/completions"
USER = {"role": "user", "content": "Hi"}
TOOL: dict[str, Any] = {"type": "function", "name": "f", "parameters": {}}


@pytest.mark.parametrize(
    ("path", "field", "value"),
    [
        (RESPONSES, "input", [USER] * 4),
        (RESPONSES, "tools", [TOOL] * 3),
        ("/v1/responses/compact", "input", [USER] * 4),
        (CHAT, "messages", [USER] * 4),
        (CHAT, "tools", [{"type": "function", "function": {"name": "f"}}] * 3),
    ],
)
async def test_the_number_of_items_and_tools_is_bounded(
    upstream: ScriptedUpstream, path: str, field: str, value: list[Any]
) -> None:
    asked: dict[str, Any] = {"model": "m", "input": "Hi"}
    if path == CHAT:
        asked = {"model": "m", "messages": [USER]}
    async with upstream.client(max_input_items=3, max_tools=2) as client:
        refused = await client.post(path, json=asked | {field: value})
        assert refused.status_code == 400
        error = refused.json()["error"]
        assert (error["param"], error["code"]) == (field, "array_above_max_length")
        assert upstream.calls == []
        if "compact" not in path:  # which brings an item of its own
            assert (await client.post(path, json=asked | {field: value[:-1]})).status_code == 200


async def test_a_conversation_s_earlier_items_count(upstream: ScriptedUpstream) -> None:
    from websockets.asyncio.client import connect

    async with upstream.service(max_input_items=3) as url:
        async with connect(url.replace("http", "ws") + RESPONSES, proxy=None) as socket:
            ask: dict[str, Any] = {"type": "response.create", "model": "m", "input": [USER]}
            for expected in ("response.completed", "response.completed", "error"):
                await socket.send(json.dumps(ask))
                last: dict[str, Any] = {}
                while last.get("type") not in ("response.completed", "error"):
                    last = json.loads(await bounded(socket.recv()))
                assert last["type"] == expected
                if expected != "error":
                    ask["previous_response_id"] = last["response"]["id"]
    assert last["error"]["code"] == "array_above_max_length"
    assert len(upstream.calls) == 2


DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","input":"h","tool_choice":' + DEEP + b"}",
        b'{"model":"m","input":[{"type":"shell_call","call_id":"c","action":' + DEEP + b"}]}",
        b'{"model":"m","input":"h","tools":[{"type":"function","name":"f","parameters":' + DEEP + b"}]}",
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", [RESPONSES, "/v1/responses/compact", CHAT])
async def test_json_that_is_nested_without_end_is_a_400(
    upstream: ScriptedUpstream, path: str, body: bytes
) -> None:
    async with upstream.client() as client:
        refused = await client.post(path, content=body)
        assert refused.status_code == 400
        error = refused.json()["error"]
        assert error["type"] == "invalid_request_error"
        assert "nested too deeply" in error["message"]
    assert upstream.calls == []


# --- headers --------------------------------------------------------------------------------------


async def spoken(url: str, *pieces: bytes) -> bytes:
    """What the service answers to these bytes before it closes the connection."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        for piece in pieces:
            writer.write(piece)
            await bounded(writer.drain())
            await asyncio.sleep(0.01 if len(pieces) < 5 else 0)  # so that it is a read of its own
        return await bounded(reader.read())
    finally:
        writer.close()


LARGE = b"x" * 5000


@pytest.mark.parametrize(
    "pieces",
    [
        [b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-A: " + LARGE + b"\r\n\r\n"],
        [b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-A: " + LARGE],
        [b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-A: ", *[b"x" * 500] * 20],
        [b"GET /healthz HTTP/1.1\r\nHost: a\r\n", *[b"X-%d: y\r\n" % n for n in range(1000)]],
        [b"GET /healthz?" + LARGE + b" HTTP/1.1\r\nHost: a\r\n\r\n"],
        [b"GET /" + LARGE],
        [b"GET / HTTP/1.1\r\n" + LARGE],
    ],
    ids=["whole", "unfinished", "in pieces", "many", "query", "path", "name"],
)
async def test_a_header_is_bounded(upstream: ScriptedUpstream, pieces: list[bytes]) -> None:
    async with upstream.service(max_header_bytes=4096) as url:
        answer = await spoken(url, *pieces)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 431 ")
        assert b"connection: close" in head
        error = json.loads(body)["error"]
        assert error["code"] == "header_too_large"
        assert error["message"] == "The request's header is over 4096 bytes."
        fine = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-A: " + b"x" * 3000
        assert b'{"status":"ok"}' in await spoken(url, fine + b"\r\n\r\n")


@pytest.mark.parametrize(
    "tail",
    [
        b"0\r\n" + b"X-T: y\r\n" * 2000,
        b"0\r\nX-T: " + LARGE + LARGE,
        b"5;" + LARGE + LARGE,
    ],
    ids=["many trailers", "a large one", "a chunk's extension"],
)
async def test_what_surrounds_a_body_is_bounded(upstream: ScriptedUpstream, tail: bytes) -> None:
    """The connection ends; an answer that was begun is not followed by a second one."""
    head = (
        b"POST /v1/responses HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"
    )
    async with upstream.service(max_header_bytes=4096) as url:
        answer = await spoken(url, head, tail[:5000], tail[5000:])
    assert answer.count(b"HTTP/1.1") <= 1
    assert upstream.calls == []


async def test_a_large_body_is_no_large_header(upstream: ScriptedUpstream) -> None:
    body = json.dumps({"model": "m", "input": "x" * 900_000}).encode()
    head = (
        b"POST /v1/responses HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    )
    async with upstream.service(max_header_bytes=1024) as url:
        answer = await spoken(url, head % len(body) + body)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert len(upstream.calls) == 1


async def test_many_requests_on_one_connection_are_not_one_header(
    upstream: ScriptedUpstream,
) -> None:
    one = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
    last = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    async with upstream.service(max_header_bytes=256) as url:
        answer = await spoken(url, *[one] * 20, last)
    assert answer.count(b'{"status":"ok"}') == 21


# --- concurrent requests, events of an upstream -----------------------------------------------------


async def test_one_request_too_many_at_once_is_told_when_to_come_back(
    upstream: ScriptedUpstream,
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def script(call: Call) -> None:
        begun.set()
        await bounded(go_on.wait())
        await call.head()
        await call.send(*HELLO)
        await call.end()

    upstream.script = script
    ask: dict[str, Any] = {"model": "m", "input": "Hi", "stream": True}
    async with upstream.client(max_concurrent_requests=1) as client:
        first = asyncio.create_task(client.post(RESPONSES, json=ask))
        await bounded(begun.wait())
        second = await client.post(RESPONSES, json=ask)
        go_on.set()
        assert (await first).status_code == 200
        assert (await client.post(RESPONSES, json=ask)).status_code == 200
    assert second.status_code == 503
    assert second.headers["retry-after"] == "1"
    assert second.json()["error"]["code"] == "server_is_overloaded"


async def test_an_event_without_end_is_cut_by_its_bound(upstream: ScriptedUpstream) -> None:
    """One that would be held whole, however small the pieces in which it comes."""

    async def script(call: Call) -> None:
        await call.head()
        await call.send(HELLO[0], b"data: ")
        for _ in range(40):
            await call.send(b"x" * 256 * 1024)
        await call.end()

    upstream.script = script
    async with upstream.client() as client:
        answer = await client.post(RESPONSES, json={"model": "m", "input": "Hi", "stream": True})
    text = answer.text
    assert "an event of more than 8388608 bytes" in text
    assert len(text) < 10_000
