"""What goes wrong before an answer begins is an HTTP error in OpenAI's envelope."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.types import Message, Scope

from translator.service.http.app import create_app

from .responses_api import ASK_WHOLE
from .wire import (
    BOUND_S,
    MODELS,
    Call,
    ScriptedUpstream,
    bounded,
    client_of,
    make_settings,
    serving,
)

pytestmark = pytest.mark.anyio


def error_of(answer: httpx.Response) -> dict[str, Any]:
    """The error in an answer, which must be the whole envelope with all four keys."""
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert isinstance(body["error"]["message"], str)
    found: dict[str, Any] = body["error"]
    return found


async def test_an_unknown_path_is_a_404() -> None:
    async with client_of(make_settings("http://up.test")) as client:
        for path in ("/", "/v1", "/v1/nonsense", "/v2/nonsense"):
            answer = await client.post(path)
            assert answer.status_code == 404
            assert error_of(answer) == {
                "message": f"Unknown path: POST {path}.",
                "type": "invalid_request_error",
                "param": None,
                "code": "unknown_path",
            }


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/responses", "POST"),
        ("DELETE", "/responses", "POST"),
        ("PUT", "/v1/chat/completions", "POST"),
        ("POST", "/v1/models", "GET"),
        ("POST", "/v1/models/a/b", "GET"),
        ("POST", "/healthz", "GET"),
    ],
)
async def test_a_wrong_method_is_a_405_that_says_the_right_one(
    method: str, path: str, allow: str
) -> None:
    async with client_of(make_settings("http://up.test")) as client:
        answer = await client.request(method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == allow
    assert error_of(answer)["message"] == f"{method} is not allowed on {path}; allowed: {allow}."


async def test_the_process_is_up() -> None:
    async with client_of(make_settings("http://up.test")) as client:
        answer = await client.get("/healthz")
        assert (await client.head("/healthz")).status_code == 200
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert answer.headers["x-request-id"].startswith("req_")


async def test_a_request_id_is_taken_when_it_is_sane() -> None:
    given = "01a206f5-0692:7d11_a2e0.64"
    async with client_of(make_settings("http://up.test")) as client:
        kept = await client.get("/healthz", headers={"x-request-id": given})
        assert kept.headers["x-request-id"] == given
        for odd in (b"", b"a b", b"x" * 129, b"\xe9", b'"'):
            answer = await client.get("/nothing", headers=[(b"x-request-id", odd)])
            assert answer.headers["x-request-id"].startswith("req_")
            assert len(answer.headers["x-request-id"]) >= len("req_") + 24


async def test_codex_is_told_at_once_that_there_is_no_websocket() -> None:
    """426 is the answer on which it goes on with HTTP without trying again."""
    upgrade = {
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
        "sec-websocket-version": "13",
    }
    async with (
        serving(make_settings("http://up.test", websocket=False)) as url,
        httpx.AsyncClient(timeout=BOUND_S) as client,
    ):
        answer = await client.get(f"{url}/v1/responses", headers=upgrade)
        assert answer.status_code == 426
        assert "WebSocket" in error_of(answer)["message"]
        assert (await client.get(f"{url}/healthz")).status_code == 200


@pytest.mark.parametrize("answerable", [True, False])
async def test_a_server_with_a_websocket_library_refuses_too(answerable: bool) -> None:
    scope: Scope = {
        "type": "websocket",
        "path": "/v1/responses",
        "headers": [(b"upgrade", b"websocket")],
        "extensions": {"websocket.http.response": {}} if answerable else {},
    }
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await create_app(make_settings("http://up.test", websocket=False))(scope, receive, send)
    if answerable:
        assert [message["type"] for message in sent] == [
            "websocket.http.response.start",
            "websocket.http.response.body",
        ]
        assert sent[0]["status"] == 426
        assert b"WebSocket" in sent[1]["body"]
    else:
        assert sent == [{"type": "websocket.close"}]


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/chat/completions"])
async def test_a_body_over_the_limit_is_a_413(path: str) -> None:
    settings = make_settings("http://up.test", max_body_bytes=1000)

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 100

    async with client_of(settings) as client:
        for content in (b"x" * 1001, endless()):
            answer = await client.post(path, content=content)
            assert answer.status_code == 413
            assert error_of(answer) == {
                "message": "The request body is over 1000 bytes.",
                "type": "invalid_request_error",
                "param": None,
                "code": "request_too_large",
            }


async def test_a_body_in_an_unknown_coding_is_a_415() -> None:
    async with client_of(make_settings("http://up.test")) as client:
        answer = await client.post(
            "/v1/responses", content=b"x", headers={"content-encoding": "compress"}
        )
    assert answer.status_code == 415
    assert "'compress'" in error_of(answer)["message"]


async def test_a_body_that_does_not_arrive_is_a_408(upstream: ScriptedUpstream) -> None:
    async with upstream.service(client_timeout_s=0.05) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /v1/responses HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc")
        status = await bounded(reader.readline())
        writer.close()
    assert status.startswith(b"HTTP/1.1 408 ")
    assert upstream.calls == []


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/chat/completions"])
async def test_more_requests_than_allowed_are_a_503(upstream: ScriptedUpstream, path: str) -> None:
    arrived, go = asyncio.Event(), asyncio.Event()

    async def script(call: Call) -> None:
        arrived.set()
        await bounded(go.wait())
        await call.answer({"error": "done"}, 400)

    upstream.script = script
    async with upstream.client(max_concurrent_requests=1) as client:
        first = asyncio.create_task(client.post(path, json=ASK_WHOLE))
        await bounded(arrived.wait())
        second = await client.post(path, json=ASK_WHOLE)
        assert (await client.get("/healthz")).status_code == 200
        go.set()
        assert (await first).status_code == 400
        third = await client.post(path, json=ASK_WHOLE)
    assert second.status_code == 503
    assert second.headers["retry-after"] == "1"
    assert error_of(second) == {
        "message": "1 requests are being answered already; try again in 1s.",
        "type": "service_unavailable_error",
        "param": None,
        "code": "server_is_overloaded",
    }
    assert third.status_code == 400


def refusing_port() -> int:
    """A port of this machine where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/chat/completions"])
