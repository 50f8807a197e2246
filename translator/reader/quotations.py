"""Quotations: what an error text repeats of the request, which is not the upstream's own word.

    error text, chat body ──► error text without what the body holds, and without URLs

An upstream may quote a prompt, a description or an address. A client could write there what reads
like a refusal; it must teach nothing that holds for other clients.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from translator.common.lazy_pattern import lazy_pattern

MAX_QUOTATIONS = 64
"""Parts of a text that are looked for in the request: each costs a search of all of it."""

MIN_CHARACTERS = 12
"""The shortest quotation; names of fields are in most requests."""

_MAX_CHARACTERS = 400
_URL = lazy_pattern(r"\b(?:https?|data|file|ftp):[^\s'\"`<>)\]}]+", re.IGNORECASE)
_QUOTED = lazy_pattern(
    rf"(?<!\w)(?:'([^'\n]{{{MIN_CHARACTERS},{_MAX_CHARACTERS}}})'"
    rf'|"([^"\n]{{{MIN_CHARACTERS},{_MAX_CHARACTERS}}})"'
    rf"|`([^`\n]{{{MIN_CHARACTERS},{_MAX_CHARACTERS}}})`"
    rf"|“([^”\n]{{{MIN_CHARACTERS},{_MAX_CHARACTERS}}})”)(?!\w)"
)
_SENTENCE_END = lazy_pattern(r"(?<=[.:;!?])\s+|\n")
_NAME = lazy_pattern(r"[\w.\[\]/-]+")
_CHANGED = "…"


def without_quotations(text: str, body: bytes) -> str:
    """An error text without URLs, and without the sentences and quotations that the body holds."""
    text = _URL.sub(_CHANGED, text)
    for part in _parts(text):
        if msgspec.json.encode(part)[1:-1] in body:
            text = text.replace(part, _CHANGED)
    return text


def unquoted(text: str) -> str:
    """An error text without what stands between quotation marks and is no name."""
    return _QUOTED.sub(lambda found: found[0] if _is_name(found) else _CHANGED, text)


def _is_name(found: re.Match[str]) -> bool:
    return _NAME.fullmatch(found[0][1:-1]) is not None


def _parts(text: str) -> Iterator[str]:
    """The quotations of a text, then its sentences and their ends."""
    left = MAX_QUOTATIONS
    quoted = (found[0][1:-1] for found in _QUOTED.finditer(text))
    sentences = (one.strip(" '\"`“”.:;!?") for one in _SENTENCE_END.split(text))
    for part in (*quoted, *sentences):
        part = part[:_MAX_CHARACTERS]
        if len(part) < MIN_CHARACTERS or _NAME.fullmatch(part):
            continue
        if not left:
            return
        left -= 1
        yield part
