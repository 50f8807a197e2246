"""The store beside what else the service does with a request: fallbacks, compaction, near paths."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from tests.service.chat_bodies import COMPLETION
from tests.service.responses_api import PATH
from tests.service.test_held import garbage_of
from tests.service.wire import BOUND_S, Call, ScriptedUpstream, bounded, client_of, serving
from translator.common.sealed import unseal
from translator.service.config.loading import read_table
from translator.service.config.settings import Settings
from translator.service.config.store import Location

from .conversing import new
from .storing import Service, ask, bytes_of, messages, refused, think

pytestmark = pytest.mark.anyio


def settings_of(
    upstream: ScriptedUpstream, location: Location, models: dict[str, Any], **server: Any
) -> Settings:
    """Two upstreams: at `/v1`, and at `/v1/other`."""
    url = location.target
    return read_table(
        {
            "server": {"retries": 0, **server},
            "upstreams": {
                "up": {"base_url": upstream.url},
                "other": {"base_url": f"{upstream.url}/other"},
            },
            "models": models,
            "store": {"url": f"sqlite:///{url}" if location.kind == "sqlite" else url},
        },
        {},
    )


FALLBACK: dict[str, Any] = {"m": {"upstream": ["up", "other"]}}


@pytest.mark.parametrize("stream", [True, False])
async def test_what_another_upstream_has_answered_is_stored_once(
    upstream: ScriptedUpstream, location: Location, stream: bool
) -> None:
    """As the client got it; and who made its reasoning is known to the next request."""
    thinks = think("Hm.", "Hello.")

    async def script(call: Call) -> None:
        if call.path.startswith("/v1/other/"):
            await thinks(call)
        else:
            await call.answer({}, 503)

    upstream.script = script
    async with client_of(settings_of(upstream, location, FALLBACK)) as client:
        first = await ask(client, stream=stream)
        assert first["status"] == "completed"
        assert (await client.get(f"{PATH}/{first['id']}")).json() == first
        second = await ask(client, stream=stream, previous_response_id=first["id"])
        assert second["status"] == "completed"
        assert messages(upstream.calls[-1])[1]["reasoning_content"] == "Hm."
    _, responses, _, items, *_ = bytes_of(location)
    assert len(responses) == 2
    assert any("translator.1." in row for row in items)
    async with client_of(settings_of(upstream, location, FALLBACK)) as client:
        kept = await ask(client, include=["reasoning.encrypted_content"])
        thought = unseal(kept["output"][0]["encrypted_content"])
        assert thought is not None
        assert thought.origin == "other/m"


@pytest.mark.parametrize("stream", [True, False])
async def test_where_nobody_answers_nothing_can_be_continued(
    upstream: ScriptedUpstream, location: Location, stream: bool
) -> None:
    before = bytes_of(location)

    async def script(call: Call) -> None:
        await call.answer({}, 503)

    upstream.script = script
    async with client_of(settings_of(upstream, location, FALLBACK)) as client:
        status, _ = await refused(client, stream=stream)
        assert status == 503
        assert len(upstream.calls) == 2
    assert bytes_of(location) == before


async def test_another_model_compacts_what_is_stored(
    upstream: ScriptedUpstream, location: Location
) -> None:
    """And the conversation goes on from its summary."""
    models = {
        "m": {"upstream": "up", "compact_with": "writer"},
        "writer": {"upstream": "other"},
    }

    async def script(call: Call) -> None:
        text = "A summary." if call.path.startswith("/v1/other/") else "Hello."
        choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        await call.answer(COMPLETION | {"choices": [{"index": 0} | choice]})

    upstream.script = script
    async with client_of(settings_of(upstream, location, models)) as client:
        first = await ask(client, input="one")
        trigger = [{"type": "compaction_trigger"}]
        compacted = await ask(client, input=trigger, previous_response_id=first["id"])
        assert upstream.calls[-1].path.startswith("/v1/other/")
        assert "one" in json.dumps(messages(upstream.calls[-1]))
        assert [item["type"] for item in compacted["output"]] == ["compaction"]
        await ask(client, input="two", previous_response_id=compacted["id"])
        assert not upstream.calls[-1].path.startswith("/v1/other/")
        said = json.dumps(messages(upstream.calls[-1]))
        assert "A summary." in said
        assert "two" in said


@pytest.mark.parametrize("prefix", ["/v1//responses", "//responses", "/v1/v1/responses"])
async def test_a_path_of_a_response_that_is_nearly_right(service: Service, prefix: str) -> None:
    """Like the paths of models, which hold an id, too."""
    async with service() as client:
        response = await ask(client)
        base = str(client.base_url).rstrip("/")
        for path in ("", "/input_items"):
            answer = await client.get(f"{base}{prefix}/{response['id']}{path}")
            assert answer.status_code == 200, answer.text
        missing = await client.get(f"{base}{prefix}/resp_0")
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, None)
        assert (await client.delete(f"{base}{prefix}/{response['id']}")).status_code == 200


async def test_a_query_of_many_fields(service: Service) -> None:
    async with service() as client:
        response = await ask(client)
        answer = await client.get(f"{PATH}/{response['id']}/input_items?{'a&' * 500}limit=1")
        assert answer.status_code == 200
        assert len(answer.json()["data"]) == 1


@pytest.mark.parametrize("way", ["stream", "whole", "socket"])
async def test_a_turn_that_is_stored_leaves_no_cycles(
    upstream: ScriptedUpstream, location: Location, way: str
) -> None:
    """Nor does one that goes on from another."""
    upstream.script = think("Hm.", "Hello.")

    async def one(url: str) -> None:
        body: dict[str, Any] = {"model": "m", "input": "Hi", "stream": way == "stream"}
        if way == "socket":
            async with connect(url.replace("http", "ws", 1) + PATH) as socket:
                for _ in range(2):
                    await socket.send(json.dumps(body | {"type": "response.create"}))
                    while (event := json.loads(await bounded(socket.recv())))["type"] != (
                        "response.completed"
                    ):
                        pass
                    body["previous_response_id"] = event["response"]["id"]
            return
        async with httpx.AsyncClient(timeout=BOUND_S, base_url=url) as client:
            first = await ask(client, **body)
            await ask(client, **body, previous_response_id=first["id"])
            await ask(client, **body, conversation=await new(client))

    async with serving(settings_of(upstream, location, {"m": {"upstream": "up"}})) as url:
        found = await garbage_of(lambda: one(url))
    assert [name for name in found if name.startswith("translator.")] == []  # httpx makes its own
