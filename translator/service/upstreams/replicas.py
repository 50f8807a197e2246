"""Several addresses of one upstream: which one is asked, and which is left out for a while.

    well, { failure }, out for a while, one request tries it, well | out again

The first address that is well is asked, so that the caches of a replica stay of use. An address
that fails several times in a row is left out, and never the last one: a service that refuses by
itself helps nobody.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence

log = logging.getLogger(__name__)

OUT_OF_ORDER = frozenset({502, 503, 504})
"""The statuses by which a proxy or a server says that there is nobody to answer."""

HANGS_S = 30.0
"""Whoever gives up later than this, and has not even a status, has asked an address that hangs. Its
own timeout may be many minutes, which no client waits for."""


class Endpoint:
    """One address, and how it has done lately."""

    def __init__(
        self, url: str, *, failures: int, out_s: float, now: Callable[[], float], alone: bool
    ) -> None:
        """It is left out for `out_s` seconds after so many `failures` in a row, unless `alone`."""
        self.url = url
        self.now = now
        self._limit = failures
        self._out_s = out_s
        self._alone = alone
        self._failures = 0
        self._out_until = -math.inf
        self._trial: Call | None = None

    @property
    def out_for(self) -> float:
        """How long it is still left out, in seconds; 0 when it may be asked."""
        if self._failures < self._limit:
            return 0
        if self._trial is not None:
            return self._out_s
        return max(0, self._out_until - self.now())

    def asked(self) -> Call:
        """A request goes there."""
        call = Call(self)
        if self._failures >= self._limit and self._trial is None:
            self._trial = call
        return call

    def over(self, call: Call, well: bool | None) -> None:
        """A request has come to its end: the address is `well`, or not; None: who knows."""
        if call is self._trial:
            self._trial = None
        if well is None:
            return
        if well:
            if self._failures >= self._limit and not self._alone:
                log.warning("%s answers again", self.url)
            self._failures = 0
            return
        self._failures += 1
        if self._failures >= self._limit and not self._alone:
            self._out_until = self.now() + self._out_s
            log.warning("%s is left out for %gs: it has failed", self.url, self._out_s)


class Call:
    """A request to an address; one of its methods tells how it ended."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._began = endpoint.now()

    def answered(self, status: int) -> None:
        self._endpoint.over(self, status not in OUT_OF_ORDER)

    def failed(self) -> None:
        self._endpoint.over(self, well=False)

    def left(self) -> None:
        """Nobody has waited for its answer."""
        waited = self._endpoint.now() - self._began
        self._endpoint.over(self, well=False if waited > HANGS_S else None)


class Endpoints:
    """The addresses of one upstream, in the order of preference."""

    def __init__(
        self, urls: Sequence[str], *, failures: int, out_s: float, now: Callable[[], float]
    ) -> None:
        alone = len(urls) == 1
        self._all = [
            Endpoint(url, failures=failures, out_s=out_s, now=now, alone=alone) for url in urls
        ]

    def choose(self, tried: Sequence[Endpoint]) -> Endpoint:
        """The one to ask, for a request that has `tried` some already."""
        return min(self._all, key=lambda one: (one.out_for, tried.count(one)))

    def others(self, tried: Sequence[Endpoint]) -> bool:
        """Whether there is one that is well and has not been tried."""
        return any(one.out_for == 0 and one not in tried for one in self._all)
