"""Runs of `python -m bench goals`, kept for each machine, and the pages that quote them.

    bench/machines/NAME.json     the sessions of one machine, oldest first, at most KEPT
    bench/goals.md               the last session of each machine, written from them
    docs/performance.md          the last session of all machines side by side
    README.md                    three figures of it

A figure holds where every run on every machine meets its goal, so the pages show each run and the
spread. Figures are kept, not verdicts: a later goal is judged by what was measured before.
"""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from .section import DIRECT, Facts, Section, table
from .targets import ROOT, version_of_ours
from .verdict import GOALS, Goal, goals_beside

FOLDER = ROOT / "bench" / "machines"
PAGE = ROOT / "bench" / "goals.md"
PERFORMANCE = ROOT / "docs" / "performance.md"
README = ROOT / "README.md"
QUOTE = ("<!-- performance -->\n", "<!-- /performance -->\n")
"""The marks around the goals in docs/performance.md, and around three figures in the README."""

IN_BRIEF = {1: "CPU per token, relative to codex-relay (Rust)", 7: "", 8: ""}
"""The goals that the README quotes, by position; with words where their own refer to another."""

KEPT = 5
"""Sessions of one machine; older ones are dropped."""


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """Some runs, one after the other, of the same targets."""

    machine: dict[str, str]
    """What `machine_facts` said at the beginning."""

    runs: Sequence[Mapping[str, Mapping[str, float]]]
    """The figures of each run, by measure and program."""

    beside: Sequence[str] = ()
    """Earlier commits that were measured, too."""

    versions: Mapping[str, str] = {}
    left_out: Sequence[str] = ()
    """A sentence for each target and measure that is missing."""

    @property
    def goals(self) -> tuple[Goal, ...]:
        return (*GOALS, *(goal for one in self.beside for goal in goals_beside(one)))

    def values(self, goal: Goal) -> list[float | None]:
        return [goal.value(facts(run)) for run in self.runs]


def nested(found: Facts) -> dict[str, dict[str, float]]:
    """Facts as they are kept: by measure, then by program."""
    kept: dict[str, dict[str, float]] = {}
    for (measure, program), value in found.items():
        kept.setdefault(measure, {})[program] = value
    return kept


def facts(run: Mapping[str, Mapping[str, float]]) -> dict[tuple[str, str], float]:
    return {
        (measure, program): value
        for measure, of_programs in run.items()
        for program, value in of_programs.items()
    }


def machine_facts() -> dict[str, str]:
    """The machine, its load, and the version measured."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(": ")[2] for line in lines if "model name" in line), "unknown")
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "machine": f"{model}, {os.cpu_count()} cores, {gib:.0f} GiB",
        "system": f"{platform.system()} {platform.release().partition('-')[0]}, "
        f"Python {platform.python_version()}",
        "load": f"load average {os.getloadavg()[2]:.1f} at the beginning",
        "translator": version_of_ours(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def machine_name(described: Mapping[str, str]) -> str:
    """A file's name for the machine: its processor and its cores."""
    words = re.sub(r"\([^)]*\)|processor|cpu|@.*?(?=,)", " ", described["machine"].lower())
    model, _, _ = words.rpartition(",")
    return "-".join(re.findall(r"[a-z0-9.]+", model))


# ---- the files -----------------------------------------------------------------------------------


def sessions(path: Path) -> list[Session]:
    """Those of one machine, oldest first."""
    return msgspec.json.decode(path.read_bytes(), type=list[Session]) if path.exists() else []


def keep(session: Session, path: Path) -> None:
    """Add a session to the file of its machine."""
    kept = [*sessions(path), session][-KEPT:]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(kept), indent=1) + b"\n")


def last_sessions(folder: Path = FOLDER) -> dict[str, Session]:
    """The last session of each machine, by its name."""
    return {path.stem: sessions(path)[-1] for path in sorted(folder.glob("*.json"))}


def write_pages() -> None:
    """Write bench/goals.md, the table in docs/performance.md and the figures in the README anew."""
    last = last_sessions()
    PAGE.write_text(page(last))
    for path, quoted in ((PERFORMANCE, side_by_side(last)), (README, in_brief(last))):
        path.write_text(quoting(path.read_text("utf-8"), quoted), "utf-8")


def quoting(text: str, quoted: str) -> str:
    """The text of a page with something else between the marks."""
    before, rest = text.split(QUOTE[0])
    _, after = rest.split(QUOTE[1])
    return f"{before}{QUOTE[0]}{quoted}{QUOTE[1]}{after}"


# ---- the pages -----------------------------------------------------------------------------------


