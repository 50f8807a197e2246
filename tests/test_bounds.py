"""What an answer may hold: every kind of content counts, and beyond the bound it ends legally."""

from __future__ import annotations

import gc
import json
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from tests.invariants import check_events
from tests.replaying import REQUEST, chunk, sse, translation
from translator import AnswerTooLarge, Event, Options, Translation
from translator.dialects import BASE

LIMIT = 256 * 1024
FACTOR = 6
"""How much memory an answer may take, in multiples of the limit."""
MAX_RECEIVED = 64 * LIMIT
"""The smallest chunk has some 120 bytes around a character of content."""

TOOLS = [
    {"type": "function", "name": "f", "parameters": {}, "strict": False},
    {"type": "custom", "name": "patch"},
    {"type": "shell"},
    {
        "type": "namespace",
        "name": "n",
        "description": "",
        "tools": [{"type": "function", "name": "g"}],
    },
]
ASKING = {**REQUEST, "tools": TOOLS, "include": ["reasoning.encrypted_content"]}
OPEN = '{"input": "'
WORDS = "four"

Delta = dict[str, Any]


def of_call(arguments: str, index: int = 0, **function: Any) -> Delta:
    return {"tool_calls": [{"index": index, "function": {"arguments": arguments, **function}}]}


def cited(number: int) -> Delta:
    place = {"url": f"https://a.example/{number}", "start_index": 0, "end_index": 1}
    return {"annotations": [{"type": "url_citation", **place}]}


def logged(number: int) -> dict[str, Any]:
    entry = {"token": "a", "logprob": -0.5}
    top = {**entry, "bytes": [97], "top_logprobs": [entry] * 5}
    made = chunk({"content": "a"})
    made["choices"][0]["logprobs"] = {"content": [top]}
    return made


ENDLESS: dict[str, tuple[list[Delta], Callable[[int], Delta]]] = {
    # what comes first, and what comes again and again
    "text": ([], lambda _: {"content": WORDS}),
    "long text": ([], lambda _: {"content": WORDS * 10_000}),
    "text beyond ASCII": ([], lambda _: {"content": "漢字漢字"}),
    "blank text": ([], lambda _: {"content": " \n"}),
    "a refusal": ([], lambda _: {"refusal": WORDS}),
    "reasoning": ([], lambda _: {"reasoning_content": WORDS}),
    "blank reasoning": ([], lambda _: {"reasoning_content": " \n"}),
    "details": ([], lambda n: {"reasoning_details": [{"type": "x", "data": str(n)}]}),
    "parts": ([], lambda n: {"content" if n % 2 else "refusal": WORDS}),
    "arguments": ([of_call(OPEN, name="f")], lambda _: of_call(WORDS)),
    "arguments in a namespace": ([of_call(OPEN, name="n__g")], lambda _: of_call(WORDS)),
    "free-form input": ([of_call(OPEN, name="patch")], lambda _: of_call(WORDS)),
    "input in another form": ([of_call('"', name="patch")], lambda _: of_call(WORDS)),
    "arguments of an action": ([of_call(OPEN, name="shell")], lambda _: of_call(WORDS)),
    "arguments in turns": (
        [of_call(OPEN, name="f"), of_call(OPEN, 1, name="f")],
        lambda n: of_call(WORDS, n % 2),
    ),
    "arguments without a name": ([], lambda _: of_call(WORDS)),
    "text behind half a call": ([of_call(OPEN, name="f")], lambda _: {"content": WORDS}),
    "names": ([], lambda n: of_call("", name=f"{n}-")),
    "ids": ([], lambda n: {"tool_calls": [{"index": n, "id": f"{n}" * 9_000}]}),
    "extra content": (
        [],
        lambda n: {"tool_calls": [{"index": n, "extra_content": {"a": "x" * 9_000}}]},
    ),
    "citations": ([{"content": "a"}], cited),
}


def tags(structs: Sequence[msgspec.Struct]) -> list[str]:
    return [str(one.__struct_config__.tag) for one in structs]


