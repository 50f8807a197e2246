"""The report of the soak test: what was found, and whether all is well."""

from __future__ import annotations

import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Iterator

from msgspec import Struct

from .hostile import PEERS, SECRET, Result
from .section import table
from .soak_upstream import FAULTS

WARM_UP = 0.25
"""The share of the time after which no figure should grow."""

WINDOWS = 10
MAX_GROWTH = 0.05
"""How much the last third of the memory figures may lie above the first, after the warm-up."""

MAX_P99_GROWTH = 2.0
"""How many times the first p99 the last may be; a machine has other things to do."""

MORE_DESCRIPTORS = 2
"""So many more the service may hold after the run than before it."""

SHOWN = 20
"""Most wrong answers that are printed."""

MIN_MINUTES = 5.0
"""In a shorter run, growth is reported and not judged: the service has hardly warmed up."""


class Findings:
    """The results of the driver so far."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.outcomes: Counter[tuple[str, str, str]] = Counter()
        self.wrong: list[str] = []
        self.first: list[tuple[float, float]] = []
        """When a stream began, and how long its first event took, in seconds."""
        self.bytes = 0
        self.events = 0
        self.hostile: dict[str, list[Result]] = defaultdict(list)
        """What became of the hostile peers, by their names."""
        self.violations: list[str] = []

    @property
    def now(self) -> float:
        return time.monotonic() - self.began


class Sample(Struct, frozen=True):
    """Memory and descriptors of the process at one moment."""

    at_s: float
    kib: int
    descriptors: int


def slope(samples: list[Sample]) -> float:
    """How fast memory grows, in KiB a minute."""
    line = statistics.linear_regression([s.at_s / 60 for s in samples], [s.kib for s in samples])
    return line.slope


def growth(figures: list[float]) -> float:
    """The median of the last third over that of the first; 0 without figures."""
    if not figures:
        return 0.0
    third = max(1, len(figures) // 3)
    return statistics.median(figures[-third:]) / statistics.median(figures[:third]) - 1


def windows(findings: Findings, seconds: float) -> list[tuple[float, float, int]]:
    """p50 and p99 of the time to the first event in ms, and how many there were, by window."""
    found: list[tuple[float, float, int]] = []
    for number in range(WINDOWS):
        inside = range(WINDOWS)[number]
        times = [
            late * 1000 for at, late in findings.first if int(at / seconds * WINDOWS) == inside
        ]
        if len(times) > 1:
            cuts = statistics.quantiles(times, n=100)
            found.append((cuts[49], cuts[98], len(times)))
    return found


def report(
    findings: Findings, samples: list[Sample], after: Sample, minutes: float, log: str
) -> Iterator[str]:
    """The report; its last line says whether all is well. `log` is the service's."""
    seconds = minutes * 60
    warm = [one for one in samples if WARM_UP * seconds <= one.at_s <= seconds]
    yield from _answers(findings)
    yield from _hostile_peers(findings)
    first = windows(findings, seconds)
    yield "Time to the first event, by tenths of the time:\n\n"
    cells = [(f"{p50:.1f}", f"{p99:.1f}", f"{many:,}") for p50, p99, many in first]
    yield table(("p50 ms", "p99 ms", "streams"), cells) + "\n\n"
    memory = growth([one.kib for one in warm])
    late = growth([p99 for _, p99, _ in first[int(WARM_UP * WINDOWS) :]])
    counts = [one.descriptors for one in warm]
    before = samples[0].descriptors
    faults = log.count(": internal error") + log.count("Traceback")
    yield f"memory after the warm-up: {warm[0].kib / 1024:.1f} MiB to {warm[-1].kib / 1024:.1f} MiB"
    yield f", {slope(warm):+.0f} KiB a minute, {memory:+.1%} between its first and last third\n"
    yield f"file descriptors: {min(counts)} to {max(counts)} under load, "
    yield f"{after.descriptors} after it ({before} before)\n"
    yield f"p99 of the first event: {late:+.0%} between its first and last third\n"
    yield f"faults of its own in the service's log: {faults}\n"
    yield f"the operator's key in it: {log.count(SECRET)} times\n\n"
    well = {
        "wrong answers": not findings.wrong,
        "hostile peers": not findings.violations,
        "file descriptors": after.descriptors <= before + MORE_DESCRIPTORS,
        "log": not faults and SECRET not in log,
    }
    if minutes >= MIN_MINUTES:
        well["memory"] = memory <= MAX_GROWTH
        well["file descriptors under load"] = growth([float(one) for one in counts]) <= MAX_GROWTH
        well["p99"] = late <= MAX_P99_GROWTH - 1
    else:
        yield f"Growth is not judged in less than {MIN_MINUTES:g} minutes.\n"
    bad = [name for name, good in well.items() if not good]
    yield f"NOT WELL: {', '.join(bad)}\n" if bad else "All is well.\n"


def _answers(findings: Findings) -> Iterator[str]:
    count = sum(findings.outcomes.values())
    met = sum(many for (_, fault, _), many in findings.outcomes.items() if fault)
    yield f"{count:,} requests, {findings.events:,} events compared, "
    yield f"{met:,} of them with a fault\n\n"
    rows: list[tuple[str, ...]] = []
    for fault in ("", *FAULTS):
        found: Counter[str] = Counter()
        for (_, met_fault, outcome), many in findings.outcomes.items():
            if met_fault == fault:
                found[outcome] += many
        ends = ", ".join(f"{outcome} {many:,}" for outcome, many in found.most_common())
        rows.append((fault or "none", ends))
    yield table(("fault", "how it ended"), rows) + "\n\n"
    yield from (f"WRONG: {one}\n" for one in findings.wrong[:SHOWN])


def _hostile_peers(findings: Findings) -> Iterator[str]:
    met = findings.hostile
    rows: list[tuple[str, ...]] = []
    for name, results in met.items():
        found = Counter(one.outcome for one in results)
        ends = ", ".join(f"{outcome} {many:,}" for outcome, many in found.most_common())
        rows.append((name, ends, f"{max(one.took_s for one in results):.1f}"))
    count = sum(map(len, met.values()))
    yield f"{count:,} hostile peers, of {len(met)} kinds out of {len(PEERS)}:\n\n"
    yield table(("hostile peer", "how it ended", "longest, s"), rows) + "\n\n"
    yield from (f"VIOLATION: {one}\n" for one in findings.violations[:SHOWN])
