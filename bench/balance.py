"""How evenly the kernel spreads long streams over workers.

    python -m bench balance [--workers 2] [--streams 200] [--draws 10]

Each draw opens that many connections, each with one stream that waits, to the same workers,
and counts how many connections every worker holds. Nothing is timed, so the machine need not be
idle. With perfect chance, a worker's share has a standard deviation of √(n p (1 − p)): 7 of 200
streams over two workers.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from .load import Load, Mock, mock_upstream
from .rig import log_progress
from .scheduler import with_descendants
from .section import Section, table
from .targets import Running, started, translator

ESTABLISHED = "01"
"""As /proc/net/tcp writes that state."""

HOLD_MS = 60_000
OPEN_TIMEOUT_S = 60


def sockets(port: int) -> set[str]:
    """The inodes of established connections to a port of this machine, on the server's side."""
    found: set[str] = set()
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == ESTABLISHED and int(words[1].rpartition(":")[2], 16) == port:
                found.add(words[9])
    return found


def held_by(pid: int, inodes: set[str]) -> int:
    """How many of these sockets a process has open."""
    count = 0
    for path in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = re.fullmatch(r"socket:\[(\d+)\]", str(path.readlink()))
        except OSError:
            continue
        count += target is not None and target[1] in inodes
    return count


def draw(mock: Mock, running: Running, streams: int) -> list[int]:
    """The connections of each worker, the busiest first, while so many streams are open."""
    plan = partial(mock.plan, tokens=1, hold_ms=HOLD_MS)
    plan()
    load = Load(mock, running, cpu=None, streams=streams)
    try:
        until = time.monotonic() + OPEN_TIMEOUT_S
        while plan()["open"] < streams and time.monotonic() < until:
            time.sleep(0.05)
        inodes = sockets(running.port)
        processes = with_descendants([running.pid])
        held = sorted((held_by(pid, inodes) for pid in processes[1:]), reverse=True)
    finally:
        load.stop()
    while plan()["open"]:
        time.sleep(0.05)
    return held


def deviation(streams: int, workers: int) -> float:
    """The standard deviation of a worker's streams where each is drawn by chance."""
    return math.sqrt(streams * (1 / workers) * (1 - 1 / workers))


def sections(*, workers: int, streams: int, draws: int) -> Iterator[Section]:
    found: list[list[int]] = []
    with mock_upstream(cpu=None) as mock:
        target = translator("--workers", str(workers))
        with started(target, mock.port, None) as running:
            for number in range(draws):
                found.append(draw(mock, running, streams))
                log_progress(f"draw {number + 1}: {found[-1]}")
    yield report(found, streams=streams, workers=workers)


def report(found: Sequence[Sequence[int]], *, streams: int, workers: int) -> Section:
    mean = streams / workers
    rows = [
        (f"{number + 1}", " / ".join(map(str, held)), f"{max(held) / mean:.2f}")
        for number, held in enumerate(found)
    ]
    most = [max(held) / mean for held in found]
    rows.append(("mean", "", f"{sum(most) / len(most):.2f}"))
    return Section(
        title=f"{streams} streams over {workers} workers",
        table=table(("draw", "streams of each worker", "busiest, × mean"), rows),
        remarks=[
            f"By chance alone a worker's streams deviate by {deviation(streams, workers):.1f} "
            f"from {mean:g}, in one draw of three by more."
        ],
    )
