"""Servers that hang, lie, answer too much or nonsense, or send their client elsewhere."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from translator.service.mcp.failures import McpFailed
from translator.service.mcp.listed import read_tools
from translator.service.mcp.transport import MAX_OTHER_BYTES

from .serving import Asked, Handler, McpScript, answer, hang, on, servers_of, target

pytestmark = pytest.mark.anyio

JSON = ("content-type", "application/json")
EVENTS = ("content-type", "text/event-stream")


async def called(script: McpScript, **limits: Any) -> dict[str, Any]:
    """The error of a call that must fail; the model is told of it."""
    async with servers_of(**limits) as servers:
        result = await servers.call(target(script), "add", {"a": 1, "b": 2})
    assert result.error is not None
    assert result.text == f"The tool failed: {result.error['message']}"
    return result.error


async def listed(script: McpScript, **limits: Any) -> McpFailed:
    """The failure of a list."""
    async with servers_of(**limits) as servers:
        with pytest.raises(McpFailed) as raised:
            await servers.tools(target(script))
    return raised.value


@pytest.mark.parametrize("status", [401, 403, 404, 500, 503])
async def test_a_status_of_a_list_is_an_http_error(script: McpScript, status: int) -> None:
    script.instead = lambda _asked: answer(status, b"a secret page", ("content-type", "text/html"))
    failure = await listed(script)
    assert (failure.kind, failure.code) == ("http_error", status)
    assert failure.message == f"The server answered with HTTP {status}."


@pytest.mark.parametrize("status", [401, 403, 500])
async def test_a_status_of_a_call_is_an_http_error(script: McpScript, status: int) -> None:
    script.instead = on("tools/call", answer(status, b'{"error":"secret"}', JSON))
    error = await called(script)
    assert (error["type"], error["code"]) == ("http_error", status)
    assert script.methods == ["initialize", "tools/call"]  # not tried again


async def test_a_json_rpc_error_is_told_in_the_servers_words(script: McpScript) -> None:
    body = {
        "jsonrpc": "2.0",
        "id": None,
        "error": {"code": -32602, "message": "a\x07 is <|x|> " + "y" * 5000},
    }
    script.instead = on("tools/call", answer(400, json.dumps(body).encode(), JSON))
    error = await called(script)
    assert (error["type"], error["code"]) == ("mcp_protocol_error", -32602)
    assert error["message"].startswith("a is <\u200d|x|\u200d> yyy")
    assert len(error["message"]) == 2000


async def test_a_redirect_is_not_followed(script: McpScript) -> None:
    async with McpScript().running() as other:
        for status in (301, 302, 303, 307, 308):
            script.instead = lambda _asked, status=status: answer(
                status, b"", ("location", other.url)
            )
            failure = await listed(script)
            assert (failure.kind, failure.code) == ("http_error", status)
            assert str(other.port) not in failure.message
        script.instead = on("tools/call", answer(307, b"", ("location", "/mcp")))
        assert (await called(script))["code"] == 307
    assert other.asked == []


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"<html>", [JSON]),
        (b"", [JSON]),
        (b"[" * 100_000, [JSON]),
        (b'{"jsonrpc":"2.0","id":1,"result":[1]}', [JSON]),
        (b'{"jsonrpc":"2.0","id":77,"result":{}}', [JSON]),
        (b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"nonsense"}]}}', [JSON]),
        (b"<html>", [("content-type", "text/html")]),
        (b"data: {\n\n", [EVENTS]),
        (b"data: nonsense\n\n", [EVENTS]),
        (b": nothing\n\n", [EVENTS]),
        (b"\xff\xfe", [JSON]),
        (b"x", [JSON, ("content-encoding", "gzip")]),
        (b"x", [EVENTS, ("content-encoding", "br")]),
        (b"x", []),
    ],
)  # fmt: skip
async def test_nonsense_is_a_failure(script: McpScript, body: bytes, headers: Any) -> None:
    handler = answer(200, body, *headers)
    script.instead = on("tools/call", handler)
    error = await called(script, call_timeout_s=2)
    assert error["message"]
    script.instead = on("tools/list", handler)
    assert (await listed(script, list_timeout_s=2)).message
    script.instead = on("initialize", handler)
    assert (await listed(script, list_timeout_s=2)).message


async def test_a_server_that_hangs_is_not_waited_for(script: McpScript) -> None:
    for method in ("initialize", "tools/list"):
        script.instead = on(method, hang)
        failure = await listed(script, list_timeout_s=0.4)
        assert failure.code == -32001
    script.instead = on("tools/call", hang)
    assert (await called(script, call_timeout_s=0.4))["code"] == -32001


async def test_a_server_that_drips_is_not_waited_for(script: McpScript) -> None:
    async def drip(_scope: Scope, _receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        while not script.stopping:
            await send({"type": "http.response.body", "body": b": x\n\n", "more_body": True})
            await asyncio.sleep(0.02)

    script.instead = on("tools/call", drip)
    assert (await called(script, call_timeout_s=0.5))["code"] == -32001


@pytest.mark.parametrize("kind", [JSON, EVENTS])
async def test_an_answer_without_end_is_broken_off(script: McpScript, kind: Any) -> None:
    async def flood(_scope: Scope, _receive: Receive, send: Send) -> None:
        headers = [(kind[0].encode(), kind[1].encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for _ in range(1000):
            await send({"type": "http.response.body", "body": b" " * 65536, "more_body": True})

    script.instead = on("tools/call", flood)
    error = await called(script, max_answer_bytes=3_000_000)
    assert (error["code"], "larger than 3000000 bytes" in error["message"]) == (-32000, True)
    script.instead = on("tools/list", flood)
    failure = await listed(script)
    assert (failure.code, str(MAX_OTHER_BYTES) in failure.message) == (-32000, True)


async def test_a_server_that_lies_about_its_size_is_a_failure(script: McpScript) -> None:
    async def short(_scope: Scope, _receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"application/json"), (b"content-length", b"100000")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{", "more_body": False})

    script.instead = on("tools/call", short)
    error = await called(script)
    assert (error["type"], error["code"]) == ("mcp_protocol_error", -32700)


async def test_a_server_that_is_away_is_a_failure() -> None:
    async with McpScript().running() as script:
        pass
    failure = await listed(script)
    assert failure.message == "The server could not be reached, or broke off."


@pytest.mark.parametrize("stateless", [True, False])
async def test_a_server_that_dies_between_list_and_call(stateless: bool) -> None:
    first = McpScript(stateless_http=stateless, json_response=True)
    await asyncio.to_thread(first.start)
    second = McpScript(stateless_http=stateless, json_response=True)
    try:
        async with servers_of() as servers:
            one = target(first)
            await servers.tools(one)
            await asyncio.to_thread(first.stop)
            gone = await servers.call(one, "add", {"a": 1, "b": 2})
            assert gone.error is not None
            assert gone.error["type"] == "http_error"
            await asyncio.to_thread(second.start, first.port)
            # the list is known, the session is a new one
            assert (await servers.call(one, "add", {"a": 1, "b": 2})).text == "3"
            assert second.methods == ["initialize", "tools/call"]
    finally:
        await asyncio.to_thread(first.stop)
        await asyncio.to_thread(second.stop)


async def test_a_lost_session_is_begun_anew(script: McpScript) -> None:
    """Also for a tool with side effects: the server says that it has not run it."""
    lost: list[str] = []

    def instead(asked: Asked) -> Handler | None:
        if asked.rpc == "tools/call" and asked.headers["mcp-session-id"] in lost:
            return answer(404, b"", JSON)
        return None

    script.instead = instead
    async with servers_of() as servers:
        one = target(script)
        assert (await servers.call(one, "add", {"a": 1, "b": 2})).text == "3"
        lost.append(script.asked[-1].headers["mcp-session-id"])
        assert (await servers.call(one, "write", {"text": "x"})).text == "written: x"
        assert script.methods.count("initialize") == 2
        script.asked.clear()
        script.instead = on("tools/call", answer(404, b"", JSON))
        result = await servers.call(one, "write", {"text": "x"})
    assert result.error is not None
    assert (result.error["type"], result.error["code"]) == ("http_error", 404)
    text = "The tool failed: The server has lost the session; the call was not run."
    assert result.text == text
    assert script.methods == ["tools/call", "initialize", "tools/call"]  # once more, and no more


async def test_a_list_of_many_pages_is_read_up_to_the_bound(script: McpScript) -> None:
    def instead(asked: Asked) -> Handler | None:
        if asked.rpc != "tools/list":
            return None
        at = int(asked.params.get("cursor", "0"))
        tools = [
            {"name": f"t{at + n}", "inputSchema": {"type": "object"}, "description": "d" * 3000}
            for n in range(100)
        ]
        result = {"tools": tools, **({"nextCursor": str(at + 100)} if at < 200 else {})}
        body = {"jsonrpc": "2.0", "id": json.loads(asked.body)["id"], "result": result}
        return answer(200, json.dumps(body).encode(), JSON)

    script.instead = instead
    async with servers_of(max_tools=128) as servers:
        found = await servers.tools(target(script))
    assert [one.name for one in found.tools] == [f"t{n}" for n in range(128)]
    assert found.left_out == 200 - 128 + 1  # what the third page holds is not known
    assert len(found.tools[0].description) == 1024
    assert script.methods.count("tools/list") == 2
    async with servers_of(max_schema_bytes=10_000) as servers:
        found = await servers.tools(target(script))
    assert (len(found.tools), found.left_out) == (8, 193)


async def test_a_list_whose_pages_never_end_is_given_up(script: McpScript) -> None:
    def instead(asked: Asked) -> Handler | None:
        if asked.rpc != "tools/list":
            return None
        body = {
            "jsonrpc": "2.0",
            "id": json.loads(asked.body)["id"],
            "result": {"tools": [], "nextCursor": "x"},
        }
        return answer(200, json.dumps(body).encode(), JSON)

    script.instead = instead
    async with servers_of(list_timeout_s=30) as servers:
        assert (await servers.tools(target(script))).left_out == 1
    assert script.methods.count("tools/list") == 64


async def test_odd_tools_are_left_out(script: McpScript) -> None:
    tools = [
        {"name": "good", "inputSchema": {"type": "object", "properties": {"x": {"type": "string", "description": "a </think> b", "enum": ["1"]}}}},
        {"name": "good", "inputSchema": {"type": "object", "title": "again"}},
        {"name": "", "inputSchema": {"type": "object"}},
        {"name": "n" * 129, "inputSchema": {"type": "object"}},
        {"name": "a\u202eb", "inputSchema": {"type": "object"}},
        {"name": "marked", "inputSchema": {"type": "object", "properties": {"<|im_start|>": {}}}},
        {"name": "hidden", "inputSchema": {"type": "object", "enum": ["[INST]"]}},
    ]  # fmt: skip

    script.instead = lists(tools)
    async with servers_of() as servers:
        found = await servers.tools(target(script))
    assert [one.name for one in found.tools] == ["good"]
    assert (found.left_out, len(found.unusable)) == (0, 6)
    assert found.tools[0].input_schema["properties"]["x"]["description"] == "a <\u200d/think> b"


def lists(tools: list[Any]) -> Any:
    """Answer a list with these tools."""

    def instead(asked: Asked) -> Handler | None:
        if asked.rpc != "tools/list":
            return None
        body = {"jsonrpc": "2.0", "id": json.loads(asked.body)["id"], "result": {"tools": tools}}
        return answer(200, json.dumps(body).encode(), JSON)

    return instead


async def test_what_can_be_mended_of_a_tool_is(script: McpScript) -> None:
    """One tool that breaks the protocol takes no other one with it."""
    script.instead = lists(
        [
            {"name": "empty", "inputSchema": {}},
            {"name": "none"},
            {"name": "untyped", "inputSchema": {"properties": {"a": {}}}, "description": 7},
            {"name": "odd", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": "yes"}},
            {"name": "text", "inputSchema": "x"},
            {"name": "array", "inputSchema": {"type": "array"}},
            {"name": 5, "inputSchema": {}},
            "a tool",
        ]
    )  # fmt: skip
    async with servers_of() as servers:
        found = await servers.tools(target(script))
    assert [(one.name, one.input_schema) for one in found.tools] == [
        ("empty", {"type": "object"}),
        ("none", {"type": "object"}),
        ("untyped", {"type": "object", "properties": {"a": {}}}),
        ("odd", {"type": "object"}),
    ]
    assert found.tools[3].read_only is None
    assert len(found.unusable) == 4
    assert found.unusable[0] == "'text' (its inputSchema is not one of an object)"


async def test_schemas_that_are_nested_too_deeply(script: McpScript) -> None:
    deep: dict[str, Any] = {}
    for _ in range(400):
        deep = {"type": "object", "properties": {"a": deep}}
    usable, unusable = read_tools([{"name": "deep", "inputSchema": deep}, {"name": "ok"}])
    assert [one.name for one in usable] == ["ok"]
    assert unusable == ["'deep' (its schema is nested too deeply)"]
    script.instead = lists([{"name": "deep", "inputSchema": deep}])  # too deeply for the SDK
    failure = await listed(script)
    assert (failure.kind, failure.code) == ("mcp_protocol_error", -32700)
    assert failure.message == "The server's answer is not one of the protocol."


async def test_a_list_without_a_usable_tool_is_a_failure(script: McpScript) -> None:
    script.instead = lists([{"name": f"t{number}", "inputSchema": 1} for number in range(12)])
    failure = await listed(script)
    assert failure.message.startswith(
        "None of the server's tools can be used: 't0' (its inputSchema"
    )
    assert failure.message.endswith("and 2 more.")


async def test_neither_secrets_nor_words_of_servers_are_logged(
    script: McpScript, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    script.instead = on("tools/call", answer(200, b"planted-words", JSON))
    one = target(script, authorization="Bearer planted-token")
    async with servers_of() as servers:
        await servers.tools(one)
        await servers.call(one, "add", {"a": 1, "b": 2})
        script.instead = lambda _asked: answer(401, b"planted-words", JSON)
        await servers.call(one, "add", {"a": 1, "b": 2})
    assert script.asked[0].headers["authorization"] == "Bearer planted-token"
    ours = [
        one for one in caplog.records if one.name.startswith(("mcp.client", "httpx2", "translator"))
    ]
    assert not any("planted" in one.getMessage() or one.exc_text for one in ours)
    assert "planted" not in repr(one)
