"""Citation marks: the places of an answer that refer to sources by their numbers.

    mark  = "[" numbers "]" | "【" numbers [ "†" words ] "】" | "[" text "](" URL ")"
    numbers = number { "," number } | number "-" number

The wider forms, and links, count only where the model was asked to cite so (`Sources.linked`). An
upstream that searches itself has one form, [1], and puts it right behind a word: France[1].
Elsewhere that reads like an index, arr[2], and counts only where a clause ends.

Nothing is a mark in code, or in an answer that is a JSON object.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from translator.wire.deltas import Citation, Source, Sources
from translator.wire.json_values import NOT_JSON

MAX_NUMBERS = 10
"""Most numbers of one mark: each is an annotation of its own."""

_CODE = r"```.*?(?:```|\Z)|`[^`\n]*`"
_NUMBER = r"[0-9]{1,3}"
_NUMBERS = rf"{_NUMBER}(?:\s?[,–-]\s?{_NUMBER}){{0,{MAX_NUMBERS - 1}}}"
_MARK = re.compile(rf"{_CODE}|\[({_NUMBER})\]", re.DOTALL)
"""A number in brackets; code is passed over."""

_LINK_OR_MARK = re.compile(
    rf"{_CODE}"
    rf"|(?<![A-Za-z0-9_])\[({_NUMBERS})\]"
    rf"|\[({_NUMBERS})\](?=[\[【]|[.,;:!?)\"'”’]*(?:\s*\Z|\s*\n)|[.,;:!?)\"'”’]+\s)"
    rf"|【({_NUMBERS})(?:†[^】\n]{{0,200}})?】"
    r"|\[[^\[\]\n]{1,500}\]\((https?://[^\s()]{1,4096})\)",
    re.DOTALL,
)
"""The same, the wider forms, and Markdown links."""


def citations_in(text: str, delta: Sources) -> Iterator[Citation]:
    """The places of a text that refer to sources, in their order."""
    if _is_object(text):
        return
    sources = delta.sources
    by_url = {source.url: source for source in sources} if delta.linked else {}
    for mark in (_LINK_OR_MARK if delta.linked else _MARK).finditer(text):
        groups = mark.groups()
        numbers = next(filter(None, groups[:3]), "")
        cited = _numbered(numbers, delta) if numbers else []
        if delta.linked and groups[3] in by_url:
            cited = [by_url[groups[3]]]
        for source in cited:
            yield Citation(source.url, source.title, *mark.span())


def _numbered(text: str, delta: Sources) -> list[Source]:
    """The sources that the numbers of a mark stand for; none unless each does."""
    numbers: list[int] = []
    for part in text.split(","):
        first, *last = (int(one) for one in re.split("[–-]", part))
        numbers += range(first, last[-1] + 1) if last else [first]
    places = [number - delta.first for number in numbers]
    if len(places) > MAX_NUMBERS or not all(0 <= one < len(delta.sources) for one in places):
        return []
    return [delta.sources[one] for one in dict.fromkeys(places)]


def _is_object(text: str) -> bool:
    """Whether a text is a JSON object, as an answer in a given format is."""
    if not text.lstrip().startswith("{"):
        return False
    try:
        msgspec.json.decode(text.encode("utf-8", "replace"))
    except NOT_JSON:
        return False
    return True
