"""What is held of a request, and until when: not the conversation while its answer comes."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import tracemalloc
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from translator.service.server.http1 import ChunkWriter
from translator.service.turns.state import TurnState
from translator.service.upstreams import connection
from translator.service.upstreams.streams import UpstreamStream
from translator.wire.events import Event

from .chat_bodies import HELLO, chunk
from .responses_api import ASK
from .wire import (
    BOUND_S,
    Call,
    ScriptedUpstream,
    bounded,
    client_of,
    make_settings,
    say_hello,
)

pytestmark = pytest.mark.anyio

COUNT = 8
SIZE = 1024 * 1024
LARGE: dict[str, Any] = {
    "model": "m",
    "stream": True,
    "instructions": "Be brief.",
    "input": [
        {"role": "user", "content": "x" * (SIZE // 2)},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "y" * (SIZE // 2)},
    ],
    "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}],
    "tool_choice": {"type": "function", "name": "f"},
    "text": {"format": {"type": "json_schema", "name": "s", "schema": {"type": "object"}}},
}
CHAT: dict[str, Any] = {
    "model": "m",
    "stream": True,
    "messages": [{"role": "user", "content": "x" * SIZE}],
}


@contextmanager
def traced() -> Iterator[None]:
    """Memory is counted, and what only a search for cycles would find counts as held."""
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()
        gc.enable()


class Halfway:
    """An upstream whose answers go on when they are told to."""

    def __init__(self, upstream: ScriptedUpstream, pieces: list[bytes]) -> None:
        self.pieces = pieces
        self.go = asyncio.Event()
        self.upstream = upstream
        upstream.script = self._script

    async def _script(self, call: Call) -> None:
        self.upstream.calls.clear()
        call.body = b""
        await call.head()
        await call.send(*self.pieces)
        await bounded(self.go.wait())
        await call.send(*HELLO[3:])
        await call.end()


@pytest.mark.parametrize(
    ("path", "body"), [("responses", LARGE), ("chat/completions", CHAT)], ids=["responses", "chat"]
)
async def test_a_conversation_is_let_go_of_when_its_answer_begins(
    upstream: ScriptedUpstream, path: str, body: dict[str, Any]
) -> None:
    upstream_does = Halfway(upstream, HELLO[:2])
    encoded = json.dumps(body).encode()
    async with (
        upstream.service() as url,
        httpx.AsyncClient(timeout=BOUND_S) as client,
    ):

        async def ask(begun: asyncio.Semaphore) -> None:
            async with client.stream("POST", f"{url}/v1/{path}", content=encoded) as answer:
                assert answer.status_code == 200
                async for piece in answer.aiter_raw():
                    if b"Hello" in piece:
                        begun.release()

        upstream_does.go.set()
        await ask(asyncio.Semaphore(0))  # what is only made once does not count
        upstream_does.go.clear()
        with traced():
            before, _ = tracemalloc.get_traced_memory()
            begun = asyncio.Semaphore(0)
            asking = [asyncio.create_task(ask(begun)) for _ in range(COUNT)]
            for _ in asking:
                await bounded(begun.acquire())
            held = (tracemalloc.get_traced_memory()[0] - before) / COUNT
            upstream_does.go.set()
            await bounded(asyncio.gather(*asking))
    assert held < SIZE / 4  # both ends of the test have their part in it


@pytest.mark.parametrize("way", ["responses", "chat/completions", "websocket"])
async def test_a_chunk_is_let_go_of_while_nothing_comes(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Neither a chunk nor its events are held while the sink waits for more.

    What is passed through has a sink from the beginning; there the first chunk goes past it, as one
    does after a client has paused.
    """
    chunks: list[bytes] = []
    batches: list[list[Event]] = []
    pushed: list[int] = []
    read, feed, push = UpstreamStream.next, TurnState.feed, connection.Pump.push

    async def read_and_note(stream: UpstreamStream, *how: Any, **more: Any) -> bytes | None:
        data = await read(stream, *how, **more)
        if data:
            chunks.append(data)
        return data

    def feed_and_note(state: TurnState, data: bytes, now: float) -> list[Event]:
        batches.append(feed(state, data, now))
        return batches[-1]

    def push_and_note(pump: connection.Pump) -> None:
        pushed.append(len(pump.first or b""))
        push(pump)

    ready, refused = ChunkWriter.ready, iter([False] if way == "chat/completions" else [])
    monkeypatch.setattr(ChunkWriter, "ready", lambda writer: next(refused, ready(writer)))
    monkeypatch.setattr(UpstreamStream, "next", read_and_note)
    monkeypatch.setattr(TurnState, "feed", feed_and_note)
    monkeypatch.setattr(connection.Pump, "push", push_and_note)
    go, over = asyncio.Event(), asyncio.Event()

    async def script(call: Call) -> None:
        await call.head()
        await call.send(*HELLO[:2])
        await bounded(go.wait())
        await call.send(HELLO[2])
        await bounded(over.wait())
        await call.send(*HELLO[3:])
        await call.end()

    async def read_all(pieces: AsyncIterator[bytes | str]) -> None:
        async for piece in pieces:
            text = piece if isinstance(piece, str) else piece.decode()
            if '"Hello"' in text:
                go.set()
            if '" world"' in text and not over.is_set():
                check()
                over.set()
            if "response.completed" in text:
                return

    def check() -> None:
        assert pushed[-1] == len(HELLO[2])
        assert len(b"".join(chunks)) > 0
        assert way == "chat/completions" or sum(map(len, batches)) > 4
        [usual] = [sys.getrefcount(one) for one in [object()]]
        assert [one for one in chunks if sys.getrefcount(one) > usual] == []
        assert [one for one in batches if sys.getrefcount(one) > usual] == []
        events = [one for batch in batches for one in batch if sys.getrefcount(one) > usual]
        assert events == []

    upstream.script = script
    async with upstream.service() as url:
        if way != "websocket":
            async with (
                httpx.AsyncClient(timeout=BOUND_S) as client,
                client.stream("POST", f"{url}/v1/{way}", json=CHAT | ASK) as answer,
            ):
                await read_all(answer.aiter_bytes())
        else:
            async with connect(url.replace("http", "ws", 1) + "/v1/responses") as socket:
                await socket.send(json.dumps(ASK | {"type": "response.create"}))
                await bounded(read_all(aiter(socket)))
    assert over.is_set()


