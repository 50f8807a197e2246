"""`web_search` by every way to a response: WebSocket, background, a store, another upstream."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.trace import SpanKind

from tests.invariants import check_wire
from tests.rounds import REQUEST, SEARCH, says, search, turn
from tests.service.capture.captured import tracing
from tests.service.test_otel import Collected
from tests.service.websocket.client import ask, open_socket
from tests.service.wire import ScriptedUpstream, bounded, client_of, serving
from translator.captures.folder import Capture, CaptureError
from translator.captures.replay import replay
from translator.service.config.loading import read_table

from .hosting import Model, events_of, frames, hosting, hosting_settings, stored
from .searching import LOCAL, ScriptedWeb, result

pytestmark = pytest.mark.anyio


@pytest.fixture
def news(scripted: ScriptedWeb) -> ScriptedWeb:
    scripted.results = [result(f"{scripted.url}/first", "First", "What it is about.")]
    return scripted


TURNS = (turn(search("news")), says("So [1]."), says("As I said."))


async def test_a_websocket_goes_on_with_what_a_search_found(news: ScriptedWeb) -> None:
    """The history of the connection has the results, though the client is shown no seal."""
    model = Model(*TURNS)
    async with ScriptedUpstream().running() as upstream:
        upstream.script = model
        async with serving(hosting_settings(upstream.url, news)) as url, open_socket(url) as socket:
            first = await ask(socket, input=REQUEST["input"], tools=[SEARCH], store=True)
            final = check_wire(first)
            second = await ask(
                socket, input="Sure?", previous_response_id=final["id"], tools=[SEARCH]
            )
    check_wire(second)
    assert not any("encrypted_content" in item for item in final["output"])
    assert model.bodies[2]["messages"][:3] == model.bodies[1]["messages"]


async def test_a_stored_response_goes_on_with_what_a_search_found(
    news: ScriptedWeb, tmp_path: Path
) -> None:
    model = Model(*TURNS)
    async with hosting(model, news, more=stored(tmp_path)) as client:
        request = {**REQUEST, "store": True, "stream": False}
        first = (await client.post("/v1/responses", json=request)).json()
        again = {**request, "input": "Sure?", "previous_response_id": first["id"]}
        second = await client.post("/v1/responses", json=again)
        kept = (await client.get(f"/v1/responses/{first['id']}")).json()
    assert second.status_code == 200, second.text
    assert kept["output"] == first["output"]
    assert [item["type"] for item in first["output"]] == [
        "web_search_call",
        "reasoning",
        "message",
    ]
    assert model.bodies[2]["messages"][:3] == model.bodies[1]["messages"]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_response_in_the_background_searches(
    news: ScriptedWeb, tmp_path: Path, stream: bool
) -> None:
    model = Model(*TURNS)
    async with hosting(model, news, more=stored(tmp_path), on_socket=True) as client:
        request = {**REQUEST, "store": True, "stream": stream, "background": True}
        answer = await client.post("/v1/responses", json=request)
        assert answer.status_code == 200, answer.text
        if stream:
            final = check_wire(frames(answer.text))
        else:
            final = answer.json()

            async def polled() -> dict[str, Any]:
                while True:
                    found = (await client.get(f"/v1/responses/{final['id']}")).json()
                    if found["status"] not in ("queued", "in_progress"):
                        return dict(found)
                    await asyncio.sleep(0.02)

            final = await bounded(polled())
    assert final["status"] == "completed"
    assert [item["type"] for item in final["output"]][:1] == ["web_search_call"]
    assert final["output"][-1]["content"][0]["annotations"][0]["title"] == "First"


async def test_scenario_27_another_upstream_goes_on_with_a_later_round(news: ScriptedWeb) -> None:
    """A round is asked of the next route where the first one fails, with what was found."""

    async def down(call: Any) -> None:
        await call.answer({"error": {"message": "Down."}}, status=500)

    first, second = Model(turn(search("news")), down), Model(says("So [1]."))
    async with ScriptedUpstream().running() as one, ScriptedUpstream().running() as two:
        one.script, two.script = first, second
        settings = read_table(
            {
                "server": {"retries": 0},
                "upstreams": {"one": {"base_url": one.url}, "two": {"base_url": two.url}},
                "models": {"a-model": {"upstream": ["one", "two"]}},
                "tools": {
                    "allow_private": list(LOCAL),
                    "search": {"backend": "searxng", "url": news.url},
                },
            },
            {},
        )
        async with client_of(settings) as client:
            final = check_wire(await events_of(client))
    assert final["status"] == "completed"
    assert second.bodies[0]["messages"] == first.bodies[1]["messages"]
    assert "What it is about." in second.tool_messages(0)[0]


async def test_tools_are_spans_between_those_of_the_turns(news: ScriptedWeb) -> None:
    collected = Collected()
    model = Model(turn(search("news"), search("")), says("So."))
    async with ScriptedUpstream().running() as upstream:
        upstream.script = model
        settings = hosting_settings(upstream.url, news)
        async with client_of(settings, observe=collected.factory) as client:
            await events_of(client)
    [tool] = collected.of(SpanKind.INTERNAL)
    first, second = collected.of(SpanKind.CLIENT)
    assert tool.name == "execute_tool search"
    assert tool.parent is not None
    assert tool.parent.span_id == collected.server.context.span_id
    assert tool.start_time is not None and tool.end_time is not None
    assert first.end_time == tool.start_time
    assert second.start_time is not None and tool.end_time <= second.start_time
    assert "news" not in str(tool.attributes)
    collected.factory.close()


async def test_compaction_calls_no_tool(news: ScriptedWeb) -> None:
    model = Model(says("A summary."))
    async with hosting(model, news) as client:
        items = [*REQUEST["input"], {"type": "compaction_trigger"}]
        events = await events_of(client, {**REQUEST, "input": items})
    assert [item["type"] for item in events[-1]["response"]["output"]] == ["compaction"]
    assert not news.calls


async def test_a_trace_has_each_turn_and_is_not_replayed(news: ScriptedWeb, tmp_path: Path) -> None:
    """What tools have found is not in it, so a replay would be of something else."""
    model = Model(turn(search("news")), says("So [1]."))
    async with ScriptedUpstream().running() as upstream:
        upstream.script = model
        settings = hosting_settings(upstream.url, news, trace_folder=str(tmp_path / "traces"))
        async with tracing(settings) as client:
            await events_of(client)
    [folder] = (tmp_path / "traces").iterdir()
    bodies = [
        json.loads((folder / name).read_bytes()) for name in ("attempt_1/chat.json", "chat.json")
    ]
    assert bodies == model.bodies
    with pytest.raises(CaptureError, match="between its 2 upstream turns"):
        replay(Capture(folder))
