"""Responses in the background: those of this process, and how it shows the others that it lives.

    begin ──► Run ──► end         the row is on the disk before its client is answered
               │
               └── renewed, three times in each lease, by one statement for all runs
               └── stopped: cancelled, here or by another process; no longer our own; at shutdown

A process that could not renew its leases stops its runs itself, before others may end them. What
others have left behind is ended by the reaper of any process, and by whoever reads it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Literal, TypeVar

from msgspec import Raw, Struct

from translator.service.base.errors import LimitReached, StoreUnavailable
from translator.service.base.ids import NewId
from translator.service.config.store import StoreSection
from translator.service.database.connection import Connection
from translator.service.database.database import Database
from translator.service.database.errors import Unavailable
from translator.wire.items import OutputItem
from translator.wire.responses import Response

from . import run_statements as sql
from . import runs
from .durations import DAY_S, LATE_S
from .event_log import EventLog, LogWriter, Loss
from .keep import Draft
from .meter import StoreMeter
from .places import Place
from .removal import undo
from .runs import Beginning, Ending, Events, Lease, TooManyRuns

log = logging.getLogger(__name__)

WATCH_S = 0.5
"""How often it is looked whether another process wants a response cancelled, in seconds."""

CANCEL_S = 2.0
"""How long a process may take to cancel its response, before another one does, in seconds."""

POLL_S = 0.1
"""How often it is looked whether it has, in seconds."""

CLOSING_S = 5.0
"""How long `close` waits for the ends of runs, in seconds."""

RETRY_S = 10.0
"""When a client that has too many responses in the background may try again, in seconds."""

T = TypeVar("T")

StopReason = Literal["cancelled", "lost", "not_stored", "restart"]
"""Why a run does not come to its own end; one that is lost writes nothing any more."""

EndResult = Literal["stored", "lost", "failed"]


class Found(Struct, frozen=True):
    """A response that is found; `n` is its key.

    `dead`: its process is gone, and nobody has ended it yet. `too_old`: its events are.
    """

    n: int
    status: str
    background: bool
    streamed: bool
    dead: bool
    too_old: bool

    @property
    def running(self) -> bool:
        return self.status in ("queued", "in_progress")


def find(connection: Connection, owner: str, response_id: str, keep_s: float) -> Found | None:
    """The state of a response; `keep_s` is how long its events are streamed after its end."""
    values = {"owner": owner, "id": response_id, "keep_s": keep_s}
    rows = connection.execute(sql.STATE, values)
    if not rows:
        return None
    [(n, status, background, streamed, dead, too_old)] = rows
    return Found(n, status, bool(background), bool(streamed), bool(dead), bool(too_old))


class Run:
    """A response that this process produces in the background."""

    __slots__ = (
        *("draft", "ended", "ending", "log", "n", "place", "renewed_at", "stopped", "task"),
        "temporary",
    )

    def __init__(
        self,
        n: int,
        draft: Draft,
        place: Place | None,
        renewed_at: float,
        log_: EventLog | None,
        *,
        temporary: bool,
    ) -> None:
        """`log_` takes its events, where it is streamed."""
        self.n = n
        self.draft = draft
        self.place = place
        self.log = log_
        self.temporary = temporary
        self.renewed_at = renewed_at
        """When its lease began, by the loop's clock, at the earliest."""
        self.stopped: StopReason | None = None
        self.ending = False
        """Whether its end is being stored: nothing stops it any more."""
        self.ended = asyncio.Event()
        """Set when nothing of it is written any more."""
        self.task: asyncio.Task[None] | None = None
        """Produces it."""

    def stop(self, reason: StopReason) -> None:
        """Stop producing it; too late where its end is being stored."""
        if self.ending or self.stopped is not None:
            return
        self.stopped = reason
        if self.task is not None:
            self.task.cancel()


