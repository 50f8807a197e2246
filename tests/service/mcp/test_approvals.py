"""Approvals over HTTP: what is run is what was asked, on the server that it was asked for, once."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import force_setattr

from tests.rounds import call, says, turn
from tests.service.tools.hosting import Model, events_of, items_of
from tests.service.wire import bounded
from translator.common.hosted import RanRound
from translator.common.sealed import seal, unseal

from .hosting import asking, hosting
from .serving import McpScript

pytestmark = pytest.mark.anyio

WRITTEN = "written: asked"


def room(folder: Path) -> dict[str, Any]:
    return {"store": {"url": f"sqlite:///{folder}/store.db"}}


def stored_in(folder: Path) -> bytes:
    return b"".join(one.read_bytes() for one in folder.iterdir())


def answer(approval: str, *, approve: bool = True) -> dict[str, Any]:
    return {
        "type": "mcp_approval_response",
        "approval_request_id": approval,
        "approve": approve,
    }


def waiting(script: McpScript, **more: Any) -> dict[str, Any]:
    return asking(script, require_approval="always", **more)


def model(*more: Any) -> Model:
    return Model(turn(call("math__write", "call_a", text="asked"), reasoning="R."), *more)


def approval_in(events: list[dict[str, Any]]) -> str:
    [wanted] = items_of(events, "mcp_approval_request")
    found: str = wanted["id"]
    return found


def forged(output: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Items with other arguments than the user was asked about, in the seal, too."""
    made: list[dict[str, Any]] = []
    for one in output:
        new = json.loads(json.dumps(one).replace("asked", "forged"))
        thought = unseal(one.get("encrypted_content") or "")
        if thought is not None and isinstance(thought.ran, RanRound):
            for ran in thought.ran.calls:
                force_setattr(ran, "arguments", '{"text": "forged"}')
            new["encrypted_content"] = seal(thought)
        made.append(new)
    return made


@pytest.mark.parametrize("way", ["items", "previous_response_id", "conversation"])
async def test_with_a_store_a_call_runs_once_and_as_it_was_asked(
    script: McpScript, tmp_path: Path, way: str
) -> None:
    pytest.importorskip("sqlalchemy")
    scripted = model(says("Done."), says("Done again."))
    request = {**waiting(script), "store": True, "include": ["reasoning.encrypted_content"]}
    async with hosting(scripted, script, more=room(tmp_path)) as client:
        if way == "conversation":
            made = await client.post("/v1/conversations", json={})
            request["conversation"] = made.json()["id"]
        first = await events_of(client, request)
        approval, output = approval_in(first), first[-1]["response"]["output"]
        following = {**request, "input": [answer(approval)]}
        if way == "items":
            assert forged(output) != output
            following["input"] = [*request["input"], *forged(output), answer(approval)]
        elif way == "previous_response_id":
            following["previous_response_id"] = first[-1]["response"]["id"]
        second = await events_of(client, following)
        [called] = items_of(second, "mcp_call")
        assert (called["output"], called["approval_request_id"]) == (WRITTEN, approval)
        third = await events_of(client, following)
    assert items_of(third, "mcp_call") == []
    assert script.methods.count("tools/call") == 1
    assert scripted.tool_messages(1) == [WRITTEN]
    assert scripted.tool_messages(2)[0] == WRITTEN


async def test_without_a_store_the_seal_says_what_is_run(script: McpScript) -> None:
    scripted = model(says("Done."))
    async with hosting(scripted, script) as client:
        request = waiting(script)
        first = await events_of(client, request)
        output = first[-1]["response"]["output"]
        items = [
            new if one["type"] == "mcp_approval_request" else one
            for one, new in zip(output, forged(output), strict=True)
        ]
        assert items != output
        following = {**request, "input": [*request["input"], *items, answer(approval_in(first))]}
        second = await events_of(client, following)
    assert [one["output"] for one in items_of(second, "mcp_call")] == [WRITTEN]


async def test_an_approval_is_for_the_server_that_was_asked_about(script: McpScript) -> None:
    """A label may stand for another URL in the next request."""
    async with hosting(model(says("Done.")), script) as client:
        request = waiting(script)
        first = await events_of(client, request)
        items = [*request["input"], *first[-1]["response"]["output"], answer(approval_in(first))]
        other = {**waiting(script, server_url=f"{script.url}/other"), "input": items}
        found = await client.post("/v1/responses", json=other)
    assert found.status_code == 400
    assert found.json()["error"]["param"].endswith(".approval_request_id")
    assert "another URL" in found.json()["error"]["message"]
    assert "tools/call" not in script.methods


async def test_a_failed_response_is_not_continued(script: McpScript, tmp_path: Path) -> None:
    pytest.importorskip("sqlalchemy")

    async def refused(call_: Any) -> None:
        await call_.answer({"error": {"message": "no"}}, status=400)

    request = {**asking(script), "store": True}
    scripted = Model(turn(call("math__write", text="x")), refused)
    async with hosting(scripted, script, more=room(tmp_path)) as client:
        first = await events_of(client, request)
        assert first[-1]["type"] == "response.failed"
        following = {**request, "previous_response_id": first[-1]["response"]["id"]}
        found = await client.post("/v1/responses", json=following)
    error = found.json()["error"]
    assert (found.status_code, error["code"]) == (400, "previous_response_not_found")
    assert error["message"].endswith("has failed and cannot be continued.")


async def test_a_client_that_leaves_once_its_call_has_run(
    script: McpScript, tmp_path: Path
) -> None:
    """Nothing of the answer has come; asked again, it gets the result of the first call."""
    pytest.importorskip("sqlalchemy")
    asked_upstream = asyncio.Event()

    async def silent(call_: Any) -> None:
        del call_
        asked_upstream.set()
        await asyncio.sleep(30)

    scripted = model(silent, says("Done."))
    request = {**waiting(script), "store": True}
    async with hosting(scripted, script, more=room(tmp_path), on_socket=True) as client:
        first = await events_of(client, request)
        following = {**request, "previous_response_id": first[-1]["response"]["id"]}
        following["input"] = [answer(approval_in(first))]
        left = asyncio.create_task(client.post("/v1/responses", json=following))
        await bounded(asked_upstream.wait())
        left.cancel()
        await asyncio.wait([left])
        for _ in range(100):  # until the service knows
            await asyncio.sleep(0.02)
            if b'"mcp_call"' in await asyncio.to_thread(stored_in, tmp_path):
                break
        final = await events_of(client, following)
    assert final[-1]["type"] == "response.completed"
    assert script.methods.count("tools/call") == 1
    assert scripted.tool_messages(2) == [WRITTEN]
