"""Translation with pauses: the same result as without, and a pause between any two steps."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

import translator
from tests.replaying import REQUEST, translation
from tests.test_totality import DIALECTS, REQUESTS, damage
from translator import CompactRequest, InvalidRequest, Target, parse_request
from translator.common.invalid import refuse_invalid_utf8
from translator.common.pauses import Pause, no_pause
from translator.common.schemas import SchemaRules, rewrite
from translator.request import content_parts

COUNT = 50
USER = {"role": "user", "content": "Hi"}
EARLIER = [{"type": "compaction_trigger"}, {"type": "compaction", "encrypted_content": "x"}]


class Counter:
    """A pause that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> None:
        self.calls += 1


def outcome(work: Callable[[], Any]) -> object:
    """What the work returns, or the error that it ends in."""
    try:
        return work()
    except InvalidRequest as error:
        return type(error), error.message, error.param, error.code, error.status_hint


def translated(body: bytes, pause: Pause, **options: Any) -> object:
    def work() -> object:
        made = translation(body, pause=pause, **options)
        return made.chat_body, made.notices, msgspec.json.encode(made.response)

    return outcome(work)


def compacted(body: bytes, pause: Pause) -> object:
    def work() -> object:
        made = CompactRequest(body, pause)
        return made.body, made.notices

    return outcome(work)


@settings(max_examples=150)
@given(st.data(), st.sampled_from(sorted(REQUESTS)), DIALECTS, st.booleans())
def test_pauses_change_nothing(
    data: st.DataObject, name: str, dialect: str, ascii_only: bool
) -> None:
    """Whatever the request: the same chat request, or the same error in the same words."""
    request = damage(data.draw, REQUESTS[name])
    body = json.dumps(request, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    pause = Counter()
    assert translated(body, pause, dialect=dialect) == translated(body, no_pause, dialect=dialect)
    assert pause.calls
    assert compacted(body, Counter()) == compacted(body, no_pause)


def test_pauses_change_nothing_in_a_conversation_that_goes_on() -> None:
    earlier = [Raw(json.dumps(one).encode()) for one in [USER, *EARLIER, USER] * 10]
    body = json.dumps(REQUEST | {"input": [USER], "previous_response_id": "resp_0"}).encode()
    pause = Counter()
    with_pauses = translated(body, pause, earlier=earlier)
    assert with_pauses == translated(body, no_pause, earlier=earlier)
    assert pause.calls > 2 * len(earlier)


def function(name: str, **properties: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties}
    return {"type": "function", "name": name, "parameters": schema}


CALL = {"type": "function_call", "name": "later", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "output": "ok"}
MANY = {
    "items": {"input": [USER] * COUNT},
    "parts of a message": {
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "x"}] * COUNT}]
    },
    "parts of an answer": {
        "input": [
            {"role": "assistant", "content": [{"type": "output_text", "text": "x"}] * COUNT},
            USER,
        ]
    },
    "parts of an output": {
        "input": [
            {**CALL, "call_id": "c"},
            {**OUTPUT, "call_id": "c", "output": [{"type": "input_text", "text": "x"}] * COUNT},
        ]
    },
    "tools": {"input": [USER], "tools": [function(f"t{n}") for n in range(COUNT)]},
    "tools of a namespace": {
        "input": [USER],
        "tools": [
            {"type": "namespace", "name": "n", "tools": [function(f"t{n}") for n in range(COUNT)]}
        ],
    },
    "tools that are declared later": {
        "input": [
            {**CALL, "call_id": "c"},
            {**OUTPUT, "call_id": "c"},
            {"type": "additional_tools", "tools": [function(f"t{n}") for n in range(COUNT)]},
            USER,
        ]
    },
}


@pytest.mark.parametrize("more", MANY.values(), ids=MANY)
def test_there_is_a_pause_for_each_of_many(more: dict[str, Any]) -> None:
    pause = Counter()
    translated(json.dumps(REQUEST | more).encode(), pause)
    assert pause.calls >= COUNT


