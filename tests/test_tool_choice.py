"""Tools of a request, and which of them the model may or must call."""

from __future__ import annotations

import json
from typing import Any

import pytest

import translator
from tests.replaying import translation

from .test_to_chat import FUNCTION, chat, codes, refusal


def test_no_tools_no_tool_fields() -> None:
    body = chat(tools=[], tool_choice="auto", parallel_tool_calls=True)
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & body.keys()
    assert codes(tools=[], tool_choice="required") == {"tool_choice": "ignored"}


@pytest.mark.parametrize("choice", ["auto", "none", "required"])
def test_plain_choices(choice: str) -> None:
    assert chat(tools=[FUNCTION], tool_choice=choice)["tool_choice"] == choice


def test_a_named_choice() -> None:
    named = {"type": "function", "function": {"name": "f"}}
    assert chat(tools=[FUNCTION], tool_choice={"type": "function", "name": "f"})["tool_choice"] == named  # fmt: skip
    custom = {"type": "custom", "name": "c"}
    assert chat(tools=[custom], tool_choice=custom)["tool_choice"]["function"] == {"name": "c"}
    patch = {"type": "apply_patch"}
    assert chat(tools=[patch], tool_choice=patch)["tool_choice"]["function"]["name"] == "apply_patch"  # fmt: skip


def test_no_choice_is_left_to_the_upstream() -> None:
    assert "tool_choice" not in chat(tools=[FUNCTION])
    assert "tool_choice" not in chat(tools=[FUNCTION], tool_choice=None)


OTHER = {"type": "function", "name": "g"}


def test_allowed_tools_are_the_only_ones_declared() -> None:
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "g"}]}  # fmt: skip
    body = chat(tools=[FUNCTION, OTHER], tool_choice=allowed)
    assert [tool["function"]["name"] for tool in body["tools"]] == ["g"]
    assert body["tool_choice"] == "required"


def test_a_tool_that_the_history_calls_stays_declared() -> None:
    """Models whose history calls undeclared functions begin to write calls as text."""
    history = [
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "x"},
    ]
    allowed = {
        "type": "allowed_tools",
        "mode": "auto",
        "tools": [{"type": "function", "name": "g"}],
    }
    body = chat(tools=[FUNCTION, OTHER], tool_choice=allowed, input=history)
    assert [tool["function"]["name"] for tool in body["tools"]] == ["f", "g"]


def test_hosted_tools_may_stand_among_the_allowed_ones() -> None:
    allowed = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "web_search"}, {"type": "function", "name": "f"}]}  # fmt: skip
    body = chat(tools=[FUNCTION, {"type": "web_search"}], tool_choice=allowed)
    assert [tool["function"]["name"] for tool in body["tools"]] == ["f"]


@pytest.mark.parametrize(
    ("dialect", "effort", "choice", "sent"),
    [
        ("deepseek", None, "required", "auto"),
        ("deepseek", "none", "required", "required"),
        ("deepseek", "high", {"type": "function", "name": "f"}, "auto"),
        ("moonshot", "high", "required", "auto"),
    ],
)
def test_choices_that_an_upstream_refuses_are_weakened(
    dialect: str, effort: str | None, choice: Any, sent: str
) -> None:
    fields: dict[str, Any] = {"tools": [FUNCTION], "tool_choice": choice}
    fields["reasoning"] = {"effort": effort}
    assert chat(dialect, **fields)["tool_choice"] == sent
    assert ("tool_choice" in codes(dialect, **fields)) == (sent == "auto")


@pytest.mark.parametrize("dialect", ["llama_cpp", "lm_studio"])
def test_a_named_choice_is_the_only_tool_where_one_can_only_be_required(dialect: str) -> None:
    fields: dict[str, Any] = {
        "tools": [FUNCTION, OTHER],
        "tool_choice": {"type": "function", "name": "g"},
    }
    body = chat(dialect, **fields)
    assert body["tool_choice"] == "required"
    assert [tool["function"]["name"] for tool in body["tools"]] == ["g"]
    assert codes(dialect, **fields) == {"tool_choice": "weakened"}


