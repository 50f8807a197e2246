"""Tools out as functions, and their names both ways."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from tests.replaying import translation
from translator import InvalidRequest
from translator.common.tools import Declared, Toolset


def declared(*tools: dict[str, Any], strict: bool = False, reject: bool = False) -> Toolset:
    toolset = Toolset(strict_functions=strict, reject_hosted=reject)
    toolset.declare([Raw(msgspec.json.encode(tool)) for tool in tools], "tools")
    return toolset


def written(toolset: Toolset) -> list[dict[str, Any]]:
    return [tool["function"] for tool in json.loads(msgspec.json.encode(toolset.functions))]


def test_a_function_is_nested_as_chat_wants_it() -> None:
    tool = {
        "type": "function",
        "name": "f",
        "description": "d",
        "parameters": {"type": "object", "properties": {"a": {"type": "string"}}},
        "strict": True,
        "defer_loading": False,
        "output_schema": None,
    }
    wanted = {"name": "f", "parameters": tool["parameters"], "description": "d"}
    assert written(declared(tool)) == [wanted]
    assert written(declared(tool, strict=True)) == [{**wanted, "strict": True}]
    assert msgspec.json.encode(declared(tool).functions[0]).startswith(b'{"type":"function"')


@pytest.mark.parametrize("parameters", [{}, {"parameters": None}, {"parameters": {}}])
def test_a_function_without_parameters_gets_an_empty_schema(parameters: dict[str, Any]) -> None:
    """MiniMax and OpenAI's strict mode refuse a missing or empty schema."""
    tool = {"type": "function", "name": "f", **parameters}
    assert written(declared(tool))[0]["parameters"] == {"type": "object", "properties": {}}


def test_a_free_form_tool_is_a_function_of_one_string() -> None:
    grammar = {"type": "grammar", "syntax": "lark", "definition": 'start: "x"'}
    tool = {"type": "custom", "name": "patch", "description": "Edits.", "format": grammar}
    (function,) = written(declared(tool))
    assert function["parameters"]["required"] == ["input"]
    assert function["parameters"]["properties"]["input"]["type"] == "string"
    assert function["description"].startswith("Edits.")
    assert "lark" in function["description"]
    assert 'start: "x"' in function["description"]
    (plain,) = written(declared({"type": "custom", "name": "p", "format": {"type": "text"}}))
    assert "grammar" not in plain["description"]
    assert declared(tool).called("patch") == Declared("custom", "patch")


def test_a_namespace_is_flattened_and_restored() -> None:
    members = [{"type": "function", "name": "get"}, {"type": "custom", "name": "edit"}]
    toolset = declared({"type": "namespace", "name": "mcp__w", "description": "", "tools": members})
    assert [function["name"] for function in written(toolset)] == ["mcp__w__get", "mcp__w__edit"]
    assert toolset.called("mcp__w__get") == Declared("function", "get", "mcp__w")
    assert toolset.called("mcp__w__edit") == Declared("custom", "edit", "mcp__w")
    assert toolset.chat_name("get", "mcp__w") == "mcp__w__get"


def test_tools_that_the_client_runs_are_functions() -> None:
    toolset = declared(
        {"type": "tool_search", "execution": "client", "parameters": {"type": "object", "properties": {"q": {}}}},
        {"type": "local_shell"},
        {"type": "shell", "environment": {"type": "local"}},
        {"type": "apply_patch"},
    )  # fmt: skip
    assert [f["name"] for f in written(toolset)] == ["tool_search", "local_shell", "shell", "apply_patch"]  # fmt: skip
    assert written(toolset)[0]["parameters"]["properties"] == {"q": {}}
    assert toolset.called("shell") == Declared("shell", "shell")
    assert toolset.notices == []


def test_a_search_by_the_server_needs_no_function() -> None:
    assert declared({"type": "tool_search"}).functions == []


HOSTED = ["web_search", "web_search_preview", "file_search", "mcp", "code_interpreter", "brand_new"]


@pytest.mark.parametrize("kind", HOSTED)
def test_a_hosted_tool_is_left_out_or_refused(kind: str) -> None:
    toolset = declared({"type": kind})
    assert toolset.functions == []
    assert [(notice.path, notice.code) for notice in toolset.notices] == [
        ("tools[0]", "tool_dropped")
    ]
    with pytest.raises(InvalidRequest) as refused:
        declared({"type": kind}, reject=True)
    assert refused.value.param == "tools[0]"


