"""Results of a check: rows for the settings, the store, tools, addresses of upstreams, and models.

report = { row } ;
row    = kind, name, status, what was found, [ what to do ], details ;
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, cast

from msgspec import Struct
from msgspec.structs import replace

Kind = Literal["settings", "store", "tools", "upstream", "model"]
Status = Literal["ok", "warning", "failed", "skipped"]

MAX_TEXT_CHARACTERS = 400
"""Longest text of a row; an upstream's error may be any length."""


class Row(Struct, frozen=True, kw_only=True):
    """One result."""

    kind: Kind
    name: str
    status: Status
    summary: str
    """What was found, as a phrase."""

    advice: str = ""
    """What to do, as a sentence; empty where there is nothing to do."""

    details: dict[str, Any] = {}
    """More of what was found, as JSON values, for programs."""


class Report(Struct, frozen=True):
    """All results of a check."""

    rows: Sequence[Row]

    @property
    def ok(self) -> bool:
        """Nothing failed."""
        return all(row.status != "failed" for row in self.rows)

    @property
    def counts(self) -> Counter[Status]:
        """How many rows have each status."""
        return Counter(row.status for row in self.rows)

    def as_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        counts = self.counts
        statuses: tuple[Status, ...] = ("ok", "warning", "failed", "skipped")
        return {
            "ok": self.ok,
            "counts": {status: counts[status] for status in statuses},
            "checks": [
                {
                    "kind": row.kind,
                    "name": row.name,
                    "status": row.status,
                    "summary": row.summary,
                    "advice": row.advice,
                    **row.details,
                }
                for row in self.rows
            ],
        }


def cleaned(row: Row, redact: Callable[[str], str]) -> Row:
    """A row without secrets, and without what would control a terminal."""

    def clean(value: Any) -> Any:  # noqa: ANN401 - JSON
        if isinstance(value, str):
            return printable(redact(value))
        if isinstance(value, list):
            return list(map(clean, cast("Iterable[object]", value)))
        if isinstance(value, dict):
            return {clean(name): clean(one) for name, one in cast("dict[str, Any]", value).items()}
        return value

    return replace(
        row,
        name=clean(row.name),
        summary=clean(row.summary),
        advice=clean(row.advice),
        details=clean(row.details),
    )


def printable(text: str) -> str:
    """A text on one line, shortened, without control characters."""
    line = "".join(one for one in " ".join(text.split()) if one.isprintable())
    return line if len(line) <= MAX_TEXT_CHARACTERS else line[: MAX_TEXT_CHARACTERS - 1] + "…"


def problem_rows(problems: Sequence[str], source: str) -> list[Row]:
    """A row for each problem of the settings, under its path, or under the file itself."""
    rows: list[Row] = []
    for problem in problems:
        path, colon, text = problem.partition(": ")
        name, summary = (path, text) if colon and " " not in path else (source, problem)
        summary = summary.removeprefix(f"{source} ")
        rows.append(Row(kind="settings", name=name, status="failed", summary=summary))
    asked = "not asked until the settings are right"
    return [*rows, Row(kind="upstream", name="*", status="skipped", summary=asked)]
