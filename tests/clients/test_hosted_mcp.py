"""SDKs with hosted MCP tools: the service lists and calls them, and asks where a call has to wait."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.service.mcp.serving import McpScript

from .agent_talk import talk_twice
from .conftest import Stage, serving
from .node_programs import Program, running, workshop
from .upstream import Call, ScriptedUpstream, Turn
from .web import MODEL, SETTINGS

ANSWER = "It is 3."
CALLS = Turn(reasoning="I add.", calls=[Call("a", "math__add", {"a": 1, "b": 2})])
ANSWERS = Turn(reasoning="I know.", text=ANSWER)
AGAIN = Turn(text="Yes.")
TOOLS = """
[tools]
allow = [{url}]
allow_private = ["127.0.0.0/8"]
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stage, McpScript]]:
    """A translator whose clients may name a real MCP server."""
    script = McpScript()
    script.start()
    file = tmp_path_factory.mktemp("mcp") / "settings.toml"
    try:
        with ScriptedUpstream() as upstream:
            settings = SETTINGS + TOOLS.replace("{url}", json.dumps(script.url))
            file.write_text(settings.replace("{upstream}", json.dumps(upstream.base_url)))
            with serving(None, "--config", str(file)) as base_url:
                yield Stage(upstream, base_url), script
    finally:
        script.stop()


@pytest.fixture
def serves(served: tuple[Stage, McpScript]) -> tuple[Stage, McpScript]:
    """The same, as if nothing had happened before."""
    stage, script = served
    stage.play(CALLS, ANSWERS, AGAIN)
    script.asked.clear()
    return served


@pytest.fixture(scope="module")
def ai_sdk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    folder = workshop(tmp_path_factory.mktemp("ai-sdk"), "ai", "@ai-sdk/openai", "zod")
    with running(folder, "ai-sdk.mjs") as program:
        yield program


@pytest.fixture(scope="module")
def openai_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    folder = workshop(tmp_path_factory.mktemp("openai"), "openai", "zod")
    with running(folder, "openai.mjs") as program:
        yield program


def check_requests(stage: Stage, script: McpScript) -> None:
    """The tool was called once, and the next question came with the same messages."""
    assert script.methods.count("tools/call") == 1
    *_, answered, again = stage.requests
    results = [one["content"] for one in answered["messages"] if one["role"] == "tool"]
    assert results == ["3"]
    assert again["messages"][: len(answered["messages"])] == answered["messages"]


@pytest.mark.cell(client="Vercel AI SDK", case="mcp")
@pytest.mark.parametrize("case", ["mcp", "streaming mcp"])
def test_the_ai_sdk_shows_calls_of_a_server(
    ai_sdk: Program, serves: tuple[Stage, McpScript], case: str
) -> None:
    """40."""
    stage, script = serves
    seen = ai_sdk.run(case, stage, model=MODEL, url=script.url)
    assert "error" not in seen, seen
    assert (seen["text"], seen["finish"], seen["second"]) == (ANSWER, "stop", "Yes.")
    [found] = seen["found"]
    assert (found["name"], found["output"], found["serverLabel"]) == ("add", "3", "math")
    check_requests(stage, script)


@pytest.mark.cell(client="Vercel AI SDK", case="mcp")
@pytest.mark.parametrize("case", ["approved mcp", "denied mcp"])
def test_the_ai_sdk_answers_a_request_for_approval(
    ai_sdk: Program, serves: tuple[Stage, McpScript], case: str
) -> None:
    """40: neither the request nor the list comes back, only sealed reasoning and the answer."""
    stage, script = serves
    seen = ai_sdk.run(case, stage, model=MODEL, url=script.url)
    assert "error" not in seen, seen
    assert (seen["asked"], seen["text"]) == ([{"a": 1, "b": 2}], ANSWER)
    asked, answered = stage.requests
    [told] = [one["content"] for one in answered["messages"] if one["role"] == "tool"]
    if case == "approved mcp":
        assert told == "3"
        assert script.methods.count("tools/call") == 1
    else:
        assert told.startswith("Not run: the user did not approve of this call.")
        assert "tools/call" not in script.methods
    assert answered["messages"][: len(asked["messages"])] == asked["messages"]


@pytest.mark.cell(client="openai Node", case="mcp")
@pytest.mark.parametrize(("approval", "streams"), [("never", True), ("always", False)])
def test_openai_node_reads_an_answer_with_a_server(
    openai_node: Program, serves: tuple[Stage, McpScript], approval: str, streams: bool
) -> None:
    """1, 16: its accumulator refuses every event that is out of order."""
    stage, script = serves
    server = {"type": "mcp", "server_label": "math", "server_url": script.url}
    tools = [{**server, "require_approval": approval}]
    seen = openai_node.run("hosted", stage, model=MODEL, tools=tools, streams=streams)

    assert (seen["text"], seen["status"], seen["second"]) == (ANSWER, "completed", "Yes.")
    assert seen["asked"] == ([{"a": 1, "b": 2}] if approval == "always" else [])
    [call] = [one for one in seen["output"] if one["type"] == "mcp_call"]
    assert (call["name"], call["output"], call["error"]) == ("add", "3", None)
    check_requests(stage, script)


@pytest.mark.cell(client="openai Node", case="mcp")
def test_openai_node_reads_of_a_tool_that_failed(
    openai_node: Program, serves: tuple[Stage, McpScript]
) -> None:
    """9."""
    stage, script = serves
    failing = Turn(calls=[Call("a", "math__fail", {"words": "It broke."})])
    stage.play(failing, ANSWERS, AGAIN)
    server = {"type": "mcp", "server_label": "math", "server_url": script.url}
    tools = [{**server, "require_approval": "never"}]
    seen = openai_node.run("hosted", stage, model=MODEL, tools=tools, streams=True)

    assert (seen["text"], seen["second"]) == (ANSWER, "Yes.")
    [call] = [one for one in seen["output"] if one["type"] == "mcp_call"]
    assert (call["status"], call["output"]) == ("failed", None)
    assert call["error"]["type"] == "mcp_tool_execution_error"


@pytest.mark.cell(client="openai-agents", case="mcp")
@pytest.mark.parametrize(("approval", "streamed"), [("never", True), ("always", False)])
def test_openai_agents_runs_an_agent_with_a_server(
    serves: tuple[Stage, McpScript], approval: str, streamed: bool
) -> None:
    """39: its `HostedMCPTool`, with a callback for approvals, and `to_input_list`."""
    stage, script = serves
    asked: list[Any] = []

    def approve(request: Any) -> dict[str, Any]:
        asked.append((request.data.name, json.loads(request.data.arguments)))
        return {"approve": True}

    config = {
        "type": "mcp",
        "server_label": "math",
        "server_url": script.url,
        "require_approval": approval,
    }

    def tool(agents: Any) -> Any:
        return agents.HostedMCPTool(tool_config=config, on_approval_request=approve)

    answer, items, second = talk_twice(stage, MODEL, tool, "What is 1 + 2?", streamed=streamed)
    assert (answer, second) == (ANSWER, "Yes.")
    assert asked == ([("add", {"a": 1, "b": 2})] if approval == "always" else [])
    calls = [one.raw_item for one in items if getattr(one.raw_item, "type", "") == "mcp_call"]
    assert [(one.name, one.output) for one in calls] == [("add", "3")]
    check_requests(stage, script)
