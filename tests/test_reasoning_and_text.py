"""What stands between reasoning and text, and what is told twice: streamed and whole alike."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.invariants import check_events
from tests.replaying import REQUEST, chunk, replay, sse, translation
from translator import Response
from translator.dialects import DIALECTS, Dialect
from translator.reader.logprobs import spelling
from translator.wire import items
from translator.wire.deltas import Logprob


def shown(response: Response) -> list[tuple[str, str]]:
    short: list[tuple[str, str]] = []
    for item in response.output:
        match item:
            case items.Reasoning():
                short.append(("R", "".join(part.text for part in item.summary)))
            case items.Message():
                short += [("M", part.text) for part in item.content if isinstance(part, items.OutputText)]  # fmt: skip
            case _:
                short.append((type(item).__name__, ""))
    return short


def streamed(*deltas: dict[str, Any], dialect: str | Dialect = "base") -> list[tuple[str, str]]:
    events, response = replay(sse(*map(chunk, deltas), chunk({}, "stop")), dialect=dialect)
    check_events(events)
    return shown(response)


def whole(
    message: dict[str, Any], request: dict[str, Any] = REQUEST, dialect: str | Dialect = "base", **choice: Any
) -> Response:  # fmt: skip
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "stop", **choice}]}
    return translation({**request, "stream": False}, dialect=dialect).complete(
        json.dumps(body).encode()
    )


# --- told twice -----------------------------------------------------------------------------------

THINKING = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]
SUMMARY = [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}]
DETAILS = [{"type": "reasoning.text", "text": "hm"}]
TEXT = [{"type": "text", "text": "hello"}]


@pytest.mark.parametrize("parts", [THINKING, SUMMARY])
@pytest.mark.parametrize(
    "beside",
    [
        {"reasoning": "hm"},
        {"reasoning_content": "hm"},
        {"reasoning_text": "hm"},
        {"reasoning_details": DETAILS},
        {"reasoning": "hm", "reasoning_content": "hm", "reasoning_details": DETAILS},
        {},
        {"reasoning": None, "reasoning_content": ""},
    ],
)
def test_reasoning_in_parts_and_in_a_field_counts_once(
    parts: list[Any], beside: dict[str, Any]
) -> None:
    both = {"content": [*parts, *TEXT], **beside}
    expected = [("R", "hm"), ("M", "hello")]
    assert streamed(both) == shown(whole(both)) == expected
    assert streamed({"content": parts, **beside}, {"content": TEXT}) == expected


def test_reasoning_of_another_chunk_is_not_told_twice() -> None:
    assert streamed({"content": THINKING}, {"reasoning": " so"}, {"content": TEXT}) == [
        ("R", "hm so"),
        ("M", "hello"),
    ]
    blank = {"reasoning": "\n", "content": [*THINKING, *TEXT]}
    assert streamed(blank) == [("R", "\nhm"), ("M", "hello")]


# --- blank lines between --------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content", "reasoning_text"])
@pytest.mark.parametrize("text", ["\n\nHello", "\r\n Hello\n\n", "  Hello", "\n" * 100 + "Hello"])
def test_white_space_behind_reasoning_in_a_field_is_text(field: str, text: str) -> None:
    """However it is cut: the server has said what the text is."""
    answer = [("R", "hm"), ("M", text)]
    assert shown(whole({field: "hm", "content": text})) == answer
    assert streamed({field: "hm"}, {"content": text}) == answer
    assert streamed({field: "hm"}, *({"content": character} for character in text)) == answer


def test_the_blank_behind_a_tag_belongs_to_the_tag() -> None:
    """It is split here, and it may be cut anywhere, too."""
    text = "<think>hm</think>\n\nHello"
    answer = [("R", "hm"), ("M", "Hello")]
    assert shown(whole({"content": text}, dialect="fireworks")) == answer
    assert streamed({"content": text}, dialect="fireworks") == answer
    assert streamed(*({"content": one} for one in text), dialect="fireworks") == answer


# --- log probabilities ----------------------------------------------------------------------------


def token(text: str, data: bytes | None = None) -> dict[str, Any]:
    spelled = list(text.encode() if data is None else data)
    return {"token": text, "logprob": -0.5, "bytes": spelled, "top_logprobs": []}


def tokens_of(response: Response) -> list[str]:
    part = response.output[-1].content[0]  # type: ignore[union-attr]
    return [logprob.token for logprob in part.logprobs]  # type: ignore[union-attr]


REASONED = [*map(token, ("<think>", "Say", " Hi", " there", ".", "</think>", "\n\n"))]
SAID = [*map(token, ("Hi", " there", "!"))]
END = [token("", b""), token("<|im_end|>")]


@pytest.mark.parametrize("end", [[], END[:1], END[1:]])
@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
@pytest.mark.parametrize("content", ["Hi there!", "\n\nHi there!"])
def test_log_probabilities_are_those_of_the_text(field: str, content: str, end: list[Any]) -> None:
    """Though the reasoning holds the same words."""
    message = {field: "Say Hi there.", "content": content}
    response = whole(message, logprobs={"content": [*REASONED, *SAID, *end]})
    assert "".join(tokens_of(response)) == content
    assert tokens_of(response)[-3:] == ["Hi", " there", "!"]
    assert shown(response)[-1] == ("M", content)


def test_log_probabilities_behind_tags_in_the_text() -> None:
    text = "<think>Say Hi there.</think>\n\nHi there!"
    response = whole({"content": text}, dialect="fireworks", logprobs={"content": REASONED + SAID})
    assert tokens_of(response) == ["Hi", " there", "!"]
    response = whole({"content": text}, logprobs={"content": REASONED + SAID})
    assert len(tokens_of(response)) == len(REASONED + SAID)


@pytest.mark.parametrize(
    ("given", "text", "expected"),
    [
        ([], "Hi", []),
        ([token("Hi"), token("", b"")], "Hi", ["Hi"]),
        ([token("Hi"), token("?")], "Hello", ["Hi", "?"]),
        ([token("\n\nHi"), token("!")], "Hi!", ["\n\nHi", "!"]),
        ([token("\ufffd", b"\xf0\x9f"), token("\ufffd", b"\x99\x82")], "🙂", ["\ufffd"] * 2),
        ([token("x"), token("\ufffd", b"\xf0\x9f")], "🙂", ["x", "\ufffd"]),
        ([token("a"), token("", b""), token("b"), token("<end>")], "ab", ["a", "b"]),
    ],
)
def test_tokens_that_spell_the_text_in_part_or_not(
    given: list[Any], text: str, expected: list[str]
) -> None:
    assert tokens_of(whole({"content": text}, logprobs={"content": given})) == expected


words = st.sampled_from(["a", "b", "ab", "", "\n", "é"])


@given(st.lists(words), st.lists(words, min_size=1), st.lists(words))
def test_the_tokens_found_spell_the_text(
    before: list[str], text: list[str], end: list[str]
) -> None:
    entries = [Logprob(word, 0.0, list(word.encode()), []) for word in before + text + end]
    joined = "".join(text)
    found = spelling(joined, "".join(before), entries)
    if joined:
        assert joined in "".join(entry.token for entry in found)
        assert len(found) <= len(text)


# --- a last message of the assistant's ------------------------------------------------------------

PREFILLED = {**REQUEST, "input": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Hello, th"}]}  # fmt: skip


def test_a_prefill_that_a_whole_answer_repeats_is_left_out() -> None:
    answer = {"content": "Hello, thHello, this is"}
    assert shown(whole(answer, PREFILLED, "llama_cpp")) == [("M", "Hello, this is")]
    assert shown(whole(answer, PREFILLED)) == [("M", "Hello, thHello, this is")]
    other = {"content": "This is"}
    assert shown(whole(other, PREFILLED, "llama_cpp")) == [("M", "This is")]
    # streamed, it is not repeated: what is the same there is the model's
    events, response = replay(
        sse(chunk({"content": "Hello, th"}), chunk({}, "stop")), PREFILLED, dialect="llama_cpp"
    )
    check_events(events)
    assert shown(response) == [("M", "Hello, th")]


@pytest.mark.parametrize(
    "request_",
    [
        REQUEST,
        {**REQUEST, "input": [*PREFILLED["input"], {"role": "user", "content": "go on"}]},  # type: ignore[misc]
    ],
)
def test_without_a_prefill_nothing_is_left_out(request_: dict[str, Any]) -> None:
    answer = {"content": "Hello, this is"}
    assert shown(whole(answer, request_, "llama_cpp")) == [("M", "Hello, this is")]
    assert shown(whole({"content": TEXT}, request_, "llama_cpp")) == [("M", "hello")]


def test_the_fact_is_only_of_llama_cpp() -> None:
    assert [name for name, one in DIALECTS.items() if one.repeats_prefill] == ["llama_cpp"]
