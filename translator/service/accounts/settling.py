"""The settlements of a process: from the end of each request until it is committed.

    ended ──► gathered ──► queued ──► committed
                  │           │
                  │           └ tried until it succeeds, however long the database is away
                  └ for GATHER_S at most

A transaction costs more than what it settles, so settlements wait for others, and holds go before
them: no request waits for the bill of another. Where a limit of a key, or a balance that runs
short, may depend on what a request gives back, it is settled at once, and a hold that is refused
all the same is tried again behind all that waits. So whoever sends one request after the other
never finds the hold of the last one in the way.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from functools import partial

from translator.service.database.errors import Unavailable
from translator.service.database.writes import Write

from .meter import AccountMeter
from .settlements import Settled, Settlement

log = logging.getLogger(__name__)

GATHER_S = 0.01
"""How long a settlement waits for others at most, in seconds: a process that is killed meanwhile
loses it, as it would lose one that is queued."""

LATE_S = 3.0
"""After how long a settlement that waits means that the database fails, in seconds."""


class SettlementQueue:
    """What has ended, and is not committed yet."""

    def __init__(
        self,
        write: Callable[[Settlement], Write[Settled | None]],
        meter: AccountMeter,
        sync_soon: Callable[[], None],
    ) -> None:
        """`write` raises Unavailable; `sync_soon` sees to the disk, for what has been queued."""
        self._write = write
        self._meter = meter
        self._sync_soon = sync_soon
        self._gathered: deque[Settlement] = deque()
        self._ended_at: dict[int, float] = {}  # by the ids of their holds, oldest first
        self._timer: asyncio.TimerHandle | None = None
        self._refused = False

    @property
    def failing(self) -> bool:
        """Whether the database does not take them."""
        oldest = next(iter(self._ended_at.values()), None)
        return self._refused or (oldest is not None and time.monotonic() - oldest > LATE_S)

    def __contains__(self, hold_id: int) -> bool:
        """Whether a hold has ended, and is not settled yet."""
        return hold_id in self._ended_at

    def __len__(self) -> int:
        return len(self._ended_at)

    def add(self, end: Settlement) -> None:
        """A request has ended; never waits, never raises."""
        self._ended_at[end.id] = time.monotonic()
        self._gathered.append(end)
        if end.released is None:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHER_S, self._gathered_enough)

    def _gathered_enough(self) -> None:
        self._timer = None
        self.flush()

    def released(self, account: int) -> int:
        """What those that are gathered give back to an account, in pico."""
        if self._refused:  # there may be many
            return 0
        return sum(one.released or 0 for one in self._gathered if one.account == account)

    def flush(self) -> None:
        """Queue what has ended by now; what the database's queue has no room for stays here."""
        if not self._gathered:
            return
        try:
            while self._gathered:
                end = self._gathered[0]
                self._write(end).on_outcome(partial(self._settled, end))
                self._gathered.popleft()
        except Unavailable:
            self._refused = True
        else:
            self._refused = False
        self._sync_soon()

    def _settled(self, end: Settlement, found: Settled | None, error: Unavailable | None) -> None:
        ended_at = self._ended_at.pop(end.id)
        if error is not None:
            log.error("accounts: the request of hold %d could not be settled: %s", end.id, error)
        elif found is not None:
            lag_s = time.monotonic() - ended_at
            self._meter.settled(found.estimated, lag_s, found.overdraft)
            if found.overdraft:
                log.warning("accounts: hold %d was less than its request has cost", end.id)
