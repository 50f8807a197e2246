"""What is run of the calls in rounds, in which order it is told, and what is left at an early end."""

from __future__ import annotations

import json
from typing import Any

import pytest

import translator
from tests.invariants import check_events
from tests.replaying import sse
from tests.rounds import (
    FUNCTION,
    REQUEST,
    SEARCH,
    Loop,
    body_of,
    call,
    found,
    play,
    replayed,
    says,
    search,
    turn,
)
from translator.common.hosted import Approved, Hosted, Outcome
from translator.request.store_context import StoreContext
from translator.rounds import MAX_REFUSED, MAX_SAME_CALLS
from translator.wire.errors import UpstreamError

MIXED = {**REQUEST, "tools": [SEARCH, FUNCTION]}
MORE = {"role": "user", "content": "More?"}


def shape_of(body: dict[str, Any]) -> list[tuple[str, int]]:
    return [(one["role"], len(one.get("tool_calls", ()))) for one in body["messages"]]


@pytest.mark.parametrize("dialect", sorted(translator.DIALECTS))
def test_calls_without_a_word_are_a_turn_each(dialect: str) -> None:
    """Calls of one round after the other are not parallel ones."""
    played = play(
        REQUEST, [turn(search("a")), turn(search("b")), turn(search("c")), says("So.")],
        dialect=dialect,
    )  # fmt: skip
    for before, after in zip(played.bodies, played.bodies[1:], strict=False):
        assert after["messages"][: len(before["messages"])] == before["messages"]
    last = [one for one in shape_of(played.bodies[-1]) if one[0] in ("assistant", "tool")]
    assert last == [("assistant", 1), ("tool", 0)] * 3


def test_a_call_without_a_word_is_no_part_of_the_clients_turn_before() -> None:
    """The input ends with the output of the client's own tool."""
    own = {"type": "function_call", "call_id": "f1", "name": "act", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "f1", "output": "done"}
    request = {**MIXED, "input": [*REQUEST["input"], own, output]}
    played = play(request, [turn(search("a")), turn(search("b")), says("So.")])
    expected = [("user", 0), *[("assistant", 1), ("tool", 0)] * 3]
    assert shape_of(played.bodies[2]) == expected
    body = body_of(replayed(request, played.output, MORE))
    assert body["messages"][:7] == played.bodies[2]["messages"]


@pytest.mark.parametrize("behind", [False, True])
def test_outputs_of_a_mixed_turn_stand_in_the_order_of_its_calls(behind: bool) -> None:
    played = play(MIXED, [turn(search("a"), call("act", x=1), search("b"))])
    acted = next(one for one in played.output if one["type"] == "function_call")
    output = {"type": "function_call_output", "call_id": acted["call_id"], "output": "done"}
    items = [*played.output, output]
    if not behind:
        at = items.index(acted) + 1
        items = [*items[:at], output, *items[at:-1]]
    asked, *told = body_of(replayed(MIXED, items))["messages"][1:]
    assert [one["tool_call_id"] for one in told] == [one["id"] for one in asked["tool_calls"]]
    assert told[1]["content"] == "done"


@pytest.mark.parametrize("dialect", ["base", "mistral", "gemini"])
def test_a_client_that_wants_no_tool_gets_none_run(dialect: str) -> None:
    """The upstream calls nevertheless."""
    request = {**REQUEST, "tool_choice": "none"}
    played = play(request, [turn(search("a"), text="So."), says("Never.")], dialect=dialect)
    check_events(played.events)
    assert (len(played.bodies), played.ran) == (1, [])
    assert played.kinds == ["message"]


def test_a_function_of_the_client_is_called_as_ever_where_it_wants_no_tool() -> None:
    played = play({**MIXED, "tool_choice": "none"}, [turn(call("act"), search("a"))])
    assert (played.kinds, played.ran) == (["function_call"], [])


def test_white_space_does_not_make_another_call() -> None:
    """Nor does the order of its arguments."""
    texts = ['{"query":"a","recency_days":1}', ' {"query": "a", "recency_days": 1}']
    texts += ['{"recency_days":1,"query":"a"}', '{"query":"a","recency_days":2}']
    calls = [
        {"id": None, "type": "function", "function": {"name": "web_search", "arguments": text}}
        for text in texts
    ]
    played = play(REQUEST, [*[turn(one) for one in calls], says("So.")])
    assert [one.arguments for one in played.ran] == [texts[0], texts[1], texts[3]]
    assert MAX_SAME_CALLS == 2


def test_the_last_call_that_may_be_made_is_followed_by_the_answer() -> None:
    """No turn is spent on a call that would be refused."""
    request = {**REQUEST, "max_tool_calls": 1}
    played = play(request, [turn(search("a")), says("So.")])
    assert [body.get("tool_choice") for body in played.bodies] == [None, "none"]
    assert played.kinds == ["web_search_call", "reasoning", "message"]


