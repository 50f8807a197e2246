"""Write the expected outputs of a fixture.

    python -m tests.make_fixture fixtures/base/a_case …

The folder holds `source.toml`, the request and the upstream's answer. Nothing is written where the
outcome differs from `source.toml`: the fact comes first. Read the files before you commit them.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.fixture_cases import Case, disagreements, run
from translator.captures.fixture_text import text_of

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
                path.write_bytes(text_of(name, files[name]))
            else:
                path.unlink(missing_ok=True)
    return refused


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
