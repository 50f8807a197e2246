"""A limit of the output that is lowered: what the client and the operator see of it.

One rule on every way of asking: a response repeats the limit that holds, and each lowering is a
notice.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from .capture.captured import assert_replays, kept, tracing
from .log import Log
from .responses_api import PATH, events
from .websocket.client import ask, socket_to
from .wire import MODELS, Call, ScriptedUpstream, make_settings, say_hello

pytestmark = pytest.mark.anyio

ASK: dict[str, Any] = {"model": "small", "input": "Hi", "max_output_tokens": 101}
"""One more than the table allows."""

TOO_HIGH = "max_tokens is too large: 100000. This model supports at most 16384 completion tokens."


def echoed(answer: httpx.Response) -> list[int]:
    """The limits that the responses in an answer repeat, each once."""
    assert answer.headers["x-translator-notices"] == "1; clamped"
    if answer.headers["content-type"] == "application/json":
        return [answer.json()["max_output_tokens"]]
    found = [event["response"] for event in events(answer.content) if "response" in event]
    return sorted({response["max_output_tokens"] for response in found})


async def refuse_too_high(call: Call) -> None:
    if call.json["max_tokens"] > 16384:
        await call.answer({"error": {"message": TOO_HIGH}}, 400)
    else:
        await say_hello(call)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_response_repeats_the_limit_that_holds(
    upstream: ScriptedUpstream, log: Log, *, stream: bool
) -> None:
    async with upstream.client(models=MODELS) as client:
        answer = await client.post(PATH, json=ASK | {"stream": stream})
    assert upstream.calls[0].json["max_tokens"] == 100
    assert echoed(answer) == [100]
    assert log.request["notices"] == {"clamped": 1}


async def test_so_does_a_response_on_a_websocket(upstream: ScriptedUpstream, log: Log) -> None:
    async with socket_to(upstream, models=MODELS) as socket:
        found = [one["response"] for one in await ask(socket, **ASK) if "response" in one]
    assert {response["max_output_tokens"] for response in found} == {100}
    [turn] = [line for line in log.objects if line.get("method") == "WS"]
    assert turn["notices"] == {"clamped": 1}


@pytest.mark.parametrize("path", [f"{PATH}/compact", f"{PATH}/input_tokens"])
async def test_where_no_response_repeats_it_the_notice_is_there(
    upstream: ScriptedUpstream, log: Log, path: str
) -> None:
    async with upstream.client(models=MODELS) as client:
        answer = await client.post(path, json=ASK)
    assert answer.headers["x-translator-notices"] == "1; clamped"
    assert log.request["notices"] == {"clamped": 1}


@pytest.mark.parametrize("stream", [True, False])
async def test_a_limit_that_the_upstream_teaches_is_repeated_too(
    upstream: ScriptedUpstream, tmp_path: Path, capsys: pytest.CaptureFixture[str], *, stream: bool
) -> None:
    upstream.script = refuse_too_high
    settings = make_settings(upstream.url, trace_folder=str(tmp_path))
    asked = {"model": "m", "input": "Hi", "max_output_tokens": 100_000, "stream": stream}
    async with tracing(settings) as client:
        for _ in range(2):  # the second time it is known
            assert echoed(await client.post(PATH, json=asked)) == [16384]
    assert [call.json["max_tokens"] for call in upstream.calls] == [100_000, 16384, 16384]
    for folder in kept(tmp_path):
        assert_replays(folder, capsys)
