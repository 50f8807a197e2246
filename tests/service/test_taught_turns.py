"""Refusals and failures on every way of asking, and over several requests."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from .chat_bodies import HELLO, frame
from .responses_api import PATH, events
from .test_refusals import ASK, LS, refusing, text_of, unless_without
from .websocket.client import ask, socket_to
from .wire import Call, Script, ScriptedUpstream, say_hello

pytestmark = pytest.mark.anyio

FAILED_CALL = {
    "error": {
        "message": "Failed to call a function. See 'failed_generation' for more details.",
        "type": "invalid_request_error",
        "code": "tool_use_failed",
        "failed_generation": '{"name": "ls"',
        "status_code": 400,
    }
}
THOUGHT: list[dict[str, Any]] = [
    {"role": "user", "content": "What is here?"},
    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Look."}]},
    {"type": "function_call", "call_id": "c1", "name": "ls", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c1", "output": "README.md"},
]
REFUSED = "Unknown parameter: 'messages[1].reasoning_content'."
REQUIRED = "messages[1].reasoning_content: Field required"


def first_fails(*chunks: bytes, times: int = 1) -> Script:
    """An upstream that begins its first answers with these events, and then says hello."""
    left = times

    async def script(call: Call) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            await say_hello(call)
            return
        await call.head()
        await call.send(*chunks)
        await call.end()

    return script


@pytest.mark.parametrize("stream", [True, False])
async def test_a_failure_of_the_model_within_a_stream_is_asked_again(
    upstream: ScriptedUpstream, stream: bool
) -> None:
    """As Groq sends it, behind the first chunk of a 200."""
    upstream.script = first_fails(HELLO[0], b"event: error\n" + frame(FAILED_CALL))
    async with upstream.client() as client:
        answer = await client.post(PATH, json=ASK | {"stream": stream})
    assert text_of(answer) == "Hello world"
    assert len(upstream.calls) == 2
    assert upstream.calls[0].json == upstream.calls[1].json


async def test_it_is_asked_again_only_while_the_client_has_nothing(
    upstream: ScriptedUpstream,
) -> None:
    upstream.script = first_fails(HELLO[0], HELLO[1], frame(FAILED_CALL))
    async with upstream.client() as client:
        answer = await client.post(PATH, json=ASK)
    last = events(answer.content)[-1]
    assert last["type"] == "response.failed"
    assert last["response"]["error"]["code"] == "server_error"
    assert len(upstream.calls) == 1


async def test_a_failure_in_the_second_answer_too_is_passed_on(upstream: ScriptedUpstream) -> None:
    upstream.script = first_fails(HELLO[0], frame(FAILED_CALL), times=9)
    async with upstream.client() as client:
        answer = await client.post(PATH, json=ASK)
    assert (answer.status_code, len(upstream.calls)) == (502, 2)
    assert answer.json()["error"]["type"] == "server_error"


@pytest.mark.parametrize("settings", [{"retries": 0}, {"retry_budget_percent": 0}])
async def test_asking_again_is_a_retry(
    upstream: ScriptedUpstream, settings: dict[str, Any]
) -> None:
    """It needs the setting, and the upstream's budget: an overload is not made worse."""
    upstream.script = first_fails(HELLO[0], frame(FAILED_CALL))
    async with upstream.client(**settings) as client:
        answer = await client.post(PATH, json=ASK)
    assert (answer.status_code, len(upstream.calls)) == (502, 1)


async def test_a_compaction_learns_too(upstream: ScriptedUpstream) -> None:
    upstream.script = refusing(unless_without("temperature", "Unknown parameter: 'temperature'."))
    async with upstream.client() as client:
        request = {"model": "m", "input": "Hi", "temperature": 0.5}
        for _ in range(2):
            answer = await client.post(f"{PATH}/compact", json=request)
            assert answer.status_code == 200
    assert ["temperature" in call.json for call in upstream.calls] == [True, False, False]


async def test_a_websocket_learns_too(upstream: ScriptedUpstream) -> None:
    def thinks(request: dict[str, Any]) -> str | None:
        return REFUSED if "reasoning_content" in request["messages"][1] else None

    upstream.script = refusing(thinks, 422)
    async with socket_to(upstream) as socket:
        for _ in range(2):
            found = await ask(socket, model="m", input=THOUGHT, tools=[LS])
            assert found[-1]["type"] == "response.completed"
    assert len(upstream.calls) == 3


async def test_levels_that_were_listed_once_count_for_all_efforts(
    upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    def listed(request: dict[str, Any]) -> str | None:
        level = request.get("reasoning_effort")
        known = level in (None, "low", "medium", "xhigh")
        return None if known else f"Unsupported reasoning_effort: {level}. Supported levels are xhigh, medium, low."  # fmt: skip

    upstream.script = refusing(listed, 500)
    sent: list[str] = []
    async with upstream.client(upstream={"dialect": "vllm"}) as client:
        for effort in ("high", "max", "minimal", "low", "xhigh", "none"):
            request = ASK | {"reasoning": {"effort": effort}}
            assert text_of(await client.post(PATH, json=request)) == "Hello world"
            sent.append(upstream.calls[-1].json.get("reasoning_effort"))
    assert len(upstream.calls) == 7
    assert sent == ["xhigh", "xhigh", "low", "low", "xhigh", None]
    assert upstream.calls[-1].json["chat_template_kwargs"]["enable_thinking"] is False
    [line] = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert "it takes a reasoning_effort of xhigh, medium, low; remembered" in line


async def test_two_servers_behind_one_address_that_want_opposites(
    upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    """Each request pays for its own server once, and what is remembered comes to rest."""
    wants = True

    def opposite(request: dict[str, Any]) -> str | None:
        has = "reasoning_content" in request["messages"][1]
        return None if has is wants else REQUIRED if wants else REFUSED

    upstream.script = refusing(opposite)
    calls: list[int] = []
    async with upstream.client() as client:
        for wants in (True, False, True, False, True, False):  # noqa: B007 - of the script
            before = len(upstream.calls)
            answer = await client.post(PATH, json=ASK | {"input": THOUGHT, "tools": [LS]})
            assert text_of(answer) == "Hello world"
            calls.append(len(upstream.calls) - before)
    assert max(calls) == 2
    assert calls[-3:] == [2, 1, 2] or calls[-3:] == [1, 2, 1]


async def test_a_server_that_wants_both_is_not_asked_without_end(
    upstream: ScriptedUpstream,
) -> None:
    def never(request: dict[str, Any]) -> str:
        return REFUSED if "reasoning_content" in request["messages"][1] else REQUIRED

    upstream.script = refusing(never)
    async with upstream.client() as client:
        for _ in range(2):
            answer = await client.post(PATH, json=ASK | {"input": THOUGHT, "tools": [LS]})
            assert answer.status_code == 400
    assert len(upstream.calls) == 4


@pytest.mark.parametrize("status", [500, 502])
async def test_a_fault_that_teaches_nothing_is_passed_on_at_once(
    upstream: ScriptedUpstream, status: int
) -> None:
    upstream.script = refusing(lambda _: "Unknown parameter: 'temperature'.", status)
    async with upstream.client() as client:
        answer = await client.post(PATH, json=ASK)
    assert (answer.status_code, len(upstream.calls)) == (status, 1)


async def test_a_key_that_is_wrong_teaches_nothing(upstream: ScriptedUpstream) -> None:
    upstream.script = refusing(lambda _: "Invalid API key. 'temperature' is not supported", 400)
    async with upstream.client() as client:
        answer = await client.post(PATH, json=ASK)
    assert (answer.status_code, len(upstream.calls)) == (400, 1)