TEXT = {"type": "input_text", "text": "x" * 1000}
IMAGE = {"type": "input_image", "image_url": "data:image/png;base64," + "A" * 100_000}
LARGE_CONTENTS: dict[str, Any] = {
    "parts": [TEXT, "a string", {"type": "refusal", "refusal": "No."}] * 200,
    "parts of two sizes": [TEXT, IMAGE] * 5,
    "text": "x" * 300_000,
    "a faulty part": [*[TEXT] * 300, {"type": "input_text"}, TEXT],
    "a part of no known type": [*[TEXT] * 300, {"type": "nonsense"}],
    "no parts": {"x": "y" * 100_000},
}
OF_LARGE: dict[str, Callable[[Any], list[Any]]] = {
    "a message": lambda content: [{"type": "message", "role": "user", "content": content}],
    "a message without a type": lambda content: [{"role": "user", "content": content}],
    "of nobody": lambda content: [{"type": "message", "role": "nobody", "content": content}],
    "an output": lambda content: [
        {**CALL, "call_id": "c"},
        {**OUTPUT, "call_id": "c", "output": content},
    ],
}


@pytest.mark.parametrize("content", LARGE_CONTENTS.values(), ids=LARGE_CONTENTS)
@pytest.mark.parametrize("item", OF_LARGE.values(), ids=OF_LARGE)
def test_parts_in_groups_are_the_same_parts(
    item: Callable[[Any], list[Any]], content: object
) -> None:
    """Whatever is wrong with one of them: the error is that of the whole item."""
    body = json.dumps(REQUEST | {"input": item(content)}).encode()
    assert translated(body, Counter()) == translated(body, no_pause)


def test_a_group_of_parts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is decoded at once does not grow with the message."""
    sizes: list[int] = []
    original = content_parts._decode_parts

    def noting(group: bytes) -> Any:
        sizes.append(len(group))
        return original(group)

    monkeypatch.setattr(content_parts, "_decode_parts", noting)
    message = {"type": "message", "role": "user", "content": [TEXT] * 1000}
    translated(json.dumps(REQUEST | {"input": [message]}).encode(), Counter())
    assert len(sizes) >= 10
    assert max(sizes) < content_parts.GROUP_BYTES + 2000


def test_there_is_a_pause_for_each_schema_within_a_schema() -> None:
    inner = {f"p{n}": {"type": ["string", "null"]} for n in range(COUNT)}
    schema = Raw(json.dumps({"type": "object", "properties": inner}).encode())
    rules = SchemaRules(type_lists="nullable")
    pause = Counter()
    assert rewrite(schema, rules, pause) == rewrite(schema, rules)
    assert pause.calls > COUNT


def test_there_is_a_pause_for_each_part_of_a_body_that_is_not_ascii() -> None:
    """Characters may lie across the parts."""
    pause = Counter()
    refuse_invalid_utf8("xä漢🙂".encode() * 100_000, pause)
    assert pause.calls >= 3


@pytest.mark.parametrize("place", [0, 262_143, 262_145, 999_999])
def test_what_is_not_utf8_is_refused_in_the_same_words(place: int) -> None:
    body = b'{"input": "' + "ä漢".encode() * 200_000 + b'"}'
    body = body[: 11 + place] + b"\xff" + body[11 + place :]
    assert outcome(lambda: parse_request(body, Counter())) == outcome(lambda: parse_request(body))
    cut = '{"input": "ä'.encode()[:-1]
    assert outcome(lambda: parse_request(cut, Counter())) == outcome(lambda: parse_request(cut))


def test_what_a_pause_raises_ends_the_work() -> None:
    class Enough(BaseException):
        pass

    calls = 0

    def pause() -> None:
        nonlocal calls
        calls += 1
        if calls == 10:
            raise Enough

    with pytest.raises(Enough):
        translation(REQUEST | {"input": [USER] * 1000}, pause=pause)
    assert calls == 10


def test_nothing_of_the_pause_is_held_while_the_answer_comes() -> None:
    pause = Counter()
    made = translator.Translation(
        json.dumps(REQUEST | {"tools": [function("t")]}).encode(),
        response_id="resp_1",
        created_at=0,
        new_id=lambda prefix: prefix,
        target=Target(),
        pause=pause,
    )
    paused = pause.calls
    made.forget_request()
    made.receive(b'data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n')
    made.close()
    assert pause.calls == paused
