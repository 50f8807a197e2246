"""Answers that are over a bound of what is stored: their clients are not to send them again."""

from __future__ import annotations

from typing import Any

import pytest

from tests.service.responses_api import PATH, events
from tests.service.wire import ScriptedUpstream
from translator.service.config.store import Location
from translator.service.store.upkeep import problems

from .running import begin, ended
from .storing import Service, ask, counts, think

pytestmark = pytest.mark.anyio

LONG = "x" * 3000

BOUNDS = pytest.mark.parametrize("bound", ["max_kept_response_bytes", "max_kept_item_bytes"])


@BOUNDS
async def test_an_answer_is_too_large_to_be_stored(
    service: Service, upstream: ScriptedUpstream, location: Location, bound: str
) -> None:
    """Where it had to be stored, the error says what to do, and SDKs do not retry its status."""
    upstream.script = think("", LONG)
    async with service(**{bound: 2000}) as client:
        body = {"model": "m", "input": "Hi"}
        answer = await client.post(PATH, json=body | {"store": True})
        error = answer.json()["error"]
        assert answer.status_code == 400, error
        assert (error["type"], error["code"]) == ("invalid_request_error", "store_quota_exceeded")
        assert "2000 bytes" in error["message"]
        assert "`store` set to false" in error["message"]
        answer = await client.post(PATH, json=body | {"store": True, "stream": True})
        *_, said, last = events(answer.content)
        assert (said["type"], last["type"]) == ("error", "response.failed")
        assert last["response"]["error"]["message"] == error["message"] == said["message"]
        assert (await ask(client))["status"] == "completed"
        assert (await ask(client, store=False))["output"][0]["content"][0]["text"] == LONG
    assert counts(location) == [0, 0, 0, 0, 0]


@BOUNDS
@pytest.mark.parametrize("streams", [False, True])
async def test_an_answer_in_the_background_is_too_large_to_be_stored(
    service: Service, upstream: ScriptedUpstream, location: Location, bound: str, streams: bool
) -> None:
    upstream.script = think("", LONG)
    async with service(**{bound: 2000}) as client:
        if streams:
            answer = await client.post(
                PATH, json={"model": "m", "input": "Hi", "background": True, "stream": True}
            )
            final: Any = events(answer.content)[-1]["response"]
        else:
            final = await ended(client, (await begin(client))["id"])
        assert (final["status"], final["output"]) == ("failed", [])
        assert "2000 bytes" in final["error"]["message"]
        assert "`store` set to false" in final["error"]["message"]
        page = await client.get(f"{PATH}/{final['id']}")
        assert page.json()["error"] == final["error"]
    assert list(problems(location)) == []
