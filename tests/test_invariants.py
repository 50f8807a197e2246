"""The rules of event lists can fail: each is broken once, in a list that is legal otherwise."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

import translator
from tests.invariants import check_wire
from tests.replaying import REQUEST, chunk, replay, sse

Wire = list[dict[str, Any]]

CALL = {"index": 0, "id": "call_1", "function": {"name": "f", "arguments": '{"a":'}}
MORE = {"index": 0, "function": {"arguments": "1}"}}
OTHER = {"index": 1, "id": "call_2", "function": {"name": "f", "arguments": "{}"}}
USAGE = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
ANSWER = sse(
    chunk({"reasoning_content": "I think"}),
    chunk({"reasoning_content": " so."}),
    chunk({"content": "Hello"}),
    chunk({"content": " you."}),
    chunk({"tool_calls": [CALL]}),
    chunk({"tool_calls": [MORE]}),
    chunk({"tool_calls": [OTHER]}),
    chunk({}, "tool_calls", usage=USAGE),
)
CUT = sse(chunk({"content": "Hello"}), chunk({}, "length"))
BROKEN = sse(chunk({"content": "Hello"}))
ASKING = {**REQUEST, "tools": [{"type": "function", "name": "f"}]}


def wire_of(body: bytes) -> Wire:
    return [json.loads(translator.encode_json(event)) for event in replay(body, ASKING)[0]]


LEGAL = {"answer": wire_of(ANSWER), "cut": wire_of(CUT), "broken": wire_of(BROKEN)}


def at(wire: Wire, kind: str, number: int = 0) -> int:
    """Where the event of a kind stands, the first one or a later one."""
    return [place for place, event in enumerate(wire) if event["type"] == f"response.{kind}"][
        number
    ]


def numbered(wire: Wire) -> None:
    for number, event in enumerate(wire):
        event["sequence_number"] = number


def without(kind: str, number: int = 0) -> Callable[[Wire], None]:
    def change(wire: Wire) -> None:
        del wire[at(wire, kind, number)]
        numbered(wire)

    return change


def twice(kind: str) -> Callable[[Wire], None]:
    def change(wire: Wire) -> None:
        place = at(wire, kind)
        wire.insert(place + 1, copy.deepcopy(wire[place]))
        numbered(wire)

    return change


def moved(kind: str, by: int, number: int = 0) -> Callable[[Wire], None]:
    def change(wire: Wire) -> None:
        place = at(wire, kind, number)
        wire.insert(place + by, wire.pop(place))
        numbered(wire)

    return change


def put(kind: str, path: str, value: Any, number: int = 0) -> Callable[[Wire], None]:
    """Set a value inside an event; `path` is its keys and indexes, with dots between."""

    def change(wire: Wire) -> None:
        node: Any = wire[at(wire, kind, number)]
        *steps, last = [int(step) if step.isdigit() else step for step in path.split(".")]
        for step in steps:
            node = node[step]
        node[last] = value

    return change


def error_type(wire: Wire) -> None:
    wire[-2]["error"]["type"] = "invalid_request_error"


def error_message(wire: Wire) -> None:
    wire[-2]["error"]["message"] = "another"


def no_error(wire: Wire) -> None:
    wire[-2:] = [*wire[-1:], wire[-2]]
    numbered(wire)


BREACHES: list[tuple[int, str, Callable[[Wire], None]]] = [
    # the number of the rule in the list of rules, which answer, what is changed
    (1, "answer", put("output_text.delta", "sequence_number", 99)),
    (3, "answer", put("output_text.delta", "item_id", 5)),
    (3, "answer", put("output_text.delta", "type", "response.unheard_of")),
    (4, "answer", put("output_text.delta", "delta", "")),
    (5, "answer", without("created")),
    (5, "answer", twice("created")),
    (6, "answer", without("in_progress")),
    (6, "answer", moved("in_progress", 1)),
    (7, "answer", twice("completed")),
    (7, "answer", without("completed")),
    (8, "broken", no_error),
    (8, "broken", error_type),
    (8, "broken", error_message),
    (9, "answer", put("completed", "response.id", "resp_another")),
    (9, "answer", put("completed", "response.model", "another")),
    (10, "answer", put("completed", "response.status", "incomplete")),
    (11, "answer", put("created", "response.usage", {})),
    (12, "answer", put("completed", "response.temperature", None)),
    (12, "answer", put("completed", "response.store", None)),
    (12, "answer", put("completed", "response.text", {"format": {"type": "text"}})),
    (13, "answer", put("output_item.added", "output_index", 7, 1)),
    (14, "answer", without("output_item.done", 1)),
    (14, "answer", without("output_item.added", 1)),
    (15, "answer", moved("output_item.done", 1)),
    (16, "answer", put("completed", "response.output.1.id", "rs_000000000000000000000001")),
    (17, "answer", put("output_item.added", "item.name", "", 2)),
    (17, "answer", put("output_item.added", "item.call_id", "", 2)),
    (18, "answer", put("output_item.added", "item.arguments", "{}", 2)),
    (19, "answer", put("output_item.done", "item.call_id", "call_9", 2)),
    (20, "answer", without("content_part.added")),
    (20, "answer", without("content_part.done")),
    (20, "answer", put("content_part.added", "content_index", 1)),
    (20, "answer", without("reasoning_summary_part.done")),
    (21, "answer", put("output_text.delta", "item_id", "msg_another")),
    (21, "answer", put("output_text.done", "output_index", 0)),
    (22, "answer", put("output_text.delta", "delta", "Bye")),
    (22, "answer", put("output_text.done", "text", "Bye")),
    (22, "answer", put("content_part.done", "part.text", "Bye")),
    (22, "answer", put("output_item.done", "item.content.0.text", "Bye", 1)),
    (22, "answer", put("function_call_arguments.done", "arguments", "{}")),
    (22, "answer", put("output_item.done", "item.arguments", "{}", 2)),
    (23, "answer", without("output_text.done")),
    (23, "answer", twice("output_text.done")),
    (23, "answer", moved("output_text.delta", 1, 1)),
    (24, "answer", put("completed", "response.output", [])),
    (24, "answer", put("completed", "response.output.0.summary.0.text", "another")),
    (25, "answer", put("completed", "response.error", {"code": "server_error", "message": "x"})),
    (25, "cut", put("incomplete", "response.incomplete_details", None)),
    (25, "cut", put("incomplete", "response.incomplete_details", {"reason": "max_messages"})),
    (25, "broken", put("failed", "response.error", None)),
    (26, "answer", put("completed", "response.completed_at", None)),
    (26, "answer", put("completed", "response.completed_at", 1)),
    (26, "cut", put("incomplete", "response.completed_at", 9)),
    (27, "answer", put("completed", "response.output.0.status", "incomplete")),
    (28, "answer", put("completed", "response.usage.total_tokens", 99)),
    (28, "answer", put("completed", "response.usage.input_tokens_details.cached_tokens", 99)),
    (28, "answer", put("completed", "response.usage.output_tokens_details.reasoning_tokens", 99)),
]


@pytest.mark.parametrize("kind", LEGAL)
def test_these_answers_break_no_rule(kind: str) -> None:
    check_wire(copy.deepcopy(LEGAL[kind]))


@pytest.mark.parametrize(
    ("kind", "change"),
    [breach[1:] for breach in BREACHES],
    ids=[f"{breach[0]}-{number}" for number, breach in enumerate(BREACHES)],
)
def test_a_breach_of_a_rule_is_found(kind: str, change: Callable[[Wire], None]) -> None:
    wire = copy.deepcopy(LEGAL[kind])
    change(wire)
    assert wire != LEGAL[kind]
    with pytest.raises((AssertionError, KeyError, ValidationError)):
        check_wire(wire)
