"""`mcp` tools over HTTP: run here on a real server, between the turns of a scripted model."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.invariants import check_wire
from tests.rounds import FUNCTION, call, says, turn
from tests.service.tools.hosting import Model, events_of, frames, items_of
from tests.service.wire import bounded
from translator.common.sealed import unseal
from translator.service.base.keys import new_key, store

from .hosting import SECRETS, add, asking, declared, hosting
from .serving import McpScript, answer

pytestmark = pytest.mark.anyio


async def response_of(client: httpx.AsyncClient, request: dict[str, Any]) -> dict[str, Any]:
    events = await events_of(client, request)
    check_wire(events)
    final: dict[str, Any] = events[-1]["response"]
    return final


async def test_scenarios_1_and_2_a_tool_is_called(script: McpScript) -> None:
    model = Model(turn(add("call_a")), says("It is 3."))
    async with hosting(model, script) as client:
        final = await response_of(client, asking(script))
    listed, called, _, message = final["output"]
    assert [one["name"] for one in listed["tools"]][:2] == ["add", "write"]
    assert listed["tools"][0]["annotations"] == {"read_only": True}
    assert "annotations" not in listed["tools"][1]
    assert (called["output"], called["status"], called["error"]) == ("3", "completed", None)
    assert message["content"][0]["text"] == "It is 3."
    assert len(model.bodies) == 2
    assert model.tool_messages(1) == ["3"]
    assert script.methods == ["initialize", "tools/list", "tools/call"]


async def test_scenario_3_whole_is_as_streamed(script: McpScript) -> None:
    model = Model(turn(add()), says("3."))
    async with hosting(model, script) as client:
        streamed = await response_of(client, asking(script))
        model.bodies.clear()
        found = await client.post("/v1/responses", json={**asking(script), "stream": False})
    whole = found.json()

    def plain(response: dict[str, Any]) -> dict[str, Any]:
        output = [{**one, "id": "", "encrypted_content": ""} for one in response["output"]]
        return {**response, "output": output, "id": "", "created_at": 0, "completed_at": 0}

    assert plain(whole) == plain(streamed)


async def test_scenario_5_two_calls_run_at_the_same_time(script: McpScript) -> None:
    most = 0
    sleeps = [call("math__sleep", str(number), seconds=0.5) for number in range(2)]
    model = Model(turn(*sleeps), says("Slept."))
    async with hosting(model, script) as client:
        asked = asyncio.create_task(response_of(client, asking(script)))
        while not asked.done():
            most = max(most, script.running_tools)
            await asyncio.sleep(0.01)
        final = await asked
    assert most == 2
    assert [one["output"] for one in final["output"] if one["type"] == "mcp_call"] == ["slept"] * 2


async def test_scenario_6_and_7_a_function_beside_it(script: McpScript) -> None:
    model = Model(turn(add("call_m"), call("act", "call_f")), says("Done."), says("Done."))
    request = asking(script, FUNCTION)
    acted = {"type": "function_call_output", "call_id": "call_f", "output": "done"}
    async with hosting(model, script) as client:
        output = (await response_of(client, request))["output"]
        kinds = [one["type"] for one in output if one["type"] != "reasoning"]
        assert kinds == ["mcp_list_tools", "mcp_call", "function_call"]
        await response_of(client, {**request, "input": [*request["input"], *output, acted]})
        kept = [one for one in output if not one["type"].startswith("mcp_")]
        await response_of(client, {**request, "input": [*request["input"], *kept, acted]})
    assert sorted(model.tool_messages(1)) == ["3", "done"]
    assert model.bodies[1]["messages"] == model.bodies[2]["messages"]


async def test_scenario_9_a_tool_says_that_it_failed(script: McpScript) -> None:
    model = Model(turn(call("math__fail", words="no way")), says("It failed."))
    async with hosting(model, script) as client:
        final = await response_of(client, asking(script))
    [called] = [one for one in final["output"] if one["type"] == "mcp_call"]
    assert called["status"] == "failed"
    assert called["error"]["type"] == "mcp_tool_execution_error"
    assert "no way" in called["error"]["content"][0]["text"]
    assert "no way" in model.tool_messages(1)[0]


async def test_scenario_10_a_server_refuses(
    script: McpScript, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    model = Model(turn(add()), says("It failed."))
    async with hosting(model, script) as client:
        script.instead = lambda asked: answer(401) if asked.rpc == "tools/call" else None
        final = await response_of(client, asking(script))
        [called] = [one for one in final["output"] if one["type"] == "mcp_call"]
        assert called["error"] == {
            "type": "http_error",
            "code": 401,
            "message": "The server answered with HTTP 401.",
        }
        script.instead = lambda _asked: answer(401)
        found = await client.post(
            "/v1/responses", json=asking(script, authorization="planted-token-2")
        )
    assert found.status_code == 424
    assert found.json()["error"]["code"] == "http_error"
    assert found.json()["error"]["message"].startswith(
        "Error retrieving tool list from MCP server: 'math'. Http status code: 401"
    )
    assert len(model.bodies) == 2
    ours = [one for one in caplog.records if not one.name.startswith(("mcp.server", "uvicorn"))]
    assert not any("planted" in one.getMessage() for one in ours)


async def test_a_list_that_fails_may_be_gone_on_without(script: McpScript) -> None:
    script.instead = lambda _asked: answer(503)
    model = Model(says("Without."))
    async with hosting(model, script, mcp={"list_failure": "go_on"}) as client:
        final = await response_of(client, asking(script))
    assert final["output"][0]["error"] == "The server answered with HTTP 503."
    assert "tools" not in model.bodies[0]


async def test_scenario_11_a_tool_takes_too_long(script: McpScript) -> None:
    model = Model(turn(call("math__sleep", seconds=60)), says("It took too long."))
    limits = {"call_timeout_s": 1.5}
    async with hosting(model, script, mcp=limits, heartbeat_s=0.2) as client:
        events = await events_of(client, asking(script))
        assert await asyncio.to_thread(script.cancelled.wait, 5)
    [called] = items_of(events, "mcp_call")
    assert (called["error"]["type"], called["error"]["code"]) == ("mcp_protocol_error", -32001)
    assert sum(one["type"] == "response.in_progress" for one in events) > 2


async def test_scenario_12_a_large_result_is_cut(script: McpScript) -> None:
    model = Model(turn(call("math__repeat", text="x", times=10_000_000)), says("Much."))
    async with hosting(model, script) as client:
        final = await response_of(client, asking(script))
    [called] = [one for one in final["output"] if one["type"] == "mcp_call"]
    assert model.tool_messages(1) == [called["output"]]
    assert len(called["output"]) <= 256 * 1024 + 20
    assert called["output"].endswith("[cut: 10.0 MB in all]")


async def test_scenario_13_a_tool_that_is_not_on_the_servers_list(script: McpScript) -> None:
    """The client's own list serves for declaring alone."""
    listed = {
        "type": "mcp_list_tools",
        "id": "mcpl_1",
        "server_label": "math",
        "tools": [{"name": "add", "input_schema": {}}, {"name": "made_up", "input_schema": {}}],
    }
    request = asking(script)
    request["input"] = [*request["input"], listed]
    model = Model(turn(call("math__made_up")), says("Hm."))
    async with hosting(model, script) as client:
        final = await response_of(client, request)
    called = final["output"][0]
    assert (called["type"], called["status"]) == ("mcp_call", "failed")
    assert called["error"]["code"] == -32000
    assert model.tool_messages(1) == [called["error"]["message"]]
    assert "tools/call" not in script.methods


