"""Reasoning between tags, wherever the stream is cut."""

from __future__ import annotations

import pytest

from translator.dialects.think_tags import MAX_BLANK, Splitter, Tags

PLAIN = Tags()
TEMPLATE = Tags(opened_by_template=True)
STRAY = Tags(stray_close=True)
TWO = Tags((("<think>", "</think>"), ("<reasoning>", "</reasoning>")))


def split(tags: Tags, *pieces: str) -> tuple[str, str]:
    splitter = Splitter(tags)
    runs = [run for piece in pieces for run in splitter.feed(piece)] + splitter.end()
    reasoning = "".join(text for is_reasoning, text in runs if is_reasoning)
    return reasoning, "".join(text for is_reasoning, text in runs if not is_reasoning)


@pytest.mark.parametrize(
    ("tags", "text", "reasoning", "answer"),
    [
        (PLAIN, "<think>ab</think>\n\nHi", "ab", "Hi"),
        (PLAIN, "\n <think>ab</think>Hi", "ab", "Hi"),
        (PLAIN, "<think>a</thin b</think>Hi </think>", "a</thin b", "Hi </think>"),
        (PLAIN, "<think>\n\n</think>\n\nHi", "", "Hi"),
        (PLAIN, "<think>\n a\n</think>Hi", "a\n", "Hi"),
        (PLAIN, "<think>abc", "abc", ""),
        (PLAIN, "<think>abc</thi", "abc</thi", ""),
        (PLAIN, "Use `<think>` tags", "", "Use `<think>` tags"),
        (PLAIN, "\n<thought>", "", "\n<thought>"),
        (PLAIN, "<thi", "", "<thi"),
        (PLAIN, "  ", "", "  "),
        (PLAIN, "</think>Hi", "", "</think>Hi"),
        (TEMPLATE, "ab</think>Hi", "ab", "Hi"),
        (TEMPLATE, "<think>ab</think>Hi", "ab", "Hi"),
        (STRAY, "\n</think>\nHi", "", "Hi"),
        (STRAY, "Hi </think>", "", "Hi </think>"),
        (TWO, "<reasoning>r</reasoning>Hi", "r", "Hi"),
        (TWO, "<think>r</think>Hi<reasoning>", "r", "Hi<reasoning>"),
    ],
)
def test_split(tags: Tags, text: str, reasoning: str, answer: str) -> None:
    assert split(tags, text) == (reasoning, answer)
    for place in range(len(text) + 1):
        assert split(tags, text[:place], text[place:]) == (reasoning, answer), place
    assert split(tags, *text) == (reasoning, answer)


@pytest.mark.parametrize("tags", [PLAIN, TEMPLATE, STRAY, TWO])
@pytest.mark.parametrize("tag", ["<think>", "</think>"])
def test_a_long_blank_beginning_is_text(tags: Tags, tag: str) -> None:
    """White space up to a bound stands before a tag; how the stream is cut makes no difference."""
    for blanks in range(MAX_BLANK - 10, MAX_BLANK + 10):
        text = "\n" * blanks + tag + "a</think>b"
        whole = split(tags, text)
        if blanks > MAX_BLANK and not tags.opened_by_template:
            assert whole == ("", text)
        for place in range(len(text) + 1):
            assert split(tags, text[:place], text[place:]) == whole, (blanks, place)
        assert split(tags, *text) == whole


def test_behind_a_call_the_model_may_think_anew() -> None:
    """Where it is known to: elsewhere a tag there is text, as everywhere but at the beginning."""
    for tags, expected in (
        (Tags(interleaved=True), [(True, "b"), (False, "c")]),
        (Tags(interleaved=True, opened_by_template=True), [(True, "b"), (False, "c")]),
        (PLAIN, [(False, "<think>b</think>c")]),
    ):
        splitter = Splitter(tags)
        splitter.feed("a</think>Hi")
        assert splitter.call() == []
        assert splitter.feed("<think>b</think>c") == expected


def test_the_template_opens_a_tag_only_once() -> None:
    splitter = Splitter(Tags(interleaved=True, opened_by_template=True))
    assert splitter.feed("a</think>Hi") == [(True, "a"), (False, "Hi")]
    splitter.call()
    assert splitter.feed("b") == [(False, "b")]


def test_what_waits_for_a_tag_stands_before_the_call() -> None:
    splitter = Splitter(PLAIN)
    assert splitter.feed("<thi") == []
    assert splitter.call() == [(False, "<thi")]
    splitter = Splitter(PLAIN)
    assert splitter.feed("<think>a</thi") == [(True, "a")]
    assert splitter.call() == [(True, "</thi")]