@pytest.mark.parametrize("stream", [True, False])
async def test_an_upstream_that_is_not_there_is_a_502(path: str, stream: bool) -> None:
    address = f"http://127.0.0.1:{refusing_port()}/v1"
    async with client_of(make_settings(address, key="operator-key")) as client:
        answer = await client.post(path, json=ASK_WHOLE | {"stream": stream})
    assert answer.status_code == 502
    assert error_of(answer) == {
        "message": "The upstream could not be reached.",
        "type": "server_error",
        "param": None,
        "code": "upstream_error",
    }


@pytest.mark.parametrize(
    ("fault", "status", "code", "message"),
    [
        (
            httpx.ConnectTimeout,
            504,
            "upstream_timeout",
            "The upstream could not be connected to in time.",
        ),
        (
            httpx.ReadTimeout,
            504,
            "upstream_timeout",
            "The upstream fell silent before it answered.",
        ),
        (
            httpx.RemoteProtocolError,
            502,
            "upstream_error",
            "The upstream closed the connection before it answered.",
        ),
        (
            httpx.ReadError,
            502,
            "upstream_error",
            "The connection to the upstream broke before it answered.",
        ),
        (
            httpx.ProxyError,
            502,
            "upstream_error",
            "The proxy in front of the upstream refused.",
        ),
        (
            httpx.UnsupportedProtocol,
            502,
            "upstream_error",
            "The upstream could not be called.",
        ),
    ],
)
async def test_each_fault_of_the_network_has_a_status_and_a_sentence(
    fault: type[httpx.TransportError], status: int, code: str, message: str
) -> None:
    def broken(request: httpx.Request) -> httpx.Response:
        raise fault("x")

    settings = make_settings("http://up.test/v1")
    async with client_of(settings, transport=httpx.MockTransport(broken)) as client:
        answer = await client.post("/v1/responses", json=ASK_WHOLE)
    assert answer.status_code == status
    assert error_of(answer) == {
        "message": message,
        "type": "server_error",
        "param": None,
        "code": code,
    }


