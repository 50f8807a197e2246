"""The SDKs of the API: conversations by their hands, and responses by id."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.clients.conftest import KEY, Stage, needed_module
from tests.clients.node_programs import Program
from tests.clients.upstream import Turn

from .conftest import program
from .talk import (
    NEXT_PROMPT,
    PROMPT,
    RAIN,
    TALK,
    TALK_ITEMS,
    THOUGHT,
    check_talk,
    weather,
)

openai_js = program("openai-stored.mjs", "openai")

PATIENCE_S = 30
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


@cell(client="openai Python", case="conversation")
def test_a_conversation(client: Any, stage: Stage) -> None:
    """It is made, gone on in, listed, changed and deleted, item by item."""
    openai = needed_module("openai", "openai")
    stage.play(*TALK)
    conversation = client.conversations.create(metadata={"topic": "weather"})

    def ask(new: Any) -> Any:
        return client.responses.create(
            model=stage.model, input=new, tools=[TOOL], conversation=conversation.id
        )

    looks = ask(PROMPT)
    assert looks.conversation.id == conversation.id
    ask(results(looks))
    assert ask(NEXT_PROMPT).output_text == RAIN.text
    check_talk(stage)
    items = client.conversations.items
    listed = [item.type for item in items.list(conversation.id, order="asc", limit=2)]
    assert listed == TALK_ITEMS
    [last] = items.list(conversation.id, limit=1).data
    assert items.retrieve(last.id, conversation_id=conversation.id).content[0].text == RAIN.text
    items.delete(last.id, conversation_id=conversation.id)
    made = items.create(conversation.id, items=[{"role": "user", "content": "And on Sunday?"}])
    assert [one.content[0].text for one in made.data] == ["And on Sunday?"]
    changed = client.conversations.update(conversation.id, metadata={"topic": "rain"})
    assert client.conversations.retrieve(conversation.id) == changed
    assert client.conversations.delete(conversation.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.conversations.retrieve(conversation.id)


@cell(client="openai Node", case="conversation")
def test_a_conversation_in_node(openai_js: Program, stage: Stage) -> None:
    stage.play(*TALK)
    assert openai_js.run("conversation", stage) == {
        "text": RAIN.text,
        "listed": TALK_ITEMS,
        "last": RAIN.text,
        "made": ["And on Sunday?"],
        "topic": "rain",
        "deleted": 404,
    }
    check_talk(stage)


def test_background_poll(client: Any, stage: Stage) -> None:
    """As the guide has it: it is asked for until it is neither queued nor in progress."""
    stage.play(SUNNY)
    response = client.responses.create(model=stage.model, input=PROMPT, background=True)
    assert response.status == "queued"
    until = time.monotonic() + PATIENCE_S
    while response.status in {"queued", "in_progress"} and time.monotonic() < until:
        time.sleep(0.02)
        response = client.responses.retrieve(response.id)
    assert (response.status, response.output_text) == ("completed", "Sunny.")
    assert client.responses.cancel(response.id) == response


def test_background_cancel(client: Any, stage: Stage) -> None:
    stage.play(Turn(text="Sunny.", pause_s=PATIENCE_S))
    response = client.responses.create(model=stage.model, input=PROMPT, background=True)
    until = time.monotonic() + PATIENCE_S
    while not stage.requests and time.monotonic() < until:
        time.sleep(0.02)
    cancelled = client.responses.cancel(response.id)
    assert cancelled.status == "cancelled"
    assert client.responses.retrieve(response.id) == cancelled


def test_sdk_stream_by_id(client: Any, stage: Stage) -> None:
    """A client that left in mid-answer reads the rest, or all of it, and has the whole response."""
    stage.play(Turn(reasoning=THOUGHT, text="Sunny and warm.", gap_s=0.02))
    with client.responses.create(
        model=stage.model, input=PROMPT, background=True, stream=True
    ) as stream:
        seen = [event for event, _ in zip(stream, range(7), strict=False)]
    response_id = seen[0].response.id
    with client.responses.stream(response_id=response_id) as whole:
        events = list(whole)
        assert whole.get_final_response().output_text == "Sunny and warm."
    numbers = [event.sequence_number for event in events]
    assert numbers == list(range(len(events)))
    assert [event.type for event in events[:7]] == [event.type for event in seen]
    for after in (0, 6, numbers[-1] - 1):
        with client.responses.stream(response_id=response_id, starting_after=after) as rest:
            assert [event.sequence_number for event in rest] == numbers[after + 1 :]
            assert rest.get_final_response().output_text == "Sunny and warm."
        with client.responses.retrieve(response_id, stream=True, starting_after=after) as raw:
            assert [event.sequence_number for event in raw] == numbers[after + 1 :]


def test_sdk_stream_by_id_in_node(openai_js: Program, stage: Stage) -> None:
    stage.play(Turn(reasoning=THOUGHT, text="Sunny and warm.", gap_s=0.02))
    seen = openai_js.run("stream by id", stage)
    numbers = seen["numbers"]
    assert numbers == list(range(len(numbers)))
    assert seen["text"] == "Sunny and warm."
    assert seen["rest"] == {"numbers": numbers[7:], "text": "Sunny and warm."}
    assert seen["raw"] == numbers[7:]


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
