"""Security: no leaked secrets, fetched URLs, forged headers or decompression bombs."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from translator.service.base.keys import new_key, store
from translator.service.config.loading import read_table
from translator.service.config.settings import Settings

from .chat_bodies import HELLO
from .responses_api import ASK_WHOLE, events
from .wire import BOUND_S, Call, ScriptedUpstream, bounded, serving

pytestmark = pytest.mark.anyio

RESPONSES = "/v1/responses"
CHAT = "/v1/chat/completions"
ASK_CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}

OPERATORS = "planted-operators-key"
TENANT = "planted-tenant-header"
CLIENTS = new_key()
COOKIE = "planted-cookie"
SAID = "planted-words-of-the-user"
PLANTED = (OPERATORS, TENANT, CLIENTS, COOKIE, SAID)


def secretive(url: str, *, clients: bool = True, **server: Any) -> Settings:
    """Settings with a secret in each place that may hold one."""
    up = {"base_url": url, "api_key_env": "UP_KEY", "headers": {"x-tenant": TENANT}}
    table: dict[str, Any] = {"server": server, "upstreams": {"up": up}}
    if clients:
        table["clients"] = {"alice": {"keys": [str(store(CLIENTS))]}}
    return read_table(table, {"UP_KEY": OPERATORS})


# --- secrets --------------------------------------------------------------------------------------


async def refuse(call: Call) -> None:
    await call.answer({"error": {"message": "no such model"}}, 404)


async def refuse_the_key(call: Call) -> None:
    await call.answer({"error": {"message": f"Incorrect API key provided: {OPERATORS}"}}, 401)


async def drop(call: Call) -> None:
    call.drop()


async def cut(call: Call) -> None:
    await call.head()
    await call.send(HELLO[0])
    await call.cut(HELLO[1])


async def nonsense(call: Call) -> None:
    await call.answer(b"<html>", 500, "text/html")


async def redirect(call: Call) -> None:
    await call.answer(b"", 307, headers={"location": f"http://127.0.0.1:9/?key={OPERATORS}"})


SCRIPTS = (refuse, refuse_the_key, drop, cut, nonsense, redirect)


@pytest.mark.parametrize("script", SCRIPTS, ids=[script.__name__ for script in SCRIPTS])
async def test_no_secret_is_in_a_log_or_an_answer(
    upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture, script: Any
) -> None:
    """In no failure and at no log level; nor is the conversation logged."""
    caplog.set_level(logging.DEBUG)
    upstream.script = script
    headers = {"authorization": f"Bearer {CLIENTS}", "cookie": COOKIE}
    seen: list[str] = []
    async with (
        serving(secretive(upstream.url)) as url,
        httpx.AsyncClient(base_url=url, timeout=BOUND_S) as client,
    ):
        for path, body in (
            (RESPONSES, ASK_WHOLE | {"input": SAID, "temperature": 9}),
            (RESPONSES, ASK_WHOLE | {"input": SAID, "stream": True}),
            (RESPONSES, {"input": [{"role": "user", "content": {"x": SAID}}], "model": "m"}),
            (CHAT, ASK_CHAT | {"user": SAID}),
            (RESPONSES, ASK_WHOLE | {"previous_response_id": "r"}),
        ):
            with suppress(httpx.RemoteProtocolError):  # an answer that was cut
                answer = await client.post(path, json=body, headers=headers)
                seen.append(f"{answer.headers}\n{answer.text}")
        wrong = {"authorization": f"Bearer {CLIENTS}x", "x-api-key": CLIENTS}
        answer = await client.post(RESPONSES, json=ASK_WHOLE, headers=wrong)
        seen.append(f"{answer.headers}\n{answer.text}")
        page = await client.get("/metrics", headers=headers)
        seen.append(page.text)
    assert upstream.calls
    assert all(call.headers["authorization"] == f"Bearer {OPERATORS}" for call in upstream.calls)
    own = [record for record in caplog.records if record.name.startswith("translator")]
    assert own
    logged = "\n".join(logging.Formatter().format(record) for record in caplog.records)
    for secret in PLANTED:
        assert secret not in logged, secret
        assert not [text for text in seen if secret in text], secret


def test_settings_do_not_show_their_secrets() -> None:
    shown = repr(secretive("http://up.test/v1"))
    assert not [secret for secret in PLANTED if secret in shown]


# --- what travels ---------------------------------------------------------------------------------

FORBIDDEN = {
    "connection": "keep-alive, x-hop",
    "keep-alive": "timeout=9",
    "te": "trailers",
    "trailer": "x-t",
    "proxy-authorization": "Basic x",
    "proxy-connection": "keep-alive",
    "x-hop": "hop",
    "cookie": COOKIE,
    "host": "evil.test",
    "x-forwarded-for": "10.0.0.1",
    "forwarded": "for=10.0.0.1",
    "x-tenant": "forged",
    "x-api-key": "forged",
    "openai-organization": "org",
    "content-type": "application/json; charset=forged",
    "user-agent": "forged",
    "accept-encoding": "gzip",
    "expect": "100-continue",
}


@pytest.mark.parametrize(("path", "body"), [(RESPONSES, ASK_WHOLE), (CHAT, ASK_CHAT)])
async def test_only_listed_headers_of_a_client_are_sent_upstream(
    upstream: ScriptedUpstream, path: str, body: dict[str, Any]
) -> None:
    async with serving(secretive(upstream.url, clients=False)) as url, httpx.AsyncClient() as http:
        answer = await http.post(url + path, json=body, headers=FORBIDDEN)
        assert answer.status_code == 200
    [call] = upstream.calls
    assert call.headers["host"] in upstream.url
    assert call.headers["x-tenant"] == TENANT
    assert call.headers["content-type"] == "application/json"
    assert call.headers["accept-encoding"] == "identity"
    passed = {name for name, value in FORBIDDEN.items() if call.headers.get(name) == value}
    assert passed == set()
    assert "evil.test" not in json.dumps(call.headers)


async def test_only_listed_headers_of_an_upstream_reach_a_client(
    upstream: ScriptedUpstream,
) -> None:
    """Neither hop-by-hop headers, nor cookies, nor those that a browser obeys."""
    odd = {
        "set-cookie": "a=b",
        "server": "odd",
        "x-internal": "odd",
        "access-control-allow-origin": "*",
        "content-security-policy": "odd",
        "upgrade": "h2c",
        "proxy-authenticate": "odd",
        "www-authenticate": "odd",
        "location": "http://odd.test",
        "x-ratelimit-remaining-requests": "7",
    }

    async def script(call: Call) -> None:
        await call.answer({"choices": []}, headers=odd)

    upstream.script = script
    async with upstream.client() as client:
        answer = await client.post(CHAT, json=ASK_CHAT)
    assert answer.status_code == 200
    assert {name for name in odd if name in answer.headers} == {"x-ratelimit-remaining-requests"}


# --- header injection, response splitting -----------------------------------------------------------


async def raw(url: str, request: bytes) -> bytes:
    """The response to these bytes."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(request)
        await writer.drain()
        return await bounded(reader.read())
    finally:
        writer.close()


