"""Fuzz driver, guided by coverage: `python -m fuzz TARGET [SECONDS] [FOLDER]`.

A failing input is written beside the corpus as `crash-…` and printed; the exit code is then not 0.
`python -m fuzz TARGET FILE` runs the target once, on that file.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["translator"]):
    import translator  # noqa: F401 - first, so that all of it is instrumented

    from . import corpus
    from .targets import TARGETS

MAX_BYTES = 8192
TIMEOUT_S = 10
"""Longest time for one input; a longer one counts as a crash."""


def main(words: list[str]) -> None:
    target, *rest = words
    if rest and Path(rest[0]).is_file():
        TARGETS[target](Path(rest[0]).read_bytes())
        return
    seconds = int(rest[0]) if rest else 60
    folder = Path(rest[1] if len(rest) > 1 else ".fuzz") / target
    corpus.write(target, folder / "seeds")
    found = folder / "found"
    found.mkdir(parents=True, exist_ok=True)
    options = {
        "max_total_time": seconds,
        "max_len": MAX_BYTES,
        "timeout": TIMEOUT_S,
        "rss_limit_mb": 2048,
        "print_final_stats": 1,
        "artifact_prefix": f"{folder}/",
        "dict": Path(__file__).parent / "words.dict",
    }
    flags = [f"-{name}={value}" for name, value in options.items()]
    atheris.Setup([sys.argv[0], *flags, str(found), str(folder / "seeds")], TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