async def test_a_socket_remembers_what_its_turns_have_forgotten(
    upstream: ScriptedUpstream,
) -> None:
    asked: list[list[Any]] = []

    async def script(call: Call) -> None:
        asked.append(call.json["messages"])
        await call.head()
        await call.send(chunk({"content": f"answer {len(asked)}"}), *HELLO[3:])
        await call.end()

    upstream.script = script
    async with upstream.service() as url:
        async with connect(url.replace("http", "ws", 1) + "/v1/responses") as socket:
            previous = None
            for number in (1, 2, 3):
                request = {"type": "response.create", "model": "m", "input": f"question {number}"}
                await socket.send(json.dumps(request | {"previous_response_id": previous}))
                while (event := json.loads(await bounded(socket.recv())))["type"] != (
                    "response.completed"
                ):
                    pass
                previous = event["response"]["id"]
    assert [one["content"] for one in asked[-1]] == [
        *("question 1", "answer 1", "question 2", "answer 2", "question 3"),
    ]


@pytest.mark.parametrize("retries", [0, 1])
@pytest.mark.parametrize("path", ["/v1/responses", "/v1/chat/completions", "socket"])
async def test_what_is_over_is_gone_without_a_search_for_cycles(
    upstream: ScriptedUpstream, path: str, retries: int
) -> None:
    """Python looks for cycles seldom here: with some in each request, memory would grow for long."""

    async def script(call: Call) -> None:
        if len(upstream.calls) % (1 + retries):
            await call.answer({}, 503, headers={"retry-after": "0"})
        else:
            await say_hello(call)

    upstream.script = script
    body: dict[str, Any] = {"model": "m", "input": "Hi", "stream": True}
    if path == "/v1/chat/completions":
        body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    of_the_test: list[object] = []  # httpx's own cycles there do not count

    async def ask(url: str) -> None:
        if path != "socket":
            async with httpx.AsyncClient(timeout=BOUND_S) as client:
                answer = await client.post(url + path, json=body)
                assert b"[DONE]" in answer.content
                of_the_test.extend((client, answer))
            return
        async with connect(url.replace("http", "ws", 1) + "/v1/responses") as socket:
            await socket.send(json.dumps({"type": "response.create", "model": "m", "input": "Hi"}))
            while json.loads(await bounded(socket.recv()))["type"] != "response.completed":
                pass

    async with upstream.service() as url:
        assert await garbage_of(lambda: ask(url)) == []


