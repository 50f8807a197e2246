"""What a long answer costs: each piece the same, however much came before it.

Nothing is timed. What a piece costs shows in what is allocated for it: whoever joins, copies or
scans all that came before allocates as much as that, and an answer of a million pieces would never
end.
"""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

import msgspec
import pytest

import translator
from tests.replaying import REQUEST, chunk, sse, translation
from translator import Translation
from translator.dialects import BASE
from translator.dialects.think_tags import Tags
from translator.wire import items

PIECES = 20_000
TEXT = "twenty characters.. "
MAX_BYTES_FOR_A_PIECE = 64 * 1024
"""Far below the text so far (400,000 bytes), far above what one event takes."""
MAX_BYTES_KEPT_OF_A_PIECE = 512
"""Its text, the places of it in some lists, and their room to grow."""

TOOLS = [{"type": "function", "name": "f"}, {"type": "custom", "name": "patch"}, {"type": "shell"}]
ASKING = {**REQUEST, "tools": TOOLS, "include": ["reasoning.encrypted_content"]}


def of_call(arguments: str, index: int = 0, **more: Any) -> dict[str, Any]:
    piece = {"index": index, "function": {"arguments": arguments, **more}}
    return {"tool_calls": [piece]}


OPEN = '{"input": "'
KINDS: dict[str, tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]] = {
    # facts, what comes before, and the piece that comes again and again
    "text": ({}, [], {"content": TEXT}),
    "refusal": ({}, [], {"refusal": TEXT}),
    "reasoning": ({}, [], {"reasoning_content": TEXT}),
    "text behind a tag": ({"think_tags": Tags()}, [{"content": "<think>a</think>"}], {"content": TEXT}),
    "reasoning between tags": ({"think_tags": Tags()}, [{"content": "<think>"}], {"content": TEXT}),
    "text that could hold calls": ({"recover_calls": True}, [], {"content": TEXT}),
    "text that is held for a call": ({"recover_calls": True}, [{"content": "<tool_call>"}], {"content": TEXT}),
    "arguments": ({}, [of_call(OPEN, name="f")], of_call(TEXT)),
    "free-form input": ({}, [of_call(OPEN, name="patch")], of_call(TEXT)),
    "arguments of an action": ({}, [of_call(OPEN, name="shell")], of_call(TEXT)),
    "a call that waits": ({}, [of_call(OPEN, name="f"), of_call(OPEN, 1, name="f")], of_call(TEXT, 1)),
    "arguments behind their end": ({}, [of_call("{}", name="f")], of_call("{ }")),
    "a call without a name": ({}, [of_call(OPEN)], of_call(TEXT)),
    "signs of life": ({}, [{"content": "a"}], {}),
}  # fmt: skip


def begun(kind: str) -> tuple[Translation, bytes]:
    facts, before, delta = KINDS[kind]
    t = translation(ASKING, dialect=msgspec.structs.replace(BASE, **facts))
    t.receive(sse(*map(chunk, before)))
    return t, sse(chunk(delta))


@pytest.mark.parametrize("kind", KINDS)
def test_a_piece_costs_the_same_however_much_came_before(kind: str) -> None:
    t, piece = begun(kind)
    for _ in range(50):
        t.receive(piece * (PIECES // 50))
    tracemalloc.start()
    try:
        for _ in range(20):
            t.receive(piece)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MAX_BYTES_FOR_A_PIECE


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_kept_of_an_answer_is_not_more_than_it_says(kind: str) -> None:
    t, piece = begun(kind)
    count = 5000
    t.receive(piece * 10)
    gc.collect()
    tracemalloc.start()
    try:
        for _ in range(50):
            t.receive(piece * (count // 50))
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < count * MAX_BYTES_KEPT_OF_A_PIECE


def test_a_long_answer_is_whole() -> None:
    t, piece = begun("text")
    for _ in range(50):
        t.receive(piece * (PIECES // 50))
    t.receive(sse(chunk({}, "stop")))
    t.close()
    (message,) = t.response.output
    assert isinstance(message, items.Message)
    assert [part.text for part in message.content if isinstance(part, items.OutputText)] == [
        TEXT * PIECES
    ]
    assert len(translator.encode_json(t.response)) < 2 * len(TEXT) * PIECES
