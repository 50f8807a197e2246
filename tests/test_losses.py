"""Losses of an answer: each call that the response does not have is counted by a notice."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given

from tests.replaying import sse
from tests.rounds import (
    FUNCTION,
    REQUEST,
    SEARCH,
    Loop,
    Played,
    call,
    found,
    play,
    says,
    search,
    turn,
)
from tests.test_round_properties import Script, scripts
from translator.common.hosted import Hosted
from translator.rounds import MAX_REFUSED
from translator.wire.errors import UpstreamError

ITEMS = ("web_search_call", "mcp_call", "mcp_approval_request", "function_call")
OTHER = {**FUNCTION, "name": "look"}
PLAIN: dict[str, Any] = {**REQUEST, "tools": [FUNCTION, OTHER]}
ALLOWED = {
    "type": "allowed_tools",
    "mode": "auto",
    "tools": [{"type": "function", "name": "act"}],
}
BOTH = [call("act", x=1), call("look"), call("look", x=2)]


def lost(played: Played) -> dict[str, int]:
    """How many calls were left out, by the path of the notice."""
    assert played.translation is not None
    notices = played.translation.answer_notices
    assert {one.code for one in notices} <= {"call_dropped"}
    return {one.path: int(re.findall(r"\d+", one.message)[-1]) for one in notices}


@pytest.mark.parametrize(
    ("more", "turns", "expected"),
    [
        ({}, [turn(*BOTH)], {}),
        ({"parallel_tool_calls": False}, [turn(*BOTH)], {"parallel_tool_calls": 2}),
        ({"tool_choice": "none"}, [turn(*BOTH, text="So.")], {}),
        ({"tool_choice": ALLOWED}, [turn(*BOTH)], {"tool_choice": 2}),
        ({"tools": [SEARCH], "tool_choice": "none"}, [turn(search("a"))], {"tool_choice": 1}),
    ],
)
def test_calls_that_may_not_be_made_are_counted(
    more: dict[str, Any], turns: list[Any], expected: dict[str, int]
) -> None:
    assert lost(play({**PLAIN, **more}, turns)) == expected


def test_arguments_in_parts_are_one_call() -> None:
    def part(function: dict[str, Any]) -> dict[str, Any]:
        delta = {"tool_calls": [{"index": 0, "function": function}]}
        return {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}

    parts = [part({"arguments": text}) for text in ('{"a', '":', "1}")]
    *_, end = turn(call("look"))
    request = {**PLAIN, "tool_choice": ALLOWED}
    assert lost(play(request, [[part({"name": "look"}), *parts, end]])) == {"tool_choice": 1}


def test_a_call_whose_name_shows_late_that_it_is_allowed_is_not_counted() -> None:
    """Its name came in parts, and something else began between them."""
    one = {"index": 0, "id": "a", "function": {"name": "ac", "arguments": ""}}
    two = {"index": 1, "id": "b", "function": {"name": "act", "arguments": "{}"}}
    rest = {"index": 0, "function": {"name": "t", "arguments": "{}"}}
    payloads = [
        {"choices": [{"index": 0, "delta": {"tool_calls": [call_]}, "finish_reason": None}]}
        for call_ in (one, two, rest)
    ]
    *_, end = turn(call("look"))
    played = play({**PLAIN, "tool_choice": ALLOWED}, [[*payloads, end]])
    assert (played.kinds, lost(played)) == (["function_call", "function_call"], {})


def test_calls_of_a_turn_without_tools_and_beyond_all_bounds_are_counted() -> None:
    request = {**REQUEST, "max_tool_calls": 1}
    assert lost(play(request, [turn(search("a")), turn(search("b"), text="So.")])) == {"tools": 1}
    calls = [search(f"q{number}", f"c{number}") for number in range(3 + MAX_REFUSED + 9)]
    assert lost(play(REQUEST, [turn(*calls), says("So.")], hosted=Hosted(max_calls=3))) == {
        "tools": 9
    }


def test_calls_of_an_attempt_that_failed_are_not_counted() -> None:
    loop = Loop({**REQUEST, "max_tool_calls": 1})
    first = loop.translation()
    first.receive(sse(*turn(search("a"))))
    first.ran(0, found(1))
    failed = loop.translation(first.rounds)
    failed.receive(sse(*turn(search("b"))[:1]))
    assert len(failed.answer_notices) == 1
    failed.close(UpstreamError("It broke."))
    again = loop.translation(first.rounds)
    again.receive(sse(*says("So.")))
    again.close()
    assert again.finished
    assert again.answer_notices == ()


def test_before_the_answer_nothing_is_lost_of_it() -> None:
    assert Loop(PLAIN).translation().answer_notices == ()


@given(scripts())
def test_each_call_is_in_the_response_or_counted(script: Script) -> None:
    """H18: nothing is lost silently, whatever the bounds."""
    played = script.play()
    if played.response.status == "failed":  # at a call that was cut
        return
    made = sum(
        len(choice["delta"].get("tool_calls", ()))
        for one in script.turns[: len(played.bodies)]
        for payload in one
        if isinstance(payload, dict)
        for choice in payload["choices"]
    )
    shown = sum(item["type"] in ITEMS for item in played.output)
    assert made == shown + sum(lost(played).values())