def fed(t: Translation, make: Callable[[int], bytes]) -> list[Event]:
    """The events of an answer without end."""
    given = t.start()
    received = number = 0
    while not t.finished and received < MAX_RECEIVED:
        number += 1
        data = make(number)
        received += len(data)
        given += t.receive(data)
    assert t.finished
    return given


def check_end(t: Translation, given: list[Event]) -> None:
    """One legal end, with a code that is not retried; only whole items are in the response."""
    final = check_events(given + t.close())
    assert tags(given[-2:]) == ["error", "response.failed"]
    assert (final["status"], final["error"]["code"]) == ("failed", "invalid_prompt")
    assert isinstance(t.error, AnswerTooLarge)
    assert t.error.headers == {"x-should-retry": "false"}
    assert t.receive(sse(chunk({"content": "a"}))) == []


@pytest.mark.parametrize("kind", ENDLESS)
def test_an_endless_answer_ends(kind: str) -> None:
    before, make = ENDLESS[kind]
    dialect = msgspec.structs.replace(BASE, reasoning_details=True)
    t = translation(ASKING, dialect=dialect, options=Options(max_answer_bytes=LIMIT))
    given = t.start() + t.receive(sse(*map(chunk, before)))
    check_end(t, given + fed(t, lambda number: sse(chunk(make(number)))))


def test_endless_log_probabilities_end() -> None:
    t = translation(ASKING, options=Options(max_answer_bytes=LIMIT))
    check_end(t, fed(t, lambda number: sse(logged(number))))


def test_endless_sources_end() -> None:
    """Each list of sources takes the place of the one before it, so it is one that is too long."""
    t = translation(ASKING, options=Options(max_answer_bytes=LIMIT))
    urls = [f"https://a.example/{number}" for number in range(10_000)]
    check_end(t, fed(t, lambda _: sse(chunk({"content": "a"}, citations=urls))))


def test_text_that_may_be_a_call_counts() -> None:
    """It is held back until the end: nothing of it has become an event."""
    dialect = msgspec.structs.replace(BASE, recover_calls=True)
    t = translation(ASKING, dialect=dialect, options=Options(max_answer_bytes=LIMIT))
    given = t.start() + t.receive(sse(chunk({"content": "<tool_call>"})))
    given += fed(t, lambda _: sse(chunk({"content": WORDS * 100})))
    check_end(t, given)


@pytest.mark.parametrize("beginning", [b"{", b"data: ", b"data: {\ndata: "])
def test_what_is_not_whole_yet_counts(beginning: bytes) -> None:
    """A body that is one value, a line, an event."""
    t = translation(ASKING, options=Options(max_answer_bytes=LIMIT))
    given = t.start() + t.receive(beginning)
    given += fed(t, lambda _: b"x" * 1000)
    check_end(t, given)


def test_a_summary_counts() -> None:
    trigger = {"type": "compaction_trigger"}
    message = {"type": "message", "role": "user", "content": "Hi"}
    request = {**REQUEST, "input": [message, trigger]}
    t = translation(request, options=Options(max_answer_bytes=LIMIT))
    check_end(t, fed(t, lambda _: sse(chunk({"content": WORDS * 100}))))


@pytest.mark.parametrize("at_once", [False, True], ids=["one by one", "in one chunk"])
@pytest.mark.parametrize("kind", ["calls", "items"])
def test_output_items_are_bounded(kind: str, at_once: bool) -> None:
    """Also where they have no bytes to speak of."""
    t = translation(ASKING, options=Options(max_output_items=20))
    deltas = [
        of_call("{}", number, name="f")
        if kind == "calls"
        else {"content" if number % 2 else "reasoning": "a"}
        for number in range(50)
    ]
    if at_once and kind == "calls":
        deltas = [{"tool_calls": [one["tool_calls"][0] for one in deltas]}]
    given = t.start()
    for piece in [sse(*map(chunk, deltas))] if at_once else [sse(chunk(one)) for one in deltas]:
        given += t.receive(piece)
    check_end(t, given)
    assert len(t.response.output) <= 20
    assert "over 20 " in (t.error.message if t.error else "")


