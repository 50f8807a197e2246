"""A call that the upstream cuts, and calls done: over HTTP, streamed and whole, and a WebSocket."""

from __future__ import annotations

from typing import Any

import pytest

from .chat_bodies import COMPLETION, chunk, frame
from .responses_api import PATH, events
from .websocket.client import ask, socket_to
from .wire import Call, ScriptedUpstream

pytestmark = pytest.mark.anyio

TOOLS = [{"type": "custom", "name": "exec"}]
ASK: dict[str, Any] = {"model": "m", "input": "Hi", "tools": TOOLS, "max_output_tokens": 64}
HALF = {"index": 0, "id": "c", "function": {"name": "exec", "arguments": '{"input": "rm -rf /tmp/'}}


def usage(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": 50, "completion_tokens": tokens, "total_tokens": 50 + tokens}


def answering(upstream: ScriptedUpstream, finish: str, tokens: int) -> None:
    """Let the upstream answer each request with half a call, as it is asked to."""

    async def script(call: Call) -> None:
        if call.json.get("stream"):
            await call.head()
            await call.send(
                chunk({"tool_calls": [HALF]}),
                chunk({}, finish),
                frame({"choices": [], "usage": usage(tokens)}),
                b"data: [DONE]\n\n",
            )
            await call.end()
        else:
            message = {"role": "assistant", "content": None, "tool_calls": [HALF]}
            choice = {"index": 0, "message": message, "finish_reason": finish}
            body = COMPLETION | {"choices": [choice], "usage": usage(tokens)}
            await call.answer(body)

    upstream.script = script


@pytest.mark.parametrize("finish", ["tool_calls", "stop"])
async def test_at_the_limit_it_is_incomplete(upstream: ScriptedUpstream, finish: str) -> None:
    answering(upstream, finish, 64)
    async with upstream.client() as client:
        whole = (await client.post(PATH, json=ASK)).json()
        streamed = events((await client.post(PATH, json=ASK | {"stream": True})).content)
    async with socket_to(upstream) as socket:
        turn = await ask(socket, **ASK)
    for final in (whole, streamed[-1]["response"], turn[-1]["response"]):
        assert final["status"] == "incomplete"
        assert final["incomplete_details"] == {"reason": "max_output_tokens"}
        assert [item["status"] for item in final["output"]] == ["incomplete"]
    for sent in (streamed, turn):
        assert sent[-1]["type"] == "response.incomplete"
        done = [one["item"]["status"] for one in sent if one["type"].endswith("item.done")]
        assert done == ["incomplete"]


@pytest.mark.parametrize("finish", ["tool_calls", "stop"])
async def test_otherwise_the_answer_fails_and_can_be_retried(
    upstream: ScriptedUpstream, finish: str
) -> None:
    answering(upstream, finish, 63)
    async with upstream.client() as client:
        whole = await client.post(PATH, json=ASK)
        streamed = events((await client.post(PATH, json=ASK | {"stream": True})).content)
    async with socket_to(upstream) as socket:
        turn = await ask(socket, **ASK)
    assert whole.status_code == 502
    assert whole.json()["error"]["type"] == "server_error"
    assert "x-should-retry" not in whole.headers
    for sent in (streamed, turn):
        assert [one["type"] for one in sent[-2:]] == ["error", "response.failed"]
        assert sent[-1]["response"]["error"]["code"] == "server_error"
        assert sent[-1]["response"]["output"] == []
        assert not [one for one in sent if one["type"].endswith("item.done")]


async def test_a_summary_that_ends_in_a_cut_call_replaces_nothing(
    upstream: ScriptedUpstream,
) -> None:
    answering(upstream, "stop", 9)
    async with upstream.client() as client:
        answer = await client.post(f"{PATH}/compact", json={"model": "m", "input": "Hi"})
    assert answer.status_code == 502


async def test_a_prompt_that_fills_the_window_is_a_400(upstream: ScriptedUpstream) -> None:
    """Streamed, too, since nothing has been sent."""

    async def script(call: Call) -> None:
        await call.head()
        await call.send(
            chunk({"role": "assistant", "content": ""}), chunk({}, "length", usage=usage(0))
        )
        await call.end()

    upstream.script = script
    async with upstream.client() as client:
        for request in (ASK, ASK | {"stream": True}):
            answer = await client.post(PATH, json=request)
            assert answer.status_code == 400
            assert answer.json()["error"]["code"] == "context_length_exceeded"
