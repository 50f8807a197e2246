"""openai-agents: agents that run, streamed and not, until the model calls no more tools."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any

import pytest

from tests.clients.conftest import Stage, check_heartbeats, needed_module
from tests.clients.own_loop import own_loop
from tests.clients.upstream import SLOW, Turn

from . import script
from .script import ANSWER, PARIS, PROMPT, THOUGHT, City

CLIENT = "openai-agents"
NO_PARTS = (
    "openai-agents raises `ModelBehaviorError` in place of an incomplete answer; the error says why"
    " it is incomplete, and the part that was written is lost."
)


@pytest.fixture(scope="module")
def agents() -> Any:
    return needed_module("agents", "openai-agents")


@pytest.fixture(params=["http", "websocket"])
def transport(request: pytest.FixtureRequest) -> str:
    """Each transport in turn; the matrix has a row for each."""
    name: str = request.param
    return name


over_http = pytest.mark.parametrize("transport", ["http"])
over_a_websocket = pytest.mark.parametrize("transport", ["websocket"])


@pytest.fixture
def run(agents: Any, transport: str, stage: Stage) -> Callable[..., Any]:
    """Runs an agent on the documented model: `run(prompt, streamed=…, **what the agent has)`.

    Over a WebSocket, the model is the class that docs/clients.md names for it. The answer has `final_output`, `items`, and the raw `events` of a stream.
    """

    async def running(prompt: Any, streamed: bool, features: dict[str, Any]) -> Any:
        names = script.documented(features.pop("stage", stage), "openai-agents")
        if limit := features.pop("max_tokens", None):
            names["settings"] = names["settings"].resolve(agents.ModelSettings(max_tokens=limit))
        model = names["model"]
        if transport == "websocket":
            model = agents.OpenAIResponsesWSModel(model.model, names["client"])
        agent = agents.Agent(
            name="Assistant",
            model=model,
            model_settings=names["settings"],
            **features,
        )
        async with names["client"], AsyncExitStack() as stack:
            stack.push_async_callback(model.close)
            if not streamed:
                result = await agents.Runner.run(agent, prompt)
                return SimpleNamespace(
                    final_output=result.final_output, items=result.new_items, events=[]
                )
            result = agents.Runner.run_streamed(agent, prompt)
            events = [event async for event in result.stream_events()]
            return SimpleNamespace(
                final_output=result.final_output,
                items=result.new_items,
                events=[event.data for event in events if event.type == "raw_response_event"],
            )

    return lambda prompt, *, streamed=False, **features: asyncio.run(
        running(prompt, streamed, features)
    )


Run = Callable[..., Any]


@pytest.fixture
def weather(agents: Any) -> Any:
    return agents.function_tool(script.weather)


def thoughts(items: list[Any]) -> list[str]:
    found = [item.raw_item for item in items if item.type == "reasoning_item"]
    return [part.text for thought in found for part in thought.summary]


@pytest.mark.cell(client=CLIENT, case="text")
def test_the_documented_example_prints_the_answer(
    agents: Any, stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    """`run_sync` takes the thread's event loop, and leaves it and the connection open."""
    with own_loop() as loop:
        names = script.documented(stage, "openai-agents")
        script.check_example(stage, "openai-agents", capsys, names)
        loop.run_until_complete(names["client"].close())


@pytest.mark.cell(client=CLIENT, case="text")
def test_a_run_ends_with_the_answer(run: Run, stage: Stage) -> None:
    stage.play(script.THINKS)
    assert run(PROMPT, instructions="Be brief.").final_output == ANSWER
    assert stage.requests[0]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": PROMPT},
    ]


@pytest.mark.cell(client=CLIENT, case="streaming")
def test_a_streamed_run_shows_the_answer_in_pieces(run: Run, stage: Stage) -> None:
    stage.play(script.THINKS)
    result = run(PROMPT, streamed=True)
    deltas = [event.delta for event in result.events if event.type == "response.output_text.delta"]
    assert script.in_deltas(deltas, ANSWER)
    assert result.final_output == ANSWER


@pytest.mark.cell(client=CLIENT, case="waiting")
@pytest.mark.heartbeats
@over_http
def test_a_slow_model_is_waited_for(run: Run, stage: Stage) -> None:
    stage.play(SLOW)
    assert run(PROMPT, streamed=True).final_output == SLOW.text


@pytest.mark.cell(client=CLIENT, case="waiting")
@over_a_websocket
def test_a_slow_model_is_waited_for_on_a_socket(run: Run, patient_stage: Stage) -> None:
    patient_stage.play(SLOW)
    result = run(PROMPT, streamed=True, stage=patient_stage)
    assert result.final_output == SLOW.text
    check_heartbeats([event.type for event in result.events])


@pytest.mark.cell(client=CLIENT, case="reasoning")
@pytest.mark.parametrize("streamed", [True, False])
def test_reasoning_is_an_item(run: Run, stage: Stage, streamed: bool) -> None:
    stage.play(script.THINKS)
    result = run(PROMPT, streamed=streamed)
    assert thoughts(result.items) == [THOUGHT]
    if streamed:
        kind = "response.reasoning_summary_text.delta"
        deltas = [event.delta for event in result.events if event.type == kind]
        assert script.in_deltas(deltas, THOUGHT)


