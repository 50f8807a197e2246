"""What is read of an answer that is passed through, to charge its client."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.fixture_cases import ROOT
from tests.replaying import REQUEST, translation
from tests.service.chat_bodies import COMPLETION, chunk, frame
from translator.dialects import BASE
from translator.reader.sse import MAX_EVENT_BYTES
from translator.service.access.cost import Answered, StatedUsage
from translator.service.access.token_meter import (
    MAX_TAIL_BYTES,
    MAX_WHOLE_BYTES,
    READ_BYTES,
    TokenMeter,
)

from .clients import USAGE

NAMES = (
    "choices index delta message content reasoning tool_calls function arguments name usage".split()
)
NAMES += "prompt_tokens completion_tokens total_tokens x_groq data error text".split()
STATED = StatedUsage(30, 20, 50)
DONE = b"data: [DONE]\n\n"


def metered(body: bytes, size: int = 10_000) -> Answered:
    """A body that comes in chunks of `size` bytes."""
    meter = TokenMeter()
    for start in range(0, len(body), size):
        meter.add(body[start : start + size])
    return meter.answered()


def completion(message: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"choices": [{"index": 0, "message": message}], **more}).encode()


def function(name: str, arguments: str) -> dict[str, Any]:
    return {"index": 0, "id": "call_1", "type": "function",
            "function": {"name": name, "arguments": arguments}}  # fmt: skip


# --- usage ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize("stream", [True, False])
def test_the_usage_is_found_however_the_answer_is_cut(stream: bool, size: int) -> None:
    text = 'a "usage": {"total_tokens": 9} b'
    body = (
        chunk({"content": text}) + frame({"choices": [], "usage": USAGE}) + DONE
        if stream
        else completion({"content": text}, usage=USAGE)
    )
    assert metered(body, size) == Answered(len(text), 3 if stream else 0, STATED)


def test_what_a_model_says_of_usage_is_not_believed() -> None:
    assert metered(completion({"content": '"usage": {"total_tokens": 9}'})).usage is None
    assert metered(chunk({"content": '"usage": {"total_tokens": 9}'})).usage is None


@pytest.mark.parametrize(
    ("fields", "usage"),
    [
        ({"usage": {"prompt_tokens": 3, "completion_tokens": 4}}, StatedUsage(3, 4, 0)),
        ({"usage": {"total_tokens": 7}}, StatedUsage(0, 0, 7)),
        ({"usage": {"prompt_tokens": 3}}, StatedUsage(3, 0, 0)),
        ({"usage": {"prompt_tokens": -3, "completion_tokens": "4", "total_tokens": None}}, StatedUsage(0, 4, 0)),
        ({"usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 90}}, StatedUsage(3, 4, 90)),
        ({"x_groq": {"usage": USAGE}}, STATED),
        ({"choices": [{"index": 0, "delta": {}, "usage": USAGE}]}, STATED),
        ({"usage": {}}, None),
        ({"usage": None}, None),
        ({"usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}}, None),
        ({"usage": {"prompt_tokens": -1, "completion_tokens": 1e300, "total_tokens": "many"}}, None),
        ({"usage": 50}, None),
    ],
)  # fmt: skip
def test_usage_is_read_in_each_of_its_forms(fields: Any, usage: StatedUsage | None) -> None:
    assert metered(chunk({"content": "a"}) + frame({"choices": []} | fields)).usage == usage


def test_of_usage_that_is_repeated_the_last_one_counts() -> None:
    """Some servers count on with each chunk; zeros after that say nothing."""
    counts = [{"prompt_tokens": 9, "completion_tokens": number} for number in (0, 1, 2)]
    body = b"".join(chunk({"content": "a"}, usage=usage) for usage in counts)
    assert metered(body).usage == StatedUsage(9, 2, 0)
    nothing = chunk({"content": "a"}, usage={"prompt_tokens": 0, "completion_tokens": 0})
    assert metered(body + nothing).usage == StatedUsage(9, 2, 0)


# --- text -----------------------------------------------------------------------------------------

DELTAS: dict[str, tuple[dict[str, Any], int]] = {
    "content": ({"role": "assistant", "content": "Hello"}, 5),
    "characters of several bytes": ({"content": "漢🙂"}, 7),
    "a refusal": ({"refusal": "No"}, 2),
    "reasoning": ({"reasoning_content": "abc"}, 3),
    "reasoning under a name that nobody knows": ({"thoughts": "abc"}, 3),
    "reasoning under two names": ({"reasoning": "abc", "reasoning_content": "abc"}, 3),
    "reasoning and its details": (
        {
            "reasoning": "abc",
            "reasoning_details": [{"type": "reasoning.text", "text": "abc", "signature": "xyz"}],
        },
        3,
    ),
    "details alone": ({"reasoning_details": [{"type": "reasoning.text", "text": "abc"}]}, 3),
    "parts": (
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "ab"}]},
                {"type": "text", "text": "c"},
            ]
        },
        3,
    ),
    "a call": ({"tool_calls": [function("f", '{"a":1}')]}, 7),
    "calls": ({"tool_calls": [function("f", "{}"), function("g", "{}")]}, 4),
    "an old call": ({"function_call": {"name": "f", "arguments": "{}"}}, 2),
    "a free-form call": ({"tool_calls": [{"custom": {"name": "f", "input": "ab"}}]}, 2),
    "arguments as an object": (
        {"tool_calls": [{"function": {"name": "f", "arguments": {"a": "bc"}}}]},
        10,
    ),
    "an image": ({"images": [{"type": "image_url", "image_url": {"url": "data:x"}}]}, 0),
    "audio": ({"audio": {"id": "a", "data": "AAAA", "transcript": "Hi"}}, 2),
    "citations": ({"annotations": [{"url_citation": {"url": "u", "content": "a page"}}]}, 0),
    "nothing": ({"content": None, "tool_calls": None, "role": "assistant"}, 0),
}


@pytest.mark.parametrize("size", [1, 10_000])
@pytest.mark.parametrize("name", DELTAS)
def test_what_the_model_wrote_counts_in_events_and_completions(name: str, size: int) -> None:
    delta, written = DELTAS[name]
    assert metered(chunk(delta) * 3 + DONE, size) == Answered(3 * written, 4)
    assert metered(completion(delta), size) == Answered(written)


def test_text_that_each_chunk_repeats_counts_once_in_each_choice() -> None:
    dialect = replace(BASE, cumulative=True)
    meter = TokenMeter(dialect)
    text = "漢" * 50
    for size in range(1, len(text) + 1):
        for index in (0, 1):
            delta = {"role": "assistant", "content": text[:size], "reasoning": "a" * size}
            meter.add(frame({"choices": [{"index": index, "delta": delta}]}))
    assert meter.answered() == Answered(2 * (150 + 50), 100)
    plain = TokenMeter(dialect)
    for _ in range(9):
        plain.add(chunk({"content": "abc"}))
    plain.add(chunk({"content": "x"}))
    assert plain.answered().written == 28


def test_cached_tokens_count_where_the_dialect_says_so() -> None:
    usage = {
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "prompt_tokens_details": {"cached_tokens": 90},
    }
    meter = TokenMeter(replace(BASE, prompt_excludes_cached=True))
    meter.add(chunk({}, usage=usage))
    assert meter.answered().usage == StatedUsage(93, 4, 0, 90)


def test_each_choice_counts() -> None:
    """A client may ask for many (`n`)."""
    deltas = [{"index": number, "delta": {"content": "abc"}} for number in range(5)]
    assert metered(frame({"choices": deltas})).written == 15
    apart = b"".join(frame({"choices": [delta]}) for delta in deltas)
    assert metered(apart * 2) == Answered(30, 10)


def test_text_counts_whatever_kind_of_chunk_came_before() -> None:
    kinds = [{"content": "ab"}, {"reasoning": "cde"}, {"content": "f", "refusal": "g"}, {}]
    body = b"".join(chunk(one) + chunk(two) for one in kinds for two in kinds)
    assert metered(body) == Answered(2 * len(kinds) * (2 + 3 + 2), 2 * len(kinds) ** 2)


@pytest.mark.parametrize("ends", ["\n\n", "\r\n\r\n", "\r\r"])
def test_events_count_with_any_line_end(ends: str) -> None:
    body = (chunk({"content": "abc"}) * 2).replace(b"\n\n", ends.encode())
    for size in (1, 5, 10_000):
        assert metered(b": a comment\n\n" + body, size) == Answered(6, 2)


def test_an_event_that_is_cut_counts_by_its_bytes() -> None:
    whole = chunk({"content": "abc"})
    assert metered(whole + whole[:-20]).written == 3 + len(whole) - len(b"data: ") - 20


def test_a_completion_that_is_cut_counts_by_its_bytes() -> None:
    body = completion({"content": "x" * 1000})
    assert metered(body[:900]).written == 900


@pytest.mark.parametrize(
    ("payload", "written"),
    [
        (r'{"choices":[{"index":0,"delta":{"content":"ab\ud83d"}}]}', 3),  # half a character
        (r'{"choices":[{"delta":{"tool_calls":[{"function":{"arguments":{"a":"\ud83d"}}}]}}]}', 9),
        ('{"data":{"choices":[{"index":0,"delta":{"content":"abc"}}]}}', 3),
        ('{"choices":[{"index":"0","delta":{"content":"abc"}}],"usage":3}', 3),
        ('{"choices":[{"delta":"abc"},4]}', 3),
        ('{"error":{"message":"no"}}', 0),
        ('{"choices":[]}', 0),
        ("nonsense", 8),
        ("[1,2]", 5),
    ],
)
def test_payloads_that_are_not_quite_chunks(payload: str, written: int) -> None:
    assert metered(f"data: {payload}\n\n".encode()) == Answered(written, 1)


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(NAMES), inner),
))  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_no_payload_breaks_the_meter(value: Any) -> None:
    """Whatever an upstream sends, its client is charged and its request is logged."""
    for payload in (value, {"choices": [{"delta": value, "usage": value}], "usage": value}):
        body = json.dumps(payload).encode()
        for dialect in (BASE, replace(BASE, cumulative=True)):
            for answer in (body, b"data: " + body + b"\n\n" + chunk({"content": "abc"})):
                meter = TokenMeter(dialect)
                meter.add(answer)
                assert 0 <= meter.answered().written <= 2 * len(answer)


def test_a_body_that_is_neither_counts_nothing_or_its_bytes() -> None:
    assert metered(b"") == Answered()
    assert metered(b" \n ") == Answered()
    assert metered(b"<html>").written == 6
    assert metered(json.dumps(COMPLETION).encode()) == Answered(11, 0, StatedUsage(3, 2, 5))


FIXTURES = [*ROOT.glob("*/*/upstream.sse"), *ROOT.glob("*/*/upstream.json")]


def test_it_counts_what_the_translation_counts() -> None:
    """For all recorded answers: no less, but for halves of characters, and little more."""
    assert len(FIXTURES) > 100
    for path in FIXTURES:
        body = path.read_bytes()
        t = translation(REQUEST | {"stream": path.suffix == ".sse"})
        t.receive(body)
        t.close()
        answered = metered(body)
        assert t.written - 5 <= answered.written <= 2 * t.written + 20, path
        usage = t.response.usage
        if usage is not None:
            assert answered.usage is not None, path
            assert answered.usage.input_tokens == usage.input_tokens, path
            assert answered.usage.output_tokens == usage.output_tokens, path


# --- what is held ---------------------------------------------------------------------------------


def test_chunks_are_read_from_time_to_time_and_not_kept() -> None:
    meter = TokenMeter()
    one = chunk({"content": "x" * 50})
    for _ in range(2000):
        meter.add(one)
        assert meter._unread_size == sum(map(len, meter._unread)) < READ_BYTES
    assert meter.answered() == Answered(100_000, 2000)


def test_of_a_huge_completion_only_the_end_is_kept() -> None:
    """Its usage is found, and its bytes count."""
    meter = TokenMeter()
    body = completion({"content": "x" * (MAX_WHOLE_BYTES + 100_000)}, usage=USAGE)
    for start in range(0, len(body), 1_000_000):
        meter.add(body[start : start + 1_000_000])
    assert meter._tail is not None
    assert len(meter._tail) <= MAX_TAIL_BYTES
    assert meter.answered() == Answered(len(body), 0, STATED)
    assert metered(completion({"content": "x" * MAX_WHOLE_BYTES}), 1_000_000).usage is None


def test_an_event_that_never_ends_counts_by_its_bytes() -> None:
    meter = TokenMeter()
    meter.add(b"data: ")
    block = b"x" * 1_000_000
    for _ in range(2 * (MAX_EVENT_BYTES // len(block) + 2)):
        meter.add(block)
    size = 2 * (MAX_EVENT_BYTES // len(block) + 2) * len(block)
    meter.add(b"\n\n" + frame({"choices": [], "usage": USAGE}))
    answered = meter.answered()
    assert size <= answered.written <= size + 1000
    assert answered.usage == STATED
