"""Direct writers: chunks are translated and written where they arrive, with the same result."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from translator import Translation
from translator.service.http.exchange import Exchange
from translator.service.server import http1
from translator.service.server import websocket_protocol as sockets
from translator.service.upstreams.connection import Connection
from translator.text_run import TextRun

from .chat_bodies import HELLO, chunk
from .responses_api import ASK, events
from .wire import BOUND_S, Call, ScriptedUpstream, bounded, client_of, make_settings, serving

pytestmark = pytest.mark.anyio

PATHS = {"responses": "/v1/responses", "chat": "/v1/chat/completions"}
TEXT = [chunk({"content": f"word {number} "}) for number in range(50)]
ANSWER = [
    *(HELLO[0], chunk({"reasoning_content": "Hm. "}), chunk({"reasoning_content": "Well."})),
    *TEXT,
    chunk({"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "f", "arguments": "{"}}]}),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": '"a":1}'}}]}),
    chunk({}, "tool_calls", usage={"prompt_tokens": 3, "completion_tokens": 60}),
    b"data: [DONE]\n\n",
]


class Counted:
    """How often a chunk was written directly, and how often through ASGI."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.direct = self.asgi = 0
        give = Exchange.write

        def counted(write: Callable[..., bool]) -> Callable[..., bool]:
            def count_direct(direct: http1.ChunkWriter, piece: bytes) -> bool:
                self.direct += 1
                return write(direct, piece)

            return count_direct

        async def count_asgi(exchange: Exchange, piece: bytes) -> None:
            self.asgi += 1
            await give(exchange, piece)

        say = sockets.TextWriter.write

        def count_messages(direct: sockets.TextWriter, piece: Sequence[bytes]) -> bool:
            self.direct += len(piece)
            return say(direct, piece)

        monkeypatch.setattr(sockets.TextWriter, "write", count_messages)
        for name in ("write", "write_framed"):
            write = getattr(http1.ChunkWriter, name)
            monkeypatch.setattr(http1.ChunkWriter, name, counted(write))
        monkeypatch.setattr(Exchange, "write", count_asgi)


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


ARRIVED = bytearray()
"""What the service has read of upstreams since it was cleared."""

TURNS = 20
"""Rounds of the event loop in which a task of the service reads a chunk and writes its events."""


@pytest.fixture(autouse=True)
def arrivals(monkeypatch: pytest.MonkeyPatch) -> None:
    data_received = Connection.data_received

    def note(connection: Connection, data: bytes) -> None:
        data_received(connection, data)
        ARRIVED.extend(data)

    monkeypatch.setattr(Connection, "data_received", note)


async def one_by_one(call: Call, pieces: Iterable[bytes]) -> None:
    """Each piece in a network read of its own, with what came before it done."""
    for piece in pieces:
        ARRIVED.clear()
        await call.send(piece)
        async with asyncio.timeout(BOUND_S):
            while piece not in ARRIVED:
                await asyncio.sleep(0)
        for _ in range(TURNS):
            await asyncio.sleep(0)


def slowly(pieces: Iterable[bytes]) -> Callable[[Call], Any]:
    async def script(call: Call) -> None:
        await call.head()
        await one_by_one(call, pieces)
        await call.end()

    return script


def told(body: bytes) -> list[dict[str, Any]]:
    """Events without what is new in each answer."""
    text = json.dumps(events(body))
    for event in events(body):
        for one in (event, event.get("item") or {}, event.get("response") or {}):
            for name in ("id", "item_id", "call_id"):
                if name in one:
                    text = text.replace(one[name], name)
    found: list[dict[str, Any]] = json.loads(text)
    for event in found:
        for name in ("created_at", "completed_at"):
            event.get("response", {}).pop(name, None)
    return found


async def asked(url: str, path: str = "/v1/responses") -> bytes:
    async with httpx.AsyncClient(timeout=BOUND_S) as client:
        answer = await client.post(url + path, json=ASK | {"messages": []})
    assert answer.status_code == 200
    return answer.content


async def test_both_ways_give_the_same_stream(upstream: ScriptedUpstream, ways: Counted) -> None:
    upstream.script = slowly(ANSWER)
    settings = make_settings(upstream.url)
    async with serving(settings) as url:
        short = await asked(url)
    assert ways.direct > 40
    assert ways.asgi <= 3  # until the answer goes on
    ways.direct = 0
    async with client_of(settings) as client:  # a server that knows no short way
        long = await client.post("/v1/responses", json=ASK)
    assert ways.direct == 0
    assert told(short) == told(long.content)


async def test_chunks_that_are_passed_through_are_written_directly_too(
    upstream: ScriptedUpstream, ways: Counted
) -> None:
    upstream.script = slowly(TEXT)
    async with serving(make_settings(upstream.url)) as url:
        assert await asked(url, PATHS["chat"]) == b"".join(TEXT)
    assert ways.direct > 40


