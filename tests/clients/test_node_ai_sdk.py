"""The Vercel AI SDK with its OpenAI provider, on /v1/responses.

By itself it takes for granted that a Responses server keeps every item, and refers to its own
earlier messages by id. The documented `store: false` makes it send them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

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

CLIENT = "Vercel AI SDK"
WHOLE = {"finish": "stop", "usage": 150, "steps": 1}

cell = pytest.mark.cell


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return workshop(tmp_path_factory.mktemp("ai-sdk"), "ai", "@ai-sdk/openai", "zod")


@pytest.fixture(scope="module")
def ai_sdk(folder: Path) -> Iterator[Program]:
    with running(folder, "ai-sdk.mjs") as program:
        yield program


def test_the_documented_set_up(folder: Path, stages: Callable[[str], Stage]) -> None:
    """The documented program prints the answer of the model that it names."""
    stage = stages("fireworks")
    stage.play(Turn(reasoning=THOUGHT, text="Hello from a chat model."))
    [source] = snippets("Vercel AI SDK", "js")

    assert run_script(folder, at(stage.base_url, source), FIREWORKS_API_KEY=KEY) == (
        "Hello from a chat model.\n"
    )
    [request] = stage.requests
    assert request["model"] == stage.model
    assert request["messages"] == [{"role": "user", "content": "Hello"}]
    assert stage.upstream.keys == [f"Bearer {KEY}"]


@cell(client=CLIENT, case="text")
def test_text(ai_sdk: Program, stage: Stage) -> None:
    stage.play(Turn(text="It is “sunny” ☀."))
    seen = ai_sdk.run("text", stage)

    assert seen == WHOLE | {"text": "It is “sunny” ☀."}
    [request] = stage.requests
    assert request["messages"] == [{"role": "user", "content": PROMPT}]
    assert request["model"] == stage.model


@cell(client=CLIENT, case="streaming")
def test_streaming(ai_sdk: Program, stage: Stage) -> None:
    stage.play(Turn(text="It is “sunny” ☀."))
    seen = ai_sdk.run("streaming", stage)

    assert seen == WHOLE | {"text": "It is “sunny” ☀.", "heard": {"text-delta": "It is “sunny” ☀."}}
    [request] = stage.requests
    assert request["stream"] is True


@cell(client=CLIENT, case="reasoning")
@pytest.mark.parametrize("case", ["text", "streaming"])
def test_reasoning(ai_sdk: Program, stage: Stage, case: str) -> None:
    """What the model thinks is shown, and how much it does can be said."""
    stage.play(Turn(reasoning=THOUGHT, text="Sunny."))
    asked = {"store": False, "forceReasoning": True, "reasoningEffort": "high"}
    seen = ai_sdk.run(case, stage, openai=asked)

    heard = seen.pop("heard", {"text-delta": "Sunny.", "reasoning-delta": THOUGHT})
    assert seen == WHOLE | {"text": "Sunny.", "reasoning": THOUGHT}
    assert heard == {"text-delta": "Sunny.", "reasoning-delta": THOUGHT}
    [request] = stage.requests
    assert request.get("reasoning_effort") == ("high" if stage.upstream.spoken.efforts else None)


@cell(client=CLIENT, case="tools")
@pytest.mark.parametrize("case", ["tools", "streaming tools"])
def test_tools(ai_sdk: Program, stage: Stage, case: str) -> None:
    """Both results come back, and the reasoning, although the SDK does not know the model."""
    stage.play(*TOOL_LOOP)
    seen = ai_sdk.run(case, stage)

    assert (seen["text"], seen["reasoning"]) == ("Rome is warmer.", "Now I know.")
    assert (seen["finish"], seen["steps"], seen["usage"]) == ("stop", 2, 300)
    check_tool_loop(stage)


@cell(client=CLIENT, case="text")
def test_a_conversation(ai_sdk: Program, stage: Stage) -> None:
    """The model sees its earlier answer again."""
    stage.play(Turn(reasoning=THOUGHT, text="Sunny."), Turn(text="Rain."))
    seen = ai_sdk.run("conversation", stage)

    assert seen == WHOLE | {"text": "Rain."}
    messages = stage.requests[1]["messages"]
    assert [(message["role"], message["content"]) for message in messages] == [
        ("user", PROMPT),
        ("assistant", "Sunny."),
        ("user", "And tomorrow?"),
    ]


@pytest.mark.parametrize("dialect", ["fireworks"])
def test_a_reference_to_what_nobody_keeps(ai_sdk: Program, stage: Stage) -> None:
    """Without `store: false` the second turn is an error that names the way out."""
    stage.play(Turn(text="Sunny."))
    error = ai_sdk.run("conversation", stage, openai={})["error"]

    assert (error["name"], error["status"]) == ("AI_APICallError", 404)
    assert "store" in error["message"]


@cell(client=CLIENT, case="structured")
@pytest.mark.parametrize("case", ["structured", "structured, the older way"])
def test_structured_output(ai_sdk: Program, stage: Stage, case: str) -> None:
    """`Output.object` and `generateObject` send their schema, and give an object."""
    stage.play(Turn(reasoning=THOUGHT, text='{"city": "Rome", "degrees": 4}'))
    seen = ai_sdk.run(case, stage)

    assert seen == {"parsed": {"city": "Rome", "degrees": 4}}
    check_schema(stage)


@cell(client=CLIENT, case="image")
def test_image(ai_sdk: Program, stage: Stage) -> None:
    stage.play(Turn(text="It is red."))
    seen = ai_sdk.run("image", stage)

    assert seen == WHOLE | {"text": "It is red."}
    check_image(stage)


@cell(client=CLIENT, case="error")
@pytest.mark.parametrize("case", ["text", "streaming"])
@pytest.mark.parametrize("status", [400, 401, 404])
def test_an_error(ai_sdk: Program, stage: Stage, case: str, status: int) -> None:
    """The SDK shows the status and the upstream's reason, and does not try again."""
    stage.play(Trouble(status, "This cannot be answered."))
    error = ai_sdk.run(case, stage)["error"]

    assert (error["name"], error["status"]) == ("AI_APICallError", status)
    assert "This cannot be answered." in error["message"]
    assert len(stage.requests) == 1


