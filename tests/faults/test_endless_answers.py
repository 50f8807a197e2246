"""Upstreams that do not stop: one exchange ends, for good, and nothing happens to the others."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from tests.invariants import check_wire
from tests.service.chat_bodies import HELLO, chunk
from tests.service.responses_api import ASK, ASK_WHOLE, PATH, events
from tests.service.websocket.client import open_socket
from tests.service.wire import Call, ScriptedUpstream, bounded

pytestmark = pytest.mark.anyio

LIMIT = 200_000
CALL: dict[str, Any] = {"index": 0, "id": "c", "function": {"name": "f", "arguments": "{"}}
ENDLESS = {
    "text": [{"content": "four" * 50}],
    "reasoning": [{"reasoning_content": "four" * 50}],
    "arguments": [{"tool_calls": [CALL]}, {"tool_calls": [{"function": {"arguments": "x" * 200}}]}],
    "blanks": [{"content": " " * 200}],
}
"""The first chunks; the last one comes again and again."""
TOOLS = [{"type": "function", "name": "f", "parameters": {}, "strict": False}]


def endless(kind: str, ended: asyncio.Event) -> Any:
    deltas = ENDLESS[kind]

    async def script(call: Call) -> None:
        await call.head()
        await call.send(*map(chunk, deltas[:-1]))
        try:
            while True:
                await call.send(chunk(deltas[-1]) * 20)
        except ConnectionError:
            ended.set()
            raise

    return script


def check_failure(found: list[dict[str, Any]]) -> None:
    assert [event["type"] for event in found[-2:]] == ["error", "response.failed"]
    check_wire(found)
    assert found[-1]["response"]["error"]["code"] == "invalid_prompt"
    assert found[-2]["error"]["code"] == "invalid_prompt"


@pytest.mark.parametrize("kind", ENDLESS)
async def test_a_stream(upstream: ScriptedUpstream, kind: str) -> None:
    ended = asyncio.Event()
    upstream.script = endless(kind, ended)
    async with upstream.client(max_answer_bytes=LIMIT) as client:
        answer = await bounded(client.post(PATH, json=ASK | {"tools": TOOLS}))
        await bounded(ended.wait())
    assert answer.status_code == 200
    check_failure(events(answer.content))
    assert len(upstream.calls) == 1


@pytest.mark.parametrize("kind", ["text", "arguments"])
async def test_a_websocket(upstream: ScriptedUpstream, kind: str) -> None:
    ended = asyncio.Event()
    upstream.script = endless(kind, ended)
    async with upstream.service(max_answer_bytes=LIMIT) as base, open_socket(base) as socket:
        await socket.send(json.dumps({"type": "response.create", **ASK_WHOLE, "tools": TOOLS}))
        found: list[dict[str, Any]] = []
        while not found or found[-1]["type"] != "response.failed":
            found.append(json.loads(await bounded(socket.recv())))
        await bounded(ended.wait())
    check_failure(found)


@pytest.mark.parametrize("path", [PATH, PATH + "/compact"])
async def test_a_whole_answer(upstream: ScriptedUpstream, path: str) -> None:
    """What an upstream streams where no stream was asked for has the same bound."""
    ended = asyncio.Event()
    upstream.script = endless("blanks", ended)
    async with upstream.client(max_answer_bytes=LIMIT) as client:
        answer = await bounded(client.post(path, json=ASK_WHOLE))
        await bounded(ended.wait())
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "invalid_prompt"
    assert answer.headers["x-should-retry"] == "false"


async def test_a_whole_answer_that_has_something(upstream: ScriptedUpstream) -> None:
    ended = asyncio.Event()
    upstream.script = endless("text", ended)
    async with upstream.client(max_answer_bytes=LIMIT) as client:
        answer = await bounded(client.post(PATH, json=ASK_WHOLE))
        await bounded(ended.wait())
    assert answer.json()["status"] == "failed"
    assert answer.json()["error"]["code"] == "invalid_prompt"


async def test_envelopes_are_not_the_answer(upstream: ScriptedUpstream) -> None:
    """Of a stream that a whole answer is made of, only its content counts."""

    async def script(call: Call) -> None:
        await call.head()
        await call.send(*[chunk({"content": "four"})] * (LIMIT // 100))
        await call.send(*HELLO[-2:])
        await call.end()

    upstream.script = script
    async with upstream.client(max_answer_bytes=LIMIT) as client:
        answer = await bounded(client.post(PATH, json=ASK_WHOLE))
    assert answer.json()["status"] == "completed"


async def test_the_largest_ends_for_all(upstream: ScriptedUpstream) -> None:
    """Where answers together hold too much, wherever the largest waits."""
    both, released = asyncio.Event(), asyncio.Event()

    async def script(call: Call) -> None:
        await call.head()
        size = 2 if b"large" in call.body else 1
        # one read of up to 96 KiB is not accounted for yet
        await call.send(*[chunk({"content": "x" * 1000})] * (390 * size))
        if len(upstream.calls) == 2:
            both.set()
        await bounded(released.wait() if size == 1 else call.gone())
        await call.send(*HELLO[-2:])
        await call.end()

    upstream.script = script
    settings = {"max_held_bytes": 800_000, "headers_grace_s": 0.01}
    async with upstream.socket_client(**settings) as client:

        async def asked(word: str) -> httpx.Response:
            return await bounded(client.post(PATH, json=ASK | {"input": word}))

        large = asyncio.create_task(asked("large"))
        while len(upstream.calls) < 1:
            await asyncio.sleep(0.01)
        small = asyncio.create_task(asked("small"))
        await bounded(both.wait())
        check_failure(events((await large).content))
        released.set()
        assert events((await small).content)[-1]["type"] == "response.completed"
        # and what it held is released: two small ones find room again
        again = await asyncio.gather(asked("small"), asked("small"))
        assert [events(one.content)[-1]["type"] for one in again] == ["response.completed"] * 2


async def test_the_largest_may_be_the_one_that_grows(upstream: ScriptedUpstream) -> None:
    ended = asyncio.Event()
    upstream.script = endless("text", ended)
    async with upstream.client(max_held_bytes=LIMIT) as client:
        answer = await bounded(client.post(PATH, json=ASK))
        await bounded(ended.wait())
    found = events(answer.content)
    check_failure(found)
    assert f"over {LIMIT} bytes of answers" in found[-1]["response"]["error"]["message"]