@pytest.mark.parametrize("lane", [None, "one"])
async def test_messages_of_a_websocket_are_written_directly_too(
    upstream: ScriptedUpstream, ways: Counted, lane: str | None
) -> None:
    upstream.script = slowly(ANSWER)
    ask = {"type": "response.create", "model": "m", "input": "Hi"}
    found: list[Any] = []
    async with serving(make_settings(upstream.url)) as url:
        over_http = await asked(url)
        ways.direct = 0
        async with connect(url.replace("http", "ws", 1) + "/v1/responses") as socket:
            await socket.send(json.dumps(ask | ({} if lane is None else {"stream_id": lane})))
            while not found or found[-1]["type"] != "response.completed":
                found.append(json.loads(await bounded(socket.recv())))
    assert ways.direct > 40
    assert {event.pop("stream_id", None) for event in found} == {lane}
    frames = b"".join(
        b"event: %b\ndata: %b\n\n" % (event["type"].encode(), json.dumps(event).encode())
        for event in found
    )
    assert told(frames + b"data: [DONE]\n\n") == told(over_http)


async def test_an_answer_of_known_length_goes_through_asgi(
    upstream: ScriptedUpstream, ways: Counted
) -> None:
    """Its pieces are no chunks of HTTP."""

    async def script(call: Call) -> None:
        call._writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 60\r\n\r\n")
        for _ in range(6):
            call._writer.write(b"0123456789")
            await call._writer.drain()
            await asyncio.sleep(0.01)

    upstream.script = script
    async with serving(make_settings(upstream.url)) as url:
        assert await asked(url, PATHS["chat"]) == b"0123456789" * 6
    assert ways.direct == 0


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
async def test_a_client_that_pauses_gets_everything_in_order(
    upstream: ScriptedUpstream, path: str, ways: Counted
) -> None:
    """Nothing is sent past what a slow client has not taken; then the short way opens again."""
    full, goes_on = asyncio.Event(), asyncio.Event()
    sent: list[bytes] = []

    async def script(call: Call) -> None:
        await call.head()
        while not full.is_set():
            sent.append(chunk({"content": f"{len(sent):08} " * 5000}))
            sending = asyncio.ensure_future(call.send(sent[-1]))
            if not (await asyncio.wait((sending,), timeout=0.3))[0]:
                full.set()
            await sending
        await bounded(goes_on.wait())
        await one_by_one(call, TEXT)
        await call.send(*HELLO[3:])
        await call.end()

    upstream.script = script
    async with (
        serving(make_settings(upstream.url)) as url,
        httpx.AsyncClient(timeout=BOUND_S) as client,
        client.stream("POST", url + path, json=ASK | {"messages": []}) as answer,
    ):
        await bounded(full.wait())
        ways.direct = 0
        body = bytearray()
        async for piece in answer.aiter_raw():
            body += piece
            if f"{len(sent) - 1:08} ".encode() in body[-1000:] and body.endswith(b"\n\n"):
                goes_on.set()
    if path == PATHS["chat"]:
        assert body == b"".join([*sent, *TEXT, *HELLO[3:]])
    else:
        deltas = [
            event for event in events(bytes(body)) if event["type"] == "response.output_text.delta"
        ]
        said = "".join(f"{number:08} " * 5000 for number in range(len(sent)))
        said += "".join(f"word {number} " for number in range(50))
        assert "".join(event["delta"] for event in deltas) == said
    assert ways.direct > 40


@pytest.mark.parametrize("how", ["reset", "close", "garbage"])
async def test_what_came_before_a_break_is_sent(upstream: ScriptedUpstream, how: str) -> None:
    async def script(call: Call) -> None:
        await call.head()
        await one_by_one(call, TEXT[:10])
        await call.send(TEXT[10])
        match how:
            case "reset":
                await asyncio.sleep(0.05)
                call.drop()
            case "close":
                call._writer.close()
            case _:
                call._writer.write(b"\x00rubbish\r\n" * 5)
                await call.gone()

    upstream.script = script
    async with serving(make_settings(upstream.url)) as url:
        found = events(await asked(url))
    assert [event["type"] for event in found][-2:] == ["error", "response.failed"]
    deltas = [event["delta"] for event in found if event["type"] == "response.output_text.delta"]
    assert deltas == [f"word {number} " for number in range(11)]


@pytest.mark.parametrize(
    ("owner", "name", "works"),
    [(Translation, "receive", 4), (TextRun, "framed", 20)],
    ids=["receive", "run"],
)
async def test_a_fault_of_our_own_ends_the_stream(
    upstream: ScriptedUpstream,
    monkeypatch: pytest.MonkeyPatch,
    owner: type[Any],
    name: str,
    works: int,
) -> None:
    """It does not go to the event loop, and the client is not left waiting."""
    method, count = getattr(owner, name), 0

    def broken(*args: object) -> object:
        nonlocal count
        count += 1
        if count > works:
            raise RuntimeError("sk-secret")
        return method(*args)

    monkeypatch.setattr(owner, name, broken)
    upstream.script = slowly(ANSWER)
    async with serving(make_settings(upstream.url)) as url:
        found = events(await bounded(asked(url)))
    assert [event["type"] for event in found][-2:] == ["error", "response.failed"]
    assert found[-1]["response"]["error"]["message"] == "The translator failed."


async def test_an_upstream_that_stalls_with_keep_alives_times_out(
    upstream: ScriptedUpstream,
) -> None:
    async def script(call: Call) -> None:
        await call.head()
        await one_by_one(call, TEXT[:20])
        while True:
            await call.send(b": wait\n\n")
            await asyncio.sleep(0.01)

    upstream.script = script
    async with serving(make_settings(upstream.url, progress_timeout_s=0.2)) as url:
        found = events(await bounded(asked(url)))
    assert found[-1]["type"] == "response.failed"
    assert "did not progress" in found[-1]["response"]["error"]["message"]
