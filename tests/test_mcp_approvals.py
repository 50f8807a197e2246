"""Calls that wait for the client to approve: asked, answered, and told the model; without a store."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.invariants import check_events
from tests.mcp_rounds import ASKING, LISTING, REQUEST, SERVER, adds, hosted
from tests.rounds import FUNCTION, Played, body_of, call, play, replayed, says, turn
from tests.test_mcp_declarations import raws
from tests.test_rounds import kinds_of, tool_messages
from translator import InvalidRequest
from translator.common.hosted import Approved, HostedCall, McpListing
from translator.common.mcp import call_of, read_declarations
from translator.request.mcp_history import LOST, UNANSWERED, PendingCall, pending_calls
from translator.request.parse import parse_request

ASKED: dict[str, Any] = {**REQUEST, "tools": [ASKING]}
KNOWN = hosted(McpListing(LISTING.tools))


def add(call_id: str | None = None, a: int = 1, b: int = 2) -> dict[str, Any]:
    return call("math__add", call_id, a=a, b=b)


def asked(*turns: Any, request: dict[str, Any] = ASKED) -> Played:
    found = play(request, turns, adds, hosted=hosted())
    check_events(found.events)
    return found


def requests_in(output: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for one in output if one["type"] == "mcp_approval_request"]


def answer(request: dict[str, Any], approve: bool = True, **more: Any) -> dict[str, Any]:
    return {
        "type": "mcp_approval_response",
        "approval_request_id": request["id"],
        "approve": approve,
        **more,
    }


def pending(request: dict[str, Any]) -> list[PendingCall]:
    parsed = parse_request(json.dumps(request).encode())
    return pending_calls(parsed.request.input, ())[0]


def approved(request: dict[str, Any], run: Any = adds) -> tuple[Approved, ...]:
    """The calls that a request approves of, run."""
    return tuple(
        Approved(
            one.id,
            f"mcp_{index:024d}",
            one.server,
            one.name,
            one.arguments,
            run(HostedCall(0, "mcp", one.server, one.name, one.arguments)),
        )
        for index, one in enumerate(pending(request))
    )


def test_scenario_15_a_call_waits_where_nothing_is_said() -> None:
    found = asked(turn(add("call_a"), reasoning="Add."))
    assert found.ran == []
    [request] = requests_in(found.output)
    assert request == {
        "type": "mcp_approval_request",
        "id": request["id"],
        "server_label": "math",
        "name": "add",
        "arguments": '{"a": 1, "b": 2}',
    }
    assert request["id"].startswith("mcpr_")
    assert found.response.status == "completed"
    assert not [kind for kind in kinds_of(found) if kind.startswith("mcp_call")]


@pytest.mark.parametrize(
    ("rule", "asks"),
    [
        (None, {"add", "write"}),
        ("always", {"add", "write"}),
        ("never", set()),
        ({"never": {"read_only": True}}, {"write"}),
        ({"never": {"tool_names": ["write"]}}, {"add"}),
        ({"always": {"tool_names": ["write"]}}, {"add", "write"}),
        ({"always": {"tool_names": ["write"]}, "never": {"tool_names": ["add", "write"]}}, {"write"}),
        ({}, {"add", "write"}),
    ],
)  # fmt: skip
def test_the_rule_says_which_calls_wait(rule: Any, asks: set[str]) -> None:
    request = {**REQUEST, "tools": [{**SERVER, "require_approval": rule}]}
    found = asked(turn(add("a"), call("math__write", "b")), says("Hm."), request=request)
    assert {one["name"] for one in requests_in(found.output)} == asks
    assert {one.name for one in found.ran} == {"add", "write"} - asks


def without_items(output: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the AI SDK sends back without a store: sealed reasoning, and neither list nor request."""
    return [one for one in output if not one["type"].startswith("mcp_")]


def without_seals(output: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for one in output if one["type"] != "reasoning"]


