"""Turns of each kind, streamed and plain: what a real engine writes reaches the client right."""

from __future__ import annotations

import json

import openai
import pytest

from .engine import MODEL, Client, Engine, Refused, ended, items
from .requests import CITY, LOOKED_UP, NAMESPACE, PATCH, PIXEL, SCHEMA, TIME, WEATHER, hi
from .script import ENDLESS, PAIR, REASONING, STORY, TERSE, TEXT

CALLED = 'F get_weather {"city": "Oslo"}'


def test_text_with_reasoning(client: Client, stream: bool) -> None:
    response = client.ask(stream, input=hi())
    assert items(response) == [f"R {REASONING}", f"M {TEXT}"]
    assert ended(response) == "completed"
    assert response["usage"]["input_tokens"] > 0
    assert response["usage"]["output_tokens"] > 10


@pytest.mark.parametrize("effort", ["none", "high"])
def test_efforts(client: Client, stream: bool, effort: str) -> None:
    response = client.ask(stream, input=hi(), reasoning={"effort": effort})
    wanted = [f"R {REASONING}"] if effort == "high" else []
    assert items(response) == [*wanted, f"M {TEXT}"]


def test_a_call(client: Client, stream: bool) -> None:
    response = client.ask(stream, input=hi(), tools=[WEATHER])
    assert items(response) == [f"R {REASONING}", CALLED]
    assert ended(response) == "completed"


def test_parallel_calls(client: Client, stream: bool) -> None:
    response = client.ask(stream, input=hi(PAIR, TERSE), tools=[WEATHER])
    assert items(response) == [CALLED, 'F get_weather {"city": "Lima"}']
    assert len({item["call_id"] for item in response["output"]}) == 2


def test_a_call_that_is_required(client: Client, stream: bool) -> None:
    """Where the model alone would answer in text."""
    response = client.ask(stream, input=LOOKED_UP, tools=[WEATHER])
    assert items(response) == [f"M {TEXT}"]
    response = client.ask(stream, input=LOOKED_UP, tools=[WEATHER], tool_choice="required")
    assert items(response)[-1] == CALLED


def test_a_call_of_a_named_tool(client: Client, stream: bool) -> None:
    choice = {"type": "function", "name": "get_time"}
    response = client.ask(stream, input=hi(TERSE), tools=[WEATHER, TIME], tool_choice=choice)
    [item] = response["output"]
    assert (item["type"], item["name"]) == ("function_call", "get_time")
    assert set(json.loads(item["arguments"])) == set(CITY["required"])


def test_no_call_where_none_is_allowed(client: Client, stream: bool) -> None:
    response = client.ask(stream, input=hi(TERSE), tools=[WEATHER], tool_choice="none")
    assert items(response) == [f"M {TEXT}"]


def test_a_custom_tool(client: Client, stream: bool, only_llama_cpp: None) -> None:
    """llama.cpp's grammar leads the model to the one tool that there is."""
    response = client.ask(stream, input=hi(TERSE), tools=[PATCH], tool_choice="required")
    [item] = response["output"]
    assert (item["type"], item["name"]) == ("custom_tool_call", "apply_patch")
    assert item["input"]


def test_a_tool_in_a_namespace(client: Client, stream: bool, only_llama_cpp: None) -> None:
    response = client.ask(stream, input=hi(TERSE), tools=[NAMESPACE], tool_choice="required")
    [item] = response["output"]
    assert (item["type"], item["namespace"], item["name"]) == (
        "function_call",
        "atlas",
        "population",
    )


def test_a_schema(client: Client, stream: bool) -> None:
    response = client.ask(stream, input=hi(TERSE), text=SCHEMA)
    item = response["output"][-1]
    found = json.loads(item["content"][0]["text"])
    assert found.keys() == {"city", "people"}
    assert type(found["people"]) is int


def test_a_json_object(client: Client, stream: bool) -> None:
    asked = {"format": {"type": "json_object"}}
    response = client.ask(stream, input="Answer in JSON. " + hi(TERSE), text=asked)
    item = response["output"][-1]
    assert isinstance(json.loads(item["content"][0]["text"]), dict)


def test_a_call_beside_a_schema(client: Client, stream: bool) -> None:
    """The grammar of a schema would keep the model from calling."""
    response = client.ask(stream, input=hi(TERSE), text=SCHEMA, tools=[WEATHER])
    assert items(response) == [CALLED]


