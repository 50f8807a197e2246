"""SDKs with the hosted search: the service runs it, and they show what it found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .agent_talk import talk_twice
from .codex.chat_requests import functions, results
from .conftest import KEY, Stage, needed_module
from .node_programs import Program, running, workshop
from .upstream import Call, Turn
from .web import MODEL, Web, searching_stage

ANSWER = "Version 7 came out in May [1]."
SCRIPT = (
    Turn(reasoning="I look.", calls=[Call("a", "web_search", {"query": "release notes"})]),
    Turn(reasoning="I know.", text=ANSWER),
    Turn(text="Yes."),
)


@pytest.fixture
def searched(tmp_path: Path) -> Iterator[tuple[Stage, Web]]:
    with searching_stage(tmp_path) as (stage, web):
        stage.play(*SCRIPT)
        yield stage, web


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


def check_requests(stage: Stage, web: Web) -> None:
    """The search was run once, and the second question came with the messages of the first."""
    assert web.asked == ["/search"]
    asked, answered, again = stage.requests
    assert list(functions(asked))[-3:] == ["web_search", "open_page", "find_in_page"]
    assert f"[1] Notes ({web.url}/notes)" in results(answered)["a"]
    assert again["messages"][: len(answered["messages"])] == answered["messages"]


@pytest.mark.cell(client="Vercel AI SDK", case="search")
@pytest.mark.parametrize("case", ["search", "streaming search"])
def test_the_ai_sdk_shows_the_sources(
    ai_sdk: Program, searched: tuple[Stage, Web], case: str
) -> None:
    """40: content parts of the call, its result and its sources; and a second turn."""
    stage, web = searched
    seen = ai_sdk.run(case, stage, model=MODEL)

    assert "error" not in seen, seen
    assert (seen["text"], seen["finish"], seen["second"]) == (ANSWER, "stop", "Yes.")
    assert seen["sources"] == [f"{web.url}/notes"]
    [found] = seen["found"]
    assert found["action"]["query"] == "release notes"
    assert found["sources"] == [{"type": "url", "url": f"{web.url}/notes"}]
    check_requests(stage, web)


@pytest.mark.cell(client="openai Node", case="search")
@pytest.mark.parametrize("streams", [True, False])
def test_openai_node_reads_a_searched_answer(
    openai_node: Program, searched: tuple[Stage, Web], streams: bool
) -> None:
    """32: its accumulator refuses every event that is out of order."""
    stage, web = searched
    tools = [{"type": "web_search"}]
    seen = openai_node.run("hosted", stage, model=MODEL, tools=tools, streams=streams)

    assert (seen["text"], seen["status"], seen["second"]) == (ANSWER, "completed", "Yes.")
    call = next(one for one in seen["output"] if one["type"] == "web_search_call")
    assert call["action"]["query"] == "release notes"
    [cited] = seen["output"][-1]["content"][0]["annotations"]
    assert cited["url"] == f"{web.url}/notes"
    check_requests(stage, web)


@pytest.mark.cell(client="openai-agents", case="search")
@pytest.mark.parametrize("streamed", [True, False])
def test_openai_agents_runs_an_agent_that_searches(
    searched: tuple[Stage, Web], streamed: bool
) -> None:
    """39: its `WebSearchTool`, and `to_input_list` for the next turn."""
    stage, web = searched

    answer, items, second = talk_twice(
        stage, MODEL, lambda agents: agents.WebSearchTool(), "When?", streamed=streamed
    )
    assert (answer, second) == (ANSWER, "Yes.")
    [call] = [one.raw_item for one in items if one.type == "tool_call_item"]
    assert (call.type, call.status, call.action.query) == (
        "web_search_call",
        "completed",
        "release notes",
    )
    [message] = [one.raw_item for one in items if one.type == "message_output_item"]
    [cited] = message.content[0].annotations
    assert cited.url == f"{web.url}/notes"
    check_requests(stage, web)


@pytest.mark.parametrize("streamed", [True, False])
def test_openai_python_reads_a_searched_answer(searched: tuple[Stage, Web], streamed: bool) -> None:
    """32: its stream helper builds the same response from the events."""
    openai = needed_module("openai", "openai")
    stage, web = searched
    asked: dict[str, Any] = {
        "model": MODEL,
        "input": "When?",
        "store": False,
        "tools": [{"type": "web_search"}],
        "include": ["web_search_call.action.sources"],
    }
    with openai.OpenAI(base_url=stage.base_url, api_key=KEY) as client:
        if streamed:
            with client.responses.stream(**asked) as stream:
                kinds = [event.type for event in stream]
                response = stream.get_final_response()
            assert kinds.count("response.web_search_call.searching") == 1
            assert kinds.count("response.output_text.annotation.added") == 1
        else:
            response = client.responses.create(**asked)
    assert response.output_text == ANSWER
    call = next(one for one in response.output if one.type == "web_search_call")
    assert [one.url for one in call.action.sources] == [f"{web.url}/notes"]
    assert response.usage.input_tokens == 240