@cell(client=CLIENT, case="error")
def test_a_moment_without_service(ai_sdk: Program, stage: Stage) -> None:
    """What may be tried again is tried again, as soon as the upstream allows."""
    stage.play(Trouble(429, "Slow down.", {"retry-after-ms": "1"}), Turn(text="Sunny."))
    seen = ai_sdk.run("text", stage)

    assert seen == WHOLE | {"text": "Sunny."}
    assert len(stage.requests) == 2


@cell(client=CLIENT, case="error")
def test_an_answer_that_breaks_off(ai_sdk: Program, stage: Stage) -> None:
    """Half an answer is an error, and not a short answer."""
    stage.play(Turn(text="This sentence has no", cut=True))
    error = ai_sdk.run("streaming", stage)["error"]

    assert "upstream" in error["message"]


@cell(client=CLIENT, case="waiting")
@pytest.mark.heartbeats
def test_a_slow_model(ai_sdk: Program, stage: Stage) -> None:
    stage.play(SLOW)
    seen = ai_sdk.run("streaming", stage)

    assert (seen["text"], seen["finish"]) == (SLOW.text, "stop")


@cell(client=CLIENT, case="incomplete")
@pytest.mark.parametrize("case", ["text", "streaming"])
def test_an_incomplete_answer(ai_sdk: Program, stage: Stage, case: str) -> None:
    stage.play(Turn(text="It is sunny, and", finish="length"))
    seen = ai_sdk.run(case, stage, settings={"maxOutputTokens": 16})

    assert (seen["text"], seen["finish"]) == ("It is sunny, and", "length")
    [request] = stage.requests
    assert 16 in (request.get("max_tokens"), request.get("max_completion_tokens"))
