"""Responses of several rounds: what the service runs itself, scenario by scenario."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.invariants import check_events
from tests.rounds import (
    FUNCTION,
    REQUEST,
    SEARCH,
    Loop,
    Played,
    body_of,
    call,
    found,
    play,
    replayed,
    says,
    search,
    turn,
)
from translator import InvalidRequest, Options, Target, Translation
from translator.common.hosted import Hosted, HostedCall, Outcome
from translator.wire.errors import UpstreamError


def kinds_of(played: Played) -> list[str]:
    return [type(event).__struct_config__.tag.removeprefix("response.") for event in played.events]


def tool_messages(body: dict[str, Any]) -> list[str]:
    return [one["content"] for one in body["messages"] if one["role"] == "tool"]


def test_a_search_is_run_and_the_response_goes_on() -> None:
    played = play(REQUEST, [turn(search("news")), says("It is so [2].")])
    final = check_events(played.events)
    assert [one.name for one in played.ran] == ["web_search"]
    assert json.loads(played.ran[0].arguments) == {"query": "news"}
    assert played.kinds == ["web_search_call", "reasoning", "message"]
    assert final["output"][0]["action"] == {
        "type": "search",
        "query": "news",
        "queries": ["news"],
    }
    assert final["output"][0]["status"] == "completed"
    assert final["usage"]["input_tokens"] == 20
    assert final["usage"]["output_tokens"] == 10
    assert final["tool_usage"]["web_search"] == {"num_requests": 1}
    assert kinds_of(played)[:7] == [
        "created",
        "in_progress",
        "output_item.added",
        "web_search_call.in_progress",
        "web_search_call.searching",
        "web_search_call.completed",
        "output_item.done",
    ]


def test_the_model_reads_numbered_results_in_a_tool_message() -> None:
    played = play(REQUEST, [turn(search("news", "call_a")), says("Yes.")])
    first, second = played.bodies
    assert second["messages"][: len(first["messages"])] == first["messages"]
    asked, answered = second["messages"][len(first["messages"]) :]
    assert asked["tool_calls"][0]["id"] == "call_a"
    assert answered == {
        "role": "tool",
        "tool_call_id": "call_a",
        "content": "[1] Page 1 (https://site.test/1)\nSnippet 1.\n"
        "[2] Page 2 (https://site.test/2)\nSnippet 2.\n",
    }


def test_the_search_is_three_functions_of_the_model() -> None:
    body = body_of(REQUEST)
    names = [tool["function"]["name"] for tool in body["tools"]]
    assert names == ["web_search", "open_page", "find_in_page"]


@pytest.mark.parametrize("kind", ["web_search_2025_08_26", "web_search_preview"])
def test_the_search_has_several_names(kind: str) -> None:
    assert body_of({**REQUEST, "tools": [{"type": kind}]})["tools"][0]["function"]["name"] == (
        "web_search"
    )


def test_a_client_that_wants_nothing_fetched_gets_the_search_alone() -> None:
    """36: no function fetches a page."""
    tool = {**SEARCH, "external_web_access": False}
    body = body_of({**REQUEST, "tools": [tool]})
    assert [one["function"]["name"] for one in body["tools"]] == ["web_search"]
    dropped = Loop({**REQUEST, "tools": [tool]}, hosted=Hosted(cached_search=False)).translation()
    assert [one.code for one in dropped.notices] == ["tool_dropped"]
    assert "tools" not in json.loads(dropped.chat_body)


def test_only_tools_that_cannot_run_here_are_rejected() -> None:
    options = Options(hosted_tools="reject", strict=True)
    played = play(REQUEST, [turn(search("a")), says("So.")], options=options)
    assert played.kinds == ["web_search_call", "reasoning", "message"]
    with pytest.raises(InvalidRequest, match="Unsupported tool type: 'file_search'"):
        Loop({**REQUEST, "tools": [SEARCH, {"type": "file_search"}]}, options=options).translation()


def test_a_function_of_the_client_keeps_its_name() -> None:
    """H6: ours gets another one, and a call of each is what it was declared as."""
    own = {**FUNCTION, "name": "web_search"}
    request = {**REQUEST, "tools": [SEARCH, own]}
    names = [tool["function"]["name"] for tool in body_of(request)["tools"]]
    assert names[0] == "web_search"
    assert names[1].startswith("web_search_")
    played = play(request, [turn(search("a"))])
    assert played.kinds == ["function_call"]
    played = play(request, [turn(call(names[1], query="a")), says("Yes.")])
    assert played.kinds == ["web_search_call", "reasoning", "message"]


def test_a_reasoning_model_reasons_before_each_round() -> None:
    """4: reasoning, call, reasoning, message; the second reasoning holds what ran."""
    played = play(REQUEST, [turn(search("a"), reasoning="Look."), says("So.", reasoning="Aha.")])
    check_events(played.events)
    assert played.kinds == ["reasoning", "web_search_call", "reasoning", "message"]
    sent = played.bodies[1]["messages"][1]
    assert sent["reasoning_content"] == "Look."


def test_calls_of_one_turn_are_run_at_once() -> None:
    """5: all are to do together; the items stand in the order of the calls."""
    turns = [turn(search("a"), search("b"), call("open_page", url="https://c.test/")), says("So.")]
    together = play(REQUEST, turns)
    backwards = play(REQUEST, turns, backwards=True)
    assert len(together.ran) == 3
    check_events(backwards.events)
    assert backwards.output == together.output
    assert backwards.bodies == together.bodies
    actions = [item["action"]["type"] for item in together.output[:3]]
    assert actions == ["search", "search", "open_page"]
    assert len(together.bodies[1]["messages"][1]["tool_calls"]) == 3


MIXED = {**REQUEST, "tools": [SEARCH, FUNCTION]}


def test_a_turn_with_a_function_completes_the_response() -> None:
    """6: the hosted call is run, and the client's answer goes on in one message with both."""
    played = play(MIXED, [turn(search("a"), call("act", x=1), search("b"))])
    final = check_events(played.events)
    assert final["status"] == "completed"
    assert played.kinds == ["web_search_call", "function_call", "web_search_call", "reasoning"]
    acted = next(item for item in played.output if item["type"] == "function_call")
    output = {"type": "function_call_output", "call_id": acted["call_id"], "output": "done"}
    body = body_of(replayed(MIXED, played.output, output))
    asked, *answers = body["messages"][1:]
    assert [one["function"]["name"] for one in asked["tool_calls"]] == [
        "web_search",
        "act",
        "web_search",
    ]
    assert [one["role"] for one in answers] == ["tool"] * 3
    assert {one["tool_call_id"] for one in answers} == {"call_0", "call_1", "call_2"}


