"""An observer sees every event of a request, in order, on every way through the service."""

from __future__ import annotations

import json
from typing import Any, get_args

import httpx
import pytest
from websockets.asyncio.client import connect

import translator
from translator.service.observe.observer import (
    AttemptWritten,
    ChunkReceived,
    EventsSent,
    ObservedEvent,
    RequestEnded,
    RequestReceived,
    ResponseSent,
    UpstreamAnswered,
    UpstreamCalled,
)
from translator.service.observe.record import Record
from translator.wire.events import Event

from .chat_bodies import COMPLETION, HELLO
from .responses_api import ASK, PATH
from .wire import (
    Call,
    ScriptedUpstream,
    bounded,
    client_of,
    hello_then_silence,
    make_settings,
    say_hello,
    serving,
)

pytestmark = pytest.mark.anyio


class Notebook:
    """An observer that writes down its events, those of chunks and of sent events apart."""

    wants = frozenset(get_args(ObservedEvent))

    def __init__(self, record: Record) -> None:
        self.record = record
        self.seen: list[tuple[str, Any]] = []
        self.body = b""
        self.events: list[Event] = []

    def on(self, event: ObservedEvent) -> None:
        match event:
            case ChunkReceived(chunk):
                self.body += chunk
            case EventsSent(events):
                self.events += events
            case _:
                self.seen.append((type(event).__name__, self._what(event)))

    def _what(self, event: ObservedEvent) -> Any:
        match event:
            case RequestReceived(body):
                return json.loads(body) if body != b"{" else "half a request"
            case UpstreamCalled(path, body):
                return path, body and json.loads(body)
            case AttemptWritten(_, notices):
                return [notice.code for notice in notices]
            case UpstreamAnswered(status, headers):
                return status, headers["content-type"]
            case ResponseSent(response):
                return response.status
            case RequestEnded():
                return self.record.outcome
            case _:
                return None

    @property
    def words(self) -> list[str]:
        return [word for word, _ in self.seen]


class Notebooks:
    """An observer factory; health checks are not observed."""

    def __init__(self) -> None:
        self.all: list[Notebook] = []

    def __call__(self, record: Record) -> Notebook | None:
        if record.path == "/healthz":
            return None
        self.all.append(Notebook(record))
        return self.all[-1]


async def test_a_stream_is_seen(upstream: ScriptedUpstream) -> None:
    notebooks = Notebooks()
    async with client_of(make_settings(upstream.url), observe=notebooks) as client:
        await client.get("/healthz")
        answer = await client.post(PATH, json=ASK | {"truncation": "auto"})
    [notebook] = notebooks.all
    [call] = upstream.calls
    assert notebook.seen == [
        ("RequestReceived", ASK | {"truncation": "auto"}),
        ("Routed", None),
        ("AttemptWritten", ["ignored"]),
        ("UpstreamCalled", ("chat/completions", call.json)),
        ("UpstreamAnswered", (200, "text/event-stream")),
        ("RequestEnded", "completed"),
    ]
    assert notebook.body == b"".join(HELLO)
    sent = b"".join(map(translator.encode_sse, notebook.events)) + translator.DONE
    assert sent == answer.content
    assert notebook.record.request_id == answer.headers["x-request-id"]


async def test_a_whole_answer_is_seen(upstream: ScriptedUpstream) -> None:
    notebooks = Notebooks()
    async with client_of(make_settings(upstream.url), observe=notebooks) as client:
        await client.post(PATH, json=ASK | {"stream": False})
    [notebook] = notebooks.all
    assert notebook.words == [
        "RequestReceived",
        "Routed",
        "AttemptWritten",
        "UpstreamCalled",
        "UpstreamAnswered",
        "ResponseSent",
        "RequestEnded",
    ]
    assert json.loads(notebook.body) == COMPLETION
    assert notebook.events == []


