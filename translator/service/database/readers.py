"""The readers: two threads with a connection each, and a queue."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from translator.service.base.periodic_warning import PeriodicWarning

from .connection import Connection, reading
from .errors import Unavailable, is_damaged, reason, remedy
from .meter import DatabaseMeter

T = TypeVar("T")

log = logging.getLogger(__name__)

COUNT = 2

MAX_WAITING = 1000
"""Most reads that wait."""

CLOSING_S = 1.0
"""How long `close` waits for the reads that run, in seconds; nobody waits for their results."""


class _Read:
    """A read, and the future of its result."""

    def __init__(self, work: Callable[[Connection], Any], until: float) -> None:
        self.work = work
        self.until = until  # by the monotonic clock; then nobody waits for it
        self._loop = asyncio.get_running_loop()
        self.result: asyncio.Future[Any] = self._loop.create_future()

    def settle(self, value: object, error: Exception | None = None) -> None:
        def once() -> None:
            if self.result.done():
                return
            if error is not None:
                self.result.set_exception(error)
            else:
                self.result.set_result(value)

        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(once)


class Readers:
    """Threads that read. What is read is one state of the database."""

    def __init__(
        self, name: str, open_connection: Callable[[], Connection], meter: DatabaseMeter
    ) -> None:
        self._meter = meter
        self._name = name
        self._open = open_connection
        self._queue: queue.SimpleQueue[_Read | None] = queue.SimpleQueue()
        self._warn = PeriodicWarning(log)
        self._threads = [
            threading.Thread(target=self._run, name=f"{name} reader", daemon=True)
            for _ in range(COUNT)
        ]
        for thread in self._threads:
            thread.start()

    async def read(self, work: Callable[[Connection], T], wait_s: float) -> T:
        """What `work` reads; raises Unavailable, also where it takes longer than `wait_s`."""
        if self._queue.qsize() >= MAX_WAITING:
            raise Unavailable("too many reads wait")
        read = _Read(work, time.monotonic() + wait_s)
        self._queue.put(read)
        try:
            async with asyncio.timeout(wait_s):
                result: T = await read.result
        except TimeoutError:
            self._warn("%s: the database did not answer within %g s", self._name, wait_s)
            raise Unavailable(f"the database did not answer within {wait_s:g} s") from None
        return result

    def close(self) -> None:
        """End the threads; waits CLOSING_S at most."""
        for _ in self._threads:
            self._queue.put(None)
        until = time.monotonic() + CLOSING_S
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    # --- in the threads -------------------------------------------------------------------------

    def _run(self) -> None:
        connection: Connection | None = None
        while (read := self._queue.get()) is not None:
            if time.monotonic() > read.until:
                continue
            connection = self._process(read, connection)
            del read  # which holds its result
        if connection is not None:
            connection.close()

    def _process(self, read: _Read, connection: Connection | None) -> Connection | None:
        """Settle a read; returns the connection for the next one, None where it was lost."""
        was_open = connection is not None
        began = time.monotonic()
        try:
            connection = connection or self._open()
            with reading(connection):
                result = read.work(connection)
        except Exception as error:
            what = remedy(error, lost=connection is not None and connection.lost)
            if connection is not None and (what == "reconnect" or is_damaged(error)):
                connection.close()
                connection = None
                if was_open and what == "reconnect":  # the server may have been restarted meanwhile
                    return self._process(read, None)
            self._meter.failed("read")
            self._warn("%s: a read failed: %s", self._name, reason(error))
            if what == "none":
                log.debug("%s: a read failed", self._name, exc_info=error)
            read.settle(None, Unavailable(reason(error)))
        else:
            self._meter.read(time.monotonic() - began)
            read.settle(result)
        return connection
