"""White space between the tokens of a request: whoever indents a body gets the same answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import translator
from tests.invariants import check_events
from tests.replaying import chunk, replay, sse, translation
from tests.strategies import JSON, TEXT

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
FUNCTION = {"type": "function", "name": "f", "parameters": SCHEMA, "strict": None}
GRAMMAR = {"type": "grammar", "syntax": "lark", "definition": 'start: "\\n" | "\r"'}
REQUEST: dict[str, Any] = {
    "model": "a-model",
    "stream": True,
    "instructions": "one\ntwo\u2028three",
    "input": [{"role": "user", "content": [{"type": "input_text", "text": "a\tb"}]}],
    "tools": [
        FUNCTION,
        {"type": "function", "name": "without_keys"},
        {"type": "custom", "name": "patch", "format": GRAMMAR},
        {"type": "namespace", "name": "n", "description": "d", "tools": [FUNCTION]},
        {"type": "tool_search", "execution": "client", "parameters": SCHEMA},
    ],
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [FUNCTION]},
    "text": {"format": {"type": "json_schema", "name": "s", "schema": SCHEMA}},
    "metadata": {"k": "v\r\n"},
}
BODY = sse(chunk({"content": "ok"}), chunk({}, "stop"), "[DONE]")
BLANK = st.text(" \t\r\n", max_size=3)


@st.composite
def spaced(draw: st.DrawFn, value: Any) -> str:
    """A value as JSON, with white space wherever JSON allows it."""
    before, after = draw(BLANK), draw(BLANK)
    if isinstance(value, dict):
        pairs = [f"{draw(spaced(name))}:{draw(spaced(inner))}" for name, inner in value.items()]
        text = "{" + ",".join(pairs) + ("" if pairs else draw(BLANK)) + "}"
    elif isinstance(value, list):
        text = "[" + ",".join(draw(spaced(inner)) for inner in value) + "]"
    else:
        text = json.dumps(value, ensure_ascii=draw(st.booleans()))
    return before + text + after


def frames(body: bytes) -> list[dict[str, Any]]:
    """What an SSE parser makes of a body, by the letter of the standard."""
    found: list[dict[str, Any]] = []
    for frame in body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n\n"):
        lines = frame.split(b"\n")
        data = [line.removeprefix(b"data: ") for line in lines if line.startswith(b"data: ")]
        if data:
            found.append(json.loads(b"\n".join(data)))
    return found


def answer(request: bytes) -> tuple[bytes, bytes]:
    """The chat request, and the stream that the client gets."""
    events, _ = replay(BODY, request)
    check_events(events)
    return translation(request).chat_body, b"".join(map(translator.encode_sse, events))


@given(st.data())
def test_white_space_changes_nothing(data: st.DataObject) -> None:
    """The frames are whole, and say what they say to whoever sends the request on one line."""
    text = data.draw(spaced(REQUEST))
    chat, stream = answer(text.encode())
    plain_chat, plain_stream = answer(json.dumps(REQUEST).encode())
    assert json.loads(chat) == json.loads(plain_chat)
    assert frames(stream) == frames(plain_stream)


@given(schema=st.dictionaries(TEXT, JSON, max_size=4), data=st.data())
def test_no_schema_breaks_a_frame(schema: dict[str, Any], data: st.DataObject) -> None:
    """Whatever a tool's parameters hold, each event is one line of data, and repeats them."""
    tool = {"type": "function", "name": "f", "parameters": schema, "strict": False}
    request = REQUEST | {"tools": [tool], "tool_choice": "auto"}
    text = data.draw(spaced(request))
    _, stream = answer(text.encode())
    for frame in stream.removesuffix(b"\n\n").split(b"\n\n"):
        assert frame.count(b"\n") == 1
        assert b"\r" not in frame
    [created, *_] = frames(stream)
    assert created["response"]["tools"][0]["parameters"] == schema


@pytest.mark.parametrize("indent", [1, "\t"])
def test_a_compacted_conversation_is_on_one_line(indent: int | str) -> None:
    """What is repeated of the input in an answer that is not streamed, too."""
    source = {
        "model": "m",
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "a"}]}],
    }
    request = translator.CompactRequest(json.dumps(source, indent=indent).encode())
    t = translation(request.body)
    t.complete(
        json.dumps({"choices": [{"message": {"content": "s"}, "finish_reason": "stop"}]}).encode()
    )
    body = translator.encode_json(request.answer(t.response, new_id=lambda prefix: f"{prefix}1"))
    assert b"\n" not in body
    assert b"\t" not in body


def test_a_request_on_one_line_keeps_its_bytes() -> None:
    """It is not copied, which would cost as much as to decode it."""
    from translator.wire.json_values import on_one_line

    body = json.dumps(REQUEST).encode()
    assert on_one_line(body) is body
