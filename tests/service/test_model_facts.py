"""Facts of models, as they reach an upstream that refuses everything else."""

from __future__ import annotations

import re
from typing import Any

import pytest

from .responses_api import PATH
from .wire import Call, ScriptedUpstream, say_hello

pytestmark = pytest.mark.anyio

BODY = {"type": "string", "maxLength": 65536, "pattern": "^\\d+$"}
LARGE: dict[str, Any] = {
    "type": "function",
    "name": "send",
    "parameters": {"type": "object", "properties": {"body": BODY}},
}


@pytest.mark.parametrize(
    ("row", "limit"),
    [
        ({}, 32768),
        ({"context_window": 8000}, 2000),
        ({"context_window": 400_000, "max_output_tokens": 5000}, 5000),
    ],
)
async def test_the_default_limit_knows_the_models_context(
    upstream: ScriptedUpstream, row: dict[str, int], limit: int
) -> None:
    settings = {"models": {"m": {"upstream": "up", **row}}, "upstream": {"dialect": "cloudflare"}}
    async with upstream.client(**settings) as client:
        for more in ({}, {"max_output_tokens": 7}):
            answer = await client.post(PATH, json={"model": "m", "input": "Hi", **more})
            assert answer.status_code == 200
            assert answer.json()["max_output_tokens"] == more.get("max_output_tokens")
    assert [call.json["max_tokens"] for call in upstream.calls] == [limit, 7]


@pytest.mark.parametrize("dialect", ["llama_cpp", "lm_studio"])
async def test_one_bound_does_not_refuse_all_requests(
    upstream: ScriptedUpstream, dialect: str
) -> None:
    async def script(call: Call) -> None:
        if re.search(rb'"(m..(Length|Items)":\d{4}|pattern":")', call.body):
            await call.answer({"error": {"message": "failed to parse grammar"}}, 400)
        else:
            await say_hello(call)

    upstream.script = script
    request = {"model": "m", "input": "Hi", "tools": [LARGE]}
    async with upstream.client(upstream={"dialect": dialect}) as client:
        for fields in ({}, {"text": {"format": {"type": "json_schema", "name": "n", "schema": LARGE["parameters"]}}, "tools": []}):  # fmt: skip
            answer = await client.post(PATH, json=request | fields)
            assert answer.status_code == 200, answer.text
            assert answer.headers["x-translator-notices"] == "1; weakened"
    assert len(upstream.calls) == 2, "no second attempt"


@pytest.mark.parametrize("dialect", ["vllm", "sglang", "llama_cpp"])
@pytest.mark.parametrize(
    ("effort", "sent"),
    [("none", None), ("minimal", "low"), ("medium", "medium"), ("high", "xhigh"), ("max", "xhigh")],
)
async def test_the_levels_of_qwen38_are_sent_at_once(
    upstream: ScriptedUpstream, dialect: str, effort: str, sent: str | None
) -> None:
    async def script(call: Call) -> None:
        named = re.search(rb'"reasoning_effort":"(\w+)"', call.body)
        if named and named[1] not in (b"low", b"medium", b"xhigh"):
            await call.answer({"error": {"message": "Unsupported reasoning_effort"}}, 500)
        else:
            await say_hello(call)

    upstream.script = script
    request = {"model": "Qwen/Qwen3.8-27B", "input": "Hi", "reasoning": {"effort": effort}}
    async with upstream.client(upstream={"dialect": dialect}) as client:
        answer = await client.post(PATH, json=request)
    assert answer.status_code == 200, answer.text
    [call] = upstream.calls
    switch = call.json["chat_template_kwargs"]
    assert switch["enable_thinking"] is (sent is not None)
    assert switch.get("reasoning_effort", call.json.get("reasoning_effort")) == sent


async def test_the_upstream_knows_requests_of_one_conversation(
    upstream: ScriptedUpstream,
) -> None:
    """By the header that its cache goes by, which is no place for any text."""
    async with upstream.client(upstream={"dialect": "cloudflare"}) as client:
        for key in ({"prompt_cache_key": "01a2-cc096"}, {"prompt_cache_key": "ü\r\nx: 1"}, {}):
            answer = await client.post(PATH, json={"model": "m", "input": "Hi", **key})
            assert answer.status_code == 200
    plain, other, none = [call.headers.get("x-session-affinity") for call in upstream.calls]
    assert (plain, none) == ("01a2-cc096", None)
    assert other is not None
    assert re.fullmatch(r"[0-9a-f]{64}", other)
