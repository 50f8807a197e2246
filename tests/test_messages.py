"""Messages of every shape and role, as the messages of a chat."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conversations import (
    codes,
    messages,
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
