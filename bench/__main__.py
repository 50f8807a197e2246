"""All that is measured, in one run: tables on the terminal, and the report in bench/results.md.

    python -m bench [--quick]

The README quotes the targets. `--quick` is for a look while something is changed: its report goes
to .bench/quick.md, and the README stays as it is.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from . import core, request, service
from .load import CompilerMissing
from .section import Section
from .targets import ROOT, SCRATCH, version_of_ours
from .verdict import verdict

README = ROOT / "README.md"
QUOTE = ("<!-- performance -->\n", "<!-- /performance -->\n")
"""Between what the README quotes the targets."""

RESULTS = ROOT / "bench" / "results.md"
QUICK_RESULTS = SCRATCH / "quick.md"


def measure(*, quick: bool) -> Iterator[Section]:
    yield from core.sections(quick=quick)
    yield from request.sections(quick=quick)
    yield from service.sections(quick=quick)


def machine() -> str:
    """Where this was measured, as a list."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(": ")[2] for line in lines if "model name" in line), "unknown")
    facts = {
        "machine": f"{model}, {os.cpu_count()} cores, {_memory_gib():.0f} GiB",
        "system": f"{platform.system()} {platform.release().partition('-')[0]}, "
        f"Python {platform.python_version()}",
        "others at work": f"load average {os.getloadavg()[2]:.1f} at the beginning",
        "translator": version_of_ours(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    return "".join(f"- {name}: {value}\n" for name, value in facts.items())


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


HEAD = """\
# What it costs

Written by `make bench{arguments}`; do not edit. {minutes:.0f} minutes.

{machine}
The target runs alone on one core; load client and mock upstream share the other. Chunks have some
270 bytes. Rounds are interleaved and the best of each counts; CPU time is what the scheduler
accounts to a process and its descendants. Trust the ratios within a table: absolute figures drift
with the machine.

"""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measures all there is, and writes bench/results.md."
    )
    parser.add_argument("--quick", action="store_true", help="one short round of each")
    quick = parser.parse_args().quick
    began = time.monotonic()
    where = machine()
    sections: list[Section] = []
    facts: dict[tuple[str, str], float] = {}
    try:
        for section in measure(quick=quick):
            print(section.markdown(), end="", flush=True)
            sections.append(section)
            facts |= section.facts
    except CompilerMissing as reason:
        print(reason, file=sys.stderr)
        return 1
    judged = verdict(facts)
    print(judged.markdown(), end="")
    head = HEAD.format(
        arguments=" QUICK=1" if quick else "",
        minutes=(time.monotonic() - began) / 60,
        machine=where,
    )
    report = head + "".join(section.markdown() for section in (judged, *sections))
    path = QUICK_RESULTS if quick else RESULTS
    path.write_text(report.rstrip() + "\n")
    print(f"written to {path.relative_to(ROOT)}")
    if not quick:
        README.write_text(quoting(README.read_text(), judged))
    return 0


def quoting(text: str, judged: Section) -> str:
    """A README in which the quoted targets are these."""
    before, rest = text.split(QUOTE[0])
    _, after = rest.split(QUOTE[1])
    return f"{before}{QUOTE[0]}{judged.table}{QUOTE[1]}{after}"


if __name__ == "__main__":
    sys.exit(main())
