"""pydantic-ai's `OpenAIResponsesModel`: agents with tools, typed output and images."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from tests.clients.conftest import Stage, needed_module
from tests.clients.own_loop import own_loop
from tests.clients.upstream import SLOW, Call, Turn

from . import script
from .script import ANSWER, PARIS, PROMPT, THOUGHT, City

CLIENT = "pydantic-ai"

T = TypeVar("T")
Use = Callable[[Any], Awaitable[T]]


@pytest.fixture(scope="module")
def ai() -> Any:
    return needed_module("pydantic_ai", "pydantic-ai-slim[openai]")


@pytest.fixture
def on_model(ai: Any, stage: Stage) -> Callable[[Use[T]], T]:
    """Runs a coroutine with the documented model."""

    async def run(use: Use[T]) -> T:
        model = script.documented(stage, "pydantic-ai")["model"]
        async with model.client:
            return await use(model)

    return lambda use: asyncio.run(run(use))


OnModel = Callable[[Use[Any]], Any]


def answered(agent: Any, *arguments: Any, **settings: Any) -> Awaitable[Any]:
    return agent.run(*arguments, **settings)


async def streamed(agent: Any, *arguments: Any, **settings: Any) -> Any:
    """The result at the end of all events of a run."""
    async with agent.run_stream_events(*arguments, **settings) as events:
        *_, last = [event async for event in events]
    return last.result


Ask = Callable[..., Awaitable[Any]]
both_ways = pytest.mark.parametrize("ask", [answered, streamed])


@pytest.mark.cell(client=CLIENT, case="text")
def test_the_documented_example_prints_the_answer(
    ai: Any, stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    """`run_sync` takes the thread's event loop, and leaves it and the connection open."""
    with own_loop() as loop:
        names = script.documented(stage, "pydantic-ai")
        script.check_example(stage, "pydantic-ai", capsys, names)
        loop.run_until_complete(names["model"].client.close())


@pytest.mark.cell(client=CLIENT, case="text")
def test_a_run_ends_with_the_answer(ai: Any, on_model: OnModel, stage: Stage) -> None:
    stage.play(script.THINKS)
    result = on_model(lambda model: ai.Agent(model, instructions="Be brief.").run(PROMPT))
    assert (result.output, result.response.finish_reason) == (ANSWER, "stop")
    assert (result.usage.input_tokens, result.usage.output_tokens) == (120, 30)
    assert stage.requests[0]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": PROMPT},
    ]


@pytest.mark.cell(client=CLIENT, case="streaming")
def test_run_stream_gives_pieces(ai: Any, on_model: OnModel, stage: Stage) -> None:
    stage.play(script.THINKS)

    async def pieces(model: Any) -> list[str]:
        async with ai.Agent(model).run_stream(PROMPT) as result:
            return [text async for text in result.stream_text(delta=True, debounce_by=None)]

    assert script.in_deltas(on_model(pieces), ANSWER)


@pytest.mark.cell(client=CLIENT, case="waiting")
@pytest.mark.heartbeats
def test_a_slow_model_is_waited_for(ai: Any, on_model: OnModel, stage: Stage) -> None:
    stage.play(SLOW)
    assert on_model(lambda model: streamed(ai.Agent(model), PROMPT)).output == SLOW.text


@pytest.mark.cell(client=CLIENT, case="reasoning")
def test_reasoning_is_a_thinking_part(ai: Any, on_model: OnModel, stage: Stage) -> None:
    stage.play(script.THINKS)

    async def pieces(model: Any) -> tuple[list[str], Any]:
        async with ai.Agent(model).run_stream_events(PROMPT) as events:
            seen = [event async for event in events]
        deltas = [event.delta for event in seen if isinstance(event, ai.PartDeltaEvent)]
        thoughts = [delta for delta in deltas if isinstance(delta, ai.ThinkingPartDelta)]
        return [thought.content_delta or "" for thought in thoughts], seen[-1].result

    thoughts, result = on_model(pieces)
    assert script.in_deltas(thoughts, THOUGHT)
    parts = [part for part in result.response.parts if part.part_kind == "thinking"]
    assert [part.content for part in parts] == [THOUGHT]


