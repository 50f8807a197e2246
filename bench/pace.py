"""Paced streams, streams without a pace, and capacity."""

from __future__ import annotations

from collections.abc import Sequence

from .load import LoadResult
from .rig import RATE, Rig, log_progress
from .section import DIRECT, NGINX, OURS, Section, table
from .targets import Running

LATE_MS = 20.0
"""Added latency that a reader does not see; capacity is the number of streams within it."""

HOPELESS_MS = 5 * LATE_MS

FLAT_OUT_TOKENS, FLAT_OUT_TOKENS_SLOW = 64_000, 500
PACED_TOKENS = 1_000  # 20 s: longer than a measurement, and soon over if a target reads to the end

STEPS = (
    *(5, 10, 20, 35, 50, 75, 100, 150, 200, 250, 300, 350),
    *(400, 450, 500, 550, 600, 700, 800, 1000),
)
QUICK_STEPS = (5, 20, 100, 400, 800)


def steady(rig: Rig, streams: int) -> Section:
    """CPU time per token, and the age of tokens."""
    log_progress(f"{streams} streams of {RATE} tokens a second")
    rig.mock.plan(tokens=PACED_TOKENS, rate=RATE)
    passed_over: set[str] = set()

    def measure(running: Running | None) -> LoadResult | None:
        if running and streams > running.target.most_streams:
            passed_over.add(running.target.name)
            return None
        return rig.steady(running, streams, rig.effort.seconds)

    rounds = rig.effort.rounds if streams == 200 else min(2, rig.effort.rounds)
    best = rig.interleaved(measure, cost=lambda result: result.us_per_token, rounds=rounds)
    floor = best[NGINX].us_per_token if NGINX in best else 0
    rows: list[tuple[str, ...]] = []
    facts: dict[tuple[str, str], float] = {}
    for name, result in best.items():
        asked = streams * RATE * result.elapsed_s
        target = name != DIRECT
        rows.append(
            (
                name,
                f"{result.us_per_token:,.1f}" if target else "–",
                f"{result.us_per_token / floor:.2f}" if target and floor else "–",
                f"{result.tokens / asked:.0%}",
                f"{result.age_p50_ms:,.2f}",
                f"{result.age_p99_ms:,.2f}",
                f"{result.client_cpu_s / result.elapsed_s:.0%}",
                f"{result.mock_cpu_s / result.elapsed_s:.0%}",
            )
        )
        if not result.failures:
            facts[f"us_per_token {streams}", name] = result.us_per_token
    head = ("", "CPU µs/token", "× nginx", "delivered", "age p50, ms", "age p99, ms")
    return Section(
        title=f"{streams} streams of {RATE} tokens a second",
        table=table((*head, "client's CPU", "mock's CPU"), rows),
        remarks=[
            *failure_remarks(best),
            *(f"{name} is not asked for this many." for name in sorted(passed_over)),
        ],
        facts=facts,
    )


def flat_out(rig: Rig) -> Section:
    """CPU time per token when the upstream is always ahead and reads are full."""
    log_progress("flat out")

    def measure(running: Running | None) -> LoadResult:
        slow = running is not None and running.target.slow
        rig.mock.plan(tokens=FLAT_OUT_TOKENS_SLOW if slow else FLAT_OUT_TOKENS)
        return rig.load(running, streams=4)

    best = rig.interleaved(measure, cost=lambda result: result.us_per_token)
    rows = [
        (
            name,
            "–" if name == DIRECT else f"{result.us_per_token:,.2f}",
            f"{result.tokens / result.elapsed_s:,.0f}",
        )
        for name, result in best.items()
    ]
    return Section(
        title="Flat out: four streams, and the upstream is always ahead",
        table=table(("", "CPU µs/token", "tokens/s"), rows),
        remarks=failure_remarks(best),
        facts={
            ("us_per_token flat out", name): result.us_per_token
            for name, result in best.items()
            if not result.failures
        },
    )


