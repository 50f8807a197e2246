"""The short way to read a chunk gives what the long way gives, or nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.invariants import check_events
from tests.replaying import REQUEST, translation
from translator import Event, Options
from translator.dialects import BASE, DIALECTS, Dialect
from translator.dialects.think_tags import Tags
from translator.reader import fast_chunks as usual_chunks
from translator.reader.from_chat import ChatReader
from translator.wire import chat
from translator.wire.deltas import (
    Delta,
    Finish,
    Reasoning,
    Refusal,
    Source,
    Sources,
    Text,
    ToolCall,
    Usage,
)

SILENT: dict[str, Any] = {
    "role": "assistant",
    "content": None,
    "reasoning_content": None,
    "tool_calls": None,
}


def chunk(delta: dict[str, Any], choice: Any = None, **top: Any) -> bytes:
    first = {"index": 0, "delta": delta, "finish_reason": None} | (choice or {})
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return json.dumps(head | {"choices": [first]} | top).encode()


def call(arguments: str = "", **piece: Any) -> dict[str, Any]:
    function = {"arguments": arguments} | piece.pop("function", {})
    return {"tool_calls": [{"index": 0, "function": function} | piece]}


TEXT = chunk({"content": "Hi"})
THOUGHT = chunk({"reasoning_content": "Hm"})
THOUGHT_TOO = chunk({"reasoning": "Hm"})
ARGUMENTS = chunk(call('{"a'))
USUAL: dict[Callable[[bytes], object], bytes] = {
    usual_chunks.more_text: TEXT,
    usual_chunks.more_reasoning_content: THOUGHT,
    usual_chunks.more_reasoning: THOUGHT_TOO,
    usual_chunks.more_arguments: ARGUMENTS,
}


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"choice": {"index": None, "message": None, "finish_reason": "", "logprobs": None}},
        {"usage": None, "error": None, "service_tier": None, "x_groq": None, "timings": {"a": 1}},
        {"citations": None, "search_results": None},
        {"system_fingerprint": "f", "obfuscation": "xx", "token_ids": [1]},
    ],
    ids=["plain", "empty choice", "empty top", "no sources", "what nobody reads"],
)
@pytest.mark.parametrize("more", USUAL, ids=lambda more: more.__name__)
def test_keys_without_meaning_change_nothing(
    more: Callable[[bytes], object], extra: dict[str, Any]
) -> None:
    told = json.loads(USUAL[more])["choices"][0]["delta"]
    assert more(chunk({**SILENT, **told}, **extra)) == more(USUAL[more])


@pytest.mark.parametrize(
    ("delta", "extra"),
    [
        ({"content": ""}, {}),
        ({"content": None}, {}),
        ({"content": [{"type": "text", "text": "Hi"}]}, {}),
        ({"content": "Hi", "reasoning_content": "Hm"}, {}),
        ({"content": "Hi", "refusal": "No"}, {}),
        ({"content": "Hi", "annotations": [{"type": "url_citation"}]}, {}),
        ({"content": "Hi", "extra_content": {"google": {}}}, {}),
        ({"content": "Hi", **call("{}")}, {}),
        ({"content": "Hi", "function_call": {"name": "f"}}, {}),
        ({"reasoning_content": "Hm", "reasoning_details": [{"text": "Hm"}]}, {}),
        (call("{}", id="call_1"), {}),
        (call("{}", function={"name": "f"}), {}),
        (call("{}", extra_content={"google": {}}), {}),
        ({"tool_calls": call("{")["tool_calls"] * 2}, {}),
        ({"tool_calls": [{"index": 0, "function": {"arguments": {"a": 1}}}]}, {}),
        ({"content": "Hi"}, {"choice": {"index": 1}}),
        ({"content": "Hi"}, {"choice": {"finish_reason": "stop"}}),
        ({"content": "Hi"}, {"choice": {"logprobs": {"content": []}}}),
        ({"content": "Hi"}, {"choice": {"usage": {"prompt_tokens": 1}}}),
        ({"content": "Hi"}, {"choice": {"message": {"content": "Hi"}}}),
        ({"content": "Hi"}, {"usage": {"prompt_tokens": 1}}),
        ({"content": "Hi"}, {"error": {"message": "No"}}),
        ({"content": "Hi"}, {"service_tier": "default"}),
        ({"content": "Hi"}, {"x_groq": {"usage": {}}}),
        ({"content": "Hi"}, {"citations": ["https://a.example"]}),
        ({"content": "Hi"}, {"search_results": [{"url": "https://a.example"}]}),
        ({"content": "Hi"}, {"choices": []}),
        ({"content": "Hi"}, {"choices": [{"delta": {"content": "Hi"}}] * 2}),
    ],
)
def test_a_chunk_that_says_anything_else_is_not_usual(
    delta: dict[str, Any], extra: dict[str, Any]
) -> None:
    for more in USUAL:
        with pytest.raises(msgspec.ValidationError):
            more(chunk(delta, **extra))


def test_each_key_that_the_long_way_reads_is_known_to_the_short_way() -> None:
    """A key that is added there must be asked for here, or it would be lost in silence."""
    delta, choice, top, piece = (
        set(kind.__struct_fields__)
        for kind in (chat.Delta, chat.Choice, chat.Chunk, chat.ToolCallDelta)
    )
    assert delta == set(usual_chunks._Silent.__struct_fields__)
    assert choice == set(usual_chunks._Choice.__struct_fields__)
    assert top - {"timings"} == set(usual_chunks._Chunk.__struct_fields__)  # of usage alone
    assert piece == set(usual_chunks._Piece.__struct_fields__)


# --- both ways over whole answers -----------------------------------------------------------------

TAGGED = msgspec.structs.replace(BASE, think_tags=Tags())
STRAY = msgspec.structs.replace(BASE, think_tags=Tags(stray_close=True))
INTERLEAVED = msgspec.structs.replace(BASE, think_tags=Tags(interleaved=True))
READ_AS = [BASE, TAGGED, STRAY, INTERLEAVED, DIALECTS["minimax"], DIALECTS["fireworks"]]


class LongWay(ChatReader):
    """Takes nothing for granted."""

    def read(self, payload: bytes) -> list[Delta]:
        return self._read(payload)


def everything_of(
    reader: ChatReader, payloads: Sequence[bytes]
) -> tuple[list[list[Delta]], list[Delta], object]:
    read = [reader.read(payload) for payload in payloads]
    return read, reader.end(), repr(reader.verdict())


texts = st.sampled_from(["a", " ", "\n", "null", "é", "<think>", "</think>", "{", "}", '{"a":1}'])
pieces = st.builds(
    call,
    texts,
    index=st.sampled_from([0, 0, 0, 1, None]),
    id=st.sampled_from([None, None, "", "call_1", "call_2"]),
    function=st.sampled_from([{}, {}, {"name": "f"}, {"name": ""}]),
    extra_content=st.none(),
)
deltas = st.one_of(
    st.builds(lambda text: {"content": text}, texts),
    st.builds(lambda text: {"content": text}, texts),
    st.builds(lambda text: {"reasoning_content": text}, texts),
    st.builds(lambda text: {"reasoning": text, "content": ""}, texts),
    st.builds(lambda text: {"content": text, "extra_content": None}, texts),
    pieces,
    pieces,
    st.just({"content": "a", "reasoning_content": "b"}),
    st.just({"refusal": "No"}),
    st.just({}),
)
odd = st.sampled_from(
    [
        b"[DONE]",
        b"rubbish",
        b'{"error":{"message":"No"}}',
        b'{"choices":[],"usage":{"prompt_tokens":1}}',
        b'{"choices":[{"delta":{"content":"\\ud83d"}}]}',
        b'{"choices":[{"delta":{"content":"\\ude00"}}]}',
        b'{"choices":[{"delta":{"content":"a"},"finish_reason":"length"}]}',
        b'{"choices":[{"delta":{"content":"a"}}]}\n{"choices":[{"delta":{"content":"b"}}]}',
        b'{"choices":[{"delta":{"content":"a"},"index":1}]}',
        b'{"choices":[{"delta":{"content":"a"}}],"service_tier":"default"}',
        b'{"choices":[{"delta":{"content":"a"}}],"citations":["https://a.example"]}',
        b'{"choices":[{"delta":{"content":"a"}}],"citations":null,"search_results":null}',
    ]
)
payloads = st.lists(st.one_of(deltas.map(chunk), deltas.map(chunk), odd), max_size=30)


@given(payloads, st.sampled_from(READ_AS), st.booleans())
@example(
    [ARGUMENTS, chunk(call("}", index=1)), ARGUMENTS, chunk(call("}", index=None))], BASE, False
)
@example([TEXT, chunk({"content": "!", "extra_content": None})], BASE, False)
@example([ARGUMENTS, chunk(call("}", extra_content=None))], BASE, False)
@example(
    [chunk({"content": "a"}, citations=["https://a.example"]), TEXT, chunk({}, citations=None)],
    BASE,
    False,
)
def test_both_ways_read_the_same(payloads: list[bytes], dialect: Dialect, recovers: bool) -> None:
    dialect = msgspec.structs.replace(dialect, recover_calls=recovers)
    short = ChatReader(dialect, lambda name: name == "f")
    long = LongWay(dialect, lambda name: name == "f")
    assert everything_of(short, payloads) == everything_of(long, payloads)
    assert repr(short.failure) == repr(long.failure)


@pytest.mark.parametrize("payload", [TEXT, THOUGHT, THOUGHT_TOO, ARGUMENTS])
def test_the_short_way_is_taken(payload: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the second chunk of a kind on."""
    reader = ChatReader(BASE, lambda name: True)
    first = reader.read(payload)
    monkeypatch.delattr(ChatReader, "_read")
    assert [type(delta) for delta in reader.read(payload)] == [type(delta) for delta in first]


# --- and the machine behind it --------------------------------------------------------------------

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


def events_of(deltas: Sequence[Delta], end: Finish, *, short: bool, family: Any) -> list[Event]:
    machine = translation(REQUESTED, options=Options(reasoning_events=family))._stream
    events = machine.start()
    for delta in deltas:
        events += machine.feed(delta)
        if not short:
            machine._told = None
    return events + machine.finish(end)


@given(STREAMED, st.sampled_from(["stop", "length"]), st.sampled_from(["summary", "both", "none"]))
def test_what_passes_the_line_by_is_sent_as_if_it_had_stood_in_it(
    deltas: list[Delta], reason: Any, family: str
) -> None:
    short, long = (
        events_of(deltas, Finish(reason), short=short, family=family) for short in (True, False)
    )
    assert short == long
    check_events(short)