def met(goal: Goal, values: Sequence[float | None]) -> str:
    """Whether all runs meet a goal, or how many of those that measured it do."""
    measured = [value for value in values if value is not None]
    good = sum(map(goal.is_met, measured))
    if not measured:
        return "not measured"
    if good in (0, len(measured)):
        return "yes" if good else "no"
    return f"in {good} of {len(measured)} runs"


def spread(values: Sequence[float | None]) -> str:
    """How far the runs lie apart, as a share of the least."""
    measured = [value for value in values if value is not None]
    if len(measured) < 2 or min(measured) <= 0:
        return "–"
    return f"{max(measured) / min(measured) - 1:.0%}"


def judged(session: Session) -> Section:
    """A row for each goal: each run's figure, the spread, and whether all runs meet it."""
    rows = [
        (goal.what, goal.target, *map(goal.text, values), spread(values), met(goal, values))
        for goal in session.goals
        for values in [session.values(goal)]
    ]
    runs = [f"run {number + 1}" for number in range(len(session.runs))]
    return Section(
        title="Goals",
        table=table(("measure", "goal", *runs, "spread", "met"), rows),
        remarks=session.left_out,
    )


_APPENDIX: Mapping[str, tuple[str, Callable[[float], str]]] = {
    "us_per_token 200": ("CPU µs per token", "{:,.1f}".format),
    "us_per_token flat out": ("flat out", "{:,.2f}".format),
    "us_per_request": ("CPU µs per short request", "{:,.0f}".format),
    "first_added_ms": ("first token, added ms", "{:,.2f}".format),
    "capacity": ("streams in time", "{:,.0f}".format),
    "kib_per_stream": ("KiB per stream", "{:,.1f}".format),
    "start_s": ("start, s", "{:,.2f}".format),
}
"""Measures of all programs: the head of a column, and how a figure is written."""


def programs(session: Session) -> Section:
    """The figures that the goals are made of, of each program: the range of all runs."""
    names = dict.fromkeys(
        name
        for run in session.runs
        for measure in _APPENDIX
        for name in run.get(measure, {})
        if name != DIRECT
    )
    rows: list[list[str]] = []
    for name in names:
        row = [f"{name} {session.versions.get(name, '')}".strip()]
        for measure, (_, written) in _APPENDIX.items():
            of_runs = [run[measure][name] for run in session.runs if name in run.get(measure, {})]
            row.append(range_of(of_runs, written))
        rows.append(row)
    return Section(
        title="Programs in the same runs",
        table=table(("", *(head for head, _ in _APPENDIX.values())), rows),
        remarks=[
            "`relay` and `passthrough` are floors (bench/floor.py): uvloop from socket to socket, "
            "and uvicorn with aiohttp's client, neither of which translates. Of programs that no "
            "goal compares us with, CPU per token is that of one round, not of the cheapest.",
        ],
    )


def range_of(values: Sequence[float], written: Callable[[float], str]) -> str:
    texts = dict.fromkeys(map(written, sorted(values)))
    return "–".join([*texts][:: max(1, len(texts) - 1)]) if texts else "–"


HEAD = """\
# Goals, and the runs that judge them

Written by `python -m bench goals`; do not edit. The target runs alone on one core; load client and
mock upstream share the other. Within a run, the cheapest of interleaved rounds counts. A goal is
met where every run meets it.

"""


def report(name: str, session: Session) -> str:
    described = "".join(f"- {key}: {value}\n" for key, value in session.machine.items())
    return f"## {name}\n\n{described}\n{judged(session).markdown()}{programs(session).markdown()}"


def page(last: Mapping[str, Session]) -> str:
    """The text of bench/goals.md."""
    return (HEAD + "".join(report(name, one) for name, one in last.items())).rstrip() + "\n"


def side_by_side(last: Mapping[str, Session]) -> str:
    """The table of docs/performance.md: a column per machine, and no goals about a commit."""
    rows: list[tuple[str, ...]] = []
    for goal in GOALS:
        cells: list[str] = []
        together: list[float | None] = []
        for session in last.values():
            values = session.values(goal)
            together += values
            measured = [value for value in values if value is not None]
            text = range_of(measured, goal.text)
            cells.append(text + goal.unit if measured else text)
        rows.append((goal.what, goal.target, *cells, met(goal, together)))
    return table(("measure", "goal", *last, "met"), rows)


def in_brief(last: Mapping[str, Session]) -> str:
    """The figures of the README: the range of all runs on all machines."""
    lines: list[str] = []
    for position, words in IN_BRIEF.items():
        goal = GOALS[position]
        values = [value for session in last.values() for value in session.values(goal)]
        text = range_of([value for value in values if value is not None], goal.text)
        lines.append(f"- {words or goal.what}: {text}{goal.unit}\n")
    return "".join(lines)
