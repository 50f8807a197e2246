"""Words that the service does not know, on every way into it."""

from __future__ import annotations

from typing import Any

import pytest

from .responses_api import PATH, events
from .websocket.client import ask, open_socket
from .wire import ScriptedUpstream

pytestmark = pytest.mark.anyio

UP = {"dialect": "deepseek"}
ULTRA: dict[str, Any] = {
    "model": "m",
    "input": "Hi",
    "reasoning": {"effort": "ultra", "summary": "loud"},
    "service_tier": "turbo",
}
NOTICES = "3; weakened,ignored"
REPEATED = {"effort": "ultra", "summary": "loud"}


async def test_over_http(upstream: ScriptedUpstream) -> None:
    async with upstream.client(upstream=UP) as client:
        whole = await client.post(PATH, json=ULTRA)
        streamed = await client.post(PATH, json=ULTRA | {"stream": True})
    assert whole.json()["status"] == "completed"
    last = events(streamed.content)[-1]["response"]
    for answer, response in ((whole, whole.json()), (streamed, last)):
        assert (response["reasoning"], response["service_tier"]) == (REPEATED, "turbo")
        assert answer.headers["x-translator-notices"] == NOTICES
    for call in upstream.calls:
        assert call.json["reasoning_effort"] == "max"
        assert "service_tier" not in call.json


async def test_over_a_websocket(upstream: ScriptedUpstream) -> None:
    async with upstream.service(upstream=UP) as base, open_socket(base) as socket:
        found = await ask(socket, **ULTRA)
        update = {"type": "configuration_update", "reasoning": {"effort": "Ultra"}}
        again = await ask(socket, input=[update, {"role": "user", "content": "Hi"}])
    assert found[-1]["response"]["reasoning"] == REPEATED
    assert again[-1]["type"] == "response.completed"
    assert [call.json["reasoning_effort"] for call in upstream.calls] == ["max", "max"]


async def test_for_a_compaction(upstream: ScriptedUpstream) -> None:
    async with upstream.client(upstream=UP) as client:
        answer = await client.post(f"{PATH}/compact", json=ULTRA)
    assert answer.status_code == 200
    assert answer.headers["x-translator-notices"] == NOTICES
    assert upstream.calls[0].json["reasoning_effort"] == "max"


async def test_in_strict_mode(upstream: ScriptedUpstream) -> None:
    async with upstream.client(upstream=UP, strict=True) as client:
        for path in (PATH, f"{PATH}/compact"):
            refused = await client.post(path, json=ULTRA)
            assert refused.status_code == 400
            error = refused.json()["error"]
            assert (error["code"], error["param"]) == ("invalid_value", "reasoning.effort")
            assert error["type"] == "invalid_request_error"
    async with upstream.service(upstream=UP, strict=True) as base, open_socket(base) as socket:
        [refusal] = await ask(socket, **ULTRA)
    assert refusal["error"]["code"] == "invalid_value"
    assert upstream.calls == []


async def test_a_value_that_is_no_word(upstream: ScriptedUpstream) -> None:
    async with upstream.client(upstream=UP) as client:
        refused = await client.post(PATH, json=ULTRA | {"reasoning": {"effort": 7}})
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert (error["code"], error["param"]) == ("invalid_type", "reasoning.effort")
    assert upstream.calls == []