@pytest.mark.parametrize("shape", [list, without_items, without_seals])
def test_scenario_16_an_approved_call_is_run_before_the_model_is_asked(shape: Any) -> None:
    first = asked(turn(add("call_a"), reasoning="Add."))
    [request] = requests_in(first.output)
    second = replayed(ASKED, shape(first.output), answer(request))
    [one] = pending(second)
    assert (one.server, one.name, one.arguments) == ("math", "add", '{"a": 1, "b": 2}')
    ran = approved(second)
    found = play(second, [says("It is 3.")], adds, hosted=hosted(McpListing(LISTING.tools), *ran))
    check_events(found.events)
    called = found.output[0]
    assert (called["type"], called["output"], called["status"]) == ("mcp_call", "3", "completed")
    assert called["approval_request_id"] == request["id"]
    assert found.kinds == ["mcp_call", "reasoning", "message"]
    assert tool_messages(found.bodies[0]) == ["3"]
    assert [one["role"] for one in found.bodies[0]["messages"]] == ["user", "assistant", "tool"]
    # the next turn has the same beginning, however it comes back, and runs nothing again
    question = {"role": "user", "content": "Sure?"}
    third = {**second, "input": [*second["input"], *shape(found.output), question]}
    assert pending(third) == []
    body = body_of(third, hosted=KNOWN)
    known = found.bodies[0]["messages"]
    assert body["messages"][: len(known)] == known


def test_scenario_17_the_model_is_told_of_a_denial_and_its_reason() -> None:
    first = asked(turn(add("call_a")))
    [request] = requests_in(first.output)
    second = replayed(ASKED, first.output, answer(request, approve=False, reason="Too dear."))
    assert pending(second) == []
    found = play(second, [says("Then not.")], adds, hosted=KNOWN)
    assert [kind for kind in found.kinds if kind.startswith("mcp")] == []
    assert tool_messages(found.bodies[0]) == [
        "Not run: the user did not approve of this call. Reason: Too dear."
    ]


def test_scenario_18_an_unknown_or_repeated_answer_is_refused() -> None:
    first = asked(turn(add("call_a")))
    [request] = requests_in(first.output)
    unknown = answer({"id": "mcpr_unknown"})
    with pytest.raises(
        InvalidRequest, match="No approval request with id 'mcpr_unknown'"
    ) as raised:
        pending(replayed(ASKED, [], unknown))
    assert raised.value.param == "input[1].approval_request_id"
    with pytest.raises(InvalidRequest, match="answered twice"):
        pending(replayed(ASKED, first.output, answer(request), answer(request)))


def test_scenario_19_of_two_calls_one_is_approved() -> None:
    first = asked(turn(add("call_a"), add("call_b", 5, 5)))
    one, two = requests_in(first.output)
    second = replayed(ASKED, first.output, answer(two))
    assert [call.id for call in pending(second)] == [two["id"]]
    found = play(
        second, [says("10.")], adds, hosted=hosted(McpListing(LISTING.tools), *approved(second))
    )
    assert tool_messages(found.bodies[0]) == [UNANSWERED, "10"]
    third = {**second, "input": [*second["input"], *found.output, answer(one)]}
    assert [call.id for call in pending(third)] == [one["id"]]
    body = body_of(third, hosted=hosted(McpListing(LISTING.tools), *approved(third)))
    assert tool_messages(body) == ["3", "10"]


def test_approvals_in_a_chain_of_turns() -> None:
    """The model asks again after each: every answer runs its own call alone."""
    request = ASKED
    for number in range(3):
        ran = approved(request) if number else ()
        found = play(
            request,
            [turn(add(f"call_{number}", number, 1))],
            adds,
            hosted=hosted(McpListing(LISTING.tools), *ran),
        )
        check_events(found.events)
        assert len(ran) == (1 if number else 0)
        assert tool_messages(found.bodies[0]) == [str(one + 1) for one in range(number)]
        [wanted] = requests_in(found.output)
        kept = without_items(found.output)
        request = {**request, "input": [*request["input"], *kept, answer(wanted)]}


