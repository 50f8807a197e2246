"""Calls and their results: where each stands, under which id, and what hangs on it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conversations import (
    CHAT_IMAGE,
    IMAGE,
    call,
    chat_call,
    codes,
    exchange,
    messages,
    output,
    reasoning,
    refusal,
    tool,
    user,
)
from translator.common.sealed import Thought, seal
from translator.dialects import Dialect
from translator.request.conversation import NO_OUTPUT


def test_a_turn_folds_into_one_message() -> None:
    items = [
        user("u"),
        {"role": "assistant", "content": [{"type": "output_text", "text": "Let me."}]},
        call("a"),
        call("b"),
        output("a"),
        output("b", [{"type": "input_text", "text": "x"}, {"type": "input_text", "text": "y"}]),
        call("c"),
        output("c"),
    ]
    assert messages(items) == [
        user("u"),
        {"role": "assistant", "content": "Let me.", "tool_calls": [chat_call("a"), chat_call("b")]},
        tool("a"),
        tool("b", "x\ny"),
        {"role": "assistant", "tool_calls": [chat_call("c")]},
        tool("c"),
    ]


def test_text_behind_the_calls_of_a_turn_belongs_to_it() -> None:
    items = [user("u"), call("a"), {"role": "assistant", "content": "Done."}, output("a")]
    assert messages(items)[1] == {
        "role": "assistant",
        "content": "Done.",
        "tool_calls": [chat_call("a")],
    }


@pytest.mark.parametrize(
    ("dialect", "content"),
    [("base", {}), ("deepseek", {"content": ""}), ("x", {"content": None})],
)
def test_content_beside_calls(dialect: str, content: dict[str, Any]) -> None:
    known: str | Dialect = Dialect("x", content_beside_calls="null") if dialect == "x" else dialect
    message = messages([user("u"), call("a"), output("a")], dialect=known)[1]
    assert {key: message[key] for key in message.keys() & {"content"}} == content


def test_results_follow_their_calls_whatever_stood_between() -> None:
    items = [
        user("u"),
        call("a"),
        call("b"),
        user("wait"),
        output("b"),
        {"role": "developer", "content": "d"},
        output("a"),
        user("v"),
    ]
    assert [message["role"] for message in messages(items)] == [
        "user", "assistant", "tool", "tool", "user", "system", "user",
    ]  # fmt: skip
    assert [m["tool_call_id"] for m in messages(items) if m["role"] == "tool"] == ["b", "a"]


def test_images_in_results_follow_the_last_result() -> None:
    shown = [{"type": "input_text", "text": "see"}, IMAGE]
    items = [user("u"), call("a"), call("b"), output("a", shown), output("b", [IMAGE]), user("v")]
    assert messages(items)[2:] == [
        tool("a", "see\n[image attached below]"),
        tool("b", "[image attached below]"),
        {"role": "user", "content": [CHAT_IMAGE, CHAT_IMAGE]},
        user("v"),
    ]


def test_a_call_without_a_result_gets_a_placeholder() -> None:
    items = [user("u"), call("a"), call("b"), output("a"), user("v")]
    assert messages(items)[2:] == [tool("a"), tool("b", NO_OUTPUT), user("v")]
    assert codes(items) == {"input[2]": "output_missing"}


def test_a_turn_that_codex_was_killed_in_is_one_turn() -> None:
    """Codex resumes it as call, "aborted", call, "aborted"; its reasoning covers all its calls."""
    thought = {"type": "reasoning", "encrypted_content": seal(Thought("Why.", "reasoning_content"))}
    killed = [call("a"), output("a", "aborted"), call("b"), output("b", "aborted")]
    resumed = [user("u"), thought, *killed, user("v")]
    written = messages(resumed)
    assert written[1:] == [
        {
            "role": "assistant",
            "reasoning_content": "Why.",
            "tool_calls": [chat_call("a"), chat_call("b")],
        },
        tool("a", "aborted"),
        tool("b", "aborted"),
        user("v"),
    ]
    again = [call("c"), output("c", "aborted"), user("w")]
    assert messages([*resumed, *again])[: len(written)] == written


def test_a_call_behind_any_other_result_is_another_turn() -> None:
    items = [user("u"), call("a"), output("a", "not aborted"), call("b"), output("b")]
    roles = [message["role"] for message in messages(items)]
    assert roles == ["user", "assistant", "tool", "assistant", "tool"]


def test_a_result_without_a_call_is_an_error() -> None:
    refused = refusal([user("u"), output("a")])
    assert refused.param == "input[1].call_id"
    assert "No tool call found for function call output with call_id a." in refused.message


def test_a_result_may_stand_before_its_call() -> None:
    assert messages([user("u"), output("a"), call("a"), user("v")])[1:3] == [
        {"role": "assistant", "tool_calls": [chat_call("a")]},
        tool("a"),
    ]


def test_an_answer_stands_between_a_result_and_the_user_where_it_must() -> None:
    items = [user("u"), call("a"), output("a"), user("v"), user("w")]
    strict = Dialect("x", answer_between_tool_and_user=True)
    roles = [message["role"] for message in messages(items, dialect=strict)]
    assert roles == ["user", "assistant", "tool", "assistant", "user", "user"]


def test_an_id_may_return_in_a_later_turn() -> None:
    """Some hosts of Kimi count their ids from 0 in every answer."""
    first, second = call("functions.sh:0"), call("functions.sh:0", arguments='{"n":2}')
    items = [user("u"), first, output("functions.sh:0", "1"), second, output("functions.sh:0", "2")]
    assert [m.get("content") for m in messages(items) if m["role"] == "tool"] == ["1", "2"]
    interrupted = [user("u"), first, user("again"), second, output("functions.sh:0", "2")]
    written = [m.get("content") for m in messages(interrupted) if m["role"] == "tool"]
    assert written == [NO_OUTPUT, "2"]


def test_a_second_result_of_one_call_is_kept() -> None:
    items = [user("u"), call("a"), output("a", "1"), output("a", "2")]
    assert [m["content"] for m in messages(items) if m["role"] == "tool"] == ["1", "2"]


def test_a_result_that_is_sent_again_is_left_out() -> None:
    """The Vercel AI SDK does so in a conversation of the server; upstreams refuse a second one."""
    items = [user("u"), call("a"), output("a"), output("a", "more"), user("v"), output("a")]
    assert messages(items) == messages(items[:-1])
    assert codes(items) == {"input[5]": "duplicate_dropped"}


def test_marks_that_made_an_id_unique_are_taken_off() -> None:
    items = [user("u"), call("functions.sh:0~2"), output("functions.sh:0~2")]
    written = messages(items)
    assert written[1]["tool_calls"][0]["id"] == written[2]["tool_call_id"] == "functions.sh:0"


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        ("", "{}"),
        (" ", "{}"),
        ('{"a": 1}', '{"a": 1}'),
        ('{"a": tru', '{"input":"{\\"a\\": tru"}'),
        ("[1]", '{"input":"[1]"}'),
    ],
)
def test_arguments_go_back_as_a_json_object(arguments: str, sent: str) -> None:
    items = [user("u"), call("a", arguments=arguments), output("a")]
    assert messages(items)[1]["tool_calls"][0]["function"]["arguments"] == sent
    assert ("input[1]" in codes(items)) == ("input" in sent)


def test_free_form_and_namespaced_calls_are_the_functions_that_stand_for_them() -> None:
    items = [
        user("u"),
        {"type": "custom_tool_call", "call_id": "a", "name": "patch", "input": 'say "x"'},
        {"type": "custom_tool_call_output", "call_id": "a", "output": "ok"},
        call("b", "get", namespace="mcp__w"),
        output("b"),
    ]
    written = messages(items)
    assert written[1]["tool_calls"] == [chat_call("a", "patch", '{"input":"say \\"x\\""}')]
    assert written[3]["tool_calls"] == [chat_call("b", "mcp__w__get")]


def test_a_search_loads_tools() -> None:
    weather = {"type": "namespace", "name": "mcp__w", "description": "", "tools": [{"type": "function", "name": "get"}]}  # fmt: skip
    items = [
        user("u"),
        {"type": "tool_search_call", "call_id": "t", "execution": "client", "arguments": {"query": "w"}},
        {"type": "tool_search_output", "call_id": "t", "tools": [weather]},
        {"type": "additional_tools", "role": "developer", "tools": [{"type": "function", "name": "g"}]},
    ]  # fmt: skip
    body = json.loads(exchange(items).chat_body)
    assert body["messages"][1]["tool_calls"] == [chat_call("t", "tool_search", '{"query":"w"}')]
    assert body["messages"][2] == tool("t", '{"tools":["mcp__w__get"]}')
    assert [f["function"]["name"] for f in body["tools"]] == ["mcp__w__get", "g"]
    nameless = [user("u"), {**items[1], "call_id": None}, {**items[2], "call_id": None}]
    assert messages(nameless)[2]["tool_call_id"] == messages(nameless)[1]["tool_calls"][0]["id"]


def test_calls_of_built_in_tools() -> None:
    action = {"type": "exec", "command": ["ls"], "env": {}}
    items = [
        user("u"),
        {"type": "local_shell_call", "id": "l1", "call_id": "l", "action": action, "status": "completed"},
        {"type": "local_shell_call_output", "id": "l", "output": "a b"},
        {"type": "local_shell_call", "id": "k", "action": action},
        {"type": "local_shell_call_output", "call_id": "k", "output": "c"},
        {"type": "shell_call", "call_id": "s", "action": {"commands": ["ls"]}},
        {"type": "shell_call_output", "call_id": "s", "output": [{"stdout": "x"}]},
        {"type": "apply_patch_call", "call_id": "p", "operation": {"type": "delete_file", "path": "a"}},
        {"type": "apply_patch_call_output", "call_id": "p", "status": "completed"},
    ]  # fmt: skip
    written = messages(items)
    assert [m["tool_calls"][0]["function"] for m in written if m["role"] == "assistant"] == [
        {"name": "local_shell", "arguments": '{"command":["ls"]}'},
        {"name": "local_shell", "arguments": '{"command":["ls"]}'},
        {"name": "shell", "arguments": '{"commands":["ls"]}'},
        {"name": "apply_patch", "arguments": '{"type":"delete_file","path":"a"}'},
    ]
    contents = [m["content"] for m in written if m["role"] == "tool"]
    assert contents == ["a b", "c", '[{"stdout":"x"}]', "completed"]


SIGNED = {"google": {"thought_signature": "s"}}
SKIPPED = {"google": {"thought_signature": "skip_thought_signature_validator"}}


def extras(**by_call: Any) -> dict[str, Any]:
    return reasoning(encrypted_content=seal(Thought("", "", [], by_call)))


def test_signatures_go_back_on_the_calls_that_they_came_with() -> None:
    items = [user("u"), call("a"), call("b"), extras(a=SIGNED), output("a"), output("b")]
    first, second = messages(items, dialect="gemini")[1]["tool_calls"]
    assert first["extra_content"] == SIGNED
    assert "extra_content" not in second
    assert "extra_content" not in messages(items, dialect="fireworks")[1]["tool_calls"][0]


def test_a_placeholder_stands_in_for_a_signature_that_is_demanded() -> None:
    items = [user("u"), call("a"), call("b"), output("a"), output("b")]
    first, second = messages(items, dialect="gemini")[1]["tool_calls"]
    assert (first["extra_content"], second.get("extra_content")) == (SKIPPED, None)
    off = messages(items, dialect="gemini", reasoning={"effort": "none"})[1]["tool_calls"]
    assert "extra_content" not in off[0]


def test_a_signature_of_the_message_goes_back_on_it() -> None:
    said = {"role": "assistant", "content": "x"}
    items = [user("u"), said, extras(**{"": SIGNED}), user("v")]
    assert messages(items, dialect="gemini")[1]["extra_content"] == SIGNED


def test_ids_of_nine_characters() -> None:
    items = [user("u"), call("call_1"), call("abcDEF123"), output("call_1"), output("abcDEF123")]
    written = messages(items, dialect="mistral")
    first, second = (one["id"] for one in written[1]["tool_calls"])
    assert second == written[3]["tool_call_id"] == "abcDEF123"
    assert first == written[2]["tool_call_id"]
    assert len(first) == 9
    assert first.isalnum()
    assert first == messages(items, dialect="mistral")[1]["tool_calls"][0]["id"]


def test_images_by_url_where_none_are_fetched() -> None:
    far = {"type": "input_image", "image_url": "https://example.com/a.png"}
    near = {"type": "input_image", "image_url": "data:image/png;base64,AA=="}
    items = [{"role": "user", "content": [far, near]}]
    (message,) = messages(items, dialect="ollama")
    assert [part["type"] for part in message["content"]] == ["text", "image_url"]
    assert codes(items, dialect="ollama") == {"input[0].content[0]": "image_omitted"}
