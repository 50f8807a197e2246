"""The benchmark's command line: tables on the terminal, and the report in bench/results.md.

    python -m bench [--quick]                  everything, beside other programs
    python -m bench goals [--quick]            the goals alone, in three runs (bench/goals.py)
    python -m bench ways [--quick]             CPU time without each optimisation (bench/ways.py)
    python -m bench instructions [--quick]     instructions per token (bench/instructions.py)
    python -m bench parts [--quick]            where a short request goes (bench/parts.py)
    python -m bench memory                     of a stream that waits (bench/memory.py)
    python -m bench pythons [--quick]          other versions of Python (bench/pythons.py)
    python -m bench options [--quick]          other allocators (bench/options.py)
    python -m bench balance                    streams of each worker (bench/balance.py)
    python -m bench store [--quick]            stored responses (bench/store.py)
    python -m bench accounts [--quick]         holds and bills (bench/accounts.py)
    python -m bench rounds [--quick]           tools that the service runs (bench/rounds.py)

docs/performance.md and the README quote the second. `--quick` is for work in progress: the report
goes to .bench, and bench/results.md and the pages stay as they are. The last ones print their
tables and write nothing. With `--commit REV`, `goals`, `ways`, `instructions` and `memory` compare
commits.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence

from . import (
    accounts,
    balance,
    core,
    goals,
    instructions,
    memory,
    parts,
    pythons,
    request,
    rounds,
    service,
    store,
    ways,
)
from . import options as surroundings
from .load import CompilerMissing
from .machines import machine_facts
from .section import Section
from .targets import ROOT, SCRATCH, Unavailable
from .variant import Gone
from .verdict import verdict

RESULTS = ROOT / "bench" / "results.md"
QUICK_RESULTS = SCRATCH / "quick.md"


def measure(*, quick: bool) -> Iterator[Section]:
    yield from core.sections(quick=quick)
    yield from request.sections(quick=quick)
    yield from service.sections(quick=quick)


def machine() -> str:
    """The machine and the version measured, as a list."""
    return "".join(f"- {name}: {value}\n" for name, value in machine_facts().items())


HEAD = """\
# Measured performance

Written by `make bench{arguments}`; do not edit. {minutes:.0f} minutes.

{machine}
The target runs alone on one core; load client and mock upstream share the other. Chunks have some
270 bytes. Rounds are interleaved and the best of each counts; CPU time is that of a process and its
descendants. Trust the ratios within a table: absolute figures drift with the machine.

