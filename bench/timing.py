"""How to time two things so that they can be compared on a machine that others use, too.

Rounds are interleaved (one of each, then again), so that a slow moment hits all alike, and the best
round of each counts: noise only ever adds.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping


def best_of(rounds: int, candidates: Mapping[str, Callable[[], float]]) -> dict[str, float]:
    """The best of each candidate's results; a candidate measures itself, in any unit."""
    best = dict.fromkeys(candidates, float("inf"))
    for _ in range(rounds):
        for name, measure in candidates.items():
            best[name] = min(best[name], measure())
    return best


def seconds(work: Callable[[], object]) -> float:
    """CPU time of one call, in seconds, with the garbage of before out of the way."""
    gc.collect()
    began = time.process_time()
    work()
    return time.process_time() - began


def milliseconds(
    rounds: int, body: bytes, ways: Mapping[str, Callable[[bytes], object]]
) -> dict[str, float]:
    """CPU time that each way takes with a body, in ms; a small body is taken many times."""
    repeat = max(1, 4_000_000 // len(body))

    def measure(way: Callable[[bytes], object]) -> Callable[[], float]:
        return lambda: seconds(lambda: [way(body) for _ in range(repeat)]) / repeat * 1e3

    return best_of(rounds, {name: measure(way) for name, way in ways.items()})