def test_a_client_that_drops_hosted_items_sends_the_same_body() -> None:
    """7: as Codex does with some; the seal holds the calls, with their places."""
    played = play(MIXED, [turn(search("a"), call("act", x=1), search("b"), reasoning="Hm.")])
    acted = next(item for item in played.output if item["type"] == "function_call")
    output = {"type": "function_call_output", "call_id": acted["call_id"], "output": "done"}
    kept = [item for item in played.output if item["type"] != "web_search_call"]
    assert body_of(replayed(MIXED, kept, output)) == body_of(replayed(MIXED, played.output, output))


def test_without_a_seal_a_search_is_left_out_with_a_notice() -> None:
    """8: its results are nowhere; nothing is lost in silence."""
    played = play({**MIXED, "store": True}, [turn(search("a"), call("act", x=1))])
    acted = next(item for item in played.output if item["type"] == "function_call")
    output = {"type": "function_call_output", "call_id": acted["call_id"], "output": "done"}
    assert played.kinds == ["web_search_call", "function_call"]
    translation = Loop(replayed(MIXED, played.output, output)).translation()
    assert [(one.path, one.code) for one in translation.notices] == [("input[1]", "item_dropped")]


def test_a_search_whose_item_has_its_results_needs_no_seal() -> None:
    request = {**REQUEST, "store": True, "include": ["web_search_call.results"]}
    played = play(request, [turn(search("a")), says("So.")])
    assert played.output[0]["results"][0] == {
        "url": "https://site.test/1",
        "title": "Page 1",
        "snippet": "Snippet 1.",
    }
    body = body_of(replayed(request, played.output, {"role": "user", "content": "More?"}))
    roles = [one["role"] for one in body["messages"]]
    assert roles == ["user", "assistant", "tool", "assistant", "user"]
    assert "https://site.test/2" in tool_messages(body)[0]


