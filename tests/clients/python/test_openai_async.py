"""OpenAI's Python package with its asynchronous client: the same answers, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from tests.clients.conftest import Stage, needed_module
from tests.clients.upstream import SLOW

from . import script
from .script import ANSWER, PARIS, PROMPT, THOUGHT, City
from .test_openai import IMAGE, MODEL, SEALED, WEATHER, summaries

CLIENT = "openai Python, async"

T = TypeVar("T")
Use = Callable[[Any], Awaitable[T]]


@pytest.fixture(scope="module")
def openai() -> Any:
    return needed_module("openai", "openai")


@pytest.fixture
def on_client(openai: Any, stage: Stage) -> Callable[[Use[T]], T]:
    """Runs a coroutine with the documented asynchronous client."""

    async def run(use: Use[T]) -> T:
        async with script.documented(stage, "OpenAI SDKs", block=2)["client"] as client:
            return await use(client)

    return lambda use: asyncio.run(run(use))


OnClient = Callable[[Use[Any]], Any]


def in_stream(**request: Any) -> Use[tuple[list[Any], Any]]:
    """All events of a stream, and the response that the package makes of them."""

    async def use(client: Any) -> tuple[list[Any], Any]:
        async with client.responses.stream(model=MODEL, **request) as stream:
            events = [event async for event in stream]
            return events, await stream.get_final_response()

    return use


@pytest.mark.cell(client=CLIENT, case="text")
def test_a_response_is_complete(on_client: OnClient, stage: Stage) -> None:
    stage.play(script.THINKS)
    response = on_client(lambda client: client.responses.create(model=MODEL, input=PROMPT))
    assert (response.status, response.output_text) == ("completed", ANSWER)
    assert stage.requests[0]["messages"] == [{"role": "user", "content": PROMPT}]
    assert stage.upstream.keys == [f"Bearer {script.KEY}"]


@pytest.mark.cell(client=CLIENT, case="streaming")
def test_stream_builds_the_response_from_its_pieces(on_client: OnClient, stage: Stage) -> None:
    stage.play(script.THINKS)
    events, final = on_client(in_stream(input=PROMPT))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert script.in_deltas(deltas, ANSWER)
    assert (final.status, final.output_text) == ("completed", ANSWER)


@pytest.mark.cell(client=CLIENT, case="waiting")
@pytest.mark.heartbeats
def test_a_slow_model_is_waited_for(on_client: OnClient, stage: Stage) -> None:
    stage.play(SLOW)
    _, final = on_client(in_stream(input=PROMPT))
    assert final.output_text == SLOW.text


@pytest.mark.cell(client=CLIENT, case="reasoning")
def test_reasoning_is_a_summary(on_client: OnClient, stage: Stage) -> None:
    stage.play(script.THINKS)
    events, final = on_client(in_stream(input=PROMPT))
    kind = "response.reasoning_summary_text.delta"
    assert script.in_deltas((event.delta for event in events if event.type == kind), THOUGHT)
    assert summaries(final) == [THOUGHT]


@pytest.mark.cell(client=CLIENT, case="tools")
def test_a_tool_loop(on_client: OnClient, stage: Stage) -> None:
    """One turn streamed, the next one in one piece."""
    stage.play(script.LOOKS_TWICE, script.ANSWERS)
    request: dict[str, Any] = {"tools": [WEATHER], "include": SEALED}
    history: list[Any] = [{"role": "user", "content": PROMPT}]

    async def loop(client: Any) -> Any:
        _, first = await in_stream(input=history, **request)(client)
        history.extend(first.output)
        for call in first.output[2:]:
            output = script.weather(**call.parsed_arguments)
            history.append(
                {"type": "function_call_output", "call_id": call.call_id, "output": output}
            )
        return await client.responses.create(model=MODEL, input=history, **request)

    assert on_client(loop).output_text == ANSWER
    assert [request["stream"] for request in stage.requests] == [True, False]
    script.check_tool_loop(stage)


@pytest.mark.cell(client=CLIENT, case="structured")
def test_parse_gives_an_object(on_client: OnClient, stage: Stage) -> None:
    stage.play(script.FINDS)
    request = {"model": MODEL, "input": script.ASK_CITY, "text_format": City}
    response = on_client(lambda client: client.responses.parse(**request))
    assert response.output_parsed == PARIS
    script.check_format(stage)


@pytest.mark.cell(client=CLIENT, case="image")
def test_an_image_arrives(on_client: OnClient, stage: Stage) -> None:
    stage.play(script.HELLO)
    response = on_client(lambda client: client.responses.create(model=MODEL, input=IMAGE))
    assert response.output_text == "Hello from a chat model."
    script.check_image(stage)


@pytest.mark.cell(client=CLIENT, case="error")
def test_an_error_has_its_class(openai: Any, on_client: OnClient, stage: Stage) -> None:
    stage.play(script.NO_MODEL, script.WAIT, script.TOO_LONG, script.WAIT, script.HELLO)

    async def ask(client: Any) -> None:
        once = client.with_options(max_retries=0)
        with pytest.raises(openai.NotFoundError, match="`kimi-k3` does not exist"):
            await once.responses.create(model=MODEL, input=PROMPT)
        with pytest.raises(openai.RateLimitError, match="Too many requests"):
            await in_stream(input=PROMPT)(once)
        with pytest.raises(openai.BadRequestError, match="prompt is too long") as refused:
            await in_stream(input=PROMPT)(once)
        assert refused.value.code == "context_length_exceeded"
        _, final = await in_stream(input=PROMPT)(client.with_options(max_retries=1))
        assert final.output_text == "Hello from a chat model."

    on_client(ask)


@pytest.mark.cell(client=CLIENT, case="error")
def test_half_an_answer_is_an_error(openai: Any, on_client: OnClient, stage: Stage) -> None:
    stage.play(script.BREAKS_OFF)
    with pytest.raises(openai.APIError, match=script.CLOSED):
        on_client(in_stream(input=PROMPT))


@pytest.mark.cell(client=CLIENT, case="incomplete")
def test_an_answer_that_was_cut_says_so(on_client: OnClient, stage: Stage) -> None:
    """In one piece by its status; in a stream by its last event."""
    stage.play(script.STOPS_SHORT, script.STOPS_SHORT)
    request = {"model": MODEL, "input": PROMPT, "max_output_tokens": 16}

    async def ask(client: Any) -> tuple[Any, Any]:
        response = await client.responses.create(**request)
        events = [event async for event in await client.responses.create(**request, stream=True)]
        return response, events[-1]

    response, last = on_client(ask)
    assert last.type == "response.incomplete"
    for shown in (response, last.response):
        assert (shown.status, shown.output_text) == ("incomplete", "Paris is sunny, Zür")
        assert shown.incomplete_details.reason == "max_output_tokens"
    assert [request["max_tokens"] for request in stage.requests] == [16, 16]