def test_a_shell_in_a_container_is_hosted() -> None:
    toolset = declared({"type": "shell", "environment": {"type": "container_auto"}})
    assert [notice.code for notice in toolset.notices] == ["tool_dropped"]


def test_a_tool_counts_once() -> None:
    tool = {"type": "function", "name": "f"}
    toolset = declared(tool, tool)
    assert len(toolset.functions) == 1
    raw = Raw(msgspec.json.encode(tool))
    assert toolset.declare([raw], "input[0].tools") == ["f"]


@pytest.mark.parametrize(
    ("tool", "param"),
    [
        ({}, "tools[0].type"),
        ({"type": 5}, "tools[0].type"),
        ({"type": "function"}, "tools[0].name"),
        ({"type": "function", "name": 5}, "tools[0].name"),
        ({"type": "custom"}, "tools[0].name"),
        ({"type": "namespace", "name": "n"}, "tools[0].tools"),
        ({"type": "namespace", "name": "n", "tools": [{"type": "function"}]}, "tools[0].tools[0].name"),
    ],
)  # fmt: skip
def test_what_is_no_tool_is_refused_with_its_path(tool: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        declared(tool)
    assert refused.value.param == param
    assert param in refused.value.message


NAMES = st.text(min_size=1, max_size=90)


@given(st.lists(st.tuples(st.none() | NAMES, NAMES), unique=True, max_size=8))
def test_names_fit_and_never_meet(pairs: list[tuple[str | None, str]]) -> None:
    """Each tool has its own name of at most 64 plain characters, and is found by it."""
    tools: list[dict[str, Any]] = [
        {"type": "function", "name": name}
        if namespace is None
        else {
            "type": "namespace",
            "name": namespace,
            "tools": [{"type": "function", "name": name}],
        }
        for namespace, name in pairs
    ]
    toolset = declared(*tools)
    names = [function["name"] for function in written(toolset)]
    assert len(set(names)) == len(pairs)
    for chat_name, (namespace, name) in zip(names, pairs, strict=True):
        assert len(chat_name) <= 64
        assert chat_name.replace("-", "_").isascii()
        assert toolset.called(chat_name) == Declared("function", name, namespace)
        assert toolset.chat_name(name, namespace) == chat_name


def test_a_long_name_is_the_same_whether_it_is_declared_or_not() -> None:
    name = "x" * 90
    assert declared({"type": "function", "name": name}).chat_name(name) == declared().chat_name(
        name
    )


@pytest.mark.parametrize(
    ("chat_name", "expected"),
    [
        ("shell_command<|channel|>json", "shell_command"),
        ("functions.shell_command", "shell_command"),
        ("functions.other", "functions.other"),
        ("other", "other"),
        ("<|odd", "<|odd"),
    ],
)
def test_names_with_debris_are_understood(chat_name: str, expected: str) -> None:
    toolset = declared({"type": "function", "name": "shell_command"})
    assert toolset.called(chat_name) == Declared("function", expected)


def test_a_constraint_that_the_upstream_lacks_is_one_notice_for_each_tool() -> None:
    large = {"type": "object", "properties": {"a": {"maxLength": 5000}, "b": {"maxLength": 9000}}}
    member = {"type": "function", "name": "m", "parameters": large}
    tools = [
        {"type": "function", "name": "fit", "parameters": {"type": "object"}},
        {"type": "function", "name": "large", "parameters": large},
        {"type": "namespace", "name": "n", "tools": [member]},
        {"type": "tool_search", "execution": "client", "parameters": large},
    ]
    text = {"format": {"type": "json_schema", "name": "x", "schema": large}}
    t = translation({"model": "m", "input": "x", "tools": tools}, dialect="llama_cpp")
    assert [(notice.path, notice.code) for notice in t.notices] == [
        ("tools[1]", "weakened"),
        ("tools[2].tools[0]", "weakened"),
        ("tools[3]", "weakened"),
    ]
    assert "maxLength" in t.notices[0].message
    t = translation({"model": "m", "input": "x", "text": text}, dialect="llama_cpp")
    assert [(notice.path, notice.code) for notice in t.notices] == [("text.format", "weakened")]
