"""The table of a check, for a terminal or a pipe.

✓ upstream fireworks   https://api.fireworks.ai/inference/v1: reachable, key accepted
✗ model    kimi        there is no such model (404)
                       → Correct upstream_model, or its name.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from translator.service.base.colours import COLOURS

from .results import Report, Row, Status

MARKS: Mapping[Status, str] = {"ok": "✓", "warning": "!", "failed": "✗", "skipped": "–"}
ASCII_MARKS: Mapping[Status, str] = {
    "ok": "ok",
    "warning": "warn",
    "failed": "FAIL",
    "skipped": "-",
}
"""For an output that cannot encode the others."""

_COLOURS: Mapping[Status, str] = {
    "ok": COLOURS["text"],
    "warning": COLOURS["tool"],
    "failed": "31",
    "skipped": COLOURS["dim"],
}
_WORDS: Mapping[Status, str] = {
    "ok": "fine",
    "warning": "to look at",
    "failed": "failed",
    "skipped": "skipped",
}
MIN_TEXT_COLUMNS = 30
"""Least width of the text; on a narrower terminal it is longer than the line."""

MAX_NAME_COLUMNS = 20
"""Longest name that widens the column of all; the text of a longer one begins on the next line."""


def can_encode(encoding: str | None) -> bool:
    """Whether an output of this encoding can show the marks, and an arrow."""
    try:
        "".join((*MARKS.values(), "→“”…")).encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def table(report: Report, *, width: int, colour: bool, plain: bool) -> str:
    """The report as lines of at most `width` columns. `plain`: in ASCII alone."""
    marks = ASCII_MARKS if plain else MARKS
    mark_columns = max(map(len, marks.values()))
    kind_columns = max(len(row.kind) for row in report.rows)
    short = [len(row.name) for row in report.rows if len(row.name) <= MAX_NAME_COLUMNS]
    names = max(short, default=0)
    indent = mark_columns + kind_columns + names + 4
    lines: list[str] = []
    for row in report.rows:
        mark = marks[row.status].ljust(mark_columns)
        painted = _painted(mark, _COLOURS[row.status], colour)
        name = row.name.ljust(names)
        head = f"{painted} {row.kind.ljust(kind_columns)} {name}  "
        if len(row.name) > names:
            lines.append(head.rstrip())
            head = " " * indent
        body = _wrapped(row.summary, width - indent)
        lines.append(head + body[0])
        lines += [" " * indent + line for line in body[1:]]
        lines += _advice(row, indent, width, colour=colour, plain=plain)
    lines += ["", _last_line(report)]
    text = "\n".join(lines) + "\n"
    if not plain:
        return text
    for typographic, ascii_one in {"“": '"', "”": '"', "…": "...", "→": "->"}.items():
        text = text.replace(typographic, ascii_one)
    return text.encode("ascii", "backslashreplace").decode()


def _advice(row: Row, indent: int, width: int, *, colour: bool, plain: bool) -> list[str]:
    if not row.advice:
        return []
    arrow = "->" if plain else "→"
    first, *rest = _wrapped(row.advice, width - indent - len(arrow) - 1)
    behind = " " * (indent + len(arrow) + 1)
    lines = [f"{' ' * indent}{arrow} {first}", *(behind + line for line in rest)]
    return [_painted(line, COLOURS["bold"], colour) for line in lines]


def _wrapped(text: str, columns: int) -> list[str]:
    wide = max(columns, MIN_TEXT_COLUMNS)
    return textwrap.wrap(text, wide, break_long_words=False, break_on_hyphens=False) or [""]


def _painted(text: str, code: str, colour: bool) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if colour else text


def _last_line(report: Report) -> str:
    counts = report.counts
    parts = [f"{counts[status]} {word}" for status, word in _WORDS.items() if counts[status]]
    return f"{len(report.rows)} check{'s' * (len(report.rows) != 1)}: {', '.join(parts)}."
