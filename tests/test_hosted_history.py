"""Hosted calls of earlier responses: from sealed reasoning back into the conversation."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from msgspec import Raw

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
from translator.common.hosted import MAX_RAN, Outcome, Ran, RanRound, shortened
from translator.common.sealed import Thought, seal, unseal
from translator.common.web_search import arguments_of
from translator.request.hosted_history import search_with_results
from translator.request.store_context import StoreContext
from translator.wire.errors import UpstreamError
from translator.wire.items import InputWebSearchCall

RAN = RanRound([Ran("c1", "web_search", '{"query":"a"}', "found")], searches=1)


def sealed(thought: Thought) -> dict[str, Any]:
    return {"type": "reasoning", "summary": [], "encrypted_content": seal(thought)}


def messages(*items: dict[str, Any], **given: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = body_of({**REQUEST, "input": list(items)}, **given)["messages"]
    return found


USER = {"role": "user", "content": "Hi"}
MORE = {"role": "user", "content": "And?"}


def test_reasoning_behind_the_calls_is_that_of_the_next_turn() -> None:
    thought = Thought("Aha.", "reasoning_content", ran=RAN)
    answer = {"role": "assistant", "content": "So."}
    asked, told, answered = messages(USER, sealed(thought), answer, MORE)[1:4]
    assert "reasoning_content" not in asked
    assert told["content"] == "found"
    assert (answered["content"], answered["reasoning_content"]) == ("So.", "Aha.")


def test_calls_stand_before_the_message_that_they_cannot_have_followed() -> None:
    """A place that is not in the turn, as in a blob that was tampered with, is its beginning."""
    ran = RanRound([Ran("c1", "web_search", "{}", "found", calls_behind=9)])
    said = {"role": "assistant", "content": "I look."}
    found_ = messages(USER, said, sealed(Thought("", "", ran=ran)), MORE)
    assert [one["role"] for one in found_] == ["user", "assistant", "tool", "user"]


def test_results_of_the_clients_own_calls_may_stand_before_the_seal() -> None:
    ran = RanRound([Ran("c1", "web_search", "{}", "found", calls_behind=1)], own=1)
    own = {"type": "function_call", "call_id": "f1", "name": "act", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "f1", "output": "done"}
    asked, *told = messages(USER, own, output, sealed(Thought("", "", ran=ran)))[1:]
    assert [one["function"]["name"] for one in asked["tool_calls"]] == ["web_search", "act"]
    assert [one["content"] for one in told] == ["found", "done"]


def _signed(*calls: dict[str, Any]) -> list[Any]:
    """A turn of Gemini, which signs calls and messages."""
    payloads = turn(*calls)
    for number, payload in enumerate(payloads):
        if isinstance(payload, dict) and payload["choices"]:
            delta = payload["choices"][0]["delta"]
            for one in delta.get("tool_calls", ()):
                one["extra_content"] = {"google": {"thought_signature": f"s{number}"}}
    payloads[0]["choices"][0]["delta"]["extra_content"] = {"google": {"thought_signature": "m"}}
    return payloads


@pytest.mark.parametrize("mixed", [False, True])
def test_signatures_of_calls_go_back_with_them(mixed: bool) -> None:
    """In the next round, or in the next request where the client has calls to run."""
    request = {**REQUEST, "tools": [SEARCH, FUNCTION]}
    own = [call("act", x=1)] if mixed else []
    played = play(request, [_signed(search("a"), *own), says("So.")], dialect="gemini")
    if mixed:
        [acted] = [item for item in played.output if item["type"] == "function_call"]
        output = {"type": "function_call_output", "call_id": acted["call_id"], "output": "done"}
        body = body_of(replayed(request, played.output, output), dialect="gemini")
    else:
        body = played.bodies[1]
    asked = next(one for one in body["messages"] if one["role"] == "assistant")
    signatures = [one["extra_content"] for one in asked["tool_calls"]]
    assert [one["google"]["thought_signature"][0] for one in signatures] == ["s"] * (1 + mixed)
    assert asked["extra_content"] == {"google": {"thought_signature": "m"}}


def test_another_model_does_not_get_the_signatures() -> None:
    ran = RanRound(RAN.calls, {"c1": {"google": {}}})
    signed = Thought("", "", ran=ran, origin="one")
    assert signed.taken_by("one") is signed
    taken = signed.taken_by("two")
    assert isinstance(taken.ran, RanRound)
    assert (taken.ran.calls, taken.ran.extras) == (RAN.calls, {})


def test_a_blob_with_too_many_calls_is_ignored() -> None:
    many = Thought("Hm.", "", ran=RanRound(RAN.calls * (MAX_RAN + 1)))
    blob = seal(many)
    assert blob is not None
    assert unseal(blob) is None


@pytest.mark.parametrize(
    ("results", "expected"),
    [(b"null", None), (b"[]", None), (b'"x"', None), (b"{", None), (b'[{"url": "u"}]', "u")],
)
def test_results_in_an_item_are_read_as_far_as_they_are_results(
    results: bytes, expected: str | None
) -> None:
    item = InputWebSearchCall("ws_1", Raw(b'{"query": 1}'), Raw(results))
    placed = search_with_results(item, Loop(REQUEST).translation()._tools, "input[0]")
    assert (placed and placed[1].content) == expected


def test_a_search_is_told_by_its_own_name_where_it_is_not_declared() -> None:
    item = {"type": "web_search_call", "action": {"query": "a"}, "results": [{"title": "T"}]}
    request = {**REQUEST, "tools": [FUNCTION], "input": [USER, item, MORE]}
    asked, told, _ = body_of(request)["messages"][1:]
    assert asked["tool_calls"][0]["function"] == {
        "name": "web_search",
        "arguments": '{"query":"a"}',
    }
    assert told["content"] == "T"


def test_arguments_that_are_nested_too_deeply_are_none() -> None:
    assert arguments_of("[" * 100_000) is None
    assert arguments_of('{"a": 1}') == {"a": 1}


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        ("abc", 3, "abc"),
        ("x" * 2_000_000, 30, "x" * 9 + "\n[cut: 2.0 MB in all]"),
        ("é" * 1000, 30, "é" * 4 + "\n[cut: 2.0 kB in all]"),
        ("abcdef", 3, ""),
        ("x" * 100 + "\n[cut: 9.0 MB]", 20, "x" * 6 + "\n[cut: 9.0 MB]"),
    ],
)
def test_a_text_is_cut_on_a_character_and_says_so(text: str, limit: int, expected: str) -> None:
    assert shortened(text, limit) == expected
    assert len(shortened(text, limit).encode()) <= limit


def test_results_are_in_the_store_where_the_client_is_shown_no_seal() -> None:
    played = play(
        {**REQUEST, "store": True},
        [turn(search("a")), says("So.")],
        store=StoreContext(keeps=True),
    )
    assert played.translation is not None
    assert "encrypted_content" not in played.output[1]
    kept = [json.loads(msgspec.json.encode(one)) for one in played.translation.kept_output]
    assert messages(*REQUEST["input"], *kept, MORE)[:3] == played.bodies[1]["messages"]


def test_results_are_as_long_in_the_round_as_in_every_seal() -> None:
    """Non-ASCII text, of which the bytes count: a later response begins as this one went on."""
    played = play(
        {**REQUEST, "store": True, "include": ["reasoning.encrypted_content"]},
        [turn(search("a")), says("So.")],
        lambda one: Outcome(("猫" * 100_000,)),
        store=StoreContext(keeps=True),
    )
    assert played.translation is not None
    blobs = [
        item.encrypted_content
        for output in (played.response.output, played.translation.kept_output)
        for item in output
        if item.__struct_config__.tag == "reasoning"
    ]
    sizes = []
    for blob in blobs:
        thought = unseal(blob)
        assert thought is not None
        assert isinstance(thought.ran, RanRound)
        sizes.append(thought.ran.calls[0].output)
    [told] = [one["content"] for one in played.bodies[1]["messages"] if one["role"] == "tool"]
    assert sizes == [told, told]
    assert 64 * 1024 - 3 < len(told.encode()) <= 64 * 1024
    assert told.endswith("[cut: 0.3 MB in all]")


def test_results_are_as_long_as_they_may_be_where_no_seal_travels() -> None:
    played = play(
        {**REQUEST, "store": True},
        [turn(search("a")), says("So.")],
        lambda one: Outcome(("猫" * 50_000,)),
        store=StoreContext(keeps=True),
    )
    assert played.bodies[1]["messages"][2]["content"] == "猫" * 50_000


def test_what_ran_is_sealed_where_the_next_round_is_cut_at_once() -> None:
    played = play(REQUEST, [turn(search("a")), turn(finish="length")])
    assert played.response.status == "incomplete"
    assert played.kinds == ["web_search_call", "reasoning"]
    assert messages(*REQUEST["input"], *played.output, MORE)[2]["role"] == "tool"


def test_sources_of_the_upstream_give_way_to_those_of_tools() -> None:
    """Their numbers would be others."""
    answer = says("As [1] says.")
    answer[0]["citations"] = ["https://upstream.test/"]
    played = play(REQUEST, [turn(search("a")), answer], lambda one: found(7))
    [cited] = played.output[-1]["content"][0]["annotations"]
    assert cited["url"] == "https://site.test/7"
    played = play(REQUEST, [answer])
    [cited] = played.output[-1]["content"][0]["annotations"]
    assert cited["url"] == "https://upstream.test/"


def test_a_round_without_usage_counts_what_was_written() -> None:
    request = {**REQUEST, "max_output_tokens": 100}
    played = play(request, [turn(search("a" * 80), usage=None), says("So.")])
    assert played.bodies[1]["max_tokens"] == 100 - len('{"query": ""}' + "a" * 80) // 4
    assert played.response.usage is not None
    assert played.response.usage.input_tokens == 10


def test_what_a_translation_says_of_its_rounds() -> None:
    loop = Loop(REQUEST)
    first = loop.translation()
    assert (first.announced, first.waits, first.may_go_on) == (False, False, False)
    first.receive(sse(*turn(search("a"), reasoning="Hm.")))
    assert (first.announced, first.waits, first.may_go_on) == (True, True, True)
    assert first.rounds is not None
    assert first.rounds.tools.web_search is not None
    assert first.rounds.usage is not None
    first.ran(0, found(1))
    assert first.ran(0, found(2)) == []
    second = loop.translation(first.rounds)
    assert (second.announced, second.continues, second.produced) == (True, True, False)
    second.prepare()
    second.close(UpstreamError("It broke."))
    assert (second.finished, second.may_go_on) == (True, False)


def test_a_second_search_has_the_settings_of_the_first() -> None:
    other = {**SEARCH, "search_context_size": "low"}
    translation = Loop({**REQUEST, "tools": [SEARCH, SEARCH, other]}).translation()
    assert [one.path for one in translation.notices] == ["tools[2]"]
    assert len(json.loads(translation.chat_body)["tools"]) == 3


def test_what_is_ignored_of_a_search_is_said() -> None:
    tool = {**SEARCH, "image_settings": {}, "unknown": None, "search_content_types": ["image"]}
    translation = Loop({**REQUEST, "tools": [tool]}).translation()
    assert [one.path for one in translation.notices] == [
        "tools[0].image_settings",
        "tools[0].search_content_types",
    ]
