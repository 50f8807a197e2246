"""The cost of an answer grows with its size, however many calls, items and marks are in it.

CPU times of one process are compared with each other: of an answer, and of one eight times as long.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace

import translator
from tests.replaying import chunk, numbered_ids, sse
from translator import Dialect
from translator.dialects import BASE
from translator.reader.quotations import without_quotations
from translator.reader.rejected_fields import find_rejected_fields
from translator.reader.taught_facts import taught_facts

pytestmark = pytest.mark.usefixtures("untraced")

SIZES = (2_000, 16_000)
PER_DOUBLING = 2.5
RUNS = 3

FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object"}}
MEMBERS = [FUNCTION | {"name": f"g{number}"} for number in range(8)]
REQUEST: dict[str, Any] = {
    "model": "m",
    "input": "Hi",
    "stream": True,
    "include": ["reasoning.encrypted_content"],
    "tools": [FUNCTION, {"type": "namespace", "name": "n", "description": "d", "tools": MEMBERS}],
}
RECOVERS = replace(BASE, recover_calls=True)

Chunks = Iterable[dict[str, Any]]


def call(name: str = "f", arguments: str = '{"a":1}', **keys: Any) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return chunk({"tool_calls": [{"function": function, **keys}]})


def text(content: str, **keys: Any) -> dict[str, Any]:
    return chunk({"content": content, **keys})


def interleaved(count: int) -> Chunks:
    """All calls begin, then all end."""
    for number in range(count):
        yield call(arguments='{"a":', index=number, id=f"call_{number}")
    for number in range(count):
        yield chunk({"tool_calls": [{"index": number, "function": {"arguments": "1}"}}]})


def annotation(number: int) -> dict[str, Any]:
    place = {"start_index": number, "end_index": number + 1}
    return {
        "type": "url_citation",
        "url_citation": {"url": f"http://x/{number}", "title": "t", **place},
    }


def detail(number: int, **keys: Any) -> dict[str, Any]:
    return chunk({"reasoning_details": [{"type": "reasoning.text", "text": "x", **keys}]})


def each(count: int) -> int:
    return count


def one_more(count: int) -> int:
    """The extra content of all calls is an item of its own."""
    return count + 1


def one(_count: int) -> int:
    return 1


def none(_count: int) -> int:
    return 0


class Case(NamedTuple):
    """Answers of any length: their chunks by number, and what must become of them."""

    make: Callable[[int], dict[str, Any]]
    dialect: Dialect = BASE
    outputs: Callable[[int], int] = each
    """How many output items so many chunks make."""
    status: str = "completed"


ANSWERS: dict[str, Case] = {
    "distinct ids": Case(lambda n: call(index=n, id=f"call_{n}")),
    "the same id": Case(lambda n: call(index=n, id="call")),
    "no index": Case(lambda n: call(id=f"call_{n}")),
    "no ids": Case(lambda n: call(index=n)),
    "neither": Case(lambda n: call()),
    "arguments beyond ASCII": Case(
        lambda n: call(arguments='{"a":"é"}', index=n, id=f"call_{n}"),
    ),
    "arguments cut in a character": Case(
        lambda n: call(arguments='{"a":"\ud83d', index=n, id=f"call_{n}"),
        outputs=none,
        status="failed",
    ),
    "calls without arguments": Case(lambda n: call(arguments="", index=n, id=f"call_{n}")),
    "calls without a name": Case(
        lambda n: call(name="", index=n, id=f"call_{n}"), outputs=none, status="failed"
    ),
    "calls that are not allowed": Case(lambda n: call(name=f"h{n}", index=n, id=f"call_{n}")),
    "members of a namespace": Case(lambda n: call(name=f"n__g{n % 8}", index=n, id=f"call_{n}")),
    "extra content": Case(
        lambda n: call(index=n, id=f"call_{n}", extra_content={"a": n}), outputs=one_more
    ),
    "many fragments": Case(
        lambda n: call(arguments=" " if n else "[", index=0, id="call"), outputs=one
    ),
    "text and reasoning": Case(lambda n: chunk({("content", "reasoning")[n % 2]: "x"})),
    "blank text": Case(lambda n: text(" "), outputs=none),
    "citations": Case(lambda n: text("x", annotations=[annotation(n)]), outputs=one),
    "sources": Case(
        lambda n: text(f"[{n % 9 + 1}]") | {"citations": [f"http://x/{n % 9}"]}, outputs=one
    ),
    "reasoning details": Case(lambda n: detail(n, index=0), outputs=one),
    "many reasoning details": Case(lambda n: detail(n, index=n), outputs=one),
    "native calls": Case(
        lambda n: text('<tool_call>{"name":"f","arguments":{}}</tool_call>'),
        RECOVERS,
    ),
    "native calls that never end": Case(lambda n: text("<tool_call>"), RECOVERS, outputs=one),
    "native arguments that never end": Case(
        lambda n: text("<arg_key>") if n else text("<tool_call>f<arg_key>"),
        RECOVERS,
        outputs=none,
        status="failed",
    ),
    "Kimi's calls": Case(
        lambda n: text("<|tool_call_begin|> " if n else "<|tool_calls_section_begin|>"),
        RECOVERS,
        outputs=one,
    ),
    "half characters": Case(lambda n: text("x\ud83d"), outputs=one),
}


def answer(name: str, count: int) -> bytes:
    return sse(*map(ANSWERS[name].make, range(count)), chunk({}, "stop"), "[DONE]")


def seconds(body: bytes, case: Case, count: int, request: dict[str, Any] = REQUEST) -> float:
    """CPU time to translate an answer of so many chunks, read by read; all of it, at the end."""
    t = translator.Translation(
        request, dialect=case.dialect, response_id="resp_0", created_at=0, new_id=numbered_ids()
    )
    reads = [body[place : place + 65536] for place in range(0, len(body), 65536)]
    gc.collect()
    gc.disable()
    try:
        began = time.process_time()
        for data in reads:
            t.receive(data)
        t.close()
        took = time.process_time() - began
    finally:
        gc.enable()
    assert (t.response.status, len(t.response.output)) == (case.status, case.outputs(count))
    return took


def growth(bodies: Iterable[bytes], case: Case, request: dict[str, Any] = REQUEST) -> float:
    """By how much the cost grows where the answer becomes twice as long.

    The longer one is measured again only where something else may have made it slow.
    """
    short, long = bodies
    doublings = (SIZES[1] // SIZES[0]).bit_length() - 1
    small = min(seconds(short, case, SIZES[0], request) for _ in range(RUNS))
    least = float("inf")
    for _ in range(RUNS):
        large = seconds(long, case, SIZES[1], request)
        least = min(least, (large / small) ** (1 / doublings))
        if least <= PER_DOUBLING:
            break
    return least


@pytest.mark.parametrize("name", ANSWERS)
def test_cost_is_linear(name: str) -> None:
    bodies = [answer(name, count) for count in SIZES]
    assert growth(bodies, ANSWERS[name]) <= PER_DOUBLING


def test_interleaved_calls_are_linear() -> None:
    bodies = [sse(*interleaved(count), chunk({}, "stop"), "[DONE]") for count in SIZES]
    assert growth(bodies, Case(call)) <= PER_DOUBLING


def test_calls_that_the_request_does_not_allow_are_linear() -> None:
    choice = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]}
    bodies = [answer("calls that are not allowed", count) for count in SIZES]
    case = Case(call, outputs=none)
    assert growth(bodies, case, REQUEST | {"tool_choice": choice}) <= PER_DOUBLING


def test_a_whole_answer_is_linear() -> None:
    """The same for a body that is one JSON value."""
    bodies = []
    for count in SIZES:
        calls = [
            {"id": "call", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            for _ in range(count)
        ]
        choice = {"index": 0, "message": {"tool_calls": calls}, "finish_reason": "tool_calls"}
        bodies.append(json.dumps({"choices": [choice]}).encode())
    assert growth(bodies, Case(call)) <= PER_DOUBLING


def test_repeated_ids_are_made_unique_in_order() -> None:
    """The second is id~2; one that the request's history has already is passed over."""
    history = [
        {"type": "function_call", "call_id": "call~3", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call~3", "output": "x"},
    ]
    t = translator.Translation(
        REQUEST | {"input": [*history, {"role": "user", "content": "Hi"}]},
        response_id="resp_0",
        created_at=0,
        new_id=numbered_ids(),
    )
    t.receive(answer("the same id", 4))
    t.close()
    ids = [json.loads(translator.encode_json(t.response))["output"][n]["call_id"] for n in range(4)]
    assert ids == ["call", "call~2", "call~4", "call~5"]


def test_calls_keep_their_order() -> None:
    """Calls that are named one way round and begin the other way round, then text."""
    order = [2, 0, 1]
    body = sse(
        *(call(arguments="", name="", index=number, id=f"c{number}") for number in range(3)),
        *(call(arguments="", index=number, id=f"c{number}") for number in order),
        text("Done."),
        chunk({}, "stop"),
        "[DONE]",
    )
    t = translator.Translation(REQUEST, response_id="resp_0", created_at=0, new_id=numbered_ids())
    t.receive(body)
    output = json.loads(translator.encode_json(t.response))["output"]
    assert [item.get("call_id") for item in output] == ["c0", "c1", "c2", None]


# --- error texts --------------------------------------------------------------------------------

REPEATED = (
    *(" ", "1", ".", "/", "\\", "messages[1].", "'a', ", "('body', ", "low, "),
    *("input ", "max tokens ", "1 + 1 > ", "missing the ", "system message must "),
    *("got ", "only  ", "'a b ", "https:", "reasoning_effort is not supported, got "),
)
SENT = json.dumps(dict.fromkeys(("top_p", "user", "thinking", "reasoning_effort"), "low")).encode()


def reading_s(text: str) -> float:
    began = time.process_time()
    translator.read_upstream_error(400, json.dumps({"error": {"message": text}}).encode())
    find_rejected_fields(text, SENT)
    taught_facts(text, {})
    without_quotations(text, SENT)
    return time.process_time() - began


@pytest.mark.parametrize("repeated", REPEATED)
def test_an_error_text_is_read_in_linear_time(repeated: str) -> None:
    """Whatever an upstream repeats in it: eight times the text takes not much more than that."""
    small, large = (
        min(reading_s((repeated * size)[:size]) for _ in range(2)) for size in (1_000, 8_000)
    )
    assert large < 0.005 + small * 8 * 2.5
