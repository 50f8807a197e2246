"""Whether the service can answer: `GET /readyz`.

    ready = the settings are loaded, the service is not about to end, and at least one upstream is
            reachable ;

An upstream is reachable when it answered a call lately, with whatever status. Where none was sent
lately, or the last one failed, it is asked for nothing in particular (`GET` of its base URL,
without a key), so being asked costs no tokens and no quota. An answer that says that nobody is
there (502, 504) counts as none. What was found is kept for a while, so however often we are asked,
the upstream is not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Literal

from msgspec import Struct

from translator.service.config.settings import Upstream

LATELY_S = 30.0
"""How long a call that was answered stands for its upstream."""

AGAIN_S = 5.0
"""How long what a probe found stands; at most one is sent in this time."""

PROBE_S = 2.0
"""Longest wait for the answer to a probe. Kubernetes waits for one second unless told otherwise."""

NOBODY_THERE = frozenset({502, 504})
"""Statuses by which a proxy says that the upstream behind it does not answer."""

State = Literal["reachable", "unreachable"]
Probe = Callable[[Upstream], Awaitable[int | None]]
"""Sends a probe; the status of its answer, None without one."""


class Readiness(Struct, frozen=True):
    """What `GET /readyz` says."""

    status: Literal["ready", "not_ready", "draining"]
    upstreams: dict[str, State]


class _Seen:
    """What is known of one upstream; times by the monotonic clock, in seconds."""

    def __init__(self) -> None:
        self.heard_at = float("-inf")
        self.failed_at = float("-inf")
        self.probed_at = float("-inf")
        self.probe_failed = False
        self.probing = asyncio.Lock()


class Lately:
    """What became of the latest calls to each upstream."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._seen: dict[str, _Seen] = {}

    def heard(self, upstream: str, status: int) -> None:
        """A call was answered."""
        if status in NOBODY_THERE:
            self.failed(upstream)
        else:
            self._of(upstream).heard_at = self._now()

    def failed(self, upstream: str) -> None:
        """A call got no answer."""
        self._of(upstream).failed_at = self._now()

    async def readiness(self, upstreams: Iterable[Upstream], probe: Probe) -> Readiness:
        """The state of each upstream, and of the whole."""
        asked = list(upstreams)
        states = await asyncio.gather(*(self._state(upstream, probe) for upstream in asked))
        names = [upstream.name for upstream in asked]
        found: dict[str, State] = dict(zip(names, states, strict=True))
        return Readiness("ready" if "reachable" in states else "not_ready", found)

    async def _state(self, upstream: Upstream, probe: Probe) -> State:
        seen = self._of(upstream.name)
        async with seen.probing:  # who comes meanwhile takes what this probe finds
            now = self._now()
            if seen.heard_at > seen.failed_at and now - seen.heard_at < LATELY_S:
                return "reachable"
            if now - seen.probed_at >= AGAIN_S:
                status = await probe(upstream)
                seen.probe_failed = status is None or status in NOBODY_THERE
                seen.probed_at = self._now()
            return "unreachable" if seen.probe_failed else "reachable"

    def _of(self, upstream: str) -> _Seen:
        return self._seen.setdefault(upstream, _Seen())
