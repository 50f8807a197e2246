"""Whatever is sent, by an upstream or by a client, ends well: legal events, or an error that says why.

Nothing here is expected to make sense; it must only never be an exception, a hang, or an illegal
sequence of events.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import translator
from tests import strategies as draws
from tests.fixture_cases import all_cases
from tests.invariants import check_events, check_response_types
from tests.replaying import REQUEST, replay, sse, translation
from translator import InvalidRequest, TranslatorError, UpstreamError

ASKING = {
    **REQUEST,
    "tools": [{"type": "function", "name": name} for name in ("get_weather", "add", "f")],
    "include": ["reasoning.encrypted_content"],
}
DIALECTS = st.sampled_from(sorted(translator.DIALECTS))
VALUES = draws.JSON | st.sampled_from(["\ud83d", "\ude00x", ["\ud83d"], 10**30, -1, True])
BYTES = st.lists(
    st.binary(max_size=40)
    | st.sampled_from([b"data: ", b"\n\n", b"\r\n", b"{", b"<html>", b"[DONE]", b'{"error":"x"}'])
)


def check_envelope(error: TranslatorError) -> dict[str, str | None]:
    """The error object that a client gets: all four keys, and an HTTP status of an error."""
    body = json.loads(json.dumps(error.envelope(), ensure_ascii=False).encode())
    assert body.keys() == {"error"}
    found: dict[str, str | None] = body["error"]
    assert found.keys() == {"message", "type", "param", "code"}
    assert found["message"]
    assert found["type"]
    assert 400 <= error.status_hint < 600
    assert all(isinstance(value, str | None) for value in found.values())
    return found


def nodes(value: Any) -> list[tuple[Any, Any]]:
    """Every place in a JSON value: the object or array that holds it, and its key."""
    keys = list(value) if isinstance(value, dict) else range(len(value))
    places = [(value, key) for key in keys]
    inner = [value[key] for key in keys if isinstance(value[key], dict | list)]
    return places + [place for one in inner for place in nodes(one)]


def damage(draw: Callable[[st.SearchStrategy[Any]], Any], value: Any) -> Any:
    """A copy in which something, anywhere, is something else, or missing."""
    damaged = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 2))):
        places = nodes(damaged)
        if not places:
            break
        holder, key = draw(st.sampled_from(places))
        if isinstance(holder, dict) and draw(st.booleans()) and draw(st.booleans()):
            del holder[key]
        else:
            holder[key] = copy.deepcopy(draw(VALUES))  # it may be damaged in its turn
    return damaged


# --- what an upstream sends -----------------------------------------------------------------------


@settings(max_examples=300)
@given(st.lists(VALUES | st.just("[DONE]"), max_size=4), DIALECTS)
def test_any_json_in_place_of_a_chunk(values: list[Any], dialect: str) -> None:
    """Whatever JSON an upstream sends, the events are legal and there is one end."""
    frames = [
        f"data: {value if value == '[DONE]' else json.dumps(value)}\n\n".encode()
        for value in values
    ]
    events, _ = replay(frames, ASKING, dialect=dialect)
    check_events(events)


@settings(max_examples=400)
@given(st.data(), draws.answers(), DIALECTS)
def test_any_value_in_a_chunk_may_be_wrong(
    data: st.DataObject, answer: draws.Answer, dialect: str
) -> None:
    """A wrong type anywhere in a stream is survived: legal events, one end."""
    chunks = damage(data.draw, data.draw(draws.streams(answer)))
    events, _ = replay(sse(*map(json.dumps, chunks), "[DONE]"), ASKING, dialect=dialect)
    check_events(events)


@settings(max_examples=300)
@given(BYTES)
def test_any_bytes_in_place_of_a_stream(pieces: list[bytes]) -> None:
    """Whatever bytes an upstream sends, the events are legal and there is one end."""
    events, _ = replay(pieces, ASKING)
    check_events(events)


def check_whole(body: bytes, dialect: str) -> None:
    """A whole body is a response, whatever it says, or an error that is the upstream's."""
    try:
        response = translation({**ASKING, "stream": False}, dialect=dialect).complete(body)
    except UpstreamError as error:
        check_envelope(error)
    else:
        assert response.status in ("completed", "incomplete", "failed")
        check_response_types(json.loads(translator.encode_json(response)))


@settings(max_examples=400)
@given(st.data(), draws.answers(), DIALECTS)
def test_any_value_in_a_whole_body_may_be_wrong(
    data: st.DataObject, answer: draws.Answer, dialect: str
) -> None:
    body = json.loads(draws.completion_of(answer))
    check_whole(json.dumps(damage(data.draw, body)).encode(), dialect)