CALL = {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    "delta", [{"content": "so on "}, {"reasoning_content": "so on "}, {"tool_calls": [CALL]}]
)
async def test_so_it_is_where_an_answer_is_too_large(
    upstream: ScriptedUpstream, delta: dict[str, Any]
) -> None:
    """Its last item is not closed: what is held of it is as large as an answer may be."""

    async def script(call: Call) -> None:
        await call.head()
        for _ in range(40):
            await call.send(chunk(delta) * 10)
        await call.end()

    upstream.script = script
    body = ASK | {"stream": True, "tools": [{"type": "function", "name": "f", "parameters": {}}]}
    of_the_test: list[object] = []

    async def ask() -> None:
        async with httpx.AsyncClient(timeout=BOUND_S) as client:
            answer = await client.post(f"{url}/v1/responses", json=body)
            assert b"response.failed" in answer.content
            of_the_test.extend((client, answer))

    async with upstream.service(max_answer_bytes=1000) as url:
        assert await garbage_of(ask) == []


@pytest.mark.parametrize("retries", [0, 2])
async def test_an_upstream_that_cannot_be_reached_leaves_no_cycles(retries: int) -> None:
    """Aiohttp's frames hold the error of a connection that was refused, and it holds ours."""
    settings = make_settings("http://127.0.0.1:9/v1", retries=retries, max_retry_after_s=0.0)

    async def ask() -> None:
        answer = await client.post("/v1/responses", json={"model": "m", "input": "Hi"})
        assert answer.status_code == 502

    async with client_of(settings) as client:
        found = await garbage_of(ask)
    assert [name for name in found if name.startswith("translator.")] == []


@pytest.mark.parametrize(
    "path", ["responses", "responses/compact", "responses/input_tokens", "chat/completions"]
)
async def test_so_it_is_after_a_large_request(upstream: ScriptedUpstream, path: str) -> None:
    """It is translated in slices, and comes in many reads."""
    body = json.dumps(CHAT if path.startswith("chat") else LARGE | {"stream": False}).encode()
    of_the_test: list[object] = []

    async def ask() -> None:
        async with httpx.AsyncClient(timeout=BOUND_S) as client:
            answer = await client.post(f"{url}/v1/{path}", content=body)
            assert answer.status_code == 200
            of_the_test.extend((client, answer))

    async with upstream.service() as url:
        assert await garbage_of(ask) == []


async def garbage_of(ask: Callable[[], Awaitable[None]]) -> list[str]:
    """The classes of ours, and of what we extend, that only a search for cycles frees."""
    await ask()  # what is made once
    await asyncio.sleep(0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of what tests before have left
        gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            await ask()
        await asyncio.sleep(0.1)
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        kinds = [type(one) for one in gc.garbage if _is_ours(one)]
        return [f"{kind.__module__}.{kind.__qualname__}" for kind in kinds]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def _is_ours(one: object) -> bool:
    module = type(one).__module__
    return module.startswith(("translator.", "uvicorn.protocols", "httpx"))