def test_no_call_at_all_where_none_is_not_taken() -> None:
    """No function is declared; one that the history calls is, and its calls do not come through."""
    assert "tools" not in chat("zai", tools=[FUNCTION], tool_choice="none")
    history = [
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "x"},
    ]
    body = chat("zai", tools=[FUNCTION], tool_choice="none", input=history)
    assert body["tool_choice"] == "auto"
    assert [tool["function"]["name"] for tool in body["tools"]] == ["f"]


@pytest.mark.parametrize("dialect", ["llama_cpp", "vllm"])
def test_the_choice_none_leaves_the_tools_out_where_the_prompt_would_have_them(
    dialect: str,
) -> None:
    history = [
        {"role": "user", "content": "x"},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "y"},
    ]
    for said in ("x", history):
        body = chat(dialect, tools=[FUNCTION], tool_choice="none", input=said)
        assert not body.keys() & {"tools", "tool_choice", "parallel_tool_calls"}
        assert codes(dialect, tools=[FUNCTION], tool_choice="none", input=said) == {}
        assert chat(dialect, tools=[FUNCTION], tool_choice="auto", input=said)["tools"]
    t = translation(
        {"model": "m", "input": "x", "tools": [FUNCTION], "tool_choice": "none"}, dialect=dialect
    )
    echoed = json.loads(translator.encode_json(t.response))
    assert echoed["tools"] and echoed["tool_choice"] == "none", "it repeats what was asked"


@pytest.mark.parametrize("dialect", ["llama_cpp", "vllm"])
def test_a_summary_keeps_the_tools_and_so_the_cached_prompt(dialect: str) -> None:
    said = [{"role": "user", "content": "x"}, {"type": "compaction_trigger"}]
    body = chat(dialect, tools=[FUNCTION], input=said)
    assert body["tools"] and body["tool_choice"] == "none"


@pytest.mark.parametrize("dialect", ["llama_cpp", "lm_studio", "vllm", "sglang", "tensorrt_llm"])
def test_a_format_is_told_in_words_beside_tools_where_it_would_prevent_calls(dialect: str) -> None:
    schema = {"type": "object", "properties": {"mark": {"type": "string"}}}
    text = {"format": {"type": "json_schema", "name": "n", "schema": schema}}
    body = chat(dialect, text=text, tools=[FUNCTION])
    assert "response_format" not in body
    assert '"mark"' in body["messages"][0]["content"]
    assert codes(dialect, text=text, tools=[FUNCTION]) == {"text.format": "weakened"}
    assert chat(dialect, text=text)["response_format"]["type"] == "json_schema"


@pytest.mark.parametrize(
    "choice",
    [5, "always", {}, {"type": 5}, {"type": "allowed_tools", "mode": "x", "tools": []}],
)
def test_choices_that_are_none(choice: Any) -> None:
    assert refusal(tools=[FUNCTION], tool_choice=choice) == ("tool_choice", "invalid_value")


@pytest.mark.parametrize(
    ("choice", "param"),
    [
        ({"type": "web_search_preview"}, "tool_choice"),
        ({"type": "function", "name": "missing"}, "tool_choice"),
        ({"type": "function"}, "tool_choice"),
        ({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "mcp"}]}, "tool_choice.tools[0]"),
        ({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "x"}]}, "tool_choice.tools[0]"),
    ],
)  # fmt: skip
def test_choices_of_tools_that_are_not_there(choice: Any, param: str) -> None:
    assert refusal(tools=[FUNCTION], tool_choice=choice) == (param, "invalid_value")


def test_parallel_calls_as_the_dialect_takes_them() -> None:
    fields = {"tools": [FUNCTION], "parallel_tool_calls": False}
    assert chat(**fields)["parallel_tool_calls"] is False
    assert "parallel_tool_calls" not in chat("zai", **fields)
