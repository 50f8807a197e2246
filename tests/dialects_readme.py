"""Write what shows the known dialects outside the code, after a fact has changed.

    python -m tests.dialects_readme

Three files: the block of `docs/dialects.md` between its marks, `docs/facts.md`, and the snapshot of
all facts. Read what changed in them before it is kept.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from tests.dialects_page import PAGE, page
from translator.dialects import DIALECTS
from translator.dialects.table import as_value, markdown

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "docs" / "dialects.md"
SNAPSHOT = ROOT / "tests" / "snapshots" / "dialects.json"
COMMAND = "python -m tests.dialects_readme"

_BLOCK = re.compile(r"(?<=<!-- dialects -->\n).*?(?=<!-- /dialects -->)", re.DOTALL)


def block(text: str) -> str | None:
    """What stands between the marks; None where there are no marks."""
    found = _BLOCK.search(text)
    return found[0] if found else None


def snapshot() -> str:
    """All facts of all dialects as JSON, a fact on a line."""
    blocks: list[str] = []
    for name, dialect in DIALECTS.items():
        facts = [
            f"    {json.dumps(fact)}: {json.dumps(value, ensure_ascii=False)}"
            for fact, value in as_value(dialect).items()
        ]
        blocks.append(f"  {json.dumps(name)}: {{\n" + ",\n".join(facts) + "\n  }")
    return "{\n" + ",\n".join(blocks) + "\n}\n"


def main() -> int:
    SNAPSHOT.parent.mkdir(exist_ok=True)
    SNAPSHOT.write_text(snapshot(), encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")
    text = TABLE.read_text("utf-8")
    if block(text) is None:
        print(
            "docs/dialects.md has no lines <!-- dialects --> and <!-- /dialects -->",
            file=sys.stderr,
        )
        return 1
    TABLE.write_text(_BLOCK.sub(lambda _: markdown(), text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
