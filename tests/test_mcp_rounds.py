"""Responses with tools of MCP servers: lists, calls, failures and choices, scenario by scenario."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw

import translator
from tests.invariants import check_events
from tests.mcp_rounds import (
    ADD,
    ASKING,
    LISTED,
    LISTING,
    REQUEST,
    SCHEMA,
    SERVER,
    adds,
    hosted,
    tool,
)
from tests.rounds import FUNCTION, Played, body_of, call, play, replayed, says, search, turn
from tests.test_rounds import kinds_of, tool_messages
from translator import InvalidRequest
from translator.common.hosted import Hosted, HostedCall, McpListing, Outcome


def add(call_id: str | None = None, a: int = 1, b: int = 2) -> dict[str, Any]:
    return call("math__add", call_id, a=a, b=b)


def played(*turns: Any, request: dict[str, Any] = REQUEST, **more: Any) -> Played:
    more.setdefault("hosted", hosted())
    found = play(request, turns, more.pop("run", adds), **more)
    final = check_events(found.events)
    if found.response.status != "failed":
        assert final["output"] == found.output  # H2
    assert "planted" not in str(found.events)
    return found


def test_a_tool_is_listed_called_and_the_response_goes_on() -> None:
    """1, 2."""
    found = played(turn(add("call_a")), says("It is 3."))
    listed, called, _, message = found.output
    assert listed == {
        "type": "mcp_list_tools",
        "id": LISTED,
        "server_label": "math",
        "tools": [
            {"name": "add", "input_schema": SCHEMA, "description": "Add two numbers.", "annotations": {"read_only": True}},
            {"name": "write", "input_schema": SCHEMA},
        ],
    }  # fmt: skip
    assert called == {
        "type": "mcp_call",
        "id": called["id"],
        "status": "completed",
        "server_label": "math",
        "name": "add",
        "arguments": '{"a": 1, "b": 2}',
        "approval_request_id": None,
        "output": "3",
        "error": None,
    }
    assert called["id"].startswith("mcp_")
    assert message["content"][0]["text"] == "It is 3."
    assert kinds_of(found)[:13] == [
        *("created", "in_progress", "output_item.added", "mcp_list_tools.in_progress"),
        *("mcp_list_tools.completed", "output_item.done", "output_item.added"),
        *("mcp_call.in_progress", "mcp_call_arguments.delta", "mcp_call_arguments.done"),
        *("mcp_call.completed", "output_item.done", "output_item.added"),
    ]
    assert len(found.bodies) == 2
    assert tool_messages(found.bodies[1]) == ["3"]
    assert [one.server for one in found.ran] == ["math"]


def test_what_is_announced_of_a_list_and_a_call() -> None:
    """2: a list without tools, and a call without arguments."""
    found = played(turn(add()), says("3."))
    added = [json.loads(translator.encode_json(one))["item"] for one in found.events if type(one).__name__ == "OutputItemAdded"]  # fmt: skip
    assert added[0] == {
        "type": "mcp_list_tools",
        "id": LISTED,
        "server_label": "math",
        "tools": [],
    }
    assert (added[1]["status"], added[1]["arguments"], added[1]["output"]) == (
        "in_progress",
        "",
        None,
    )


def test_a_reasoning_model_reasons_before_each_round() -> None:
    """4."""
    found = played(turn(add(), reasoning="Add."), says("3.", reasoning="So."))
    assert found.kinds == ["mcp_list_tools", "reasoning", "mcp_call", "reasoning", "message"]


@pytest.mark.parametrize("backwards", [False, True])
def test_two_calls_are_items_in_their_order(backwards: bool) -> None:
    """5."""
    found = played(turn(add("a"), add("b", 5, 5)), says("3 and 10."), backwards=backwards)
    assert [one["output"] for one in found.output if one["type"] == "mcp_call"] == ["3", "10"]
    assert tool_messages(found.bodies[1]) == ["3", "10"]


MIXED = {**REQUEST, "tools": [SERVER, FUNCTION]}
ACTED: dict[str, Any] = {"type": "function_call_output", "call_id": "call_f", "output": "done"}


def test_a_call_beside_one_of_the_clients_own() -> None:
    """6: the response is over; the next request goes on from both results."""
    found = played(turn(add("call_m"), call("act", "call_f")), request=MIXED)
    assert [kind for kind in found.kinds if kind != "reasoning"] == [
        "mcp_list_tools",
        "mcp_call",
        "function_call",
    ]
    body = body_of(replayed(MIXED, found.output, ACTED), hosted=hosted(McpListing(LISTING.tools)))
    assistant, *results = body["messages"][1:]
    assert [one["id"] for one in assistant["tool_calls"]] == ["call_m", "call_f"]
    assert {one["tool_call_id"]: one["content"] for one in results} == {
        "call_m": "3",
        "call_f": "done",
    }


def test_a_seal_may_stand_behind_the_outputs_of_functions() -> None:
    """As in a client that puts an output directly behind its call."""
    found = played(turn(add("call_m"), call("act", "call_f")), request=MIXED)
    *before, seal = found.output
    assert seal["type"] == "reasoning"
    listed = hosted(McpListing(LISTING.tools))
    moved = body_of(replayed(MIXED, [*before, ACTED, seal]), hosted=listed)
    [assistant] = [one for one in moved["messages"] if one["role"] == "assistant"]
    assert [one["id"] for one in assistant["tool_calls"]] == ["call_m", "call_f"]
    assert sorted(tool_messages(moved)) == ["3", "done"]


def test_the_seal_is_enough_where_items_are_dropped() -> None:
    """7: the same body as with the items."""
    found = played(turn(add("call_m"), call("act", "call_f")), request=MIXED)
    kept = [one for one in found.output if not one["type"].startswith("mcp_")]
    listed = hosted(McpListing(LISTING.tools))
    assert body_of(replayed(MIXED, kept, ACTED), hosted=listed) == body_of(replayed(MIXED, found.output, ACTED), hosted=listed)  # fmt: skip


def test_the_items_are_enough_where_seals_are_dropped() -> None:
    """The same but for the ids of calls, which items of hosted tools do not have."""
    found = played(turn(add("call_m")), says("3."))
    kept = [one for one in found.output if one["type"] != "reasoning"]
    question = {"role": "user", "content": "Sure?"}
    listed = hosted(McpListing(LISTING.tools))
    without = body_of(replayed(REQUEST, kept, question), hosted=listed)["messages"]
    whole = body_of(replayed(REQUEST, found.output, question), hosted=listed)["messages"]
    assert json.dumps(without).replace(found.output[1]["id"], "call_m") == json.dumps(whole)


def test_the_replay_is_what_the_next_round_had() -> None:
    """H4, H5."""
    found = played(turn(add("a")), turn(add("b", 2, 2)), says("7."))
    first, second, third = (one["messages"] for one in found.bodies)
    assert second[: len(first)] == first
    assert third[: len(second)] == second
    body = body_of(replayed(REQUEST, found.output, {"role": "user", "content": "?"}), hosted=hosted(McpListing(LISTING.tools)))  # fmt: skip
    assert body["messages"][: len(third)] == third


def test_without_seal_and_items_nothing_is_made_up() -> None:
    """8."""
    found = played(turn(add("call_m"), call("act", "call_f")), request=MIXED)
    kept = [one for one in found.output if one["type"] == "function_call"]
    body = body_of(replayed(MIXED, kept, ACTED), hosted=hosted(McpListing(LISTING.tools)))
    assert [one["function"]["name"] for one in body["messages"][1]["tool_calls"]] == ["act"]


def test_a_failure_is_told_the_model_and_the_client() -> None:
    """10, H9."""
    found = played(turn(call("math__write", a=1)), says("It failed."))
    called = found.output[1]
    assert (called["status"], called["output"]) == ("failed", None)
    assert called["error"] == {
        "type": "http_error",
        "code": 401,
        "message": "The server answered with HTTP 401.",
    }
    assert "mcp_call.failed" in kinds_of(found)
    assert "mcp_call.completed" not in kinds_of(found)
    assert tool_messages(found.bodies[1]) == ["The tool failed: The server answered with HTTP 401."]
    assert found.response.status == "completed"


def test_a_tool_that_says_it_failed() -> None:
    """9."""
    content = [{"type": "text", "text": "no way"}]

    def fails(_call: HostedCall) -> Outcome:
        error = {"type": "mcp_tool_execution_error", "content": content}
        return Outcome(("no way",), failed=True, error=Raw(json.dumps(error).encode()))

    found = played(turn(add()), says("So."), run=fails)
    assert found.output[1]["error"] == {"type": "mcp_tool_execution_error", "content": content}
    body = body_of(
        replayed(REQUEST, [one for one in found.output if one["type"] != "reasoning"]),
        hosted=hosted(McpListing(LISTING.tools)),
    )
    assert tool_messages(body) == tool_messages(found.bodies[1]) == ["no way"]


@pytest.mark.parametrize("arguments", ["nonsense", "[1]"])
def test_arguments_that_are_none_are_not_sent(arguments: str) -> None:
    """H7."""
    bad = {"id": "x", "type": "function", "function": {"name": "math__add", "arguments": arguments}}
    found = played(turn(bad), says("Sorry."))
    assert found.ran == []
    assert found.output[1]["error"]["type"] == "mcp_protocol_error"
    assert found.output[1]["error"]["code"] == -32000
    assert tool_messages(found.bodies[1]) == [found.output[1]["error"]["message"]]


def test_a_large_result_is_cut_alike_for_model_and_client() -> None:
    """12."""

    def much(_call: HostedCall) -> Outcome:
        return Outcome(("x" * 5_000_000,))

    found = played(turn(add()), says("Much."), run=much)
    output = found.output[1]["output"]
    assert output == tool_messages(found.bodies[1])[0]
    assert len(output) == 64 * 1024  # or a later response would begin with less
    assert output.endswith("[cut: 5.0 MB in all]")


@pytest.mark.parametrize(
    ("allowed", "names"),
    [
        (None, ["add", "write"]),
        (["add"], ["add"]),
        ([], []),
        ({"tool_names": ["write", "other"]}, ["write"]),
        ({"read_only": True}, ["add"]),
        ({"read_only": False}, ["write"]),
        ({"tool_names": ["write"], "read_only": True}, []),
    ],
)
def test_only_allowed_tools_are_declared_and_listed(allowed: Any, names: list[str]) -> None:
    """14."""
    request = {**REQUEST, "tools": [{**SERVER, "allowed_tools": allowed}]}
    found = played(says("Hm."), request=request)
    declared = found.bodies[0].get("tools", [])
    assert [one["function"]["name"] for one in declared] == [f"math__{name}" for name in names]
    if names:
        assert [one["name"] for one in found.output[0]["tools"]] == names


def test_a_label_shadows_no_function_of_the_client() -> None:
    own = {**FUNCTION, "name": "math__add"}
    names = [
        one["function"]["name"]
        for one in body_of({**REQUEST, "tools": [SERVER, own]}, hosted=hosted())["tools"]
    ]
    assert names[0] == "math__add"
    assert names[1] not in ("math__add", "math__write")
    assert names[2] == "math__write"
    found = played(turn(add()), request={**REQUEST, "tools": [SERVER, own]})
    assert found.kinds[-1] == "function_call"


def test_the_servers_description_stands_before_that_of_its_first_tool() -> None:
    request = {**REQUEST, "tools": [{**SERVER, "server_description": "A calculator."}]}
    first, second = body_of(request, hosted=hosted())["tools"]
    assert first["function"]["description"] == "A calculator.\n\nAdd two numbers."
    assert second["function"].get("description", "") == ""


@pytest.mark.parametrize(
    ("tools", "param"),
    [
        ([SERVER, {**SERVER, "server_url": "https://other.example"}], "tools[1].server_label"),
        ([{**SERVER, "connector_id": "connector_gmail"}], "tools[0]"),
        ([{**ASKING, "server_url": None, "connector_id": "connector_gmail"}], "tools[0].connector_id"),
        ([{**ASKING, "server_url": None, "tunnel_id": "t"}], "tools[0].tunnel_id"),
        ([{"type": "mcp", "server_url": "https://math.example"}], "tools[0].server_label"),
        ([{**SERVER, "server_label": "a b"}], "tools[0].server_label"),
        ([{**SERVER, "server_label": ""}], "tools[0].server_label"),
        ([{**SERVER, "server_label": "x" * 65}], "tools[0].server_label"),
        ([{**SERVER, "authorization": "planted\n"}], "tools[0].authorization"),
        ([{**SERVER, "headers": {"Host": "planted"}}], "tools[0].headers"),
        ([{**SERVER, "headers": {"Mcp-Session-Id": "planted"}}], "tools[0].headers"),
        ([{**SERVER, "headers": {"a b": "planted"}}], "tools[0].headers"),
        ([{**SERVER, "headers": {"a": "planted\r\nb: c"}}], "tools[0].headers"),
        ([{**SERVER, "require_approval": "sometimes"}], "tools[0].require_approval"),
        ([{**SERVER, "allowed_tools": "add"}], "tools[0].allowed_tools"),
    ],
)  # fmt: skip
def test_a_faulty_declaration_is_refused_with_its_path(tools: Any, param: str) -> None:
    """20."""
    with pytest.raises(InvalidRequest) as raised:
        body_of({**REQUEST, "tools": tools}, hosted=hosted())
    assert raised.value.param == param
    assert "planted" not in raised.value.message


def test_what_is_not_done_is_noticed() -> None:
    """22, H18."""
    request = {
        **REQUEST,
        "tools": [{**SERVER, "defer_loading": True, "allowed_callers": ["direct"], "new": 1}],
    }
    listing = McpListing((ADD,), left_out=172, unusable="'odd' (why)")
    found = played(says("Hm."), request=request, hosted=hosted(listing))
    assert found.translation is not None
    assert [(one.path, one.code) for one in found.translation.notices] == [
        ("tools[0].defer_loading", "ignored"),
        ("tools[0].allowed_callers", "ignored"),
        ("tools[0].new", "ignored"),
        ("tools[0]", "tool_dropped"),
        ("tools[0]", "tool_dropped"),
    ]
    assert "172" in found.translation.notices[-2].message
    assert "'odd' (why)" in found.translation.notices[-1].message


def test_a_list_that_could_not_be_had_is_an_item() -> None:
    found = played(says("Hm."), hosted=hosted(McpListing((), LISTED, "The server is away.")))
    assert found.output[0]["error"] == "The server is away."
    assert kinds_of(found)[3:6] == [
        "mcp_list_tools.in_progress",
        "mcp_list_tools.failed",
        "output_item.done",
    ]
    assert "tools" not in found.bodies[0]


def test_a_list_that_the_client_has_is_no_item() -> None:
    """21."""
    found = played(turn(add()), says("3."), hosted=hosted(McpListing(LISTING.tools)))
    assert found.kinds == ["mcp_call", "reasoning", "message"]


@pytest.mark.parametrize(
    ("choice", "first"),
    [
        ({"type": "mcp", "server_label": "math", "name": "add"}, {"type": "function", "function": {"name": "math__add"}}),
        ({"type": "mcp", "server_label": "math"}, "required"),
        ("required", "required"),
    ],
)  # fmt: skip
def test_a_forced_tool_is_forced_once(choice: Any, first: Any) -> None:
    """23."""
    request = {**REQUEST, "tools": [SERVER, FUNCTION], "tool_choice": choice}
    found = played(turn(add()), says("3."), request=request)
    assert [body["tool_choice"] for body in found.bodies] == [first, "auto"]
    if choice == {"type": "mcp", "server_label": "math"}:
        names = [one["function"]["name"] for one in found.bodies[0]["tools"]]
        assert names == ["math__add", "math__write"]


@pytest.mark.parametrize(
    "choice",
    [
        {"type": "mcp", "server_label": "other"},
        {"type": "mcp"},
        {"type": "mcp", "server_label": "math", "name": "other"},
        {
            "type": "allowed_tools",
            "mode": "auto",
            "tools": [{"type": "mcp", "server_label": "other"}],
        },
    ],
)
def test_a_choice_of_what_is_not_declared_is_refused(choice: Any) -> None:
    with pytest.raises(InvalidRequest, match="not found in 'tools' parameter"):
        body_of({**REQUEST, "tool_choice": choice}, hosted=hosted())


def test_allowed_tools_may_name_a_server() -> None:
    allowed = {
        "type": "allowed_tools",
        "mode": "auto",
        "tools": [{"type": "mcp", "server_label": "math"}],
    }
    request = {**REQUEST, "tools": [SERVER, FUNCTION], "tool_choice": allowed}
    names = [one["function"]["name"] for one in body_of(request, hosted=hosted())["tools"]]
    assert names == ["math__add", "math__write"]


def test_the_limit_of_calls_counts_tools_of_servers() -> None:
    """24."""
    found = played(
        turn(add("a"), add("b", 2, 2), add("c", 3, 3)),
        says("3."),
        request={**REQUEST, "max_tool_calls": 1},
    )
    assert len(found.ran) == 1
    assert found.bodies[1]["tool_choice"] == "none"
    assert [one["status"] for one in found.output if one["type"] == "mcp_call"] == [
        "completed",
        "failed",
        "failed",
    ]


def test_a_cut_call_is_not_run() -> None:
    """26."""
    found = played(turn(add(), finish="length"))
    assert found.ran == []
    assert found.output[-1]["status"] == "incomplete"
    assert found.response.status == "incomplete"


def test_a_search_and_a_server_in_one_turn() -> None:
    request = {**REQUEST, "tools": [SERVER, {"type": "web_search"}]}

    def run(one: HostedCall) -> Outcome:
        return adds(one) if one.kind == "mcp" else Outcome(("Nothing.",))

    found = played(turn(search("x", "s"), add("m")), says("So."), request=request, run=run)
    assert found.kinds == ["mcp_list_tools", "web_search_call", "mcp_call", "reasoning", "message"]
    body = body_of(replayed(request, found.output), hosted=hosted(McpListing(LISTING.tools)))
    assert tool_messages(body) == tool_messages(found.bodies[1])


def test_without_servers_here_nothing_is_different() -> None:
    """H3."""
    for given in (None, Hosted()):
        body = body_of(REQUEST, **({} if given is None else {"hosted": given}))
        assert "tools" not in body


def test_odd_items_of_clients_are_taken() -> None:
    """39: the nulls of openai-agents."""
    given = [
        {"type": "mcp_list_tools", "id": LISTED, "server_label": "math", "error": None, "tools": [{"name": "add", "input_schema": {}, "annotations": None, "description": None}]},
        {"type": "mcp_call", "id": "mcp_1", "name": "add", "server_label": "math", "arguments": "{}", "output": "3", "error": None, "status": "completed", "approval_request_id": None},
        {"type": "mcp_call", "id": "mcp_2", "name": "add", "server_label": "gone", "arguments": "{}", "output": "4"},
        {"type": "mcp_call", "name": "add", "server_label": "math", "error": {"type": "http_error", "code": 500, "message": "HTTP 500"}},
        {"type": "mcp_call", "name": "add", "server_label": "math", "error": "words"},
        {"type": "mcp_call", "name": "add", "server_label": "math"},
    ]  # fmt: skip
    body = body_of(replayed(REQUEST, given), hosted=hosted(McpListing(LISTING.tools)))
    assert tool_messages(body) == [
        "3",
        "The tool failed: HTTP 500",
        "The tool failed: words",
        "The tool failed.",
    ]
    assert "[called gone.add with {}]\n[result: 4]" in json.dumps(body["messages"]).replace(
        "\\n", "\n"
    )


def test_the_hint_of_a_tool_that_writes() -> None:
    listing = McpListing((tool("remove", read_only=False),), LISTED)
    found = played(says("Hm."), hosted=hosted(listing))
    assert found.output[0]["tools"][0]["annotations"] == {"read_only": False}
