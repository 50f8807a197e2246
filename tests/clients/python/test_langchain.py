"""LangChain's `ChatOpenAI` on the Responses API: invoke, stream, tools, structured output."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from operator import add
from typing import Any

import pytest

from tests.clients.conftest import Stage, needed_module
from tests.clients.upstream import SLOW, Call, Turn

from . import script
from .script import ANSWER, PARIS, PROMPT, THOUGHT, City

CLIENT = "LangChain"


@pytest.fixture
def model(stage: Stage) -> Any:
    """The model of docs/clients.md."""
    needed_module("langchain_openai", "langchain-openai")
    return script.documented(stage, "LangChain")["model"]


@pytest.fixture
def weather(model: Any) -> Any:
    from langchain_core.tools import tool

    return tool(script.weather)


def invoke(model: Any, messages: Any) -> Any:
    return model.invoke(messages)


def stream(model: Any, messages: Any) -> Any:
    """The sum of the chunks, which is how its users put a streamed message together."""
    return reduce(add, model.stream(messages))


Ask = Callable[[Any, Any], Any]
both_ways = pytest.mark.parametrize("ask", [invoke, stream])


def thoughts(message: Any) -> list[str]:
    blocks = [block for block in message.content_blocks if block["type"] == "reasoning"]
    return [block.get("reasoning", "") for block in blocks]


@pytest.mark.cell(client=CLIENT, case="text")
def test_the_documented_example_prints_the_answer(
    model: Any, stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    script.check_example(stage, "LangChain", capsys, {"model": model})


@pytest.mark.cell(client=CLIENT, case="text")
def test_invoke_gives_a_message(model: Any, stage: Stage) -> None:
    stage.play(script.THINKS)
    message = model.invoke([("system", "Be brief."), ("human", PROMPT)])
    assert message.text == ANSWER
    assert message.usage_metadata["total_tokens"] == 150
    assert stage.requests[0]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": PROMPT},
    ]


@pytest.mark.cell(client=CLIENT, case="streaming")
def test_stream_gives_pieces(model: Any, stage: Stage) -> None:
    stage.play(script.THINKS)
    chunks = list(model.stream(PROMPT))
    assert script.in_deltas((chunk.text for chunk in chunks), ANSWER)
    whole = reduce(add, chunks)
    assert (whole.text, whole.chunk_position) == (ANSWER, "last")
    assert whole.usage_metadata["total_tokens"] == 150


@pytest.mark.cell(client=CLIENT, case="waiting")
@pytest.mark.heartbeats
def test_a_slow_model_is_waited_for(model: Any, stage: Stage) -> None:
    stage.play(SLOW)
    assert stream(model, PROMPT).text == SLOW.text


@pytest.mark.cell(client=CLIENT, case="reasoning")
def test_reasoning_is_a_content_block(model: Any, stage: Stage) -> None:
    stage.play(script.THINKS, script.THINKS)
    assert thoughts(model.invoke(PROMPT)) == [THOUGHT]
    chunks = list(model.stream(PROMPT))
    assert script.in_deltas((piece for chunk in chunks for piece in thoughts(chunk)), THOUGHT)
    assert thoughts(reduce(add, chunks)) == [THOUGHT]


@pytest.mark.cell(client=CLIENT, case="tools")
@both_ways
def test_a_tool_loop(model: Any, stage: Stage, weather: Any, ask: Ask) -> None:
    stage.play(script.LOOKS_TWICE, script.ANSWERS)
    with_tools = model.bind_tools([weather])
    messages: list[Any] = [("human", PROMPT)]
    turn = ask(with_tools, messages)
    assert turn.text == "I look."
    results = [weather.invoke(call) for call in turn.tool_calls]
    assert ask(with_tools, [*messages, turn, *results]).text == ANSWER
    script.check_tool_loop(stage)


@pytest.mark.cell(client=CLIENT, case="structured")
def test_structured_output_is_an_object(model: Any, stage: Stage) -> None:
    stage.play(script.FINDS)
    assert model.with_structured_output(City).invoke(script.ASK_CITY) == PARIS
    script.check_format(stage)


@pytest.mark.cell(client=CLIENT, case="structured")
def test_structured_output_as_a_call(model: Any, stage: Stage) -> None:
    """The one tool is forced where the dialect can force it, and else the only one there is."""
    stage.play(Turn(calls=[Call("functions.City:0", "City", PARIS.model_dump())]))
    asking = model.with_structured_output(City, method="function_calling")
    assert asking.invoke(script.ASK_CITY) == PARIS
    [request] = stage.requests
    assert [tool["function"]["name"] for tool in request["tools"]] == ["City"]
    forced = {"type": "function", "function": {"name": "City"}}
    spoken = stage.upstream.spoken
    asked = forced if spoken.named_choice else "required"
    assert request["tool_choice"] == (asked if spoken.forced_while_thinking else "auto")


@pytest.mark.cell(client=CLIENT, case="image")
def test_an_image_arrives(model: Any, stage: Stage) -> None:
    stage.play(script.HELLO)
    content = [
        {"type": "text", "text": "What is this?"},
        {"type": "image", "base64": script.PIXEL, "mime_type": "image/png"},
    ]
    assert model.invoke([{"role": "user", "content": content}]).text == "Hello from a chat model."
    script.check_image(stage)


@pytest.mark.cell(client=CLIENT, case="error")
@both_ways
def test_an_error_has_its_class(model: Any, stage: Stage, ask: Ask) -> None:
    """Its own classes, which tell a context that is too long from other faults of a request."""
    from langchain_core import exceptions

    stage.play(script.NO_MODEL, script.TOO_LONG, script.WAIT, script.HELLO)
    with pytest.raises(exceptions.ModelNotFoundError, match="`kimi-k3` does not exist"):
        ask(model, PROMPT)
    with pytest.raises(exceptions.ContextOverflowError, match="prompt is too long"):
        ask(model, PROMPT)
    assert ask(model, PROMPT).text == "Hello from a chat model."


@pytest.mark.cell(client=CLIENT, case="error")
def test_half_an_answer_is_an_error(model: Any, stage: Stage) -> None:
    openai = needed_module("openai", "openai")
    stage.play(script.BREAKS_OFF)
    with pytest.raises(openai.APIError, match=script.CLOSED):
        stream(model, PROMPT)


@pytest.mark.cell(client=CLIENT, case="incomplete")
@both_ways
def test_an_answer_that_was_cut_says_so(model: Any, stage: Stage, ask: Ask) -> None:
    stage.play(script.STOPS_SHORT)
    message = ask(model.bind(max_tokens=16), PROMPT)
    assert message.text == "Paris is sunny, Zür"
    assert message.response_metadata["status"] == "incomplete"
    assert message.response_metadata["incomplete_details"]["reason"] == "max_output_tokens"
    script.check_limit(stage)
