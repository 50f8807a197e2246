"""Deltas of calls to calls: names that grow, calls that share a place, ids that are shared."""

from __future__ import annotations

from typing import Any

import pytest

from tests.invariants import check_events
from tests.replaying import REQUEST, chunk, replay, sse
from translator.dialects import BASE
from translator.reader.from_chat import ChatReader
from translator.wire import items
from translator.wire.deltas import ToolCall

NAMES = ["shell", "run_in_terminal", "run", "run_all", "get_weather", "tool", "my_tool"]
ASK = {**REQUEST, "tools": [{"type": "function", "name": name} for name in NAMES]}
END = chunk({}, "tool_calls")
LS, PWD = '{"command":["ls"]}', '{"command":["pwd"]}'
Call = tuple[str, str]


def piece(
    name: str | None, arguments: str | None = None, index: int | None = 0, id: str | None = None
) -> dict[str, Any]:
    return {"index": index, "id": id, "function": {"name": name, "arguments": arguments}}


def calls_of(*chunks: dict[str, Any] | list[dict[str, Any]]) -> list[Call]:
    """The calls of an answer, of which each has a call id of its own."""
    payloads = [
        chunk({"tool_calls": pieces if isinstance(pieces, list) else [pieces]}) for pieces in chunks
    ]
    events, response = replay(sse(*payloads, END), ASK)
    check_events(events)
    assert response.status == "completed"
    calls = [item for item in response.output if isinstance(item, items.FunctionCall)]
    assert len({call.call_id for call in calls}) == len(calls) == len(response.output)
    return [(call.name, call.arguments) for call in calls]


@pytest.mark.parametrize("id", [None, "", "c1"])
@pytest.mark.parametrize(
    ("names", "expected"),
    [
        # it grows, to a name that is declared or is not
        (["run_in", "run_in_terminal"], "run_in_terminal"),
        (["r", "run_in", "run_in_terminal"], "run_in_terminal"),
        (["run", "run_all"], "run_all"),
        (["unkn", "unknown"], "unknown"),
        # it comes in parts
        (["run_", "in_terminal"], "run_in_terminal"),
        (["get_", "wea", "ther"], "get_weather"),
        (["my_", "tool"], "my_tool"),
        (["sh", "shell"], "shell"),
        (["sh", "ell"], "shell"),
        # a part that begins as the one before it
        (["t", "tool"], "tool"),
        # whole again and again, or whole at last
        (["shell", "shell", "shell"], "shell"),
        (["function", "shell"], "shell"),
    ],
)
def test_a_name_that_grows_and_one_in_parts(
    id: str | None, names: list[str], expected: str
) -> None:
    """With an id on each delta, on the first, or on none."""
    *first, last = names
    for ids in ([id] * len(names), [id] + [None] * len(names)):
        pieces = [piece(name, "", id=one) for name, one in zip(first, ids, strict=False)]
        assert calls_of(*pieces, piece(last, PWD, id=ids[-1])) == [(expected, PWD)]
        assert calls_of(*pieces, piece(last, "", id=ids[-1]), piece(None, PWD)) == [(expected, PWD)]


@pytest.mark.parametrize("between", [{"content": "Hm."}, {"tool_calls": [piece("tool", "{}", 1)]}])
def test_a_name_that_grows_too_late_is_no_silent_loss(between: dict[str, Any]) -> None:
    """The call has been announced, and a client would run another tool."""
    begun = chunk({"tool_calls": [piece("run_in", "")]})
    grown = chunk({"tool_calls": [piece("run_in_terminal", PWD)]})
    events, response = replay(sse(begun, chunk(between), grown, END), ASK)
    check_events(events)
    assert response.error is not None
    assert "renamed" in response.error.message
    events, response = replay(sse(begun, grown, chunk(between), grown, END), ASK)
    check_events(events)
    assert response.status == "completed"


def test_parts_of_undeclared_names_are_joined_without_an_id() -> None:
    assert calls_of(piece("un"), piece("known"), piece(None, "{}")) == [("unknown", "{}")]
    assert calls_of(piece("ta"), piece("ta"), piece(None, "{}")) == [("ta", "{}")]
    named = piece("shell", "", id="c1"), piece("noise", "", id="c1"), piece(None, LS)
    assert calls_of(*named) == [("shell", LS)]


