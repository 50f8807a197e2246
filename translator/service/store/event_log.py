"""The log of a response in the background: nothing of it is sent that is not stored.

    frames ──► EventLog ──► LogWriter ──► database ──► followers        all runs in one write

The frames of all runs are written every FLUSH_S, the first ones at once; then those that follow a
run of this process take them from its memory, as long as it has them. So any process can send any
part of the events again, byte for byte, and no client has seen one that a crash could take back.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Literal

from translator.service.database.errors import Unavailable

from .runs import Events

log = logging.getLogger(__name__)

FLUSH_S = 0.1
"""How often events are written, in seconds."""

FLUSH_BYTES = 64 * 1024
"""So many of one run are written at once."""

MAX_WAITING_BYTES = 1024 * 1024
"""No more is read for a run while so many bytes of it wait to be written."""

RECENT_BYTES = 256 * 1024
"""How much of what was written is held of each run, for those that follow it."""

Loss = Literal["lost", "not_stored"]


class EventLog:
    """The events of one run, between its beginning and its last write."""

    __slots__ = (
        *("_hurry", "_max_bytes", "_news", "_recent", "_recent_bytes", "_size", "_waiting"),
        *("_waiting_bytes", "_written", "broken", "closing", "flying", "next"),
    )

    def __init__(self, first: Events, max_bytes: int, hurry: Callable[[bool], None]) -> None:
        """`first` is written; `hurry(True)` is called when much waits, else `hurry(False)`."""
        self._max_bytes = max_bytes
        self._hurry = hurry
        self._size = len(first.body)
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._recent = deque([first])
        self._recent_bytes = len(first.body)
        self._written = first.last
        self._news = asyncio.Event()
        self.next = first.last + 1
        """The number of the next event."""
        self.flying: Events | None = None
        """What is being written."""
        self.closing = False
        """Whether the rest is for the last write."""
        self.broken = False
        """Whether events were lost."""

    def add(self, frames: bytes, count: int) -> bool:
        """Take frames of some events; False where they are more than a log may hold."""
        if self._size + len(frames) > self._max_bytes:
            return False
        self._waiting.append(frames)
        self._size += len(frames)
        self._waiting_bytes += len(frames)
        self.next += count
        self._hurry(self._waiting_bytes >= FLUSH_BYTES)
        return True

    async def room(self) -> None:
        """Wait while too much waits."""
        while self._waiting_bytes > MAX_WAITING_BYTES:
            await self.news()

    async def news(self) -> None:
        """Wait until something was written, or nothing will be any more."""
        await self._news.wait()

    def after(self, number: int) -> Sequence[Events] | None:
        """What was written after an event; None where not all of that is held."""
        if number >= self._written:
            return ()
        if self._recent[0].first > number + 1:
            return None
        return [one for one in self._recent if one.last > number]

    # --- by the writer ----------------------------------------------------------------------------

    @property
    def waits(self) -> bool:
        """Whether there is something to write."""
        return bool(self._waiting) and not self.closing

    def take(self) -> Events:
        """All that waits, which is being written from now on."""
        events = self.flying = self._with()
        self._waiting, self._waiting_bytes = [], 0
        return events

    def _with(self, frames: bytes = b"", count: int = 0) -> Events:
        body = b"".join([*self._waiting, frames])
        return Events(self._written + 1, self.next + count - 1, body)

    async def settle(self) -> None:
        """Leave what waits to the last write; returns when nothing is being written."""
        self.closing = True
        while self.flying is not None:
            await self.news()

    def last(self, frames: bytes, count: int) -> Events:
        """All that is not written, and the last frames: for the write of the end."""
        return self._with(frames, count)

    def written(self, events: Events) -> None:
        """Events are on the disk."""
        self.flying = None
        self._written = events.last
        self._recent.append(events)
        self._recent_bytes += len(events.body)
        while len(self._recent) > 1 and self._recent_bytes > RECENT_BYTES:
            self._recent_bytes -= len(self._recent.popleft().body)
        self.tell()

    def failed(self) -> None:
        """What was being written is not stored, and neither is what waits: nobody has seen it."""
        self.flying, self.broken = None, True
        self._waiting, self._waiting_bytes = [], 0
        self.next = self._written + 1
        self.tell()

    def tell(self) -> None:
        """Wake all who wait for news."""
        self._news.set()
        self._news = asyncio.Event()


class LogWriter:
    """Writes the events of all runs of a process."""

    def __init__(
        self,
        write: Callable[[Sequence[tuple[int, Events]]], Awaitable[set[int]]],
        lose: Callable[[int, Loss], None],
        *,
        max_bytes: int,
    ) -> None:
        """`write(events)` returns the keys of those runs that are still our own.

        It raises Unavailable, and TimeoutError where it is not known what became of it.
        `lose(n, why)` stops a run. `max_bytes` bounds the events of each.
        """
        self._write = write
        self._lose = lose
        self._max_bytes = max_bytes
        self._logs: dict[int, EventLog] = {}
        self._dirty = asyncio.Event()
        self._full = asyncio.Event()

    def begin(self, n: int, first: Events) -> EventLog:
        """The log of a run, whose first events are written."""
        found = self._logs[n] = EventLog(first, self._max_bytes, self._hurry)
        return found

    def end(self, n: int) -> None:
        """Nothing of a run is written any more."""
        found = self._logs.pop(n, None)
        if found is not None:
            found.tell()

    def _hurry(self, much: bool) -> None:
        self._dirty.set()
        if much:
            self._full.set()

    async def serve(self) -> None:
        """Write what there is, for as long as the process lives."""
        now = asyncio.get_running_loop().time
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            self._full.clear()
            until = now() + FLUSH_S
            some = [(n, one) for n, one in self._logs.items() if one.waits]
            if some:
                await self._flush(some)
            with suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await self._full.wait()

    async def _flush(self, some: Sequence[tuple[int, EventLog]]) -> None:
        taken = [(n, one, one.take()) for n, one in some]
        loss: Loss = "not_stored"
        own: set[int] = set()
        try:
            own = await self._write([(n, events) for n, _, events in taken])
            loss = "lost"
        except TimeoutError:
            loss = "lost"
        except Unavailable as error:
            log.debug("store: events were not written: %s", error)
        except Exception:
            log.exception("internal error")
        for n, one, events in taken:
            if n in own:
                one.written(events)
            else:
                self._lose(n, loss)
                one.failed()
