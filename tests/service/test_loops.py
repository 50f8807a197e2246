"""An upstream that leads back to the service: refused at the start, or by the request that returns."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from translator.__main__ import main
from translator.service.base.hops import HEADER, MAX_HOPS, Hops
from translator.service.config.settings import SettingsError
from translator.service.server import own_address
from translator.service.server.own_address import check_upstreams

from .responses_api import ASK
from .websocket.client import ask, open_socket
from .wire import BOUND_S, Call, ScriptedUpstream, bounded, make_settings, serving

pytestmark = pytest.mark.anyio

CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
SUMMARY = {"model": "m", "input": [{"role": "user", "content": "Hi"}]}
REQUESTS: dict[str, tuple[str, str, dict[str, Any] | None]] = {
    "a stream": ("POST", "/v1/responses", ASK),
    "a whole answer": ("POST", "/v1/responses", ASK | {"stream": False}),
    "a compaction": ("POST", "/v1/responses/compact", SUMMARY),
    "a chat request": ("POST", "/v1/chat/completions", CHAT),
    "a chat stream": ("POST", "/v1/chat/completions", CHAT | {"stream": True}),
    "the models": ("GET", "/v1/models", None),
    "Codex's models": ("GET", "/v1/models?client_version=1", None),
    "a model": ("GET", "/v1/models/m", None),
}


class Relay:
    """An upstream that sends each request on, as a proxy does."""

    def __init__(self) -> None:
        self.upstream = ScriptedUpstream()
        self.upstream.script = self._script
        self.target = ""

    async def _script(self, call: Call) -> None:
        headers = {HEADER: call.headers[HEADER]} if HEADER in call.headers else {}
        async with httpx.AsyncClient(timeout=BOUND_S, headers=headers) as http:
            answer = await http.request(call.method, self.target + call.path, content=call.body)
        await call.answer(answer.content, answer.status_code, answer.headers["content-type"])

    @asynccontextmanager
    async def before_itself(self) -> AsyncGenerator[str]:
        """A service whose upstream is this relay, which leads back to it."""
        async with self.upstream.running(), serving(make_settings(self.upstream.url)) as url:
            self.target = url
            yield url


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_request_that_returns_is_refused(name: str) -> None:
    """After one round, with an error that no SDK retries."""
    method, path, body = REQUESTS[name]
    relay = Relay()
    async with relay.before_itself() as url, httpx.AsyncClient(timeout=BOUND_S) as client:
        answer = await bounded(client.request(method, url + path, json=body))
    assert answer.status_code == 508
    assert answer.json()["error"]["code"] == "loop_detected"
    assert len(relay.upstream.calls) == 1
    if "responses" in path:  # the others are passed through
        assert answer.headers["x-should-retry"] == "false"


async def test_a_turn_on_a_websocket_that_returns_is_refused() -> None:
    relay = Relay()
    async with relay.before_itself() as url, open_socket(url) as client:
        [error] = await ask(client)
    assert (error["status"], error["error"]["code"]) == (508, "loop_detected")
    assert len(relay.upstream.calls) == 1


async def test_a_websocket_that_returns_is_refused(upstream: ScriptedUpstream) -> None:
    """Where something in between speaks it."""
    async with upstream.service() as url, httpx.AsyncClient() as client:
        await client.post(url + "/v1/responses", json=ASK)
        handshake = {
            HEADER: upstream.calls[0].headers[HEADER],
            "connection": "upgrade",
            "upgrade": "websocket",
            "sec-websocket-version": "13",
            "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
        }
        answer = await client.get(url + "/v1/responses", headers=handshake)
    assert (answer.status_code, answer.json()["error"]["code"]) == (508, "loop_detected")


async def test_a_chain_of_translators_works(upstream: ScriptedUpstream) -> None:
    async with (
        serving(make_settings(upstream.url)) as second,
        serving(make_settings(second + "/v1")) as first,
        httpx.AsyncClient(timeout=BOUND_S) as client,
        open_socket(first) as socket_client,
    ):
        for body in (ASK, ASK | {"stream": False}):
            answer = await bounded(client.post(first + "/v1/responses", json=body))
            assert answer.status_code == 200
        assert (await ask(socket_client))[-1]["type"] == "response.completed"
        assert (await client.post(first + "/v1/chat/completions", json=CHAT)).status_code == 200
    for call in upstream.calls:
        hops = call.headers[HEADER].split(",")
        assert len(set(hops)) == 2


def test_the_number_of_hops_is_bounded() -> None:
    """A loop may lead through many processes of one service."""
    hops: list[Hops] = [Hops(str(number)) for number in range(MAX_HOPS + 1)]
    headers: list[tuple[bytes, bytes]] = []
    for one in hops[:-1]:
        one.check(headers)
        headers = [(b"other", b"x"), (HEADER.encode(), one.forwarded(headers).encode())]
    assert headers[1][1].decode() == ",".join(map(str, range(MAX_HOPS)))
    with pytest.raises(Exception, match="has come through this service before"):
        hops[-1].check(headers)
    with pytest.raises(Exception, match="has come through this service before"):
        hops[0].check([(HEADER.encode(), b"a"), (HEADER.encode(), b"b , 0")])


# --- at the start ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bound", "host", "expected"),
    [
        ("127.0.0.1", "127.0.0.1", True), ("127.0.0.1", "localhost", True),
        ("127.0.0.1", "127.1", True), ("127.0.0.1", "0.0.0.0", True),
        ("127.0.0.1", "127.0.0.2", False), ("127.0.0.1", "192.0.2.1", False),
        ("0.0.0.0", "127.0.0.1", True), ("0.0.0.0", "127.3.2.1", True),
        ("0.0.0.0", "192.0.2.1", False), ("127.0.0.1", "nobody.invalid", False),
        ("127.0.0.1", "[::1]", False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_upstream_that_is_the_service_itself(
    bound: str, host: str, expected: bool, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = socket.getaddrinfo

    def resolved(name: str, *rest: Any, **options: Any) -> Any:
        if name == "nobody.invalid":
            raise socket.gaierror
        return resolve(name, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    with socket.create_server((bound, 0)) as listener:
        port = listener.getsockname()[1]
        url = f"{scheme}://{host}:{port}/v1"
        settings = make_settings("http://up.test", upstream={"base_url": ["http://a.test", url]})
        if expected:
            with pytest.raises(SettingsError) as caught:
                check_upstreams(settings, [listener])
            assert caught.value.problems == (
                f"upstreams.up.base_url: {url} is this service itself",
            )
        else:
            check_upstreams(settings, [listener])
        check_upstreams(make_settings(f"http://{host}:{port % 60000 + 1}/v1"), [listener])


def test_a_name_that_takes_long_delays_no_start(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()

    def resolve(*_: Any, **__: Any) -> Any:
        answered.wait(BOUND_S)
        raise socket.gaierror

    monkeypatch.setattr(own_address, "RESOLVE_S", 0.05)
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        check_upstreams(make_settings(f"http://slow.test:{port}/v1"), [listener])
    answered.set()


@pytest.mark.parametrize("workers", [1, 2])
async def test_the_command_line_says_so(
    workers: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://localhost:{port}/v1"
    file = tmp_path / "settings.toml"
    file.write_text(
        f"[server]\nport = {port}\nworkers = {workers}\n[upstreams.up]\nbase_url = {json.dumps(url)}\n"
    )
    assert await asyncio.to_thread(main, ["serve", "--config", str(file)]) == 2
    assert capsys.readouterr().err == (
        f"translator: upstreams.up.base_url: {url} is this service itself\n"
    )