async def test_an_upstream_that_stays_silent_is_a_504(upstream: ScriptedUpstream) -> None:
    async def script(call: Call) -> None:
        await bounded(call.gone())

    upstream.script = script
    async with upstream.client(read_timeout_s=0.05) as client:
        answer = await client.post("/v1/responses", json=ASK_WHOLE)
    assert answer.status_code == 504
    assert error_of(answer)["code"] == "upstream_timeout"


async def test_a_fault_of_our_own_is_a_500_and_says_nothing_of_its_cause(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(request: httpx.Request) -> httpx.Response:
        raise KeyError("secret detail")

    settings = make_settings("http://up.test/v1")
    async with client_of(settings, transport=httpx.MockTransport(broken)) as client:
        answer = await client.post("/v1/responses", json=ASK_WHOLE)
    assert answer.status_code == 500
    assert error_of(answer) == {
        "message": "The translator failed.",
        "type": "server_error",
        "param": None,
        "code": "server_error",
    }
    assert "secret detail" in caplog.text


async def test_each_exchange_is_one_line_without_secrets(
    upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="translator")
    times = iter([1_700_000_000.0, 1.0, 1.5, *[2.0] * 20])
    settings = make_settings(upstream.url, models=MODELS, key="operator-key")
    async with client_of(settings, clock=lambda: next(times)) as client:
        await client.get("/v1/models/a%0Ab c", headers={"authorization": "Bearer client-key"})
        await client.post(
            "/v1/chat/completions",
            json={"model": "small"},
            headers={"authorization": "Bearer client-key", "x-request-id": "r1"},
        )
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert lines[0].startswith(r"GET '/v1/models/a\nb c' 404 500ms outcome=unknown_path id=req_")
    assert lines[1] == "POST /v1/chat/completions 200 0ms model=small dialect=base id=r1"
    assert "key" not in caplog.text


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("route", ["/v1/responses", "/v1/chat/completions"])
@pytest.mark.parametrize("padding", [0, 300_000], ids=["small", "large"])
async def test_a_key_beyond_ascii_is_the_clients_mistake(
    upstream: ScriptedUpstream, route: str, stream: bool, padding: int
) -> None:
    """No upstream could read it; small and large bodies take two ways to it."""
    body = {"model": "small", "stream": stream, "input": "x" * padding, "messages": []}
    headers = {"authorization": "Bearer sk-é".encode("latin-1")}
    async with upstream.client(models=MODELS) as client:
        answer = await client.post(route, json=body, headers=headers)
    assert (answer.status_code, upstream.calls) == (401, [])
    assert answer.json()["error"] == {
        "message": "Incorrect API key provided: it has characters beyond ASCII.",
        "type": "invalid_request_error",
        "param": None,
        "code": "invalid_api_key",
    }


async def test_a_large_request_that_is_refused_without_a_word_is_too_long(
    upstream: ScriptedUpstream,
) -> None:
    """Cerebras answers an overflow of its context with an empty 413; a small request got none."""

    async def script(call: Call) -> None:
        await call.answer(b"", 413)

    upstream.script = script
    told: list[str] = []
    async with upstream.client(upstream={"dialect": "cerebras"}) as client:
        for text in ("Hello", "word " * 10_000):
            answer = await client.post("/v1/responses", json={"model": "m", "input": text})
            told.append(answer.json()["error"]["code"])
    assert told[1] == "context_length_exceeded"
    assert told[0] != "context_length_exceeded"
