"""Stored responses on a WebSocket: its own memory, and the store."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.service.responses_api import PATH
from tests.service.store.conversing import new, said, texts_of
from tests.service.store.storing import ANNA, BOB, bytes_of, settings_of
from tests.service.websocket.client import ask, asked, id_of, open_socket
from tests.service.wire import BOUND_S, Call, ScriptedUpstream, say_hello, serving
from translator.service.config.store import Location

pytestmark = pytest.mark.anyio


async def test_ws_then_http(upstream: ScriptedUpstream, location: Location) -> None:
    async with serving(settings_of(upstream, location)) as base:
        async with open_socket(base) as socket:
            first = id_of(await ask(socket, input="one"))
            second = id_of(await ask(socket, input="two", previous_response_id=first))
        headers = {"authorization": "Bearer client-key"}
        async with httpx.AsyncClient(base_url=base, timeout=BOUND_S, headers=headers) as client:
            body = {"model": "m", "input": "three", "previous_response_id": second}
            assert (await client.post(PATH, json=body)).status_code == 200
        async with open_socket(base) as socket:
            id_of(await ask(socket, input="three", previous_response_id=second))
    assert upstream.calls[2].json["messages"] == upstream.calls[3].json["messages"]
    assert [text for role, text in asked(upstream, 3) if role == "user"] == ["one", "two", "three"]


async def test_ws_store_false_then_store_true(
    upstream: ScriptedUpstream, location: Location
) -> None:
    """The connection remembers it; a child that asks to be stored says that it is not."""
    async with serving(settings_of(upstream, location)) as base:
        async with open_socket(base) as socket:
            before = bytes_of(location)
            first = id_of(await ask(socket, input="one", store=False))
            found = await ask(socket, input="two", store=True, previous_response_id=first)
            assert {event["response"]["store"] for event in found if "response" in event} == {False}
            third = await ask(socket, input="three", previous_response_id=id_of(found))
            assert third[-1]["response"]["store"] is False
            assert bytes_of(location) == before
    assert len(asked(upstream, 2)) == 5


async def test_a_conversation_on_a_websocket(
    upstream: ScriptedUpstream, location: Location
) -> None:
    async with serving(settings_of(upstream, location)) as base:
        headers = {"authorization": "Bearer client-key"}
        async with httpx.AsyncClient(base_url=base, timeout=BOUND_S, headers=headers) as client:
            made = await new(client, said("zero"))
            async with open_socket(base) as socket:
                found = await ask(socket, input="one", conversation=made)
                first = id_of(found)
                echoes = {
                    str(one["response"]["conversation"]) for one in found if "response" in one
                }
                assert echoes == {str({"id": made})}
                read = id_of(await ask(socket, input="two", conversation=made, store=False))
                id_of(await ask(socket, input="three", previous_response_id=read))
                id_of(await ask(socket, input="three", previous_response_id=first))
                refused = await ask(
                    socket, input="four", conversation=made, previous_response_id=read
                )
                assert refused[-1]["error"]["param"] == "previous_response_id"
                missing = await ask(socket, input="four", conversation="conv_0")
                assert (missing[-1]["status"], missing[-1]["error"]["param"]) == (
                    404,
                    "conversation",
                )
                id_of(await ask(socket, input="four", conversation=made))
            assert await texts_of(client, made) == [
                *("zero", "one", "Hello world", "four", "Hello world")
            ]
    texts = [[text for role, text in asked(upstream, turn) if role == "user"] for turn in range(5)]
    assert texts == [
        ["zero", "one"],
        ["zero", "one", "two"],
        ["zero", "one", "two", "three"],
        ["zero", "one", "three"],
        ["zero", "one", "four"],
    ]


async def test_a_child_that_is_not_stored_remembers_what_it_goes_on_from(
    upstream: ScriptedUpstream, location: Location
) -> None:
    async with serving(settings_of(upstream, location)) as base:
        async with open_socket(base) as socket:
            first = id_of(await ask(socket, input="one"))
            second = id_of(await ask(socket, input="two", store=False, previous_response_id=first))
            id_of(await ask(socket, input="three", store=False, previous_response_id=second))
        async with open_socket(base) as socket:
            lost = await ask(socket, input="four", previous_response_id=second)
            assert lost[-1]["error"]["code"] == "previous_response_not_found"
    assert [text for role, text in asked(upstream, 2) if role == "user"] == ["one", "two", "three"]


async def test_nothing_is_produced_in_the_background(
    upstream: ScriptedUpstream, location: Location
) -> None:
    async with serving(settings_of(upstream, location)) as base, open_socket(base) as socket:
        before = bytes_of(location)
        [frame] = await ask(socket, background=True)
        assert (frame["status"], frame["error"]["param"]) == (400, "background")
        assert "POST /v1/responses" in frame["error"]["message"]
        assert bytes_of(location) == before
    assert upstream.calls == []


async def test_ws_failed_turn_evicts_memory_only(
    upstream: ScriptedUpstream, location: Location
) -> None:
    async def fails(call: Call) -> None:
        await call.answer({"error": {"message": "no"}}, status=400)

    async with serving(settings_of(upstream, location)) as base:
        async with open_socket(base) as socket:
            first = id_of(await ask(socket, input="one"))
            upstream.script = fails
            await ask(socket, input="two", previous_response_id=first)
            upstream.script = say_hello
            id_of(await ask(socket, input="two", previous_response_id=first))


async def test_another_client_finds_nothing_on_a_websocket(
    upstream: ScriptedUpstream, location: Location
) -> None:
    async with serving(settings_of(upstream, location, clients=True)) as base:
        async with open_socket(base, ANNA) as socket:
            first = id_of(await ask(socket))
        async with open_socket(base, BOB) as socket:
            errors: list[Any] = []
            for parent in (first, "resp_0"):
                [frame] = await ask(socket, previous_response_id=parent)
                errors.append(frame["error"]["message"].replace(parent, "ID"))
                assert frame["error"]["code"] == "previous_response_not_found"
            assert errors[0] == errors[1]


async def test_a_request_that_only_prepares_is_stored(
    upstream: ScriptedUpstream, location: Location
) -> None:
    async with serving(settings_of(upstream, location)) as base:
        async with open_socket(base) as socket:
            first = id_of(await ask(socket, input="one", generate=False))
        async with open_socket(base) as socket:
            id_of(await ask(socket, input="two", previous_response_id=first))
    assert len(upstream.calls) == 1
    assert [text for _, text in asked(upstream, 0)] == ["one", "two"]
