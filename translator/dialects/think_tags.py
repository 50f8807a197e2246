"""The think tag splitter, for reasoning between tags inside the text: `<think>…</think>answer`.

Tags count only at the beginning of an answer, and at the first text after a call where the model is
known to think again there. A later tag is content (a question about HTML, a code fence).

    answer = [ blank ], open, [ blank ], reasoning, close, [ blank ], text     tagged
           | reasoning, close, [ blank ], text                      tagged, opened by the template
           | [ blank ], close, [ blank ], text                      a close tag left by the server
           | text ;                                                 anything else
"""

from __future__ import annotations

from enum import Enum, auto
from typing import assert_never

from msgspec import Struct


class Tags(Struct, frozen=True):
    """The tags of one upstream.

    `pairs` are the opening and closing tags. `opened_by_template`: the opening tag is part of the
    prompt, so the answer begins inside the reasoning. `stray_close`: the server splits off the
    reasoning but leaves its closing tag at the beginning of the text. `interleaved`: reasoning
    between tags may follow a call again.
    """

    pairs: tuple[tuple[str, str], ...] = (("<think>", "</think>"),)
    opened_by_template: bool = False
    stray_close: bool = False
    interleaved: bool = False


MAX_BLANK = 64
"""Most white space accepted before an opening tag, in characters; seen: one or two newlines."""


class _At(Enum):
    START = auto()
    OPENING = auto()  # after the opening tag, before the first character of the reasoning
    REASONING = auto()
    GAP = auto()  # after the closing tag, before the first character of the text
    TEXT = auto()


class Splitter:
    """Splits text, cut anywhere, into runs of reasoning (True) and of text (False)."""

    __slots__ = ("_at", "_close", "_held", "_opened_by_template", "_tags")

    def __init__(self, tags: Tags) -> None:
        self._tags = tags
        self._at = _At.START
        self._held = ""
        self._close = tags.pairs[0][1]
        self._opened_by_template = tags.opened_by_template

    @property
    def only_text(self) -> bool:
        """Whether all that follows is text: no tag can follow."""
        return self._at is _At.TEXT

    def feed(self, text: str) -> list[tuple[bool, str]]:
        """The runs that the next slice of text completes."""
        runs: list[tuple[bool, str]] = []
        text, self._held = self._held + text, ""
        while text:
            match self._at:
                case _At.START:
                    text = self._start(text)
                case _At.OPENING:
                    text = text.lstrip()
                    if text:
                        self._at = _At.REASONING
                case _At.REASONING:
                    text = self._reasoning(text, runs)
                case _At.GAP:
                    text = text.lstrip()
                    if text:
                        self._at = _At.TEXT
                case _At.TEXT:
                    runs.append((False, text))
                    text = ""
                case _ as never:
                    assert_never(never)
        return runs

    def end(self) -> list[tuple[bool, str]]:
        """The text that was held back as a possible beginning of a tag."""
        text, self._held = self._held, ""
        return [(self._at is _At.REASONING, text)] if text else []

    def call(self) -> list[tuple[bool, str]]:
        """The held text, at a call; after it the model may think again."""
        runs = self.end()
        if self._tags.interleaved:
            self._at = _At.START
            self._opened_by_template = False
        return runs

    def _start(self, text: str) -> str:
        start = text.lstrip()
        if len(text) - len(start) <= MAX_BLANK:
            for opening, closing in self._tags.pairs:
                if start.startswith(opening):
                    self._at = _At.OPENING
                    self._close = closing
                    return start.removeprefix(opening)
                if self._tags.stray_close and start.startswith(closing):
                    self._at = _At.GAP
                    return start.removeprefix(closing)
            if any(tag.startswith(start) for tag in self._first_tags()):
                self._held = text
                return ""
        self._at = _At.REASONING if self._opened_by_template else _At.TEXT
        return text

    def _first_tags(self) -> list[str]:
        closings = [closing for _, closing in self._tags.pairs] if self._tags.stray_close else []
        return [opening for opening, _ in self._tags.pairs] + closings

    def _reasoning(self, text: str, runs: list[tuple[bool, str]]) -> str:
        before, closing, after = text.partition(self._close)
        if closing:
            self._at = _At.GAP
        else:
            kept = _overlap(before, closing=self._close)
            self._held = before[len(before) - kept :]
            before = before[: len(before) - kept]
        if before:
            runs.append((True, before))
        return after


def _overlap(text: str, *, closing: str) -> int:
    """The number of characters at the end of `text` that may begin the closing tag."""
    for size in range(min(len(closing) - 1, len(text)), 0, -1):
        if closing.startswith(text[-size:]):
            return size
    return 0