@pytest.mark.cell(client=CLIENT, case="tools")
@pytest.mark.parametrize("streamed", [True, False])
def test_both_tools_run(run: Run, stage: Stage, weather: Any, streamed: bool) -> None:
    stage.play(script.LOOKS_TWICE, script.ANSWERS)
    result = run(PROMPT, streamed=streamed, tools=[weather])
    assert result.final_output == ANSWER
    outputs = [item.output for item in result.items if item.type == "tool_call_output_item"]
    assert outputs == [script.weather("Paris"), script.weather('Zü"rich')]
    script.check_tool_loop(stage)


@pytest.mark.cell(client=CLIENT, case="structured")
def test_an_output_type_is_the_answer_s(run: Run, stage: Stage) -> None:
    stage.play(script.FINDS)
    assert run(script.ASK_CITY, output_type=City).final_output == PARIS
    script.check_format(stage)


@pytest.mark.cell(client=CLIENT, case="structured")
def test_an_output_type_goes_with_tools(run: Run, stage: Stage, weather: Any) -> None:
    stage.play(script.LOOKS_TWICE, Turn(text=script.FINDS.text))
    result = run(script.ASK_CITY, output_type=City, tools=[weather])
    assert result.final_output == PARIS
    assert len(stage.requests) == 2
    script.check_format(stage)


@pytest.mark.cell(client=CLIENT, case="image")
def test_an_image_arrives(run: Run, stage: Stage) -> None:
    stage.play(script.HELLO)
    content = [
        {"type": "input_text", "text": "What is this?"},
        {"type": "input_image", "image_url": script.PIXEL_URL, "detail": "auto"},
    ]
    result = run([{"role": "user", "content": content}])
    assert result.final_output == "Hello from a chat model."
    script.check_image(stage)


@pytest.mark.cell(client=CLIENT, case="error")
@pytest.mark.parametrize("streamed", [True, False])
@over_a_websocket
def test_an_error_on_a_socket_has_its_code(
    agents: Any, run: Run, stage: Stage, streamed: bool
) -> None:
    """One class for all, which has the code and the upstream's reason; the next turn works."""
    error = needed_module("agents.models.openai_responses", "openai-agents").ResponsesWebSocketError
    stage.play(script.NO_MODEL, script.TOO_LONG, script.HELLO)
    with pytest.raises(error, match="`kimi-k3` does not exist") as refused:
        run(PROMPT, streamed=streamed)
    assert refused.value.code == "model_not_found"
    with pytest.raises(error, match="prompt is too long") as refused:
        run(PROMPT, streamed=streamed)
    assert refused.value.code == "context_length_exceeded"
    assert run(PROMPT, streamed=streamed).final_output == "Hello from a chat model."


@pytest.mark.cell(client=CLIENT, case="error")
@pytest.mark.parametrize("streamed", [True, False])
@over_http
def test_an_error_has_its_class(run: Run, stage: Stage, streamed: bool) -> None:
    """They are those of the openai package, which asks again after a 429."""
    openai = needed_module("openai", "openai")
    stage.play(script.NO_MODEL, script.TOO_LONG, script.WAIT, script.HELLO)
    with pytest.raises(openai.NotFoundError, match="`kimi-k3` does not exist"):
        run(PROMPT, streamed=streamed)
    with pytest.raises(openai.BadRequestError, match="prompt is too long") as refused:
        run(PROMPT, streamed=streamed)
    assert refused.value.code == "context_length_exceeded"
    assert run(PROMPT, streamed=streamed).final_output == "Hello from a chat model."


@pytest.mark.cell(client=CLIENT, case="error")
@over_http
def test_half_an_answer_is_an_error(run: Run, stage: Stage) -> None:
    openai = needed_module("openai", "openai")
    stage.play(script.BREAKS_OFF)
    with pytest.raises(openai.APIError, match=script.CLOSED):
        run(PROMPT, streamed=True)


@pytest.mark.cell(client=CLIENT, case="error")
@over_a_websocket
def test_half_an_answer_on_a_socket_is_an_error(run: Run, stage: Stage) -> None:
    error = needed_module("agents.models.openai_responses", "openai-agents").ResponsesWebSocketError
    stage.play(script.BREAKS_OFF)
    with pytest.raises(error, match=script.CLOSED):
        run(PROMPT, streamed=True)


@pytest.mark.cell(client=CLIENT, case="incomplete", limit=NO_PARTS)
@pytest.mark.parametrize("streamed", [True, False])
def test_an_answer_that_was_cut_is_an_error(
    agents: Any, run: Run, stage: Stage, streamed: bool
) -> None:
    stage.play(script.STOPS_SHORT)
    with pytest.raises(agents.exceptions.ModelBehaviorError, match="reason='max_output_tokens'"):
        run(PROMPT, streamed=streamed, max_tokens=16)
    script.check_limit(stage)
