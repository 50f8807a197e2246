"""A reused connection that ends before any byte of an answer costs a client nothing.

Servers promise to keep a connection and close it all the same: llama.cpp after each streamed
answer, load balancers when they like. The request is sent again once, on a new connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from tests.service.chat_bodies import HELLO
from tests.service.responses_api import ASK, PATH, events
from tests.service.wire import Call, ScriptedUpstream, bounded, client_of, make_settings, say_hello
from translator.service.upstreams.client import Upstreams

pytestmark = pytest.mark.anyio

ONLY_ONCE: dict[str, Any] = {"retries": 0, "retry_budget_percent": 0}
"""No retry of any kind."""

End = Callable[[Call], Awaitable[None]]


async def eof(call: Call) -> None:
    """Close in an orderly way."""
    call._writer.close()


async def reset(call: Call) -> None:
    """RST, whatever is still to be read."""
    sock: socket.socket = call._writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    call.drop()


ENDS = pytest.mark.parametrize("end", [eof, reset])


class OneAnswerEach:
    """Answers the first request of each connection, which it promises to keep; ends the second."""

    def __init__(self, end: End, answer: End = say_hello) -> None:
        self._end = end
        self._answer = answer
        self._answered: set[asyncio.StreamWriter] = set()
        self.ended = 0

    async def __call__(self, call: Call) -> None:
        if call._writer in self._answered:
            self.ended += 1
            await self._end(call)
        else:
            self._answered.add(call._writer)
            await self._answer(call)


async def hello_and_close(call: Call) -> None:
    """The whole answer, and the end of the connection right behind it."""
    await say_hello(call)
    call._writer.close()


async def hello_and_close_soon(call: Call) -> None:
    """The end of the connection comes a little later, so that it often meets the next request."""
    await say_hello(call)
    asyncio.get_running_loop().call_later(0.001 * random.random(), call._writer.close)


async def list_models(call: Call) -> None:
    await call.answer({"object": "list", "data": [{"id": "m"}]})


CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}

ROUTES: dict[str, tuple[str, str, dict[str, Any] | None]] = {
    "stream": ("POST", PATH, ASK),
    "plain": ("POST", PATH, ASK | {"stream": False}),
    "compact": ("POST", f"{PATH}/compact", {"model": "m", "input": "Hi"}),
    "chat": ("POST", "/v1/chat/completions", CHAT),
    "chat stream": ("POST", "/v1/chat/completions", CHAT | {"stream": True}),
    "models": ("GET", "/v1/models", None),
}


@ENDS
@pytest.mark.parametrize("route", ROUTES)
async def test_no_route_loses_a_request(upstream: ScriptedUpstream, route: str, end: End) -> None:
    method, path, ask = ROUTES[route]
    upstream.script = script = OneAnswerEach(end, list_models if method == "GET" else say_hello)
    async with upstream.client(**ONLY_ONCE) as client:
        answers = [await bounded(client.request(method, path, json=ask)) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert b"response.failed" not in b"".join(answer.content for answer in answers)
    assert (script.ended, len(upstream.calls), upstream.connections) == (2, 5, 3)
    assert len({call.body for call in upstream.calls}) == 1


@ENDS
async def test_an_upstream_is_not_unreachable_by_it(upstream: ScriptedUpstream, end: End) -> None:
    upstream.script = script = OneAnswerEach(end, lambda call: call.answer({}))
    settings = make_settings(upstream.url, **ONLY_ONCE)
    upstreams = Upstreams(settings.server)
    try:
        probes = (upstreams.probe(settings.upstreams["up"]) for _ in range(3))
        statuses = [await bounded(probe) for probe in probes]
    finally:
        await upstreams.aclose()
    assert statuses == [200] * 3
    assert script.ended == 2


@ENDS
async def test_a_large_request_is_sent_again_whole(upstream: ScriptedUpstream, end: End) -> None:
    """The connection ends while the request is still being written."""
    ask = ASK | {"input": "x" * 4_000_000}
    served: set[asyncio.StreamWriter] = set()
    received: list[int] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                call = Call("POST", "", {}, b"", reader, writer)
                if writer in served:
                    await end(call)
                    return
                served.add(writer)
                size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
                received.append(len(await reader.readexactly(size)))
                call.body = b'"stream":true'
                await say_hello(call)
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    async with server, client_of(make_settings(url, **ONLY_ONCE)) as client:
        answers = [await bounded(client.post(PATH, json=ask)) for _ in range(3)]
    assert [events(answer.content)[-1]["type"] for answer in answers] == ["response.completed"] * 3
    assert len(received) == 3
    assert len(set(received)) == 1


@pytest.mark.parametrize("answer", [say_hello, hello_and_close, hello_and_close_soon])
@ENDS
async def test_many_streams_lose_none(upstream: ScriptedUpstream, answer: End, end: End) -> None:
    """Whether the end comes before the next request, with it or after it."""
    upstream.script = OneAnswerEach(end, answer)
    ended: list[str] = []

    async def ask_one_after_the_other(client: httpx.AsyncClient) -> None:
        for _ in range(8):
            found = events((await bounded(client.post(PATH, json=ASK))).content)
            ended.append(found[-1]["type"])

    async with upstream.client(**ONLY_ONCE) as client:
        await asyncio.gather(*(ask_one_after_the_other(client) for _ in range(16)))
    assert ended == ["response.completed"] * 128


@ENDS
async def test_over_tls(
    upstream: ScriptedUpstream, end: End, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    upstream.script = script = OneAnswerEach(end)
    server = await asyncio.start_server(upstream._connected, "127.0.0.1", 0, ssl=context)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    async with server, client_of(make_settings(url, **ONLY_ONCE)) as client:
        answers = [await bounded(client.post(PATH, json=ASK)) for _ in range(3)]
    assert [events(answer.content)[-1]["type"] for answer in answers] == ["response.completed"] * 3
    assert script.ended == 2


@ENDS
async def test_through_a_proxy(
    upstream: ScriptedUpstream, end: End, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection that ends is the proxy's."""
    monkeypatch.setenv("HTTP_PROXY", upstream.url.removesuffix("/v1"))
    monkeypatch.setenv("NO_PROXY", "")
    upstream.script = script = OneAnswerEach(end)
    async with client_of(make_settings("http://models.example/v1", **ONLY_ONCE)) as client:
        answers = [await bounded(client.post(PATH, json=ASK)) for _ in range(3)]
    assert [events(answer.content)[-1]["type"] for answer in answers] == ["response.completed"] * 3
    assert script.ended == 2


