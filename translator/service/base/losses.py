"""Losses: what was dropped because nobody read it or a disk was full, counted for the metrics.

A service goes on without its log and its traces. It must not do so in silence: what is lost is
counted here, and a warning says so once in a while, not once for each loss.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Literal, get_args

from .ids import log_extra

WARNING_PERIOD_S = 60.0
"""Shortest time between two warnings of the same failure, in seconds."""

Kind = Literal["log", "capture", "progress"]
"""Log lines, recorded exchanges, reports of the live view."""

KINDS: tuple[Kind, ...] = get_args(Kind)


class Losses:
    """Counts of what was dropped, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[Kind] = Counter()

    def add(self, kind: Kind, count: int = 1) -> None:
        with self._lock:
            self._counts[kind] += count

    def take(self) -> Counter[Kind]:
        """The counts since the last call."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
        return counts


LOSSES = Losses()
"""Those of this process."""


class Outage:
    """A failure that repeats: one warning in WARNING_PERIOD_S, and one when it is over."""

    def __init__(
        self,
        log: logging.Logger,
        kind: Kind,
        noun: str,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`noun` is what is lost, in the plural."""
        self._log = log
        self._kind: Kind = kind
        self._noun = noun
        self._now = now
        self._lock = threading.Lock()
        self._next_at = 0.0  # no warning before
        self._reason = ""
        self._announced = False
        self._lost = 0  # since the last warning
        self._total = 0  # since the beginning of the outage

    def failed(
        self, what: str, reason: str, error: BaseException | None = None, *, request_id: str = ""
    ) -> None:
        """`what` was lost; another reason than the last one is worth another warning.

        `request_id` is that of the request that it belongs to, if to one.
        """
        LOSSES.add(self._kind)
        with self._lock:
            self._lost += 1
            self._total += 1
            if self._now() < self._next_at and reason == self._reason:
                return
            more, self._lost = self._lost - 1, 0
            self._next_at = self._now() + WARNING_PERIOD_S
            self._reason = reason
            self._announced = True
        others = f", nor were {more} other {self._noun}" if more else ""
        text = "trace: %s is not written: %s%s"
        extra = log_extra(request_id, in_text=True)
        self._log.warning(text, what, reason, others, exc_info=error, extra=extra)

    def worked(self) -> None:
        """One was written."""
        if not self._total:
            return
        with self._lock:
            announced, total = self._announced, self._total
            if announced:
                self._announced = False
                self._lost = self._total = 0
        if announced:
            self._log.warning("trace: %s are written again; %d were lost", self._noun, total)
