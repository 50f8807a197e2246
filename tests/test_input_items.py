"""Items that are neither messages nor calls, and items that are faulty."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest

from tests.conversations import (
    codes,
    exchange,
    messages,
    refusal,
    user,
)
from translator import NotFound
from translator.request.input_items import InputReader
from translator.wire.items import CommonInputItem


@pytest.mark.parametrize(
    "kind",
    ["web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call", "computer_call", "computer_call_output", "mcp_list_tools", "mcp_approval_request", "mcp_approval_response", "program", "program_output"],
)  # fmt: skip
def test_history_of_hosted_tools_is_left_out_with_a_notice(kind: str) -> None:
    items = [user("u"), {"type": kind, "id": "x_1", "status": "completed"}]
    assert messages(items) == [user("u")]
    assert codes(items) == {"input[1]": "item_dropped"}


@pytest.mark.parametrize("action", [{"type": "other"}, {"type": "brand_new", "x": [1]}, None, 7])
def test_a_search_may_have_any_action(action: object) -> None:
    """A thread with one that OpenAI itself takes no more goes on here."""
    items = [user("u"), {"type": "web_search_call", "status": "failed", "action": action}]
    assert messages(items) == [user("u")]
    assert codes(items) == {"input[1]": "item_dropped"}


def test_a_remote_call_is_told() -> None:
    remote = {"type": "mcp_call", "id": "m", "name": "get", "arguments": "{}", "server_label": "w", "output": "sunny"}  # fmt: skip
    assert messages([user("u"), remote])[1]["content"] == "[called w.get with {}]\n[result: sunny]"
    del remote["output"], remote["server_label"]
    assert messages([user("u"), remote])[1]["content"] == "[called get with {}]"


def test_an_error_of_a_remote_call_is_told() -> None:
    remote = {"type": "mcp_call", "id": "m", "name": "get", "arguments": None, "output": None, "error": {"type": "http_error", "code": 500}}  # fmt: skip
    lines = messages([user("u"), remote])[1]["content"].splitlines()
    assert lines == ["[called get with {}]", '[error: {"type":"http_error","code":500}]']


def test_an_approval_of_a_remote_call_is_left_out_with_its_request() -> None:
    """A thread that began at OpenAI goes on here: nothing waits for the approval."""
    ask = {"type": "mcp_approval_request", "id": "mcpr_1", "server_label": "w", "name": "get", "arguments": "{}"}  # fmt: skip
    reply = {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True}
    items = [user("u"), ask, reply, user("go on")]
    assert messages(items) == [user("u"), user("go on")]
    assert codes(items) == {"input[1]": "item_dropped", "input[2]": "item_dropped"}


def test_tools_that_a_server_found_are_declared_without_its_search() -> None:
    found = {"type": "tool_search_output", "call_id": None, "execution": "server", "tools": [{"type": "function", "name": "f"}]}  # fmt: skip
    body = json.loads(exchange([user("u"), found]).chat_body)
    assert body["messages"] == [user("u")]
    assert [tool["function"]["name"] for tool in body["tools"]] == ["f"]
    assert codes([user("u"), found]) == {"input[1]": "item_dropped"}
    search = {"type": "tool_search_call", "call_id": None, "execution": "server", "arguments": {}}
    assert [m["role"] for m in messages([user("u"), search, found])] == [
        "user",
        "assistant",
        "tool",
    ]


def test_references_cannot_be_resolved() -> None:
    items = [user("u"), {"type": "item_reference", "id": "rs_1"}]
    assert messages(items) == [user("u")]
    assert codes(items) == {"input[1]": "reference_dropped"}
    with pytest.raises(NotFound) as missing:
        exchange([user("u"), {"id": "msg_1"}])
    assert missing.value.param == "input[1].id"
    assert missing.value.status_hint == 404
    assert "'msg_1' not found" in missing.value.message


def test_settings_inside_the_input_count_from_there() -> None:
    update = {"type": "configuration_update", "reasoning": {"effort": "high"}, "text": {"format": {"type": "json_object"}}}  # fmt: skip
    body = json.loads(exchange([update, user("u")], dialect="fireworks").chat_body)
    assert body["reasoning_effort"] == "high"
    assert body["response_format"] == {"type": "json_object"}
    for empty in ({}, {"reasoning": None, "text": None}):
        assert messages([{"type": "configuration_update", **empty}, user("u")]) == [user("u")]


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({"role": "tool", "content": "x"}, "input[0].role"),
        ({"role": "user"}, "input[0].content"),
        ({"type": "message", "content": "x"}, "input[0].role"),
        ({"type": "brand_new"}, "input[0].type"),
        ({"type": 5}, "input[0].type"),
        ({"type": "compaction_trigger"}, "input[0].type"),
        ({"type": "function_call", "name": "f", "arguments": "{}"}, "input[0].call_id"),
        ({"type": "function_call", "call_id": "a", "name": "f", "arguments": {}}, "input[0].arguments"),
        ({"type": "function_call_output", "output": "x"}, "input[0].call_id"),
        ({"type": "function_call_output", "call_id": "a", "output": 5}, "input[0].output"),
        ({"type": "custom_tool_call_output", "call_id": "a", "output": {}}, "input[0].output"),
        ({"type": "configuration_update", "reasoning": {"effort": 5}}, "input[0].reasoning.effort"),
        ({"type": "additional_tools", "tools": [{}]}, "input[0].tools[0].type"),
        ({}, "input[0].id"),
        ("text", "input[0]"),
        (None, "input[0]"),
    ],
)  # fmt: skip
def test_faulty_items_are_refused_with_their_path(item: Any, param: str) -> None:
    refused = refusal([item, user("u")])
    assert refused.param == param
    assert refused.status_hint == 400


@pytest.mark.parametrize("item", [{"role": "user"}, {"role": "tool", "content": "x"}])
@pytest.mark.parametrize("first", [user("u"), {"type": "message", **user("u")}])
def test_a_faulty_message_is_refused_with_its_path_behind_any_other(item: Any, first: Any) -> None:
    assert (refusal([first, item]).param or "").startswith("input[1].")
    assert (refusal([first, item | {"type": "message"}]).param or "").startswith("input[1].")


def test_messages_mean_the_same_with_and_without_their_type() -> None:
    said: list[dict[str, Any]] = [
        {"role": role, "content": role} for role in ("user", "assistant", "user", "assistant")
    ]
    call = {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"}
    said[2:2] = [call, {"type": "function_call_output", "call_id": "a", "output": "x"}]
    typed = [{"type": "message"} | one for one in said]
    forms = [said, [one | {"type": one.get("type", "message")} for one in said]]
    forms += [said[:at] + typed[at:] for at in range(1, 6)]
    forms += [typed[:at] + said[at:] for at in range(1, 6)]
    forms.append([{"type": None} | one for one in said])
    for form in forms:
        assert messages(form) == messages(typed)
    assert [one["role"] for one in messages(typed)] == [
        "user",
        "assistant",
        "tool",
        "user",
        "assistant",
    ]


def test_the_type_of_an_item_counts_wherever_it_stands() -> None:
    reasoning: dict[str, Any] = {
        "role": "user",
        "content": None,
        "type": "reasoning",
        "summary": [],
    }
    assert messages([reasoning, user("u")]) == [user("u")]
    assert refusal([{"role": "user", "content": "x", "type": "brand_new"}]).param == "input[0].type"


def test_every_frequent_type_of_item_is_read() -> None:
    assert set(get_args(CommonInputItem)) <= InputReader.BY_TYPE.keys()
