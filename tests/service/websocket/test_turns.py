"""Turns on a WebSocket, and what is remembered between them."""

from __future__ import annotations

import asyncio
import itertools
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from tests.fixture_cases import ROOT
from tests.service.chat_bodies import HELLO, chunk
from tests.service.responses_api import PATH, events
from tests.service.wire import (
    BOUND_S,
    Call,
    ScriptedUpstream,
    bounded,
    make_settings,
    say_hello,
    serving,
)

from .client import (
    CALLS_LS,
    CREATE,
    LS,
    ask,
    asked,
    id_of,
    open_socket,
    receive_event,
    receive_response,
    socket_to,
    types,
)

pytestmark = pytest.mark.anyio


# --- turns ------------------------------------------------------------------------------------


CASES = sorted(ROOT.glob("*/*/upstream.sse"))[::9]


@pytest.mark.parametrize("case", CASES, ids=[f"{c.parts[-3]}/{c.parts[-2]}" for c in CASES])
async def test_the_events_are_those_of_the_http_stream(
    upstream: ScriptedUpstream, case: Path
) -> None:
    """Whatever the upstream says: the same objects, in the same order, without `[DONE]`."""
    body = await asyncio.to_thread(case.read_bytes)

    async def script(call: Call) -> None:
        await call.head()
        await call.send(body)
        await call.end()

    upstream.script = script
    given = json.loads((case.parent / "request.json").read_text())
    request = {**given, "model": "m", "stream": True}
    answers: list[list[dict[str, Any]]] = []
    for kind in ("http", "websocket"):
        numbers = itertools.count()
        async with serving(
            make_settings(upstream.url),
            clock=lambda: 1_700_000_000.0,
            new_id=lambda prefix, numbers=numbers: (
                f"{prefix}{next(numbers) if prefix != 'req_' else 0}"
            ),
        ) as base:
            if kind == "http":
                async with httpx.AsyncClient(timeout=BOUND_S) as client:
                    answer = await client.post(base + PATH, json=request)
                if answer.status_code == 200:
                    answers.append(events(answer.content))
                else:
                    answers.append([{"status": answer.status_code, **answer.json()}])
            else:
                async with open_socket(base) as socket:
                    found = await ask(socket, **request)
                    if "status" in found[0]:
                        found[0]["error"].pop("headers", None)
                        found = [{key: found[0][key] for key in ("status", "error")}]
                    answers.append(found)
    http, websocket = answers
    assert websocket == http
    sent = [call.json for call in upstream.calls]
    assert sent[0] == sent[1]


async def test_several_turns_send_only_what_is_new(upstream: ScriptedUpstream) -> None:
    """The model gets the whole conversation, though the client sends each item once."""

    async def script(call: Call) -> None:
        await call.head()
        if len(upstream.calls) == 1:
            await call.send(chunk({"reasoning_content": "Hm."}), CALLS_LS, chunk({}, "tool_calls"))
        else:
            await call.send(*HELLO)
        await call.end()

    upstream.script = script
    more: dict[str, Any] = {
        "tools": [LS],
        "store": False,
        "include": ["reasoning.encrypted_content"],
    }
    async with socket_to(upstream) as socket:
        first = await ask(socket, **more, instructions="Be brief.")
        output = {"type": "function_call_output", "call_id": "c1", "output": "a.txt"}
        second = await ask(socket, **more, previous_response_id=id_of(first), input=[output])
        third = await ask(socket, **more, previous_response_id=id_of(second), input="And now?")
    assert second[-1]["response"]["previous_response_id"] == id_of(first)
    assert asked(upstream, 0) == [("system", "Be brief."), ("user", "Hi")]
    assert [role for role, _ in asked(upstream, 2)] == [
        "user", "assistant", "tool", "assistant", "user",
    ]  # fmt: skip
    turn = upstream.calls[2].json["messages"]
    assert turn[:3] == upstream.calls[1].json["messages"]
    assert turn[1]["reasoning_content"] == "Hm."
    assert turn[1]["tool_calls"][0]["id"] == "c1"
    assert turn[2]["content"] == "a.txt"
    assert turn[3:] == [
        {"role": "assistant", "content": "Hello world"},
        {"role": "user", "content": "And now?"},
    ]
    assert third[-1]["response"]["output"][0]["content"][0]["text"] == "Hello world"


