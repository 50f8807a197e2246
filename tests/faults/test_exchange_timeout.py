"""An exchange has an end, however lively it is: `exchange_timeout_s`, for all its tries together."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from tests.service.chat_bodies import HELLO
from tests.service.responses_api import ASK, PATH, events
from tests.service.wire import BOUND_S, Call, ScriptedUpstream, bounded

pytestmark = pytest.mark.anyio

SENTENCE = "The upstream's answer took too long."


async def without_end(call: Call) -> None:
    """An answer that goes on and on."""
    await call.head()
    while True:
        await call.send(HELLO[1])
        await asyncio.sleep(0.01)


async def test_a_stream_without_end_fails(upstream: ScriptedUpstream) -> None:
    upstream.script = without_end
    async with upstream.client(exchange_timeout_s=0.3) as client:
        found = events((await bounded(client.post(PATH, json=ASK))).content)
    assert [event["type"] for event in found][-2:] == ["error", "response.failed"]
    error = found[-1]["response"]["error"]
    assert (error["code"], error["message"]) == ("server_error", SENTENCE)
    assert any(event["type"] == "response.output_text.delta" for event in found)


async def test_a_whole_answer_without_end_is_a_504(upstream: ScriptedUpstream) -> None:
    upstream.script = without_end
    async with upstream.client(exchange_timeout_s=0.3) as client:
        answer = await bounded(client.post(PATH, json=ASK | {"stream": False}))
    assert answer.status_code == 504
    assert answer.json()["error"]["message"] == SENTENCE


async def test_what_is_passed_through_is_cut(upstream: ScriptedUpstream) -> None:
    upstream.script = without_end
    async with upstream.socket_client(exchange_timeout_s=0.3) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            ask = {"model": "m", "messages": [], "stream": True}
            await bounded(client.post("/v1/chat/completions", json=ask))


async def test_all_tries_share_the_time(upstream: ScriptedUpstream) -> None:
    """An upstream that always asks for a later try does not prolong it."""

    async def script(call: Call) -> None:
        await call.answer({"error": {"message": "busy"}}, 503, headers={"retry-after": "0.2"})

    upstream.script = script
    async with upstream.client(exchange_timeout_s=0.5, retries=1000) as client:
        answer = await bounded(client.post(PATH, json=ASK))
    assert (answer.status_code, answer.json()["error"]["message"]) == (504, SENTENCE)
    assert 1 <= len(upstream.calls) <= 3


async def test_an_answer_that_ends_in_time_is_left_alone(upstream: ScriptedUpstream) -> None:
    async with upstream.client(exchange_timeout_s=BOUND_S) as client:
        found = events((await bounded(client.post(PATH, json=ASK))).content)
    assert found[-1]["type"] == "response.completed"
