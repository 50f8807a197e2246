"""OpenAI's Python package, as its users call it: create, stream, parse."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.clients.conftest import Stage, needed_module
from tests.clients.upstream import SLOW

from . import script
from .script import ANSWER, PARIS, PROMPT, THOUGHT, City

CLIENT = "openai Python"
MODEL = "accounts/fireworks/models/kimi-k2p6"
SEALED = ["reasoning.encrypted_content"]
WEATHER = {
    "type": "function",
    "name": "weather",
    "description": "The weather in a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}
IMAGE = [
    {
        "role": "user",
        "content": [
            {"type": "input_text", "text": "What is this?"},
            {"type": "input_image", "image_url": script.PIXEL_URL, "detail": "auto"},
        ],
    }
]


@pytest.fixture(scope="module")
def openai() -> Any:
    return needed_module("openai", "openai")


@pytest.fixture
def client(openai: Any, stage: Stage) -> Iterator[Any]:
    """The client of docs/clients.md."""
    with script.documented(stage, "OpenAI SDKs")["client"] as client:
        yield client


def summaries(response: Any) -> list[str]:
    thoughts = [item for item in response.output if item.type == "reasoning"]
    return [part.text for thought in thoughts for part in thought.summary]


@pytest.mark.cell(client=CLIENT, case="text")
def test_the_documented_example_prints_the_answer(
    client: Any, stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    script.check_example(stage, "OpenAI SDKs", capsys, {"client": client})


@pytest.mark.cell(client=CLIENT, case="text")
def test_a_response_is_complete(client: Any, stage: Stage) -> None:
    """Text, status and usage are where the package's users look for them."""
    stage.play(script.THINKS)
    response = client.responses.create(model=MODEL, input=PROMPT, instructions="Be brief.")
    assert (response.status, response.output_text) == ("completed", ANSWER)
    assert (response.usage.input_tokens, response.usage.output_tokens) == (120, 30)
    assert stage.requests[0]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": PROMPT},
    ]


@pytest.mark.cell(client=CLIENT, case="streaming")
def test_stream_builds_the_response_from_its_pieces(client: Any, stage: Stage) -> None:
    """The package's own accumulator follows every event, and ends with the same response."""
    stage.play(script.THINKS)
    with client.responses.stream(model=MODEL, input=PROMPT) as stream:
        events = list(stream)
        final = stream.get_final_response()
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert script.in_deltas(deltas, ANSWER)
    assert (final.status, final.output_text) == ("completed", ANSWER)
    assert stage.requests[0]["stream"] is True


@pytest.mark.cell(client=CLIENT, case="streaming")
def test_create_with_stream_gives_the_events(client: Any, stage: Stage) -> None:
    stage.play(script.THINKS)
    with client.responses.create(model=MODEL, input=PROMPT, stream=True) as events:
        seen = list(events)
    assert [event.sequence_number for event in seen] == list(range(len(seen)))
    assert seen[-1].type == "response.completed"
    assert seen[-1].response.output_text == ANSWER
    assert seen[-1].response.usage.total_tokens == 150


@pytest.mark.cell(client=CLIENT, case="reasoning")
def test_reasoning_is_a_summary(client: Any, stage: Stage) -> None:
    """What the model thinks is in the reasoning item, in one piece and as it comes."""
    stage.play(script.THINKS, script.THINKS)
    response = client.responses.create(model=MODEL, input=PROMPT)
    assert summaries(response) == [THOUGHT]
    with client.responses.stream(model=MODEL, input=PROMPT) as stream:
        events = list(stream)
        final = stream.get_final_response()
    kind = "response.reasoning_summary_text.delta"
    assert script.in_deltas((event.delta for event in events if event.type == kind), THOUGHT)
    assert summaries(final) == [THOUGHT]


@pytest.mark.cell(client=CLIENT, case="tools")
@pytest.mark.parametrize(
    ("asked", "sealed"), [({"include": SEALED}, True), ({"store": False}, True), ({}, False)]
)
def test_a_tool_loop(client: Any, stage: Stage, asked: dict[str, Any], sealed: bool) -> None:
    """Sent back as input, the output gives the model its turn again, calls and reasoning."""
    stage.play(script.LOOKS_TWICE, script.ANSWERS)
    request = {"model": MODEL, "tools": [WEATHER], **asked}
    history: list[Any] = [{"role": "user", "content": PROMPT}]
    first = client.responses.parse(input=history, **request)
    history += first.output
    for item in first.output:
        if item.type == "function_call":
            output = script.weather(**item.parsed_arguments)
            history.append(
                {"type": "function_call_output", "call_id": item.call_id, "output": output}
            )
    second = client.responses.parse(input=history, **request)
    assert second.output_text == ANSWER
    script.check_tool_loop(stage, sealed=sealed)


@pytest.mark.cell(client=CLIENT, case="tools")
def test_a_streamed_tool_loop(client: Any, stage: Stage) -> None:
    stage.play(script.LOOKS_TWICE, script.ANSWERS)
    request: dict[str, Any] = {"model": MODEL, "tools": [WEATHER], "include": SEALED}
    history: list[Any] = [{"role": "user", "content": PROMPT}]
    with client.responses.stream(input=history, **request) as stream:
        done = [e for e in stream if e.type == "response.function_call_arguments.done"]
        history += stream.get_final_response().output
    assert [event.name for event in done] == ["weather", "weather"]
    for item in history[1:]:
        if item.type == "function_call":
            output = script.weather(**item.parsed_arguments)
            history.append(
                {"type": "function_call_output", "call_id": item.call_id, "output": output}
            )
    with client.responses.stream(input=history, **request) as stream:
        assert stream.get_final_response().output_text == ANSWER
    script.check_tool_loop(stage)


