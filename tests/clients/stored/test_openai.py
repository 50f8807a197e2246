"""The SDKs of the API: conversations by their hands, and responses by id."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.clients.conftest import KEY, Stage, needed_module
from tests.clients.node_programs import Program
from tests.clients.upstream import Turn

from .conftest import program
from .talk import NEXT_PROMPT, PROMPT, RAIN, TALK, THOUGHT, check_talk, weather

openai_js = program("openai-stored.mjs", "openai")

SUNNY = Turn(reasoning=THOUGHT, text="Sunny.")
TOOL = {
    "type": "function",
    "name": "weather",
    "description": "The weather in a city.",
    "strict": False,
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}

cell = pytest.mark.cell


@pytest.fixture
def client(stage: Stage) -> Iterator[Any]:
    openai = needed_module("openai", "openai")
    with openai.OpenAI(base_url=stage.base_url, api_key=KEY) as client:
        yield client


def results(response: Any) -> list[dict[str, Any]]:
    """The outputs of the calls in a response."""
    return [
        {
            "type": "function_call_output",
            "call_id": item.call_id,
            "output": weather(**json.loads(item.arguments)),
        }
        for item in response.output
        if item.type == "function_call"
    ]


@cell(client="openai Python", case="by itself")
def test_all_items_are_sent_again(client: Any, stage: Stage) -> None:
    """As the SDK's documentation has it: `response.output` goes into the next input."""
    stage.play(*TALK)
    items: list[Any] = [{"role": "user", "content": PROMPT}]
    looks = client.responses.create(model=stage.model, input=items, tools=[TOOL])
    items += [*looks.output, *results(looks)]
    answers = client.responses.create(model=stage.model, input=items, tools=[TOOL])
    items += [*answers.output, {"role": "user", "content": NEXT_PROMPT}]
    last = client.responses.create(model=stage.model, input=items, tools=[TOOL])
    assert last.output_text == RAIN.text
    check_talk(stage)


@cell(client="openai Python", case="chained")
@pytest.mark.parametrize("streamed", [False, True])
def test_what_is_new_is_sent(client: Any, stage: Stage, streamed: bool) -> None:
    stage.play(*TALK)

    def ask(new: Any, before: Any = None) -> Any:
        parent = {"previous_response_id": before.id} if before else {}
        request = {"model": stage.model, "input": new, "tools": [TOOL], **parent}
        if not streamed:
            return client.responses.create(**request)
        with client.responses.stream(**request) as stream:
            return stream.get_final_response()

    looks = ask(PROMPT)
    answers = ask(results(looks), looks)
    assert ask(NEXT_PROMPT, answers).output_text == RAIN.text
    check_talk(stage)


@cell(client="openai Node", case="by itself")
def test_all_items_are_sent_again_in_node(openai_js: Program, stage: Stage) -> None:
    stage.play(*TALK)
    assert openai_js.run("talk", stage) == {"text": RAIN.text}
    check_talk(stage)


@cell(client="openai Node", case="chained")
def test_what_is_new_is_sent_in_node(openai_js: Program, stage: Stage) -> None:
    stage.play(*TALK)
    assert openai_js.run("chained talk", stage) == {"text": RAIN.text}
    check_talk(stage)


def test_responses_by_id(client: Any, stage: Stage) -> None:
    """They are read, their input is paged through, and they are deleted."""
    openai = needed_module("openai", "openai")
    stage.play(SUNNY, RAIN)
    first = client.responses.create(model=stage.model, input=PROMPT)
    with client.responses.stream(
        model=stage.model, input=NEXT_PROMPT, previous_response_id=first.id
    ) as stream:
        second = stream.get_final_response()
    assert client.responses.retrieve(first.id) == first
    assert client.responses.retrieve(second.id).output_text == second.output_text == RAIN.text
    pages = client.responses.input_items.list(second.id, limit=1, order="asc")
    assert [item.type for item in pages] == ["message", "reasoning", "message", "message"]
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)
    with pytest.raises(openai.BadRequestError):
        client.responses.cancel(second.id)


def test_responses_by_id_in_node(openai_js: Program, stage: Stage) -> None:
    stage.play(SUNNY, RAIN)
    assert openai_js.run("by id", stage) == {
        "same": True,
        "listed": ["message", "reasoning", "message", "message"],
        "deleted": 404,
        "cancelled": 400,
    }
