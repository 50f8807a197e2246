"""The fast path reads a chunk as the general path does, or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from translator.dialects import BASE, DIALECTS, Dialect
from translator.dialects.think_tags import Tags
from translator.reader import fast_chunks
from translator.reader.from_chat import ChatReader
from translator.wire import chat
from translator.wire.deltas import (
    Delta,
    Finish,
    Reasoning,
    Text,
    ToolCall,
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
STEADY: dict[Callable[[bytes], object], bytes] = {
    fast_chunks.read_text: TEXT,
    fast_chunks.read_reasoning_content: THOUGHT,
    fast_chunks.read_reasoning: THOUGHT_TOO,
    fast_chunks.read_arguments: ARGUMENTS,
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
    ids=["plain", "empty choice", "empty top", "no sources", "keys that are not read"],
)
@pytest.mark.parametrize("more", STEADY, ids=lambda more: more.__name__)
def test_keys_without_meaning_change_nothing(
    more: Callable[[bytes], object], extra: dict[str, Any]
) -> None:
    told = json.loads(STEADY[more])["choices"][0]["delta"]
    assert more(chunk({**SILENT, **told}, **extra)) == more(STEADY[more])


@pytest.mark.parametrize(
    ("delta", "extra"),
    [
        ({"content": ""}, {}),
        ({"content": None}, {}),
        ({"content": [{"type": "text", "text": "Hi"}]}, {}),
        ({"content": "Hi", "reasoning_content": "Hm"}, {}),
        ({"content": "Hi", "reasoning": "Hm"}, {}),
        ({"content": "Hi", "reasoning_text": "Hm"}, {}),
        ({"content": "Hi", "refusal": "No"}, {}),
        ({"content": "Hi", "annotations": [{"type": "url_citation"}]}, {}),
        ({"content": "Hi", "extra_content": {"google": {}}}, {}),
        ({"content": "Hi", **call("{}")}, {}),
        ({"content": "Hi", "function_call": {"name": "f"}}, {}),
        ({"reasoning_content": "Hm", "reasoning_details": [{"text": "Hm"}]}, {}),
        ({"reasoning_content": ""}, {}),
        ({"reasoning_content": ["Hm"]}, {}),
        ({"reasoning": ""}, {}),
        ({"reasoning": ["Hm"]}, {}),
        ({"reasoning_text": "Hm"}, {}),
        ({"reasoning_content": "Hm", "reasoning": "Hm"}, {}),
        (call(""), {}),
        (call("{}", index="0"), {}),
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
def test_a_chunk_that_holds_anything_else_is_refused(
    delta: dict[str, Any], extra: dict[str, Any]
) -> None:
    for more in STEADY:
        with pytest.raises(msgspec.ValidationError):
            more(chunk(delta, **extra))


@pytest.mark.parametrize("more", STEADY, ids=lambda more: more.__name__)
def test_no_other_key_is_needed(more: Callable[[bytes], object]) -> None:
    delta = json.loads(STEADY[more])["choices"][0]["delta"]
    bare = json.dumps({"choices": [{"delta": delta}]}).encode()
    assert more(bare) == more(STEADY[more])
    without_index = chunk({"tool_calls": [{"function": {"arguments": "{"}}]})
    assert fast_chunks.read_arguments(without_index) == (None, "{")


def test_each_key_that_the_general_path_reads_is_known_to_the_fast_path() -> None:
    """A key that is added there must be excluded here, or it would be lost in silence."""
    delta, choice, top, piece = (
        set(kind.__struct_fields__)
        for kind in (chat.Delta, chat.Choice, chat.Chunk, chat.ToolCallDelta)
    )
    assert delta == set(fast_chunks._EmptyDelta.__struct_fields__)
    assert choice == set(fast_chunks._Choice.__struct_fields__)
    assert top - {"timings"} == set(fast_chunks._Chunk.__struct_fields__)  # of usage alone
    assert piece == set(fast_chunks._CallDelta.__struct_fields__)


# --- both paths over whole answers ----------------------------------------------------------------

TAGGED = msgspec.structs.replace(BASE, think_tags=Tags())
STRAY = msgspec.structs.replace(BASE, think_tags=Tags(stray_close=True))
INTERLEAVED = msgspec.structs.replace(BASE, think_tags=Tags(interleaved=True))
READ_AS = [BASE, TAGGED, STRAY, INTERLEAVED, DIALECTS["minimax"], DIALECTS["fireworks"]]


class GeneralPath(ChatReader):
    """Never takes the fast path."""

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
def test_both_paths_read_the_same(payloads: list[bytes], dialect: Dialect, recovers: bool) -> None:
    dialect = msgspec.structs.replace(dialect, recover_calls=recovers)
    fast = ChatReader(dialect, lambda name: name == "f")
    general = GeneralPath(dialect, lambda name: name == "f")
    assert everything_of(fast, payloads) == everything_of(general, payloads)
    assert repr(fast.failure) == repr(general.failure)


@pytest.mark.parametrize("payload", [TEXT, THOUGHT, THOUGHT_TOO, ARGUMENTS])
def test_the_fast_path_is_taken(payload: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the second chunk of a kind on."""
    reader = ChatReader(BASE, lambda name: True)
    first = reader.read(payload)
    monkeypatch.delattr(ChatReader, "_read")
    assert [type(delta) for delta in reader.read(payload)] == [type(delta) for delta in first]


def texts_of(deltas: Sequence[Delta], kind: type[Text] | type[Reasoning]) -> str:
    return "".join(delta.text for delta in deltas if isinstance(delta, kind))