@pytest.mark.cell(client=CLIENT, case="structured")
def test_parse_gives_an_object(client: Any, stage: Stage) -> None:
    stage.play(script.FINDS)
    response = client.responses.parse(model=MODEL, input=script.ASK_CITY, text_format=City)
    assert response.output_parsed == PARIS
    script.check_format(stage)


@pytest.mark.cell(client=CLIENT, case="structured")
def test_a_stream_is_parsed_too(client: Any, stage: Stage) -> None:
    stage.play(script.FINDS)
    request = {"model": MODEL, "input": script.ASK_CITY, "text_format": City}
    with client.responses.stream(**request) as stream:
        assert stream.get_final_response().output_parsed == PARIS
    script.check_format(stage)


@pytest.mark.cell(client=CLIENT, case="image")
def test_an_image_arrives(client: Any, stage: Stage) -> None:
    stage.play(script.HELLO)
    response = client.responses.create(model=MODEL, input=IMAGE)
    assert response.output_text == "Hello from a chat model."
    script.check_image(stage)


def create(client: Any) -> Any:
    return client.responses.create(model=MODEL, input=PROMPT)


def stream(client: Any) -> Any:
    with client.responses.stream(model=MODEL, input=PROMPT) as stream:
        return stream.get_final_response()


@pytest.mark.cell(client=CLIENT, case="error")
@pytest.mark.parametrize("ask", [create, stream])
def test_an_error_has_its_class(
    openai: Any, client: Any, stage: Stage, ask: Callable[[Any], Any]
) -> None:
    """Status, code and the upstream's own words decide which exception is raised."""
    client = client.with_options(max_retries=0)
    stage.play(script.NO_MODEL, script.WAIT, script.TOO_LONG)
    with pytest.raises(openai.NotFoundError, match="`kimi-k3` does not exist"):
        ask(client)
    with pytest.raises(openai.RateLimitError, match="Too many requests") as limited:
        ask(client)
    assert limited.value.response.headers["retry-after"] == "7"
    with pytest.raises(openai.BadRequestError, match="prompt is too long") as refused:
        ask(client)
    assert refused.value.code == "context_length_exceeded"


@pytest.mark.cell(client=CLIENT, case="error")
@pytest.mark.parametrize("ask", [create, stream])
def test_a_limited_request_is_sent_again(
    client: Any, stage: Stage, ask: Callable[[Any], Any]
) -> None:
    """The package waits as long as the upstream asks, and tries again."""
    stage.play(script.WAIT, script.HELLO)
    assert ask(client.with_options(max_retries=1)).output_text == "Hello from a chat model."
    assert len(stage.requests) == 2


@pytest.mark.cell(client=CLIENT, case="error")
def test_half_an_answer_is_an_error(openai: Any, client: Any, stage: Stage) -> None:
    """In a stream the pieces come first; a loop over events that ignores errors fails, too."""
    client = client.with_options(max_retries=0)
    stage.play(script.BREAKS_OFF, script.BREAKS_OFF, script.BREAKS_OFF)
    with pytest.raises(openai.InternalServerError):
        create(client)
    with pytest.raises(openai.APIError, match=script.CLOSED):
        stream(client)
    seen: list[Any] = []
    with pytest.raises(openai.APIError, match=script.CLOSED):
        seen += client.responses.create(model=MODEL, input=PROMPT, stream=True)
    assert "response.completed" not in [event.type for event in seen]


@pytest.mark.cell(client=CLIENT, case="waiting")
@pytest.mark.heartbeats
def test_a_slow_model_is_waited_for(client: Any, stage: Stage) -> None:
    stage.play(SLOW)
    assert stream(client.with_options(max_retries=0)).output_text == SLOW.text


@pytest.mark.cell(client=CLIENT, case="incomplete")
def test_an_answer_that_was_cut_says_so(client: Any, stage: Stage) -> None:
    stage.play(script.STOPS_SHORT)
    response = client.responses.create(model=MODEL, input=PROMPT, max_output_tokens=16)
    assert response.status == "incomplete"
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.output_text == "Paris is sunny, Zür"
    script.check_limit(stage)


@pytest.mark.cell(client=CLIENT, case="incomplete")
def test_a_stream_that_was_cut_says_so(client: Any, stage: Stage) -> None:
    """The last event says so; `get_final_response` knows whole responses only, and raises."""
    stage.play(script.STOPS_SHORT)
    with client.responses.stream(model=MODEL, input=PROMPT, max_output_tokens=16) as stream:
        *_, last = stream
        with pytest.raises(RuntimeError, match=r"response\.completed"):
            stream.get_final_response()
    assert last.type == "response.incomplete"
    assert last.response.incomplete_details.reason == "max_output_tokens"
    assert last.response.output_text == "Paris is sunny, Zür"
    script.check_limit(stage)
