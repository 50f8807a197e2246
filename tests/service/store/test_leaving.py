"""Turns that end without their last event: the store hears of each of them, once."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from tests.service.chat_bodies import HELLO, chunk
from tests.service.responses_api import ASK, PATH
from tests.service.websocket.client import CREATE, open_socket, receive_event
from tests.service.wire import (
    BOUND_S,
    Call,
    ScriptedUpstream,
    hello_then_silence,
    say_hello,
    serving,
)
from translator import Translation
from translator.service.config.store import Location
from translator.service.store.part import Part

from .conversing import CONVERSATIONS, OUTPUT
from .storing import Service, ask, bytes_of, messages, refused, settings_of

pytestmark = pytest.mark.anyio


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each turn that ended without its last event, whether it had a translation."""
    found: list[bool] = []
    leave = Part.leave

    async def recorded(part: Part, translation: Translation | None) -> None:
        found.append(translation is not None)
        await leave(part, translation)

    monkeypatch.setattr(Part, "leave", recorded)
    return found


async def until(found: list[bool]) -> None:
    async with asyncio.timeout(BOUND_S):
        while not found:
            await asyncio.sleep(0.01)


async def test_not_of_turns_that_have_one(
    service: Service, upstream: ScriptedUpstream, left: list[bool]
) -> None:
    async def breaks(call: Call) -> None:
        await call.head()
        await call.send(*HELLO[:2])
        await call.cut(HELLO[2])

    async with service() as client:
        for fields in ({}, {"stream": True}, {"stream": True, "generate": False}):
            await ask(client, **fields)
        upstream.script = breaks
        assert (await ask(client, stream=True))["status"] == "failed"
    assert left == []


@pytest.mark.parametrize("stream", [True, False])
async def test_of_a_turn_that_the_upstream_refuses(
    service: Service, upstream: ScriptedUpstream, left: list[bool], stream: bool
) -> None:
    async def refuses(call: Call) -> None:
        await call.answer({"error": {"message": "No."}}, status=403)

    upstream.script = refuses
    async with service() as client:
        status, _ = await refused(client, stream=stream)
        assert status == 403
    assert left == [True]


async def test_of_a_request_that_is_refused(service: Service, left: list[bool]) -> None:
    async with service(server={"max_input_items": 1}) as client:
        message = {"role": "user", "content": "Hi"}
        await refused(client, input=[message, message])
        assert left == [False]
        await refused(client, tools=[{"type": "nonsense"}], input=[{"type": "nonsense"}])
    assert left == [False, False]


async def test_of_counted_tokens(service: Service, left: list[bool]) -> None:
    async with service() as client:
        first = await ask(client)
        body = {"model": "m", "input": "Hi", "previous_response_id": first["id"]}
        assert (await client.post(f"{PATH}/input_tokens", json=body)).status_code == 200
    assert left == [True]


async def test_what_a_client_has_received_is_stored(
    upstream: ScriptedUpstream, location: Location
) -> None:
    """On a WebSocket; over HTTP see `test_conversation_cancelled_nothing`."""
    upstream.script = calls_then_silence
    async with serving(settings_of(upstream, location)) as base:
        async with open_socket(base) as socket:
            await socket.send(json.dumps(CREATE))
            event = await receive_event(socket)
            response_id = event["response"]["id"]
            while event["type"] != "response.function_call_arguments.done":
                event = await receive_event(socket)
        headers = {"authorization": "Bearer client-key"}
        async with httpx.AsyncClient(base_url=base, timeout=BOUND_S, headers=headers) as client:
            path = f"{PATH}/{response_id}"
            async with asyncio.timeout(BOUND_S):
                while (answer := await client.get(path)).status_code == 404:
                    await asyncio.sleep(0.02)
            assert answer.json()["status"] == "cancelled"
            assert [one["type"] for one in answer.json()["output"]] == ["function_call"]
            upstream.script = say_hello
            await ask(client, input=[OUTPUT], previous_response_id=response_id)
    roles = [one["role"] for one in messages(upstream.calls[-1])]
    assert roles == ["user", "assistant", "tool"]


async def calls_then_silence(call: Call) -> None:
    """A whole call, and the beginning of another."""
    await call.head()
    for index in range(2):
        function = {"name": "ls", "arguments": "{}"}
        delta = {"index": index, "id": f"c{index + 1}", "function": function}
        await call.send(chunk({"tool_calls": [delta]}))
    await call.gone()


async def test_nothing_of_a_stream_that_is_not_to_be_stored(
    upstream: ScriptedUpstream, location: Location, left: list[bool]
) -> None:
    upstream.script = calls_then_silence
    async with (
        serving(settings_of(upstream, location)) as base,
        httpx.AsyncClient(base_url=base, timeout=0.5) as client,
    ):
        before = bytes_of(location)
        first = (await client.post(CONVERSATIONS, json={})).json()["id"]
        with pytest.raises(httpx.ReadTimeout):
            await client.post(PATH, json=ASK | {"store": False, "conversation": first})
        await until(left)
    assert bytes_of(location) == before


@pytest.mark.parametrize("stream", [True, False])
async def test_of_a_client_that_leaves(
    upstream: ScriptedUpstream, location: Location, left: list[bool], stream: bool
) -> None:
    upstream.script = hello_then_silence
    async with (
        serving(settings_of(upstream, location)) as base,
        httpx.AsyncClient(base_url=base, timeout=0.5) as client,
    ):
        with pytest.raises(httpx.ReadTimeout):
            await client.post(PATH, json=ASK | {"stream": stream})
        await until(left)
    assert left == [True]


async def test_of_a_websocket_that_is_closed(
    upstream: ScriptedUpstream, location: Location, left: list[bool]
) -> None:
    upstream.script = hello_then_silence
    async with serving(settings_of(upstream, location)) as base:
        async with open_socket(base) as socket:
            await socket.send(json.dumps(CREATE))
            await receive_event(socket)
        await until(left)
    assert left == [True]
