"""Chunks to deltas: odd upstreams, each with the one thing that is odd about it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

import translator
from tests.invariants import check_events
from tests.replaying import REQUEST, chunk, replay, sse
from translator import Response
from translator.dialects import BASE, Dialect
from translator.dialects.think_tags import Tags
from translator.wire import items

TOOLS = [{"type": "function", "name": name} for name in ("f", "g", "shell")]
ASKING = {**REQUEST, "tools": TOOLS}


def answer(*payloads: Any, dialect: str | Dialect = "base", **more: Any) -> Response:
    events, response = replay(sse(*payloads), {**ASKING, **more}, dialect=dialect)
    check_events(events)
    return response


def shown(response: Response) -> list[tuple[str, ...]]:
    """The output in a short form: R reasoning, M message, X refusal, F function call."""
    short: list[tuple[str, ...]] = []
    for item in response.output:
        match item:
            case items.Reasoning():
                short.append(("R", "".join(part.text for part in item.summary)))
            case items.Message():
                for part in item.content:
                    match part:
                        case items.OutputText():
                            short.append(("M", part.text))
                        case items.OutputRefusal():
                            short.append(("X", part.refusal))
            case items.FunctionCall():
                short.append(("F", item.name, item.arguments))
            case _:
                short.append((type(item).__name__,))
    return short


def piece(
    name: str | None = None,
    arguments: Any = None,
    *,
    index: int | None = None,
    id: str | None = None,
) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"index": index, "id": id, "function": function}


def calls(*pieces: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return chunk({"tool_calls": list(pieces)}, finish)


END = chunk({}, "tool_calls")


# --- what an answer is made of --------------------------------------------------------------------


def test_reasoning_under_any_name_counts_once() -> None:
    both = {"reasoning_content": "a", "reasoning": "a", "reasoning_text": "a"}
    details = {"reasoning_details": [{"type": "reasoning.text", "text": "b"}, {"data": "x"}]}
    same = {"reasoning": "c", "reasoning_details": [{"type": "reasoning.text", "text": "c"}]}
    summary = {"reasoning_details": [{"type": "reasoning.summary", "summary": "d"}]}
    response = answer(
        chunk(both), chunk(details), chunk(same), chunk(summary), chunk({"content": "x"}, "stop")
    )
    assert shown(response) == [("R", "abcd"), ("M", "x")]
    alone = {"reasoning_text": "a", "reasoning_details": [{"type": "reasoning.text", "text": "a"}]}
    assert shown(answer(chunk(alone), chunk({}, "stop"))) == [("R", "a")]


def test_details_that_are_no_list_of_objects_are_left_alone() -> None:
    response = answer(chunk({"reasoning_details": ["x"], "content": "a"}), chunk({}, "stop"))
    assert shown(response) == [("M", "a")]


def test_one_chunk_may_hold_everything() -> None:
    delta = {"tool_calls": [piece("f", "{}")], "content": "b", "reasoning": "a"}
    assert shown(answer(chunk(delta, "tool_calls"))) == [("R", "a"), ("M", "b"), ("F", "f", "{}")]


def test_content_in_parts() -> None:
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "a"}, 5, {"text": None}]}
    plain = {"type": "thinking", "thinking": "b"}
    text = {"type": "text", "text": "c"}
    odd = [{"type": "reference", "reference_ids": [1]}, 5, "d", {"type": "thinking"}]
    response = answer(chunk({"content": [thinking, plain, text, *odd]}, "stop"))
    assert shown(response) == [("R", "ab"), ("M", "cd")]
    summary = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "a"}]}
    as_text = {"type": "reasoning", "text": "b"}
    response = answer(chunk({"content": [summary, as_text, text]}, "stop"))
    assert shown(response) == [("R", "ab"), ("M", "c")]


def test_only_the_first_candidate_counts() -> None:
    other = {"index": 1, "delta": {"content": "no"}, "finish_reason": "length"}
    both = {"choices": [{"index": 0, "delta": {"content": "yes"}}, other]}
    assert shown(answer(both, chunk({}, "stop"))) == [("M", "yes")]


def test_a_message_beside_the_delta_is_ignored() -> None:
    choice = {"index": 0, "delta": {"content": "b"}, "message": {"content": "ab"}}
    assert shown(answer(chunk({"content": "a"}), {"choices": [choice]}, chunk({}, "stop"))) == [
        ("M", "ab")
    ]


def test_a_refusal() -> None:
    response = answer(chunk({"refusal": ""}), chunk({"refusal": "No."}), chunk({}, "stop"))
    assert shown(response) == [("X", "No.")]


def test_blank_text_opens_nothing() -> None:
    response = answer(
        chunk({"content": "\n"}),
        chunk({"reasoning": "a"}),
        chunk({"content": "\n\n"}),
        calls(piece("f", "{}", index=0, id="a")),
        chunk({"content": " "}),
        calls(piece("g", "{}", index=1, id="b")),
        chunk({"content": "\n"}, "tool_calls"),
    )
    assert shown(response) == [("R", "a"), ("F", "f", "{}"), ("F", "g", "{}")]


def test_tags_are_read_where_the_dialect_says_so() -> None:
    payloads = [chunk({"content": text}) for text in ("<th", "ink>a", "b</thi", "nk>\n\nHello")]
    end = chunk({}, "stop")
    assert shown(answer(*payloads, end, dialect="fireworks")) == [("R", "ab"), ("M", "Hello")]
    assert shown(answer(*payloads, end)) == [("M", "<think>ab</think>\n\nHello")]
    held = [chunk({"content": "a <think"}), chunk({"content": "<thi"}, "stop")]
    assert shown(answer(*held, dialect="fireworks")) == [("M", "a <think<thi")]
    start = chunk({"content": "<thi"}, "stop")
    assert shown(answer(start, dialect="fireworks")) == [("M", "<thi")]


def test_tags_are_text_where_reasoning_has_its_own_field() -> None:
    payloads = [chunk({"reasoning_content": "r"}), chunk({"content": "<think>x</think>"}, "stop")]
    assert shown(answer(*payloads, dialect="fireworks")) == [("R", "r"), ("M", "<think>x</think>")]
    stray = Dialect("x", think_tags=Tags(stray_close=True))
    payloads = [chunk({"reasoning_content": "r"}), chunk({"content": "\n</think>\nHi"}, "stop")]
    assert shown(answer(*payloads, dialect=stray)) == [("R", "r"), ("M", "Hi")]


def test_log_probabilities_belong_to_their_text() -> None:
    given = {"content": [{"token": "a", "logprob": -0.5, "bytes": None, "top_logprobs": [{"token": "é", "logprob": -1, "bytes": [195, 169]}]}]}  # fmt: skip
    choice = {"index": 0, "delta": {"content": "a"}, "logprobs": given, "finish_reason": "stop"}
    response = answer({"choices": [choice]}, chunk({}, None), dialect="fireworks")
    part = response.output[0].content[0]  # type: ignore[union-attr]
    assert msgspec.to_builtins(part.logprobs) == [
        {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": [{"token": "é", "logprob": -1.0, "bytes": [195, 169]}]}  # type: ignore[union-attr]
    ]  # fmt: skip


def test_sources_become_annotations() -> None:
    nested = {"type": "url_citation", "url_citation": {"url": "u", "title": "t", "start_index": 0, "end_index": 1}}  # fmt: skip
    flat = {"type": "url_citation", "url": "v", "start_index": 1, "end_index": 2}
    nowhere = {"type": "url_citation", "url": "w"}
    odd = [5, {"type": "file"}, {"type": "url_citation", "url_citation": 5}]
    response = answer(
        chunk({"annotations": [nested]}),
        chunk({"content": "a"}),
        chunk({"annotations": [nested, flat, nowhere, *odd]}),
        chunk({}, "stop"),
    )
    part = response.output[0].content[0]  # type: ignore[union-attr]
    assert [(a.url, a.title, a.start_index) for a in part.annotations] == [  # type: ignore[union-attr]
        ("u", "t", 0),
        ("v", "", 1),
    ]


def cited(*payloads: Any) -> list[tuple[str, str, int, int]]:
    response = answer(*payloads)
    parts = [part for item in response.output if isinstance(item, items.Message) for part in item.content]  # fmt: skip
    return [
        (one.url, one.title, one.start_index, one.end_index)
        for part in parts
        if isinstance(part, items.OutputText)
        for one in part.annotations
    ]


SKY, SEA = {"url": "sky", "title": "The sky"}, {"url": "sea"}


@pytest.mark.parametrize(
    ("payloads", "expected"),
    [
        # marks cut anywhere; the list comes with the first chunk, or the last, or again and again
        ([chunk({"content": "a[1"}, citations=["sky"]), chunk({"content": "][2]"}, "stop")], [("sky", "", 1, 4)]),
        ([chunk({"content": "a[2]"}), chunk({}, "stop", citations=["sky", "sea"])], [("sea", "", 1, 4)]),
        ([chunk({"content": "[1]"}, citations=["sky"]), chunk({"content": "[2]"}, "stop", citations=["sky", "sea"])], [("sky", "", 0, 3), ("sea", "", 3, 6)]),
        # titles, or the list itself, come as search results
        ([chunk({"content": "[1][2]"}, "stop", citations=["sky", "sea"], search_results=[SKY, SEA])], [("sky", "The sky", 0, 3), ("sea", "", 3, 6)]),
        ([chunk({"content": "[1][2]"}, "stop", search_results=[SKY, 5, SEA])], [("sky", "The sky", 0, 3), ("sea", "", 3, 6)]),
        # what is no mark, or a mark of nothing
        ([chunk({"content": "[0][3] `[1]` ```\n[1]\n``` [1a] ```[1]"}, "stop", citations=["sky"])], []),
        ([chunk({"refusal": "[1]"}, "stop", citations=["sky"])], []),
        ([chunk({"content": "[1]"}, citations=["sky"]), chunk({}, "stop", citations=None)], [("sky", "", 0, 3)]),
        ([chunk({"content": "[1]"}, "stop", citations=[])], []),
        ([chunk({"content": "[1]"}, "stop", citations="sky", search_results={"url": "sky"})], []),
        ([chunk({"content": "[1]"}, "stop", citations=None, search_results=None)], []),
        ([chunk({"content": "[1]", "role": 5, "refusal": 5}, "stop", citations=["sky"])], [("sky", "", 0, 3)]),
        # places that the upstream gives itself are enough
        ([chunk({"content": "[1]", "annotations": [{"type": "url_citation", "url": "x", "start_index": 0, "end_index": 1}]}, "stop", citations=["sky"])], [("x", "", 0, 1)]),
    ],
)  # fmt: skip
def test_marks_in_the_text_refer_to_sources(
    payloads: list[Any], expected: list[tuple[str, str, int, int]]
) -> None:
    assert cited(*payloads) == expected


def test_text_that_is_repeated_whole_is_cut_to_what_is_new() -> None:
    dialect = msgspec.structs.replace(BASE, cumulative=True)
    growing = [chunk({"reasoning": text}) for text in ("A", "AB", "ABC")]
    assert shown(answer(*growing, chunk({}, "stop"), dialect=dialect)) == [("R", "ABC")]
    laughing = [chunk({"content": "ha"})] * 3
    response = answer(*laughing, chunk({"content": "hahaha"}, "stop"), dialect=dialect)
    assert shown(response) == [("M", "hahahahahaha")]


def test_half_characters_are_joined() -> None:
    halves = ['{"choices":[{"index":0,"delta":{"content":"a\\ud83d"}}]}', '{"choices":[{"index":0,"delta":{"content":"\\ude00b"}}]}']  # fmt: skip
    assert shown(answer(*halves, chunk({}, "stop"))) == [("M", "a😀b")]
    assert shown(answer(halves[0], chunk({"content": "c"}, "stop"))) == [("M", "a\ufffdc")]
    assert shown(answer(halves[0], chunk({}, "stop"))) == [("M", "a\ufffd")]
    assert shown(answer(halves[1], chunk({}, "stop"))) == [("M", "\ufffdb")]
    call = '{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"name":%s,"arguments":"%s"}}]}}]}'
    payloads = [call % ('"f"', '{\\"a\\":\\"\\ud83d'), call % ("null", '\\ude00\\"}')]
    assert shown(answer(*payloads, END)) == [("F", "f", '{"a":"😀"}')]
    assert shown(answer(payloads[0], chunk({}, "length"))) == [("F", "f", '{"a":"\ufffd')]
    odd = call % ('"\\ud83d"', "{}")
    assert shown(answer(odd, END)) == [("F", "\ufffd", "{}")]
    for field, kind in (("refusal", "X"), ("reasoning", "R")):
        half = halves[0].replace("content", field)
        assert shown(answer(half, chunk({}, "stop"))) == [(kind, "a\ufffd")]


# --- calls ----------------------------------------------------------------------------------------

F, G = ("F", "f", '{"a":1}'), ("F", "g", "{}")


@pytest.mark.parametrize(
    ("payloads", "expected"),
    [
        # index always 0, two calls
        ([calls(piece("f", '{"a":1}', index=0, id="x")), calls(piece("g", "{}", index=0, id="y"))], [F, G]),
        # index 0, one call in pieces
        ([calls(piece("f", "", index=0, id="x")), calls(piece(None, '{"a"', index=0)), calls(piece(None, ":1}", index=0))], [F]),
        # name and id on every chunk
        ([calls(piece("f", '{"a"', index=0, id="x")), calls(piece("f", ":1}", index=0, id="x"))], [F]),
        # name in two pieces, without an id
        ([calls(piece("sh", None, index=0)), calls(piece("ell", None, index=0)), calls(piece(None, "{}", index=0))], [("F", "shell", "{}")]),
        # a second name once arguments came is noise
        ([calls(piece("f", '{"a":1}', index=0)), calls(piece("zzz", None, index=0))], [F]),
        # id before name
        ([calls(piece(None, "", index=0, id="x")), calls(piece("f", '{"a":1}', index=0))], [F]),
        # no index: position among several, then position again
        ([calls(piece("f", "", id="x"), piece("g", "", id="y")), calls(piece(None, '{"a":1}'), piece(None, "{}"))], [F, G]),
        # no index: by id
        ([calls(piece("f", '{"a"', id="x")), calls(piece("f", ":1}", id="x")), calls(piece("g", "{}", id="y"))], [F, G]),
        # no index, no id: a name after whole arguments begins another call
        ([calls(piece("f", '{"a"')), calls(piece(None, ":1}")), calls(piece("g", "{}"))], [F, G]),
        # whole call again with the finish reason
        ([calls(piece("f", '{"a":1}', index=0, id="x")), calls(piece("f", '{"a":1}', index=0, id="x"))], [F]),
        # arguments as an object
        ([calls(piece("f", {"a": 1}, index=0))], [F]),
        # no arguments at all, in four ways
        ([calls(piece("g", "", index=0))], [G]),
        ([calls(piece("g", None, index=0))], [G]),
        ([calls(piece("g", "nu", index=0)), calls(piece(None, "ll", index=0))], [G]),
        ([calls({"index": 0, "id": "x", "function": {"name": "g"}})], [G]),
        # many empty pieces, then everything
        ([calls(piece("f", "", index=0))] + [calls(piece(None, "", index=0))] * 12 + [calls(piece(None, '{"a":1}', index=0))], [F]),
        # the first index is not 0
        ([calls(piece("f", '{"a":1}', index=3, id="x"))], [F]),
        # the older form
        ([chunk({"function_call": {"name": "f"}}), chunk({"function_call": {"arguments": '{"a":1}'}})], [F]),
        # ids that are numbers
        ([{"choices": [{"delta": {"tool_calls": [{"index": 0, "id": 7, "function": {"name": "f", "arguments": '{"a":1}'}}]}}]}], [F]),
        # invalid JSON is passed on
        ([calls(piece("f", '{"a": tru}', index=0))], [("F", "f", '{"a": tru}')]),
        # a piece without a name and without arguments is none
        ([calls(piece(None, "", index=0, id="")), calls(piece("g", "{}", index=1))], [G]),
        # channel debris in the name
        ([calls(piece("shell<|channel|>json", "{}", index=0))], [("F", "shell", "{}")]),
        # a tool that was not declared
        ([calls(piece("unknown", "{}", index=0))], [("F", "unknown", "{}")]),
        # two without arguments, then text
        ([calls(piece("g", "null", index=0)), calls(piece("g", "null", index=1)), chunk({"content": "x"})], [G, G, ("M", "x")]),
    ],
)  # fmt: skip
def test_calls_are_put_together(payloads: list[Any], expected: list[tuple[str, ...]]) -> None:
    assert shown(answer(*payloads, END)) == expected


def test_ids_are_kept_made_up_or_made_unique() -> None:
    history = [
        {"role": "user", "content": "x"},
        {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "a", "output": "x"},
    ]
    response = answer(
        calls(piece("f", "{}", index=0, id="a"), piece("f", "{}", index=1, id="a")),
        calls(piece("f", "{}", index=2), piece("f", "{}", index=3, id="functions.f:0")),
        END,
        input=history,
    )
    ids = [item.call_id for item in response.output if isinstance(item, items.FunctionCall)]
    assert ids[:2] == ["a~2", "a~3"]
    assert ids[2].startswith("call_0")
    assert ids[3] == "functions.f:0"


@pytest.mark.parametrize(
    "others", [[], [calls(piece("g", "{}", index=1))], [chunk({"content": "x"})]]
)
def test_arguments_for_nobody_knows_what_fail_the_answer(others: list[Any]) -> None:
    """They can be given to no tool, and to drop them would lose what the model asked for."""
    nameless = calls(piece(None, '{"a"', index=0, id="x")), calls(piece(None, ":1}", index=0))
    response = answer(*nameless, *others, END)
    assert status(response) == "server_error"
    assert response.error is not None
    assert "without saying which" in response.error.message
    cut = answer(*nameless, *others, chunk({}, "length"))
    assert status(cut) == "max_output_tokens"


def test_one_call_where_several_are_not_wanted() -> None:
    both = calls(piece("f", '{"a":1}', index=0), piece("g", "{}", index=1))
    assert shown(answer(both, END, parallel_tool_calls=False)) == [F]


# --- ends -----------------------------------------------------------------------------------------


def status(response: Response) -> str:
    if response.incomplete_details:
        return response.incomplete_details.reason
    return response.error.code if response.error else response.status


TEXT = chunk({"content": "Hello"})


@pytest.mark.parametrize(
    ("payloads", "expected"),
    [
        ([TEXT, chunk({}, "stop"), "[DONE]"], "completed"),
        ([TEXT, chunk({}, "stop")], "completed"),
        ([TEXT, "[DONE]"], "completed"),
        ([TEXT, {"choices": [], "usage": {"prompt_tokens": 1}}], "completed"),
        ([TEXT, {"choices": [], "usage": {"prompt_tokens": 1}}, TEXT], "server_error"),
        ([TEXT], "server_error"),
        ([], "server_error"),
        (["[DONE]"], "server_error"),
        ([chunk({"role": "assistant"}), "[DONE]"], "server_error"),
        ([chunk({"content": ""}), {"choices": [], "usage": {"completion_tokens": 0}}], "server_error"),
        ([chunk({}), {"choices": [], "usage": {"completion_tokens": 3}}, "[DONE]"], "completed"),
        ([chunk({}, "stop")], "completed"),
        ([TEXT, chunk({}, "xyz")], "completed"),
        ([chunk({}, "xyz")], "server_error"),
        ([TEXT, chunk({}, "")], "server_error"),
        ([chunk({"content": "a"}, "stop"), chunk({"content": "b"}, "stop")], "completed"),
        ([TEXT, chunk({}, "length")], "max_output_tokens"),
        ([TEXT, chunk({}, "max_tokens")], "max_output_tokens"),
        ([TEXT, chunk({}, "stop"), chunk({}, "length")], "max_output_tokens"),
        ([TEXT, chunk({}, "content_filter")], "content_filter"),
        ([TEXT, chunk({}, "SAFETY")], "content_filter"),
        ([TEXT, chunk({}, "error")], "server_error"),
        ([TEXT, chunk({}, "insufficient_system_resource")], "server_error"),
        ([chunk({}, "model_context_window_exceeded")], "context_length_exceeded"),
        ([TEXT, chunk({}, "model_context_window_exceeded")], "max_output_tokens"),
        ([TEXT, {"error": {"message": "x", "code": 429}}], "rate_limit_exceeded"),
        ([TEXT, {"error": {"message": "x", "code": "server_is_overloaded"}}], "server_error"),
        ([TEXT, {"base_resp": {"status_code": 1027, "status_msg": "x"}}], "content_filter"),
        ([{"base_resp": {"status_code": 1027, "status_msg": "x"}}], "server_error"),
        ([TEXT, chunk({}, "length"), {"error": {"message": "Token limit reached"}}], "max_output_tokens"),
        ([TEXT, "no json", "no json", "no json", chunk({}, "stop")], "server_error"),
        ([TEXT, "no json", "no json", TEXT, "no json", chunk({}, "stop")], "completed"),
        ([TEXT, "[DONE]", chunk({}, "length"), "[DONE]"], "completed"),
        ([calls(piece("f", "{}", index=0))], "server_error"),
        ([TEXT, chunk({}, "function_call")], "completed"),
    ],
)  # fmt: skip
def test_how_an_answer_ends(payloads: list[Any], expected: str) -> None:
    assert status(answer(*payloads)) == expected


def test_whole_calls_without_an_end_count_where_the_dialect_says_so() -> None:
    lenient = Dialect("x", lenient_eof=True)
    whole = calls(piece("f", "{}", index=0))
    assert status(answer(whole, dialect=lenient)) == "completed"
    assert status(answer(TEXT, dialect=lenient)) == "server_error"
    assert (
        status(answer(whole, calls(piece(None, '{"', index=1)), dialect=lenient)) == "server_error"
    )


def test_the_last_words_of_a_proxy_explain_the_end() -> None:
    body = sse(TEXT) + b"upstream error: read ECONNRESET\n"
    _, response = replay(body)
    assert response.error is not None
    assert "read ECONNRESET" in response.error.message


def test_an_error_speaks_for_the_finish_reason() -> None:
    named = {**chunk({}, "error"), "error": {"message": "Provider disconnected"}}
    response = answer(TEXT, named)
    assert response.error is not None
    assert response.error.message == "Provider disconnected"


def test_a_cut_call_is_the_last_item_and_incomplete() -> None:
    response = answer(
        calls(piece("f", '{"a":1}', index=0), piece("g", '{"to": "', index=1)),
        chunk({}, "length"),
    )
    states = [item.status for item in response.output if isinstance(item, items.FunctionCall)]
    assert states == ["completed", "incomplete"]
    response = answer(calls(piece("f", '{"a":1}', index=0)), chunk({}, "length"))
    assert response.output[0].status == "completed"  # type: ignore[union-attr]
    assert shown(answer(calls(piece("f", "", index=0)), chunk({}, "length"))) == []


# --- usage ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}, (9, 0, 0, 4, 0)),
        ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 2}}, (9, 5, 2, 0, 0)),
        ({"prompt_tokens": 9, "prompt_tokens_details": None, "prompt_cache_hit_tokens": 5}, (9, 5, 0, 0, 0)),
        ({"prompt_tokens": 9, "prompt_tokens_details": {}, "cached_tokens": 5}, (9, 5, 0, 0, 0)),
        ({"prompt_tokens": 9, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 3}, (9, 5, 3, 0, 0)),
        ({"prompt_tokens": 9, "num_cached_tokens": 5}, (9, 5, 0, 0, 0)),
        ({"prompt_tokens": 9, "cached_tokens": 50}, (9, 9, 0, 0, 0)),
        ({"completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 5}}, (0, 0, 0, 9, 5)),
        ({"completion_tokens": 9, "reasoning_tokens": 50}, (0, 0, 0, 9, 9)),
        # xAI: reasoning beside the completion
        ({"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 6, "reasoning_tokens": 3}, (1, 0, 0, 5, 3)),
        # cached tokens beside the prompt, alone and with reasoning beside the completion
        ({"prompt_tokens": 105, "completion_tokens": 128, "total_tokens": 740, "cached_tokens": 507}, (612, 507, 0, 128, 0)),
        ({"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 10, "cached_tokens": 4, "reasoning_tokens": 3}, (5, 4, 0, 5, 3)),
        ({"prompt_tokens": "7", "completion_tokens": 12.0}, (7, 0, 0, 12, 0)),
        ({"prompt_tokens": -1, "completion_tokens": 10**18}, (0, 0, 0, 10**18, 0)),
        ({"prompt_tokens": True, "completion_tokens": [1]}, (0, 0, 0, 0, 0)),
        ({"prompt_tokens": float("1e300"), "completion_tokens": "9" * 40}, (0, 0, 0, 0, 0)),
    ],
)  # fmt: skip
def test_usage_in_all_its_forms(usage: dict[str, Any], expected: tuple[int, ...]) -> None:
    response = answer(TEXT, {**chunk({}, "stop"), "usage": usage})
    assert response.usage is not None
    assert (
        response.usage.input_tokens,
        response.usage.input_tokens_details.cached_tokens,
        response.usage.input_tokens_details.cache_write_tokens,
        response.usage.output_tokens,
        response.usage.output_tokens_details.reasoning_tokens,
    ) == expected


def test_a_fact_says_where_cached_tokens_are_counted_beside_the_prompt() -> None:
    beside = msgspec.structs.replace(BASE, prompt_excludes_cached=True)
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "cache_read_input_tokens": 40}
    response = answer(chunk({"content": "x"}, "stop", usage=usage), dialect=beside)
    assert response.usage is not None
    assert response.usage.input_tokens == 45
    assert response.usage.input_tokens_details.cached_tokens == 40


USAGE = {"prompt_tokens": 9, "completion_tokens": 4}


@pytest.mark.parametrize(
    "payloads",
    [
        [chunk({}, "stop", usage=USAGE)],
        [chunk({}, "stop"), {"choices": [], "usage": USAGE}],
        [{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": USAGE}]}],
        [chunk({}, "stop", x_groq={"usage": USAGE})],
        [chunk({}, "stop", usage=None), chunk({}, None, usage=USAGE)],
        [chunk({}, None, usage={"prompt_tokens": 1}), chunk({}, "stop", usage=USAGE), chunk({}, usage=None)],
        [chunk({}, "stop"), {"choices": [], "usage": {**USAGE, "x": 1}, "timings": {"cache_n": 3}}],
        # wrong types around it
        [chunk({}, "stop"), {"id": 5, "choices": 7, "x_groq": 5, "usage": USAGE}],
        [{"choices": [{"index": "x", "delta": 5, "message": 5, "finish_reason": "stop", "usage": USAGE}]}],
        [chunk({}, "stop"), {"choices": 5, "x_groq": {"usage": USAGE}}],
    ],
)  # fmt: skip
def test_usage_in_all_its_places(payloads: list[Any]) -> None:
    response = answer(TEXT, *payloads)
    assert response.status == "completed"
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens) == (9, 4)
    cached = 3 if "timings" in payloads[-1] else 0
    assert response.usage.input_tokens_details.cached_tokens == cached


def test_the_tier_that_served_the_request() -> None:
    response = answer(TEXT, chunk({}, "stop", service_tier="flex"))
    assert response.service_tier == "flex"
    assert answer(TEXT, chunk({}, "stop", service_tier="on_demand")).service_tier == "default"


# --- envelopes ------------------------------------------------------------------------------------


def test_wrappers_are_opened() -> None:
    wrapped = {"data": chunk({"content": "Hello"}, "stop"), "success": True}
    assert shown(answer(wrapped)) == [("M", "Hello")]
    assert shown(answer([chunk({"content": "Hello"}), chunk({}, "stop")])) == [("M", "Hello")]


def test_an_array_of_errors_is_an_error() -> None:
    assert status(answer([{"error": {"message": "x", "code": 429}}])) == "rate_limit_exceeded"


def test_two_payloads_without_a_blank_line_between() -> None:
    two = json.dumps(TEXT) + "\n" + json.dumps(chunk({}, "stop"))
    body = "".join(f"data: {line}\n" for line in two.split("\n")) + "\n"
    _, response = replay(body.encode())
    assert shown(response) == [("M", "Hello")]


@pytest.mark.parametrize(
    "delta",
    [
        {"content": "Hello", "reasoning": 5, "tool_calls": 7, "function_call": "x", "refusal": []},
        {"content": "Hello", "reasoning_content": {}, "annotations": 5, "reasoning_details": 5},
        {"content": "Hello", "tool_calls": [{"function": 5}], "role": 7},
        {"content": "Hello", "tool_calls": ["x"], "function_call": {"name": 5, "arguments": 5}},
        {"content": "Hello", "reasoning_details": [], "tool_calls": [{"index": True, "id": []}]},
        {"content": ["Hello"], "refusal": 5},
    ],
)
def test_wrong_types_do_not_hide_the_rest(delta: dict[str, Any]) -> None:
    assert shown(answer(chunk(delta), chunk({}, "stop"))) == [("M", "Hello")]


def test_bytes_that_are_no_utf8_do_not_hide_the_rest() -> None:
    body = sse(chunk({"content": "a?b"}), chunk({}, "stop")).replace(b"?", b"\xff")
    _, response = replay(body)
    assert shown(response) == [("M", "a\ufffdb")]


def test_json_that_is_nested_without_end() -> None:
    body = b"data: " + b"[" * 100_000 + b"\n\n" + sse(TEXT, chunk({}, "stop"))
    _, response = replay(body)
    assert shown(response) == [("M", "Hello")]


def test_details_survive_wrong_types_around_them() -> None:
    details = [{"type": "reasoning.text", "text": "a", "signature": "s"}]
    odd = chunk({"content": "x", "reasoning_details": details, "role": 7, "refusal": 5}, "stop")
    response = answer(odd, include=["reasoning.encrypted_content"])
    assert shown(response) == [("R", "a"), ("M", "x")]
    blob = json.loads(translator.encode_json(response))["output"][0]["encrypted_content"]
    thought = translator.common.sealed.unseal(blob)  # type: ignore[attr-defined]
    assert thought.details == details


def test_signatures_travel_in_a_last_item() -> None:
    """Clients keep of a call what the API knows of it; of a reasoning item they keep all."""
    signed = {**piece("f", "{}", index=0, id="a"), "extra_content": {"google": {"s": 1}}}
    chunks = [
        chunk({"extra_content": {"google": {"m": 1}}}),
        calls(signed, piece("g", "{}", index=1, id="b")),
        chunk({}, "stop"),
    ]
    response = answer(*chunks, include=["reasoning.encrypted_content"])
    assert shown(response) == [("F", "f", "{}"), ("F", "g", "{}"), ("R", "")]
    thought = translator.common.sealed.unseal(response.output[2].encrypted_content)  # type: ignore
    assert thought.extras == {"a": {"google": {"s": 1}}, "": {"google": {"m": 1}}}
    assert shown(answer(*chunks)) == [("F", "f", "{}"), ("F", "g", "{}")]
    nameless = {**piece(None, "{}", index=0), "extra_content": {}}
    response = answer(calls(nameless), END, include=["reasoning.encrypted_content"])
    assert shown(response) == []
