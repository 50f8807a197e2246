"""Every kind of tool that Codex has, called by a model that knows functions only."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clients.conftest import Stage
from tests.clients.upstream import Call, ScriptedUpstream, Turn
from translator.request.content import IMAGE_ATTACHED, IMAGE_OMITTED

from . import weather
from .chat_requests import (
    data_url,
    functions,
    image_urls,
    items,
    png,
    reasoning,
    results,
    roles,
    run,
)
from .session import Session

THOUGHT = "  The file does not exist yet.\nSo I write it — “naïvely”.\n"
LINES = (
    "say \"hi\" and 'bye' \\",
    'C:\\new\\table \\\\ \\u0041 \\" \\n',
    "\u2028 and \u2029 end no line, nor does \x85",
    "😀 👩‍👩‍👧 \U0001f1e6\U0001f1f9 e\u0301 ﷽",
    '\t{"json": ["+", "-", null]}  ',
    "</think>",
    "*** End of line",
)
ADDED = "*** Begin Patch\n*** Add File: notes.txt\n+" + "\n+".join(LINES) + "\n*** End Patch\n"
CHANGED = (
    "*** Begin Patch\n*** Update File: notes.txt\n@@\n"
    f" {LINES[2]}\n-{LINES[3]}\n+{LINES[3]}{LINES[0]}\n {LINES[4]}\n*** End Patch\n"
)


def test_a_free_form_patch_lands_byte_for_byte(codex: Session, stage: Stage) -> None:
    """Whatever is in the patch: Codex gets it as free text, the model sees it again as it was."""
    stage.play(
        Turn(reasoning=THOUGHT, calls=[Call("a", "apply_patch", {"input": ADDED})]),
        Turn(reasoning="More.", calls=[Call("b", "apply_patch", {"input": CHANGED})]),
        Turn(text="Both are in."),
    )
    outcome = codex.exec("write notes")

    assert (outcome.code, outcome.last_message) == (0, "Both are in."), outcome.log
    written = [*LINES[:3], LINES[3] + LINES[0], *LINES[4:], ""]
    assert (codex.folder / "notes.txt").read_bytes() == "\n".join(written).encode()
    declared = functions(stage.requests[0])["apply_patch"]
    assert "begin_patch" in declared["description"]
    assert list(declared["parameters"]["properties"]) == ["input"]
    calls = items(codex.requests[2], "custom_tool_call")
    assert [call["input"] for call in calls] == [ADDED, CHANGED]
    again = [message for message in stage.requests[2]["messages"] if "tool_calls" in message]
    arguments = [json.loads(m["tool_calls"][0]["function"]["arguments"]) for m in again]
    assert arguments == [{"input": ADDED}, {"input": CHANGED}]
    assert all("Success" in result for result in results(stage.requests[2]).values())


@pytest.mark.parametrize("dialect", ["fireworks"])
def test_half_a_patch_changes_nothing(codex: Session, stage: Stage) -> None:
    """A patch that the token limit cut off is not applied, and the turn is no success."""
    arguments = json.dumps({"input": ADDED})
    half = Call("a", "apply_patch", arguments[: len(arguments) // 2])
    stage.play(Turn(calls=[half], finish="length"), Turn(text="I begin anew."))
    outcome = codex.exec("write notes")

    assert outcome.code != 0
    assert "max_output_tokens" in outcome.log
    assert list(codex.folder.iterdir()) == []
    assert codex.exec("go on", "resume", "--last").last_message == "I begin anew."


@pytest.mark.cell(client="Codex CLI", case="tools")
def test_parallel_calls_one_of_which_shows_an_image(codex: Session, stage: Stage) -> None:
    """The results follow their calls, then the image as a user's; a text-only model is told."""
    image = codex.folder / "image.png"
    image.write_bytes(png())
    stage.play(
        Turn(
            reasoning=THOUGHT,
            text="I look.",
            calls=[
                run("echo one-$((1))", "a"),
                Call("b", "view_image", {"path": str(image)}),
                run("echo three-$((3))", "c"),
            ],
        ),
        Turn(text="A red square."),
    )
    outcome = codex.exec("look")

    assert (outcome.code, outcome.last_message) == (0, "A red square."), outcome.log
    asked, again = stage.requests
    assert again["messages"][: len(asked["messages"])] == asked["messages"]
    new = again["messages"][len(asked["messages"]) :]
    assert [call["id"] for call in new[0]["tool_calls"]] == ["a", "b", "c"]
    assert new[0]["content"] == "I look."
    if stage.upstream.spoken.returned:
        assert reasoning(new[0]) == THOUGHT
    assert "one-1" in results(again)["a"]
    assert "three-3" in results(again)["c"]
    [shown] = items(codex.requests[1], "function_call_output")[1]["output"]
    assert shown["image_url"] == data_url(png())
    if stage.upstream.spoken.images == "none":
        assert roles(again)[-4:] == ["assistant", "tool", "tool", "tool"]
        assert results(again)["b"] == IMAGE_OMITTED
    else:
        assert roles(again)[-5:] == ["assistant", "tool", "tool", "tool", "user"]
        assert results(again)["b"] == IMAGE_ATTACHED
        assert image_urls(new[-1]) == [data_url(png())]


