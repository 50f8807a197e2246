"""What a response repeats of its request."""

from __future__ import annotations

import json
from typing import Any

import pytest

import translator
from tests.invariants import RESPONSE_FIELDS, check_response_types
from tests.replaying import translation
from translator import Target


def first(**fields: Any) -> dict[str, Any]:
    t = translation({"model": "m", "input": "Hello", **fields})
    response: dict[str, Any] = json.loads(translator.encode_json(t.response))
    return response


def test_every_field_has_its_default() -> None:
    response = first()
    check_response_types(response)
    assert response.keys() == RESPONSE_FIELDS.keys()
    expected = {
        "object": "response", "status": "in_progress", "model": "m", "created_at": 3,
        "completed_at": None, "error": None, "incomplete_details": None, "instructions": None,
        "metadata": {}, "output": [], "parallel_tool_calls": True, "temperature": 1, "top_p": 1,
        "tool_choice": "auto", "tools": [], "previous_response_id": None, "presence_penalty": 0,
        "frequency_penalty": 0, "top_logprobs": 0, "truncation": "disabled",
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "reasoning": {"effort": None, "summary": None}, "usage": None, "max_output_tokens": None,
        "max_tool_calls": None, "store": False, "background": False, "service_tier": "default",
        "safety_identifier": None, "prompt_cache_key": None, "user": None,
        "prompt_cache_retention": None, "moderation": None, "id": response["id"],
    }  # fmt: skip
    assert response == expected


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("instructions", "Be brief."),
        ("metadata", {"k": "v"}),
        ("parallel_tool_calls", False),
        ("temperature", 0.5),
        ("top_p", 0.5),
        ("presence_penalty", -1.5),
        ("frequency_penalty", 2),
        ("top_logprobs", 3),
        ("truncation", "auto"),
        ("max_output_tokens", 99),
        ("max_tool_calls", 2),
        ("service_tier", "flex"),
        ("safety_identifier", "s"),
        ("prompt_cache_key", "k"),
        ("prompt_cache_retention", "24h"),
        ("user", "u"),
    ],
)
def test_what_is_given_is_repeated(field: str, value: Any) -> None:
    response = first(**{field: value})
    assert response[field] == value
    check_response_types(response)


def test_text_and_reasoning_have_all_keys() -> None:
    response = first(text={"verbosity": "low"}, reasoning={"effort": "high"})
    assert response["text"] == {"format": {"type": "text"}, "verbosity": "low"}
    assert response["reasoning"] == {"effort": "high", "summary": None}
    assert first(reasoning={"generate_summary": "auto"})["reasoning"]["summary"] == "auto"
    schema = {"type": "json_schema", "name": "n", "schema": {"a": 1}}
    echoed = first(text={"format": schema})["text"]["format"]
    assert echoed == {**schema, "description": None, "strict": None}


@pytest.mark.parametrize("off", ["none", "off", None])
def test_a_summary_that_is_not_wanted_is_null(off: str | None) -> None:
    """VS Code sends "off", Codex "none" in some configurations; the echo has OpenAI's words."""
    assert first(reasoning={"effort": "low", "summary": off})["reasoning"]["summary"] is None


def test_function_tools_get_the_keys_that_clients_insist_on() -> None:
    tools = [
        {"type": "function", "name": "f"},
        {"type": "function", "name": "g", "parameters": {}, "strict": True, "description": "d"},
        {"type": "custom", "name": "c"},
        {"type": "web_search"},
    ]
    response = first(tools=tools)
    nothing = {"description": None, "parameters": None, "strict": None}
    assert response["tools"] == [{**tools[0], **nothing}, *tools[1:]]
    check_response_types(response)


def test_the_tool_choice_is_repeated_as_given() -> None:
    tools = [{"type": "function", "name": "f"}]
    named = {"type": "function", "name": "f"}
    assert first(tools=tools, tool_choice=named)["tool_choice"] == named
    assert first(tools=tools, tool_choice=None)["tool_choice"] == "auto"
    assert first(service_tier="auto")["service_tier"] == "default"


@pytest.mark.parametrize(("asked", "echoed"), [(None, None), (99, 99), (100, 100), (101, 100)])
def test_the_limit_of_the_output_is_the_one_that_holds(
    asked: int | None, echoed: int | None
) -> None:
    fields = {} if asked is None else {"max_output_tokens": asked}
    t = translation({"model": "m", "input": "x", **fields}, target=Target(max_output_tokens=100))
    assert t.response.max_output_tokens == echoed
