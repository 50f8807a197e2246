"""Write what must come out of a fixture.

    python -m tests.make_fixture fixtures/base/a_case …

The folder holds `source.toml`, the request and the upstream's answer. Where the core's outcome is
not what `source.toml` expects, nothing is written: the fact comes first. What was written is still
to be read before it is kept.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.fixture_cases import Case, disagreements, run

MAX_LINE_CHARACTERS = 100
"""Longest value that is written on one line."""

WRITTEN = ("chat.json", "events.jsonl", "response.json", "error.json")


def main(folders: list[str]) -> int:
    """Write the outcome of each folder; the exit code is the number of those refused."""
    refused = 0
    for folder in folders:
        case = Case(Path(folder).resolve())
        outcome = run(case)
        wrong = disagreements(case, outcome)
        if wrong:
            refused += 1
            print(f"{case.name} refused", *wrong, sep="\n  ")
            continue
        files = outcome.files()
        for name in WRITTEN:
            path = case.folder / name
            if name in files:
                path.write_text(text_of(name, files[name]), encoding="utf-8")
            else:
                path.unlink(missing_ok=True)
    return refused


def text_of(name: str, value: Any) -> str:
    """A value as the text of its file."""
    if name.endswith(".jsonl"):
        compact = (json.dumps(one, ensure_ascii=False, separators=(",", ":")) for one in value)
        return "".join(f"{line}\n" for line in compact)
    return _indented(value) + "\n"


def _indented(value: Any, indent: str = "") -> str:
    """JSON on as few lines as fit."""
    line = json.dumps(value, ensure_ascii=False)
    if len(indent) + len(line) <= MAX_LINE_CHARACTERS or not isinstance(value, dict | list):
        return line
    inner = f"{indent}  "
    if isinstance(value, dict):
        lines = [f"{json.dumps(key)}: {_indented(one, inner)}" for key, one in value.items()]
        opening, closing = "{", "}"
    else:
        lines = [_indented(one, inner) for one in value]
        opening, closing = "[", "]"
    joined = f",\n{inner}".join(lines)
    return f"{opening}\n{inner}{joined}\n{indent}{closing}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
