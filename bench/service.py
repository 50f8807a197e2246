"""The service beside its peers, in one run: what a token costs, and how many streams are possible.

    python -m bench.service [--quick] [--only NAME ...]

    load client ──► target ──► mock upstream
       CPU 1        CPU 0         CPU 1

Rounds are interleaved: each scenario asks every target before any is asked again, and the best
round of each counts. CPU time is what the scheduler accounts to the target and its descendants.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from .peers import peers
from .targets import (
    CHAT_BODY,
    ROOT,
    Running,
    Target,
    Unavailable,
    free_port,
    nginx,
    started,
    translator,
)
from .timing import table

TARGET_CPU, LOAD_CPU = 0, 1
RATE = 50  # tokens a second of one stream, as a fast model writes
LATE_MS = 20.0
"""Added latency that a reader does not see; capacity is how many streams keep to it."""

STEPS = (5, 10, 20, 50, 100, 150, 200, 250, 300, 350, 400, 450, 500, 600, 700, 800)
Result = dict[str, Any]


class Bench:
    """The mock upstream, and the targets that could be started."""

    def __init__(self, upstream_port: int, *, seconds: float, rounds: int) -> None:
        self.upstream_port = upstream_port
        self.seconds = seconds
        self.rounds = rounds
        self.running: list[Running] = []
        self.skipped: list[str] = []

    def plan(self, *, tokens: int, rate: float = 0, hold_s: float = 0) -> float:
        """What the upstream does from now on; returns its longest tick until now, in seconds."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.upstream_port}/plan",
            data=json.dumps({"tokens": tokens, "rate": rate, "hold_s": hold_s}).encode(),
            method="PUT",
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return float(json.load(answer)["busiest_s"])

    def load(self, running: Running | None, **load: object) -> Result:
        """Run the load client against a target, or against the upstream itself."""
        plan: dict[str, object] = {
            "port": running.port if running else self.upstream_port,
            "path": running.target.path if running else "/v1/chat/completions",
            "body": running.target.body if running else CHAT_BODY,
            "pids": [running.pid] if running else [],
            "headers": {"authorization": "Bearer sk-bench"},
            **load,
        }
        done = subprocess.run(
            [*pinned(LOAD_CPU), sys.executable, "-m", "bench.load_client", json.dumps(plan)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if done.returncode != 0:
            return {"errors": [done.stderr.strip()[-300:]], "tokens": 0}
        result: Result = json.loads(done.stdout)
        return result

    def interleaved(
        self, measure: Callable[[Running | None], Result], *, cost: str, rounds: int | None = None
    ) -> dict[str, Result]:
        """The round of each target in which `cost` was least; `direct` is without a target."""
        best: dict[str, Result] = {}
        targets: list[Running | None] = [None, *self.running]
        for _ in range(rounds or self.rounds):
            for running in targets:
                name = running.target.name if running else "direct"
                result = measure(running)
                if result.get("errors"):
                    best.setdefault(name, result)
                elif (
                    name not in best or best[name].get("errors") or result[cost] < best[name][cost]
                ):
                    best[name] = result
        return best


def pinned(cpu: int) -> list[str]:
    return ["taskset", "--cpu-list", str(cpu)]


def steady(bench: Bench, streams: int) -> dict[str, Result]:
    """Streams of a usual pace: CPU per token, and how late tokens come."""
    bench.plan(tokens=10_000, rate=RATE)

    def measure(running: Running | None) -> Result:
        if running and streams > running.target.most_streams:
            return {"errors": [f"not asked for more than {running.target.most_streams} streams"]}
        result = bench.load(
            running, streams=streams, ramp_s=1.0, warm_up_s=2.0, measure_s=bench.seconds
        )
        return _per_token(result)

    return bench.interleaved(measure, cost="us_per_token")


def flat_out(bench: Bench) -> dict[str, Result]:
    """The upstream is always ahead: what a token costs when reads are full."""
    bench.plan(tokens=64_000)

    def measure(running: Running | None) -> Result:
        if running and running.target.most_streams < 50:
            return {"errors": ["too slow to be asked"]}
        return _per_token(bench.load(running, streams=4, ramp_s=0, count_only=True))

    return bench.interleaved(measure, cost="us_per_token")


def short_requests(bench: Bench) -> dict[str, Result]:
    """One short answer after the other on an idle machine."""
    bench.plan(tokens=10)

    def measure(running: Running | None) -> Result:
        count = 300 if not running or running.target.most_streams >= 50 else 40
        bench.load(running, streams=20, sequential=True)
        result = bench.load(running, streams=count, sequential=True)
        result["us_per_request"] = result.get("cpu_s", 0) / count * 1e6
        return result

    return bench.interleaved(measure, cost="first_p50_ms")


def capacity(bench: Bench) -> dict[str, int]:
    """The largest number of streams of which one token in a hundred is later than `LATE_MS`."""
    bench.plan(tokens=10_000, rate=RATE)

    def keeps_up(running: Running | None, streams: int) -> bool:
        result = bench.load(
            running, streams=streams, ramp_s=1.0, warm_up_s=1.5, measure_s=bench.seconds / 2
        )
        expected = streams * RATE * result.get("elapsed_s", 0)
        return (
            not result.get("errors")
            and result["tokens"] >= 0.97 * expected
            and result["age_p99_ms"] < LATE_MS
        )

    found: dict[str, int] = {}
    for running in [None, *bench.running]:
        most = 0
        for streams in STEPS:
            if not (keeps_up(running, streams) or keeps_up(running, streams)):
                break
            most = streams
        found[running.target.name if running else "direct"] = most
    return found


def memory(bench: Bench, streams: int = 1000) -> dict[str, Result]:
    """What an open stream holds in memory while nothing happens."""
    bench.plan(tokens=2, hold_s=6.0)
    found: dict[str, Result] = {}
    for running in bench.running:
        if running.target.most_streams < 50:
            continue
        before = unique_kib(running.pid)
        bench.load(running, streams=streams, ramp_s=3.0)  # what grows once does not count
        after_once = unique_kib(running.pid)
        process = subprocess.Popen(
            [
                *pinned(LOAD_CPU),
                sys.executable,
                "-m",
                "bench.load_client",
                json.dumps(
                    {
                        "port": running.port,
                        "path": running.target.path,
                        "body": running.target.body,
                        "headers": {"authorization": "Bearer sk-bench"},
                        "streams": streams,
                        "ramp_s": 3.0,
                    }
                ),
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        highest = 0
        while process.poll() is None:
            highest = max(highest, unique_kib(running.pid))
            try:
                process.wait(0.2)
            except subprocess.TimeoutExpired:
                continue
        found[running.target.name] = {
            "before_mib": before / 1024,
            "kib_per_stream": (highest - before) / streams,
            "kept_kib_per_stream": (after_once - before) / streams,
        }
    return found


def unique_kib(pid: int) -> int:
    """Memory that only this process and its descendants have, in KiB."""
    from .load_client import with_descendants

    total = 0
    for one in with_descendants([pid]):
        try:
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
    return total


def start_up(targets: Sequence[Target], upstream_port: int, rounds: int) -> dict[str, float]:
    """Seconds from the start of a process to its first accepted connection, the best round."""
    best: dict[str, float] = {}
    for _ in range(rounds):
        for target in targets:
            try:
                with started(target, upstream_port, TARGET_CPU) as running:
                    best[target.name] = min(best.get(target.name, 1e9), running.started_s)
            except Unavailable:
                continue
    return best


def importing(rounds: int) -> float:
    """Seconds that a process takes to import what our service depends on, and to end."""
    program = "import asyncio, httpx, msgspec, starlette.routing, uvicorn, uvloop, httptools"
    times: list[float] = []
    for _ in range(rounds):
        began = os.times().elapsed
        subprocess.run([*pinned(TARGET_CPU), sys.executable, "-c", program], check=True)
        times.append(os.times().elapsed - began)
    return min(times)


def _per_token(result: Result) -> Result:
    tokens = result.get("tokens", 0)
    result["us_per_token"] = result["cpu_s"] / tokens * 1e6 if tokens else float("inf")
    return result


# ---- the report ----------------------------------------------------------------------------------

QUICK = {"seconds": 2.0, "rounds": 1}
THOROUGH = {"seconds": 5.0, "rounds": 3}


def report(*, quick: bool, only: Sequence[str]) -> Iterator[str]:
    """The report, section by section as each is measured."""
    size = QUICK if quick else THOROUGH
    targets = [
        target
        for target in (translator(), nginx(), *peers())
        if not only or any(word in target.name for word in only)
    ]
    port = free_port()
    with ExitStack() as stack:
        mock = subprocess.Popen(
            [*pinned(LOAD_CPU), sys.executable, "-m", "bench.mock_upstream", str(port)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        stack.callback(mock.wait)
        stack.callback(mock.terminate)
        assert mock.stdout is not None
        mock.stdout.readline()
        bench = Bench(port, seconds=size["seconds"], rounds=int(size["rounds"]))
        for target in targets:
            try:
                bench.running.append(stack.enter_context(started(target, port, TARGET_CPU)))
            except Unavailable as reason:
                yield f"{target.name} is left out: {reason}\n"
        for running in bench.running:
            version = running.target.version()
            if version:
                yield f"- {running.target.name} {version}\n"
        yield "\n"
        for streams in (50, 200, 500):
            yield f"### {streams} streams of {RATE} tokens a second\n\n"
            yield _steady_table(steady(bench, streams))
        yield "### Flat out: the upstream is always ahead\n\n"
        yield _rows(flat_out(bench), {"CPU µs/token": ("us_per_token", 2)})
        yield "### One short request after the other\n\n"
        yield _short_table(short_requests(bench))
        yield f"### Capacity: streams of {RATE} tokens a second, p99 under {LATE_MS:.0f} ms\n\n"
        yield _capacity_table(capacity(bench))
        yield "### Memory of 1,000 open streams\n\n"
        yield _rows(
            memory(bench),
            {"before, MiB": ("before_mib", 0), "KiB per stream": ("kib_per_stream", 1)},
        )
        yield "### Start-up\n\n"
        yield _start_table(start_up([one.target for one in bench.running], port, bench.rounds))


def _rows(results: dict[str, Result], columns: dict[str, tuple[str, int]]) -> str:
    rows: list[tuple[str, ...]] = []
    for name, result in results.items():
        if result.get("errors"):
            rows.append((name, *("–" for _ in columns)))
            continue
        rows.append((name, *(f"{result[key]:,.{digits}f}" for key, digits in columns.values())))
    notes = "".join(
        f"\n{name}: {result['errors'][0]}"
        for name, result in results.items()
        if result.get("errors")
    )
    return table(("", *columns), rows) + (f"{notes}\n" if notes else "") + "\n"


def _steady_table(results: dict[str, Result]) -> str:
    floor = results.get("nginx, unmodified", {}).get("us_per_token", 0)
    for name, result in results.items():
        result["to_nginx"] = result.get("us_per_token", 0) / floor if floor else 0
        if name == "direct":
            result["us_per_token"] = result["to_nginx"] = 0
        load = result.get("client_cpu_s", 0) / max(result.get("elapsed_s", 1), 1e-9)
        result["client_share"] = load * 100
    return _rows(
        results,
        {
            "CPU µs/token": ("us_per_token", 1),
            "× nginx": ("to_nginx", 2),
            "age p50 ms": ("age_p50_ms", 2),
            "age p99 ms": ("age_p99_ms", 2),
            "client's CPU %": ("client_share", 0),
        },
    )


def _short_table(results: dict[str, Result]) -> str:
    floor = results["direct"].get("first_p50_ms", 0)
    for result in results.values():
        result["added_ms"] = result.get("first_p50_ms", 0) - floor
    return _rows(
        results,
        {
            "first token p50 ms": ("first_p50_ms", 2),
            "added ms": ("added_ms", 2),
            "p99 ms": ("first_p99_ms", 2),
            "CPU µs/request": ("us_per_request", 0),
        },
    )


def _capacity_table(found: dict[str, int]) -> str:
    most = STEPS[-1]
    rows = [(name, f"≥ {most}" if one == most else str(one)) for name, one in found.items()]
    return table(("", "streams"), rows) + "\n"


def _start_table(best: dict[str, float]) -> str:
    imports = importing(3)
    rows = [(name, f"{one:.2f}") for name, one in best.items()]
    rows.append(("importing what translator depends on", f"{imports:.2f}"))
    return table(("", "s"), rows) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one short round of each")
    parser.add_argument("--only", nargs="*", default=[], help="targets whose name holds a word")
    options = parser.parse_args()
    for section in report(quick=options.quick, only=options.only):
        print(section, end="", flush=True)