def test_a_model_without_eyes_is_told_of_the_image(codex_with: Callable[..., Session]) -> None:
    """`vision = false` in the settings: Codex may not know it, so what it sends is left out."""
    upstream = ScriptedUpstream(speaks="fireworks")
    codex = codex_with(upstream, model={"vision": False})
    (codex.folder / "image.png").write_bytes(png())
    seen = Call("a", "view_image", {"path": str(codex.folder / "image.png")})
    upstream.play(Turn(calls=[seen]), Turn(text="I cannot see it."))
    outcome = codex.exec("look", "--image", "image.png")

    assert (outcome.code, outcome.last_message) == (0, "I cannot see it."), outcome.log
    assert upstream.refusals == []
    assert "input_image" in json.dumps(codex.requests[0])
    assert IMAGE_OMITTED in upstream.requests[0]["messages"][-1]["content"]
    assert results(upstream.requests[1])["a"] == IMAGE_OMITTED
    assert "image_omitted" in codex.wire.exchanges[1].notices


@pytest.fixture
def codex_with_weather(codex: Session) -> Session:
    """Codex with an MCP server."""
    codex.config["mcp_servers.weather.command"] = sys.executable
    codex.config["mcp_servers.weather.args"] = [str(Path(weather.__file__))]
    return codex


@pytest.mark.cell(
    client="Codex CLI",
    case="mcp",
    limit="It calls MCP servers itself, and declares their tools as functions.",
)
def test_tools_in_a_namespace(codex_with_weather: Session, stage: Stage) -> None:
    """Codex declares the tools of an MCP server as a namespace, and gets its calls back in it."""
    codex = codex_with_weather
    stage.play(
        Turn(
            reasoning=THOUGHT,
            calls=[
                Call("a", "mcp__weather__get_weather", {"city": "Linz"}),
                Call("b", "mcp__weather__draw_map", {"city": "Graz"}),
            ],
        ),
        Turn(text="Sunny."),
    )
    outcome = codex.exec("what is the weather?")

    assert (outcome.code, outcome.last_message) == (0, "Sunny."), outcome.log
    namespaces = [tool for tool in codex.requests[0]["tools"] if tool["type"] == "namespace"]
    assert "mcp__weather" in [namespace["name"] for namespace in namespaces]
    assert "mcp" not in [tool["type"] for tool in codex.requests[0]["tools"]]
    declared = functions(stage.requests[0])
    assert declared["mcp__weather__get_weather"]["parameters"] == weather.CITY
    calls = items(codex.requests[1], "function_call")
    assert [(call["namespace"], call["name"]) for call in calls] == [
        ("mcp__weather", "get_weather"),
        ("mcp__weather", "draw_map"),
    ]
    assert "get_weather: sunny in Linz" in results(stage.requests[1])["a"]
    assert "a map of Graz" in results(stage.requests[1])["b"]
    if stage.upstream.spoken.images == "none":
        assert IMAGE_OMITTED in results(stage.requests[1])["b"]
    else:
        [drawn] = image_urls(stage.requests[1]["messages"][-1])
        assert drawn == f"data:image/png;base64,{weather.PIXEL}"


