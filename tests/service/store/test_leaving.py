"""Turns that end without their last event: the store hears of each of them, once."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from tests.service.chat_bodies import HELLO
from tests.service.responses_api import ASK, PATH
from tests.service.websocket.client import CREATE, open_socket, receive_event
from tests.service.wire import BOUND_S, Call, ScriptedUpstream, hello_then_silence, serving
from translator import Translation
from translator.service.config.store import Location
from translator.service.store.responses import Part

from .storing import Service, ask, refused, settings_of

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
