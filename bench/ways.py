"""Variants of the service side by side: without each optimisation, or two commits.

    python -m bench ways [--quick] [--only NAME ...] [--commit REV ...]

All variants run at once and are measured in turn (A B C A B C …), each alone on its CPU. A ratio
compares two measurements of the same round. Under 1.05 × it is within what the machine does by
itself: `python -m bench instructions` counts without noise.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from . import bodies
from .pace import PACED_TOKENS
from .revisions import Revision, beside
from .rig import RATE, Effort, Rig, log_progress, rig
from .section import Section, table
from .targets import Running, Target, translator
from .variant import ALL_ON, VARIANTS, Variant, variant
from .waits import BYSTANDERS, LARGE_BYTES, SHORT_TOKENS, beside_large

STREAMS = 200
SHORT_REQUESTS = 100
THOROUGH = Effort(seconds=2.0, rounds=9)
QUICK = Effort(seconds=0.7, rounds=2, quick=True)

FAILED = math.inf
"""The figure of a target that failed in a round, or did not keep to the pace."""

MIN_DELIVERED = 0.95
"""The share of tokens that has to arrive: what arrives late arrives in larger, cheaper reads."""

Figures = Mapping[str, Sequence[float]]
"""The measurements of each target, one of each round, by its name."""


class Comparison(msgspec.Struct, frozen=True):
    """One row: a target, and the target that it is compared with."""

    target: str
    beside: str
    label: str
    remark: str = ""


def compared(variants: Sequence[Variant]) -> list[Comparison]:
    """Each variant, beside the service with all on or beside another variant."""
    return [
        Comparison(
            one.name if one.beside == ALL_ON else f"{one.name},{one.beside}",
            one.beside,
            f"no {one.name}" + ("" if one.beside == ALL_ON else f" (beside: no {one.beside})"),
            f"{one.name}: {one.without} ({one.claim}).",
        )
        for one in variants
    ]


def targets_of(comparisons: Sequence[Comparison]) -> list[Target]:
    """One process for each name of variants that is compared."""
    names = dict.fromkeys([ALL_ON, *(one.beside for one in comparisons)])
    names |= dict.fromkeys(one.target for one in comparisons)
    return [translator(name=name, program=("bench.variant", name)) for name in names]


def revision_target(revision: Revision) -> Target:
    return msgspec.structs.replace(translator(name=revision.name), environ=revision.environ)


def ratios(figures: Figures, one: str, other: str) -> list[float]:
    """Of two targets, for each round in which neither failed."""
    pairs = zip(figures[one], figures[other], strict=True)
    return [a / b for a, b in pairs if FAILED not in (a, b)]


def cells(figures: Figures, comparison: Comparison) -> tuple[str, str, str, str]:
    """The least, its ratio to the least of the other, the median ratio, and the ratios' range."""
    one, other = comparison.target, comparison.beside
    of_rounds = ratios(figures, one, other)
    if not of_rounds:
        return ("–", "–", "–", "–")
    return (
        f"{min(figures[one]):,.1f}",
        f"{min(figures[one]) / min(figures[other]):.2f}",
        f"{statistics.median(of_rounds):.2f}",
        f"{min(of_rounds):.2f}–{max(of_rounds):.2f}",
    )


HEAD = ("best, µs", "× of best", "× median", "× range")


def report(
    title: str, figures: Figures, first: str, comparisons: Sequence[Comparison], remarks: list[str]
) -> Section:
    """The table of one measure; what could not be started has no row."""
    best = min(figures[first])
    rows = [(first, "–" if best == FAILED else f"{best:,.1f}", "1.00", "1.00", "–")]
    rows += [
        (one.label, *cells(figures, one))
        for one in comparisons
        if one.target in figures and one.beside in figures
    ]
    return Section(title=title, table=table(("", *HEAD), rows), remarks=remarks)


def in_rounds(rig: Rig, measure: Callable[[Running], float]) -> Figures:
    """Every target once in each round."""
    figures: dict[str, list[float]] = {running.target.name: [] for running in rig.running}
    for number in range(rig.effort.rounds):
        for running in rig.running:
            figures[running.target.name].append(measure(running))
        log_progress(f"round {number + 1} of {rig.effort.rounds}")
    return figures


def per_token(rig: Rig) -> Figures:
    """CPU µs per token of paced streams."""

    def measure(running: Running) -> float:
        rig.mock.plan(tokens=PACED_TOKENS, rate=RATE)
        result = rig.steady(running, STREAMS, rig.effort.seconds)
        delivered = result.tokens / (STREAMS * RATE * result.elapsed_s)
        good = not result.failures and delivered >= MIN_DELIVERED
        return result.us_per_token if good else FAILED

    return in_rounds(rig, measure)


def per_request(rig: Rig) -> Figures:
    """CPU µs per short request."""
    rig.mock.plan(tokens=SHORT_TOKENS)

    def measure(running: Running) -> float:
        rig.load(running, each=10)
        result = rig.load(running, each=SHORT_REQUESTS)
        return FAILED if result.failures else result.us_per_answer

    return in_rounds(rig, measure)


def pauses(rig: Rig) -> Figures:
    """The age of the oldest token of streams while large requests are parsed, in µs."""
    body = bodies.request(LARGE_BYTES, model="bench")
    return in_rounds(rig, lambda running: beside_large(rig, running, body)[0].age_most_ms * 1000)


def sections(
    *, quick: bool, only: Sequence[str] = (), commits: Sequence[str] = ()
) -> Iterator[Section]:
    """Of variants, or of commits where there are some: the others beside the first."""
    effort = QUICK if quick else THOROUGH
    variants = [] if commits else [variant(name) for name in only] or list(VARIANTS)
    if commits:
        revisions = beside(commits)
        first = revisions[0].name
        comparisons = [Comparison(one.name, first, one.name) for one in revisions[1:]]
        targets = [revision_target(one) for one in revisions]
    else:
        first = ALL_ON
        comparisons = compared(variants)
        targets = targets_of(comparisons)
    with rig(targets, effort) as rigged:
        rounds = (
            f"{effort.rounds} rounds, interleaved; those in which a target failed, or delivered "
            f"under {MIN_DELIVERED:.0%} of its tokens in time, do not count (–: none counts)."
        )
        remarks = [*rigged.left_out, rounds, *(one.remark for one in comparisons if one.remark)]
        title = f"CPU per token, {STREAMS} streams of {RATE} tokens a second"
        yield report(title, per_token(rigged), first, comparisons, remarks)
        title = f"CPU per request of {SHORT_TOKENS} tokens"
        yield report(title, per_request(rigged), first, comparisons, [rounds])
    of_pauses = compared([one for one in variants if one.pauses])
    targets = targets_of(of_pauses) if of_pauses else targets
    if of_pauses or commits:
        with rig(targets, effort) as rigged:
            title = f"Longest stall of {BYSTANDERS} streams while a 4 MB request is parsed"
            yield report(title, pauses(rigged), first, of_pauses or comparisons, [rounds])
