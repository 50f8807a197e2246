"""How much a model has written, by which clients are charged where an upstream states no usage."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from tests.replaying import REQUEST, chunk, sse, translation
from translator import Options
from translator.dialects import BASE
from translator.dialects.think_tags import Tags

FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object"}}
CUSTOM = {"type": "custom", "name": "patch"}
TRIGGER = {"type": "compaction_trigger"}


def call(arguments: str, *, index: int = 0, name: str = "f") -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"tool_calls": [{"index": index, "id": f"c{index}", "function": function}]}


def more(arguments: str, *, index: int = 0) -> dict[str, Any]:
    return {"tool_calls": [{"index": index, "function": {"arguments": arguments}}]}


CITATION: dict[str, Any] = {
    "annotations": [
        {
            "type": "url_citation",
            "url_citation": {"url": "http://a", "title": "a", "start_index": 0, "end_index": 1},
        }
    ]
}
ANSWERS: dict[str, tuple[list[dict[str, Any]], int]] = {
    "text": ([{"content": "Hello"}, {"content": " world"}], 11),
    "text of several bytes a character": ([{"content": "漢字"}, {"content": "🙂"}], 10),
    "a refusal": ([{"refusal": "No"}, {"refusal": ", no"}], 6),
    "text and a refusal": ([{"content": "Well"}, {"refusal": "No"}], 6),
    "reasoning": ([{"reasoning_content": "Think"}, {"reasoning_content": "ing"}], 8),
    "reasoning and text": ([{"reasoning": "é"}, {"content": "a"}, {"reasoning": "bc"}], 5),
    "details without text": ([{"reasoning_details": [{"type": "x"}]}, {"content": "a"}], 1),
    "details with text": ([{"reasoning_details": [{"text": "abc"}]}], 3),
    "arguments": ([call('{"a":'), more('"é"}')], 10),
    "arguments of several calls": ([call("{}"), call("{}", index=1), more(" ", index=1)], 5),
    "arguments of a free-form tool": ([call('{"input":"a\\n', name="patch"), more('b"}')], 16),
    "arguments behind a call that is closed": ([call("{}"), {"content": "a"}, more("xyz")], 6),
    "white space that is never sent": ([{"content": " "}, {"reasoning": "\n\n"}], 3),
    "white space that is dropped": (
        [{"reasoning": "\n"}, {"content": " "}, call("{}"), {"content": "\t"}, {"reasoning": "a"}],
        6,
    ),
    "white space before text": ([{"reasoning": "\n"}, {"content": "  "}, {"content": "a"}], 4),
    "a citation": (
        [
            CITATION,
            {"content": "abc"},
        ],
        3,
    ),
}


def written(
    deltas: list[dict[str, Any]],
    *,
    end: bool,
    request: dict[str, Any] | None = None,
    **options: Any,
) -> int:
    t = translation(REQUEST | {"tools": [FUNCTION, CUSTOM]} | (request or {}), **options)
    t.receive(sse(*(chunk(delta) for delta in deltas)))
    if end:
        t.receive(sse(chunk({}, "stop")))
        t.close()
    return t.written


@pytest.mark.parametrize("end", [False, True], ids=["cut", "ended"])
@pytest.mark.parametrize("family", ["summary", "none"])
@pytest.mark.parametrize("name", ANSWERS)
def test_all_that_came_counts_whether_the_answer_ends_or_is_cut(
    name: str, family: Any, end: bool
) -> None:
    """Reasoning counts where it is not shown, too: the model has written it."""
    deltas, size = ANSWERS[name]
    options = Options(reasoning_events=family)
    assert written(deltas, end=end, options=options) == size
    sealed = {"include": ["reasoning.encrypted_content"]}
    assert written(deltas, end=end, request=sealed, options=options) == size


def test_calls_that_the_client_does_not_get_count() -> None:
    deltas = [call("{}"), call('{"a":1}', index=1), more(" ", index=1)]
    assert written(deltas, end=True, request={"parallel_tool_calls": False}) == 10
    only = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "custom", "name": "patch"}]}
    assert written(deltas, end=True, request={"tool_choice": only}) == 10


def test_text_that_is_held_back_as_a_possible_call_counts() -> None:
    dialect = replace(BASE, recover_calls=True)
    text = "<tool_call>f<arg_key>a</arg_key>"
    deltas = [{"content": "Hi"}, {"content": text[:9]}, {"content": text[9:]}]
    assert written(deltas, end=False, dialect=dialect) == 2 + len(text)
    assert written(deltas, end=True, dialect=dialect) == 2 + len(text)


def test_reasoning_between_tags_counts() -> None:
    dialect = replace(BASE, think_tags=Tags())
    deltas = [{"content": "<think>"}, {"content": "abc"}, {"content": "</think>de"}]
    assert written(deltas, end=True, dialect=dialect) == 5


def test_text_that_is_repeated_by_each_chunk_counts_once() -> None:
    dialect = replace(BASE, cumulative=True)
    deltas = [{"content": "ab"}, {"content": "abcd"}, {"content": "abcdef"}]
    assert written(deltas, end=True, dialect=dialect) == 6


@pytest.mark.parametrize("end", [False, True], ids=["cut", "ended"])
def test_a_summary_counts_with_all_that_is_dropped_from_it(end: bool) -> None:
    deltas: list[dict[str, Any]] = [
        {"reasoning": "abc"},
        {"content": "défg"},
        {"refusal": "h"},
        CITATION,
        call("{}"),
    ]
    message = {"role": "user", "content": "Hi"}
    request = {"input": [message, TRIGGER]}
    assert written(deltas, end=end, request=request) == 3 + 5 + 1 + 2


def test_a_body_that_is_not_whole_counts_by_its_bytes() -> None:
    """Nobody can tell what of it is text; and when it is whole, everybody can."""
    t = translation(REQUEST | {"stream": False})
    body = (
        b'{"choices":[{"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}]}'
    )
    t.receive(body[:60])
    assert t.written == 60
    t.receive(body[60:])
    t.close()
    assert t.written == 5


def test_an_answer_that_does_not_come_counts_nothing() -> None:
    t = translation()
    t.start()
    assert t.written == 0
    t.close("broken")
    assert t.written == 0
