"""Invariants of responses of several rounds: for every model, every tool and every cut."""

from __future__ import annotations

import dataclasses
import itertools
import json
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw, structs

import translator
from tests.invariants import check_events, check_response_types
from tests.mcp_rounds import LISTING, SERVER
from tests.replaying import numbered_ids, sse
from tests.rounds import (
    FUNCTION,
    REQUEST,
    SEARCH,
    Loop,
    Played,
    body_of,
    call,
    found,
    page,
    play,
    replayed,
    turn,
)
from translator import encode_json
from translator.common.hosted import Hosted, HostedCall, Outcome
from translator.wire.deltas import Source
from translator.wire.errors import UpstreamError

TEXT = st.text(st.sampled_from("ab [1]2`\n(é😀)"), max_size=12)
QUERIES = st.sampled_from(["a", "b", "c"])
URLS = st.sampled_from(["https://site.test/1", "https://site.test/2"])
CALLS = st.one_of(
    st.builds(lambda query: call("web_search", query=query), QUERIES),
    st.builds(lambda url: call("open_page", url=url), URLS),
    st.builds(lambda url: call("find_in_page", url=url, pattern="x"), URLS),
    st.just(call("web_search")),  # without its query
    st.just({"id": None, "type": "function", "function": {"name": "open_page", "arguments": "[]"}}),
)
OWN = st.builds(lambda x: call("act", x=x), st.integers(0, 9))
USAGE = st.none() | st.tuples(st.integers(0, 99), st.integers(0, 9))
SAID = st.just(("", "")) | st.tuples(TEXT, TEXT.map(str.strip))
"""Text and reasoning beside calls: many models call without a word."""

HOSTED_ITEMS = {"web_search_call", "mcp_call", "mcp_list_tools", "mcp_approval_request"}
DIALECTS = st.sampled_from(sorted(translator.DIALECTS))


@dataclass(frozen=True)
class Script:
    """What a model does, and what the tools do."""

    turns: list[Any]
    outcomes: list[Outcome]
    hosted: Hosted
    request: dict[str, Any]
    dialect: str
    cut_into: int | None
    backwards: bool

    def outcome_of(self, one: HostedCall) -> Outcome:
        """What becomes of a call; a tool of a server tells no sources."""
        outcome = self.outcomes[one.key % len(self.outcomes)]
        if one.kind == "web_search":
            return outcome
        text = "".join(part if isinstance(part, str) else part.url for part in outcome.output)
        error = Raw(b'{"type":"http_error","code":500,"message":"It failed."}')
        return Outcome((text,), failed=outcome.failed, error=error if outcome.failed else None)

    def play(self, **more: Any) -> Played:
        return play(
            self.request,
            self.turns,
            self.outcome_of,
            hosted=self.hosted,
            dialect=self.dialect,
            cut_into=self.cut_into,
            backwards=self.backwards,
            **more,
        )


OUTCOMES = st.one_of(
    st.builds(lambda numbers: found(*numbers), st.lists(st.integers(1, 5), max_size=3)),
    st.builds(lambda n: Outcome(("é猫" * n,)), st.integers(0, 200)),
    st.just(Outcome(("It failed.",), failed=True)),
    st.builds(
        lambda n: Outcome((Source(page(n).url, page(n).title), " a page \ud83d")), st.integers(1, 9)
    ),
)


OF_SERVER = st.one_of(
    st.builds(lambda a: call("math__add", a=a, b=1), st.integers(0, 2)),
    st.builds(lambda text: call("math__write", text=text), TEXT),
    st.just({"id": None, "type": "function", "function": {"name": "math__add", "arguments": "[]"}}),
    st.just({"id": None, "type": "function", "function": {"name": "math__add", "arguments": "{"}}),
)
RULES: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(["never", "never", "always"]),
    st.just({"never": {"tool_names": ["add"]}}),
)
LISTINGS = st.sampled_from(
    [
        LISTING,
        structs.replace(LISTING, item_id=""),  # the client has it already
        structs.replace(LISTING, tools=(), error="The server answered with HTTP 500."),
    ]
)