SPLIT = "a\r\nx-injected: 1\r\n\r\nHTTP/1.1 200 OK"


@pytest.mark.parametrize("name", ["x-request-id", "origin", "authorization", "traceparent"])
@pytest.mark.parametrize(
    "value", [b"a\x00b", b"a\rx-injected: 1", b"a\nx-injected: 1", b"\xff\xfe"]
)
async def test_a_forged_header_is_no_header(
    upstream: ScriptedUpstream, name: str, value: bytes
) -> None:
    """It is refused or stays part of a value; it is never a header, here or upstream."""
    body = json.dumps(ASK_WHOLE).encode()
    head = b"POST /v1/responses HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json\r\n"
    lines = b"Content-Length: %d\r\n%b: %b\r\n\r\n" % (len(body), name.encode(), value)
    async with upstream.service(cors_origins=["*"]) as url:
        answer = await raw(url, head + lines + body)
    assert answer.startswith(b"HTTP/1.1 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    for line in answer.partition(b"\r\n\r\n")[0].split(b"\r\n"):
        assert not line.startswith(b"x-injected")
    for call in upstream.calls:
        assert "x-injected" not in call.headers


@pytest.mark.parametrize("model", [SPLIT, "a\nb", "a\x00b", "é" * 300, "\u2028"])
async def test_no_request_can_split_a_response(
    upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture, model: str
) -> None:
    """Model ids appear in errors, logs and paths, each of which stays one line."""
    caplog.set_level(logging.INFO, "translator")
    table = {"known": {"upstream": "up"}}
    async with upstream.service(models=table) as url:
        async with httpx.AsyncClient() as http:
            answer = await http.post(url + RESPONSES, json=ASK_WHOLE | {"model": model})
            entry = await http.get(f"{url}/v1/models/{quote(model, safe='')}")
    assert (answer.status_code, entry.status_code) == (404, 404)
    assert answer.json()["error"]["code"] == "model_not_found"
    for one in (answer, entry):
        assert "x-injected" not in one.headers
    for record in caplog.records:
        assert "\n" not in record.getMessage()
        assert "\r" not in record.getMessage()


@pytest.mark.parametrize("name", ["x-ratelimit-remaining-requests", "retry-after", "content-type"])
async def test_an_upstream_cannot_split_a_response(upstream: ScriptedUpstream, name: str) -> None:
    """Each of its headers that is passed on stays one line."""

    async def script(call: Call) -> None:
        await call.answer({"choices": []}, headers={name: "1\n x-injected: 1"})

    upstream.script = script
    async with upstream.service() as url, httpx.AsyncClient() as http:
        answer = await http.post(url + CHAT, json=ASK_CHAT)
    assert "x-injected" not in answer.headers


# --- URLs in requests -----------------------------------------------------------------------------


@asynccontextmanager
async def listener() -> AsyncIterator[tuple[str, list[bytes]]]:
    """An unrelated server: the URL of a file on it, and the requests that it received."""
    asked: list[bytes] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(b"connected")
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/secret.png", asked
    finally:
        server.close()


async def test_urls_in_requests_are_never_fetched(upstream: ScriptedUpstream) -> None:
    """They are passed to the upstream, or dropped."""
    async with listener() as (url, asked), upstream.client() as client:
        parts: list[dict[str, Any]] = [
            {"type": "input_image", "image_url": url},
            {"type": "input_file", "file_url": url, "filename": "a.pdf"},
            {"type": "input_image", "image_url": url, "detail": "high"},
        ]
        tool: dict[str, Any] = {
            "type": "mcp",
            "server_label": "x",
            "server_url": url,
            "require_approval": "never",
        }
        called: list[dict[str, Any]] = [
            {"role": "user", "content": url},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": parts[:1]},
        ]
        requests: list[dict[str, Any]] = [
            *(ASK_WHOLE | {"input": [{"role": "user", "content": [part]}]} for part in parts),
            ASK_WHOLE | {"tools": [tool]},
            ASK_WHOLE | {"input": called},
            ASK_WHOLE | {"instructions": url, "metadata": {"url": url}},
        ]
        answers = [await client.post(RESPONSES, json=request) for request in requests]
        chat = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]
        answers.append(await client.post(CHAT, json=ASK_CHAT | {"messages": chat}))
    assert {answer.status_code for answer in answers} <= {200, 400}
    assert answers[0].status_code == answers[-1].status_code == 200
    assert asked == []
    assert url.encode() in upstream.calls[0].body  # it did travel


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_of_an_upstream_are_not_followed(
    upstream: ScriptedUpstream, status: int
) -> None:
    async with listener() as (url, asked):

        async def script(call: Call) -> None:
            await call.answer(b"", status, headers={"location": url})

        upstream.script = script
        async with upstream.client(key="k") as client:
            for path, body in ((RESPONSES, ASK_WHOLE), (CHAT, ASK_CHAT)):
                assert (await client.post(path, json=body)).status_code == 502
    assert asked == []


