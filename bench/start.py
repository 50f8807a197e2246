"""The start of the service: modules, CPU time and instructions until its first answer.

    python -m bench.start [--commit REV ...] [--rounds 5] [--instructions]

    start of the process ──► first answer, a 404      modules imported by then, CPU seconds, seconds

The working tree, or beside it a commit; two or more commits beside each other. Starts of all are
interleaved, and the least counts. Modules and instructions have no noise; `--instructions` takes a
minute or two for each. Bytecode is made before: an installed package has it.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from .footprint import compile_ours
from .instructions import Valgrind, valgrind
from .revisions import Revision, beside
from .rig import log_progress
from .scheduler import TARGET_CPU, cpu_seconds
from .section import Section, table
from .targets import SCRATCH, Target, Unavailable, free_port, started, translator

NO_UPSTREAM = free_port()
"""The port of an upstream that is never called."""

_IMPORTED = re.compile(r"^import time: +\d+ \| +\d+ \| +(\S+)", re.MULTILINE)
_SUM = re.compile(r"^(?:summary|totals): (\d+)", re.MULTILINE)


class Start(msgspec.Struct, frozen=True):
    """One start until its first answer."""

    seconds: float
    cpu_s: float


def start(target: Target) -> Start:
    with started(target, NO_UPSTREAM, TARGET_CPU) as running:
        return Start(running.started_s, cpu_seconds([running.pid]))


def modules(target: Target) -> list[str]:
    """The modules that are imported until the first answer.

    But for the interpreter's own, and for those that `import_module` is asked for by name.
    """
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        log = Path(folder, "imports")

        def words(scratch: Path, port: int, upstream: int) -> list[str]:
            python, *rest = target.command(scratch, port, upstream)
            return ["sh", "-c", 'exec "$@" 2>"$0"', str(log), python, "-X", "importtime", *rest]

        with started(msgspec.structs.replace(target, command=words), NO_UPSTREAM, None):
            return imported(log.read_text())


def imported(log: str) -> list[str]:
    """The modules in a log of `python -X importtime`."""
    return _IMPORTED.findall(log)


def instructions(tool: Valgrind, target: Target) -> int:
    """Instructions in user space from the start of the process on, counted by callgrind."""
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        output = Path(folder, "profile")

        def words(scratch: Path, port: int, upstream: int) -> list[str]:
            return [
                *(tool.program, "--tool=callgrind", "--quiet", f"--callgrind-out-file={output}"),
                *target.command(scratch, port, upstream),
            ]

        environ = {**target.environ, **tool.environ, "PYTHONHASHSEED": "0"}
        slow = msgspec.structs.replace(target, command=words, environ=environ)
        with started(slow, NO_UPSTREAM, None) as running:
            subprocess.run(
                [tool.vgdb, f"--pid={running.pid}", "dump"],
                env={**os.environ, **tool.environ},
                check=True,
                capture_output=True,
            )
        found = _SUM.search(output.with_name("profile.1").read_text())
        if found is None:
            raise Unavailable("valgrind wrote a profile without a sum")
        return int(found[1])


def target_of(revision: Revision) -> Target:
    compile_ours(revision.folder)
    return msgspec.structs.replace(translator(name=revision.name), environ=revision.environ)


def section(commits: Sequence[str], rounds: int, tool: Valgrind | None) -> Section:
    """A row for each revision; raises Unavailable. Without a `tool` no instructions are counted."""
    targets = [target_of(one) for one in beside(commits)]
    starts: dict[str, list[Start]] = {one.name: [] for one in targets}
    rows: list[tuple[str, ...]] = []
    for _ in range(rounds):
        for target in targets:
            starts[target.name].append(start(target))
    for target in targets:
        log_progress(f"counting {target.name}")
        names = modules(target)
        ours = sum(name.partition(".")[0] == "translator" for name in names)
        count = "" if tool is None else f"{instructions(tool, target) / 1e6:,.0f} M"
        least = starts[target.name]
        rows.append(
            (
                target.name,
                f"{min(one.seconds for one in least):.2f}",
                f"{min(one.cpu_s for one in least):.2f}",
                *(str(len(names)), str(ours), count),
            )
        )
    return Section(
        title="The start of the service, until its first answer",
        table=table(("", "s", "of CPU", "modules", "of these ours", "instructions"), rows),
        remarks=[f"The least of {rounds} starts."],
    )


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.start", description="Measures the start of the service."
    )
    parser.add_argument("--commit", "-c", action="append", default=[], metavar="REV")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--instructions", action="store_true")
    options = parser.parse_args(words)
    try:
        tool = valgrind() if options.instructions else None
        print(section(options.commit, options.rounds, tool).markdown(), end="")
    except Unavailable as reason:
        print(reason, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
