"""The places of an answer that refer to sources: what counts as a mark, and what only looks like one."""

from __future__ import annotations

import pytest

from translator.wire.deltas import Source, Sources
from translator.writer.citation_marks import MAX_NUMBERS, citations_in

SOURCES = tuple(Source(f"https://site.test/{number}", f"{number}") for number in range(1, 5))
ASKED = Sources(SOURCES, linked=True)
UNASKED = Sources(SOURCES)


def _cited(text: str, delta: Sources) -> list[tuple[str, str]]:
    """Each citation: what it covers, and the number of its source."""
    return [(text[c.start_index : c.end_index], c.title) for c in citations_in(text, delta)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It is so [1].", [("[1]", "1")]),
        ("So.[1][2] And so [3]", [("[1]", "1"), ("[2]", "2"), ("[3]", "3")]),
        ("Both [1, 2].", [("[1, 2]", "1"), ("[1, 2]", "2")]),
        ("All [1-3].", [("[1-3]", "1"), ("[1-3]", "2"), ("[1-3]", "3")]),
        ("All [1–2,4].", [("[1–2,4]", "1"), ("[1–2,4]", "2"), ("[1–2,4]", "4")]),
        ("Twice [2,1-2]", [("[2,1-2]", "2"), ("[2,1-2]", "1")]),
        ("So【1】and so【2†source】.", [("【1】", "1"), ("【2†source】", "2")]),
        ("東京[1]です", [("[1]", "1")]),
        ("In France[1].", [("[1]", "1")]),
        ("In France[1][2] it", [("[1]", "1"), ("[2]", "2")]),
        ("(in France[1])", [("[1]", "1")]),
        ("In France[1]\nand", [("[1]", "1")]),
        ("See [it](https://site.test/3).", [("[it](https://site.test/3)", "3")]),
        ("See x[1](https://site.test/3).", [("[1](https://site.test/3)", "3")]),
    ],
)
def test_marks_are_citations(text: str, expected: list[tuple[str, str]]) -> None:
    assert _cited(text, ASKED) == expected


@pytest.mark.parametrize(
    "text",
    [
        "It sets arr[2] to x.",
        "It sets arr[2]=1, or arr[2].name",
        "`a [1]`, and ```\n [1] \n``` or ``` [1]",
        "No source [5], nor [0] nor [3, 5] nor [2-7].",
        "No digit [٣], no number [one], [1234].",
        f"Too many [{','.join(['1'] * (MAX_NUMBERS + 1))}], [1-999], none [3-1].",
        "Elsewhere [it](https://other.test/).",
        '{"b": [1], "text": "It is so [1]."}',
        ' \n{"text": "It is so [1]."}\n',
    ],
)
def test_what_looks_like_a_mark_is_no_citation(text: str) -> None:
    assert _cited(text, ASKED) == []


def test_what_only_begins_like_an_object_is_prose() -> None:
    assert _cited("{It is so} [1].", ASKED) == [("[1]", "1")]
    assert _cited("{" * 100_000 + " [1]", ASKED) == [("[1]", "1")]


def test_numbers_go_on_in_a_later_response() -> None:
    later = Sources(SOURCES, first=5, linked=True)
    assert _cited("Not [1], but [6, 8].", later) == [("[6, 8]", "2"), ("[6, 8]", "4")]


def test_an_upstream_that_searches_itself_has_one_form() -> None:
    """Right behind a word, too; it was not asked for others."""
    text = "In France[1] and Spain[2], not [1, 2], 【3】 or [it](https://site.test/3)."
    assert _cited(text, UNASKED) == [("[1]", "1"), ("[2]", "2")]
    assert _cited('{"b": [1]}', UNASKED) == []
