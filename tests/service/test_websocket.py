"""`GET /v1/responses` as a WebSocket: turns, what is remembered between them, lanes, and bounds."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import websockets
from openai.lib.responses_websocket import (
    AsyncResponsesWebSocketSession,
    ResponsesWebSocketAccumulator,
    ResponsesWebSocketError,
    ResponsesWebSocketLimits,
)
from websockets.asyncio.client import ClientConnection, connect

from translator.service import websocket as service_websocket

from .wire import (
    BOUND_S,
    HELLO,
    MODELS,
    Call,
    ScriptedUpstream,
    bounded,
    chunk,
    client_of,
    events,
    frame,
    make_settings,
    say_hello,
    serving,
)

pytestmark = pytest.mark.anyio

PATH = "/v1/responses"
CREATE: dict[str, Any] = {"type": "response.create", "model": "m", "input": "Hi"}
TERMINAL = frozenset({"response.completed", "response.incomplete", "response.failed"})
LS = {"type": "function", "name": "ls", "parameters": {"type": "object"}}
CALLS_LS = chunk(
    {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "ls", "arguments": "{}"}}]}
)


@asynccontextmanager
async def socket_to(
    upstream: ScriptedUpstream, client_key: str = "client-key", **settings: Any
) -> AsyncGenerator[ClientConnection]:
    """A WebSocket to a service of its own."""
    async with serving(make_settings(upstream.url, **settings)) as base:
        async with open_socket(base, client_key) as socket:
            yield socket


def open_socket(base: str, key: str = "client-key", path: str = PATH) -> connect:
    return connect(
        base.replace("http://", "ws://") + path,
        additional_headers={"authorization": f"Bearer {key}"},
        open_timeout=BOUND_S,
        close_timeout=BOUND_S,
        max_size=None,
    )


async def hear(socket: ClientConnection) -> dict[str, Any]:
    """The next message, which must be one JSON object in a text frame."""
    message = await bounded(socket.recv())
    assert isinstance(message, str)
    event: dict[str, Any] = json.loads(message)
    return event


async def ask(socket: ClientConnection, **fields: Any) -> list[dict[str, Any]]:
    """One request, and all events of its answer; an error is the only one."""
    await socket.send(json.dumps(CREATE | fields))
    return await hear_out(socket)


async def hear_out(socket: ClientConnection) -> list[dict[str, Any]]:
    found = [await hear(socket)]
    while found[-1]["type"] not in TERMINAL and "status" not in found[-1]:
        found.append(await hear(socket))
    return found


def types(found: Sequence[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in found]


def id_of(found: Sequence[dict[str, Any]]) -> str:
    assert found[-1]["type"] == "response.completed", found[-1]
    response_id: str = found[-1]["response"]["id"]
    return response_id


def asked(upstream: ScriptedUpstream, turn: int) -> list[Any]:
    """What was said to the model in a turn: (role, content) of each message."""
    return [(one["role"], one.get("content")) for one in upstream.calls[turn].json["messages"]]


# --- turns ------------------------------------------------------------------------------------


FIXTURES = Path(__file__).parents[2] / "fixtures"
CASES = sorted(FIXTURES.glob("*/*/upstream.sse"))[::9]


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
    async with client_of(make_settings(upstream.url)) as client:
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
    async with serving(make_settings(upstream.url)) as base:
        async with open_socket(base, path="/responses") as socket:
            assert types(await ask(socket))[-1] == "response.completed"


async def test_other_paths_are_not_sockets(upstream: ScriptedUpstream) -> None:
    async with serving(make_settings(upstream.url)) as base:
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
        assert (await hear(socket))["type"] == "response.created"
        await bounded(await socket.ping())
        go.set()
        assert types(await hear_out(socket))[-1] == "response.completed"


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
    async with serving(make_settings(upstream.url)) as base:
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


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "code", "param"),
    [
        ("{", "invalid_json", None),
        ("[]", "invalid_json", None),
        ('{"type":"response.create","input":[{]}', "invalid_json", None),
        (b"\xff", "invalid_json", None),
        ("{}", "unknown_event_type", "type"),
        ('{"type":"response.steer","input":"x"}', "unknown_event_type", "type"),
        ('{"type":"response.create","stream_id":""}', "invalid_stream_id", "stream_id"),
        ('{"type":"response.create","stream_id":"a b"}', "invalid_stream_id", "stream_id"),
        ('{"type":"response.create","stream_id":3}', "invalid_stream_id", "stream_id"),
        ('{"type":"response.create","model":"m"}', "missing_required_parameter", "input"),
        ('{"type":"response.create","model":3,"input":"x"}', "invalid_type", "model"),
        ('{"type":"response.create","model":"m","input":"x","previous_response_id":3}',
         "invalid_type", "previous_response_id"),
    ],
)  # fmt: skip
async def test_an_error_leaves_the_socket_usable(
    upstream: ScriptedUpstream, message: str | bytes, code: str, param: str | None
) -> None:
    async with socket_to(upstream) as socket:
        await socket.send(message)
        error = await hear(socket)
        assert error["type"] == "error"
        assert error["status"] == 400
        assert set(error["error"]) == {"type", "code", "message", "param"}
        assert (error["error"]["code"], error["error"]["param"]) == (code, param)
        assert upstream.calls == []
        assert types(await ask(socket))[-1] == "response.completed"


async def test_a_refusal_keeps_its_status_and_its_headers(upstream: ScriptedUpstream) -> None:
    async def script(call: Call) -> None:
        await call.answer({"error": {"message": "slow down"}}, 429, headers={"retry-after": "7"})

    upstream.script = script
    async with socket_to(upstream) as socket:
        [error] = await ask(socket)
    assert error["status"] == 429
    assert error["error"]["code"] == "rate_limit_exceeded"
    assert error["error"]["headers"]["retry-after"] == "7"
    assert error["headers"]["retry-after"] == "7"


async def test_a_fault_of_our_own_is_a_500(caplog: pytest.LogCaptureFixture) -> None:
    def broken(request: httpx.Request) -> httpx.Response:
        raise KeyError("secret detail")

    settings = make_settings("http://up.test/v1")
    async with serving(settings, transport=httpx.MockTransport(broken)) as base:
        async with open_socket(base) as socket:
            [error] = await ask(socket)
            assert (error["status"], error["error"]["message"]) == (500, "The translator failed.")
            [again] = await ask(socket)
            assert again["status"] == 500
    assert "secret detail" in caplog.text


async def test_no_place_for_a_turn_is_a_503_that_costs_nothing(upstream: ScriptedUpstream) -> None:
    arrived, go = asyncio.Event(), asyncio.Event()

    async def script(call: Call) -> None:
        if call.json["messages"][-1]["content"] == "wait":
            arrived.set()
            await bounded(go.wait())
        await say_hello(call)

    upstream.script = script
    async with socket_to(upstream, max_concurrent_requests=1) as socket:
        first = await ask(socket)
        await socket.send(json.dumps(CREATE | {"stream_id": "a", "input": "wait"}))
        await bounded(arrived.wait())
        [error] = await ask(socket, previous_response_id=id_of(first))
        assert (error["status"], error["error"]["code"]) == (503, "server_error")
        assert error["headers"]["retry-after"] == "1"
        go.set()
        await hear_out(socket)
        assert id_of(await ask(socket, previous_response_id=id_of(first)))


# --- lanes ----------------------------------------------------------------------------------------


async def test_a_lane_is_first_in_first_out(upstream: ScriptedUpstream) -> None:
    async with socket_to(upstream) as socket:
        for number in range(5):
            await socket.send(json.dumps(CREATE | {"input": str(number), "stream_id": "a"}))
        for _ in range(5):
            found = await hear_out(socket)
            assert {event["stream_id"] for event in found} == {"a"}
            assert [event["sequence_number"] for event in found] == list(range(len(found)))
    assert [content for [(_, content)] in (asked(upstream, n) for n in range(5))] == list("01234")


async def test_lanes_do_not_wait_for_each_other(upstream: ScriptedUpstream) -> None:
    """One stands still; two others, and the one without a name, go on."""
    slow, go = asyncio.Event(), asyncio.Event()

    async def script(call: Call) -> None:
        if call.json["messages"][-1]["content"] == "slow":
            slow.set()
            await bounded(go.wait())
        await say_hello(call)

    upstream.script = script
    async with socket_to(upstream) as socket:
        await socket.send(json.dumps(CREATE | {"input": "slow", "stream_id": "slow"}))
        await bounded(slow.wait())
        for lane in ({"stream_id": "a"}, {"stream_id": "b-1._X"}, {}, {"stream_id": None}):
            found = await ask(socket, **lane)
            assert types(found)[-1] == "response.completed"
            assert {event.get("stream_id") for event in found} == {lane.get("stream_id")}
        go.set()
        assert {event["stream_id"] for event in await hear_out(socket)} == {"slow"}


async def test_sixteen_lanes_are_answered_at_once_and_more_wait(upstream: ScriptedUpstream) -> None:
    go = asyncio.Event()

    async def script(call: Call) -> None:
        await bounded(go.wait())
        await say_hello(call)

    upstream.script = script
    async with socket_to(upstream) as socket:
        for number in range(20):
            await socket.send(json.dumps(CREATE | {"stream_id": f"lane{number}"}))
        while len(upstream.calls) < 16:
            await asyncio.sleep(0.01)
        await bounded(await socket.ping())  # everything that was sent has been read
        await asyncio.sleep(0.1)
        assert len(upstream.calls) == 16
        go.set()
        ended: set[str] = set()
        while len(ended) < 20:
            event = await hear(socket)
            if event["type"] == "response.completed":
                ended.add(event["stream_id"])
    assert len(upstream.calls) == 20


async def test_a_connection_knows_32_names(upstream: ScriptedUpstream) -> None:
    async with socket_to(upstream) as socket:
        for number in range(32):
            await ask(socket, stream_id=f"lane{number}", generate=False)
        [error] = await ask(socket, stream_id="one-more", generate=False)
        assert error["status"] == 400
        assert error["error"]["code"] == "websocket_stream_limit_reached"
        assert (
            types(await ask(socket, stream_id="lane3", generate=False))[-1] == "response.completed"
        )
        assert types(await ask(socket, generate=False))[-1] == "response.completed"


# --- bounds ---------------------------------------------------------------------------------------


async def test_what_waits_is_bounded_in_number(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_websocket, "MAX_WAITING", 2)
    await overflow(upstream, CREATE, fitting=2)


async def test_what_waits_is_bounded_in_bytes(upstream: ScriptedUpstream) -> None:
    await overflow(upstream, CREATE | {"input": "x" * 500}, fitting=1, max_body_bytes=1000)


async def overflow(
    upstream: ScriptedUpstream, message: dict[str, Any], *, fitting: int, **settings: Any
) -> None:
    """One turn runs, `fitting` more wait, and the next is refused; then all of them are answered."""
    arrived, go = asyncio.Event(), asyncio.Event()

    async def script(call: Call) -> None:
        arrived.set()
        await bounded(go.wait())
        await say_hello(call)

    upstream.script = script
    async with socket_to(upstream, **settings) as socket:
        await socket.send(json.dumps(message))
        await bounded(arrived.wait())
        for _ in range(fitting + 1):
            await socket.send(json.dumps(message))
        error = await hear(socket)
        assert (error["type"], error["status"]) == ("error", 429)
        assert error["error"]["code"] == "rate_limit_exceeded"
        go.set()
        for _ in range(fitting + 1):
            assert types(await hear_out(socket))[-1] == "response.completed"
        assert types(await ask(socket))[-1] == "response.completed"


async def test_a_message_over_the_limit_ends_the_connection(upstream: ScriptedUpstream) -> None:
    async with socket_to(upstream, max_body_bytes=1000) as socket:
        await socket.send(json.dumps(CREATE | {"input": "x" * 2000}))
        with pytest.raises(websockets.ConnectionClosedError) as closed:
            await bounded(socket.recv())
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009
    assert upstream.calls == []


async def test_more_sockets_than_allowed_are_a_503(upstream: ScriptedUpstream) -> None:
    async with serving(make_settings(upstream.url, max_websockets=1)) as base:
        async with open_socket(base) as socket:
            with pytest.raises(websockets.InvalidStatus) as refused:
                async with open_socket(base):
                    pass
            assert refused.value.response.status_code == 503
            assert refused.value.response.headers["retry-after"] == "1"
            assert types(await ask(socket))[-1] == "response.completed"
        async with asyncio.timeout(BOUND_S):
            while True:  # the end of the first is noticed a little later
                try:
                    async with open_socket(base) as other:
                        assert types(await ask(other))[-1] == "response.completed"
                        break
                except websockets.InvalidStatus:
                    await asyncio.sleep(0.01)


async def test_a_connection_lasts_so_long(upstream: ScriptedUpstream) -> None:
    """What is being answered is finished, what waits or comes later is refused, then it closes."""
    arrived, go = asyncio.Event(), asyncio.Event()

    async def script(call: Call) -> None:
        arrived.set()
        await bounded(go.wait())
        await say_hello(call)

    upstream.script = script
    async with socket_to(upstream, max_websocket_s=2) as socket:
        await socket.send(json.dumps(CREATE))
        await bounded(arrived.wait())
        await socket.send(json.dumps(CREATE | {"input": "waits"}))
        found: list[dict[str, Any]] = [{}]
        async with asyncio.timeout(BOUND_S):
            while "status" not in found[0]:
                await asyncio.sleep(0.05)
                found = await ask(socket, stream_id="late", generate=False)
        assert found[0]["error"]["code"] == "websocket_connection_limit_reached"
        assert found[0]["stream_id"] == "late"
        go.set()
        assert types(await hear_out(socket))[-1] == "response.completed"
        for _ in range(2):  # for the one that waited, and for the connection
            error = await hear(socket)
            assert (error["type"], error["status"]) == ("error", 400)
            assert error["error"]["code"] == "websocket_connection_limit_reached"
        with pytest.raises(websockets.ConnectionClosedOK):
            await bounded(socket.recv())
    assert len(upstream.calls) == 1


# --- departures -----------------------------------------------------------------------------------


@pytest.mark.parametrize("begun", [True, False])
async def test_a_client_that_leaves_ends_its_turns_at_once(
    upstream: ScriptedUpstream, begun: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="translator")
    arrived, gone = 0, 0

    async def script(call: Call) -> None:
        nonlocal arrived, gone
        arrived += 1
        if begun:
            await call.head()
            await call.send(*HELLO[:2])
        await call.gone()
        gone += 1

    upstream.script = script
    async with serving(make_settings(upstream.url, models=MODELS)) as base:
        async with open_socket(base) as socket:
            for lane in ("a", "b"):
                await socket.send(json.dumps(CREATE | {"model": "small", "stream_id": lane}))
            async with asyncio.timeout(BOUND_S):
                while arrived < 2:
                    await asyncio.sleep(0.01)
            socket.transport.abort()
            async with asyncio.timeout(BOUND_S):
                while gone < 2:
                    await asyncio.sleep(0.01)
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("tran")]
    turns = [line for line in lines if line.startswith("WS /v1/responses ")]
    assert len(turns) == 2
    assert all("outcome='client left'" in line and "model=small" in line for line in turns)
    [connection] = [line for line in lines if line.startswith("GET /v1/responses 101 ")]
    assert "notes='2 turns'" in connection


async def test_a_client_that_does_not_read_is_given_up(
    upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="translator")
    gone = asyncio.Event()

    async def script(call: Call) -> None:
        await call.head()
        piece = chunk({"content": "x" * 10_000})
        try:
            while True:
                await call.send(piece)
        except ConnectionError:
            gone.set()
            raise

    upstream.script = script
    async with serving(make_settings(upstream.url, client_timeout_s=0.2)) as base:
        socket = await open_socket(base)
        socket.transport.pause_reading()
        await socket.send(json.dumps(CREATE))
        await bounded(gone.wait())
        socket.transport.abort()
    assert "it does not take its answer" in caplog.text


async def test_each_turn_is_one_line(
    upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="translator")
    async with socket_to(upstream, client_key="secret-key") as socket:
        await ask(socket)
        await ask(socket, previous_response_id="resp_gone")
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("tran")]
    assert len(lines) == 3
    assert lines[0].startswith("WS /v1/responses 200 ")
    assert "model=m dialect=base outcome=completed id=req_" in lines[0]
    assert lines[1].startswith("WS /v1/responses 400 ")
    assert "outcome=previous_response_not_found" in lines[1]
    assert lines[2].startswith("GET /v1/responses 101 ")
    assert "secret-key" not in caplog.text


async def test_a_refused_key_inside_a_200_is_the_operators_fault(
    upstream: ScriptedUpstream,
) -> None:
    async def script(call: Call) -> None:
        await call.head()
        await call.send(frame({"base_resp": {"status_code": 1004, "status_msg": "login fail"}}))
        await call.end()

    upstream.script = script
    async with socket_to(upstream, key="operator-key") as socket:
        [error] = await ask(socket)
    assert error["status"] == 502
    assert "login" not in error["error"]["message"]


# --- the SDK ----------------------------------------------------------------------------------------


async def test_the_openai_sdk_speaks_it(upstream: ScriptedUpstream) -> None:
    """Its connection, its lanes and its accumulator; a turn that goes on; an error it raises."""
    async with serving(make_settings(upstream.url)) as base:
        async with openai.AsyncOpenAI(base_url=f"{base}/v1", api_key="sk-test") as sdk:
            async with sdk.responses.connect() as connection:
                async with AsyncResponsesWebSocketSession(connection, limits=LIMITS) as session:
                    lane = session.lane("conversation")
                    await lane.send(create(input="Hi"))
                    first = await bounded(lane.get_final_response())
                    assert first.output_text == "Hello world"
                    await lane.send(create(input="And?", previous_response_id=first.id))
                    second = await bounded(lane.get_final_response())
                    assert (second.status, second.previous_response_id) == ("completed", first.id)
                    await session.default.send(create(input="Hi", previous_response_id="resp_x"))
                    with pytest.raises(ResponsesWebSocketError) as error:
                        await bounded(session.default.get_final_response())
                    assert "previous_response_not_found" in str(error.value.event)
                    await session.default.send(create(input="Hi"))
                    accumulator = ResponsesWebSocketAccumulator()
                    ended = False
                    while not ended:
                        event = await bounded(session.default.recv())
                        accumulator.add_event(event)
                        ended = event.type == "response.completed"
                    assert accumulator.snapshot().output_text == "Hello world"
    assert upstream.calls[0].headers["authorization"] == "Bearer sk-test"
    assert [content for _, content in asked(upstream, 1)] == ["Hi", "Hello world", "And?"]


LIMITS = ResponsesWebSocketLimits(
    max_lanes=8,
    max_events_per_lane=128,
    max_events=512,
    max_bytes_per_lane=2**20,
    max_bytes=2**20,
    max_response_bytes=None,
)


def create(**fields: Any) -> Any:
    return {"type": "response.create", "model": "m", **fields}