@pytest.mark.parametrize("ids", [(None, None), ("", ""), ("c", "c"), ("c", "d"), (None, "d"), ("c", None)])  # fmt: skip
@pytest.mark.parametrize("index", [0, 3])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [("run_in_terminal", PWD), ("shell", PWD), ("unknown", PWD), ("run_in_terminal", "null")],
)
def test_two_whole_calls_at_one_index(
    ids: tuple[str | None, str | None], index: int, name: str, arguments: str
) -> None:
    """Whatever the ids, in one chunk or two, at once or in pieces; the same tool twice, too."""
    first = piece("shell", LS, index, ids[0])
    expected = [("shell", LS), (name, "{}" if arguments == "null" else arguments)]
    assert calls_of(first, piece(name, arguments, index, ids[1])) == expected
    assert calls_of([first, piece(name, arguments, index, ids[1])]) == expected
    in_pieces = [piece(name, "", index, ids[1])]
    in_pieces += [piece(None, text, index) for text in (arguments[:1], arguments[1:])]
    assert calls_of(first, *in_pieces) == expected


def test_calls_without_parameters_at_one_index() -> None:
    both = piece("shell", ""), piece("run_in_terminal", "")
    assert calls_of(*both) == [("shell", "{}"), ("run_in_terminal", "{}")]
    assert calls_of(*both, piece(None, PWD)) == [("shell", "{}"), ("run_in_terminal", PWD)]
    assert calls_of(piece("shell", LS), piece("tool")) == [("shell", LS), ("tool", "{}")]


def test_calls_at_one_index_go_by_their_ids() -> None:
    """The deltas of two calls that take turns."""
    turns = [
        piece("shell", '{"a"', id="c"),
        piece("tool", '{"b"', id="d"),
        piece(None, ":1}", id="c"),
        piece(None, ":2}", id="d"),
    ]
    assert calls_of(*turns) == [("shell", '{"a":1}'), ("tool", '{"b":2}')]
    turns[2:] = [piece("shell", ":1}", id="c"), piece("tool", ":2}", id="d")]
    assert calls_of(*turns) == [("shell", '{"a":1}'), ("tool", '{"b":2}')]
    new_ids = [piece("shell", '{"a"', id="c"), piece(None, ":1}", id="x")]
    assert calls_of(*new_ids) == [("shell", '{"a":1}')]


def test_a_shared_id_without_an_index() -> None:
    both = piece("shell", LS, None, "c"), piece("tool", '{"b"', None, "c")
    assert calls_of(*both, piece(None, ":2}", None, "c")) == [("shell", LS), ("tool", '{"b":2}')]


@pytest.mark.parametrize(
    "again",
    [
        piece("shell", LS),
        piece("shell", ' {"command": [ "ls" ]}\n'),
        piece("shell", ""),
        piece("shell", None, id="c1"),
        piece("unknown", None),
        piece(None, ""),
    ],
)
def test_a_call_that_comes_again_is_one_call(again: dict[str, Any]) -> None:
    assert calls_of(piece("shell", LS, id="c1"), again) == [("shell", LS)]
    assert calls_of(piece("shell", LS, id="c1"), again, piece(None, LS)) == [("shell", LS)]


def test_half_a_character_does_not_hide_that_a_call_comes_again() -> None:
    """Nor that another one comes."""
    half = '{"command":["\ud83d"]}'
    shown = '{"command":["\ufffd"]}'
    assert calls_of(piece("shell", half), piece("shell", half)) == [("shell", shown)]
    assert calls_of(piece("shell", half), piece("shell", LS)) == [("shell", shown), ("shell", LS)]
    broken = piece("shell", '{"a": tru}'), piece("shell", LS)
    assert calls_of(*broken) == [("shell", '{"a": tru}'), ("shell", LS)]


def test_a_name_on_every_piece_is_one_call() -> None:
    """Also where a piece is empty, or begins like an object."""
    texts = ['{"a"', "", ":", '{"b":1}', "}"]
    assert calls_of(*(piece("shell", text) for text in texts)) == [("shell", '{"a":{"b":1}}')]
    noise = [piece("shell", '{"a":'), piece("unknown", ""), piece("noise", "1}")]
    assert calls_of(*noise) == [("shell", '{"a":1}')]


def test_the_name_of_another_tool_ends_a_call_that_is_not_whole() -> None:
    """What is missing of it is no silent loss: the answer fails."""
    cut = chunk({"tool_calls": [piece("shell", '{"a":'), piece("tool", '{"b":2}')]}, "tool_calls")
    events, response = replay(sse(cut), ASK)
    check_events(events)
    assert response.status == "failed"
    growing = piece("run", '{"a":'), piece("run_all", "1}")
    assert calls_of(*growing) == [("run", '{"a":1}')]


def test_the_fast_path_begins_again_behind_a_name_that_settles(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader = ChatReader(BASE, NAMES.__contains__)
    for given in (piece("shell", LS), piece("shell", ""), piece(None, '{"a"')):
        reader.read(sse(chunk({"tool_calls": [given]}))[6:-2])
    assert reader.call_count == 2
    monkeypatch.delattr(ChatReader, "_read")
    (delta,) = reader.read(sse(chunk({"tool_calls": [piece(None, ":1}")]}))[6:-2])
    assert delta == ToolCall(1, None, "shell", ":1}")
