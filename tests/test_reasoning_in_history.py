"""Reasoning of earlier turns: what goes back of it, and under which name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conversations import (
    call,
    codes,
    messages,
    output,
    reasoning,
    user,
)
from tests.replaying import translation
from translator import Target
from translator.common.sealed import Thought, seal
from translator.dialects import Dialect

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


@pytest.mark.parametrize(
    ("role", "content", "thought"),
    [
        ("assistant", "<think>\nAh.\n\n \n</think>", "Ah.\n\n "),
        ("assistant", "<think>\nAh.\n</think>\n\nYes.", None),
        ("assistant", [{"type": "output_text", "text": "<think>\nAh.\n</think>"}], None),
        ("user", "<think>\nAh.\n</think>", None),
    ],
)
def test_reasoning_that_comes_back_as_a_message_is_reasoning(
    role: str, content: Any, thought: str | None
) -> None:
    """As pydantic-ai writes it: a message of the model with nothing else in it."""
    items = [user("u"), {"role": role, "content": content}, call("a"), output("a")]
    turn = next(message for message in messages(items) if "tool_calls" in message)
    assert turn.get("reasoning_content") == thought
    assert len(messages(items)) == (3 if role == "assistant" else 4)
    assert (thought is None) is ("<think>" in str(messages(items)))


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def test_reasoning_goes_with_what_it_has_led_to() -> None:
    """The messages before are those of the request that got it: an upstream's cache has them."""
    before = [user("u"), assistant("a"), call("a"), output("a"), assistant("b")]
    later = [reasoning(summary=SUMMARY), assistant("c"), user("v")]
    sent = messages([*before, *later])
    assert sent[: len(before) - 1] == messages(before)
    assert sent[len(before) - 1 :] == [
        {"role": "assistant", "content": "c", "reasoning_content": "sum"},
        {"role": "user", "content": "v"},
    ]


def test_reasoning_between_text_and_a_call_is_of_one_message_with_both() -> None:
    items = [user("u"), assistant("a"), reasoning(summary=SUMMARY), call("a"), output("a")]
    [_, message, _] = messages(items)
    assert (message["content"], message["reasoning_content"]) == ("a", "sum")
    assert len(message["tool_calls"]) == 1


def test_roles_that_alternate_have_the_reasoning_of_a_turn_in_one_message() -> None:
    items = [user("u"), assistant("a"), reasoning(summary=SUMMARY), assistant("b")]
    [_, message] = messages(items, dialect=Dialect("x", alternating_roles=True))
    assert (message["content"], message["reasoning_content"]) == ("a\n\nb", "sum")


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "reasoning_text"])
def test_every_name_of_reasoning_is_known_on_the_way_back(field: str) -> None:
    blob = seal(Thought("text", field))
    items = [user("u"), reasoning(encrypted_content=blob), call("a"), output("a")]
    assert messages(items)[1][field] == "text"


def test_a_name_that_nobody_gave_is_not_sent() -> None:
    """A blob is no secret: a client could write one, and any field of a message into it."""
    blob = seal(Thought("text", "role"))
    items = [user("u"), reasoning(encrypted_content=blob), call("a"), output("a")]
    message = messages(items)[1]
    assert (message["role"], message["reasoning_content"]) == ("assistant", "text")


def test_details_go_back_word_for_word() -> None:
    details = [{"type": "reasoning.text", "text": "t", "signature": "s"}]
    blob = seal(Thought("t", "reasoning", details))
    items = [user("u"), reasoning(encrypted_content=blob), call("a"), output("a")]
    message = messages(items, dialect="openrouter")[1]
    assert message["reasoning_details"] == details
    assert messages(items, dialect="fireworks")[1]["reasoning_content"] == "t"


@pytest.mark.parametrize("signed", [{"details": [{"type": "t"}]}, {"extras": {"a": 1}}])
def test_what_another_model_has_signed_is_not_sent(signed: dict[str, Any]) -> None:
    """It would refuse its seal; the text alone goes on, and that is noticed."""
    blob = seal(Thought("t", "reasoning", origin="up/one", **signed))
    items = [user("u"), reasoning(encrypted_content=blob), call("a"), output("a")]
    for origin, dropped in (("up/one", []), (None, []), ("up/two", ["reasoning_dropped"])):
        t = translation({"model": "m", "input": items}, target=Target(origin=origin))
        assert [one.code for one in t.notices if one.path == "input[1]"] == dropped
        message = json.loads(t.chat_body)["messages"][1]
        details = not dropped and "details" in signed  # which have the text, too
        seen = "reasoning_details" in message, message.get("reasoning")
        assert seen == (details, None if details else "t")


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