def capacity(rig: Rig, steps: Sequence[int] = STEPS, *, searches: int = 1) -> Section:
    """The largest number of streams of which one token in a hundred is later than `LATE_MS`.

    Of some searches, the one that finds most counts. Each round of one probes every target once
    and halves its range, which are the `steps`.
    """
    log_progress("capacity")
    rig.mock.plan(tokens=PACED_TOKENS, rate=RATE)
    steps = QUICK_STEPS if rig.effort.quick else steps
    found = {running.target.name: 0 for running in rig.running}
    for _ in range(1 if rig.effort.quick else searches):
        for name, most in _searched(rig, steps).items():
            found[name] = max(found[name], most)
    ours = found.get(OURS, 0)
    rows = [
        (
            name,
            f"≥ {most:,}" if most == steps[-1] else f"< {steps[0]}" if not most else f"{most:,}",
            f"{ours / most:.1f}" if ours and most else "–",
        )
        for name, most in found.items()
    ]
    return Section(
        title=f"Capacity: streams of {RATE} tokens a second, of which 99 % are younger than "
        f"{LATE_MS:.0f} ms",
        table=table(("", "streams", f"{OURS} is × of it"), rows),
        facts={("capacity", name): most for name, most in found.items()},
    )


def _searched(rig: Rig, steps: Sequence[int]) -> dict[str, int]:
    """What one search finds for each target."""
    searches = {running.target.name: Search(len(steps)) for running in rig.running}
    while any(search.next is not None for search in searches.values()):
        for running in rig.running:
            search = searches[running.target.name]
            if search.next is not None:
                search.answer(yes=_keeps_up(rig, running, steps[search.next]))
    return {
        name: steps[search.good] if search.good >= 0 else 0 for name, search in searches.items()
    }


class Search:
    """A search for the last good step: strides that double, then halves."""

    def __init__(self, steps: int) -> None:
        self.good = -1
        self._bad = steps
        self._steps = steps

    @property
    def next(self) -> int | None:
        """The step to try; None when the search is over."""
        if self._bad - self.good <= 1:
            return None
        if self._bad == self._steps:
            return min(self.good * 2 + 2, self._steps - 1)
        return (self.good + self._bad) // 2

    def answer(self, *, yes: bool) -> None:
        step = self.next
        assert step is not None
        if yes:
            self.good = step
        else:
            self._bad = step


def _keeps_up(rig: Rig, running: Running, streams: int) -> bool:
    """Whether a target keeps to LATE_MS; a near miss is tried twice more: others may be busy."""
    seconds = rig.effort.seconds / 2
    for _ in range(1 if rig.effort.quick else 3):
        result = rig.steady(running, streams, seconds)
        asked = streams * RATE * result.elapsed_s
        if not result.failures and result.tokens >= 0.97 * asked and result.age_p99_ms < LATE_MS:
            return True
        if result.failures or result.age_p99_ms > HOPELESS_MS:
            return False
    return False


def own_limits(rig: Rig, numbers: Sequence[int] = (200, 500, 800)) -> Section:
    """The limits of load client and mock upstream themselves, for numbers of streams."""
    log_progress("the load alone")
    rows: list[tuple[str, ...]] = []
    facts: dict[tuple[str, str], float] = {}
    for streams in numbers:
        rig.mock.plan(tokens=PACED_TOKENS, rate=RATE)
        result = rig.steady(None, streams, rig.effort.seconds)
        counters = rig.mock.plan(tokens=1)
        rows.append(
            (
                f"{streams}",
                f"{result.age_p50_ms:.2f}",
                f"{result.age_p99_ms:.2f}",
                f"{result.client_cpu_s / result.elapsed_s:.0%}",
                f"{result.mock_cpu_s / result.elapsed_s:.0%}",
                f"{counters['busiest_ms']:.2f}",
                f"{counters['missed_ticks'] / counters['ticks']:.1%}",
            )
        )
        facts[f"age_p99_ms {streams}", DIRECT] = result.age_p99_ms
    head = ("streams", "age p50, ms", "age p99, ms", "client's CPU", "mock's CPU")
    return Section(
        title="The load alone: client and mock upstream, which share one CPU",
        table=table((*head, "mock's busiest tick, ms", "ticks that came late"), rows),
        facts=facts,
    )


def failure_remarks(best: dict[str, LoadResult]) -> list[str]:
    """A remark for each target that failed; its figures do not count."""
    return [
        f"{name}: {result.failures} failures, such as {result.first_failure[:200]!r}"
        for name, result in best.items()
        if result.failures
    ]
