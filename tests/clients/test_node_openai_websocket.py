"""The `openai` package for Node on a WebSocket: `ResponsesWS`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import KEY, Stage, check_heartbeats
from .node_programs import (
    PIXEL_URL,
    PROMPT,
    THOUGHT,
    TOOL_LOOP,
    Program,
    check_image,
    check_schema,
    check_tool_loop,
    running,
    workshop,
)
from .upstream import SLOW, Trouble, Turn

CLIENT = "openai Node, WebSocket"
NO_PARSE = "`ResponsesWS` has no `parse`: a structured answer is text, read by its user."
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "degrees": {"type": "number"}},
    "required": ["city", "degrees"],
    "additionalProperties": False,
}

cell = pytest.mark.cell


@pytest.fixture(scope="module")
def openai(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    folder = workshop(tmp_path_factory.mktemp("openai-socket"), "openai", "ws", "zod")
    with running(folder, "openai.mjs") as program:
        yield program


@cell(client=CLIENT, case="text")
@cell(client=CLIENT, case="streaming")
@cell(client=CLIENT, case="reasoning")
def test_events_and_the_response_at_their_end(openai: Program, stage: Stage) -> None:
    stage.play(Turn(reasoning=THOUGHT, text="It is “sunny” ☀."))
    [seen] = openai.run("socket", stage)

    assert (seen["status"], seen["text"], seen["usage"]) == ("completed", "It is “sunny” ☀.", 150)
    assert seen["heard"] == {"reasoning": THOUGHT, "text": "It is “sunny” ☀."}
    assert seen["types"].count("response.output_text.delta") > 2
    [request] = stage.requests
    assert request["messages"] == [{"role": "user", "content": PROMPT}]
    assert stage.upstream.keys == [f"Bearer {KEY}"]


@cell(client=CLIENT, case="tools")
def test_only_results_are_sent(openai: Program, stage: Stage) -> None:
    """With `previous_response_id`, which this connection remembers; the model gets it all."""
    stage.play(*TOOL_LOOP)
    seen = openai.run("socket tools", stage, request={"store": False})

    assert (seen["text"], seen["status"]) == ("Rome is warmer.", "completed")
    check_tool_loop(stage)


@cell(client=CLIENT, case="structured", limit=NO_PARSE)
def test_a_schema_is_kept_to(openai: Program, stage: Stage) -> None:
    stage.play(Turn(reasoning=THOUGHT, text='{"city": "Rome", "degrees": 4}'))
    asked = {"type": "json_schema", "name": "weather", "schema": SCHEMA, "strict": True}
    [seen] = openai.run("socket", stage, requests=[{"text": {"format": asked}}])

    assert seen["text"] == '{"city": "Rome", "degrees": 4}'
    check_schema(stage)


@cell(client=CLIENT, case="image")
def test_image(openai: Program, stage: Stage) -> None:
    stage.play(Turn(text="It is red."))
    content: list[dict[str, Any]] = [
        {"type": "input_text", "text": PROMPT},
        {"type": "input_image", "image_url": PIXEL_URL, "detail": "auto"},
    ]
    asked = {"input": [{"role": "user", "content": content}]}
    [seen] = openai.run("socket", stage, requests=[asked])

    assert seen["text"] == "It is red."
    check_image(stage)


@cell(client=CLIENT, case="error")
def test_an_error_has_its_status_and_ends_nothing(openai: Program, stage: Stage) -> None:
    """The upstream's own words; the next turn is on the same connection."""
    stage.play(
        Trouble(400, "This cannot be answered."),
        Trouble(429, "Slow down."),
        Turn(text="This sentence has no", cut=True),
        Turn(text="This one has an end."),
    )
    refused, limited, broken, whole = openai.run("socket", stage, requests=[{}] * 4)

    assert (refused["error"]["status"], limited["error"]["status"]) == (400, 429)
    assert "This cannot be answered." in refused["error"]["message"]
    assert "Slow down." in limited["error"]["message"]
    assert broken["status"] == "failed"
    assert "upstream" in broken["error"]["message"]
    assert (whole["status"], whole["text"]) == ("completed", "This one has an end.")


@cell(client=CLIENT, case="waiting")
def test_a_slow_model(openai: Program, patient_stage: Stage) -> None:
    patient_stage.play(SLOW)
    [seen] = openai.run("socket", patient_stage)

    assert (seen["status"], seen["text"]) == ("completed", SLOW.text)
    check_heartbeats(seen["types"])


@cell(client=CLIENT, case="incomplete")
def test_an_incomplete_answer(openai: Program, stage: Stage) -> None:
    stage.play(Turn(text="It is sunny, and", finish="length"))
    [seen] = openai.run("socket", stage, requests=[{"max_output_tokens": 16}])

    assert (seen["status"], seen["reason"]) == ("incomplete", "max_output_tokens")
    assert seen["text"] == "It is sunny, and"
