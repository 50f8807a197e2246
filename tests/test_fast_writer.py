"""The fast path of the writer gives the events that its general path gives."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.invariants import check_events
from tests.replaying import REQUEST, translation
from translator import Event, Options
from translator.common.sealed import unseal
from translator.wire import items
from translator.wire.deltas import (
    Compaction,
    Delta,
    Finish,
    Logprob,
    Reasoning,
    Refusal,
    Source,
    Sources,
    Text,
    ToolCall,
    Usage,
)
from translator.wire.events import (
    OutputItemDone,
    OutputTextDelta,
    OutputTextDone,
    ReasoningSummaryTextDelta,
    ReasoningTextDelta,
)
from translator.writer.stream import ResponseStream

PROBABLE = Logprob("a", -0.5, [97], [])
texts = st.sampled_from(["a", " ", "\n", "null", "é", "{", "}"])
STREAMED = st.lists(
    st.one_of(
        st.builds(Text, texts),
        st.builds(Text, texts),
        st.builds(Reasoning, texts, st.just("reasoning_content")),
        st.builds(Reasoning, texts, st.just("reasoning")),
        st.builds(Refusal, st.just("No")),
        st.builds(
            ToolCall,
            st.integers(0, 2),
            st.sampled_from([None, "call_1"]),
            st.sampled_from([None, "f", "patch"]),
            st.sampled_from(["", "n", "ull", '{"input":"', "a", "\\", "n", '"}']),
        ),
        st.just(Usage(9, 1, 0, 9, 1)),
        st.just(Sources((Source("https://a.example", "A"),))),
    ),
    max_size=40,
)
REQUESTED: dict[str, Any] = {
    **REQUEST,
    "tools": [{"type": "function", "name": "f"}, {"type": "custom", "name": "patch"}],
    "include": ["reasoning.encrypted_content"],
}


def machine_of(options: Options | None = None) -> ResponseStream:
    t = translation(REQUESTED, options=options)
    t.prepare()
    return t._stream


def events_of(
    deltas: Sequence[Delta], end: Finish, *, fast: bool, family: Any = "summary"
) -> list[list[Event]]:
    """The events of each delta, and those of the end."""
    machine = machine_of(Options(reasoning_events=family))
    events = [machine.start()]
    for delta in deltas:
        events.append(machine.feed(delta))
        if not fast:
            machine._fast_type = None
    return [*events, machine.finish(end)]


@given(STREAMED, st.sampled_from(["stop", "length"]), st.sampled_from(["summary", "both", "none"]))
def test_the_fast_path_of_the_writer_sends_what_the_general_path_sends(
    deltas: list[Delta], reason: Any, family: str
) -> None:
    fast, general = (
        events_of(deltas, Finish(reason), fast=fast, family=family) for fast in (True, False)
    )
    assert fast == general
    check_events(list(itertools.chain.from_iterable(fast)))


LETTERS: tuple[Delta, ...] = (
    Text("a"),
    Text(" "),
    Reasoning("b", "reasoning"),
    Reasoning(" ", "reasoning"),
    Refusal("No"),
    ToolCall(0, "call_1", "f", ""),
    ToolCall(0, None, "f", '{"a":'),
    ToolCall(0, None, "f", "1}"),
    ToolCall(1, None, "f", "{}"),
)


@pytest.mark.parametrize("first", LETTERS, ids=repr)
def test_both_paths_of_the_writer_agree_on_all_short_answers(first: Delta) -> None:
    """Of four deltas; each delta gives the same events, at the same time."""
    for others in itertools.product(LETTERS, repeat=3):
        deltas, end = [first, *others], Finish("stop")
        fast, general = (events_of(deltas, end, fast=fast) for fast in (True, False))
        assert fast == general, deltas


@pytest.mark.parametrize(
    ("first", "delta"),
    [
        (Text("a"), Text("b")),
        (Text("a", [PROBABLE]), Text("b", [PROBABLE])),
        (Reasoning("a", "reasoning"), Reasoning("b", "reasoning")),
        (ToolCall(0, "call_1", "f", '{"a":'), ToolCall(0, None, None, "1")),
        (ToolCall(0, "call_1", "patch", '{"input":"'), ToolCall(0, None, None, "x")),
    ],
    ids=["text", "log probabilities", "reasoning", "function", "custom"],
)
def test_the_fast_path_is_taken(
    first: Delta, delta: Delta, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the second delta of a kind on; the third one, too, and the end knows all of them."""
    expected = events_of([first, delta, delta], Finish("stop"), fast=False)
    machine = machine_of()
    assert [machine.start(), machine.feed(first)] == expected[:2]
    with monkeypatch.context() as patch:
        patch.delattr(type(machine), "_feed")
        assert [machine.feed(delta), machine.feed(delta)] == expected[2:4]
    assert machine.finish(Finish("stop")) == expected[4]
    assert machine.feed(delta) == []


