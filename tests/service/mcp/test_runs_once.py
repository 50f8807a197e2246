"""A tool with side effects runs once, whatever becomes of the response: clients ask again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import APIError, AsyncOpenAI

from tests.rounds import call, says, turn
from tests.service.tools.hosting import Model, events_of, items_of
from tests.service.wire import Call
from translator import Translation
from translator.service.store.part import Part
from translator.service.turns.adaptive import AdaptiveRequest
from translator.wire.errors import UpstreamError

from .hosting import asking, hosting
from .serving import McpScript

pytestmark = pytest.mark.anyio


async def refused(call_: Call) -> None:
    """A failure that SDKs ask again after."""
    await call_.answer({"error": {"message": "the model is down"}}, status=503)


def write(call_id: str | None = None) -> dict[str, Any]:
    return call("math__write", call_id, text="x")


def sdk(client: httpx.AsyncClient) -> AsyncOpenAI:
    """The real SDK with its default retries."""
    return AsyncOpenAI(base_url="http://service/v1", api_key="k", http_client=client)


def approving(request: dict[str, Any], output: list[dict[str, Any]]) -> dict[str, Any]:
    [wanted] = [one for one in output if one["type"] == "mcp_approval_request"]
    answer = {"type": "mcp_approval_response", "approval_request_id": wanted["id"], "approve": True}
    return {**request, "input": [*request["input"], *output, answer]}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("fails", ["at once", "after an approval"])
async def test_an_upstream_that_fails_once_a_tool_has_run(
    script: McpScript, fails: str, *, stream: bool
) -> None:
    """The response fails, with what ran and was spent; nothing has the SDK send it again."""
    model = Model(turn(write()), refused)
    request = asking(script, require_approval="always" if fails != "at once" else "never")
    async with hosting(model, script, retries=0) as client:
        if fails != "at once":
            request = approving(request, output_of(await events_of(client, request)))
        del request["stream"]
        openai = sdk(client)
        if stream:
            with pytest.raises(APIError, match="the model is down"):
                async with openai.responses.stream(**request) as events:
                    async for _ in events:
                        pass
        else:
            final = await openai.responses.create(**request)
            assert final.status == "failed"
            assert "mcp_call" in [one.type for one in final.output]
            if fails == "at once":
                assert (final.usage.input_tokens, final.usage.output_tokens) == (10, 5)
    assert script.methods.count("tools/call") == 1
    assert len(model.bodies) == 2


def output_of(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    output: list[dict[str, Any]] = events[-1]["response"]["output"]
    return output


@pytest.mark.parametrize("hides", [True, False])
async def test_an_approved_call_stands_in_the_stream_that_fails(
    script: McpScript, *, hides: bool
) -> None:
    """Also where the error stands in a body with the status 200; the next request has the result."""

    async def hidden(call_: Call) -> None:
        await call_.answer({"error": {"message": "the model is down"}})

    model = Model(turn(write("call_a")), hidden if hides else refused, says("Done."))
    request = asking(script, require_approval="always")
    async with hosting(model, script, retries=0) as client:
        approved = approving(request, output_of(await events_of(client, request)))
        events = await events_of(client, approved)
        assert events[-1]["type"] == "response.failed"
        [called] = items_of(events, "mcp_call")
        assert (called["status"], called["output"]) == ("completed", "written: x")
        more = {"role": "user", "content": "?"}
        output = output_of(events)
        await events_of(client, {**request, "input": [*approved["input"], *output, more]})
    assert model.tool_messages(2) == ["written: x"]
    assert script.methods.count("tools/call") == 1


async def test_an_internal_error_once_a_tool_has_run(
    script: McpScript, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_args: Any, **_more: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(AdaptiveRequest, "next_round", breaks)
    async with hosting(Model(turn(write())), script) as client:
        found = await client.post("/v1/responses", json={**asking(script), "stream": False})
    assert (found.status_code, found.json()["status"]) == (200, "failed")
    assert "a bug" not in found.text


async def test_a_store_that_fails_once_a_tool_has_run(
    script: McpScript, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the response must be stored: whoever reads an error would send it again."""
    end = Part.end

    async def breaks(part: Part, translation: Translation) -> UpstreamError:
        await end(part, translation)
        return UpstreamError("It could not be stored.", status=503)

    room = {"store": {"url": f"sqlite:///{tmp_path}/store.db"}}
    request = {**asking(script), "stream": False, "store": True}
    async with hosting(Model(turn(write()), says("Done.")), script, more=room) as client:
        monkeypatch.setattr(Part, "end", breaks)
        found = await client.post("/v1/responses", json=request)
    assert (found.status_code, found.json()["status"]) == (200, "failed")
    assert "mcp_call" in [one["type"] for one in found.json()["output"]]


async def test_an_error_once_an_approved_call_has_run_is_not_for_a_retry(
    script: McpScript,
) -> None:
    """The request turns out to be none when its tools are known."""
    async with hosting(Model(turn(write())), script) as client:
        request = asking(script, require_approval="always")
        approved = approving(request, output_of(await events_of(client, request)))
        approved["tool_choice"] = {"type": "function", "name": "none"}
        found = await client.post("/v1/responses", json=approved)
    assert (found.status_code, script.methods.count("tools/call")) == (400, 1)
    assert found.headers["x-should-retry"] == "false"
