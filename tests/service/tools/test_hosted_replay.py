"""What later requests know of hosted searches: pages of any language, and responses that ended."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.replaying import sse
from tests.rounds import REQUEST, call, replayed, says, search, turn
from tests.service.log import Log
from tests.service.wire import Call, bounded

from .hosting import Model, events_of, frames, hosting, stored
from .searching import ScriptedWeb

pytestmark = pytest.mark.anyio

MORE = {"role": "user", "content": "More?"}


async def _refused(call_: Call) -> None:
    await call_.answer({"error": {"message": "upstream says no"}}, status=400)


async def test_a_page_in_another_script_is_read_line_for_line(scripted: ScriptedWeb) -> None:
    """What the model is pointed to follows what it was shown; the next response shows the same."""
    text = "".join(f"<p>{number}: {'猫は九つの命を持つ。' * 12}</p>" for number in range(400))
    scripted.pages["/cat"] = f"<meta charset=utf-8><title>猫</title>{text}"
    url = f"{scripted.url}/cat"
    request: dict[str, Any] = {
        **REQUEST,
        "input": [{"role": "user", "content": f"Read {url}"}],
        "tools": [{"type": "web_search", "search_context_size": "high"}],
    }
    lines: list[int] = []
    model = Model(turn(call("open_page", url=url)), says("So."), says("More."))
    async with hosting(model, scripted, tools={"max_sealed_bytes": 20_000}) as client:
        first = await events_of(client, request)
        output = first[-1]["response"]["output"]
        await events_of(client, replayed(request, output, MORE))
    [told] = model.tool_messages(1)
    assert 19_000 < len(told.encode()) <= 20_000
    assert "[cut" not in told
    lines = [int(one) for one in re.findall(r"^L(\d+):", told, re.MULTILINE)]
    assert f"at line {lines[-1] + 1}." in told
    before = model.bodies[1]["messages"]
    assert model.bodies[2]["messages"][: len(before)] == before


async def test_a_search_is_not_lost_when_the_next_round_fails(scripted: ScriptedWeb) -> None:
    """A client that goes on from what it got need not search again."""
    model = Model(turn(search("a")), _refused, says("So."))
    async with hosting(model, scripted) as client:
        events = await events_of(client)
        output = events[-1]["response"]["output"]
        assert events[-1]["type"] == "response.failed"
        await events_of(client, replayed(REQUEST, output, MORE))
    told = model.bodies[1]["messages"]
    assert [one["role"] for one in told] == ["user", "assistant", "tool"]
    assert model.bodies[-1]["messages"][:3] == told


async def _hangs(call_: Call) -> None:
    """A turn that begins, and does not end."""
    await call_.head()
    await call_.send(sse({"choices": [{"index": 0, "delta": {"reasoning_content": "Hm."}}]}))
    await asyncio.Event().wait()


@pytest.mark.parametrize("stream", [True, False])
async def test_a_cancelled_response_has_what_was_found(
    scripted: ScriptedWeb, tmp_path: Path, stream: bool
) -> None:
    """By `previous_response_id`, and of a stream with events that say so."""
    model = Model(turn(search("a")), _hangs, says("So."))
    request = {**REQUEST, "store": True, "stream": stream, "background": True}
    async with hosting(model, scripted, more=stored(tmp_path), on_socket=True) as client:
        async with client.stream("POST", "/v1/responses", json=request) as answer:
            text = ""
            async for part in answer.aiter_text():
                text += part
                if not stream or "reasoning_summary_text.delta" in text:
                    break
        first = frames(text)[0]["response"] if stream else json.loads(text)

        async def asked_twice() -> None:
            while len(model.bodies) < 2:
                await asyncio.sleep(0.02)

        await bounded(asked_twice())
        await client.post(f"/v1/responses/{first['id']}/cancel")
        going_on = {**REQUEST, "input": [MORE], "previous_response_id": first["id"], "store": True}
        await events_of(client, going_on)
        if stream:
            path = f"/v1/responses/{first['id']}?stream=true"
            numbers = [one["sequence_number"] for one in frames((await client.get(path)).text)]
            assert numbers == list(range(len(numbers)))
    roles = [one["role"] for one in model.bodies[-1]["messages"]]
    assert roles == ["user", "assistant", "tool", "user"]
    assert model.bodies[-1]["messages"][:3] == model.bodies[1]["messages"]


async def test_a_response_that_its_client_left_has_what_was_found(
    scripted: ScriptedWeb, tmp_path: Path
) -> None:
    model = Model(turn(search("a")), _hangs, says("So."))
    async with hosting(model, scripted, more=stored(tmp_path), on_socket=True) as client:
        text = ""
        async with client.stream("POST", "/v1/responses", json={**REQUEST, "store": True}) as got:
            async for part in got.aiter_text():
                text += part
                if "reasoning_summary_text.delta" in text:
                    break
        first = frames(text)[0]["response"]["id"]

        async def kept() -> None:
            while (await client.get(f"/v1/responses/{first}")).status_code == 404:
                await asyncio.sleep(0.02)

        await bounded(kept())
        going_on = {**REQUEST, "input": [MORE], "previous_response_id": first, "store": True}
        await events_of(client, going_on)
    assert model.bodies[-1]["messages"][:3] == model.bodies[1]["messages"]


async def _hides_an_error(call_: Call) -> None:
    await call_.answer({"error": {"message": "upstream says no"}})


@pytest.mark.parametrize("fails", [_refused, _hides_an_error])
async def test_a_whole_response_that_fails_once_a_tool_has_run_is_as_streamed(
    scripted: ScriptedWeb, log: Log, fails: Any
) -> None:
    """H2: with what the first turn has cost and found, in the response and in the log."""
    model = Model(turn(search("a")), fails, says("So."))
    async with hosting(model, scripted, retries=0) as client:
        answer = await client.post("/v1/responses", json={**REQUEST, "stream": False})
        failed = answer.json()
        going_on = replayed({**REQUEST, "stream": False}, failed["output"], MORE)
        await client.post("/v1/responses", json=going_on)
    assert (answer.status_code, failed["status"]) == (200, "failed")
    assert failed["error"]["message"] == "upstream says no"
    assert [one["type"] for one in failed["output"]] == ["web_search_call", "reasoning"]
    assert (failed["usage"]["input_tokens"], failed["usage"]["output_tokens"]) == (10, 5)
    line = next(one for one in log.objects if "duration_ms" in one)
    assert (line["input_tokens"], line["output_tokens"]) == (10, 5)
    assert line["outcome"].startswith("failed ")
    assert model.bodies[-1]["messages"][:3] == model.bodies[1]["messages"]


async def test_a_whole_response_that_fails_while_a_tool_runs_is_a_failed_one(
    scripted: ScriptedWeb,
) -> None:
    """The time of the response is over."""

    async def silent(_request: web.Request) -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    scripted.search = silent
    model = Model(turn(search("a")))
    async with hosting(model, scripted, exchange_timeout_s=0.6) as client:
        answer = await client.post("/v1/responses", json={**REQUEST, "stream": False})
    failed = answer.json()
    assert (answer.status_code, failed["status"], failed["output"]) == (200, "failed", [])
    assert failed["usage"]["input_tokens"] == 10
    assert failed["error"]["message"] == "The response took too long."


async def test_a_failed_whole_response_is_stored_like_a_stream(
    scripted: ScriptedWeb, tmp_path: Path
) -> None:
    model = Model(turn(search("a")), _refused)
    request = {**REQUEST, "store": True, "stream": False}
    async with hosting(model, scripted, more=stored(tmp_path)) as client:
        failed = (await client.post("/v1/responses", json=request)).json()
        kept = (await client.get(f"/v1/responses/{failed['id']}")).json()
    assert kept == failed


async def test_a_first_turn_that_fails_is_an_error_as_ever(scripted: ScriptedWeb) -> None:
    async with hosting(Model(_refused), scripted) as client:
        answer = await client.post("/v1/responses", json={**REQUEST, "stream": False})
    assert answer.status_code == 400