def test_a_call_beside_one_that_waits_is_run() -> None:
    rule = {"never": {"tool_names": ["add"]}}
    request = {**REQUEST, "tools": [{**SERVER, "require_approval": rule}]}
    found = asked(turn(add("call_a"), call("math__write", "call_w", a=1)), request=request)
    assert [one.name for one in found.ran] == ["add"]
    assert len(found.bodies) == 1
    kinds = [kind for kind in found.kinds if kind != "reasoning"]
    assert kinds == ["mcp_list_tools", "mcp_call", "mcp_approval_request"]
    second = replayed(request, without_items(found.output))
    assert tool_messages(body_of(second, hosted=KNOWN)) == ["3", UNANSWERED]
    [wanted] = requests_in(found.output)
    second["input"].append(answer(wanted))
    assert [one.name for one in pending(second)] == ["write"]


def test_a_function_beside_a_call_that_waits() -> None:
    request = {**REQUEST, "tools": [ASKING, FUNCTION]}
    found = asked(turn(add("call_a"), call("act", "call_f")), request=request)
    [wanted] = requests_in(found.output)
    done = {"type": "function_call_output", "call_id": "call_f", "output": "done"}
    second = replayed(request, without_items(found.output), done, answer(wanted))
    body = body_of(second, hosted=hosted(McpListing(LISTING.tools), *approved(second)))
    assert sorted(tool_messages(body)) == ["3", "done"]
    [assistant] = [one for one in body["messages"] if one["role"] == "assistant"]
    assert [one["id"] for one in assistant["tool_calls"]] == ["call_a", "call_f"]


def test_an_approved_call_that_fails_is_told() -> None:
    first = asked(turn(call("math__write", "call_w", a=1)))
    [request] = requests_in(first.output)
    second = replayed(ASKED, first.output, answer(request))
    found = play(
        second, [says("Hm.")], adds, hosted=hosted(McpListing(LISTING.tools), *approved(second))
    )
    check_events(found.events)
    assert found.output[0]["error"]["code"] == 401
    assert tool_messages(found.bodies[0]) == ["The tool failed: The server answered with HTTP 401."]


def test_arguments_that_are_none_are_not_asked_about() -> None:
    bad = {"id": "x", "type": "function", "function": {"name": "math__add", "arguments": "[1]"}}
    found = asked(turn(bad), says("Sorry."))
    assert requests_in(found.output) == []
    [called] = [one for one in found.output if one["type"] == "mcp_call"]
    assert called["status"] == "failed"
    assert called["id"].startswith("mcp_")


def test_what_was_run_long_ago_is_not_run_again() -> None:
    """The client has dropped both the item and the seal of the response that has run it."""
    first = asked(turn(add("call_a")))
    [request] = requests_in(first.output)
    later = [
        answer(request),
        {"role": "assistant", "content": "3."},
        {"role": "user", "content": "?"},
    ]
    second = replayed(ASKED, first.output, *later)
    assert pending(second) == []
    assert tool_messages(body_of(second, hosted=KNOWN)) == [LOST]


def test_a_forged_seal_runs_nothing_without_an_answer() -> None:
    first = asked(turn(add("call_a")))
    assert pending(replayed(ASKED, first.output)) == []


def test_approvals_without_servers_here_are_left_out() -> None:
    given: list[dict[str, Any]] = [
        {"type": "mcp_approval_request", "id": "mcpr_1", "server_label": "math", "name": "add", "arguments": "{}"},
        {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True},
    ]  # fmt: skip
    found = play(replayed({**REQUEST, "tools": []}, given), [says("Hm.")], adds)
    assert found.translation is not None
    assert [one.code for one in found.translation.notices] == ["item_dropped"] * 2


