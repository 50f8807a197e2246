"""VS Code's custom endpoint: what the documented entry says, and what VS Code then sends.

VS Code cannot be started here. The requests are written down as its Copilot extension builds them
(`responsesApi.ts`, microsoft/vscode at 002e5b1): a role without a type, `summary: "off"`, reasoning without a summary,
compaction that nobody asked for, and images of tools in a message of the user.
"""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from .conftest import KEY, Stage, at, snippets
from .node_programs import PIXEL_URL, THOUGHT, check_thought, shown_image
from .upstream import Call, Turn

DIALECTS = ["fireworks", "deepseek", "vllm"]

READ_FILE = {
    "type": "function",
    "name": "read_file",
    "description": "Read the contents of a file.",
    "strict": False,
    "parameters": {
        "type": "object",
        "properties": {"filePath": {"type": "string"}},
        "required": ["filePath"],
    },
}


def entry(base_url: str) -> dict[str, Any]:
    """The documented entry of chatLanguageModels.json: its only model beside the group's fields."""
    [block] = snippets("VS Code", "json")
    [group] = json.loads(at(base_url, block))
    [model] = group.pop("models")
    return {**group, **model}


def message(role: str, *content: dict[str, Any]) -> dict[str, Any]:
    return {"role": role, "content": list(content)}


def text(written: str) -> dict[str, Any]:
    return {"type": "input_text", "text": written}


def send(stage: Stage, talk: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """The response at the end of a stream."""
    model = entry(stage.base_url)
    assert model["zeroDataRetentionEnabled"] is True
    body = {
        "model": stage.model,
        "input": talk,
        "stream": True,
        "tools": [READ_FILE],
        "max_output_tokens": model["maxOutputTokens"],
        "tool_choice": "auto",
        "store": False,
        "text": {"verbosity": "medium"},
        "context_management": [{"type": "compaction", "compact_threshold": 206438}],
        "truncation": "disabled",
        "reasoning": {"summary": "off"},
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "3f9c:kimi",
    }
    answer = httpx.post(
        model["url"], json=body | more, headers={"authorization": f"Bearer {KEY}"}, timeout=30
    )
    assert answer.status_code == 200, answer.text
    *_, last = [
        json.loads(line.removeprefix("data: "))
        for line in answer.text.splitlines()
        if line.startswith("data: {")
    ]
    assert last["type"] == "response.completed"
    response: dict[str, Any] = last["response"]
    return response


@pytest.mark.parametrize("dialect", ["fireworks"])
def test_the_documented_entry(stage: Stage) -> None:
    """It is what VS Code asks for, and its limits leave room in the context for the answer."""
    model = entry(stage.base_url)
    assert (model["vendor"], model["apiType"]) == ("customendpoint", "responses")
    assert model["url"] == f"{stage.base_url}/responses"
    assert model["maxInputTokens"] + model["maxOutputTokens"] == 262144


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_turn_with_a_tool(stage: Stage) -> None:
    """The call comes back with its result, the image of it in a message, and the thought is whole."""
    call = Call("functions.read_file:0", "read_file", {"filePath": "/a.png"})
    stage.play(Turn(reasoning=THOUGHT, text="I look.", calls=[call]), Turn(text="A red pixel."))
    talk = [message("system", text("You are an agent.")), message("user", text("What is in it?"))]
    thought, said, called = send(stage, talk)["output"]
    talk += [
        {
            "type": "reasoning",
            "id": thought["id"],
            "summary": [],
            "encrypted_content": thought["encrypted_content"],
        },
        {
            "role": "assistant",
            "type": "message",
            "content": [{"type": "output_text", "text": said["content"][0]["text"]}],
        },
        {
            "type": "function_call",
            "name": called["name"],
            "arguments": called["arguments"],
            "call_id": called["call_id"],
        },
        {"type": "function_call_output", "call_id": called["call_id"], "output": "an image"},
        message(
            "user",
            text("Image associated with the above tool call:"),
            {"type": "input_image", "detail": "auto", "image_url": PIXEL_URL},
        ),
    ]
    answer = send(stage, talk)

    assert answer["output"][-1]["content"][0]["text"] == "A red pixel."
    assert answer["reasoning"]["summary"] is None
    first, second = stage.requests
    assert second["messages"][: len(first["messages"])] == first["messages"]
    turn = second["messages"][len(first["messages"])]
    assert (turn["content"], turn["tool_calls"][0]["id"]) == ("I look.", call.id)
    check_thought(stage, turn)
    shown = None if stage.upstream.spoken.images == "none" else PIXEL_URL
    assert shown_image(second) == shown


@pytest.mark.parametrize("dialect", ["fireworks"])
def test_without_the_line_the_second_turn_is_refused(stage: Stage) -> None:
    """Then VS Code names the first turn by its id, which nothing here knows."""
    model = entry(stage.base_url)
    body = {
        "model": stage.model,
        "input": [message("user", text("And?"))],
        "previous_response_id": "resp_of_before",
    }
    answer = httpx.post(model["url"], json=body, headers={"authorization": f"Bearer {KEY}"})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "previous_response_not_found"
