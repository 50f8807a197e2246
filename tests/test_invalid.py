"""Decoding errors in OpenAI's words."""

from __future__ import annotations

from typing import Annotated

import msgspec
import pytest

from translator import Translation
from translator.common.invalid import MAX_SEARCHED_BYTES, at_path, invalid_from, refuse_invalid_utf8
from translator.request.parse import parse_request
from translator.wire.errors import (
    InvalidRequest,
    RequestTooLarge,
    TranslatorError,
    UpstreamError,
    UpstreamTimeout,
)


class Inner(msgspec.Struct):
    name: str


class Outer(msgspec.Struct):
    inner: Inner | None = None
    many: list[Annotated[int, msgspec.Meta(le=3)]] | None = None


@pytest.mark.parametrize(
    ("body", "param", "code", "message"),
    [
        (b"{", None, None, "The request body is not valid JSON: Input data was truncated."),
        (b"[]", None, "invalid_type", "Invalid 'body': Expected `object`, got `array`."),
        (b'{"inner": 5}', "inner", "invalid_type", "Invalid 'inner': Expected `object | null`, got `int`."),
        (b'{"inner": {}}', "inner.name", "missing_required_parameter", "Missing required parameter: 'inner.name'."),
        (b'{"many": [1, 9]}', "many[1]", "integer_above_max_value", "Invalid 'many[1]': Expected `int` <= 3."),
    ],
)  # fmt: skip
def test_errors(body: bytes, param: str | None, code: str | None, message: str) -> None:
    with pytest.raises(msgspec.DecodeError) as raised:
        msgspec.json.decode(body, type=Outer)
    error = invalid_from(raised.value)
    assert (error.param, error.code, error.message) == (param, code, message)


def test_json_that_is_nested_too_deeply() -> None:
    with pytest.raises(RecursionError) as raised:
        msgspec.json.decode(b"[" * 100_000)
    error = invalid_from(raised.value)
    assert (error.message, error.code) == (
        "The request body is nested too deeply.",
        "json_too_deep",
    )


@pytest.mark.parametrize(
    ("body", "param", "start"),
    [
        (b'{"input":[{"action":{"commands":["ls","\xff"]}}]}', "input[0].action.commands[1]", 39),
        (b'{"input":[{"output":"\xc3"}]}', "input[0].output", 21),
        ('{"a":"é","b":"'.encode() + b'\xed\xa0\x80"}', "b", 15),
        (b'{"\xff":1}', None, 2),
        (b'{"\xff":{"a":"\xff"}}', None, 2),
        (b'{"a":{"\xff":1}}', "a", 7),
        (b'"\xff"', None, 1),
        (b'\xff{"a":1}', None, 0),
        (b'{"a":' + b"[" * 5000 + b'"\xff"' + b"]" * 5000 + b"}", None, 5006),
        (b'{"a":"' + b" " * MAX_SEARCHED_BYTES + b'\xff"}', None, 6 + MAX_SEARCHED_BYTES),
    ],
)  # fmt: skip
def test_a_text_that_is_not_utf8_is_refused_with_its_path(
    body: bytes, param: str | None, start: int
) -> None:
    with pytest.raises(InvalidRequest) as raised:
        refuse_invalid_utf8(body)
    error = raised.value
    where = f"Invalid '{param}'" if param else "The request body is not valid JSON"
    assert error.message == f"{where}: invalid UTF-8 at byte {start} of the body."
    assert (error.param, error.code) == (param, "invalid_value" if param else None)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (rb'{"model":"m","input":"\ud83d"}', "input"),
        (rb'{"model":"m","input":"\ud83dx"}', "input"),
        (rb'{"model":"m\udc00","input":"x"}', "model"),
        (rb'{"model":"m","input":[{"role":"user","content":"\ud83d"}]}', "input[0].content"),
        (
            rb'{"model":"m","input":[{"type":"function_call_output","call_id":"c","output":'
            rb'[{"type":"input_text","text":"\ud83d"}]}]}',
            "input[0].output[0].text",
        ),
        (rb'{"model":"m","metadata":{"\ud83d":"x"},"input":"x"}', "metadata"),
        (rb'{"\ud83d":"x"}', None),
        (rb'"\ud83d"', None),
    ],
)
def test_half_of_a_surrogate_pair_is_refused_with_its_path(body: bytes, param: str | None) -> None:
    with pytest.raises(InvalidRequest) as raised:
        Translation(parse_request(body), response_id="r", created_at=0, new_id=str)
    error = raised.value
    assert error.message == (
        f"Invalid '{param or 'body'}': a text has one half of a surrogate pair alone."
    )
    assert (error.param, error.code) == (param, "invalid_value")


def test_a_body_that_is_truncated_is_said_so() -> None:
    with pytest.raises(InvalidRequest, match="truncated"):
        parse_request(rb'{"model":"\ud83d')


@pytest.mark.parametrize("body", [b'{"a":"b"}', '{"a":"é\U0001f600"}'.encode(), b'{"a":"\\udcff"}'])
def test_utf8_is_not_refused(body: bytes) -> None:
    refuse_invalid_utf8(body)


def test_a_path_grows_from_the_inside_out() -> None:
    with pytest.raises(msgspec.DecodeError) as raised:
        msgspec.json.decode(b"{}", type=Inner)
    error = at_path(at_path(invalid_from(raised.value), "inner"), "outer[3]")
    assert error.param == "outer[3].inner.name"
    assert error.message == "Missing required parameter: 'outer[3].inner.name'."
    with pytest.raises(msgspec.DecodeError) as raised:
        msgspec.json.decode(b"5", type=Inner)
    error = at_path(invalid_from(raised.value), "input[0]")
    assert error.message == "Invalid 'input[0]': Expected `object`, got `int`."


def test_an_error_knows_how_it_looks() -> None:
    assert TranslatorError("x").envelope() == {
        "error": {"message": "x", "type": "server_error", "param": None, "code": None}
    }
    assert RequestTooLarge("x").status_hint == 413
    assert UpstreamTimeout("x").envelope()["error"]["code"] == "upstream_timeout"
    assert UpstreamError("x", headers={"retry-after": "1"}).headers == {"retry-after": "1"}
