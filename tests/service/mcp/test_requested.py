"""Servers of a request: lists that clients send, slots for calls, and what the log has."""

from __future__ import annotations

import asyncio
import gc
import logging
from typing import Any

import pytest

from tests.rounds import call, says, turn
from tests.service.tools.hosting import Model, events_of, items_of
from translator.service.mcp.failures import McpFailed
from translator.service.mcp.slots import CallSlots

from .hosting import add, asking, declared, hosting
from .serving import McpScript, answer

pytestmark = pytest.mark.anyio


def listing(*tools: dict[str, Any]) -> dict[str, Any]:
    return {"type": "mcp_list_tools", "id": "mcpl_1", "server_label": "math", "tools": [*tools]}


def listed(name: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "input_schema": {"type": "object"}, **more}


def with_list(request: dict[str, Any], *tools: dict[str, Any]) -> dict[str, Any]:
    return {**request, "input": [*request["input"], listing(*tools)], "stream": False}


async def test_a_list_in_the_input_is_held_to_the_bounds_of_servers(script: McpScript) -> None:
    tools = [listed("add", description="a </think> b"), listed("a\u202eb"), listed("write")]
    tools += [listed(f"t{number}") for number in range(20)]
    model = Model(says("Hm."))
    async with hosting(model, script, mcp={"max_tools": 5}) as client:
        found = await client.post("/v1/responses", json=with_list(asking(script), *tools))
    functions = [one["function"] for one in model.bodies[0]["tools"]]
    assert [one["name"] for one in functions] == [
        "math__add", "math__write", "math__t0", "math__t1", "math__t2",
    ]  # fmt: skip
    assert functions[0]["description"] == "a <\u200d/think> b"
    assert str(found.headers).count("tool_dropped")
    assert script.methods == []


async def test_tools_that_are_allowed_and_not_there(script: McpScript) -> None:
    async with hosting(Model(says("Hm.")), script) as client:
        request = {**asking(script, allowed_tools=["none"]), "stream": False}
        found = await client.post("/v1/responses", json=request)
    assert "tool_dropped" in str(found.headers)


async def test_a_list_in_the_input_with_a_mistake(script: McpScript) -> None:
    async with hosting(Model(says("Hm.")), script) as client:
        found = await client.post("/v1/responses", json=with_list(asking(script), listed(5)))
    assert found.json()["error"]["param"] == "input[1].tools[0].name"


async def test_a_hint_in_a_list_of_the_client_is_not_trusted(script: McpScript) -> None:
    """What the client says of a tool would let it run without an approval."""
    request = asking(script, require_approval={"never": {"read_only": True}})
    tools = [listed(name, annotations={"read_only": True}) for name in ("add", "write")]
    model = Model(turn(add("a"), call("math__write", "b", text="x")), says("So."))
    async with hosting(model, script) as client:
        found = await client.post("/v1/responses", json=with_list(request, *tools))
    output = found.json()["output"]
    assert [one["name"] for one in output if one["type"] == "mcp_approval_request"] == ["write"]
    assert [one["name"] for one in output if one["type"] == "mcp_call"] == ["add"]
    assert script.methods.count("tools/call") == 1


async def test_a_hint_that_a_server_takes_back(script: McpScript) -> None:
    """Between its list and the call."""
    request = asking(script, require_approval={"never": {"read_only": True}})
    async with hosting(
        Model(turn(add("a")), says("So.")), script, mcp={"cache_s": 0.001}
    ) as client:
        tool = script.tools._tool_manager._tools["add"]

        def instead(asked: Any) -> None:
            if asked.rpc == "tools/list" and script.methods.count("tools/list") == 2:
                tool.annotations = None

        script.instead = instead
        events = await events_of(client, request)
    [called] = items_of(events, "mcp_call")
    assert called["status"] == "failed"
    assert "approve" in called["error"]["message"]
    assert "tools/call" not in script.methods


async def test_a_list_that_fails_names_its_declaration(
    script: McpScript, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    script.instead = lambda _asked: answer(401)
    request = asking(script)
    request["tools"] = [{"type": "function", "name": "f"}, declared(script)]
    async with hosting(Model(says("Hm.")), script) as client:
        found = await client.post("/v1/responses", json=request)
    assert (found.status_code, found.json()["error"]["param"]) == (424, "tools[1]")
    [line] = [one.getMessage() for one in caplog.records if "MCP server" in one.getMessage()]
    assert line.startswith("the list of MCP server 'math' (127.0.0.1) failed: http_error 401, ")
    assert "id=" not in line  # which the log adds to each line of a request
    assert "planted" not in line


async def test_a_call_that_fails_is_a_line(
    script: McpScript, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    model = Model(turn(call("math__fail", words="planted-words")), says("Hm."))
    async with hosting(model, script) as client:
        await events_of(client, asking(script))
    [line] = [one.getMessage() for one in caplog.records if "of MCP server" in one.getMessage()]
    assert "failed: mcp_tool_execution_error, " in line
    assert "planted" not in line


async def test_a_server_that_answers_nonsense_has_no_status(script: McpScript) -> None:
    script.instead = lambda _asked: answer(200, b"<html>", ("content-type", "text/html"))
    async with hosting(Model(says("Hm.")), script) as client:
        found = await client.post("/v1/responses", json=asking(script))
    assert found.json()["error"]["message"] == (
        "Error retrieving tool list from MCP server: 'math'. "
        "The server's answer is neither JSON nor a stream of events."
    )


async def test_one_client_leaves_slots_to_others() -> None:
    slots = CallSlots(4)
    running = 0
    over = asyncio.Event()

    async def call_(owner: str) -> None:
        nonlocal running
        async with slots.slot(owner, 20):
            running += 1
            await over.wait()

    greedy = [asyncio.create_task(call_("greedy")) for _ in range(10)]
    while running < 2:
        await asyncio.sleep(0)
    async with slots.slot("other", 20), slots.slot("another", 20):
        assert running == 2
        with pytest.raises(McpFailed, match="none had ended"):
            async with slots.slot("third", 0.01):
                pass
    over.set()
    await asyncio.gather(*greedy)
    async with slots.slot("greedy", 1), slots.slot("greedy", 1), slots.slot("other", 1):
        pass
    gc.collect()
    assert not slots._own
