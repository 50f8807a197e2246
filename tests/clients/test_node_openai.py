"""The `openai` package for Node. Its accumulator refuses every event that is out of order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import KEY, Stage, at, snippets
from .node_programs import (
    PROMPT,
    THOUGHT,
    TOOL_LOOP,
    Program,
    check_image,
    check_schema,
    check_tool_loop,
    run_script,
    running,
    workshop,
)
from .upstream import SLOW, Trouble, Turn

CLIENT = "openai Node"
WHOLE = {"status": "completed", "usage": 150}

cell = pytest.mark.cell


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return workshop(tmp_path_factory.mktemp("openai"), "openai", "zod")


@pytest.fixture(scope="module")
def openai(folder: Path) -> Iterator[Program]:
    with running(folder, "openai.mjs") as program:
        yield program


def test_the_documented_set_up(folder: Path, stages: Callable[[str], Stage]) -> None:
    """The documented program prints the answer of the model that it names."""
    stage = stages("fireworks")
    stage.play(Turn(text="Hello from a chat model."))
    [source] = snippets("OpenAI SDK for Node", "js")

    assert run_script(folder, at(stage.base_url, source), FIREWORKS_API_KEY=KEY) == (
        "Hello from a chat model.\n"
    )
    [request] = stage.requests
    assert request["model"] == stage.model
    assert request["messages"] == [{"role": "user", "content": "Hello"}]
    assert stage.upstream.keys == [f"Bearer {KEY}"]


@cell(client=CLIENT, case="text")
def test_text(openai: Program, stage: Stage) -> None:
    stage.play(Turn(reasoning=THOUGHT, text="It is “sunny” ☀."))
    seen = openai.run("text", stage)

    assert seen == WHOLE | {"text": "It is “sunny” ☀."}
    [request] = stage.requests
    assert request["messages"] == [{"role": "user", "content": PROMPT}]
    assert request["model"] == stage.model


@cell(client=CLIENT, case="streaming")
def test_streaming(openai: Program, stage: Stage) -> None:
    """The pieces are the text, and so is the response at the end."""
    stage.play(Turn(text="It is “sunny” ☀."))
    seen = openai.run("streaming", stage)

    assert seen == WHOLE | {"text": "It is “sunny” ☀.", "heard": {"text": "It is “sunny” ☀."}}
    [request] = stage.requests
    assert request["stream"] is True


@cell(client=CLIENT, case="reasoning")
def test_reasoning(openai: Program, stage: Stage) -> None:
    stage.play(Turn(reasoning=THOUGHT, text="Sunny."))
    asked = {"reasoning": {"effort": "high", "summary": "auto"}}
    seen = openai.run("streaming", stage, request=asked)

    assert seen == WHOLE | {"text": "Sunny.", "heard": {"reasoning": THOUGHT, "text": "Sunny."}}
    [request] = stage.requests
    assert request.get("reasoning_effort") == ("high" if stage.upstream.spoken.efforts else None)


@cell(client=CLIENT, case="tools")
@pytest.mark.parametrize("case", ["tools", "streaming tools"])
@pytest.mark.parametrize(
    "asked", [{}, {"store": False, "include": ["reasoning.encrypted_content"]}]
)
def test_tools(openai: Program, stage: Stage, case: str, asked: dict[str, Any]) -> None:
    """Both results and the reasoning come back, in the plain way and in the stateless one."""
    stage.play(*TOOL_LOOP)
    seen = openai.run(case, stage, request=asked)

    assert seen == WHOLE | {"text": "Rome is warmer."}
    check_tool_loop(stage)


@cell(client=CLIENT, case="structured")
def test_structured_output(openai: Program, stage: Stage) -> None:
    """`zodTextFormat` is the schema upstream, where there is one; the answer is an object."""
    stage.play(Turn(reasoning=THOUGHT, text='{"city": "Rome", "degrees": 4}'))
    seen = openai.run("structured", stage)

    assert seen == {"parsed": {"city": "Rome", "degrees": 4}}
    check_schema(stage)


@cell(client=CLIENT, case="image")
def test_image(openai: Program, stage: Stage) -> None:
    stage.play(Turn(text="It is red."))
    seen = openai.run("image", stage)

    assert seen == WHOLE | {"text": "It is red."}
    check_image(stage)


@cell(client=CLIENT, case="error")
@pytest.mark.parametrize("case", ["text", "streaming"])
@pytest.mark.parametrize(
    ("status", "name"),
    [(400, "BadRequestError"), (401, "AuthenticationError"), (404, "NotFoundError")],
)
def test_an_error(openai: Program, stage: Stage, case: str, status: int, name: str) -> None:
    """The package knows the error by its status, shows the upstream's reason, and does not retry."""
    stage.play(Trouble(status, "This cannot be answered."))
    error = openai.run(case, stage)["error"]

    assert (error["name"], error["status"]) == (name, status)
    assert "This cannot be answered." in error["message"]
    assert len(stage.requests) == 1


@cell(client=CLIENT, case="error")
def test_a_moment_without_service(openai: Program, stage: Stage) -> None:
    """What may be tried again is tried again, as soon as the upstream allows."""
    stage.play(
        Trouble(429, "Slow down.", {"retry-after-ms": "1", "retry-after": "1"}), Turn(text="Sunny.")
    )
    seen = openai.run("text", stage)

    assert seen == WHOLE | {"text": "Sunny."}
    assert len(stage.requests) == 2


@cell(client=CLIENT, case="error")
def test_an_answer_that_breaks_off(openai: Program, stage: Stage) -> None:
    """Half an answer is an error, and not a short answer."""
    stage.play(Turn(text="This sentence has no", cut=True))
    error = openai.run("streaming", stage)["error"]

    assert error["name"] == "APIError"
    assert "upstream" in error["message"]


@cell(client=CLIENT, case="waiting")
@pytest.mark.heartbeats
def test_a_slow_model(openai: Program, stage: Stage) -> None:
    """Neither the package nor its accumulator minds an event that says the same again."""
    stage.play(SLOW)
    seen = openai.run("streaming", stage)

    assert (seen["text"], seen["status"]) == (SLOW.text, "completed")


@cell(client=CLIENT, case="incomplete")
@pytest.mark.parametrize("case", ["text", "streaming"])
def test_an_incomplete_answer(openai: Program, stage: Stage, case: str) -> None:
    stage.play(Turn(text="It is sunny, and", finish="length"))
    seen = openai.run(case, stage, request={"max_output_tokens": 16})

    assert (seen["text"], seen["status"]) == ("It is sunny, and", "incomplete")
    assert seen["reason"] == "max_output_tokens"
    [request] = stage.requests
    assert 16 in (request.get("max_tokens"), request.get("max_completion_tokens"))