@pytest.mark.parametrize("dialect", ["fireworks"])
def test_a_name_that_is_too_long_with_its_namespace(
    codex_with_weather: Session, stage: Stage
) -> None:
    """The model has a shorter name for it; Codex gets its own."""
    codex = codex_with_weather
    codex.config["mcp_servers.a_weather_station_in_the_mountains.command"] = sys.executable
    codex.config["mcp_servers.a_weather_station_in_the_mountains.args"] = [
        str(Path(weather.__file__))
    ]
    stage.play(Turn(text="Which of them?"))
    codex.exec("what is the weather?")
    [name] = [
        name
        for name, declared in functions(stage.requests[0]).items()
        if name.startswith("mcp__a_weather") and "tomorrow" in declared["description"]
    ]
    assert len(name) == 64
    stage.play(Turn(calls=[Call("a", name, {"city": "Linz"})]), Turn(text="Sunny."))
    outcome = codex.exec("what is the weather?")

    assert (outcome.code, outcome.last_message) == (0, "Sunny."), outcome.log
    assert f"{weather.LONG_NAME}: sunny in Linz" in results(stage.requests[1])["a"]


def test_deferred_tools_are_found_loaded_and_called(
    codex_with_weather: Session, stage: Stage
) -> None:
    """Codex keeps MCP tools back until they are searched for; found, they are functions, too."""
    codex = codex_with_weather
    codex.catalog["supports_search_tool"] = True
    stage.play(
        Turn(reasoning=THOUGHT, calls=[Call("s", "tool_search", {"query": "weather in a city"})]),
        Turn(reasoning="Found.", calls=[Call("a", "mcp__weather__get_weather", {"city": "Linz"})]),
        Turn(text="Sunny."),
    )
    outcome = codex.exec("what is the weather?")

    assert (outcome.code, outcome.last_message) == (0, "Sunny."), outcome.log
    first, second, third = stage.requests
    assert "tool_search" in functions(first)
    assert "mcp__weather__get_weather" not in functions(first)
    [found] = items(codex.requests[1], "tool_search_output")
    assert "mcp__weather" in [namespace["name"] for namespace in found["tools"]]
    assert functions(second)["mcp__weather__get_weather"]["parameters"] == weather.CITY
    assert "mcp__weather__get_weather" in results(second)["s"]
    assert third["messages"][: len(second["messages"])] == second["messages"]
    [call] = items(codex.requests[2], "function_call")
    assert (call["namespace"], call["name"]) == ("mcp__weather", "get_weather")
    assert "get_weather: sunny in Linz" in results(third)["a"]


@pytest.mark.parametrize("dialect", ["fireworks", "deepseek", "vllm"])
def test_a_search_of_the_web_is_left_out(codex: Session, stage: Stage) -> None:
    """It runs at OpenAI only: the turn works without it, and the answer's headers say so."""
    stage.play(Turn(text="From memory."))
    outcome = codex.exec("what is new?")

    assert (outcome.code, outcome.last_message) == (0, "From memory."), outcome.log
    assert "web_search" in [tool["type"] for tool in codex.requests[0]["tools"]]
    assert "web_search" not in functions(stage.requests[0])
    assert "tool_dropped" in codex.wire.exchanges[0].notices