async def test_scenario_14_only_allowed_tools(script: McpScript) -> None:
    model = Model(says("Hm."))
    async with hosting(model, script) as client:
        for allowed in (["add"], {"read_only": True}):
            final = await response_of(client, asking(script, allowed_tools=allowed))
            assert [one["name"] for one in final["output"][0]["tools"]] == ["add"]
            [tool] = model.bodies[-1]["tools"]
            assert tool["function"]["name"] == "math__add"


def approving(request: dict[str, Any], output: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    [wanted] = [one for one in output if one["type"] == "mcp_approval_request"]
    response = {
        "type": "mcp_approval_response",
        "approval_request_id": wanted["id"],
        "approve": True,
        **more,
    }
    return {**request, "input": [*request["input"], *output, response]}


async def test_scenarios_15_to_17_a_call_waits_for_approval(script: McpScript) -> None:
    model = Model(turn(add("call_a"), reasoning="Add."), says("It is 3."), says("Then not."))
    request = asking(script, require_approval=None)
    async with hosting(model, script) as client:
        output = (await response_of(client, request))["output"]
        assert "tools/call" not in script.methods
        approved = approving(request, output)
        final = await response_of(client, approved)
        assert script.methods.count("tools/call") == 1
        again = {
            **approved,
            "input": [*approved["input"], *final["output"], {"role": "user", "content": "?"}],
        }
        await response_of(client, again)
        assert script.methods.count("tools/call") == 1
        await response_of(client, approving(request, output, approve=False, reason="No."))
        assert script.methods.count("tools/call") == 1
    called = final["output"][0]
    assert (called["type"], called["output"]) == ("mcp_call", "3")
    assert called["approval_request_id"].startswith("mcpr_")
    assert model.tool_messages(1) == model.tool_messages(2) == ["3"]
    assert model.tool_messages(3) == ["Not run: the user did not approve of this call. Reason: No."]


async def test_scenario_16_the_shape_of_the_ai_sdk(script: McpScript) -> None:
    model = Model(turn(add("call_a"), reasoning="Add."), says("It is 3."))
    request = asking(script, require_approval="always")
    async with hosting(model, script) as client:
        output = (await response_of(client, request))["output"]
        approved = approving(request, output)
        approved["input"] = [
            one
            for one in approved["input"]
            if one.get("type") not in ("mcp_list_tools", "mcp_approval_request")
        ]
        final = await response_of(client, approved)
    assert [one["type"] for one in final["output"]][:2] == ["mcp_list_tools", "mcp_call"]
    assert model.tool_messages(1) == ["3"]


async def test_scenario_16_with_a_store(script: McpScript, tmp_path: Path) -> None:
    pytest.importorskip("sqlalchemy")
    model = Model(turn(add("call_a"), reasoning="Add."), says("It is 3."))
    request = {**asking(script, require_approval="always"), "store": True}
    room = {"store": {"url": f"sqlite:///{tmp_path}/store.db"}}
    async with hosting(model, script, more=room) as client:
        first = await response_of(client, request)
        [wanted] = [one for one in first["output"] if one["type"] == "mcp_approval_request"]
        response = {
            "type": "mcp_approval_response",
            "approval_request_id": wanted["id"],
            "approve": True,
        }
        following = {**request, "previous_response_id": first["id"], "input": [response]}
        final = await response_of(client, following)
        assert [one["type"] for one in final["output"]][:1] == ["mcp_call"]
        assert model.tool_messages(1) == ["3"]
        third = {**request, "previous_response_id": final["id"], "input": "Sure?"}
        await response_of(client, third)
    assert model.tool_messages(2) == ["3"]
    assert script.methods.count("tools/call") == 1
    files = await asyncio.to_thread(lambda: [one.read_bytes() for one in tmp_path.iterdir()])
    kept = b"".join(files)
    assert not any(secret.encode() in kept for secret in SECRETS)


@pytest.mark.parametrize("sends", ["references", "items", "the answer alone"])
async def test_scenario_16_with_a_store_and_no_response_before(
    script: McpScript, tmp_path: Path, sends: str
) -> None:
    """The AI SDK refers to each item where it may store; the loop of the SDKs sends all of them."""
    pytest.importorskip("sqlalchemy")
    model = Model(turn(add("call_a"), reasoning="Add."), says("It is 3."), says("Yes."))
    request = {**asking(script, require_approval="always"), "store": True}
    room = {"store": {"url": f"sqlite:///{tmp_path}/store.db"}}
    async with hosting(model, script, more=room) as client:
        first = await response_of(client, request)
        output = first["output"]
        [wanted] = [one for one in output if one["type"] == "mcp_approval_request"]
        if sends == "references":
            output = [{"type": "item_reference", "id": one["id"]} for one in output]
        approved = {
            "type": "mcp_approval_response",
            "approval_request_id": wanted["id"],
            "approve": True,
        }
        before = [] if sends == "the answer alone" else output
        following = {**request, "input": [*request["input"], *before, approved]}
        final = await response_of(client, following)
        answer = {"role": "user", "content": "Sure?"}
        again = [*following["input"], *final["output"], answer]
        await response_of(client, {**request, "input": again})
    assert "mcp_call" in [one["type"] for one in final["output"]]
    for asked in model.bodies[1:]:
        _, called, told, *_ = asked["messages"]
        assert called["tool_calls"][0]["id"] == told["tool_call_id"] == "call_a"
        assert told["content"] == "3"
    assert script.methods.count("tools/call") == 1


async def test_scenario_18_an_unknown_answer_is_refused(script: McpScript) -> None:
    request = asking(script)
    response = {"type": "mcp_approval_response", "approval_request_id": "mcpr_x", "approve": True}
    request["input"] = [*request["input"], response]
    async with hosting(Model(says("Hm.")), script) as client:
        found = await client.post("/v1/responses", json=request)
    assert found.status_code == 400
    assert found.json()["error"]["param"] == "input[1].approval_request_id"
    assert script.asked == []


@pytest.mark.parametrize(
    ("tools", "param", "words"),
    [
        ([{}, {}], "tools[1].server_label", "Duplicate server_label"),
        ([{"connector_id": "connector_gmail"}], "tools[0]", "Only one of"),
        ([{"server_url": None}], "tools[0].server_label", "no MCP server named 'math'"),
        ([{"server_url": "https://evil.example/mcp"}], "tools[0].server_url", "the setting `allow`"),
        ([{"server_url": "http://10.0.0.1/"}], "tools[0].server_url", "private network"),
        ([{"server_url": "https://u:planted@ok.example/"}], "tools[0].server_url", "user name"),
    ],
)  # fmt: skip
async def test_scenario_20_a_server_that_may_not_be_used(
    script: McpScript, tools: list[dict[str, Any]], param: str, words: str
) -> None:
    request = asking(script)
    request["tools"] = [declared(script, **more) for more in tools]
    async with hosting(Model(says("Hm.")), script) as client:
        found = await client.post("/v1/responses", json=request)
    assert found.status_code == 400
    error = found.json()["error"]
    assert error["param"] == param
    assert words in error["message"]
    assert "planted" not in found.text
    assert script.asked == []


async def test_scenario_21_a_list_in_the_input_is_not_asked_for(script: McpScript) -> None:
    model = Model(says("Hm."))
    async with hosting(model, script) as client:
        output = (await response_of(client, asking(script)))["output"]
        request = asking(script, authorization="another")
        request["input"] = [*request["input"], *output, {"role": "user", "content": "?"}]
        script.asked.clear()
        final = await response_of(client, request)
    assert script.methods == []
    assert [one["type"] for one in final["output"]] == ["message"]
    assert model.bodies[0]["tools"] == model.bodies[1]["tools"]


async def test_scenario_22_more_tools_than_there_may_be(script: McpScript) -> None:
    for number in range(300):
        script.tools.add_tool(lambda: "x", name=f"tool_{number}")
    async with hosting(Model(says("Hm.")), script) as client:
        found = await client.post("/v1/responses", json={**asking(script), "stream": False})
    assert len(found.json()["output"][0]["tools"]) == 128
    assert "tool_dropped" in str(found.headers)


async def test_scenario_23_a_tool_is_forced_once(script: McpScript) -> None:
    model = Model(turn(add()), says("3."))
    choice = {"type": "mcp", "server_label": "math", "name": "add"}
    async with hosting(model, script) as client:
        await response_of(client, {**asking(script), "tool_choice": choice})
    first, second = (body["tool_choice"] for body in model.bodies)
    assert first == {"type": "function", "function": {"name": "math__add"}}
    assert second == "auto"


async def test_scenario_28_a_client_leaves_while_a_tool_runs(script: McpScript) -> None:
    model = Model(turn(call("math__sleep", seconds=60)), says("Never."))
    async with hosting(model, script, on_socket=True) as client:
        async with client.stream("POST", "/v1/responses", json=asking(script)) as answered:
            lines = answered.aiter_lines()  # which closes the stream with its end
            while "mcp_call.in_progress" not in await anext(lines):
                pass
            while not script.running_tools:
                await asyncio.sleep(0.01)
        assert await asyncio.to_thread(script.cancelled.wait, 5)
        while script.running_tools:
            await asyncio.sleep(0.01)
    assert len(model.bodies) == 1


async def test_a_client_leaves_while_a_list_is_awaited(script: McpScript) -> None:
    waiting = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def hang(_scope: Any, receive: Any, _send: Any) -> None:
        loop.call_soon_threadsafe(waiting.set)
        while (await receive())["type"] != "http.disconnect":
            pass
        script.cancelled.set()

    script.instead = lambda asked: hang if asked.rpc == "tools/list" else None
    async with hosting(Model(says("Hm.")), script, on_socket=True) as client:
        asked = asyncio.create_task(client.post("/v1/responses", json=asking(script)))
        await bounded(waiting.wait())
        asked.cancel()
        await asyncio.wait([asked])
        assert await asyncio.to_thread(script.cancelled.wait, 5)


async def test_scenario_30_nothing_is_connected_to_beyond_the_rules(script: McpScript) -> None:
    """The patterns alone open no private network."""
    async with hosting(Model(says("Hm.")), script, tools={"allow_private": []}) as client:
        found = await client.post("/v1/responses", json=asking(script))
    assert found.status_code == 400
    assert "private network" in found.json()["error"]["message"]
    assert script.asked == []


async def test_scenario_31_secrets_are_told_the_server_alone(
    script: McpScript, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    script.instead = lambda asked: answer(401) if asked.params.get("name") == "write" else None
    model = Model(turn(add("a"), call("math__write", "b", text="x"), reasoning="R."), says("3."))
    traces = tmp_path / "traces"
    async with hosting(model, script, trace_folder=str(traces), metrics=True) as client:
        streamed = await client.post("/v1/responses", json=asking(script))
        whole = await client.post("/v1/responses", json={**asking(script), "stream": False})
        metrics = await client.get("/metrics")
    assert script.asked[0].headers["authorization"] == "Bearer planted-token"
    assert script.asked[0].headers["x-key"] == "planted-header"
    assert script.asked[0].query == "key=planted-query"
    output = frames(streamed.text)[-1]["response"]["output"]
    seals = [one.get("encrypted_content") for one in output if one["type"] == "reasoning"]
    opened = [str(unseal(one)) for one in seals if one]
    assert opened
    files = [path for path in traces.rglob("*") if path.is_file()]
    assert sum(path.name == "exchange.toml" for path in files) == 2
    told = [
        streamed.text,
        whole.text,
        str(streamed.headers),
        metrics.text,
        json.dumps(model.bodies),
        *opened,
    ]
    told += [path.read_text("utf-8") for path in files]
    told += [
        one.getMessage()
        for one in caplog.records
        if not one.name.startswith(("mcp.server", "uvicorn"))
    ]
    for secret in SECRETS:
        assert not any(secret in text for text in told), secret
    assert 'translator_tool_calls_total{result="completed",tool="mcp"} 1' in metrics.text
    assert 'translator_tool_calls_total{result="failed",tool="mcp"} 1' in metrics.text
    assert 'translator_tool_calls_total{result="completed",tool="mcp_list"}' in metrics.text


async def test_servers_of_the_operator_are_for_their_clients(script: McpScript) -> None:
    keys = {"ann": new_key(), "bob": new_key()}
    clients = {name: {"keys": [str(store(key))]} for name, key in keys.items()}
    servers = {"math": {"url": script.url, "key_env": "KEY", "clients": ["ann"]}}
    request = asking(script, server_url=None, authorization=None, headers=None)
    model = Model(turn(add()), says("3."))
    async with hosting(
        model, script, mcp=servers, more={"clients": clients}, environ={"KEY": "planted-own-key"}
    ) as client:
        client.headers["authorization"] = f"Bearer {keys['ann']}"
        final = await response_of(client, request)
        client.headers["authorization"] = f"Bearer {keys['bob']}"
        found = await client.post("/v1/responses", json=request)
    assert final["output"][1]["output"] == "3"
    assert script.asked[0].headers["authorization"] == "Bearer planted-own-key"
    assert found.status_code == 400
    assert "no MCP server named 'math'" in found.json()["error"]["message"]


async def test_two_clients_share_no_session(script: McpScript) -> None:
    """H16: nor do two keys without `[clients]`."""
    model = Model(says("Hm."))
    async with hosting(model, script) as client:
        for key in ("one", "two", "one"):
            client.headers["authorization"] = f"Bearer {key}"
            await response_of(client, asking(script))
    assert script.methods.count("initialize") == 2
    assert script.methods.count("tools/list") == 2


async def test_without_servers_in_the_settings_nothing_is_different(script: McpScript) -> None:
    """H3."""
    model = Model(says("Hm."))
    async with hosting(model, script, tools={"allow": []}) as client:
        found = await client.post("/v1/responses", json={**asking(script), "stream": False})
    assert found.status_code == 200
    assert "tools" not in model.bodies[0]
    assert "tool_dropped" in str(found.headers)
    assert script.asked == []


async def test_a_websocket_has_servers_too(script: McpScript) -> None:
    model = Model(turn(add()), says("3."))
    async with hosting(model, script, on_socket=True) as client:
        from websockets.asyncio.client import connect

        url = str(client.base_url).replace("http://", "ws://").rstrip("/") + "/v1/responses"
        request = {"type": "response.create", **asking(script)}
        async with connect(url) as socket:
            await socket.send(json.dumps(request))
            events = []
            while not events or events[-1]["type"] != "response.completed":
                events.append(json.loads(await bounded(socket.recv())))
    check_wire(events)
    assert [one["output"] for one in items_of(events, "mcp_call")] == ["3"]


async def test_counting_tokens_asks_no_server(script: McpScript) -> None:
    model = Model(turn(add("call_a"), reasoning="Add."))
    request = asking(script, require_approval="always")
    async with hosting(model, script) as client:
        output = (await response_of(client, request))["output"]
        approved = approving(request, output)
        for field in ("stream", "store"):
            approved.pop(field)
        script.asked.clear()
        await client.post("/v1/responses/input_tokens", json=approved)
    assert "tools/call" not in script.methods
