"""CPU time, memory and descendants of processes, as the kernel counts them; CPU pinning."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

TARGET_CPU, LOAD_CPU = 0, 1


def pinned(cpu: int | None) -> list[str]:
    """The prefix of a command that pins it to one CPU; None leaves it on all."""
    return [] if cpu is None else ["taskset", "--cpu-list", str(cpu)]


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU time of processes and of their descendants so far, as the scheduler accounts for it."""
    return sum(_cpu_seconds(pid) for pid in with_descendants(pids))


def _cpu_seconds(pid: int) -> float:
    """The CPU clock of another process, with those of its threads that have ended.

    The number of that clock is what `clock_getcpuclockid` makes of a process id on Linux.
    """
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0  # it has ended


def unique_kib(pid: int) -> int:
    """Memory that only this process and its descendants have, in KiB."""
    return _private_kib(pid, ("Private_Clean:", "Private_Dirty:"))


def written_kib(pid: int) -> int:
    """The part of it that they have written: files that others map, too, come and go with those."""
    return _private_kib(pid, ("Private_Dirty:",))


def _private_kib(pid: int, kinds: tuple[str, ...]) -> int:
    total = 0
    for one in with_descendants([pid]):
        try:
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith(kinds))
    return total


def with_descendants(pids: Iterable[int]) -> list[int]:
    found = list(pids)
    for pid in found:  # grows while it is walked
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                found += [int(child) for child in children.read_text().split()]
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found