@settings(max_examples=300)
@given(BYTES.map(b"".join) | VALUES.map(lambda value: json.dumps(value).encode()), DIALECTS)
def test_any_bytes_in_place_of_a_whole_body(body: bytes, dialect: str) -> None:
    check_whole(body, dialect)


ERROR_BODIES = [case.http_error.body for case in all_cases().values() if case.http_error]
JSON_ERRORS = [json.loads(body) for body in ERROR_BODIES if body.startswith((b"{", b"["))]


@settings(max_examples=400)
@given(st.data(), st.integers(300, 599), st.booleans())
def test_any_refusal_is_an_error_with_an_envelope(
    data: st.DataObject, status: int, silent: bool
) -> None:
    """Whatever an upstream refuses with, our client gets an error of ours."""
    shaped = st.sampled_from(JSON_ERRORS).map(lambda body: damage(data.draw, body))
    body = data.draw(BYTES.map(b"".join) | (VALUES | shaped).map(lambda v: json.dumps(v).encode()))
    error = translator.read_upstream_error(status, body, silent_overflow=silent)
    check_envelope(error)
    assert len(error.message) < 1200


# --- what a client sends --------------------------------------------------------------------------

REQUESTS = {
    name: case.request
    for name, case in all_cases().items()
    if case.request is not None and len(nodes(case.request)) > 12
}
STEP = re.compile(r"\[(\d+)\]|([^.\[\]]+)")


def leads_somewhere(path: str, request: Any) -> bool:
    """The path leads to a value of the request, or to the object that lacks its last step."""
    value = request
    steps = [int(index) if index else name for index, name in STEP.findall(path)]
    for number, step in enumerate(steps):
        is_there = (isinstance(value, list) and isinstance(step, int) and step < len(value)) or (
            isinstance(value, dict) and step in value
        )
        if not is_there:
            return number == len(steps) - 1 and isinstance(value, dict)
        value = value[step]
    return True


@settings(max_examples=600)
@given(st.data(), st.sampled_from(sorted(REQUESTS)), DIALECTS)
def test_any_value_in_a_request_may_be_wrong(data: st.DataObject, name: str, dialect: str) -> None:
    """A request is translated, or refused with the path of what is wrong in it."""
    request = damage(data.draw, REQUESTS[name])
    try:
        t = translation(json.dumps(request).encode(), dialect=dialect)
    except InvalidRequest as error:
        found = check_envelope(error)
        assert error.status_hint in (400, 404, 413)
        assert found["type"] == "invalid_request_error"
        assert found["param"] is None or leads_somewhere(found["param"], request), found
    else:
        assert json.loads(t.chat_body)["messages"]


@settings(max_examples=300)
@given(st.data(), st.sampled_from(sorted(REQUESTS)))
def test_a_broken_text_anywhere_in_a_request_is_refused(data: st.DataObject, name: str) -> None:
    """Bytes that are not UTF-8 never go upstream, also not in parts that are not looked at."""
    body = json.dumps(REQUESTS[name]).encode()
    place = data.draw(st.sampled_from([found.end() for found in re.finditer(b'"', body)]))
    with pytest.raises(InvalidRequest) as raised:
        translation(body[:place] + b"\xff" + body[place:])
    assert raised.value.status_hint == 400


@settings(max_examples=200)
@given(BYTES.map(b"".join) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_in_place_of_a_request(body: bytes) -> None:
    with pytest.raises(InvalidRequest) as raised:
        translation(body)
    check_envelope(raised.value)


@pytest.mark.parametrize("dialect", sorted(translator.DIALECTS))
@pytest.mark.parametrize("levels", [400, 100_000])
def test_a_tool_that_is_nested_without_end_is_refused(dialect: str, levels: int) -> None:
    """Also where only what is done with its schema goes too deep, and not the decoder."""
    schema = '{"items":' * levels + "{}" + "}" * levels
    tool = f'{{"type":"function","name":"f","parameters":{schema}}}'
    try:
        translation(f'{{"model":"m","input":"h","tools":[{tool}]}}'.encode(), dialect=dialect)
    except InvalidRequest as error:
        assert (error.status_hint, error.code) == (400, "json_too_deep")
    else:
        assert levels == 400
        assert not translator.DIALECTS[dialect].schema_rules


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("a", True), ("a[1]", True), ("a[1].b", True), ("a[1].missing", True), ("missing", True),
        ("a[2]", False), ("a.b", False), ("a[1].b.c", False), ("missing.b", False),
    ],
)  # fmt: skip
def test_what_it_means_that_a_path_exists(path: str, there: bool) -> None:
    assert leads_somewhere(path, {"a": [1, {"b": 2}]}) == there