@pytest.mark.parametrize("arguments", [["n", "ull"], ["n", "o"], ["null", "{}"], ["{", "}"]])
def test_arguments_that_may_become_null_wait(arguments: list[str]) -> None:
    """Of a call that is open before its arguments begin, because another is named."""
    answer: list[Delta] = [ToolCall(0, "call_1", "f", ""), ToolCall(1, None, "f", "")]
    answer += [ToolCall(0, None, None, text) for text in arguments]
    fast, general = (events_of(answer, Finish("stop"), fast=fast) for fast in (True, False))
    assert fast == general
    check_events(list(itertools.chain.from_iterable(fast)))


def test_a_compaction_has_no_fast_path() -> None:
    answer: list[Delta] = [Compaction("blob"), Usage(9, 1, 0, 9, 1)]
    fast, general = (events_of(answer, Finish("stop"), fast=fast) for fast in (True, False))
    assert fast == general
    check_events(list(itertools.chain.from_iterable(fast)))


def test_text_has_its_place_in_the_message() -> None:
    """Behind a refusal it is another part; log probabilities are those of the part."""
    answer: list[Delta] = [Text("a", [PROBABLE]), Text("b"), Refusal("No"), Text("c"), Text("d")]
    events = list(itertools.chain.from_iterable(events_of(answer, Finish("stop"), fast=True)))
    check_events(events)
    assert [
        (event.content_index, event.delta, event.logprobs)
        for event in events
        if isinstance(event, OutputTextDelta)
    ] == [(0, "a", [PROBABLE]), (0, "b", []), (2, "c", []), (2, "d", [])]
    assert [event.logprobs for event in events if isinstance(event, OutputTextDone)] == [
        [PROBABLE],
        [],
    ]


@pytest.mark.parametrize("family", ["summary", "text", "both", "none"])
def test_reasoning_is_shown_in_its_family(family: str) -> None:
    """And sealed under the field of its last delta."""
    thoughts: list[Delta] = [Reasoning("a", "reasoning_content"), Reasoning("b", "reasoning")]
    events = list(
        itertools.chain.from_iterable(events_of(thoughts, Finish("stop"), fast=True, family=family))
    )
    summary = [event.delta for event in events if isinstance(event, ReasoningSummaryTextDelta)]
    content = [event.delta for event in events if isinstance(event, ReasoningTextDelta)]
    assert summary == (["a", "b"] if family in ("summary", "both") else [])
    assert content == (["a", "b"] if family in ("text", "both") else [])
    [blob] = [
        event.item.encrypted_content
        for event in events
        if isinstance(event, OutputItemDone) and isinstance(event.item, items.Reasoning)
    ]
    assert isinstance(blob, str)
    thought = unseal(blob)
    assert thought is not None
    assert (thought.text, thought.field) == ("ab", "reasoning")


@pytest.mark.parametrize(
    ("deltas", "grows"),
    [
        ([Text("a")], True),
        ([Refusal("No")], False),
        ([Text("a"), Refusal("No")], False),
        ([ToolCall(0, "call_1", "f", '{"a')], True),
        ([ToolCall(0, "call_1", "f", "nul")], False),  # which may become `null`, for no arguments
        ([ToolCall(0, "call_1", "f", "nul"), ToolCall(0, None, None, "x")], True),
        ([ToolCall(0, "call_1", "f", "nul"), ToolCall(1, "call_2", None, "")], False),
        ([ToolCall(0, "call_1", "patch", '{"input":"a')], False),
    ],
)
def test_what_grows_takes_deltas_of_one_event_each(deltas: list[Delta], grows: bool) -> None:
    machine = machine_of()
    machine.start()
    for delta in deltas:
        machine.feed(delta)
    assert (machine.growing is not None) == grows


@pytest.mark.parametrize(
    ("family", "grows"), [("summary", True), ("text", True), ("both", False), ("none", False)]
)
def test_reasoning_grows_where_each_delta_is_one_event(family: Any, grows: bool) -> None:
    machine = machine_of(Options(reasoning_events=family))
    machine.start()
    machine.feed(Reasoning("Hm", "reasoning_content"))
    assert (machine.growing is not None) == grows