async def test_a_continuation_asks_what_the_whole_conversation_would(
    upstream: ScriptedUpstream,
) -> None:
    """The same request upstream, byte for byte, as when everything is sent at once."""
    async with socket_to(upstream) as socket:
        first = await ask(socket, input=[{"role": "user", "content": "Hi"}])
        await ask(socket, previous_response_id=id_of(first), input="And?")
        output = first[-1]["response"]["output"]
        await ask(
            socket,
            input=[{"role": "user", "content": "Hi"}, *output, {"role": "user", "content": "And?"}],
        )
    assert upstream.calls[1].body == upstream.calls[2].body


async def test_a_request_that_wants_no_answer_does_not_reach_the_upstream(
    upstream: ScriptedUpstream,
) -> None:
    """It prepares the next one: its input is remembered under the id of its empty response."""
    async with socket_to(upstream) as socket:
        system = [{"type": "message", "role": "developer", "content": "You are a poet."}]
        prepared = await ask(socket, generate=False, input=system)
        empty = await ask(socket, generate=False, input=[])
        assert types(prepared) == ["response.created", "response.in_progress", "response.completed"]
        assert [event["sequence_number"] for event in prepared] == [0, 1, 2]
        assert prepared[-1]["response"]["output"] == []
        assert upstream.calls == []
        await ask(socket, previous_response_id=id_of(prepared))
        await ask(socket, previous_response_id=id_of(empty))
    assert [content for _, content in asked(upstream, 0)] == ["You are a poet.", "Hi"]
    assert asked(upstream, 1) == [("user", "Hi")]


@pytest.mark.parametrize("stream", [True, False])
async def test_nor_does_it_over_http(upstream: ScriptedUpstream, stream: bool) -> None:
    request = {"model": "m", "input": "Hi", "generate": False, "stream": stream}
    async with upstream.client() as client:
        answer = await client.post(PATH, json=request)
    response = events(answer.content)[-1]["response"] if stream else answer.json()
    assert (response["status"], response["output"]) == ("completed", [])
    assert upstream.calls == []


async def test_the_handshake_carries_the_key(upstream: ScriptedUpstream) -> None:
    async with socket_to(upstream, client_key="of-the-client") as socket:
        await ask(socket)
    async with socket_to(upstream, client_key="of-the-client", key="of-the-operator") as socket:
        await ask(socket)
    assert upstream.calls[0].headers["authorization"] == "Bearer of-the-client"
    assert upstream.calls[1].headers["authorization"] == "Bearer of-the-operator"


async def test_the_path_without_v1(upstream: ScriptedUpstream) -> None:
    async with upstream.service() as base:
        async with open_socket(base, path="/responses") as socket:
            assert types(await ask(socket))[-1] == "response.completed"


async def test_other_paths_are_not_sockets(upstream: ScriptedUpstream) -> None:
    async with upstream.service() as base:
        with pytest.raises(websockets.InvalidStatus) as refused:
            async with open_socket(base, path="/v1/chat/completions"):
                pass
    assert refused.value.response.status_code == 426


async def test_a_ping_is_answered_while_a_turn_runs(upstream: ScriptedUpstream) -> None:
    go = asyncio.Event()

    async def script(call: Call) -> None:
        await call.head()
        await call.send(*HELLO[:2])
        await bounded(go.wait())
        await call.send(*HELLO[2:])
        await call.end()

    upstream.script = script
    async with socket_to(upstream) as socket:
        await socket.send(json.dumps(CREATE))
        assert (await receive_event(socket))["type"] == "response.created"
        await bounded(await socket.ping())
        go.set()
        assert types(await receive_response(socket))[-1] == "response.completed"


# --- what is remembered -------------------------------------------------------------------------


async def test_an_unknown_parent_is_an_error(upstream: ScriptedUpstream) -> None:
    async with socket_to(upstream) as socket:
        [error] = await ask(socket, previous_response_id="resp_gone")
        assert error["type"] == "error"
        assert error["status"] == 400
        assert error["error"]["code"] == "previous_response_not_found"
        assert error["error"]["param"] == "previous_response_id"
        assert error["error"]["type"] == "invalid_request_error"
        assert types(await ask(socket))[-1] == "response.completed"  # the socket is as good as new


