"""Hypothesis strategies for upstream answers and for the chunks that carry them.

An `Answer` is the output of a model. `streams` renders it as one of the many streams that carry
it: cut into deltas anywhere, with or without the keys that upstreams add, leave out or repeat.
`completion_of` renders it as the body of an upstream that does not stream.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

TEXT = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from('\n\r\u2028"\\{}[]<>😀é '),
    min_size=1,
    max_size=24,
)
VISIBLE = TEXT.filter(lambda text: not text.isspace())
NAMES = st.sampled_from(["get_weather", "add", "exec_command", "f", "a-b_c"])
ARGUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@dataclass(frozen=True)
class Call:
    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class Answer:
    """The output of a model: reasoning, then text or a refusal, then calls."""

    reasoning: str = ""
    text: str = ""
    refusal: str = ""
    calls: tuple[Call, ...] = ()
    finish: str = "stop"
    usage: dict[str, Any] | None = None


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    count = draw(st.integers(0, 3))
    calls = tuple(
        Call(
            f"call_{number}",
            draw(NAMES),
            json.dumps(draw(st.dictionaries(TEXT, ARGUMENTS, max_size=3))),
        )
        for number in range(count)
    )
    prompt, cached = draw(st.integers(0, 10**6)), draw(st.integers(0, 10**6))
    # with "length", an answer of no tokens is a context that is too long
    output, thought = draw(st.integers(1, 10**6)), draw(st.integers(0, 10**6))
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "prompt_tokens_details": {"cached_tokens": min(cached, prompt)},
        "completion_tokens_details": {"reasoning_tokens": min(thought, output)},
    }
    text, refusal = draw(
        st.one_of(
            st.just(("", "")),
            VISIBLE.map(lambda t: (t, "")),
            VISIBLE.map(lambda t: ("", t)),
        )
    )
    return Answer(
        reasoning=draw(st.just("") | VISIBLE),
        text=text,
        refusal=refusal,
        calls=calls,
        finish="tool_calls" if calls else draw(st.sampled_from(["stop", "length"])),
        usage=draw(st.none() | st.just(usage)),
    )


@st.composite
def slices(draw: st.DrawFn, text: str) -> list[str]:
    """A text in slices, some of them empty."""
    places = sorted(draw(st.lists(st.integers(0, len(text)), max_size=5)))
    edges = [0, *places, len(text)]
    return [text[a:b] for a, b in itertools.pairwise(edges)]


@dataclass
class Manner:
    """The style in which an upstream writes its chunks."""

    role: str = "first"  # "first", "always", "never"
    empty: Any = ...  # value of the keys that a chunk does not use; ...: they are left out
    reasoning_field: str = "reasoning_content"
    empty_calls: Any = ...  # the same of `tool_calls`
    usage: str = "alone"  # "finish", "alone", "always"
    done: bool = True
    extras: dict[str, Any] = field(default_factory=dict)


@st.composite
def manners(draw: st.DrawFn) -> Manner:
    return Manner(
        role=draw(st.sampled_from(["first", "always", "never"])),
        empty=draw(st.sampled_from([None, "", ...])),
        reasoning_field=draw(st.sampled_from(["reasoning_content", "reasoning"])),
        empty_calls=draw(st.sampled_from([None, [], ...])),
        usage=draw(st.sampled_from(["finish", "alone", "always"])),
        done=draw(st.booleans()),
        extras=draw(
            st.dictionaries(st.sampled_from(["p", "obfuscation", "x_new", "sla_metrics"]), JSON)
        ),
    )


@st.composite
def deltas(draw: st.DrawFn, answer: Answer, manner: Manner, *, interleave: bool) -> list[Any]:
    """The `delta` objects of one stream that carries `answer`."""
    found: list[dict[str, Any]] = []
    for name, text in (
        (manner.reasoning_field, answer.reasoning),
        ("content", answer.text),
        ("refusal", answer.refusal),
    ):
        if text:
            found += [{name: part} for part in draw(slices(text))]
    streams: list[list[dict[str, Any]]] = []
    for index, call in enumerate(answer.calls):
        first: dict[str, Any] = {
            "index": index,
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": ""},
        }
        later = [
            {"index": index, "function": {"arguments": part}}
            for part in draw(slices(call.arguments))
        ]
        streams.append([first, *later])
    while any(streams):
        ready = [stream for stream in streams if stream]
        # Calls begin in their order, whatever comes between their deltas.
        begun = [s for s in ready if "id" not in s[0]] + [s for s in ready if "id" in s[0]][:1]
        stream = draw(st.sampled_from(begun)) if interleave else ready[0]
        found.append({"tool_calls": [stream.pop(0)]})
    return found


@st.composite
def streams(
    draw: st.DrawFn, answer: Answer, *, manner: Manner | None = None, interleave: bool = False
) -> list[dict[str, Any]]:
    """The chunks of one stream that carries `answer`."""
    manner = manner or draw(manners())
    found = draw(deltas(answer, manner, interleave=interleave))
    chunks: list[dict[str, Any]] = []
    for number, delta in enumerate(found):
        full = dict(delta)
        if manner.role == "always" or (manner.role == "first" and number == 0):
            full["role"] = "assistant"
        if manner.empty is not ...:
            for name in ("content", manner.reasoning_field, "refusal"):
                full.setdefault(name, manner.empty)
        if manner.empty_calls is not ...:
            full.setdefault("tool_calls", manner.empty_calls)
        chunks.append(_chunk(full, None, manner, answer.usage if manner.usage == "always" else ...))
    last = answer.usage if manner.usage in ("finish", "always") else ...
    chunks.append(_chunk({}, answer.finish, manner, last))
    if manner.usage == "alone" and answer.usage is not None:
        chunks.append({"id": "x", "choices": [], "usage": answer.usage, **manner.extras})
    return chunks


def _chunk(delta: dict[str, Any], finish: str | None, manner: Manner, usage: Any) -> dict[str, Any]:
    chunk: dict[str, Any] = {
        "id": "chatcmpl-1",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        **manner.extras,
    }
    if usage is not ...:
        chunk["usage"] = usage
    return chunk


def body_of(chunks: list[Any], *, done: bool = True) -> bytes:
    """Chunks as the bytes of a stream."""
    frames = [f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n" for chunk in chunks]
    return "".join(frames).encode() + (b"data: [DONE]\n\n" if done else b"")


def completion_of(answer: Answer, reasoning_field: str = "reasoning_content") -> bytes:
    """The answer as the body of an upstream that does not stream."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.text or None}
    if answer.reasoning:
        message[reasoning_field] = answer.reasoning
    if answer.refusal:
        message["refusal"] = answer.refusal
    if answer.calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in answer.calls
        ]
    choice = {"index": 0, "message": message, "finish_reason": answer.finish}
    return json.dumps({"id": "x", "choices": [choice], "usage": answer.usage}).encode()
