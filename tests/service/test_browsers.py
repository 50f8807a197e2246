"""What pages in a browser may do, and by which names the service may be addressed."""

from __future__ import annotations

import json

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from translator.service.config.checks import host_problems, origin_problems

from .responses_api import ASK_WHOLE, PATH
from .wire import ScriptedUpstream, bounded

pytestmark = pytest.mark.anyio

PAGE = "https://chat.example.org"
PREFLIGHT = {
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization, content-type",
}


# --- CORS -----------------------------------------------------------------------------------------


async def test_without_the_setting_no_page_is_told_anything(upstream: ScriptedUpstream) -> None:
    async with upstream.client() as client:
        asked = await client.options(PATH, headers={"origin": PAGE} | PREFLIGHT)
        answer = await client.post(PATH, json=ASK_WHOLE, headers={"origin": PAGE})
    assert asked.status_code == 405
    assert answer.status_code == 200
    for one in (asked, answer):
        assert not [name for name in one.headers if name.startswith("access-control")]


@pytest.mark.parametrize("origins", [[PAGE], ["*"], ["http://localhost:3000", PAGE]])
async def test_an_allowed_page_may_ask_and_read(
    upstream: ScriptedUpstream, origins: list[str]
) -> None:
    """Answers and errors alike, or a page could not even read why it was refused."""
    async with upstream.client(cors_origins=origins) as client:
        asked = await client.options(PATH, headers={"origin": PAGE} | PREFLIGHT)
        answer = await client.post(PATH, json=ASK_WHOLE, headers={"origin": PAGE})
        error = await client.post(PATH, json={}, headers={"origin": PAGE})
    assert asked.status_code == 204
    assert asked.content == b""
    assert asked.headers["access-control-allow-headers"] == "authorization, content-type"
    assert "POST" in asked.headers["access-control-allow-methods"]
    assert (answer.status_code, error.status_code) == (200, 400)
    for one in (asked, answer, error):
        assert one.headers["access-control-allow-origin"] == PAGE
        assert "origin" in one.headers["vary"]
        assert "access-control-allow-credentials" not in one.headers
    assert "x-request-id" in answer.headers["access-control-expose-headers"]


async def test_another_page_is_not_allowed(upstream: ScriptedUpstream) -> None:
    for origin in ("https://evil.test", PAGE + ".evil.test", "http://chat.example.org", "null"):
        async with upstream.client(cors_origins=[PAGE]) as client:
            asked = await client.options(PATH, headers={"origin": origin} | PREFLIGHT)
            answer = await client.post(PATH, json=ASK_WHOLE, headers={"origin": origin})
        assert asked.status_code == 405
        for one in (asked, answer):
            assert "access-control-allow-origin" not in one.headers


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", None])
async def test_a_page_cannot_send_a_request_unasked(
    upstream: ScriptedUpstream, kind: str | None
) -> None:
    """Browsers send such a POST for any page without a preflight: it would cost the visitor."""
    headers = {"origin": "https://evil.test"} | ({} if kind is None else {"content-type": kind})
    body = json.dumps(ASK_WHOLE).encode()
    async with upstream.client(cors_origins=[PAGE]) as client:
        refused = await client.post(PATH, content=body, headers=headers)
        assert refused.status_code == 403
        assert refused.json()["error"]["code"] == "origin_not_allowed"
        assert upstream.calls == []
        for origin in (PAGE, "http://gateway"):  # an allowed one, and the service's own
            answer = await client.post(PATH, content=body, headers=headers | {"origin": origin})
            assert answer.status_code == 200
        plain = await client.post(PATH, content=body)  # no browser
        assert plain.status_code == 200


async def test_a_page_cannot_open_a_websocket_unasked(upstream: ScriptedUpstream) -> None:
    """Browsers open it for any page, and let it read what comes."""
    async with upstream.service(cors_origins=[PAGE]) as url:
        address = url.replace("http", "ws") + PATH
        for origin in ("https://evil.test", "null"):
            with pytest.raises(InvalidStatus) as refused:
                await bounded(connect(address, origin=origin, proxy=None))  # type: ignore[arg-type]
            assert refused.value.response.status_code == 403
        for allowed in (PAGE, url, None):
            async with connect(address, origin=allowed, proxy=None) as socket:  # type: ignore[arg-type]
                await socket.send(json.dumps({"type": "response.create", **ASK_WHOLE}))
                assert "response.created" in str(await bounded(socket.recv()))


# --- Host -----------------------------------------------------------------------------------------

HOSTS = ["llm.example.org", "*.lan", "[::1]", "127.0.0.1"]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("llm.example.org", 200),
        ("LLM.example.org:8080", 200),
        ("box.lan", 200),
        ("a.b.lan:1", 200),
        ("[::1]:8080", 200),
        ("[::1]", 200),
        ("127.0.0.1:80", 200),
        ("evil.test", 421),
        ("lan", 421),
        ("xllm.example.org", 421),
        ("llm.example.org.evil.test", 421),
        ("127.0.0.1.evil.test", 421),
        ("", 421),
        (":80", 421),
        ("[::2]", 421),
    ],
)
async def test_only_the_named_hosts_are_served(
    upstream: ScriptedUpstream, host: str, status: int
) -> None:
    """A page behind a forged name (DNS rebinding) sends its own name as Host."""
    async with upstream.client(allowed_hosts=HOSTS) as client:
        answer = await client.post(PATH, json=ASK_WHOLE, headers={"host": host})
        alive = await client.get("/healthz", headers={"host": host})
    assert answer.status_code == status
    assert alive.status_code == 200  # probes ask by address
    if status == 421:
        assert answer.json()["error"]["code"] == "host_not_allowed"
        assert upstream.calls == []


async def test_without_the_setting_any_host_is_served(upstream: ScriptedUpstream) -> None:
    async with upstream.client() as client:
        answer = await client.post(PATH, json=ASK_WHOLE, headers={"host": "anything.test"})
    assert answer.status_code == 200


def test_mistakes_in_the_settings_are_told() -> None:
    hosts = ["https://a", "a:80", "a/b", "*", "*.", "a b", ""]
    assert len(host_problems(hosts, "server.allowed_hosts")) == len(hosts)
    assert host_problems(HOSTS, "x") == []
    origins = ["chat.example.org", PAGE + "/", PAGE + "/path", "https://*.example.org", "null", ""]
    assert len(origin_problems(origins, "server.cors_origins")) == len(origins)
    assert origin_problems(["*", PAGE, "http://localhost:3000", "tauri://localhost"], "x") == []
