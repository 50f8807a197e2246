"""Conversations that a store has: what the core says of them, and makes of their items."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from tests.invariants import check_events
from tests.replaying import REQUEST, chunk, sse, translation
from translator import InvalidRequest, Translation
from translator.request.store_context import StoreContext

CALL = {"type": "function_call", "call_id": "c1", "name": "ls", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "a.txt"}


def raws(*items: dict[str, Any]) -> list[Raw]:
    return [Raw(msgspec.json.encode(item)) for item in items]


def translate(*earlier: dict[str, Any], **fields: Any) -> Translation:
    return translation(
        {**REQUEST, "conversation": "conv_1"} | fields,
        store=StoreContext(keeps=True, conversation="conv_1"),
        earlier=raws(*earlier),
    )


def test_every_event_names_it() -> None:
    t = translate()
    events = t.receive(sse(chunk({"content": "Hello"}), chunk({}, "stop"))) + t.close()
    check_events(events)
    found = [json.loads(msgspec.json.encode(event)) for event in events]
    named = [one["response"]["conversation"] for one in found if "response" in one]
    assert named == [{"id": "conv_1"}] * 3
    assert b'"conversation"' not in msgspec.json.encode(translation(REQUEST).response)


def test_its_items_stand_before_the_input() -> None:
    t = translate({"role": "user", "content": "one"}, input="two")
    sent = json.loads(t.chat_body)["messages"]
    assert [one["content"] for one in sent] == ["one", "two"]


def test_without_one_at_hand_it_is_refused() -> None:
    with pytest.raises(InvalidRequest) as refused:
        translation({**REQUEST, "conversation": "conv_1"}, store=StoreContext(keeps=True))
    assert (refused.value.param, refused.value.code) == ("conversation", "unsupported_parameter")


def test_an_output_whose_call_was_deleted_is_left_out() -> None:
    t = translate(OUTPUT, {"role": "user", "content": "one"}, input="two")
    sent = json.loads(t.chat_body)["messages"]
    assert [one["role"] for one in sent] == ["user", "user"]
    [notice] = t.notices
    assert (notice.path, notice.code) == ("conversation[0]", "item_dropped")


def test_one_in_the_input_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="No tool call found") as refused:
        translate(input=[OUTPUT])
    assert refused.value.param == "input[0].call_id"
    t = translate(CALL, input=[OUTPUT])
    assert [one["role"] for one in json.loads(t.chat_body)["messages"]] == ["assistant", "tool"]
