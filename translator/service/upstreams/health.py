"""Health checks: the readiness of the service and its upstreams, for `GET /readyz`.

    ready = the settings are loaded, the service is not shutting down, and at least one upstream is
            reachable ;

An upstream is reachable when it answered a recent call, with whatever status. Where there was none,
or the last one failed, a probe is sent: a `GET` of its base URL without a key, which costs no
tokens and no quota. An answer of a proxy that reaches no upstream (502, 504) counts as none. The
result is kept for a while, so the upstream does not get a probe for each health check.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from translator.service.config.settings import Upstream

CALL_COUNTS_S = 30.0
"""How long a call that was answered shows that its upstream is reachable."""

PROBE_COUNTS_S = 5.0
"""How long the result of a probe is kept; at most one is sent in this time."""

PROBE_TIMEOUT_S = 2.0
"""Longest wait for the answer to a probe. Kubernetes itself waits for one second by default."""

NO_UPSTREAM = frozenset({502, 504})
"""Statuses by which a proxy says that the upstream behind it does not answer."""

Status = Literal["ready", "not_ready", "draining"]
State = Literal["reachable", "unreachable"]
StoreState = Literal["reachable", "unreachable", "failing"]
Probe = Callable[[Upstream], Awaitable[int | None]]
"""Sends a probe; the status of its answer, None without one."""


class Readiness(Struct, frozen=True):
    """The body of `GET /readyz`."""

    status: Status
    upstreams: dict[str, State]
    store: StoreState | UnsetType = UNSET
    """That of the store, where the settings have one; `failing`: it can be read, not written."""

    hints: dict[str, str] | UnsetType = UNSET
    """What may be wrong with the settings of an upstream, by its name."""

    accounts: Literal["ready", "failing"] | UnsetType = UNSET
    """Whether requests can be held and settled, where the settings have accounts."""


class _Observed:
    """The latest calls and probes of one upstream; times by the monotonic clock, in seconds."""

    def __init__(self) -> None:
        self.answered_at = float("-inf")
        self.failed_at = float("-inf")
        self.probed_at = float("-inf")
        self.probe_failed = False
        self.probing = asyncio.Lock()


class UpstreamHealth:
    """The state of each upstream, from its latest calls and from probes."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.hints: dict[str, str] = {}
        """As in Readiness."""

        self._observed: dict[str, _Observed] = {}

    def answered(self, upstream: str, status: int) -> None:
        """A call was answered."""
        if status in NO_UPSTREAM:
            self.failed(upstream)
        else:
            self._of(upstream).answered_at = self._now()
        if self.hints and status < 300:
            self.hints.pop(upstream, None)  # it was wrong, or has been mended

    def failed(self, upstream: str) -> None:
        """A call got no answer."""
        self._of(upstream).failed_at = self._now()

    async def readiness(self, upstreams: Iterable[Upstream], probe: Probe) -> Readiness:
        """The state of each upstream, and of the whole."""
        listed = list(upstreams)
        states = await asyncio.gather(*(self._state(upstream, probe) for upstream in listed))
        names = [upstream.name for upstream in listed]
        by_name: dict[str, State] = dict(zip(names, states, strict=True))
        hints = {name: self.hints[name] for name in names if name in self.hints}
        status: Status = "ready" if "reachable" in states else "not_ready"
        return Readiness(status, by_name, hints=hints or UNSET)

    async def _state(self, upstream: Upstream, probe: Probe) -> State:
        observed = self._of(upstream.name)
        async with observed.probing:  # concurrent checks share the result of one probe
            now = self._now()
            recent = now - observed.answered_at < CALL_COUNTS_S
            if recent and observed.answered_at > observed.failed_at:
                return "reachable"
            if now - observed.probed_at >= PROBE_COUNTS_S:
                status = await probe(upstream)
                observed.probe_failed = status is None or status in NO_UPSTREAM
                observed.probed_at = self._now()
            return "unreachable" if observed.probe_failed else "reachable"

    def _of(self, upstream: str) -> _Observed:
        observed = self._observed.get(upstream)
        if observed is None:
            observed = self._observed[upstream] = _Observed()
        return observed
