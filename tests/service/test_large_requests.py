"""Large requests: translated as any other, while everything else goes on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any, Self

import httpx
import pytest

from translator import Event
from translator.service.http import responders, routes
from translator.service.turns import dispatcher as dispatching
from translator.service.turns import slices
from translator.writer.sse import encode_all

from .chat_bodies import HELLO, chunk
from .responses_api import ASK, PATH, events
from .test_disconnect import ask
from .websocket import client as websocket
from .websocket.client import socket_to
from .wire import BOUND_S, Call, ScriptedUpstream, bounded, say_hello

pytestmark = pytest.mark.anyio

COUNT = 400
LARGE = [{"role": "user", "content": f"{n} " + "x" * 2000} for n in range(COUNT)]


class Turns:
    """Counts the turns of the event loop, while the context lasts."""

    def __init__(self) -> None:
        self.count = 0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._take())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()

    async def _take(self) -> None:
        while True:
            self.count += 1
            await asyncio.sleep(0)


@pytest.fixture
def each_pause_ends_a_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "SLICE_S", 0.0)


@pytest.mark.usefixtures("each_pause_ends_a_slice")
@pytest.mark.parametrize(
    ("path", "more", "steps"),
    [
        ("/v1/responses", {"stream": True}, 4),
        ("/v1/responses", {"stream": False}, 4),
        ("/v1/responses/compact", {}, 5),
        ("/v1/responses/input_tokens", {}, 7),
    ],
)
async def test_everything_else_has_its_turns_meanwhile(
    upstream: ScriptedUpstream, path: str, more: dict[str, Any], steps: int
) -> None:
    """A turn of the event loop for each item, in each step of the work."""
    async with upstream.socket_client() as client, Turns() as turns:
        small = await bounded(client.post(path, json={"model": "m", "input": "Hi", **more}))
        usual, turns.count = turns.count, 0
        large = await bounded(client.post(path, json={"model": "m", "input": LARGE, **more}))
    assert (small.status_code, large.status_code) == (200, 200)
    assert turns.count > usual + steps * COUNT


@pytest.mark.usefixtures("each_pause_ends_a_slice")
async def test_so_it_is_on_a_websocket(upstream: ScriptedUpstream) -> None:
    """Also for a short request that continues a long conversation."""
    found: list[int] = []

    async def script(call: Call) -> None:
        found.append(turns.count)
        await say_hello(call)

    upstream.script = script
    async with socket_to(upstream) as socket, Turns() as turns:
        first = await websocket.ask(socket, input=LARGE)
        turns.count = 0
        await websocket.ask(socket, previous_response_id=websocket.id_of(first))
    assert [count > 4 * COUNT for count in found] == [True, True]
    assert len(upstream.calls[1].body) > len(upstream.calls[0].body)


@pytest.mark.usefixtures("each_pause_ends_a_slice")
@pytest.mark.parametrize("stream", [True, False])
async def test_so_it_is_where_an_upstream_refuses_a_part_of_it(
    upstream: ScriptedUpstream, stream: bool
) -> None:
    found: list[int] = []

    async def script(call: Call) -> None:
        found.append(turns.count)
        if "temperature" in call.json:
            message = "Unsupported parameter: 'temperature' is not supported with this model."
            await call.answer({"error": {"message": message}}, 400)
            turns.count = 0
        else:
            await say_hello(call)

    upstream.script = script
    request = {"model": "m", "input": LARGE, "temperature": 0.5, "stream": stream}
    async with upstream.socket_client() as client, Turns() as turns:
        answer = await bounded(client.post(PATH, json=request))
    assert answer.status_code == 200
    assert [count > 4 * COUNT for count in found] == [True, True]


@pytest.mark.parametrize(("size", "expected"), [(100_000, 1), (400_000, 3)])
async def test_so_it_is_between_passes_over_a_chat_request(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, size: int, expected: int
) -> None:
    found: list[int] = []

    def noting(work: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any, **named: Any) -> Any:
            found.append(turns.count)
            return work(*args, **named)

        return noted

    for name in ("_read_fields", "check_counts", "_may_repeat_a_name"):
        monkeypatch.setattr(routes, name, noting(getattr(routes, name)))
    messages = [{"role": "user", "content": "x" * size}]
    async with upstream.socket_client() as client, Turns() as turns:
        answer = await bounded(
            client.post("/v1/chat/completions", json={"model": "m", "messages": messages})
        )
    assert answer.status_code == 200
    assert len(found) == 3
    assert len(set(found)) == expected


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


@pytest.mark.parametrize(("size", "turns_of_first"), [(100_000, 1), (400_000, 2)])
async def test_so_it_is_between_events_that_repeat_large_tools(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, size: int, turns_of_first: int
) -> None:
    encoded: dict[str, int] = {}

    def noting(batch: Sequence[Event]) -> bytes:
        encoded.update((type(event).__name__, turns.count) for event in batch)
        return encode_all(batch)

    monkeypatch.setattr(responders, "encode_all", noting)
    tool = {"type": "function", "name": "f", "description": "d" * size, "parameters": {}}
    async with upstream.socket_client() as client, Turns() as turns:
        answer = await bounded(client.post(PATH, json=ASK | {"tools": [tool]}))
    found = events(answer.content)
    assert [event["type"] for event in found][:2] == ["response.created", "response.in_progress"]
    assert found[-1]["type"] == "response.completed"
    assert len({encoded["Created"], encoded["InProgress"]}) == turns_of_first


@pytest.mark.parametrize(("size", "turns_of_last"), [(100_000, 1), (400_000, 4)])
async def test_so_it_is_between_events_that_repeat_a_large_answer(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, size: int, turns_of_last: int
) -> None:
    encoded: dict[str, int] = {}

    def noting(batch: Sequence[Event]) -> bytes:
        encoded.update((type(event).__name__, turns.count) for event in batch)
        return encode_all(batch)

    async def script(call: Call) -> None:
        await call.head()
        await call.send(HELLO[0], chunk({"content": "x" * size}), *HELLO[3:])
        await call.end()

    monkeypatch.setattr(responders, "encode_all", noting)
    upstream.script = script
    async with upstream.socket_client() as client, Turns() as turns:
        answer = await bounded(client.post(PATH, json=ASK))
    assert events(answer.content)[-1]["response"]["output"][0]["content"][0]["text"] == "x" * size
    last = ("OutputTextDone", "ContentPartDone", "OutputItemDone", "Completed")
    assert len({encoded[name] for name in last}) == turns_of_last


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