class BackgroundRuns:
    """The runs of a process. `serve` must go on while there are any; `close` ends them."""

    def __init__(
        self, database: Database, limits: StoreSection, new_id: NewId, meter: StoreMeter
    ) -> None:
        self._meter = meter
        self._database = database
        self._limits = limits
        self._new_id = new_id
        self._lease = Lease(new_id("lease_"), limits.lease_s)
        self._runs: dict[int, Run] = {}
        self._beginning = 0
        self._closing = False
        self._some = asyncio.Event()
        self._logs = LogWriter(self._write_events, self._lose, max_bytes=limits.max_events_bytes)

    def __len__(self) -> int:
        return len(self._runs)

    def run_of(self, n: int) -> Run | None:
        """The run of a response that this process produces."""
        return self._runs.get(n)

    # --- one run --------------------------------------------------------------------------------

    async def begin(
        self, draft: Draft, place: Place | None, events: Events | None, *, temporary: bool
    ) -> Run:
        """A run whose rows are on the disk; raises LimitReached and StoreUnavailable.

        `place` is that in its conversation; `events` are its first ones, where it is streamed.
        """
        limit = self._limits.max_background
        if len(self._runs) + self._beginning >= limit:
            raise _too_many(limit)
        now = asyncio.get_running_loop().time
        began = now()
        beginning = Beginning(draft, place, temporary, events, limit)
        owner, response_id = draft.owner, draft.response.id
        self._beginning += 1
        try:
            n = await self._written(
                lambda connection: runs.begin(connection, self._lease, beginning, self._new_id),
                size=sum(map(_size, draft.source)) + (0 if events is None else len(events.body)),
                undo=lambda connection: undo(connection, owner, response_id),
            )
        finally:
            self._beginning -= 1
        if isinstance(n, TooManyRuns):
            raise _too_many(limit)
        log_ = None if events is None else self._logs.begin(n, events)
        run = Run(n, draft, place, began, log_, temporary=temporary)
        self._runs[n] = run
        self._meter.running(len(self._runs))
        self._some.set()
        if self._closing:
            run.stop("restart")
        return run

    async def _written(
        self,
        work: Callable[[Connection], int | TooManyRuns],
        *,
        size: int,
        undo: Callable[[Connection], None],
    ) -> int | TooManyRuns:
        wait_s = self._limits.write_wait_s
        try:
            write = self._database.write(work, size=size, keep_trying_s=wait_s, undo=undo)
            try:
                return await write.done(wait_s)
            except TimeoutError:
                if not await write.give_up(wait_s):
                    return await write.done(wait_s)
                raise StoreUnavailable from None
        except (Unavailable, TimeoutError):
            raise StoreUnavailable from None

    def started(self, run: Run) -> None:
        """Its work begins: it is no longer queued."""
        values = {"n": run.n, "token": self._lease.token}
        with suppress(Unavailable):
            self._database.write(
                lambda connection: connection.change(sql.START, values),
                size=0,
                keep_trying_s=self._lease.seconds,
                durable=False,
            )

    async def settle(self, run: Run) -> None:
        """Prepare for the end of a run: nothing stops it from now on."""
        run.ending = True
        task = asyncio.current_task()
        if task is not None and task.cancelling():  # by `stop`, and it may be on its way still
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
            task.uncancel()
        if run.log is not None:
            await run.log.settle()

    async def end(
        self,
        run: Run,
        response: Response,
        kept_output: Sequence[OutputItem],
        frames: bytes,
        count: int,
        *,
        size: int,
    ) -> EndResult:
        """Store the end of a response, and what waits of its events; `frames` are the last ones.

        `settle` comes before. "failed": nothing is stored, and another end may be. `size` is that
        of the response, in bytes.
        """
        events = None if run.log is None else run.log.last(frames, count)
        keep_s = self._limits.retention_days * DAY_S
        if run.temporary:
            keep_s = self._limits.background_ttl_s
        ending = Ending(response, kept_output, events, keep_s)
        owner, n, place, temporary = run.draft.owner, run.n, run.place, run.temporary
        try:
            write = self._database.write(
                lambda connection: runs.end(
                    connection,
                    self._lease,
                    owner,
                    n,
                    ending,
                    self._new_id,
                    place=place,
                    temporary=temporary,
                ),
                size=size + (0 if events is None else len(events.body)),
                keep_trying_s=LATE_S,
            )
            own = await write.done(LATE_S + 1)
        except TimeoutError:
            return "lost"
        except Unavailable:
            return "failed"
        if own and run.log is not None and events is not None:
            run.log.written(events)
        return "stored" if own else "lost"

    def finished(self, run: Run) -> None:
        """Nothing of a run is written any more."""
        self._runs.pop(run.n, None)
        self._meter.running(len(self._runs))
        if run.stopped == "lost":
            self._meter.lease_lost()
        run.task = None
        run.ended.set()
        self._logs.end(run.n)

    # --- those of all processes -------------------------------------------------------------------

    async def cancel(self, found: Found) -> None:
        """Cancel a response that runs, here or elsewhere; raises StoreUnavailable.

        It may come to its own end meanwhile.
        """
        run = self._runs.get(found.n)
        loop = asyncio.get_running_loop()
        until = loop.time() + CANCEL_S
        if run is not None:
            run.stop("cancelled")
            with suppress(TimeoutError):
                async with asyncio.timeout(CANCEL_S):
                    await run.ended.wait()
                    return
        else:
            values = {"n": found.n}
            await self._write(lambda connection: connection.change(sql.ASK_CANCEL, values))
            while loop.time() < until:
                await asyncio.sleep(POLL_S)
                if await self._ended(found.n):
                    return
        ttl_s = self._limits.background_ttl_s
        await self._write(lambda connection: runs.cancel(connection, found.n, ttl_s))

    async def _ended(self, n: int) -> bool:
        rows = await self._read(lambda connection: connection.execute(sql.FOLLOWED, {"n": n}))
        return not rows or rows[0][0] not in ("queued", "in_progress")

    async def reap(self, n: int) -> None:
        """End a response whose process is gone; raises StoreUnavailable."""
        ttl_s = self._limits.background_ttl_s
        await self._write(lambda connection: runs.reap(connection, n, ttl_s))

    async def _write(self, work: Callable[[Connection], object]) -> None:
        wait_s = self._limits.write_wait_s
        try:
            await self._database.write(work, size=0, keep_trying_s=wait_s).done(wait_s)
        except (Unavailable, TimeoutError):
            raise StoreUnavailable from None

    async def _read(self, work: Callable[[Connection], T]) -> T:
        try:
            return await self._database.read(work)
        except Unavailable:
            raise StoreUnavailable from None

    # --- while the process lives ------------------------------------------------------------------

    async def serve(self) -> None:
        """Renew the leases, write the events, and end what others have left behind."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._repeat(self._lease.seconds / 3, self._renew))
            tasks.create_task(self._repeat(min(WATCH_S, self._lease.seconds / 12), self._watch))
            tasks.create_task(self._repeat(self._lease.seconds / 2, self._reap, idle=True))
            tasks.create_task(self._logs.serve())

    async def _repeat(
        self, pause_s: float, work: Callable[[], Awaitable[None]], *, idle: bool = False
    ) -> None:
        """Repeat work while there are runs; `idle`: while there are none, too, after a pause."""
        while True:
            if idle:
                await asyncio.sleep(pause_s)
            elif not self._runs:
                self._some.clear()
                await self._some.wait()
            try:
                await work()
            except (Unavailable, TimeoutError) as error:
                log.debug("store: %s", error)
            except Exception:
                log.exception("internal error")
            if not idle:
                await asyncio.sleep(pause_s)

    async def _renew(self) -> None:
        began = asyncio.get_running_loop().time()
        keys = list(self._runs)
        wait_s = self._lease.seconds / 3
        write = self._database.write(
            lambda connection: runs.renew(connection, self._lease, keys),
            size=0,
            keep_trying_s=wait_s,
            durable=False,
        )
        own = await write.done(wait_s)
        for n in keys:
            run = self._runs.get(n)
            if run is not None and n in own:
                run.renewed_at = began
            elif run is not None:
                run.stop("lost")

    async def _watch(self) -> None:
        overdue = asyncio.get_running_loop().time() - self._lease.seconds * 5 / 6
        for run in list(self._runs.values()):
            if run.renewed_at < overdue:
                run.stop("lost")
        keys = list(self._runs)
        asked = await self._database.read(lambda connection: runs.cancels_asked(connection, keys))
        for run in [one for n, one in self._runs.items() if n in asked]:
            run.stop("cancelled")

    async def _reap(self) -> None:
        dead = await self._database.read(
            lambda connection: connection.execute(sql.DEAD, {"limit": 1})
        )
        if dead:
            ttl_s = self._limits.background_ttl_s
            wait_s = self._limits.write_wait_s
            count = await self._database.write(
                lambda connection: runs.reap_all(connection, ttl_s), size=0, keep_trying_s=wait_s
            ).done(wait_s)
            log.warning("store: %d responses ended with the processes that produced them", count)

    async def _write_events(self, some: Sequence[tuple[int, Events]]) -> set[int]:
        wait_s = self._lease.seconds
        write = self._database.write(
            lambda connection: runs.append(connection, self._lease, some),
            size=sum(len(events.body) for _, events in some),
            keep_trying_s=wait_s,
        )
        return await write.done(wait_s)

    def _lose(self, n: int, why: Loss) -> None:
        if (run := self._runs.get(n)) is not None:
            run.stop(why)

    async def close(self) -> None:
        """Stop all runs, and wait for their last writes, CLOSING_S at most."""
        self._closing = True
        tasks = [run.task for run in self._runs.values() if run.task is not None]
        for run in list(self._runs.values()):
            run.stop("restart")
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=CLOSING_S)
        for task in late:
            task.cancel()
        if late:
            log.warning("store: shutting down with %d responses whose end is not stored", len(late))
            await asyncio.wait(late)


def _too_many(limit: int) -> LimitReached:
    return LimitReached(
        f"{limit} responses are being produced in the background already", "requests", RETRY_S
    )


def _size(one: Raw | int) -> int:
    return len(one) if isinstance(one, Raw) else 0
