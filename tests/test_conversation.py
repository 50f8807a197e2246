"""Items to messages: who said what, in an order that every upstream accepts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.replaying import translation
from translator import InvalidRequest, NotFound, Target, Translation
from translator.conversation import NO_OUTPUT
from translator.dialects import Dialect
from translator.sealed import Thought, seal


def exchange(
    items: list[Any] | str, *, dialect: str | Dialect = "base", vision: bool = True, **fields: Any
) -> Translation:
    request = {"model": "m", "input": items, **fields}
    return translation(request, dialect=dialect, target=Target(vision=vision))


def messages(items: list[Any] | str, **options: Any) -> list[dict[str, Any]]:
    body = json.loads(exchange(items, **options).chat_body)
    written: list[dict[str, Any]] = body["messages"]
    return written


def codes(items: list[Any], **options: Any) -> dict[str, str]:
    return {notice.path: notice.code for notice in exchange(items, **options).notices}


def refusal(items: list[Any], **options: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as refused:
        exchange(items, **options)
    return refused.value


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def call(call_id: str, name: str = "f", arguments: str = "{}", **more: Any) -> dict[str, Any]:
    return {
        "type": "function_call",
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
        **more,
    }


def output(call_id: str, text: Any = "done") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": text}


def chat_call(call_id: str, name: str = "f", arguments: str = "{}") -> dict[str, Any]:
    return {"type": "function", "id": call_id, "function": {"name": name, "arguments": arguments}}


def tool(call_id: str, text: str = "done") -> dict[str, Any]:
    return {"role": "tool", "content": text, "tool_call_id": call_id}


IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "original"}
CHAT_IMAGE = {
    "type": "image_url",
    "image_url": {"url": "data:image/png;base64,AA==", "detail": "high"},
}

# --- messages -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "item",
    [
        {"role": "user", "content": "Hi"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        {"type": "message", "id": "msg_1", "status": "completed", "role": "user", "content": ["Hi"]},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {"type": None, "role": "user", "content": [{"type": "output_text", "text": "Hi"}]},
        {"type": "agent_message", "content": [{"type": "input_text", "text": "Hi"}]},
        {"type": "agent_message", "encrypted_content": "Hi", "author": "a", "recipient": "b"},
        {"type": "agent_message", "content": [{"type": "encrypted_content", "encrypted_content": "Hi"}]},
    ],
)  # fmt: skip
def test_every_shape_of_a_message(item: dict[str, Any]) -> None:
    assert messages([item]) == [user("Hi")]


def test_a_string_is_a_user_message() -> None:
    assert messages("Hi") == [user("Hi")]


def test_texts_of_one_message_are_joined() -> None:
    parts = [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]
    assert messages([{"role": "user", "content": parts}]) == [user("a\nb")]
    said = [{"type": "output_text", "text": "a"}, {"type": "output_text", "text": "b"}]
    assert messages([{"role": "assistant", "content": said}])[0]["content"] == "ab"


def test_roles() -> None:
    items = [
        {"role": "system", "content": "s"},
        {"role": "developer", "content": "d"},
        user("u"),
        {"role": "assistant", "content": "a"},
    ]
    roles = [message["role"] for message in messages(items, instructions="i")]
    assert roles == ["system", "system", "system", "user", "assistant"]
    roles = [message["role"] for message in messages(items, instructions="i", dialect="openai")]
    assert roles == ["developer", "system", "developer", "user", "assistant"]


def test_leading_system_messages_are_merged_where_only_one_is_taken() -> None:
    items = [
        {"role": "developer", "content": "d"},
        user("u"),
        {"role": "developer", "content": "l"},
    ]
    merged = [{"role": "system", "content": "i\n\nd"}, user("u")]
    late = {"role": "system", "content": "l"}
    assert messages(items, instructions="i", dialect="vllm") == [*merged, late]
    demoted = messages(
        items, instructions="i", dialect=Dialect("x", system_messages="demote_later")
    )
    assert demoted == [*merged, user("<system>\nl\n</system>")]
    assert codes(items, dialect=Dialect("x", system_messages="demote_later")) == {
        "input[2]": "role_demoted"
    }


def test_a_refusal_goes_back_as_one() -> None:
    content = [{"type": "refusal", "refusal": "No."}]
    assert messages([user("u"), {"role": "assistant", "content": content}])[1] == {
        "role": "assistant",
        "refusal": "No.",
    }
    assert messages([{"role": "user", "content": content}]) == [user("No.")]


def test_an_empty_answer_leaves_no_message() -> None:
    assert messages([user("u"), {"role": "assistant", "content": ""}, user("v")]) == [
        user("u"),
        user("v"),
    ]
    assert messages([user("u"), {"role": "assistant", "content": []}]) == [user("u")]
    assert messages([{"role": "user", "content": None}]) == [user("")]


def test_two_answers_stay_two() -> None:
    items = [{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert [message["content"] for message in messages([user("u"), *items])] == ["u", "a", "b"]


# --- content --------------------------------------------------------------------------------------


def test_images_stand_among_texts() -> None:
    content = [{"type": "input_text", "text": "look"}, IMAGE]
    assert messages([{"role": "user", "content": content}]) == [
        {"role": "user", "content": [{"type": "text", "text": "look"}, CHAT_IMAGE]}
    ]
    bare = {"type": "input_image", "image_url": "https://example.com/a.png"}
    (message,) = messages([{"role": "user", "content": [bare]}])
    assert message["content"] == [{"type": "image_url", "image_url": {"url": bare["image_url"]}}]


def test_an_image_that_the_model_cannot_see_is_told() -> None:
    items = [{"role": "user", "content": [{"type": "input_text", "text": "look"}, IMAGE]}]
    assert messages(items, vision=False) == [
        user("look\n[image omitted: the model takes text only]")
    ]
    assert codes(items, vision=False) == {"input[0].content[1]": "image_omitted"}
    assert codes(items, dialect="deepseek") == {"input[0].content[1]": "image_omitted"}


def test_sounds_and_files() -> None:
    sound = {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}
    (message,) = messages([{"role": "user", "content": [sound]}])
    assert message["content"] == [sound]
    pdf = {
        "type": "input_file",
        "file_data": "data:application/pdf;base64,AA==",
        "filename": "a.pdf",
    }
    (message,) = messages([{"role": "user", "content": [pdf]}], dialect="openai")
    assert message["content"] == [
        {"type": "file", "file": {"file_data": pdf["file_data"], "filename": "a.pdf"}}
    ]


@pytest.mark.parametrize(
    "file",
    [
        {"file_data": "data:text/plain;base64,SGk=", "filename": "a.bin"},
        {"file_data": "data:application/json;base64,SGk="},
        {"file_data": "SGk=", "filename": "a.PY"},
    ],
)
def test_text_files_are_read_where_files_are_not_taken(file: dict[str, Any]) -> None:
    (message,) = messages([{"role": "user", "content": [{"type": "input_file", **file}]}])
    assert "\nHi\n" in message["content"]


@pytest.mark.parametrize(
    ("part", "path"),
    [
        ({"type": "input_image"}, "image_url"),
        ({"type": "input_image", "image_url": None}, "image_url"),
        ({"type": "input_image", "image_url": {"url": "x"}}, "image_url"),
        ({"type": "input_image", "file_id": "f"}, "file_id"),
        ({"type": "input_file", "file_id": "f"}, "file_id"),
        ({"type": "input_file", "file_url": "https://x"}, "file_url"),
        ({"type": "input_file", "file_data": "AA==", "filename": "a.pdf"}, "file_data"),
        ({"type": "input_file", "file_data": "data:text/plain;base64,%%%"}, "file_data"),
        ({"type": "input_file", "file_data": "data:text/plain;base64,/w=="}, "file_data"),
        ({"type": "input_video"}, "type"),
        ({"type": "input_text"}, "text"),
    ],
)
def test_content_that_cannot_be_sent_is_refused_with_its_path(part: Any, path: str) -> None:
    refused = refusal([user("u"), {"role": "user", "content": ["x", part]}])
    assert refused.param == f"input[1].content[1].{path}"


def test_only_text_where_only_text_is_possible() -> None:
    assert refusal([{"role": "system", "content": [IMAGE]}]).param == "input[0].content[0]"
    assert refusal([{"role": "assistant", "content": [IMAGE]}]).param == "input[0].content[0]"
    assert messages([{"role": "assistant", "content": ["a"]}, user("u")])[0]["content"] == "a"


# --- calls and results ----------------------------------------------------------------------------


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
        {"name": "local_shell", "arguments": '{"command":["ls"],"env":{}}'},
        {"name": "local_shell", "arguments": '{"command":["ls"],"env":{}}'},
        {"name": "shell", "arguments": '{"commands":["ls"]}'},
        {"name": "apply_patch", "arguments": '{"type":"delete_file","path":"a"}'},
    ]
    contents = [m["content"] for m in written if m["role"] == "tool"]
    assert contents == ["a b", "c", '[{"stdout":"x"}]', "completed"]


# --- reasoning ------------------------------------------------------------------------------------


def reasoning(**fields: Any) -> dict[str, Any]:
    return {"type": "reasoning", "id": "rs_1", "summary": [], **fields}


SUMMARY = [{"type": "summary_text", "text": "sum"}]
CONTENT = [{"type": "reasoning_text", "text": "raw "}, {"type": "reasoning_text", "text": "text"}]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"encrypted_content": seal(Thought("sealed", "reasoning_content"))}, "sealed"),
        ({"encrypted_content": seal(Thought("sealed", "x")), "content": CONTENT}, "sealed"),
        ({"encrypted_content": "gAAAA", "content": CONTENT, "summary": SUMMARY}, "raw text"),
        ({"summary": SUMMARY}, "sum"),
        ({"encrypted_content": "gAAAA", "summary": SUMMARY}, None),
        ({}, None),
    ],
)
def test_reasoning_goes_back_as_it_came(fields: dict[str, Any], text: str | None) -> None:
    items = [user("u"), reasoning(**fields), call("a"), output("a")]
    message = messages(items, dialect="fireworks")[1]
    assert message.get("reasoning_content") == text
    assert ("input[1]" in codes(items)) == ("gAAAA" in fields.values() and text is None)


def test_reasoning_has_the_name_that_it_came_under() -> None:
    items = [user("u"), reasoning(encrypted_content=seal(Thought("t", "reasoning"))), call("a"), output("a")]  # fmt: skip
    assert messages(items)[1]["reasoning"] == "t"
    assert messages(items, dialect="deepseek")[1]["reasoning_content"] == "t"
    assert messages(items, dialect="ollama")[1]["reasoning"] == "t"
    assert not {"reasoning", "reasoning_content"} & messages(items, dialect="openai")[1].keys()


def test_details_go_back_word_for_word() -> None:
    details = [{"type": "reasoning.text", "text": "t", "signature": "s"}]
    blob = seal(Thought("t", "reasoning", details))
    items = [user("u"), reasoning(encrypted_content=blob), call("a"), output("a")]
    message = messages(items, dialect="openrouter")[1]
    assert message["reasoning_details"] == details
    assert messages(items, dialect="fireworks")[1]["reasoning_content"] == "t"


def test_fragments_of_one_turn_are_joined_without_a_seam() -> None:
    items = [
        user("u"),
        reasoning(content=[CONTENT[0]]),
        call("a"),
        reasoning(content=[CONTENT[1]]),
        call("b"),
    ]
    assert messages(items)[1]["reasoning_content"] == "raw text"


def test_a_blank_stands_in_where_reasoning_is_demanded() -> None:
    items = [user("u"), {"role": "assistant", "content": "x"}, call("a"), output("a"), user("v")]
    assert messages(items, dialect="deepseek")[1]["reasoning_content"] == " "
    off = messages(items, dialect="deepseek", reasoning={"effort": "none"})
    assert "reasoning_content" not in off[1]


def test_reasoning_yields_where_all_three_are_refused() -> None:
    said = {"role": "assistant", "content": "x"}
    items = [user("u"), reasoning(summary=SUMMARY), said, call("a"), output("a")]
    assert "reasoning_content" not in messages(items, dialect="llama_cpp")[1]
    assert messages([*items[:2], *items[3:]], dialect="llama_cpp")[1]["reasoning_content"] == "sum"


def test_thoughts_that_led_to_nothing_leave_no_message() -> None:
    assert messages([user("u"), reasoning(summary=SUMMARY), user("v")]) == [user("u"), user("v")]


# --- other items ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    ["web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call", "computer_call", "computer_call_output", "mcp_list_tools", "mcp_approval_request", "program", "program_output"],
)  # fmt: skip
def test_history_of_hosted_tools_is_left_out_with_a_notice(kind: str) -> None:
    items = [user("u"), {"type": kind, "id": "x_1", "status": "completed"}]
    assert messages(items) == [user("u")]
    assert codes(items) == {"input[1]": "item_dropped"}


def test_a_remote_call_is_told() -> None:
    remote = {"type": "mcp_call", "id": "m", "name": "get", "arguments": "{}", "server_label": "w", "output": "sunny"}  # fmt: skip
    assert messages([user("u"), remote])[1]["content"] == "[called w.get with {}]\n[result: sunny]"
    del remote["output"], remote["server_label"]
    assert messages([user("u"), remote])[1]["content"] == "[called get with {}]"


def test_references_cannot_be_resolved() -> None:
    items = [user("u"), {"type": "item_reference", "id": "rs_1"}]
    assert messages(items) == [user("u")]
    assert codes(items) == {"input[1]": "reference_dropped"}
    with pytest.raises(NotFound) as missing:
        exchange([user("u"), {"id": "msg_1"}])
    assert missing.value.param == "input[1].id"
    assert missing.value.status_hint == 404
    assert "'msg_1' not found" in missing.value.message


def test_a_compacted_context_is_a_message_if_it_is_ours() -> None:
    blob = seal(Thought("summary of it all", "compaction"))
    compacted = {"type": "compaction", "encrypted_content": blob}
    assert messages([compacted, user("u")]) == [user("summary of it all"), user("u")]
    refused = refusal([{"type": "compaction", "encrypted_content": "gAAAA"}])
    assert refused.param == "input[0].encrypted_content"


def test_settings_inside_the_input_count_from_there() -> None:
    update = {"type": "configuration_update", "reasoning": {"effort": "high"}, "text": {"format": {"type": "json_object"}}}  # fmt: skip
    body = json.loads(exchange([update, user("u")], dialect="fireworks").chat_body)
    assert body["reasoning_effort"] == "high"
    assert body["response_format"] == {"type": "json_object"}
    assert json.loads(exchange([{"type": "configuration_update"}, user("u")]).chat_body)["messages"] == [user("u")]  # fmt: skip


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({"role": "tool", "content": "x"}, "input[0].role"),
        ({"role": "user"}, "input[0].content"),
        ({"type": "message", "content": "x"}, "input[0].role"),
        ({"type": "brand_new"}, "input[0].type"),
        ({"type": 5}, "input[0].type"),
        ({"type": "compaction_trigger"}, "input[0].type"),
        ({"type": "mcp_approval_response", "approve": True}, "input[0].type"),
        ({"type": "function_call", "name": "f", "arguments": "{}"}, "input[0].call_id"),
        ({"type": "function_call", "call_id": "a", "name": "f", "arguments": {}}, "input[0].arguments"),
        ({"type": "function_call_output", "output": "x"}, "input[0].call_id"),
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


# --- what hangs on calls --------------------------------------------------------------------------

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