def test_the_clients_own_tools_may_be_called_behind_the_last_hosted_call() -> None:
    request = {**MIXED, "max_tool_calls": 1}
    played = play(request, [turn(search("a")), turn(call("act"))])
    assert "tool_choice" not in played.bodies[1]
    assert played.kinds == ["web_search_call", "reasoning", "function_call"]


def test_a_turn_of_thousands_of_calls_costs_little() -> None:
    calls = [search(f"q{number}", f"c{number}") for number in range(3000)]
    played = play(REQUEST, [turn(*calls), says("So.")], hosted=Hosted(max_calls=3))
    final = check_events(played.events)
    assert (final["status"], len(played.ran)) == ("completed", 3)
    assert len(played.output) == 3 + MAX_REFUSED + 2
    asked, *told = played.bodies[1]["messages"][1:]
    assert len(asked["tool_calls"]) == len(told) == 3 + MAX_REFUSED
    assert played.bodies[1]["tool_choice"] == "none"


def test_calls_that_are_never_right_come_to_an_end() -> None:
    """What is refused has a bound over all rounds, too."""
    turns = [turn(*[call("web_search")] * 20)] * 10
    played = play(REQUEST, turns)
    check_events(played.events)
    failed = [one for one in played.output if one.get("status") == "failed"]
    assert (len(failed), len(played.bodies)) == (MAX_REFUSED, 5)
    assert played.bodies[4]["tool_choice"] == "none"


def test_a_failed_round_is_taken_back_before_another_attempt() -> None:
    """What its end held stands in the response once."""
    loop = Loop({**REQUEST, "store": True}, store=StoreContext(keeps=True))
    first = loop.translation()
    events = first.receive(sse(*turn(search("a")))) + first.ran(0, found(1))
    assert first.rounds is not None
    failed = loop.translation(first.rounds)
    lost = failed.close(UpstreamError("It broke."))
    assert len(failed.response.output) == 2
    assert len(lost) == 4  # the item, added and done; error and failed
    assert not failed.produced
    again = loop.translation(first.rounds)
    events += again.receive(sse(*says("So."))) + again.close()
    final = check_events(events)
    assert [item["type"] for item in final["output"]] == ["web_search_call", "reasoning", "message"]
    assert len(again.kept_output) == 3


def test_what_a_failed_round_has_announced_stays() -> None:
    """Its results are in the item that was whole before the message which broke off."""
    loop = Loop(REQUEST)
    first = loop.translation()
    first.receive(sse(*turn(search("a"))))
    first.ran(0, found(1))
    failed = loop.translation(first.rounds)
    failed.receive(sse(*says("So.")[:1]))
    lost = failed.close(UpstreamError("It broke."))
    assert len(lost) == 2
    assert failed.produced
    assert len(failed.response.output) == 2
    assert len(loop.translation(first.rounds).response.output) == 2


@pytest.mark.parametrize(
    "begun", [turn()[:0], turn(reasoning="Hm.")[:1], turn(search("b"))[:1], None]
)
def test_what_ran_is_kept_of_a_response_that_is_left(begun: list[Any] | None) -> None:
    """Before the next round has begun, within its reasoning or call, and while tools run."""
    loop = Loop(REQUEST)
    translation = loop.translation()
    calls = [search("a")] if begun is not None else [search("a"), search("b")]
    translation.receive(sse(*turn(*calls)))
    translation.ran(0, found(1))
    if begun is not None:
        translation = loop.translation(translation.rounds)
        data = sse(*begun)
        translation.receive(data)
    translation.seal_results()
    output = [
        json.loads(translator.encode_json(translation.response))["output"][index]
        for index in range(len(translation.response.output))
    ]
    assert [one["type"] for one in output] == ["web_search_call", "reasoning"]
    messages = body_of(replayed(REQUEST, output, MORE))["messages"]
    assert [one["role"] for one in messages] == ["user", "assistant", "tool", "user"]
    assert "Page 1" in messages[2]["content"]
    assert translation.seal_results() == []


def test_nothing_is_sealed_of_a_response_that_is_over_or_has_no_rounds() -> None:
    played = play(REQUEST, [says("So.")])
    assert played.translation is not None
    assert played.translation.seal_results() == []
    plain = Loop({**REQUEST, "tools": []}).translation()
    plain.start()
    assert plain.seal_results() == []


@pytest.mark.parametrize(("store", "size"), [(False, 40), (True, 90)])
def test_results_of_approved_calls_are_bounded_as_all_are(store: bool, size: int) -> None:
    approved = Approved("mcpr_1", "mcp_1", "s", "t", "{}", Outcome(("猫" * 100,)))
    hosted = Hosted(approved=(approved,), max_result_bytes=90, max_sealed_bytes=40)
    [short] = hosted.with_short_approved(seals=not store).approved
    assert size - 3 < len(short.output.encode()) <= size
    assert Hosted().with_short_approved(seals=True) == Hosted()