def test_what_the_client_forces_is_forced_once() -> None:
    """23, for the search: a named choice in the first body, "auto" in the second."""
    played = play(
        {**MIXED, "tool_choice": {"type": "web_search"}}, [turn(search("a")), says("So.")]
    )
    named = {"type": "function", "function": {"name": "web_search"}}
    assert [body["tool_choice"] for body in played.bodies] == [named, "auto"]
    played = play({**MIXED, "tool_choice": "required"}, [turn(search("a")), says("So.")])
    assert [body["tool_choice"] for body in played.bodies] == ["required", "auto"]
    choice = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "web_search"}]}
    played = play({**MIXED, "tool_choice": choice}, [turn(search("a")), says("So.")])
    assert [body["tool_choice"] for body in played.bodies] == ["required", "auto"]
    assert len(played.bodies[1]["tools"]) == 3


def test_a_choice_of_a_search_that_is_not_declared_is_refused() -> None:
    request = {**REQUEST, "tools": [FUNCTION], "tool_choice": {"type": "web_search"}}
    with pytest.raises(InvalidRequest, match="'web_search' not found in 'tools'") as refused:
        Loop(request).translation()
    assert refused.value.param == "tool_choice"


def test_max_tool_calls_bounds_the_calls() -> None:
    """24: one of three is run, the last body forbids tools, and the response is complete."""
    played = play(
        {**REQUEST, "max_tool_calls": 1},
        [turn(search("a"), search("b"), search("c")), says("So.")],
    )
    final = check_events(played.events)
    assert len(played.ran) == 1
    assert [item["status"] for item in played.output[:3]] == ["completed", "failed", "failed"]
    assert "limit" in tool_messages(played.bodies[1])[1]
    assert played.bodies[1]["tool_choice"] == "none"
    assert (final["status"], final["max_tool_calls"]) == ("completed", 1)


def test_a_model_that_calls_for_ever_gets_a_last_round() -> None:
    """25: sixteen rounds with calls, then an answer without."""
    turns = [turn(search(f"query {number}")) for number in range(20)]
    played = play(REQUEST, turns)
    final = check_events(played.events)
    assert len(played.bodies) == 17
    assert len(played.ran) == 16
    assert played.bodies[16]["tool_choice"] == "none"
    assert "none" not in [body.get("tool_choice") for body in played.bodies[:16]]
    assert final["status"] == "completed"


def test_the_output_limit_is_for_all_rounds() -> None:
    """26: each round gets what is left; a call in a round that used it up is not run."""
    request = {**REQUEST, "max_output_tokens": 12}
    played = play(request, [turn(search("a")), turn(search("b"), usage=(9, 7))])
    final = check_events(played.events)
    assert [body["max_tokens"] for body in played.bodies] == [12, 7]
    assert len(played.ran) == 1
    assert final["incomplete_details"] == {"reason": "max_output_tokens"}
    assert final["output"][-1]["status"] == "incomplete"
    cut = play(request, [turn(search("a")), turn(search("b"), finish="length")])
    assert check_events(cut.events)["status"] == "incomplete"
    assert len(cut.ran) == 1


def test_a_round_is_tried_again_while_nothing_of_it_was_announced() -> None:
    """27: the second attempt goes on where the first one was to begin."""
    loop = Loop(REQUEST)
    first = loop.translation()
    events = first.receive(_body(turn(search("a"))))
    assert first.rounds is not None
    events += first.ran(first.rounds.todo[0].key, found(1))
    broken = loop.translation(first.rounds)
    assert broken.close(UpstreamError("It broke."))
    assert broken.finished
    assert not broken.produced
    again = loop.translation(first.rounds)
    assert again.chat_body == broken.chat_body
    again.prepare()
    assert not again.produced
    events += again.receive(_body(says("So [1].")))
    final = check_events(events)
    assert final["output"][-1]["content"][0]["annotations"][0]["url"] == "https://site.test/1"


def test_a_round_that_fails_fails_the_response() -> None:
    """27: where there is no further attempt; what was found is not lost."""
    played = play(REQUEST, [turn(search("a")), UpstreamError("It broke.")])
    final = check_events(played.events)
    assert final["status"] == "failed"
    assert [item["type"] for item in final["output"]] == ["web_search_call", "reasoning"]
    user = {"role": "user", "content": "Again?"}
    body = body_of(replayed(REQUEST, final["output"], user))
    assert body["messages"][:3] == played.bodies[1]["messages"]


