"""Start-up time, and memory per open stream.

    time of a start / time of an import of the dependencies alone

says what our own code adds to a start, and gets worse when a dependency is no longer imported. So
the number of modules stands beside it, and `bench.start` compares whole starts of two commits.
Bytecode is made before: an installed package has it, and so have the dependencies.
"""

from __future__ import annotations

import compileall
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from .load import Load, Mock, mock_upstream
from .rig import Rig, log_progress
from .scheduler import TARGET_CPU, cpu_seconds, pinned, unique_kib, written_kib
from .section import OURS, Section, table
from .targets import ROOT, Running, Target, Unavailable, started

OPEN_STREAMS, OPEN_STREAMS_SLOW = 1000, 100
OPEN_TIMEOUT_S = 60

_DEPENDENCIES = """
import sys
import translator.service.server.run, translator.service.telemetry.metrics
import uvicorn.protocols.http.httptools_impl, uvloop
names = [
    name for name, module in sys.modules.items()
    if "site-packages" in (getattr(module, "__file__", None) or "")
]
print("import " + ", ".join(names))
"""
"""Prints the statement that imports the dependencies of our service, and nothing of ours: what it
has imported when it first answers."""


def footprint(rig: Rig, targets: Sequence[Target]) -> Section:
    """Start each target once per round; memory is measured in the first."""
    log_progress("start-up and memory")
    compile_ours(ROOT)
    start_s: dict[str, float] = {}
    cpu_s: dict[str, float] = {}
    memory: dict[str, tuple[int, float, int]] = {}
    for number in range(rig.effort.rounds):
        for target in targets:
            if target.slow and (rig.effort.quick or number > 0):
                continue
            try:
                with (
                    mock_upstream() as mock,
                    started(target, mock.port, TARGET_CPU) as running,
                ):
                    name = target.name
                    cpu_s[name] = min(cpu_s.get(name, 1e9), cpu_seconds([running.pid]))
                    start_s[name] = min(start_s.get(name, 1e9), running.started_s)
                    if number == 0:
                        memory[name] = memory_of(mock, running)
            except Unavailable as reason:
                log_progress(f"{target.name}: {reason}")
    statement = _dependencies()
    imports_s = _importing(statement, 2 + rig.effort.rounds)
    rows = [
        (
            name,
            *(f"{start_s[name]:.2f}", f"{cpu_s[name]:.2f}"),
            *(f"{before / 1024:.0f}", f"{each:.1f}", f"{streams:,}"),
        )
        for name, (before, each, streams) in memory.items()
    ]
    return Section(
        title="Start-up, and memory of open streams that wait",
        table=table(
            (
                *("", "s to the first answer", "of CPU"),
                *("MiB before", "KiB per stream", "streams open"),
            ),
            rows,
        ),
        remarks=[
            f"Importing what {OURS} depends on, alone: {imports_s:.2f} s, for "
            f"{statement.count(',') + 1} modules. Memory is the private memory of the process, as "
            "the kernel counts it."
        ],
        facts={("start_s", name): one for name, one in start_s.items()}
        | {("start_cpu_s", name): one for name, one in cpu_s.items()}
        | {("kib_per_stream", name): each for name, (_, each, _) in memory.items()}
        | {("import_s", OURS): imports_s},
    )


def memory_of(mock: Mock, running: Running) -> tuple[int, float, int]:
    """KiB without a stream, KiB per open stream, and the number of open streams."""
    mock.plan(tokens=10)
    Load(mock, running, each=20).result()
    before, written = unique_kib(running.pid), written_kib(running.pid)
    streams = OPEN_STREAMS_SLOW if running.target.slow else OPEN_STREAMS
    mock.plan(tokens=2, hold_ms=OPEN_TIMEOUT_S * 1000)
    load = Load(mock, running, streams=streams, ramp_ms=1500)
    try:
        until = time.monotonic() + OPEN_TIMEOUT_S
        opened = 0
        while opened < streams and time.monotonic() < until:
            time.sleep(0.2)
            opened = int(mock.plan(tokens=2, hold_ms=OPEN_TIMEOUT_S * 1000)["open"])
        time.sleep(0.5)
        held = written_kib(running.pid) - written
    finally:
        load.stop()
    return before, held / max(1, opened), opened


def compile_ours(folder: Path) -> None:
    """Make the bytecode of the package in a folder, also where Python is told to write none."""
    compileall.compile_dir(folder / "translator", quiet=1)


def _dependencies() -> str:
    return subprocess.run(
        [sys.executable, "-c", _DEPENDENCIES], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout


def _importing(statement: str, rounds: int) -> float:
    """Seconds of a process that runs a statement and ends: the median of rounds."""
    times: list[float] = []
    for _ in range(rounds):
        began = time.monotonic()
        subprocess.run([*pinned(TARGET_CPU), sys.executable, "-c", statement], cwd=ROOT, check=True)
        times.append(time.monotonic() - began)
    return statistics.median(times)