@pytest.mark.cell(client=CLIENT, case="tools")
@both_ways
def test_both_tools_run(ai: Any, on_model: OnModel, stage: Stage, ask: Ask) -> None:
    stage.play(script.LOOKS_TWICE, script.ANSWERS)
    result = on_model(lambda model: ask(ai.Agent(model, tools=[script.weather]), PROMPT))
    assert result.output == ANSWER
    script.check_tool_loop(stage)


@pytest.mark.cell(client=CLIENT, case="tools")
@both_ways
def test_reasoning_goes_back_without_the_profile(
    ai: Any, on_model: OnModel, stage: Stage, ask: Ask
) -> None:
    """Its users do not all read a README: what it then writes as text is reasoning all the same."""
    stage.play(script.LOOKS_TWICE, script.ANSWERS)

    async def use(model: Any) -> Any:
        plain = type(model)(model.model_name, provider=model._provider)
        return await ask(ai.Agent(plain, tools=[script.weather]), PROMPT)

    assert on_model(use).output == ANSWER
    script.check_tool_loop(stage, sealed=False)


@pytest.mark.cell(client=CLIENT, case="structured")
@both_ways
def test_an_output_type_is_a_call(ai: Any, on_model: OnModel, stage: Stage, ask: Ask) -> None:
    """Its own way: a tool that must be called. Where none can be forced, it is only offered."""
    call = Call("functions.final_result:0", "final_result", PARIS.model_dump())
    stage.play(Turn(reasoning="Paris.", calls=[call]))
    result = on_model(lambda model: ask(ai.Agent(model, output_type=City), script.ASK_CITY))
    assert result.output == PARIS
    [request] = stage.requests
    assert [tool["function"]["name"] for tool in request["tools"]] == ["final_result"]
    can_force = stage.upstream.spoken.forced_while_thinking
    assert request["tool_choice"] == ("required" if can_force else "auto")


@pytest.mark.cell(client=CLIENT, case="structured")
def test_native_output_is_a_format(ai: Any, on_model: OnModel, stage: Stage) -> None:
    stage.play(script.FINDS)
    output_type = ai.NativeOutput(City)
    result = on_model(lambda model: ai.Agent(model, output_type=output_type).run(script.ASK_CITY))
    assert result.output == PARIS
    script.check_format(stage)


@pytest.mark.cell(client=CLIENT, case="image")
def test_an_image_arrives(ai: Any, on_model: OnModel, stage: Stage) -> None:
    stage.play(script.HELLO)
    image = ai.BinaryContent(base64.b64decode(script.PIXEL), media_type="image/png")
    result = on_model(lambda model: ai.Agent(model).run(["What is this?", image]))
    assert result.output == "Hello from a chat model."
    script.check_image(stage)


@pytest.mark.cell(client=CLIENT, case="error")
@both_ways
def test_an_error_has_its_class(ai: Any, on_model: OnModel, stage: Stage, ask: Ask) -> None:
    """Its own classes, which tell a context that is too long from other faults of a request."""
    stage.play(script.NO_MODEL, script.TOO_LONG, script.WAIT, script.HELLO)

    async def use(model: Any) -> Any:
        agent = ai.Agent(model)
        with pytest.raises(ai.exceptions.ModelNotFoundError, match="`kimi-k3` does not exist"):
            await ask(agent, PROMPT)
        with pytest.raises(ai.exceptions.ModelContextWindowExceededError, match="too long"):
            await ask(agent, PROMPT)
        return await ask(agent, PROMPT)

    assert on_model(use).output == "Hello from a chat model."


@pytest.mark.cell(client=CLIENT, case="error")
def test_half_an_answer_is_an_error(ai: Any, on_model: OnModel, stage: Stage) -> None:
    stage.play(script.BREAKS_OFF)
    with pytest.raises(ai.exceptions.ModelServerError, match=script.CLOSED):
        on_model(lambda model: streamed(ai.Agent(model), PROMPT))


@pytest.mark.cell(client=CLIENT, case="incomplete")
@both_ways
def test_an_answer_that_was_cut_says_so(ai: Any, on_model: OnModel, stage: Stage, ask: Ask) -> None:
    stage.play(script.STOPS_SHORT)
    settings = {"max_tokens": 16}
    result = on_model(lambda model: ask(ai.Agent(model), PROMPT, model_settings=settings))
    assert result.output == "Paris is sunny, Zür"
    assert result.response.finish_reason == "length"
    assert result.response.provider_details["finish_reason"] == "max_output_tokens"
    script.check_limit(stage)