def test_a_call_that_was_not_asked_about_is_replayed_once() -> None:
    """It is refused before, so its item is none of a request for approval; the seal has it, too."""
    function = {"name": "math__add", "arguments": "[]"}
    calls = turn({"id": "call_a", "type": "function", "function": function})
    played = asked(calls, says("So."))
    body = body_of(
        replayed(ASKED, played.output, {"role": "user", "content": "More?"}), hosted=hosted()
    )
    before = played.bodies[1]["messages"]
    assert body["messages"][: len(before)] == before
    assert sum(one["role"] == "tool" for one in body["messages"]) == 1


def test_what_the_program_has_kept_is_what_is_run() -> None:
    """Items and seals of the client may say anything of the call that it approves of."""
    output = asked(turn(add("call_a"), reasoning="R.")).output
    [request] = requests_in(output)
    shown = {**request, "arguments": '{"a": 8}', "name": "write"}
    given = raws(shown, answer(request))
    [call_], ran = pending_calls(given, raws(request))
    assert (call_.name, json.loads(call_.arguments), call_.kept) == ("add", {"a": 1, "b": 2}, True)
    assert (call_.target, ran) == ("", [])
    [call_], _ = pending_calls(given, raws(*output))  # with its seal
    [(_, declared)] = read_declarations(raws(ASKING))
    assert call_.target == declared.target != ""
    [call_], _ = pending_calls(given, ())
    assert (call_.name, call_.kept) == ("write", False)


@pytest.mark.parametrize(
    ("item", "read"),
    [
        ({"output": "3"}, "3"),
        ({"error": {"type": "http_error", "code": 500, "message": "No."}}, "The tool failed: No."),
    ],
)
def test_a_call_that_the_program_has_kept_is_not_run_again(item: Any, read: str) -> None:
    """The model reads its result, and no item shows it a second time."""
    output = asked(turn(add("call_a"), reasoning="R.")).output
    [request] = requests_in(output)
    kept = {"type": "mcp_call", "id": call_of(request["id"]), "name": "add", **item}
    kept |= {"server_label": "math", "approval_request_id": request["id"]}
    to_run, ran = pending_calls(raws(answer(request)), raws(request, kept))
    assert to_run == []
    again = replayed(ASKED, output, answer(request))
    here = hosted(McpListing(LISTING.tools), *ran)
    found = play(again, [says("So.")], adds, hosted=here)
    assert tool_messages(found.bodies[0]) == [read]
    assert "mcp_call" not in found.kinds
    assert found.translation is not None
    assert not found.translation.has_run


def test_a_response_with_an_approved_call_has_run() -> None:
    request = asked(turn(add("call_a"), reasoning="R."))
    [wanted] = requests_in(request.output)
    again = replayed(ASKED, request.output, answer(wanted))
    found = play(again, [says("So.")], adds, hosted=hosted(McpListing(()), *approved(again)))
    assert found.translation is not None
    assert found.translation.has_run


def test_what_stands_for_a_server() -> None:
    """Neither its secrets nor its label matter, but where it is."""

    def target(**more: Any) -> str:
        [(_, one)] = read_declarations(raws({**SERVER, **more}))
        return one.target

    other_secrets = "https://math.example/mcp?key=other"
    assert target() == target(server_url=other_secrets, server_label="other")
    urls = (SERVER["server_url"], "https://other.example/mcp", None)
    assert len({target(server_url=url) for url in urls}) == 3
    assert "math" not in target()


@pytest.mark.parametrize(
    ("rule", "trusts"),
    [
        (None, False),
        ("never", False),
        ({"never": {"tool_names": ["add"]}}, False),
        ({"never": {"read_only": True}}, True),
        ({"always": {"read_only": False}}, True),
    ],
)
def test_rules_that_trust_hints(rule: Any, *, trusts: bool) -> None:
    [(_, one)] = read_declarations(raws({**ASKING, "require_approval": rule}))
    assert one.trusts_hints is trusts
