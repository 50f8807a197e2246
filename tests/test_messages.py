"""Messages of every shape and role, as the messages of a chat."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conversations import (
    call,
    codes,
    messages,
    output,
    tool,
    user,
)
from translator.dialects import Dialect


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


# --- what templates require -----------------------------------------------------------------------

ALTERNATING = Dialect(
    "x", system_messages="demote_later", alternating_roles=True, user_message_required=True
)
IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,AA=="}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def developer(text: str) -> dict[str, Any]:
    return {"role": "developer", "content": text}


def system(text: str) -> dict[str, Any]:
    return {"role": "system", "content": text}


def test_messages_of_the_user_in_a_row_are_joined_where_roles_alternate() -> None:
    items = [user("a"), user("b"), assistant("c"), developer("d"), user("e"), developer("f")]
    assert messages(items, instructions="i", dialect=ALTERNATING) == [
        system("i"),
        user("a\n\nb"),
        assistant("c"),
        user("<system>\nd\n</system>\n\ne\n\n<system>\nf\n</system>"),
    ]
    assert [message["content"] for message in messages(items)] == ["a", "b", "c", "d", "e", "f"]


def test_pictures_are_joined_as_parts() -> None:
    seen = {"role": "user", "content": [IMAGE]}
    for items, kinds in (
        ([user("a"), seen], ["text", "image_url"]),
        ([seen, user("a")], ["image_url", "text"]),
        ([seen, seen], ["image_url", "image_url"]),
    ):
        [message] = messages(items, dialect=ALTERNATING)
        assert [part["type"] for part in message["content"]] == kinds


def test_pictures_of_a_result_are_joined_with_the_next_message() -> None:
    items = [user("a"), call("c"), output("c", [IMAGE]), user("b")]
    dialect = Dialect("x", alternating_roles=True, answer_between_tool_and_user=True)
    said = messages(items, dialect=dialect)
    assert [message["role"] for message in said] == [
        "user",
        "assistant",
        "tool",
        "assistant",
        "user",
    ]
    assert [part["type"] for part in said[-1]["content"]] == ["image_url", "text"]


def test_answers_in_a_row_are_joined_where_roles_alternate() -> None:
    items = [
        user("u"),
        call("c"),
        output("c"),
        assistant("a"),
        output("c", "again"),
        assistant("b"),
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        user("v"),
    ]
    said = messages(items, dialect=ALTERNATING)
    assert said[-2:] == [{"role": "assistant", "content": "a\n\nb", "refusal": "No."}, user("v")]
    assert [message["role"] for message in said][-4:] == ["tool", "tool", "assistant", "user"]


def test_the_first_message_is_the_users_where_that_is_required() -> None:
    dialect = Dialect("x", user_message_required=True, system_messages="merge_leading")
    cases: list[tuple[list[Any], str | None, list[Any]]] = [
        ([developer("d")], None, [user("d")]),
        ([developer("d")], "i", [system("i"), user("d")]),
        ([developer("d"), developer("e")], "i", [system("i\n\nd"), user("e")]),
        ([developer("d"), assistant("a"), user("u")], None, [user("d"), assistant("a"), user("u")]),
        ([assistant("a"), user("u")], "i", [user("i"), assistant("a"), user("u")]),
        ([developer("d"), user("u")], "i", [system("i\n\nd"), user("u")]),
        ([user("u"), developer("d")], None, [user("u"), system("d")]),
    ]
    for items, instructions, expected in cases:
        assert messages(items, instructions=instructions, dialect=dialect) == expected
    assert codes([developer("d")], instructions="i", dialect=dialect) == {
        "input[0]": "role_demoted"
    }
    assert codes([assistant("a")], instructions="i", dialect=dialect) == {
        "instructions": "role_demoted"
    }
    unmerged = Dialect("x", user_message_required=True)
    assert messages([developer("d")], instructions="i", dialect=unmerged) == [
        system("i"),
        user("d"),
    ]
    first, *rest = messages([assistant("a"), user("u")], dialect=dialect)
    assert first["role"] == "user" and rest == [assistant("a"), user("u")]


def test_calls_are_sent_one_by_one_where_a_message_may_have_only_one() -> None:
    reasoning = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}
    items = [
        user("u"),
        reasoning,
        assistant("a"),
        call("c1"),
        call("c2"),
        call("c3"),
        output("c3", [IMAGE]),
        output("c1", "one"),
        user("v"),
    ]
    said = messages(items, dialect=Dialect("x", one_call_per_message=True))
    assert [message["role"] for message in said] == (
        ["user", *["assistant", "tool"] * 3, "user", "user"]
    )
    called = [message for message in said if message["role"] == "assistant"]
    assert [[one["id"] for one in message["tool_calls"]] for message in called] == [
        ["c1"],
        ["c2"],
        ["c3"],
    ]
    assert called[0]["content"] == "a" and "reasoning_content" in called[0]
    assert not any({"content", "reasoning_content"} & message.keys() for message in called[1:])
    assert said[2] == tool("c1", "one")
    assert [message["tool_call_id"] for message in said if message["role"] == "tool"] == [
        "c1",
        "c2",
        "c3",
    ]
    assert codes(items, dialect=Dialect("x", one_call_per_message=True)) == {
        "input[4]": "output_missing"
    }


def test_an_answer_at_the_end_is_followed_where_the_upstream_does_not_go_on_with_it() -> None:
    dialect = Dialect("x", assistant_last=False)
    items = [user("u"), assistant("a")]
    assert messages(items, dialect=dialect) == [*items, user("Continue.")]
    assert messages(items) == items
    for ended in ([user("u")], [user("u"), call("c"), output("c")], [developer("d")]):
        assert messages(ended, dialect=dialect) == messages(ended)