def test_half_a_character_ends_the_fast_path() -> None:
    """The other half may come with the next chunk, or never."""
    reader = ChatReader(BASE, lambda name: True)
    read = [
        delta
        for text in ("a", "x\ud83d", "abc", "def")
        for delta in reader.read(chunk({"content": text}))
    ]
    assert texts_of([*read, *reader.end()], Text) == "ax\ufffdabcdef"


def test_half_a_character_in_arguments_ends_the_fast_path_of_all_calls() -> None:
    reader = ChatReader(BASE, lambda name: True)
    read = [
        delta
        for text in ("{", "x\ud83d", "abc", "def")
        for delta in reader.read(chunk(call(text, function={"name": "f"} if text == "{" else {})))
    ]
    arguments = [delta.arguments for delta in [*read, *reader.end()] if isinstance(delta, ToolCall)]
    assert "".join(arguments) == "{x\ufffdabcdef"


def test_reasoning_between_tags_is_not_on_the_fast_path() -> None:
    """Reasoning in a field of its own shows that tags in the text are text from then on."""
    reader = ChatReader(TAGGED, lambda name: True)
    read = [
        delta
        for given in (
            {"content": "<think>"},
            {"content": "a"},
            {"reasoning_content": "b"},
            {"content": "c"},
        )
        for delta in reader.read(chunk(given))
    ]
    assert texts_of(read, Reasoning) == "ab"
    assert texts_of(read, Text) == "c"


def test_nothing_is_read_behind_the_end_of_an_answer() -> None:
    """Not on the fast path, either."""
    reader = ChatReader(BASE, lambda name: True)
    failed = chunk({"content": "a"}, error={"message": "No"})
    assert [len(reader.read(payload)) for payload in (TEXT, TEXT, failed, TEXT)] == [1, 1, 1, 0]
    assert reader.over
    assert reader.failure is not None


def test_the_fast_path_begins_where_there_is_an_answer() -> None:
    """Blank text does not count as one, and more of it may come."""
    reader = ChatReader(BASE, lambda name: True)
    blank, unknown = chunk({"content": " "}), chunk({}, choice={"finish_reason": "xyz"})
    assert [len(reader.read(payload)) for payload in (blank, blank, TEXT, unknown)] == [1, 1, 1, 0]
    assert reader.verdict() == Finish("stop")


def arguments_read(*payloads: dict[str, Any]) -> list[tuple[int, str]]:
    reader = ChatReader(BASE, lambda name: True)
    return [
        (delta.key, delta.arguments)
        for given in payloads
        for delta in reader.read(chunk(given))
        if isinstance(delta, ToolCall)
    ]


@pytest.mark.parametrize(
    ("arguments", "read"),
    [
        # a whole call again
        (['{"a":1}', '{"a":1}'], ['{"a":1}', ""]),
        (['{"a"', ":1}", '{"a":1}'], ['{"a"', ":1}", ""]),
        (["{}", "{}"], ["{}", ""]),
        # of the same length, or with the same text, and not whole; or no object
        (['{"a":1}', '{"b":1}'], ['{"a":1}', '{"b":1}']),
        (['{"a', '{"a', '"}'], ['{"a', '{"a', '"}']),
        (["{", "{"], ["{", "{"]),
        (["[]", "[]"], ["[]", "[]"]),
        (["1", "1"], ["1", "1"]),
        (["11", "11"], ["11", "11"]),
        (['{"a":1}', "{}"], ['{"a":1}', "{}"]),
    ],
)
def test_a_whole_call_that_comes_again_adds_nothing(arguments: list[str], read: list[str]) -> None:
    """On either path."""
    named, *others = arguments
    payloads = [call(named, function={"name": "f"}), *map(call, others)]
    assert arguments_read(*payloads) == [(0, text) for text in read]
    repeated = [call(text, function={"name": "f"}) for text in arguments]
    another = arguments[0] == '{"a":1}' != arguments[1]
    assert arguments_read(*repeated) == [(n if another else 0, text) for n, text in enumerate(read)]


def test_a_call_without_id_and_name_has_none_of_them() -> None:
    """On either path."""
    reader = ChatReader(BASE, lambda name: True)
    read = [reader.read(chunk(call(text))) for text in ("{", "}")]
    assert read == [[ToolCall(0, None, None, "{")], [ToolCall(0, None, None, "}")]]


def test_arguments_on_the_fast_path_belong_to_their_call() -> None:
    """By the index; without one, to the last call. A new index is a new call."""
    both = {"tool_calls": [*call("{", index=3)["tool_calls"], *call("{", index=5)["tool_calls"]]}
    given = [
        both,
        call("a", index=5),
        call("b", index=3),
        call("c", index=None),
        call("d", index=4),
    ]
    assert arguments_read(*given) == [(0, "{"), (1, "{"), (1, "a"), (0, "b"), (1, "c"), (2, "d")]


def test_arguments_alone_are_those_of_the_call_before() -> None:
    """Of another call, or of a whole one again, there is no text alone: the general path reads it."""
    reader = ChatReader(BASE, lambda name: True)
    for index, name in enumerate(("f", "g")):
        reader.read(chunk(call('{"a', index=index, id=f"call_{index}", function={"name": name})))
    assert reader.fast is not None
    assert reader.fast.text(chunk(call('":1}', index=1))) == '":1}'
    for other in (call("1", index=0), call("1", index=9), call('{"a":1}', index=1)):
        with pytest.raises(fast_chunks.NotMore):
            reader.fast.text(chunk(other))
