"""Replicas: several addresses of one upstream, each behind a circuit breaker.

    closed, { failure }, open for a while, half-open: one request tries it, closed | open

The first replica whose breaker is closed is asked, so that its caches stay warm. The breaker
opens after several failures in a row, but never the only one: a service that refuses by itself
helps no client.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence

log = logging.getLogger(__name__)

OUT_OF_ORDER = frozenset({502, 503, 504})
"""Statuses by which a proxy or a server says that it cannot answer at all."""

HUNG_AFTER_S = 30.0
"""An attempt that is abandoned after this, without even a status, counts as a failure. The address
hangs, and its own timeout may be many minutes, which no client waits for."""


class Replica:
    """One address and its circuit breaker."""

    def __init__(
        self, url: str, *, failures: int, open_s: float, now: Callable[[], float], alone: bool
    ) -> None:
        """Opens for `open_s` seconds after so many `failures` in a row, unless `alone`."""
        self.url = url
        self.now = now
        self._limit = failures
        self._open_s = open_s
        self._alone = alone
        self._failures = 0
        self._open_until = -math.inf
        self._trial: Attempt | None = None

    @property
    def open_for(self) -> float:
        """How long the breaker stays open, in seconds; 0 when a request may be sent."""
        if self._failures < self._limit:
            return 0
        if self._trial is not None:
            return self._open_s
        return max(0, self._open_until - self.now())

    def begin(self) -> Attempt:
        """A request is sent there."""
        attempt = Attempt(self)
        if self._failures >= self._limit and self._trial is None:
            self._trial = attempt
        return attempt

    def ended(self, attempt: Attempt, success: bool | None) -> None:
        """An attempt has ended; `success` is None when that cannot be known."""
        if attempt is self._trial:
            self._trial = None
        if success is None:
            return
        if success:
            if self._failures >= self._limit and not self._alone:
                log.warning("%s answers again", self.url)
            self._failures = 0
            return
        self._failures += 1
        if self._failures >= self._limit and not self._alone:
            self._open_until = self.now() + self._open_s
            log.warning("%s is skipped for %gs after repeated failures", self.url, self._open_s)


class Attempt:
    """A request to a replica; one of these methods must be called when it ends."""

    __slots__ = ("_began", "_replica")

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._began = replica.now()

    def answered(self, status: int) -> None:
        self._replica.ended(self, status not in OUT_OF_ORDER)

    def failed(self) -> None:
        self._replica.ended(self, success=False)

    def not_made(self) -> None:
        """Nothing was sent, for want of something here."""
        self._replica.ended(self, success=None)

    def abandoned(self) -> None:
        """It was cancelled before it was answered."""
        waited = self._replica.now() - self._began
        self._replica.ended(self, success=False if waited > HUNG_AFTER_S else None)


class Replicas:
    """The replicas of one upstream, in order of preference."""

    def __init__(
        self, urls: Sequence[str], *, failures: int, open_s: float, now: Callable[[], float]
    ) -> None:
        alone = len(urls) == 1
        self._all = [
            Replica(url, failures=failures, open_s=open_s, now=now, alone=alone) for url in urls
        ]

    def choose(self, tried: Sequence[Replica]) -> Replica:
        """The replica for the next attempt of a request that has `tried` some."""
        if len(self._all) == 1:
            return self._all[0]
        return min(self._all, key=lambda one: (one.open_for, tried.count(one)))

    def has_untried(self, tried: Sequence[Replica]) -> bool:
        """Whether there is a replica that may be asked and has not been tried."""
        return any(one.open_for == 0 and one not in tried for one in self._all)
