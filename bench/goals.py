"""The goals of bench/verdict.py, judged by some runs beside nginx, two Rust peers, and floors.

    python -m bench goals [--runs 3] [--commit REV ...] [--only WORD ...] [--name MACHINE] [--quick]

    session = start of all targets, { run } ;
    run     = { scenario }, which measures only what the goals need

Three runs take a quarter of an hour, on a machine that does nothing else. The figures go to
bench/machines/MACHINE.json, and from there to bench/goals.md, docs/performance.md and the README;
with `--quick` (one short run) only to .bench. `--commit` measures an earlier commit in the same
runs, and judges ours by its ratio to it. A target that cannot be had, or that fails, leaves rows
that are not measured, and a sentence that says why.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from . import core, machines, pace, request, verdict, waits
from .bodies import requests
from .floor import floors
from .footprint import footprint
from .machines import Session
from .peers import codex_relay, switchyard
from .revisions import commit
from .rig import Effort, Rig, log_progress, rig
from .section import CODEX_RELAY, NGINX, OURS, Facts, Section
from .targets import ROOT, SCRATCH, Target, Unavailable, nginx, translator
from .ways import revision_target

THOROUGH = Effort(seconds=1.5, rounds=2)
QUICK = Effort(seconds=0.7, rounds=1, quick=True)
RUNS = 3

STEPS = (100, 200, 300, 350, 400, 450, 500, 550, 600, 700, 800, 1000)
"""Numbers of streams that a capacity is looked for among."""

STREAMS = 200
REQUESTS = 50

LARGE = "1 MB"
"""The request that is translated without the service."""

FAILURES = (ArithmeticError, LookupError, OSError, ValueError, Unavailable)
"""What a target that dies in a scenario, or answers nothing, raises."""


def measures(rigged: Rig, commits: Sequence[Target]) -> Iterator[Callable[[], Section | None]]:
    """The scenarios of one run; each measures the targets that its goals name.

    What only the appendix shows is measured in one round, as is what takes long.
    """
    effort = rigged.effort
    once = msgspec.structs.replace(effort, rounds=1)
    # What other machines of the host do meanwhile must not decide: it lasts for minutes, and costs
    # an interpreter more than a program whose code fits into the first cache.
    closest = msgspec.structs.replace(effort, rounds=1 if effort.quick else 9)
    closer = msgspec.structs.replace(effort, rounds=1 if effort.quick else 5)
    # The oldest token of a round tells what the machine did, too: the least of some counts.
    calmest = msgspec.structs.replace(effort, rounds=1 if effort.quick else 4)
    ours = [OURS, *(one.name for one in commits)]
    judged = [*ours, NGINX, CODEX_RELAY]
    names = [running.target.name for running in rigged.running]
    others = [name for name in names if name not in judged]
    yield lambda: pace.steady(rigged.only(judged, closest, direct=False), STREAMS)
    yield lambda: pace.steady(rigged.only(others, once), STREAMS)
    yield lambda: waits.short_requests(rigged.only(names, closer), REQUESTS)
    yield lambda: pace.flat_out(rigged.only([*ours, CODEX_RELAY]))
    yield lambda: pace.capacity(rigged.only([*ours, CODEX_RELAY]), STEPS, searches=2)
    yield lambda: waits.large_requests(rigged.only(ours, calmest))
    yield lambda: footprint(rigged, [translator(), *commits])
    yield lambda: core.kinds(1 if effort.quick else 3, ["text"])
    yield lambda: _request(effort)
    yield lambda: pace.own_limits(rigged, [800])
    yield lambda: waits.workers(rigged.only([], once))


def _request(effort: Effort) -> Section:
    ms = request.beside_json(1 if effort.quick else 3, requests()[LARGE])
    return Section(title="", table="", facts={("request_to_json", LARGE): request.most_to_json(ms)})


def one_run(
    scenarios: Iterator[Callable[[], Section | None]], left_out: list[str], number: int
) -> dict[tuple[str, str], float]:
    """The facts of one run; a scenario that fails leaves its sentence."""
    facts: dict[tuple[str, str], float] = {}
    for scenario in scenarios:
        try:
            section = scenario()
        except FAILURES as error:
            left_out.append(f"run {number}: a scenario failed ({error!r}).")
            continue
        if section is None:
            continue
        facts |= section.facts
        left_out += [
            f"run {number}: {remark}" for remark in section.remarks if " failures, " in remark
        ]
    late = verdict.LOAD_ALONE.value(facts)
    if late is not None and not verdict.LOAD_ALONE.is_met(late):
        left_out.append(f"run {number}: the load alone was late, so its times say little.")
    return facts


def session(
    *, effort: Effort, runs: int, commits: Sequence[str], only: Sequence[str] = ()
) -> Session:
    """Start every target, and measure them in some runs."""
    described = machines.machine_facts()
    earlier = [revision_target(commit(name)) for name in commits]
    others = [nginx(), codex_relay(), switchyard(), *floors()]
    if only:
        others = [one for one in others if any(word in one.name for word in only)]
    targets = [translator(), *earlier, *others]
    found: list[Facts] = []
    with rig(targets, effort) as rigged:
        left_out = list(rigged.left_out)
        there = {running.target.name: running.target for running in rigged.running}
        earlier = [one for one in earlier if one.name in there]
        for number in range(1, runs + 1):
            log_progress(f"run {number} of {runs}")
            found.append(one_run(measures(rigged, earlier), left_out, number))
        versions = {name: one.version() for name, one in there.items() if one not in earlier}
    described["load"] += f", {os.getloadavg()[0]:.1f} at the end"
    return Session(
        machine=described,
        runs=[machines.nested(facts) for facts in found],
        beside=commits,
        versions=versions,
        left_out=left_out,
    )


def run(
    *, quick: bool, runs: int, commits: Sequence[str], name: str | None, only: Sequence[str]
) -> None:
    """Measure, print the report, and write it: to .bench where it is not of everything."""
    began = time.monotonic()
    partial = quick or bool(only)
    measured = session(
        effort=QUICK if quick else THOROUGH, runs=1 if quick else runs, commits=commits, only=only
    )
    name = name or machines.machine_name(measured.machine)
    path = (SCRATCH if partial else machines.FOLDER) / f"{name}.json"
    machines.keep(measured, path)
    print(machines.report(name, measured), end="")
    print(f"{(time.monotonic() - began) / 60:.1f} minutes; written to {_relative(path)}")
    if not partial:
        machines.write_pages()
        pages = map(_relative, (machines.PAGE, machines.PERFORMANCE, machines.README))
        print(f"and to {', '.join(map(str, pages))}")


def _relative(path: Path) -> Path:
    return path.relative_to(ROOT)
