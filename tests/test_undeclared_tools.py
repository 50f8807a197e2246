"""Calls of hosted tools that are not there, or are cut: the model is told, and goes on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.invariants import check_events
from tests.mcp_rounds import LISTED, LISTING, REQUEST, SERVER, adds, hosted
from tests.rounds import (
    FUNCTION,
    Played,
    body_of,
    call,
    finds_pages,
    play,
    replayed,
    says,
    search,
    turn,
)
from tests.rounds import REQUEST as SEARCHING
from tests.test_rounds import tool_messages
from translator.common.hosted import Hosted, McpListing
from translator.common.mcp import named_function

NONE = "Not run: there is no such tool."
BAD = "Not run: the arguments are not a JSON object."


def cut(name: str) -> dict[str, Any]:
    """A call that stops in the middle of its arguments."""
    return {
        "id": "call_cut",
        "type": "function",
        "function": {"name": name, "arguments": '{"a": 1'},
    }


def told(found: Played) -> list[str]:
    """What the model is told in the second turn, which it answers."""
    assert found.response.status == "completed"
    assert found.kinds[-1] == "message"
    return tool_messages(found.bodies[1])


@pytest.mark.parametrize(
    ("name", "request_", "here"),
    [
        ("math__subtract", REQUEST, hosted()),
        ("math.subtract", {**REQUEST, "tools": [SERVER, FUNCTION]}, hosted()),
        ("mcp__math__subtract", {**REQUEST, "tools": [SERVER, FUNCTION]}, hosted()),
        ("math__write", {**REQUEST, "tools": [{**SERVER, "allowed_tools": ["add"]}, FUNCTION]}, hosted()),
        ("math__add", {**REQUEST, "tools": [SERVER, FUNCTION]}, hosted(McpListing((), LISTED, "It is down."))),
        ("subtract", REQUEST, hosted()),
    ],
)  # fmt: skip
def test_a_tool_that_a_server_does_not_have(name: str, request_: Any, here: Hosted) -> None:
    """No client could answer a function call of it; the calls beside it run."""
    calls = [call(name, "call_none", a=1, b=2)]
    found = play(request_, [turn(*calls), says("So.")], adds, hosted=here)
    assert told(found) == [NONE]
    assert not found.ran
    [failed] = [one for one in found.output if one["type"] == "mcp_call"]
    assert (failed["status"], failed["error"]["message"]) == ("failed", NONE)
    assert (failed["server_label"], failed["name"]) == (
        "math",
        name.rpartition("__")[2].rpartition(".")[2],
    )
    check_events(found.events)
    later = replayed(request_, found.output, {"role": "user", "content": "?"})
    messages = body_of(later, hosted=here)["messages"]
    assert messages[: len(found.bodies[1]["messages"])] == found.bodies[1]["messages"]


def test_a_name_that_no_search_has() -> None:
    found = play(
        SEARCHING, [turn(call("browse", "call_a", url="x"), search("b", "call_b")), says("So.")]
    )
    assert told(found)[0] == NONE
    assert [one.name for one in found.ran] == ["web_search"]
    failed, ran, *_ = [one for one in found.output if one["type"] == "web_search_call"]
    assert (failed["status"], ran["status"]) == ("failed", "completed")
    calls = found.bodies[1]["messages"][1]["tool_calls"]
    assert [one["function"]["name"] for one in calls] == ["browse", "web_search"]


@pytest.mark.parametrize(
    ("name", "tools"),
    [
        ("subtract", [SERVER, FUNCTION]),
        ("other__subtract", [SERVER, FUNCTION]),
        ("math__other", [SERVER, {"type": "namespace", "name": "math", "tools": [FUNCTION]}]),
    ],
)
def test_a_name_that_may_be_the_clients(name: str, tools: list[Any]) -> None:
    found = play({**REQUEST, "tools": tools}, [turn(call(name, a=1))], adds, hosted=hosted())
    assert found.kinds == ["mcp_list_tools", "function_call"]


def test_calls_of_tools_that_are_not_there_are_bounded() -> None:
    calls = [call("math__none", f"call_{number}", a=number) for number in range(100)]
    found = play(REQUEST, [turn(*calls), says("So.")], adds, hosted=hosted())
    assert len(told(found)) == 64


def test_the_server_that_a_name_means() -> None:
    labels = ["a", "a__b", "c-1"]
    found = [named_function(name, labels) for name in ("a__b__c", "a__c", "c-1/d", "a__", "d__a")]
    assert [one and (one.server, one.name) for one in found] == [
        ("a__b", "c"), ("a", "c"), ("c-1", "d"), None, None,
    ]  # fmt: skip


@pytest.mark.parametrize("finish", ["tool_calls", "stop"])
@pytest.mark.parametrize(("name", "request_"), [("math__add", REQUEST), ("web_search", SEARCHING)])
def test_arguments_that_stop_in_the_middle(name: str, request_: Any, finish: str) -> None:
    """The upstream says that the call is whole, so the model may make it again."""
    made = turn(cut(name), call(name, "call_b", a=1, b=2, query="x"), finish=finish)
    run = adds if request_ is REQUEST else finds_pages
    found = play(request_, [made, says("So.")], run, hosted=hosted())
    assert told(found)[0] == BAD
    for one in found.bodies[1]["messages"][1]["tool_calls"]:
        assert isinstance(json.loads(one["function"]["arguments"]), dict)  # as upstreams demand
    assert [one["status"] for one in found.output if one["type"].endswith("_call")] == [
        "failed", "completed",
    ]  # fmt: skip
    check_events(found.events)


def test_a_cut_call_of_the_client_is_a_failure_as_ever() -> None:
    request = {**REQUEST, "tools": [SERVER, FUNCTION]}
    found = play(request, [turn(cut("act"), cut("math__add"))], adds, hosted=hosted())
    assert found.response.status == "failed"


def test_a_listed_tool_is_run_beside_a_channel() -> None:
    """gpt-oss leaks it into the name."""
    found = play(
        REQUEST,
        [turn(call("math__add<|channel|>json", a=1, b=2)), says("3.")],
        adds,
        hosted=hosted(),
    )
    assert told(found) == ["3"]
    assert LISTING.tools[0].name == found.ran[0].name