def scripts(*, own: bool = True) -> st.SearchStrategy[Script]:
    """Models that search, and models that call tools of a server, too."""
    return searching(own=own) | serving(own=own)


@st.composite
def serving(draw: st.DrawFn, *, own: bool = True) -> Script:
    """A model with an MCP server: it lists or does not, and calls are asked about or run."""
    listing = draw(LISTINGS)
    calls = st.one_of(OF_SERVER, OF_SERVER, CALLS) if listing.tools else CALLS
    script = draw(searching(own=own, calls=calls))
    server = {**SERVER, "require_approval": draw(RULES)}
    request = {**script.request, "tools": [server, *script.request["tools"]]}
    hosted = structs.replace(
        script.hosted, kinds=frozenset({"web_search", "mcp"}), mcp={"math": listing}
    )
    return dataclasses.replace(script, request=request, hosted=hosted)


@st.composite
def searching(
    draw: st.DrawFn, *, own: bool = True, calls: st.SearchStrategy[Any] = CALLS
) -> Script:
    turns: list[Any] = []
    for _ in range(draw(st.integers(1, 5))):
        made = draw(st.lists(st.one_of(calls, calls, OWN) if own else calls, max_size=3))
        if not made:
            break
        text, reasoning = draw(SAID)
        turns.append(turn(*made, text=text, reasoning=reasoning, usage=draw(USAGE)))
    turns.append(
        turn(text=draw(TEXT) + ".", reasoning=draw(TEXT.map(str.strip)), usage=draw(USAGE))
    )
    request = {
        **REQUEST,
        "tools": [SEARCH, FUNCTION],
        "store": draw(st.booleans()),
        "include": draw(
            st.lists(
                st.sampled_from(
                    [
                        "web_search_call.results",
                        "web_search_call.action.sources",
                        "reasoning.encrypted_content",
                    ]
                ),
                unique=True,
            )
        ),
    }
    if draw(st.booleans()):
        request["max_tool_calls"] = draw(st.integers(1, 4))
    if draw(st.booleans()):
        request["parallel_tool_calls"] = draw(st.booleans())
    hosted = Hosted(
        max_rounds=draw(st.integers(1, 4)),
        max_calls=draw(st.integers(1, 6)),
        max_result_bytes=draw(st.sampled_from([40, 100_000])),
        max_results_bytes=draw(st.sampled_from([90, 100_000])),
        max_sealed_bytes=draw(st.sampled_from([50, 100_000])),
        max_seal_bytes=draw(st.sampled_from([700, 100_000])),
    )
    return Script(
        turns,
        draw(st.lists(OUTCOMES, min_size=1, max_size=4)),
        hosted,
        request,
        draw(DIALECTS),
        draw(st.sampled_from([None, 1, 13])),
        draw(st.booleans()),
    )


@given(scripts())
def test_a_response_of_rounds_keeps_every_invariant_of_a_response(script: Script) -> None:
    """H1, H2, H8: one numbering, items that never overlap, and are done as they are in the end."""
    played = script.play()
    final = check_events(played.events)
    whole = json.loads(encode_json(played.response))
    check_response_types(whole)
    assert whole == final


@given(searching(), st.booleans())
def test_without_a_hosted_tool_nothing_is_different(script: Script, declares: bool) -> None:
    """H3: what runs here changes no byte of a request that declares none of it."""
    tools = [FUNCTION] * declares
    request = {**script.request, "tools": tools}
    [first, *_] = script.turns

    def translated(hosted: Hosted | None) -> tuple[bytes, Any, list[bytes]]:
        translation = translator.Translation(
            request,
            dialect=script.dialect,
            response_id="resp_1",
            created_at=1,
            new_id=numbered_ids(),
            hosted=hosted,
        )
        events = translation.start() + translation.receive(sse(*first)) + translation.close()
        assert translation.rounds is None
        return translation.chat_body, translation.notices, list(map(encode_json, events))

    assert translated(script.hosted) == translated(None)


