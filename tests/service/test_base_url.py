"""Base URLs without their path: told after the start, in /readyz, and in the upstream's own 404."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from translator.service.config.loading import read_options
from translator.service.upstreams import base_url as module
from translator.service.upstreams.base_url import path_hint
from translator.service.upstreams.health import UpstreamHealth
from translator.wire.errors import UpstreamError

from .wire import BOUND_S, client_of

pytestmark = pytest.mark.anyio

LIST = {"object": "list", "data": [{"id": "m"}]}
Reply = tuple[int, Any]


class Upstream:
    """An upstream with certain paths; all others get `other`."""

    def __init__(self, paths: dict[str, Reply], other: Reply = (404, "404 page not found")) -> None:
        self.paths = paths
        self.other = other
        self.asked: list[str] = []
        self.keys: set[str] = set()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.path)
        self.keys |= request.headers.keys() & {"authorization"}
        status, body = self.paths.get(request.url.path, self.other)
        if isinstance(body, str):
            return httpx.Response(status, text=body)
        return httpx.Response(status, json=body)


@pytest.fixture
def readiness(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Callable[..., Any]:
    """The body of /readyz, and the warnings, once the check is over."""
    monkeypatch.setattr(module, "CHECK_AFTER_S", 0.0)
    over = asyncio.Event()
    check = module.check_base_urls

    async def checking(*arguments: Any) -> None:
        try:
            await check(*arguments)
        finally:
            over.set()

    monkeypatch.setattr(module, "check_base_urls", checking)

    async def ask(url: str, upstream: Upstream) -> tuple[Any, list[str]]:
        settings = read_options(upstream=url, api_key_env="K", environ={"K": "sk-1"})
        transport = httpx.MockTransport(upstream)
        with caplog.at_level(logging.WARNING):
            async with client_of(settings, transport=transport) as client:
                if not settings.upstreams["upstream"].has_version:
                    async with asyncio.timeout(BOUND_S):
                        await over.wait()
                found = (await client.get("/readyz")).json()
        assert upstream.keys == set(), "no key is sent"
        return found, [record.getMessage() for record in caplog.records]

    return ask


@pytest.mark.parametrize(
    ("url", "paths", "other", "path"),
    [
        ("http://up.test", {"/v1/models": (200, LIST)}, (404, "404 page not found"), "/v1"),
        ("http://up.test", {"/v1/models": (401, {"error": "no key"})}, (404, "<html>"), "/v1"),
        ("http://up.test", {"/v1/models": (200, [{"id": "m"}])}, (200, "<html>"), "/v1"),
        ("http://up.test", {"/v1/models": (200, LIST)}, (200, {"error": "Unexpected"}), "/v1"),
        ("http://up.test/llm/", {"/llm/v1/models": (200, LIST)}, (404, ""), "/llm/v1"),
        ("http://up.test/api", {"/v1/models": (200, LIST)}, (404, ""), "/v1"),
        ("http://up.test", {"/api/v1/models": (200, LIST)}, (404, ""), "/api/v1"),
    ],
)
async def test_a_missing_path_is_found_after_the_start(
    readiness: Callable[..., Any], url: str, paths: dict[str, Reply], other: Reply, path: str
) -> None:
    found, warnings = await readiness(url, Upstream(paths, other))
    assert found["hints"] == {"upstream": f"base_url may have to end in {path}"}
    assert found["status"] == "ready"
    base = url.rstrip("/")
    assert warnings == [
        f"upstream upstream: nothing is at {base}/models, and models are at http://up.test{path}"
        f"/models: its base_url may have to end in {path}"
    ]


@pytest.mark.parametrize(
    ("url", "upstream", "asked"),
    [
        # a version in the path: nobody asks
        ("http://up.test/v1", Upstream({}), []),
        ("http://up.test/openai/v4", Upstream({}), []),
        # the list is where it should be, or needs a key, or the upstream is in trouble
        ("http://up.test", Upstream({"/models": (200, LIST)}), ["/models"]),
        ("http://up.test", Upstream({}, (401, {"error": "no key"})), ["/models"]),
        ("http://up.test", Upstream({}, (500, "")), ["/models"]),
        # no lists at all
        ("http://up.test", Upstream({}), ["/models", "/v1/models", "/api/v1/models"]),
        (
            "http://up.test",
            Upstream({}, (200, "<html>")),
            ["/models", "/v1/models", "/api/v1/models"],
        ),
    ],
)
async def test_others_are_left_alone(
    readiness: Callable[..., Any], url: str, upstream: Upstream, asked: list[str]
) -> None:
    found, warnings = await readiness(url, upstream)
    assert "hints" not in found
    assert warnings == []
    assert [path for path in upstream.asked if path.endswith("/models")] == asked


def test_a_call_that_succeeds_ends_the_hint() -> None:
    health = UpstreamHealth(lambda: 0.0)
    health.hints = {"a": "base_url may have to end in /v1", "b": "the same"}
    health.answered("a", 404)
    assert set(health.hints) == {"a", "b"}
    health.answered("a", 200)
    assert set(health.hints) == {"b"}


async def test_the_check_ends_with_the_service() -> None:
    """Nothing is asked by one that ends at once."""
    upstream = Upstream({})
    settings = read_options(upstream="http://up.test", environ={})
    async with client_of(settings, transport=httpx.MockTransport(upstream)):
        pass
    assert upstream.asked == []


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("url", "may"),
    [("http://up.test", "have to end in /v1"), ("http://up.test/v1", "be wrong")],
)
async def test_the_404_of_a_path_is_told_as_the_upstreams(url: str, may: str, stream: bool) -> None:
    settings = read_options(upstream=url, environ={})
    transport = httpx.MockTransport(Upstream({}))
    async with client_of(settings, transport=transport) as client:
        asked = {"model": "m", "input": "hi", "stream": stream}
        answer = await client.post("/v1/responses", json=asked)
    assert answer.status_code == 404
    assert answer.json()["error"]["message"] == (
        "404 page not found (This is the upstream's answer at its /chat/completions: its base_url"
        f" may {may}.)"
    )


@pytest.mark.parametrize(
    ("text", "is_of_path"),
    [
        ("Not Found", True),
        ("File Not Found", True),
        ("404 page not found", True),
        ("nginx 404", True),
        ("Resource not found", True),
        ("Method Not Allowed", True),
        ("Invalid URL (POST /chat/completions)", True),
        ("Cannot POST /chat/completions", True),
        ("The upstream answered HTTP 404.", True),
        ("The model `not found` does not exist", False),
        ("The API deployment for this resource does not exist.", False),
        ("Function 'x': Not found for account 'y'", False),
        ("No endpoints found that support image input", False),
    ],
)
def test_only_what_is_about_the_path_gets_a_hint(text: str, is_of_path: bool) -> None:
    upstream = read_options(upstream="http://up.test", environ={}).upstreams["upstream"]
    error = UpstreamError(text)
    assert bool(path_hint(upstream, error)) is is_of_path


@pytest.mark.parametrize(
    ("location", "hint"),
    [("https://up.test/x", "; it may have to begin with https://"), ("/x", "")],
)
async def test_a_redirect_to_https_says_so(
    location: str, hint: str, caplog: pytest.LogCaptureFixture
) -> None:
    def redirect(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(301, headers={"location": location})

    settings = read_options(upstream="http://up.test/v1", environ={})
    async with client_of(settings, transport=httpx.MockTransport(redirect)) as client:
        await client.post("/v1/responses", json={"model": "m", "input": "hi"})
    told = "upstream upstream answered with a redirect (301): its base_url is wrong"
    assert f"{told}{hint}" in [record.getMessage() for record in caplog.records]


async def test_https_for_a_server_without_tls_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """With a real connection: the words are OpenSSL's."""

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(plain, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        settings = read_options(upstream=f"https://127.0.0.1:{port}/v1", environ={})
        async with client_of(settings) as client:
            answer = await client.post("/v1/responses", json={"model": "m", "input": "hi"})
    assert answer.status_code == 502
    [told] = {
        one for record in caplog.records if "upstream upstream: " in (one := record.getMessage())
    }
    assert told.endswith("it does not answer in TLS: its base_url may have to begin with http://")
