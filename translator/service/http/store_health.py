"""The state of the store, for `GET /readyz`.

    reachable    its database answers, and takes what is written
    unreachable  it does not answer
    failing      it answers, and takes nothing: its disk is full, for example

A read finds that out; its result is kept for PROBE_COUNTS_S, so that the database does not get one
for each health check.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic

from msgspec.structs import replace

from translator.service.base.errors import StoreUnavailable
from translator.service.store.responses import StoredResponses
from translator.service.upstreams.health import PROBE_COUNTS_S, Readiness, StoreState


class StoreHealth:
    """The state of a store. `required`: without it the service is not ready."""

    def __init__(
        self, store: StoredResponses, *, required: bool, now: Callable[[], float] = monotonic
    ) -> None:
        self._store = store
        self._required = required
        self._now = now
        self._answers = False
        self._probed_at = float("-inf")
        self._probing = asyncio.Lock()

    async def added_to(self, checking: Awaitable[Readiness]) -> Readiness:
        """The readiness of the service with that of the store; both are found out at once."""
        found, state = await asyncio.gather(checking, self._state())
        missed = self._required and state != "reachable" and found.status == "ready"
        return replace(found, status="not_ready" if missed else found.status, store=state)

    async def _state(self) -> StoreState:
        async with self._probing:  # concurrent checks share the result of one read
            if self._now() - self._probed_at >= PROBE_COUNTS_S:
                try:
                    await self._store.probe()
                    self._answers = True
                except StoreUnavailable:
                    self._answers = False
                self._probed_at = self._now()
        if not self._answers:
            return "unreachable"
        return "failing" if self._store.failing else "reachable"