# --- the new connection ---------------------------------------------------------------------------


async def test_the_second_attempt_is_on_no_other_idle_connection(
    upstream: ScriptedUpstream,
) -> None:
    """They are likely to have ended, too."""
    all_here = asyncio.Event()

    async def once_all_are_here(call: Call) -> None:
        if len(upstream.calls) == 5:
            all_here.set()
        await bounded(all_here.wait())
        await say_hello(call)

    upstream.script = script = OneAnswerEach(eof, once_all_are_here)
    async with upstream.client(**ONLY_ONCE) as client:
        await asyncio.gather(*(bounded(client.post(PATH, json=ASK)) for _ in range(5)))
        assert upstream.connections == 5
        answer = await bounded(client.post(PATH, json=ASK))
    assert events(answer.content)[-1]["type"] == "response.completed"
    assert (script.ended, len(upstream.calls), upstream.connections) == (1, 7, 6)


async def test_the_new_connection_is_kept_for_later_requests(upstream: ScriptedUpstream) -> None:
    async def script(call: Call) -> None:
        await (eof(call) if len(upstream.calls) == 2 else say_hello(call))

    upstream.script = script
    async with upstream.client(**ONLY_ONCE) as client:
        for _ in range(4):
            assert (await bounded(client.post(PATH, json=ASK))).status_code == 200
    assert (len(upstream.calls), upstream.connections) == (5, 2)


async def test_it_is_neither_a_retry_nor_a_failure(upstream: ScriptedUpstream) -> None:
    """No delay, no count, no breaker that opens: the first of two replicas stays the first."""
    upstream.script = script = OneAnswerEach(eof)
    other = ScriptedUpstream()
    async with other.running():
        replicas = {"base_url": [upstream.url, other.url]}
        settings = make_settings(upstream.url, upstream=replicas, breaker_failures=1)
        async with client_of(settings) as client:
            for _ in range(3):
                assert (await bounded(client.post(PATH, json=ASK))).status_code == 200
            metrics = (await client.get("/metrics")).text
    assert (script.ended, len(upstream.calls), len(other.calls)) == (2, 5, 0)
    counts = re.findall(r"^translator_upstream_retries_total\{.*\} (.*)$", metrics, re.MULTILINE)
    assert {*map(float, counts)} == {0.0}


# --- what is not sent again -----------------------------------------------------------------------


async def half_a_head(call: Call) -> None:
    call._writer.write(b"HTTP/1.1 200 OK\r\nconte")
    await eof(call)


async def one_byte(call: Call) -> None:
    call._writer.write(b"H")
    await eof(call)


async def informational(call: Call) -> None:
    call._writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
    await eof(call)


async def half_a_body(call: Call) -> None:
    await call.head()
    await call.cut(HELLO[0])


@pytest.mark.parametrize("end", [half_a_head, one_byte, informational, half_a_body])
@pytest.mark.parametrize("route", ["plain", "chat"])
async def test_after_a_byte_of_an_answer_it_is_lost(
    upstream: ScriptedUpstream, route: str, end: End
) -> None:
    method, path, ask = ROUTES[route]
    upstream.script = OneAnswerEach(end)
    async with upstream.socket_client() as client:
        answers = []
        for _ in range(2):
            with contextlib.suppress(httpx.HTTPError):  # a body that was passed on breaks, too
                answers.append(await bounded(client.request(method, path, json=ask)))
    assert len(upstream.calls) == 2
    assert answers[0].status_code == 200
    if end is not half_a_body:
        assert answers[1].status_code == 502


@pytest.mark.parametrize("route", ROUTES)
async def test_on_a_new_connection_it_is_lost(upstream: ScriptedUpstream, route: str) -> None:
    method, path, ask = ROUTES[route]
    upstream.script = eof
    async with upstream.client() as client:
        answer = await bounded(client.request(method, path, json=ask))
    assert len(upstream.calls) == 1
    assert answer.status_code == 502


@pytest.mark.parametrize("retries", [0, 3])
async def test_it_is_sent_again_once(upstream: ScriptedUpstream, retries: int) -> None:
    """The new connection ends, too: the upstream, not the connection, is at fault."""

    async def script(call: Call) -> None:
        await (say_hello(call) if len(upstream.calls) == 1 else eof(call))

    upstream.script = script
    async with upstream.client(retries=retries) as client:
        answers = [await bounded(client.post(PATH, json=ASK)) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 502]
    assert (len(upstream.calls), upstream.connections) == (3, 2)
