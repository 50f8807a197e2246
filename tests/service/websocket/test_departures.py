"""Clients of a WebSocket that leave or do not read; one that is real."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import openai
import pytest
from openai.lib.responses_websocket import (
    AsyncResponsesWebSocketSession,
    ResponsesWebSocketAccumulator,
    ResponsesWebSocketError,
    ResponsesWebSocketLimits,
)

from tests.service.chat_bodies import HELLO, chunk, frame
from tests.service.wire import BOUND_S, MODELS, Call, Endless, ScriptedUpstream, bounded
from translator.service.server import websocket_protocol as sockets

from .client import (
    CREATE,
    ask,
    asked,
    open_socket,
    socket_to,
)

pytestmark = pytest.mark.anyio


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
    async with upstream.service(models=MODELS) as base:
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
    upstream.script = endless = Endless()
    async with upstream.service(client_timeout_s=0.2) as base:
        socket = await open_socket(base)
        socket.transport.pause_reading()
        await socket.send(json.dumps(CREATE))
        await bounded(endless.gone.wait())
        socket.transport.abort()
    assert "it does not read its response" in caplog.text


async def test_a_client_that_reads_no_more_at_the_end_is_given_up(
    upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last events are several messages; that the first of them fits says nothing of the rest."""
    caplog.set_level(logging.INFO, logger="translator")
    monkeypatch.setattr(sockets.TextWriter, "waits", lambda _: False)

    async def script(call: Call) -> None:
        await call.head()
        await call.send(chunk({"content": "x" * 6_000_000}), chunk({}, "stop"))
        await call.end()

    upstream.script = script
    async with upstream.service(client_timeout_s=0.2) as base:
        socket = await open_socket(base)
        socket.transport.pause_reading()
        await socket.send(json.dumps(CREATE))
        async with asyncio.timeout(BOUND_S):
            while "it does not read its response" not in caplog.text:
                await asyncio.sleep(0.05)
        socket.transport.abort()


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
    async with upstream.service() as base:
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