async def test_a_refusal_and_the_second_attempt_are_seen(upstream: ScriptedUpstream) -> None:
    async def script(call: Call) -> None:
        if "temperature" in call.json:
            message = "Unknown parameter: 'temperature'."
            await call.answer({"error": {"message": message}}, 400)
        else:
            await say_hello(call)

    upstream.script = script
    notebooks = Notebooks()
    async with client_of(make_settings(upstream.url), observe=notebooks) as client:
        await client.post(PATH, json=ASK | {"temperature": 0.5})
    [notebook] = notebooks.all
    assert notebook.words == [
        "RequestReceived",
        "Routed",
        *["AttemptWritten", "UpstreamCalled", "UpstreamAnswered", "AttemptFailed"],
        *["AttemptWritten", "UpstreamCalled", "UpstreamAnswered"],
        "RequestEnded",
    ]
    assert [what[1] for word, what in notebook.seen if word == "UpstreamCalled"] == [
        call.json for call in upstream.calls
    ]
    assert [what[0] for word, what in notebook.seen if word == "UpstreamAnswered"] == [400, 200]
    assert b"Unknown parameter" in notebook.body


async def test_an_error_is_seen(upstream: ScriptedUpstream) -> None:
    notebooks = Notebooks()
    async with client_of(make_settings(upstream.url), observe=notebooks) as client:
        await client.post(PATH, content=b"{")
        await client.post(PATH, json={"model": "m", "input": [], "stream": True})
    half, empty = notebooks.all
    assert half.seen == [
        ("RequestReceived", "half a request"),
        ("ErrorSent", None),
        ("RequestEnded", "invalid_request_error"),
    ]
    assert half.record.status == 400
    assert empty.words == ["RequestReceived", "Routed", "ErrorSent", "RequestEnded"]
    assert empty.seen[-1] == ("RequestEnded", "missing_required_parameter")


async def test_what_is_passed_through_is_seen(upstream: ScriptedUpstream) -> None:
    notebooks = Notebooks()
    request = {"model": "m", "messages": [], "stream": True}
    async with client_of(make_settings(upstream.url), observe=notebooks) as client:
        await client.post("/v1/chat/completions", json=request)
    [notebook] = notebooks.all
    assert notebook.words == [
        "RequestReceived",
        "Routed",
        "UpstreamCalled",
        "UpstreamAnswered",
        "RequestEnded",
    ]
    assert notebook.seen[2] == ("UpstreamCalled", ("chat/completions", request))
    assert notebook.body == b"".join(HELLO)


async def test_each_turn_of_a_websocket_is_seen(upstream: ScriptedUpstream) -> None:
    notebooks = Notebooks()
    async with serving(make_settings(upstream.url), observe=notebooks) as base:
        async with connect(base.replace("http", "ws") + PATH) as socket:
            for _ in range(2):
                await socket.send(json.dumps(ASK | {"type": "response.create"}))
                while json.loads(await bounded(socket.recv()))["type"] != "response.completed":
                    pass
    one, two = notebooks.all
    assert (
        one.words
        == two.words
        == [
            "RequestReceived",
            "Routed",
            "AttemptWritten",
            "UpstreamCalled",
            "UpstreamAnswered",
            "RequestEnded",
        ]
    )
    assert one.seen[0] == ("RequestReceived", ASK)
    assert one.record.method == "WS"
    assert one.record.request_id != two.record.request_id
    assert [type(event).__name__ for event in one.events][-1] == "Completed"


async def test_a_departure_is_seen(upstream: ScriptedUpstream) -> None:
    notebooks = Notebooks()

    upstream.script = hello_then_silence
    async with serving(make_settings(upstream.url), observe=notebooks) as base:
        async with httpx.AsyncClient(base_url=base) as client:
            async with client.stream("POST", PATH, json=ASK) as answer:
                await bounded(anext(answer.aiter_raw()))
    [notebook] = notebooks.all
    assert notebook.seen[-1] == ("RequestEnded", "client left")
    assert [type(event).__name__ for event in notebook.events][-1] == "OutputTextDelta"
