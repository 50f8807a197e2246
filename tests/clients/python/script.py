"""Scripted turns of the model, and checks of the chat requests that arrive upstream.

They are the same for every client: the test of a client checks its output, and uses these for the
requests.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pydantic
import pytest

from tests.clients.conftest import Stage, at, snippets
from tests.clients.upstream import Call, Trouble, Turn

KEY = "the upstream's key"
PROMPT = "What is the weather?"
THOUGHT = "The user asks for two cities.\n\nSo I look twice — “naïvely” — at once. 🤔"
ANSWER = "Paris is sunny, Zürich is not."
ASK_CITY = "Which city is it?"

HELLO = Turn(reasoning="A greeting.", text="Hello from a chat model.")
THINKS = Turn(reasoning=THOUGHT, text=ANSWER)
LOOKS_TWICE = Turn(
    reasoning=THOUGHT,
    text="I look.",
    calls=[
        Call("functions.weather:0", "weather", {"city": "Paris"}),
        Call("functions.weather:1", "weather", {"city": 'Zü"rich'}),
    ],
)
ANSWERS = Turn(reasoning="Both are there.", text=ANSWER)
FINDS = Turn(reasoning="Paris.", text='{"name": "Paris", "people": 2102650, "river": null}')
BREAKS_OFF = Turn(text="This sentence has no", cut=True)
STOPS_SHORT = Turn(text="Paris is sunny, Zür", finish="length")

CLOSED = "The upstream closed the stream before it finished"
TOO_LONG = Trouble(400, "The prompt is too long: 365407, model maximum context length: 262143")
NO_MODEL = Trouble(404, "The model `kimi-k3` does not exist", code="model_not_found")
WAIT = Trouble(429, "Too many requests", {"retry-after": "7", "retry-after-ms": "20"})

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJg"
    "gg=="
)
"""A PNG of one pixel, as base64."""
PIXEL_URL = f"data:image/png;base64,{PIXEL}"


class City(pydantic.BaseModel):
    """The type of structured answers."""

    name: str
    people: int
    river: str | None


PARIS = City(name="Paris", people=2102650, river=None)


def weather(city: str) -> str:
    """The weather in a city."""
    return f"{city}: {len(city)} degrees"


def documented(stage: Stage, heading: str, block: int = 0) -> dict[str, Any]:
    """The globals of a Python block of docs/clients.md after it ran against a stage."""
    names: dict[str, Any] = {}
    exec(at(stage.base_url, snippets(heading, "python")[block]), names)
    return names


def check_example(
    stage: Stage, heading: str, capsys: pytest.CaptureFixture[str], names: dict[str, Any]
) -> None:
    """The second documented block prints the answer to its question, which arrives with the key."""
    stage.play(HELLO)
    exec(snippets(heading, "python")[1], names)
    assert capsys.readouterr().out == "Hello from a chat model.\n"
    [request] = stage.requests
    assert request["messages"] == [{"role": "user", "content": "Hello"}]
    assert request["model"] == "accounts/fireworks/models/kimi-k2p6"
    assert stage.upstream.keys == [f"Bearer {KEY}"]


# --- what arrived ------------------------------------------------------------------------------


def check_tool_loop(stage: Stage, *, sealed: bool = True) -> None:
    """The second request is the first one, the model's turn as it was, and the two results.

    `sealed`: the client returned the sealed reasoning, which holds the name of its field.
    """
    first, second = stage.requests
    assert [tool["function"]["name"] for tool in first["tools"]] == ["weather"]
    parameters = first["tools"][0]["function"]["parameters"]
    assert parameters["properties"]["city"]["type"] == "string"
    assert parameters["required"] == ["city"]
    assert second["tools"] == first["tools"]

    before = len(first["messages"])
    assert second["messages"][:before] == first["messages"]
    turn, *results = second["messages"][before:]
    assert turn["content"] == "I look."
    came_under = stage.upstream.spoken.reasoning
    if came_under is None:
        assert not turn.keys() & {"reasoning", "reasoning_content"}
    else:
        field = came_under if sealed else "reasoning_content"
        assert turn[field] == THOUGHT
    calls = [
        (call["id"], call["function"]["name"], json.loads(call["function"]["arguments"]))
        for call in turn["tool_calls"]
    ]
    assert calls == [(call.id, call.name, call.arguments) for call in LOOKS_TWICE.calls]
    assert [(result["role"], result["tool_call_id"]) for result in results] == [
        ("tool", "functions.weather:0"),
        ("tool", "functions.weather:1"),
    ]
    assert [result["content"] for result in results] == [weather("Paris"), weather('Zü"rich')]


def check_image(stage: Stage, text: str = "What is this?") -> None:
    """The image is beside its text; in a dialect without images a sentence replaces it."""
    [request] = stage.requests
    message = request["messages"][-1]
    assert message["role"] == "user"
    if stage.upstream.spoken.images == "none":
        assert message["content"] == f"{text}\n[image omitted: the model takes text only]"
        return
    part, image = message["content"]
    assert part == {"type": "text", "text": text}
    assert image["type"] == "image_url"
    assert image["image_url"]["url"] == PIXEL_URL


def check_format(stage: Stage) -> None:
    """The schema of `City` is the format where the dialect has schemas, else in the prompt."""
    spoken = stage.upstream.spoken
    for request in stage.requests:
        wanted = request.get("response_format")
        if "tools" in request and not spoken.format_beside_tools:
            assert wanted is None
            schema = schema_in_prompt(request)
        elif "json_schema" not in spoken.formats:
            assert wanted == {"type": "json_object"}
            schema = schema_in_prompt(request)
        else:
            assert wanted["type"] == "json_schema"
            schema = wanted["json_schema"]["schema"]
        assert sorted(schema["required"]) == ["name", "people", "river"]
        assert schema["properties"]["people"]["type"] == "integer"
        assert schema["additionalProperties"] is False


def schema_in_prompt(request: dict[str, Any]) -> dict[str, Any]:
    """The schema in the system message."""
    first = request["messages"][0]
    assert first["role"] == "system"
    schema: dict[str, Any] = json.loads(first["content"].partition("JSON schema:\n")[2])
    return schema


def check_limit(stage: Stage, limit: int = 16) -> None:
    [request] = stage.requests
    assert request["max_tokens"] == limit


def in_deltas(deltas: Iterable[str], whole: str) -> bool:
    """Whether a text came in several deltas that add up to it."""
    deltas = [delta for delta in deltas if delta]
    return "".join(deltas) == whole and len(deltas) > 2
