"""What fits into a seal: results are bounded by it, and whatever does not fit is a notice."""

from __future__ import annotations

import json
import string
from random import Random
from typing import Any

import pytest

from tests.mcp_rounds import LISTING, hosted
from tests.mcp_rounds import REQUEST as MCP_REQUEST
from tests.rounds import REQUEST, Played, body_of, call, play, replayed, says, search, turn
from translator import encode_json
from translator.common.hosted import Approved, Hosted, Outcome
from translator.common.sealed import MAX_REASONING_BYTES, unseal
from translator.request.store_context import StoreContext

MIB = 1024 * 1024
LARGE: dict[str, Any] = {
    "max_result_bytes": 8 * MIB,
    "max_results_bytes": 64 * MIB,
    "max_sealed_bytes": 8 * MIB,
}
MORE = {"role": "user", "content": "More?"}
STORED = {**REQUEST, "store": True}
ROUND = turn(search("a", "c0"), search("b", "c1"), search("c", "c2"))


def finds(text: str) -> Any:
    return lambda _call: Outcome((text,))


def codes(played: Played) -> list[str]:
    assert played.translation is not None
    return [one.code for one in played.translation.answer_notices]


def told(played: Played) -> list[str]:
    return [one["content"] for one in played.bodies[1]["messages"] if one["role"] == "tool"]


@pytest.mark.parametrize(
    "text", ["x" * 2 * MIB, '"' * 2 * MIB, "猫" * MIB], ids=["x", "quote", "cat"]
)
@pytest.mark.parametrize("reasoning", ["", "Hm."])
def test_results_of_a_round_fit_into_its_seal(text: str, reasoning: str) -> None:
    """The model reads no more of them, so that the next request begins with the same."""
    turns = [ROUND, says("So.", reasoning=reasoning)]
    played = play(REQUEST, turns, finds(text), hosted=Hosted(**LARGE))
    assert codes(played) == []
    assert len(json.dumps(told(played), ensure_ascii=False).encode()) > 2.9 * MIB
    assert told(played)[2].startswith("No room is left")
    again = body_of(replayed(REQUEST, played.output, MORE), hosted=Hosted(**LARGE))
    before = played.bodies[1]["messages"]
    assert again["messages"][: len(before)] == before


def test_results_that_nobody_keeps_are_not_bounded_by_a_seal() -> None:
    played = play(STORED, [ROUND, says("So.")], finds("x" * 2 * MIB), hosted=Hosted(**LARGE))
    assert [len(one) for one in told(played)] == [2 * MIB] * 3


@pytest.mark.parametrize("limit", [200_000, 1_000_000])
def test_items_fit_into_the_store(limit: int) -> None:
    context = StoreContext(keeps=True, max_item_bytes=limit)
    request = {**MCP_REQUEST, "store": True}
    # which a seal cannot make much shorter
    noise = "".join(Random(1).choices(string.ascii_letters + string.digits, k=MIB))
    calls = turn(*[call("math__add", f"c{number}", a=number, b=1) for number in range(3)])
    played = play(
        request, [calls, says("So.")], finds(noise), hosted=hosted(LISTING, **LARGE), store=context
    )
    assert played.translation is not None
    sizes = [len(encode_json(one)) for one in played.translation.kept_output]
    assert limit // 3 < max(sizes) <= limit
    assert codes(played) == []


def test_arguments_that_are_too_large_for_a_seal_are_a_notice() -> None:
    """They are not run, but the next round has them; and reasoning is sealed all the same."""
    calls = [search("q" * MIB + str(number), f"c{number}") for number in range(5)]
    played = play(REQUEST, [turn(*calls), says("So.", reasoning="Hm.")])
    assert codes(played) == ["results_dropped"]
    [blob] = [one["encrypted_content"] for one in played.output if one["type"] == "reasoning"]
    thought = unseal(blob)
    assert thought is not None
    assert thought.text == "Hm."


def test_reasoning_that_is_too_large_for_a_seal_is_a_notice() -> None:
    reasoning = "x" * MAX_REASONING_BYTES
    plain = play({**REQUEST, "tools": []}, [says("So.", reasoning=reasoning)])
    assert codes(plain) == ["reasoning_dropped"]
    assert "encrypted_content" not in plain.output[0]
    played = play(REQUEST, [turn(search("a")), says("So.", reasoning=reasoning)])
    assert codes(played) == ["reasoning_dropped"]
    tools = body_of(replayed(REQUEST, played.output, MORE))["messages"]
    assert [one["content"] for one in tools if one["role"] == "tool"] == told(played)


def test_approved_calls_have_no_more_results_than_all_calls() -> None:
    def approved(number: int) -> Approved:
        outcome = Outcome(("x" * 60,))
        return Approved(f"mcpr_{number}", f"mcp_{number}", "s", "t", "{}", outcome)

    bounded = Hosted(approved=tuple(map(approved, range(3))), max_results_bytes=100)
    sizes = [len(one.output) for one in bounded.with_short_approved(seals=True).approved]
    assert (sizes, sum(sizes) <= 100) == ([60, 40, 0], True)


def test_without_a_bound_of_a_store_nothing_is_different() -> None:
    bounds = Hosted()
    assert bounds.stored_within(None) is bounds
    assert bounds.stored_within(16 * MIB) == bounds
