"""JSON text that is still arriving."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import strategies as draws
from translator.common.json_text import JsonExtent, StringArgument


def decode(*pieces: str, key: str = "input") -> str:
    argument = StringArgument(key)
    return "".join(argument.feed(piece) for piece in pieces) + argument.end()


@given(st.dictionaries(draws.TEXT, draws.JSON, min_size=1), st.data())
def test_an_object_is_whole_at_its_last_character_and_not_before(
    value: dict[str, object], data: st.DataObject
) -> None:
    text = json.dumps(value)
    extent = JsonExtent()
    for piece in data.draw(draws.slices(text[:-1])):
        extent.add(piece)
        assert not extent.whole
    extent.add(text[-1] + " ")
    assert extent.whole


def test_what_is_no_object_is_never_whole() -> None:
    extent = JsonExtent()
    extent.add('null "{}" 12')
    assert not extent.whole


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ('{"input": "a\\nb"}', "a\nb"),
        (' {\n "input" :\t"x"} ', "x"),
        ('{"input":"\\ud83d\\ude00"}', "😀"),
        ('{"input":"\\ud83dx"}', "\ufffdx"),
        ('{"input":"\\ud83d"}', "\ufffd"),
        ('{"input":"\\ude00"}', "\ufffd"),
        ('{"input":"a\\xb"}', "a\\xb"),
        ('{"input":"a\\uzz"}', "a\\uzz"),
        ('{"input":"\\"\\\\\\/\\b\\f\\r\\t"}', '"\\/\b\f\r\t'),
        ('{"input":"cut off', "cut off"),
        ('{"input":"half \\ud83d', "half \ufffd"),
        ('{"input":"half \\u12', "half \\u12"),
        ('{"input":"a", "more": 1}', "a"),
        ("*** Begin Patch\n*** End Patch", "*** Begin Patch\n*** End Patch"),
        ('{"patch": "p"}', "p"),
        ('{"why": "w", "input": "p"}', "p"),
        ('{"why": "w", "what": "p"}', '{"why": "w", "what": "p"}'),
        ('{"input": 5}', '{"input": 5}'),
        ('"just a string"', "just a string"),
        ('"just a', '"just a'),
        ("{}", ""),
        ("[1]", "[1]"),
        (' "a" ', "a"),
        ('"a" 5', '"a" 5'),
        ('{"k": [1], "l": 2' + " " * 90 + "}", '{"k": [1], "l": 2' + " " * 90 + "}"),
        ("", ""),
        ('{"inp', '{"inp'),
        ("12", "12"),
    ],
)
def test_what_a_model_may_put_into_the_argument(arguments: str, text: str) -> None:
    assert decode(arguments) == text
    for place in range(len(arguments) + 1):
        assert decode(arguments[:place], arguments[place:]) == text, place
    assert decode(*arguments) == text


def test_text_is_known_as_soon_as_it_has_arrived() -> None:
    argument = StringArgument("input")
    assert argument.feed('{"input": "') == ""
    assert argument.feed("one\\") == "one"
    assert argument.feed("n\\ud8") == "\n"
    assert argument.feed("3d\\") == ""
    assert argument.feed("ude00 two") == "😀 two"


def test_raw_text_streams_too() -> None:
    argument = StringArgument("input")
    assert argument.feed(" ") == ""
    assert argument.feed("*** Begin") == " *** Begin"
    assert argument.feed(" Patch") == " Patch"


def test_a_long_other_object_is_held_back_whole() -> None:
    text = json.dumps({"k" * 200: "v"})
    assert decode(text[:150], text[150:]) == "v"