def test_items_that_wait_are_bounded() -> None:
    """Behind a call that is not whole: they would all be announced at the end."""
    t = translation(ASKING, options=Options(max_output_items=20))
    given = t.start() + t.receive(sse(chunk(of_call(OPEN, name="f"))))
    for number in range(50):
        given += t.receive(sse(chunk({"content" if number % 2 else "reasoning": "a"})))
    check_end(t, given)


def test_native_calls_are_bounded() -> None:
    """They are known only at the end, where none of them is lost without a word."""
    dialect = msgspec.structs.replace(BASE, recover_calls=True)
    t = translation(ASKING, dialect=dialect, options=Options(max_output_items=20))
    text = '<tool_call>{"name": "f", "arguments": {}}</tool_call>' * 21
    given = t.start() + t.receive(sse(chunk({"content": text}), chunk({}, "stop"), "[DONE]"))
    check_end(t, given)


def test_calls_that_show_no_item_are_bounded() -> None:
    t = translation(ASKING, options=Options(max_output_items=20))
    given = t.start()
    for number in range(21):
        given += t.receive(sse(chunk(of_call("{", number))))
    check_end(t, given)


def test_what_is_at_the_bound_is_whole() -> None:
    """Neither bound is hit by an answer that just fits."""
    options = Options(max_answer_bytes=LIMIT, max_output_items=2)
    t = translation(ASKING, options=options)
    body = sse(*(chunk({"content": "x" * 1024}) for _ in range(LIMIT // 1024 - 1)))
    given = t.start() + t.receive(body + sse(chunk(of_call("{}", name="f")), chunk({}, "stop")))
    given += t.close()
    assert check_events(given)["status"] == "completed"
    assert len(t.response.output) == 2


def test_what_is_whole_stays() -> None:
    t = translation(ASKING, options=Options(max_answer_bytes=LIMIT))
    given = t.start() + t.receive(sse(chunk({"reasoning": "Hm."}), chunk({"content": "So:"})))
    given += t.receive(sse(chunk(of_call('{"a": 1}', name="f"))))
    given += fed(t, lambda number: sse(chunk(of_call("x" * 1000, 1, name="f"))))
    check_end(t, given)
    assert tags(t.response.output) == ["reasoning", "message", "function_call"]


def test_a_whole_body_over_the_bound() -> None:
    body = json.dumps({"choices": [{"message": {"content": "x" * LIMIT}}]}).encode()
    t = translation({**ASKING, "stream": False}, options=Options(max_answer_bytes=LIMIT))
    with pytest.raises(AnswerTooLarge, match=f"over {LIMIT} bytes"):
        t.complete(body)


@pytest.mark.parametrize("pieces", [1, 1000], ids=["in pieces", "at once"])
def test_growth_is_accounted_for(pieces: int) -> None:
    """Every 64 KiB or so, in whatever pieces it comes; and the account may end it."""
    sizes: list[int] = []

    def account(size: int) -> None:
        sizes.append(size)
        if size > 500_000:
            raise AnswerTooLarge("No more.")

    t = Translation(
        json.dumps(ASKING).encode(),
        response_id="resp_1",
        created_at=3,
        new_id=lambda prefix: prefix + "1",
        account=account,
    )
    given = fed(t, lambda _: sse(chunk({"content": "x" * 1000})) * pieces)
    assert tags(given[-1:]) == ["response.failed"]
    assert t.error is not None
    assert t.error.message == "No more."
    steps = [after - before for before, after in zip([0, *sizes], sizes, strict=False)]
    assert len(steps) > 7
    assert all(0 < step <= 64 * 1024 for step in steps)


@pytest.mark.parametrize("kind", ["text", "arguments"])
def test_memory_stays_within_the_factor(kind: str) -> None:
    """In small pieces, of which each string by itself costs fifteen times its text."""
    limit = 2 * LIMIT
    before, make = ENDLESS[kind]
    t = translation(ASKING, options=Options(max_answer_bytes=limit))
    t.receive(sse(*map(chunk, before)))
    piece = sse(*(chunk(make(number)) for number in range(2000)))
    gc.collect()
    tracemalloc.start()
    try:
        while not t.finished:
            t.receive(piece)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < FACTOR * limit
