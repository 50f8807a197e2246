"""URLs in texts, as people and pages write them: where one ends is often not clear.

    "See 'https://a.test/x', (https://b.test/y_(z)) or https://c.test/Rubik's_cube."

So each has several readings, and every one of them counts as written: with quotation marks and
letters of other scripts in it or without, and with the punctuation at its end or without.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .addresses import MAX_URL_CHARACTERS, NotAllowed, parsed

MAX_URLS = 1000
"""Most URLs of a text."""

_BEGINNING = re.compile(r"https?://(?=[^\s<>\"'`])", re.IGNORECASE)
_READINGS = (
    re.compile(r"[^\s<>\"`]+"),  # an apostrophe may be part of a URL, the others may not
    re.compile(r"[^\s<>\"'`]+"),
    re.compile(r"[!#-&(-;=?-_a-~]+"),  # of ASCII alone: there is no space behind it in Chinese
)
_PUNCTUATION = frozenset(".,;:!?)]}*_'’”»」』）】。，、；：！？")
_MAX_PUNCTUATION = 8


def urls_in(text: str) -> frozenset[str]:
    """The URLs in a text, as they are compared."""
    found = zip(_BEGINNING.finditer(text), range(MAX_URLS), strict=False)
    return frozenset(
        comparable(text[begin.start() : end])
        for begin, _ in found
        for end in _ends(text, begin.end())
    )


def comparable(url: str) -> str:
    """A URL as it is compared; empty for what is none."""
    try:
        return parsed(url).geturl().removesuffix("/")
    except NotAllowed:
        return ""


def _ends(text: str, start: int) -> set[int]:
    """Where a URL may end whose host begins at `start`."""
    ends: set[int] = set()
    for reading in _READINGS:
        match = reading.match(text, start, start + MAX_URL_CHARACTERS)
        if match is not None:
            ends.update(_without_punctuation(text, start, match.end()))
    return ends


def _without_punctuation(text: str, start: int, end: int) -> Iterator[int]:
    yield end
    for _ in range(_MAX_PUNCTUATION):
        if end - 1 <= start or text[end - 1] not in _PUNCTUATION:
            return
        end -= 1
        yield end