@given(scripts())
def test_a_round_begins_with_the_messages_of_the_round_before(script: Script) -> None:
    """H4: so the upstream's cache of prompts has them."""
    bodies = script.play().bodies
    for before, after in itertools.pairwise(bodies):
        kept = before["messages"]
        assert after["messages"][: len(kept)] == kept


@given(scripts(own=False), st.integers(0, 4))
def test_a_replay_of_the_output_is_what_the_next_round_had(script: Script, at: int) -> None:
    """H5: the client sends what it got back, whole or without the items of hosted calls."""
    script.request["store"] = False
    played = script.play()
    if len(played.bodies) < 2:
        return
    number = 1 + at % (len(played.bodies) - 1)
    user = {"role": "user", "content": "More?"}
    wanted = played.bodies[number]["messages"]
    for kept in (
        played.output,
        [item for item in played.output if item["type"] not in HOSTED_ITEMS],
    ):
        body = body_of(
            replayed(script.request, kept, user), hosted=script.hosted, dialect=script.dialect
        )
        assert body["messages"][: len(wanted)] == wanted


@given(scripts(), st.data())
def test_a_round_behind_outputs_of_the_client_is_a_turn_of_its_own(
    script: Script, data: st.DataObject
) -> None:
    """H4, H5, over two responses: the client's output stands before or behind the seal."""
    script.request["store"] = False
    played = script.play()
    own = [item for item in played.output if item["type"] == "function_call"]
    if not own or played.response.status != "completed":
        return
    replies = [
        {"type": "function_call_output", "call_id": one["call_id"], "output": "done"} for one in own
    ]
    output = list(played.output)
    if data.draw(st.booleans()):  # as clients do that keep an output with its call
        at = 1 + output.index(own[-1])
        request = replayed(script.request, [*output[:at], *replies, *output[at:]])
    else:
        request = replayed(script.request, [*output, *replies])
    given = {"hosted": script.hosted, "dialect": script.dialect}
    going_on = play(request, script.turns, script.outcome_of, **given)
    for before, after in itertools.pairwise(going_on.bodies):
        kept = before["messages"]
        assert after["messages"][: len(kept)] == kept
    if len(going_on.bodies) > 1 and not any(
        item["type"] == "function_call" for item in going_on.output
    ):
        user = {"role": "user", "content": "More?"}
        body = body_of({**request, "input": [*request["input"], *going_on.output, user]}, **given)
        wanted = going_on.bodies[-1]["messages"]
        assert body["messages"][: len(wanted)] == wanted


@given(scripts())
def test_a_call_is_what_its_tool_is_declared_as(script: Script) -> None:
    """H6: a hosted call is never the client's to run, nor the other way round."""
    played = script.play()
    for item in played.output:
        if item["type"] == "function_call":
            assert item["name"] == "act"
    for one in played.ran:
        assert (one.kind == "mcp") == (one.name in ("add", "write")) == (one.server == "math")


@given(scripts())
def test_a_tool_runs_once_for_each_call_within_the_bounds(script: Script) -> None:
    """H7, H10: rounds, calls and bytes, whatever the model does."""
    played = script.play()
    keys = [one.key for one in played.ran]
    assert keys == sorted(set(keys)) or script.backwards
    assert len(set(keys)) == len(keys)
    hosted = script.hosted
    assert len(keys) <= min(hosted.max_calls, script.request.get("max_tool_calls", 64))
    assert len(played.bodies) <= hosted.max_rounds + 1
    results = [one["content"] for one in played.bodies[-1]["messages"] if one["role"] == "tool"]
    assert all(len(text.encode()) <= max(hosted.max_result_bytes, 80) for text in results)


