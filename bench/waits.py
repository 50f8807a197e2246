"""Latency of short requests, stalls behind large ones, and throughput of workers."""

from __future__ import annotations

import subprocess
import sys

from . import bodies
from .load import Load, LoadResult, mock_upstream
from .pace import PACED_TOKENS, failure_remarks
from .rig import RATE, Rig, alone, log_progress
from .section import DIRECT, OURS, Section, table
from .targets import ROOT, Running, Unavailable, started, translator

SHORT_TOKENS = 10
LARGE_BYTES = 4_000_000
LARGE_HOLD_MS = 150  # the target rests so long between two large requests
BYSTANDERS = 200


def short_requests(rig: Rig, requests: int = 100) -> Section:
    """Short requests, one after the other on one connection of an idle target."""
    log_progress("short requests")
    rig.mock.plan(tokens=SHORT_TOKENS)

    def measure(running: Running | None) -> LoadResult:
        rig.load(running, each=10)
        return rig.load(running, each=40 if rig.effort.quick else requests)

    best = rig.interleaved(measure, cost=lambda result: result.first_p50_ms)
    floor = best[DIRECT].first_p50_ms
    rows = [
        (
            name,
            f"{result.first_p50_ms:.2f}",
            "–" if name == DIRECT else f"{result.first_p50_ms - floor:.2f}",
            "–" if name == DIRECT else f"{result.us_per_answer:,.0f}",
        )
        for name, result in best.items()
    ]
    head = ("", "first token p50, ms", "added, ms", "CPU µs/request")
    delayed = [name for name, result in best.items() if 39 < result.first_p50_ms - floor < 50]
    return Section(
        title=f"One request of {SHORT_TOKENS} tokens after the other",
        table=table(head, rows),
        remarks=[
            f"{name}: some 40 ms are a delayed acknowledgement, for which it waits as it leaves "
            "Nagle's algorithm on."
            for name in delayed
        ]
        + failure_remarks(best),
        facts={
            fact: value
            for name, result in best.items()
            if not result.failures
            for fact, value in (
                (("first_added_ms", name), result.first_p50_ms - floor),
                (("us_per_request", name), result.us_per_answer),
            )
        },
    )


def large_requests(rig: Rig) -> Section:
    """The longest stall of 200 streams while requests of 4 MB are parsed, one after the other."""
    log_progress("requests of 4 MB among streams")
    body = bodies.request(LARGE_BYTES, model="bench")
    rows: list[tuple[str, ...]] = []
    facts: dict[tuple[str, str], float] = {}
    asked = [one for one in rig.running if not one.target.slow and "chat" not in one.target.path]
    quiet: dict[str, LoadResult] = {}
    busy: dict[str, tuple[LoadResult, LoadResult]] = {}
    for _ in range(rig.effort.rounds):
        for running in asked:
            name = running.target.name
            rig.mock.plan(tokens=PACED_TOKENS, rate=RATE)
            without = rig.steady(running, BYSTANDERS, large_seconds(rig))
            if name not in quiet or without.age_most_ms < quiet[name].age_most_ms:
                quiet[name] = without
            beside = beside_large(rig, running, body)
            if name not in busy or _calmer(beside, busy[name]):
                busy[name] = beside
    for name, (result, large) in busy.items():
        pause = max(0.0, result.age_most_ms - quiet[name].age_most_ms)
        rows.append(
            (
                name,
                f"{quiet[name].age_most_ms:.1f}",
                f"{result.age_most_ms:.1f}",
                f"{pause:.1f}" if large.answers else "–",
                f"{result.age_p99_ms - quiet[name].age_p99_ms:.1f}",
                f"{large.answers}",
            )
        )
        if large.answers:
            facts["pause_ms", name] = pause
    head = ("", "oldest token without, ms", "with, ms", "stall, ms", "p99 grows by, ms")
    return Section(
        title=f"Requests of 4 MB among {BYSTANDERS} streams of {RATE} tokens a second",
        table=table((*head, "large requests"), rows),
        remarks=[
            f"{name}: large requests failed, such as {large.first_failure[:200]!r}"
            for name, (_, large) in busy.items()
            if large.failures
        ],
        facts=facts,
    )


def large_seconds(rig: Rig) -> float:
    """Long enough for some large requests, and as long without them."""
    return max(2.0, rig.effort.seconds)


def _calmer(one: tuple[LoadResult, LoadResult], other: tuple[LoadResult, LoadResult]) -> bool:
    """Rounds with answered large requests first, then the shorter stall."""
    return (not one[1].answers, one[0].age_most_ms) < (not other[1].answers, other[0].age_most_ms)


def beside_large(rig: Rig, running: Running, body: bytes) -> tuple[LoadResult, LoadResult]:
    """The figures of 200 streams while large requests are answered, and those of the requests."""
    rig.mock.plan(tokens=PACED_TOKENS, rate=RATE)
    milliseconds = int(large_seconds(rig) * 1000)
    large: list[Load] = []

    def post_large() -> None:
        rig.mock.plan(tokens=2, hold_ms=LARGE_HOLD_MS)
        large.append(Load(rig.mock, running, body, each=1000, measure_ms=milliseconds))

    with alone(running):
        streams = Load(
            rig.mock,
            running,
            streams=BYSTANDERS,
            ramp_ms=1000,
            warm_up_ms=1000,
            measure_ms=milliseconds,
        )
        result = streams.result(meanwhile=post_large)
        return result, large[0].result()


def workers(rig: Rig) -> Section | None:
    """Throughput of two workers beside one, on both CPUs; None without such an option.

    The load uses a part of the second CPU, so twice as much is out of reach.
    """
    help_text = subprocess.run(
        [sys.executable, "-m", "translator", "serve", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    if "--workers" not in help_text:
        return None
    log_progress("workers")
    best: dict[int, LoadResult] = {}
    with mock_upstream(cpu=None) as mock:
        mock.plan(tokens=100)
        for _ in range(rig.effort.rounds):
            for count in (1, 2):
                target = translator("--workers", str(count), name=f"{OURS} --workers {count}")
                try:
                    with started(target, mock.port, None) as running:
                        result = Load(
                            mock,
                            running,
                            cpu=None,
                            streams=64,
                            each=1_000_000,
                            ramp_ms=200,
                            warm_up_ms=1000,
                            measure_ms=int(rig.effort.seconds * 1000),
                        ).result()
                except Unavailable as reason:
                    log_progress(f"{target.name}: {reason}")
                    return None
                if count not in best or _per_second(result) > _per_second(best[count]):
                    best[count] = result
    rows = [
        (
            str(count),
            f"{_per_second(result):,.0f}",
            f"{_per_second(result) / _per_second(best[1]):.2f}",
            f"{result.cpu_s / result.elapsed_s:.0%}",
            f"{(result.client_cpu_s + result.mock_cpu_s) / result.elapsed_s:.0%}",
        )
        for count, result in best.items()
    ]
    return Section(
        title="Workers: 64 clients, each with one answer of 100 tokens after the other",
        table=table(("workers", "tokens/s", "× one", "their CPU", "CPU of the load"), rows),
        facts={("workers", OURS): _per_second(best[2]) / _per_second(best[1])},
    )


def _per_second(result: LoadResult) -> float:
    return result.tokens / result.elapsed_s
