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
    gc.freeze()  # as the service does: what lives on is not looked at again
    began = time.process_time()
    work()
    return time.process_time() - began


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table; every column but the first is a number and stands to the right."""
    rule = ("---", *("---:" for _ in head[1:]))
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, rule, *rows))
