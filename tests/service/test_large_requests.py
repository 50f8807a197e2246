"""Large requests: translated as any other, while everything else goes on."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from translator.service.turns import dispatcher as dispatching
from translator.service.turns import slices

from .responses_api import ASK, PATH, events
from .test_disconnect import ask
from .wire import BOUND_S, Call, ScriptedUpstream, bounded, say_hello

pytestmark = pytest.mark.anyio

COUNT = 400
LARGE = [{"role": "user", "content": f"{n} " + "x" * 2000} for n in range(COUNT)]


@pytest.fixture
def each_pause_ends_a_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "SLICE_S", 0.0)


@pytest.mark.usefixtures("each_pause_ends_a_slice")
@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("/v1/responses", {"stream": True}),
        ("/v1/responses", {"stream": False}),
        ("/v1/responses/compact", {}),
        ("/v1/responses/input_tokens", {}),
    ],
)
async def test_everything_else_has_its_turns_meanwhile(
    upstream: ScriptedUpstream, path: str, more: dict[str, Any]
) -> None:
    """As many turns of the event loop as there are items, and more."""
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with upstream.socket_client() as client:
        before = asyncio.create_task(take_turns())
        small = await bounded(client.post(path, json={"model": "m", "input": "Hi", **more}))
        usual, turns = turns, 0
        large = await bounded(client.post(path, json={"model": "m", "input": LARGE, **more}))
        before.cancel()
    assert (small.status_code, large.status_code) == (200, 200)
    assert turns > usual + 2 * COUNT


@pytest.mark.parametrize("body", [LARGE, [*LARGE, {"role": "nobody", "content": "x"}]])
async def test_the_answer_is_the_same_as_when_it_is_done_at_once(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, body: list[Any]
) -> None:
    found: list[Any] = []
    for limit in (slices.LARGE_BYTES, 10**9):
        monkeypatch.setattr(dispatching, "LARGE_BYTES", limit)
        async with upstream.client() as client:
            answer = await bounded(client.post(PATH, json=ASK | {"input": body}))
        sent = upstream.calls[-1].body if upstream.calls else b""
        end = answer.json() if answer.status_code != 200 else events(answer.content)[-1]["type"]
        found.append((answer.status_code, end, sent))
    assert found[0] == found[1]
    assert found[0][0] == (200 if body is LARGE else 400)


async def test_a_client_that_leaves_meanwhile_ends_it(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is sent upstream, and the next request is served."""
    monkeypatch.setattr(slices, "SLICE_S", 0.0)
    begun, left = asyncio.Event(), False
    original = slices._Work._go_on

    def go_on(work: slices._Work[Any]) -> None:
        begun.set()
        original(work)

    monkeypatch.setattr(slices._Work, "_go_on", go_on)
    async with upstream.service() as url:
        host, _, port = url.removeprefix("http://").partition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        body = json.dumps({"model": "m", "input": LARGE * 4, "stream": True}).encode()
        head = b"POST /v1/responses HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
        writer.write(head % len(body) + body)
        await bounded(begun.wait())
        writer.transport.abort()
        async with httpx.AsyncClient(base_url=url, timeout=BOUND_S) as client:
            answer = await bounded(client.post(PATH, json=ASK | {"input": LARGE}))
            left = answer.status_code == 200
    assert left
    assert len(upstream.calls) == 1


async def test_small_requests_overtake_it(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are answered while it is still being translated."""
    monkeypatch.setattr(slices, "SLICE_S", 0.0)
    order: list[int] = []

    async def script(call: Call) -> None:
        order.append(len(call.body))
        await say_hello(call)

    upstream.script = script
    async with upstream.service() as url:
        async with httpx.AsyncClient(base_url=url, timeout=BOUND_S) as client:
            begun = asyncio.Event()
            original = slices._Work._go_on

            def go_on(work: slices._Work[Any]) -> None:
                begun.set()
                original(work)

            monkeypatch.setattr(slices._Work, "_go_on", go_on)
            large = asyncio.create_task(client.post(PATH, json=ASK | {"input": LARGE * 4}))
            await bounded(begun.wait())
            _, writer = await ask(url, PATH)
            assert (await bounded(large)).status_code == 200
            writer.close()
    assert len(order) == 2
    assert order[0] < order[1]