"""


def main(words: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(words)
    try:
        options.run(options)
    except (CompilerMissing, Gone, Unavailable) as reason:
        print(reason, file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measures the service, and writes bench/results.md."
    )
    parser.add_argument("--quick", action="store_true", help="one short round of each")
    parser.set_defaults(run=_everything)
    commands = parser.add_subparsers(metavar="COMMAND")
    judge = commands.add_parser("goals", help="the goals, in some runs beside other programs")
    judge.set_defaults(run=_goals)
    judge.add_argument("--runs", type=int, default=goals.RUNS, help="how many (default: 3)")
    judge.add_argument("--name", help="of the machine, where its processor does not tell")
    judge.add_argument(
        "--only", action="append", default=[], metavar="WORD", help="targets whose name holds it"
    )
    ours = commands.add_parser("ways", help="CPU time without each optimisation, or of commits")
    ours.set_defaults(run=_ways)
    ours.add_argument("--only", action="append", default=[], metavar="NAME", help="one variant")
    split = commands.add_parser("parts", help="where a short request goes, in instructions")
    split.set_defaults(run=_parts)
    count = commands.add_parser("instructions", help="instructions, counted by valgrind")
    count.set_defaults(run=_instructions)
    count.add_argument(
        "--variant", action="append", default=[], metavar="NAME", help="without an optimisation"
    )
    held = commands.add_parser("memory", help="memory of a stream that waits, and of two floors")
    held.set_defaults(run=_memory)
    others = commands.add_parser("pythons", help="the service under other versions of Python")
    others.set_defaults(run=_pythons)
    others.add_argument("--quick", action="store_true", help="a short run")
    others.add_argument(
        "--python", action="append", default=[], metavar="VERSION", help="3.13, debian-3.14, …"
    )
    process = commands.add_parser("options", help="the service with other allocators")
    process.set_defaults(run=_options)
    process.add_argument("--quick", action="store_true", help="a short run")
    process.add_argument("--only", action="append", default=[], metavar="NAME", help="one option")
    spread = commands.add_parser("balance", help="streams of each worker")
    spread.set_defaults(run=_balance)
    for name, usual in (("workers", 2), ("streams", 200), ("draws", 10)):
        spread.add_argument(f"--{name}", type=int, default=usual)
    stored = commands.add_parser("store", help="stored responses, beside `sqlite3` alone")
    stored.set_defaults(run=_store)
    stored.add_argument("--quick", action="store_true", help="a short run")
    stored.add_argument(
        *("--only", "-o"), action="append", default=[], choices=store.SECTIONS, help="one table"
    )
    billed = commands.add_parser("accounts", help="holds and bills, beside `sqlite3` alone")
    billed.set_defaults(run=_accounts)
    billed.add_argument("--quick", action="store_true", help="a short run")
    billed.add_argument(
        *("--only", "-o"), action="append", default=[], choices=accounts.SECTIONS, help="one table"
    )
    billed.add_argument("--postgres", metavar="URL", help="an empty database for the table `hot`")
    between = commands.add_parser("rounds", help="tools that the service runs, beside a client's")
    between.set_defaults(run=_rounds)
    between.add_argument("--quick", action="store_true", help="a short run")
    others.add_argument("--instructions", action="store_true", help="count them instead of time")
    for command in (judge, ours, count):
        command.add_argument("--quick", action="store_true", help="a short run")
    for command in (judge, ours, count, held):
        command.add_argument(
            *("--commit", "-c"),
            action="append",
            default=[],
            metavar="REV",
            help="beside the working tree; `ways` and `instructions` compare two with each other",
        )
    return parser


def _ways(options: argparse.Namespace) -> None:
    if options.only and options.commit:
        raise Unavailable("--only is about variants of the working tree, not about commits")
    _print(ways.sections(quick=options.quick, only=options.only, commits=options.commit))


def _goals(options: argparse.Namespace) -> None:
    goals.run(
        quick=options.quick,
        runs=options.runs,
        commits=options.commit,
        name=options.name,
        only=options.only,
    )


def _parts(options: argparse.Namespace) -> None:
    _print(parts.sections(quick=options.quick))


def _instructions(options: argparse.Namespace) -> None:
    _print(
        instructions.sections(quick=options.quick, commits=options.commit, variants=options.variant)
    )


def _memory(options: argparse.Namespace) -> None:
    _print(memory.sections(commits=options.commit))


def _pythons(options: argparse.Namespace) -> None:
    _print(
        pythons.sections(quick=options.quick, versions=options.python, counted=options.instructions)
    )


def _options(options: argparse.Namespace) -> None:
    _print(surroundings.sections(quick=options.quick, only=options.only))


def _balance(options: argparse.Namespace) -> None:
    _print(balance.sections(workers=options.workers, streams=options.streams, draws=options.draws))


def _rounds(options: argparse.Namespace) -> None:
    _print(rounds.sections(quick=options.quick))


def _store(options: argparse.Namespace) -> None:
    _print(store.sections(quick=options.quick, only=options.only))


def _accounts(options: argparse.Namespace) -> None:
    _print(accounts.sections(quick=options.quick, only=options.only, postgres=options.postgres))


def _print(sections: Iterator[Section]) -> None:
    for section in sections:
        print(section.markdown(), end="", flush=True)


def _everything(options: argparse.Namespace) -> None:
    quick = options.quick
    began = time.monotonic()
    where = machine()
    sections: list[Section] = []
    facts: dict[tuple[str, str], float] = {}
    for section in measure(quick=quick):
        print(section.markdown(), end="", flush=True)
        sections.append(section)
        facts |= section.facts
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


if __name__ == "__main__":
    sys.exit(main())