def test_a_loop_with_its_reasoning_passed_back(client: Client, stream: bool) -> None:
    """The engine finds its own words again: all of the first turn is in its cache."""
    history = [{"role": "user", "content": hi()}]
    options = {"tools": [WEATHER], "include": ["reasoning.encrypted_content"], "store": False}
    first = client.ask(stream, input=history, **options)
    [reasoning, call] = first["output"]
    assert reasoning["encrypted_content"]
    outcome = {"type": "function_call_output", "call_id": call["call_id"], "output": "Sleet"}
    second = client.ask(stream, input=[*history, reasoning, call, outcome], **options)
    assert items(second) == [f"R {REASONING}", f"M {TEXT}"]
    usage = first["usage"]
    with_reasoning = usage["input_tokens"] + usage["output_tokens"]
    without = client.ask(stream, input=[*history, call, outcome], **options)
    assert second["usage"]["input_tokens"] > without["usage"]["input_tokens"]
    assert second["usage"]["input_tokens"] > with_reasoning
    third = [*history, reasoning, call, outcome, *second["output"]]
    third += [{"role": "user", "content": "And now?"}]
    assert items(client.ask(stream, input=third, **options))[-1] == f"M {TEXT}"


# --- limits ---------------------------------------------------------------------------------------

CUT = "incomplete:max_output_tokens"


def test_a_limit_in_the_text(client: Client, stream: bool) -> None:
    response = client.ask(stream, input=hi(STORY, TERSE), max_output_tokens=20)
    assert ended(response) == CUT
    [item] = items(response)
    assert item.startswith("M! 0 leaves fall, 1 leaves fall")
    assert response["usage"]["output_tokens"] == 20


def test_a_limit_in_the_reasoning(client: Client, stream: bool) -> None:
    response = client.ask(stream, input=hi(), max_output_tokens=4)
    assert ended(response) == CUT
    [item] = items(response)
    assert item.startswith("R")
    assert REASONING.startswith(item.partition(" ")[2].strip())


def test_a_limit_in_a_call(client: Client, stream: bool) -> None:
    """Half a call is never a whole one, nor text."""
    response = client.ask(stream, input=hi(TERSE), tools=[WEATHER], max_output_tokens=8)
    assert ended(response) == CUT
    assert all(item.startswith("F! get_weather") for item in items(response))


def test_the_limit_of_what_never_ends(client: Client, stream: bool) -> None:
    response = client.ask(stream, input=hi(ENDLESS, TERSE), max_output_tokens=300)
    assert ended(response) == CUT
    assert response["usage"]["output_tokens"] == 300


# --- what is refused ------------------------------------------------------------------------------


def refusal(client: Client, stream: bool, **request: object) -> tuple[int, str, str | None]:
    """Status, type and code of the error."""
    with pytest.raises(Refused) as refused:
        client.ask(stream, **request)
    error = refused.value.error
    return refused.value.status, error["type"], error["code"]


def test_more_than_the_context(client: Client, stream: bool) -> None:
    """Codex compacts the conversation on this code."""
    status, kind, code = refusal(client, stream, input="x " * 100_000)
    assert (status, kind, code) == (400, "invalid_request_error", "context_length_exceeded")


def test_an_image_for_a_model_that_only_reads(client: Client, stream: bool) -> None:
    parts = [
        {"type": "input_text", "text": "What is this?"},
        {"type": "input_image", "image_url": PIXEL, "detail": "auto"},
    ]
    status, kind, _ = refusal(client, stream, input=[{"role": "user", "content": parts}])
    assert (status, kind) == (400, "invalid_request_error")


def test_a_schema_that_is_none(client: Client, stream: bool, only_llama_cpp: None) -> None:
    """llama.cpp refuses the whole request for a type that it does not know: the type is left out."""
    wrong = {"type": "object", "properties": {"city": {"type": "banana"}}}
    response = client.ask(stream, input=hi(TERSE), tools=[WEATHER | {"parameters": wrong}])
    assert items(response) == [CALLED]


# --- clients --------------------------------------------------------------------------------------


def test_the_sdk(service_url: str) -> None:
    """The openai package reads the stream to its own final response."""
    with openai.OpenAI(base_url=service_url, api_key="-") as sdk:
        with sdk.responses.stream(model=MODEL, input=hi()) as stream:
            text = "".join(event.delta for event in stream if event.type.endswith("text.delta"))
            final = stream.get_final_response()
    assert final.output_text == TEXT
    assert text.endswith(TEXT)
    assert [item.type for item in final.output] == ["reasoning", "message"]


def test_chat_requests_are_passed_through(service_url: str, engine: Engine) -> None:
    with openai.OpenAI(base_url=service_url, api_key="-") as sdk:
        models = [model.id for model in sdk.models.list()]
        chat = sdk.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": hi(TERSE)}]
        )
    assert models == [MODEL]
    assert (chat.choices[0].message.content or "").strip() == TEXT
