"""OpenAI's Python package on a WebSocket: `client.responses.connect()`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.clients.conftest import Stage, check_heartbeats, needed_module
from tests.clients.upstream import SLOW

from . import script
from .script import ANSWER, PARIS, PROMPT, THOUGHT, City
from .test_openai import IMAGE, MODEL, SEALED, WEATHER, summaries

CLIENT = "openai Python, WebSocket"
NO_PARSE = "`responses.connect()` has no `parse`: a structured answer is text, read by its type."
# With websockets 17 the package connects in a way that is deprecated there.
pytestmark = pytest.mark.filterwarnings("ignore:connect:DeprecationWarning:openai")
LAST = {"response.completed", "response.incomplete", "response.failed"}


class Talk:
    """One connection."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def ask(self, asked: Any = PROMPT, **more: Any) -> list[Any]:
        """The events of one response, to the last."""
        message = {"type": "response.create", "model": MODEL, "input": asked, **more}
        self._connection.send(message)
        events = []
        for event in self._connection:
            events.append(event)
            # An error before a response is the only event; in a response, `response.failed` follows.
            if event.type in LAST or (event.type == "error" and event.sequence_number is None):
                return events
        raise AssertionError(f"the connection ended after {events}")


@pytest.fixture(scope="module")
def openai() -> Any:
    return needed_module("openai", "openai")


@pytest.fixture
def talk(openai: Any, stage: Stage) -> Iterator[Talk]:
    """A connection of docs/clients.md's client."""
    with script.documented(stage, "OpenAI SDKs")["client"] as client:
        with client.responses.connect() as connection:
            yield Talk(connection)


def deltas(events: list[Any], kind: str) -> list[str]:
    return [event.delta for event in events if event.type == f"response.{kind}.delta"]


@pytest.mark.cell(client=CLIENT, case="text")
@pytest.mark.cell(client=CLIENT, case="streaming")
@pytest.mark.cell(client=CLIENT, case="reasoning")
def test_events_and_the_response_at_their_end(talk: Talk, stage: Stage) -> None:
    stage.play(script.THINKS)
    events = talk.ask(instructions="Be brief.")
    assert script.in_deltas(deltas(events, "output_text"), ANSWER)
    assert script.in_deltas(deltas(events, "reasoning_summary_text"), THOUGHT)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    response = events[-1].response
    assert (response.status, response.output_text) == ("completed", ANSWER)
    assert (response.usage.total_tokens, summaries(response)) == (150, [THOUGHT])
    assert stage.requests[0]["messages"][0] == {"role": "system", "content": "Be brief."}
    assert stage.upstream.keys == [f"Bearer {script.KEY}"]


@pytest.mark.cell(client=CLIENT, case="tools")
@pytest.mark.parametrize("asked", [{}, {"store": False, "include": SEALED}])
def test_only_results_are_sent(talk: Talk, stage: Stage, asked: dict[str, Any]) -> None:
    """With `previous_response_id`, which this connection remembers; the model gets it all."""
    stage.play(script.LOOKS_TWICE, script.ANSWERS)
    tools = {"tools": [WEATHER], **asked}
    first = talk.ask(**tools)[-1].response
    calls = [item for item in first.output if item.type == "function_call"]
    results = [
        {
            "type": "function_call_output",
            "call_id": call.call_id,
            "output": script.weather(**json.loads(call.arguments)),
        }
        for call in calls
    ]
    second = talk.ask(results, previous_response_id=first.id, **tools)[-1].response
    assert second.output_text == ANSWER
    script.check_tool_loop(stage, sealed=bool(asked))


@pytest.mark.cell(client=CLIENT, case="structured", limit=NO_PARSE)
def test_a_schema_is_kept_to(talk: Talk, stage: Stage) -> None:
    stage.play(script.FINDS)
    schema = City.model_json_schema() | {"additionalProperties": False}
    asked = {"type": "json_schema", "name": "City", "schema": schema, "strict": True}
    response = talk.ask(script.ASK_CITY, text={"format": asked})[-1].response
    assert not hasattr(response, "output_parsed")
    assert City.model_validate_json(response.output_text) == PARIS
    script.check_format(stage)


@pytest.mark.cell(client=CLIENT, case="image")
def test_an_image_arrives(talk: Talk, stage: Stage) -> None:
    stage.play(script.HELLO)
    assert talk.ask(IMAGE)[-1].response.output_text == "Hello from a chat model."
    script.check_image(stage)


@pytest.mark.cell(client=CLIENT, case="error")
def test_an_error_has_its_code_and_ends_nothing(talk: Talk, stage: Stage) -> None:
    """Status, code and the upstream's own words; the next turn is on the same connection."""
    stage.play(script.NO_MODEL, script.WAIT, script.TOO_LONG, script.BREAKS_OFF, script.HELLO)
    for status, code, words in (
        (404, "model_not_found", "`kimi-k3` does not exist"),
        (429, "rate_limit_exceeded", "Too many requests"),
        (400, "context_length_exceeded", "prompt is too long"),
    ):
        [last] = talk.ask()
        assert (last.type, last.status, last.error.code) == ("error", status, code)
        assert words in last.error.message
    *_, broken = talk.ask()
    assert broken.type == "response.failed"
    assert script.CLOSED in broken.response.error.message
    assert talk.ask()[-1].response.output_text == "Hello from a chat model."


@pytest.mark.cell(client=CLIENT, case="waiting")
def test_a_slow_model_is_waited_for(openai: Any, patient_stage: Stage) -> None:
    patient_stage.play(SLOW)
    with script.documented(patient_stage, "OpenAI SDKs")["client"] as client:
        with client.responses.connect() as connection:
            events = Talk(connection).ask()
    assert events[-1].response.output_text == SLOW.text
    check_heartbeats([event.type for event in events])


@pytest.mark.cell(client=CLIENT, case="incomplete")
def test_an_answer_that_was_cut_says_so(talk: Talk, stage: Stage) -> None:
    stage.play(script.STOPS_SHORT)
    *_, last = talk.ask(max_output_tokens=16)
    assert last.type == "response.incomplete"
    assert last.response.incomplete_details.reason == "max_output_tokens"
    assert last.response.output_text == "Paris is sunny, Zür"
    script.check_limit(stage)