# --- bombs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["compress", "gzip, dcz", "*", "gzip;q=1", "x" * 5000])
@pytest.mark.parametrize("path", [RESPONSES, CHAT, "/v1/responses/compact"])
async def test_a_request_in_an_unknown_coding_is_not_decompressed(
    upstream: ScriptedUpstream, path: str, encoding: str
) -> None:
    body = gzip.compress(json.dumps(ASK_WHOLE).encode())
    async with upstream.client() as client:
        answer = await client.post(path, content=body, headers={"content-encoding": encoding})
    assert answer.status_code == 415
    assert answer.headers["accept-encoding"] == "zstd, br, gzip, deflate"
    assert upstream.calls == []


def bomb(size: int) -> bytes:
    """A gzip body of `size` bytes of SSE comments, compressed a thousandfold."""
    packer = zlib.compressobj(wbits=31)
    blank = b": keep-alive\n" * 8192
    packed = [packer.compress(blank) for _ in range(size // len(blank))]
    return b"".join([*packed, packer.flush()])


@pytest.mark.parametrize("stream", [True, False])
async def test_a_decompression_bomb_is_not_held(upstream: ScriptedUpstream, stream: bool) -> None:
    """It is decompressed in chunks, and comments are dropped at once."""
    packed = bomb(32 * 1024 * 1024)
    assert len(packed) < 400_000

    async def script(call: Call) -> None:
        await call.answer(packed, 200, "text/event-stream", {"content-encoding": "gzip"})

    upstream.script = script
    async with upstream.client(max_answer_bytes=8 * 1024 * 1024) as client:
        tracemalloc.start()
        try:
            answer = await client.post(RESPONSES, json=ASK_WHOLE | {"stream": stream})
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    if answer.status_code == 200:  # it took so long that the answer had to begin
        assert events(answer.content)[-1]["type"] == "response.failed"
    else:
        assert answer.status_code == 502
    assert len(answer.content) < 10_000
    assert peak < 24 * 1024 * 1024


async def test_a_decompression_bomb_in_an_error_is_not_held(upstream: ScriptedUpstream) -> None:
    packed = bomb(32 * 1024 * 1024)

    async def script(call: Call) -> None:
        await call.answer(packed, 400, headers={"content-encoding": "gzip"})

    upstream.script = script
    async with upstream.client() as client:
        tracemalloc.start()
        try:
            answer = await client.post(RESPONSES, json=ASK_WHOLE)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert answer.status_code == 400
    assert peak < 16 * 1024 * 1024
