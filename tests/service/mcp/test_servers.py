"""Sessions, lists and calls, with a real server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from translator.service.mcp.failures import McpFailed

from .serving import McpScript, answer, servers_of, target

pytestmark = pytest.mark.anyio


async def test_a_list_and_a_call_on_one_session(script: McpScript) -> None:
    async with servers_of() as servers:
        listed = await servers.tools(target(script))
        again = await servers.tools(target(script))
        result = await servers.call(target(script), "add", {"a": 1, "b": 2})
    assert listed is again
    assert [one.name for one in listed.tools][:2] == ["add", "write"]
    assert listed.tools[0].description == "Add two numbers."
    assert (listed.tools[0].read_only, listed.tools[1].read_only) == (True, None)
    assert listed.tools[0].input_schema["properties"]["a"]["type"] == "integer"
    assert (result.text, result.error) == ("3", None)
    assert script.methods == ["initialize", "tools/list", "tools/call"]
    assert script.asked[-1].method == "DELETE"


async def test_two_clients_share_neither_session_nor_list(script: McpScript) -> None:
    async with servers_of() as servers:
        for owner, key in (("a", "1"), ("b", "1"), ("a", "2")):
            one = target(script, owner, authorization=key)
            await servers.tools(one)
            await servers.call(one, "add", {"a": 1, "b": 2})
        assert servers.open_sessions == 3
    assert script.methods == ["initialize", "tools/list", "tools/call"] * 3
    sessions = [
        one.headers.get("mcp-session-id") for one in script.asked if one.rpc == "tools/call"
    ]
    assert len(set(sessions)) == 3
    assert [one.headers["authorization"] for one in script.asked if one.rpc == "initialize"] == [
        "1",
        "1",
        "2",
    ]


async def test_a_tool_that_fails_is_an_outcome(script: McpScript) -> None:
    async with servers_of() as servers:
        result = await servers.call(target(script), "fail", {"words": "no <|im_start|> way"})
    assert "no <\u200d|im_start|\u200d> way" in result.text
    assert result.error == {
        "type": "mcp_tool_execution_error",
        "content": [{"type": "text", "text": result.text}],
    }


async def test_a_call_that_takes_too_long_is_cancelled_at_the_server(script: McpScript) -> None:
    async with servers_of(call_timeout_s=1.5) as servers:
        result = await servers.call(target(script), "sleep", {"seconds": 60})
        assert await asyncio.to_thread(script.cancelled.wait, 5)
        assert result.error is not None
        assert (result.error["type"], result.error["code"]) == ("mcp_protocol_error", -32001)
        assert result.text == "The tool failed: The server did not answer within 1.5 s."
        assert "notifications/cancelled" in script.methods
        again = await servers.call(target(script), "add", {"a": 1, "b": 2})
        assert again.text == "3"


async def test_a_call_whose_client_leaves_is_cancelled_at_the_server(script: McpScript) -> None:
    async with servers_of() as servers:
        task = asyncio.create_task(servers.call(target(script), "sleep", {"seconds": 60}))
        while not script.running_tools:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert await asyncio.to_thread(script.cancelled.wait, 5)
        while servers.open_sessions:
            await asyncio.sleep(0.01)
    assert script.running_tools == 0


async def test_a_large_result_is_cut(script: McpScript) -> None:
    async with servers_of() as servers:
        result = await servers.call(target(script), "repeat", {"text": "é", "times": 5_000_000})
    assert result.text == "é" * 131_061 + "\n[cut: 10.0 MB in all]"
    assert len(result.text.encode()) <= 256 * 1024
    assert result.error is None


async def test_a_larger_answer_than_allowed_is_a_failure(script: McpScript) -> None:
    async with servers_of(max_answer_bytes=1_000_000) as servers:
        result = await servers.call(target(script), "repeat", {"text": "x", "times": 2_000_000})
    assert (
        result.text
        == "The tool failed: The server's answer is larger than 1000000 bytes; ask for less."
    )
    assert result.error is not None
    assert result.error["code"] == -32000


async def test_what_is_no_text_is_named(script: McpScript) -> None:
    async with servers_of() as servers:
        result = await servers.call(target(script), "picture", {})
    assert result.text == "a picture:\n[image: image/png, 3 kB, not shown]"


async def test_an_unknown_tool_is_the_servers_own_error(script: McpScript) -> None:
    async with servers_of() as servers:
        result = await servers.call(target(script), "nothing", {})
    assert result.error is not None
    assert "nothing" in result.text


async def test_an_idle_session_is_closed_and_the_list_kept(script: McpScript) -> None:
    async with servers_of(idle_s=0.2) as servers:
        await servers.tools(target(script))
        while servers.open_sessions:
            await asyncio.sleep(0.02)
        await servers.tools(target(script))
        await servers.call(target(script), "add", {"a": 1, "b": 2})
    assert script.methods == ["initialize", "tools/list", "initialize", "tools/call"]


async def test_an_old_list_is_read_again(script: McpScript) -> None:
    async with servers_of(cache_s=0.1) as servers:
        await servers.tools(target(script))
        await asyncio.sleep(0.15)
        await servers.tools(target(script))
    assert script.methods == ["initialize", "tools/list", "tools/list"]


async def test_the_least_used_server_is_forgotten(script: McpScript) -> None:
    async with servers_of(max_sessions=2) as servers:
        for owner in "abc":
            await servers.tools(target(script, owner))
        while servers.open_sessions > 2:
            await asyncio.sleep(0.01)
        await servers.tools(target(script, "b"))
        assert script.methods.count("initialize") == 3
        await servers.tools(target(script, "a"))
        assert script.methods.count("initialize") == 4


async def test_too_many_servers_in_use_are_refused(script: McpScript) -> None:
    async with servers_of(max_sessions=1) as servers:
        busy = asyncio.create_task(servers.call(target(script, "a"), "sleep", {"seconds": 60}))
        while not script.running_tools:
            await asyncio.sleep(0.01)
        result = await servers.call(target(script, "b"), "add", {"a": 1, "b": 2})
        assert (
            result.text == "The tool failed: Too many servers are in use at once; try again later."
        )
        with pytest.raises(McpFailed, match="Too many servers"):
            await servers.tools(target(script, "b"))
        busy.cancel()
        await asyncio.wait([busy])
        assert (await servers.call(target(script, "b"), "add", {"a": 1, "b": 2})).text == "3"


async def test_calls_at_once_share_a_session(script: McpScript) -> None:
    async with servers_of() as servers:
        calls = [
            asyncio.create_task(servers.call(target(script), "sleep", {"seconds": 60}))
            for _ in range(5)
        ]
        while script.running_tools < 5:
            await asyncio.sleep(0.01)
        assert script.methods.count("initialize") == 1
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)


async def test_closing_ends_what_is_under_way(script: McpScript) -> None:
    async with servers_of() as servers:
        call = asyncio.create_task(servers.call(target(script), "sleep", {"seconds": 60}))
        while not script.running_tools:
            await asyncio.sleep(0.01)
    result = await call
    assert result.error is not None
    assert "broke off" in result.text or "ended" in result.text


@pytest.mark.parametrize(
    "options", [{}, {"json_response": True}, {"stateless_http": True, "json_response": True}]
)
async def test_every_kind_of_server_is_spoken_to(options: dict[str, Any]) -> None:
    async with McpScript(**options).running() as script, servers_of() as servers:
        listed = await servers.tools(target(script))
        assert len(listed.tools) == 6
        result = await servers.call(target(script), "add", {"a": 1, "b": 2})
        assert result.text == "3"


async def test_a_server_without_the_old_handshake_is_spoken_to(script: McpScript) -> None:
    def instead(asked: Any) -> Any:
        if asked.rpc == "initialize":
            body = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32601,"message":"no such method"}}'
            return answer(400, body, ("content-type", "application/json"))
        return None

    script.instead = instead
    async with servers_of(call_timeout_s=2) as servers:
        assert len((await servers.tools(target(script))).tools) == 6
        assert (await servers.call(target(script), "add", {"a": 1, "b": 2})).text == "3"
        result = await servers.call(target(script), "sleep", {"seconds": 60})
        assert result.error is not None
        assert await asyncio.to_thread(script.cancelled.wait, 5)
    assert script.methods[:4] == ["initialize", "server/discover", "tools/list", "tools/call"]
