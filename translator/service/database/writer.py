"""The writer: one thread that commits what waits, many writes in one transaction.

A commit takes as long as the disk does; under load one of them serves all that came meanwhile. If
a transaction fails, each of its writes is tried alone, so that one cannot harm the others; if the
database is away, they wait, up to their deadlines.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from translator.service.base.periodic_warning import PeriodicWarning

from .connection import Connection, writing
from .errors import Unavailable, is_damaged, is_full, reason, remedy
from .meter import DatabaseMeter
from .writes import Write

T = TypeVar("T")

log = logging.getLogger(__name__)

BATCH_WRITES = 64
BATCH_BYTES = 8 * 1024 * 1024
"""Most writes, and most of their bytes, in one transaction: more would make all of them late."""

MAX_WAITING = 1000
"""Most writes that wait."""

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0
"""Pauses between attempts, which double, in seconds."""

MAKING_SPACE_S = 2.0
SPACE_EVERY_S = 10.0
"""How long space is made in a database that is full, and how often, in seconds."""

CLOSING_S = 5.0
"""How long `close` waits for the last writes, in seconds."""

STUCK_S = 3.0
"""The same since the latest commit: a database that is away must not hold up a shutdown."""


class _GivenUp(Exception):
    """A write of the transaction was given up while it ran: begin again without it."""


class SpaceMaker:
    """Deletes what is not needed when a database is full, and does so once in a while."""

    def __init__(self, work: Callable[[Connection], int]) -> None:
        self._work = work
        self._next_at = 0.0

    def make(self, connection: Connection) -> None:
        """Do the work until nothing is left to do, or it fails; does not raise."""
        now = time.monotonic()
        if now < self._next_at:
            return
        self._next_at = now + SPACE_EVERY_S
        with suppress(Exception):  # it is full, after all
            while time.monotonic() - now < MAKING_SPACE_S:
                with writing(connection, durable=False):
                    if not self._work(connection):
                        return


class Writer:
    """The thread, its queue, and its connection."""

    def __init__(
        self,
        name: str,
        open_connection: Callable[[], Connection],
        *,
        max_bytes: int,
        meter: DatabaseMeter,
        make_space: Callable[[Connection], int] | None = None,
    ) -> None:
        """`max_bytes` bounds the queue; `open_connection` is called in the thread.

        `make_space` is called there too, when there is no space left, each time in a transaction of
        its own until it returns 0: it deletes what is not needed.
        """
        self._meter = meter
        self._name = name
        self._open = open_connection
        self._connection: Connection | None = None
        self._max_bytes = max_bytes
        self._space = None if make_space is None else SpaceMaker(make_space)
        self._lock = threading.Lock()
        self._more = threading.Condition(self._lock)
        self._queue: deque[Write[Any]] = deque()
        self._bytes = 0
        self._running: list[Write[Any]] = []  # in the transaction, or about to be
        self._progress_at = 0.0  # the latest commit, or the beginning of `close`
        self._closing = False
        self._resting = False  # nothing waits: what comes next is taken at once
        self._told = (0, 0)  # what the meter knows of it
        self.failing = False
        """Whether the last transaction failed, though its writes may be well."""
        self.full = False
        """Whether there was no space left for the last one that had something to store."""
        self._warn = PeriodicWarning(log)
        self._thread = threading.Thread(target=self._run, name=f"{name} writer", daemon=True)
        self._thread.start()

    @property
    def idle(self) -> bool:
        """Whether no write waits, and none is being written."""
        return not (self._queue or self._running)

    @property
    def waiting(self) -> tuple[int, int]:
        """The number of writes that wait, and their bytes."""
        with self._lock:
            return len(self._queue), self._bytes

    def submit(
        self,
        work: Callable[[Connection], T],
        *,
        size: int,
        keep_trying_s: float,
        durable: bool = True,
        undo: Callable[[Connection], None] | None = None,
        alone: bool = False,
        group: int | None = None,
        needed: bool = False,
    ) -> Write[T]:
        """Queue a write of some `size` in bytes; raises Unavailable where the queue is full.

        `durable`: it is done when it is on the disk, not when it would survive the process alone.
        `undo` reverses the work; it is needed where the write may be given up. `alone`: it gets a
        transaction of its own, `group`: one with writes of the same group alone, which then may
        come before others. `needed`: it is never dropped, though nobody waits for it.
        """
        deadline = time.monotonic() + keep_trying_s
        write = Write(
            work, size=size, durable=durable, deadline=deadline, undo=undo, lock=self._lock
        )
        write.alone, write.group, write.needed = alone, group, needed
        with self._more:
            if self._closing:
                raise Unavailable("the service is shutting down")
            self._make_room(size)
            self._queue.append(write)
            self._bytes += size
            if not self._resting:
                self._tell_waiting()
            self._more.notify()
        return write

    def _make_room(self, size: int) -> None:
        """Drop the oldest writes that nobody waits for; raises Unavailable where too few are."""
        while len(self._queue) >= MAX_WAITING or self._bytes + size > self._max_bytes:
            dropped = next((one for one in self._queue if not (one.awaited or one.needed)), None)
            if dropped is None or size > self._max_bytes:
                raise Unavailable("too much waits to be written")
            self._remove(dropped)
            self._lose(dropped, "too much waits to be written")

    def _tell_waiting(self) -> None:
        """Tell the meter how many wait, unless it knows."""
        waiting = len(self._queue), self._bytes
        if self._told != waiting:
            self._told = waiting
            self._meter.waiting(*waiting)

    def _remove(self, write: Write[Any]) -> None:
        self._queue.remove(write)
        self._bytes -= write.size

    def close(self) -> None:
        """End the thread when the queue is empty, after CLOSING_S at most.

        Sooner where nothing has been committed for STUCK_S. What is not written then is lost.
        """
        with self._more:
            self._closing = True
            self._more.notify()
        began = self._progress_at = time.monotonic()
        while self._thread.is_alive():
            now = time.monotonic()
            left = min(began + CLOSING_S, self._progress_at + STUCK_S) - now
            if left <= 0:
                break
            self._thread.join(left)
        with self._more:
            lost = [one for one in (*self._running, *self._queue) if not one.over]
            for write in lost:
                self._meter.lost()
                write.failed(Unavailable("the service is shutting down"))
            self._more.notify()
        if lost:
            one = len(lost) == 1
            log.warning(
                "%s: shutting down with %d write%s that the database has not taken; %s lost",
                *(self._name, len(lost), "" if one else "s", "it is" if one else "they are"),
            )

    # --- in the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        while self._take():
            try:
                self._process(self._running)
            except Exception:
                log.exception("%s: the writer failed", self._name)
                self._again(self._running, alone=True)
            self._running = []  # so that they are not held while there is nothing to do
        if self._connection is not None:
            self._connection.close()

    def _take(self) -> bool:
        """Take the next batch; waits for one, and is False when there will be none."""
        with self._more:
            while True:
                now = time.monotonic()
                ready: list[Write[Any]] = []
                late: list[Write[Any]] = []
                later = math.inf
                for one in self._queue:
                    if one.over or one.deadline <= now:
                        late.append(one)
                    elif one.not_before <= now:
                        ready.append(one)
                    else:
                        later = min(later, one.not_before)
                if late:
                    self._drop(late)
                if ready:
                    self._running = self._batch(ready)
                    return True
                if self._closing and not self._queue:
                    return False
                self._resting = not self._queue
                self._more.wait(None if self._resting else later - now)
                self._resting = False

    def _batch(self, ready: list[Write[Any]]) -> list[Write[Any]]:
        batch: list[Write[Any]] = []
        size = 0
        group = ready[0].group
        if group is not None and not ready[0].alone:
            ready = [one for one in ready if one.group == group]
        for write in ready:
            full = size + write.size > BATCH_BYTES or len(batch) == BATCH_WRITES
            if batch and (full or write.alone or write.group != group):
                break
            batch.append(write)
            size += write.size
            if write.alone:
                break
        for write in batch:
            self._remove(write)
        self._tell_waiting()
        return batch

    def _drop(self, late: Sequence[Write[Any]]) -> None:
        for write in late:
            self._remove(write)
            if not write.over:
                self._lose(write, "the database did not take it in time")
        self._tell_waiting()

    def _lose(self, write: Write[Any], why: str) -> None:
        self._meter.lost()
        self._warn("%s: a write is lost: %s", self._name, why)
        write.failed(Unavailable(why))

    def _process(self, batch: list[Write[Any]]) -> None:
        try:
            self._transact(batch)
        except _GivenUp:
            with self._lock:
                batch = [one for one in batch if not one.over]
            if batch:
                self._process(batch)
        except Exception as error:
            self._failed(batch, error)

    def _transact(self, batch: list[Write[Any]]) -> None:
        if self._connection is None:
            self._connection = self._open()
        results: list[Any] = []
        began = time.monotonic()
        commits = durable = False
        for write in batch:
            durable |= write.durable
        try:
            with writing(self._connection, durable=durable):
                for write in batch:
                    if write.over:
                        raise _GivenUp
                    results.append(write.work(self._connection))
                with self._lock:
                    for write in batch:
                        if write.over:
                            raise _GivenUp
                    for write in batch:
                        write.commits()
                commits = True
        except _GivenUp:
            raise
        except Exception as error:
            uncertain = commits and self._connection.lost
            with self._lock:
                for write in batch:
                    write.broke(uncertain=uncertain)
            raise error from None
        self.failing = False
        if self.full and any(one.size for one in batch):
            self.full = False
        self._progress_at = time.monotonic()
        self._meter.committed(len(batch), self._progress_at - began)
        done: list[tuple[Write[Any], Any]] = []
        doomed: list[Write[Any]] = []
        with self._lock:
            for write, result in zip(batch, results, strict=True):
                if write.committed():
                    done.append((write, result))
                else:
                    doomed.append(write)
            for write in reversed(doomed):  # before anything else
                self._queue.appendleft(write)
                self._bytes += write.size
        Write.deliver(done)

    def _failed(self, batch: list[Write[Any]], error: Exception) -> None:
        connection = self._connection
        what = remedy(error, lost=connection is not None and connection.lost)
        if connection is not None and (what == "reconnect" or is_damaged(error)):
            connection.close()
            self._connection = None
        self._meter.failed("write")
        self._warn("%s: a transaction failed: %s", self._name, reason(error))
        if what == "none":
            if len(batch) > 1:
                for write in batch:
                    self._process([write])
                return
            log.debug("%s: a write failed", self._name, exc_info=error)
            with self._lock:
                self._meter.lost()
                batch[0].failed(Unavailable(reason(error)))
            return
        self.failing, self.full = True, is_full(error)
        if self._space is not None and connection is not None and self.full:
            self._space.make(connection)
        self._again(batch, alone=what == "again")

    def _again(self, batch: list[Write[Any]], *, alone: bool) -> None:
        """Queue writes once more, after a pause; `alone`: in transactions of their own."""
        now = time.monotonic()
        with self._lock:
            for write in reversed(batch):
                write.broke(uncertain=False)
                write.alone |= alone
                write.attempts += 1
                pause = FIRST_PAUSE_S * 2 ** min(write.attempts - 1, 10)
                write.not_before = now + min(pause, LONGEST_PAUSE_S)
                self._queue.appendleft(write)
                self._bytes += write.size
            self._tell_waiting()