@given(scripts())
def test_an_item_has_failed_where_the_model_was_told_so(script: Script) -> None:
    """H9, H15: each call upstream has its result, in a tool message and nowhere else."""
    played = script.play()
    for body in played.bodies:
        asked = [one["id"] for m in body["messages"] for one in m.get("tool_calls", ())]
        told = [m["tool_call_id"] for m in body["messages"] if m["role"] == "tool"]
        assert sorted(asked) == sorted(told)
        others = [m for m in body["messages"] if m["role"] not in ("tool", "assistant")]
        assert "Snippet" not in json.dumps(others)
        assert "[no output" not in json.dumps(body)
    failed = [one for one in played.output if one.get("status") == "failed"]
    ran_well = [
        one for one in played.ran if not script.outcomes[one.key % len(script.outcomes)].failed
    ]
    calls = [one for one in played.output if one["type"] in ("web_search_call", "mcp_call")]
    assert len(calls) - len(failed) == len(ran_well)


@given(scripts())
def test_usage_is_the_sum_of_the_rounds(script: Script) -> None:
    """H14: of each key; none where no round has told any."""
    played = script.play()
    told = [
        payload["usage"]
        for one in script.turns[: len(played.bodies)]
        for payload in one
        if isinstance(payload, dict) and "usage" in payload
    ]
    usage = played.response.usage
    if not told:
        assert usage is None
        return
    assert usage is not None
    assert usage.input_tokens == sum(one["prompt_tokens"] for one in told)
    assert usage.output_tokens == sum(one["completion_tokens"] for one in told)
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens


@given(scripts())
def test_citations_name_sources_of_this_response(script: Script) -> None:
    """H17: and their indexes cut the mark out of the text."""
    played = script.play()
    returned = {
        part.url
        for one in played.ran
        for part in script.outcomes[one.key % len(script.outcomes)].output
        if isinstance(part, Source)
    }
    for item in played.output:
        for part in item.get("content", ()) if item["type"] == "message" else ():
            for one in part["annotations"]:
                assert one["url"] in returned
                assert part["text"][one["start_index"] : one["end_index"]].startswith("[")
                assert part["text"][one["end_index"] - 1] in "])"


@given(scripts(), st.integers(0, 4), st.data())
def test_a_failure_ends_a_response_once(script: Script, at: int, data: st.DataObject) -> None:
    """H1, H8: in a round, or while tools run; an item that is open then is not done."""
    loop = Loop(script.request, hosted=script.hosted, dialect=script.dialect)
    translation = loop.translation()
    events = translation.start()
    for number, one in enumerate(script.turns):
        body = sse(*one)
        if number == at:
            body = body[: data.draw(st.integers(0, len(body)))]
            events += translation.receive(body)
            events += translation.close(UpstreamError("It broke."))
            break
        events += translation.receive(body) + translation.close()
        rounds = translation.rounds
        if translation.finished or rounds is None:
            break
        todo = rounds.todo
        ran = data.draw(st.integers(0, len(todo)))
        for call_ in todo[:ran]:
            events += translation.ran(call_.key, script.outcome_of(call_))
        if ran < len(todo):
            events += translation.close(UpstreamError("It broke."))
            assert translation.ran(todo[-1].key, script.outcome_of(todo[-1])) == []
        if translation.finished:
            break
        translation = loop.translation(rounds)
    check_events(events)
    assert translation.close(UpstreamError("Again.")) == []


@given(scripts())
def test_notices_are_those_of_the_request(script: Script) -> None:
    """H18: to run a tool is no notice, and later rounds add none."""
    played = script.play()
    assert played.translation is not None
    first = Loop(script.request, hosted=script.hosted, dialect=script.dialect).translation()
    assert played.translation.notices == first.notices
    unlisted = any(one.error for one in script.hosted.mcp.values())
    assert any(one.code == "tool_dropped" for one in first.notices) is unlisted


@given(st.sampled_from(["image_settings", "return_token_budget", "unknown"]))
@settings(max_examples=3)
def test_what_is_ignored_of_a_search_is_said(name: str) -> None:
    """H18."""
    tool = {**SEARCH, name: {"a": 1}, "search_content_types": ["text", "image"]}
    translation = Loop({**REQUEST, "tools": [tool]}).translation()
    assert {one.path for one in translation.notices} == {
        f"tools[0].{name}",
        "tools[0].search_content_types",
    }