def _body(payloads: Any) -> bytes:
    from tests.replaying import sse

    return sse(*payloads)


CITED = "As [1] says; not `[1]`, nor [9]. [A page](https://site.test/2), [no](https://x.test/)."


@pytest.mark.parametrize("size", [1, 7, 50, None])
def test_marks_and_links_are_cited_wherever_the_stream_is_cut(size: int | None) -> None:
    """32, H17: the indexes cut the mark out of the text, and its URL is one of the results."""
    played = play(REQUEST, [turn(search("a")), says(CITED)], cut_into=size)
    check_events(played.events)
    (part,) = played.output[-1]["content"]
    assert [
        (CITED[one["start_index"] : one["end_index"]], one["url"], one["title"])
        for one in part["annotations"]
    ] == [
        ("[1]", "https://site.test/1", "Page 1"),
        ("[A page](https://site.test/2)", "https://site.test/2", "Page 2"),
    ]


def test_sources_are_shown_where_they_are_asked_for() -> None:
    """32: and no notice says that they are not available."""
    request = {**REQUEST, "include": ["web_search_call.action.sources"]}
    played = play(request, [turn(search("a")), says("So.")])
    assert played.output[0]["action"]["sources"] == [
        {"type": "url", "url": "https://site.test/1"},
        {"type": "url", "url": "https://site.test/2"},
    ]
    assert "results" not in played.output[0]
    assert played.translation is not None
    assert not played.translation.notices


def test_a_search_leads_to_a_page_and_to_a_text_on_it() -> None:
    """33: three items, three actions, and each result reaches the model."""

    def run(one: HostedCall) -> Outcome:
        return found(1) if one.name == "web_search" else Outcome((f"text of {one.name}",))

    url = "https://site.test/1"
    played = play(
        REQUEST,
        [
            turn(search("a")),
            turn(call("open_page", url=url)),
            turn(call("find_in_page", url=url, pattern="x")),
            says("So [1]."),
        ],
        run,
    )
    final = check_events(played.events)
    actions = [item["action"] for item in played.output if item["type"] == "web_search_call"]
    assert actions[1:] == [
        {"type": "open_page", "url": url},
        {"type": "find_in_page", "url": url, "pattern": "x"},
    ]
    assert tool_messages(played.bodies[3])[1:] == ["text of open_page", "text of find_in_page"]
    assert final["tool_usage"]["web_search"] == {"num_requests": 1}


def test_a_search_that_fails_is_told_the_model() -> None:
    """34: the item has failed, and no event says that it is complete."""
    outcome = Outcome(("The search failed (HTTP 500).",), failed=True)
    played = play(REQUEST, [turn(search("a")), says("I cannot say.")], lambda one: outcome)
    final = check_events(played.events)
    assert final["output"][0]["status"] == "failed"
    assert tool_messages(played.bodies[1]) == ["The search failed (HTTP 500)."]
    assert "web_search_call.completed" not in kinds_of(played)
    assert final["tool_usage"]["web_search"] == {"num_requests": 0}


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ('["a"]', "not a JSON object"),
        ("{}", "'query' is missing"),
        ('{"query": "%s"}' % ("x" * 70_000), "too long"),
    ],
)
def test_arguments_that_are_none_are_told_the_model(arguments: str, why: str) -> None:
    """They are not run, and the model can call again."""
    one = {"id": "c", "type": "function", "function": {"name": "web_search"}}
    one["function"] = {"name": "web_search", "arguments": arguments}
    played = play(REQUEST, [turn(one), says("So.")])
    check_events(played.events)
    assert not played.ran
    assert why in tool_messages(played.bodies[1])[0]


def test_the_same_call_is_run_twice_at_most() -> None:
    played = play(REQUEST, [*[turn(search("a"))] * 3, turn(search("b")), says("So.")])
    check_events(played.events)
    assert [json.loads(one.arguments)["query"] for one in played.ran] == ["a", "a", "b"]
    assert "same call" in tool_messages(played.bodies[3])[2]


