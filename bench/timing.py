"""CPU time of functions, comparable on a machine that is shared.

Rounds are interleaved (one of each, then again), so that a slow moment hits all alike, and the best
round of each counts: noise only ever adds.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping


def best_of(rounds: int, candidates: Mapping[str, Callable[[], float]]) -> dict[str, float]:
    """The least result of each candidate; a candidate returns its own measurement, in any unit."""
    best = dict.fromkeys(candidates, float("inf"))
    for _ in range(rounds):
        for name, measure in candidates.items():
            best[name] = min(best[name], measure())
    return best


def seconds(work: Callable[[], object]) -> float:
    """CPU time of one call, in seconds, after a garbage collection."""
    gc.collect()
    began = time.process_time()
    work()
    return time.process_time() - began


def milliseconds(
    rounds: int, body: bytes, candidates: Mapping[str, Callable[[bytes], object]]
) -> dict[str, float]:
    """CPU time of each candidate for a body, in ms; a small body is repeated."""
    repeat = max(1, 4_000_000 // len(body))

    def measure(candidate: Callable[[bytes], object]) -> Callable[[], float]:
        return lambda: seconds(lambda: [candidate(body) for _ in range(repeat)]) / repeat * 1e3

    return best_of(rounds, {name: measure(one) for name, one in candidates.items()})