async def test_another_connection_remembers_nothing(upstream: ScriptedUpstream) -> None:
    async with upstream.service() as base:
        async with open_socket(base) as one, open_socket(base) as other:
            first = await ask(one)
            [error] = await ask(other, previous_response_id=id_of(first))
    assert error["error"]["code"] == "previous_response_not_found"


async def refuses(call: Call) -> None:
    await call.answer({"error": {"message": "no"}}, 400)


async def breaks_off(call: Call) -> None:
    await call.head()
    await call.send(*HELLO[:2])
    call.drop()


@pytest.mark.parametrize("failing", [refuses, breaks_off])
async def test_a_failed_turn_takes_its_parent_with_it(
    upstream: ScriptedUpstream, failing: Any
) -> None:
    async with socket_to(upstream) as socket:
        first = await ask(socket)
        upstream.script = failing
        failed = await ask(socket, previous_response_id=id_of(first))
        assert failed[-1]["type"] == ("error" if failing is refuses else "response.failed")
        upstream.script = say_hello
        [error] = await ask(socket, previous_response_id=id_of(first))
        assert error["error"]["code"] == "previous_response_not_found"
        if failing is breaks_off:
            failed_id = failed[-1]["response"]["id"]
            [error] = await ask(socket, previous_response_id=failed_id)
            assert error["error"]["code"] == "previous_response_not_found"
        assert types(await ask(socket))[-1] == "response.completed"


async def test_a_failed_fork_leaves_the_parent_to_its_lane(upstream: ScriptedUpstream) -> None:
    async with socket_to(upstream) as socket:
        first = await ask(socket, stream_id="source")
        upstream.script = refuses
        [error] = await ask(socket, stream_id="fork", previous_response_id=id_of(first))
        assert error["stream_id"] == "fork"
        upstream.script = say_hello
        again = await ask(socket, stream_id="source", previous_response_id=id_of(first))
    assert types(again)[-1] == "response.completed"


async def test_an_output_needs_its_call_in_the_parent(upstream: ScriptedUpstream) -> None:
    output = {"type": "function_call_output", "call_id": "c9", "output": "x"}
    async with socket_to(upstream) as socket:
        first = await ask(socket)
        [error] = await ask(socket, previous_response_id=id_of(first), input=[output])
        assert error["status"] == 400
        assert error["error"]["param"] == "input[0].call_id"
        [error] = await ask(socket, previous_response_id=id_of(first))
        assert error["error"]["code"] == "previous_response_not_found"
    assert len(upstream.calls) == 1


async def test_a_cut_answer_can_be_gone_on_from(upstream: ScriptedUpstream) -> None:
    async def script(call: Call) -> None:
        await call.head()
        await call.send(HELLO[1], chunk({}, "length"))
        await call.end()

    upstream.script = script
    async with socket_to(upstream) as socket:
        first = await ask(socket)
        assert first[-1]["type"] == "response.incomplete"
        await ask(socket, previous_response_id=first[-1]["response"]["id"], input="Go on.")
    assert [content for _, content in asked(upstream, 1)] == ["Hi", "Hello", "Go on."]


async def test_memory_is_bounded(upstream: ScriptedUpstream) -> None:
    """The oldest is forgotten; a conversation that is too large alone is not remembered at all."""
    async with socket_to(upstream, max_history_bytes=3000) as socket:
        one = await ask(socket, input="x" * 1000)
        two = await ask(socket, input="y" * 1000)
        three = await ask(socket, input="z" * 1000)
        for forgotten in (one, two):
            found = await ask(socket, previous_response_id=id_of(forgotten))
            if forgotten is one:
                assert found[-1]["error"]["code"] == "previous_response_not_found"
        big = await ask(socket, input="b" * 4000)
        [error] = await ask(socket, previous_response_id=id_of(big))
        assert error["error"]["code"] == "previous_response_not_found"
        assert three
        assert types(await ask(socket))[-1] == "response.completed"
