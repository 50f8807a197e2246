"""Tool names as models and histories spell them, and the declared tools that they mean."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import translator
from tests.conversations import call, exchange, messages, output, refusal, user
from tests.invariants import check_events
from tests.replaying import chunk, replay, sse
from tests.test_tools import declared
from translator.common.tool_names import MAX_SPELLED_CHARACTERS
from translator.common.tools import Declared, Toolset
from translator.dialects import BASE


def function(name: str) -> dict[str, Any]:
    return {"type": "function", "name": name}


def custom(name: str) -> dict[str, Any]:
    return {"type": "custom", "name": name}


def namespace(name: str, *members: dict[str, Any]) -> dict[str, Any]:
    return {"type": "namespace", "name": name, "description": "", "tools": list(members)}


CODE_MODE = [
    namespace("functions", custom("exec"), function("wait")),
    namespace("collaboration", function("spawn_agent")),
]
EXEC = Declared("custom", "exec", "functions")
SPAWN = Declared("function", "spawn_agent", "collaboration")


@pytest.mark.parametrize(
    ("spelled", "meant"),
    [
        *(
            (f"functions{separator}exec", EXEC)
            for separator in ("__", ".", "/", ":", "::", "-", "_", "->", " / ", "\\")
        ),
        ("exec", EXEC),
        ("exec__exec", EXEC),
        ("exec.exec", EXEC),
        ("functions.exec:0", EXEC),
        ("exec:12", EXEC),
        ("functions.functions.exec", EXEC),
        ("functions__exec<|channel|>json", EXEC),
        ("exec<|constrain|>json", EXEC),
        ("to=functions.exec", EXEC),
        ("default_api.exec", EXEC),
        ("`exec`", EXEC),
        ("/exec", EXEC),
        (" functions.exec()", EXEC),
        ("wait", Declared("function", "wait", "functions")),
        ("collaboration.spawn_agent", SPAWN),
        ("functions.spawn_agent", SPAWN),
        ("functions_spawn_agent", SPAWN),
        ("functions.collaboration.spawn_agent", SPAWN),
    ],
)
def test_a_member_is_known_however_it_is_separated(spelled: str, meant: Declared) -> None:
    toolset = declared(*CODE_MODE)
    assert toolset.called(spelled) == meant
    assert toolset.declares(spelled) == ("<|" not in spelled)


@pytest.mark.parametrize(
    "spelled",
    ["Exec", "Functions.exec", "functions.Exec", "collaboration.exec", "functionsexec", "exec2",
     "my_exec", "functions", "functions.", ".", "_", "", "run-exec", "a" * 600 + ".exec"],
)  # fmt: skip
def test_a_name_that_means_nothing_else_is_taken_literally(spelled: str) -> None:
    toolset = declared(*CODE_MODE)
    assert toolset.called(spelled) == Declared("function", spelled)
    assert not toolset.declares(spelled)


@pytest.mark.parametrize(
    ("tools", "spelled", "meant"),
    [
        ([function("shell")], "functions.shell", Declared("function", "shell")),
        ([function("shell")], "functions-shell", Declared("function", "shell")),
        ([function("shell")], "container.shell", Declared("function", "shell")),
        ([function("shell")], "shell__shell", Declared("function", "shell")),
        ([{"type": "shell"}], "functions.shell", Declared("shell", "shell")),
        ([{"type": "local_shell"}], "tools/local_shell", Declared("local_shell", "local_shell")),
        ([{"type": "apply_patch"}], "apply-patch", Declared("apply_patch", "apply_patch")),
        ([custom("apply_patch")], "functions:apply_patch", Declared("custom", "apply_patch")),
        ([function("fs.read")], "fs.read", Declared("function", "fs.read")),
        ([function("fs.read")], "fs_read", Declared("function", "fs.read")),
        ([function("fs.read")], "fs/read", Declared("function", "fs.read")),
        ([function("mcp__gh__search")], "gh.search", Declared("function", "mcp__gh__search")),
        ([function("mcp__gh__search")], "search", Declared("function", "mcp__gh__search")),
        ([namespace("mcp__gh", function("find"))], "gh.find", Declared("function", "find", "mcp__gh")),
        ([namespace("mcp__gh", function("find"))], "mcp.gh.find", Declared("function", "find", "mcp__gh")),
        ([namespace("gh", function("find"))], "mcp__gh__find", Declared("function", "find", "gh")),
        ([function("天気")], "functions.天気", Declared("function", "天気")),
        ([function("天気")], "東京", Declared("function", "東京")),
        ([function("n" * 90)], "n" * 90, Declared("function", "n" * 90)),
        ([namespace("mcp__gh__", function("find"))], "find", Declared("function", "find", "mcp__gh__")),
        ([namespace("mcp__gh__", function("find"))], "mcp__gh__find", Declared("function", "find", "mcp__gh__")),
        ([namespace("mcp__a-b", function("find"))], "mcp__a_b__find", Declared("function", "find", "mcp__a-b")),
        ([custom("fs.read"), namespace("fs", function("read"))], "fs.read", Declared("custom", "fs.read")),
        ([function("--")], "..", Declared("function", "..")),
        ([function("fs.read"), namespace("fs", function("read"))], "fs__read", Declared("function", "read", "fs")),
        ([function("a"), function("b")], "a.b", Declared("function", "b")),
        ([function("get-x"), function("get_x")], "functions.get_x", Declared("function", "get_x")),
    ],
)  # fmt: skip
def test_spellings_of_other_tools(
    tools: list[dict[str, Any]], spelled: str, meant: Declared
) -> None:
    assert declared(*tools).called(spelled) == meant


def test_the_shortened_name_of_a_tool_may_have_a_prefix() -> None:
    toolset = declared(function("fs.read"))
    [tool] = toolset.functions
    assert toolset.called(f"functions.{tool.function.name}") == Declared("function", "fs.read")
    assert toolset.called_name(tool.function.name) == tool.function.name


@pytest.mark.parametrize(
    "tools",
    [
        [namespace("a", function("run")), namespace("b", function("run"))],
        [namespace("a", custom("run")), namespace("b", function("run"))],
        [namespace("a", custom("run")), function("mcp__b__run")],
    ],
)
def test_a_name_of_two_tools_is_taken_literally(tools: list[dict[str, Any]]) -> None:
    toolset = declared(*tools)
    for spelled in ("run", "functions.run", "run/run"):
        assert toolset.called(spelled) == Declared("function", spelled)
        assert toolset.called_name(spelled) == Toolset().chat_name(spelled)
    assert declared(function("get-x"), function("get_x")).called("get.x").name == "get.x"


def test_a_tool_without_a_namespace_has_its_name_alone() -> None:
    toolset = declared(*CODE_MODE, function("exec"))
    assert toolset.called("exec") == Declared("function", "exec")
    assert toolset.called("functions.exec") == EXEC
    assert toolset.called_name("exec") == "exec"
    assert toolset.called_name("exec", "exec") == "exec"
    assert toolset.called_name("exec", "functions") == "functions__exec"


def test_a_declared_pair_is_never_another_tool() -> None:
    toolset = declared(namespace("fs", function("read")), function("fs__read"))
    names = [tool.function.name for tool in toolset.functions]
    assert [toolset.called_name("read", "fs"), toolset.called_name("fs__read")] == names


def test_tools_that_are_declared_later_count() -> None:
    toolset = declared(function("other"))
    assert toolset.called("run") == Declared("function", "run")
    toolset.declare([msgspec.Raw(msgspec.json.encode(namespace("a", function("run"))))], "x")
    assert toolset.called("run") == Declared("function", "run", "a")
    toolset.declare([msgspec.Raw(msgspec.json.encode(namespace("b", function("run"))))], "x")
    assert toolset.called("run") == Declared("function", "run")


NAMES = st.text(alphabet="ab.-_/é:", min_size=1, max_size=8)


@given(st.lists(st.tuples(st.none() | NAMES, NAMES), unique=True, max_size=6), NAMES)
def test_both_ways_agree(pairs: list[tuple[str | None, str]], spelled: str) -> None:
    """What a call means in an answer is what it means in the history of the next request."""
    toolset = declared(
        *(
            function(name) if group is None else namespace(group, function(name))
            for group, name in pairs
        )
    )
    tool = toolset.called(spelled)
    name = toolset.called_name(tool.name, tool.namespace)
    known = {one.function.name for one in toolset.functions}
    assert (name in known) == ((tool.namespace, tool.name) in pairs)
    for group, member in pairs:
        assert toolset.called(toolset.called_name(member, group)).name == member


# --- the history -----------------------------------------------------------------------------


def called(items: list[Any], **fields: Any) -> list[str]:
    """The function names of all calls in the chat request."""
    return [
        one["function"]["name"]
        for message in messages(items, **fields)
        for one in message.get("tool_calls", ())
    ]


@pytest.mark.parametrize(
    "named",
    [
        {"name": "exec"},
        {"name": "exec", "namespace": None},
        {"name": "exec", "namespace": ""},
        {"name": "exec", "namespace": "exec"},
        {"name": "exec", "namespace": "functions"},
        {"name": "functions.exec"},
        {"name": "functions__exec"},
        {"name": "functions__exec", "namespace": "functions"},
    ],
)
def test_a_call_in_the_history_has_the_name_that_is_declared(named: dict[str, Any]) -> None:
    items = [
        {"type": "additional_tools", "role": "developer", "tools": CODE_MODE},
        user("u"),
        {"type": "custom_tool_call", "call_id": "a", "input": "text(1)", **named},
        {"type": "custom_tool_call_output", "call_id": "a", "output": "1"},
        call("b", arguments='{"input":"text(1)"}', **named),
        output("b"),
    ]
    assert called(items) == ["functions__exec"] * 2
    first, second = (m for m in messages(items) if m["role"] == "assistant")
    assert first["tool_calls"][0]["function"] == second["tool_calls"][0]["function"]


def test_a_pair_that_is_not_declared_means_the_plain_tool() -> None:
    tools = [function("fetch_page")]
    items = [user("u"), call("a", "fetch_page", namespace="gone"), output("a")]
    assert called(items, tools=tools) == ["fetch_page"]
    assert called(items) == ["gone__fetch_page"]


def test_a_call_before_the_declaration_of_its_tool_has_its_name_too() -> None:
    found = {
        "type": "tool_search_output",
        "call_id": "s",
        "tools": [namespace("web", function("fetch"))],
    }
    search = {"type": "tool_search_call", "call_id": "s", "arguments": {}}
    items = [user("u"), call("a", "fetch"), call("x", "other"), output("a"), output("x"),
             search, found, call("b", "fetch", namespace="fetch"), output("b")]  # fmt: skip
    assert called(items) == ["web__fetch", "other", "tool_search", "web__fetch"]
    again = {**found, "call_id": "t", "tools": [namespace("net", function("fetch"))]}
    more = [*items, {**search, "call_id": "t"}, again, call("c", "fetch"), output("c")]
    assert called(more)[3:] == ["web__fetch", "tool_search", "fetch"]


def test_a_choice_names_a_tool_in_any_spelling() -> None:
    def chosen(choice: dict[str, Any]) -> Any:
        return json.loads(exchange("hi", tools=CODE_MODE, tool_choice=choice).chat_body)

    for name in ("exec", "functions.exec", "functions__exec"):
        body = chosen({"type": "custom", "name": name})
        assert body["tool_choice"]["function"]["name"] == "functions__exec"
        allowed = [{"type": "custom", "name": name}, {"type": "function", "name": "spawn_agent"}]
        body = chosen({"type": "allowed_tools", "mode": "auto", "tools": allowed})
        names = [tool["function"]["name"] for tool in body["tools"]]
        assert names == ["functions__exec", "collaboration__spawn_agent"]
    error = refusal("hi", tools=CODE_MODE, tool_choice={"type": "function", "name": "Exec"})
    assert (error.param, error.code) == ("tool_choice", "invalid_value")


# --- the answer ------------------------------------------------------------------------------


def answer(name: str | list[str], arguments: str = '{"input":"text(1)"}') -> bytes:
    parts = [name] if isinstance(name, str) else name
    deltas = [
        {"tool_calls": [{"index": 0, "id": "call_1" if n == 0 else None, "function": {"name": part}}]}
        for n, part in enumerate(parts)
    ]  # fmt: skip
    rest = {"tool_calls": [{"index": 0, "function": {"arguments": arguments}}]}
    return sse(*map(chunk, deltas), chunk(rest), chunk(finish="tool_calls"), "[DONE]")


def events_of(
    body: bytes, tools: list[dict[str, Any]], **fields: Any
) -> tuple[list[bytes], dict[str, Any]]:
    request = {"model": "m", "input": "hi", "stream": True, "tools": tools, **fields}
    events, response = replay(body, request, dialect=fields.pop("dialect", "base"))
    check_events(events)
    return [translator.encode_json(event) for event in events], json.loads(
        translator.encode_json(response)
    )


SPELLINGS: list[tuple[list[dict[str, Any]], str, list[str], str]] = [
    (CODE_MODE, "functions__exec", ["exec", "functions.exec", "functions/exec", "exec__exec"],
     '{"input":"text(1)"}'),
    (CODE_MODE, "collaboration__spawn_agent", ["spawn_agent", "collaboration.spawn_agent"], "{}"),
    ([{"type": "shell"}], "shell", ["functions.shell"], '{"commands":["ls"]}'),
    ([{"type": "local_shell"}], "local_shell", ["functions.local_shell"], '{"command":["ls"]}'),
    ([{"type": "apply_patch"}], "apply_patch", ["functions.apply_patch"],
     '{"type":"delete_file","path":"p"}'),
    ([{"type": "tool_search", "execution": "client"}], "tool_search", ["functions.tool_search"],
     '{"query":"q"}'),
]  # fmt: skip


@pytest.mark.parametrize(("tools", "name", "spellings", "arguments"), SPELLINGS)
def test_a_spelling_changes_no_byte_of_the_answer(
    tools: list[dict[str, Any]], name: str, spellings: list[str], arguments: str
) -> None:
    wanted, response = events_of(answer(name, arguments), tools)
    assert response["output"][0]["type"] != "message"
    for spelling in spellings:
        assert events_of(answer(spelling, arguments), tools)[0] == wanted
        parts = [spelling[:3], spelling[3:]]
        assert events_of(answer(parts, arguments), tools)[0] == wanted
        items = [user("hi"), *response["output"], user("go on")]
        assert called(items, tools=tools) == [name]


def test_a_spelling_is_allowed_where_its_tool_is() -> None:
    choice = {
        "type": "allowed_tools",
        "mode": "auto",
        "tools": [{"type": "custom", "name": "exec"}],
    }
    for name, count in (("exec", 1), ("functions.exec", 1), ("wait", 0), ("spawn_agent", 0)):
        _, response = events_of(answer(name), CODE_MODE, tool_choice=choice)
        assert len(response["output"]) == count, name


def test_a_call_in_text_may_be_spelled_otherwise() -> None:
    dialect = msgspec.structs.replace(BASE, recover_calls=True)
    for name in ("functions.wait", "wait", "functions__wait"):
        text = f'<tool_call>{{"name":"{name}","arguments":{{}}}}</tool_call>'
        body = sse(chunk({"content": text}), chunk(finish="stop"), "[DONE]")
        request = {"model": "m", "input": "hi", "stream": True, "tools": CODE_MODE}
        _, response = replay(body, request, dialect=dialect)
        [item] = json.loads(translator.encode_json(response))["output"]
        assert (item["type"], item["namespace"], item["name"]) == (
            "function_call",
            "functions",
            "wait",
        )


def test_a_long_name_is_not_searched() -> None:
    toolset = declared(*CODE_MODE)
    fits = "x." * 5 + "functions.exec"
    assert toolset.called(fits) == EXEC
    assert toolset.called("x" * MAX_SPELLED_CHARACTERS + ".functions.exec").kind == "function"
    assert toolset.called("x." * 50 + "functions.exec").kind == "function"


def test_any_number_of_unknown_names_is_looked_up() -> None:
    toolset = declared(*CODE_MODE)
    for number in range(2500):
        assert toolset.called(f"unknown_{number}").namespace is None
    assert len(toolset._spelled._meant) <= 1024  # pyright: ignore[reportPrivateUsage]
    assert toolset.called("exec") == EXEC