def test_results_are_bounded() -> None:
    hosted = Hosted(max_result_bytes=101, max_results_bytes=151)
    played = play(
        REQUEST,
        [turn(search("a"), search("b"), search("c")), says("So.")],
        lambda one: Outcome(("ä" * 1000,)),
        hosted=hosted,
    )
    first, second, third = tool_messages(played.bodies[1])
    assert first.endswith("\n[cut: 2.0 kB in all]")
    assert [len(one.encode()) <= limit for one, limit in ((first, 101), (second, 50))] == [True] * 2
    assert third == "No room is left for further results. Answer with what there is."


def test_numbers_of_sources_go_on_in_the_next_response() -> None:
    """So that [1] of an earlier answer is not taken for a source of this one."""
    played = play(REQUEST, [turn(search("a")), says("So [1].")])
    request = replayed(REQUEST, played.output, {"role": "user", "content": "And?"})
    second = play(request, [turn(search("b")), says("As [1] said, and [3].")], lambda one: found(7))
    assert tool_messages(second.bodies[1])[1].startswith("[3] Page 7")
    (cited,) = second.output[-1]["content"][0]["annotations"]
    assert cited["url"] == "https://site.test/7"


def test_one_page_has_one_number() -> None:
    played = play(REQUEST, [turn(search("a"), search("b")), says("So.")])
    first, second = tool_messages(played.bodies[1])
    assert first == second


def test_usage_may_be_that_of_the_context() -> None:
    turns = [turn(search("a"), usage=(10, 5)), says("So.", usage=(30, 7))]
    summed = play(REQUEST, turns).response.usage
    context = play(REQUEST, turns, hosted=Hosted(round_usage="context")).response.usage
    assert summed is not None
    assert context is not None
    assert (summed.input_tokens, summed.output_tokens) == (40, 12)
    assert (context.input_tokens, context.output_tokens) == (30, 12)


def test_a_forced_last_round_has_no_tools() -> None:
    """Who pays for the rounds may end them."""
    loop = Loop(REQUEST)
    first = loop.translation()
    events = first.receive(_body(turn(search("a"))))
    assert first.rounds is not None
    events += first.ran(first.rounds.todo[0].key, found(1))
    first.rounds.withdraw_tools()
    last = loop.translation(first.rounds)
    assert json.loads(last.chat_body)["tool_choice"] == "none"
    events += last.receive(_body(turn(search("b"))))
    final = check_events(events)
    assert [item["type"] for item in final["output"]] == ["web_search_call", "reasoning"]


def test_signed_reasoning_goes_back_to_its_own_model_alone() -> None:
    """A round that another route answers gets the text, and what ran."""
    loop = Loop(REQUEST, target=Target(origin="one"))
    first = loop.translation()
    first.receive(_body(turn(search("a"), reasoning="Look.")))
    assert first.rounds is not None
    first.ran(first.rounds.todo[0].key, found(1))
    other = Loop(REQUEST, target=Target(origin="two")).translation(first.rounds)
    messages = json.loads(other.chat_body)["messages"]
    assert messages[1]["reasoning_content"] == "Look."
    assert messages[2]["role"] == "tool"


def test_a_response_that_hides_reasoning_sends_it_to_the_next_round() -> None:
    played = play(
        {**REQUEST, "store": True},
        [turn(search("a"), reasoning="Look."), says("So.")],
        options=Options(reasoning_events="none"),
    )
    check_events(played.events)
    assert played.bodies[1]["messages"][1]["reasoning_content"] == "Look."


def test_a_compaction_calls_no_tool() -> None:
    request = {**REQUEST, "input": [*REQUEST["input"], {"type": "compaction_trigger"}]}
    translation = Loop(request).translation()
    translation.prepare()
    assert translation.rounds is None


def test_without_hosted_tools_there_are_no_rounds() -> None:
    """H3: today's machine, and today's notice."""
    translation = Loop({**REQUEST, "tools": [FUNCTION]}).translation()
    translation.prepare()
    assert translation.rounds is None
    dropped = Translation(
        REQUEST, response_id="resp_1", created_at=1, new_id=lambda prefix: f"{prefix}1"
    )
    dropped.prepare()
    assert dropped.rounds is None
    assert [one.code for one in dropped.notices] == ["tool_dropped"]
