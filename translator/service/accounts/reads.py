"""Questions of keys and of operators' programs: what they ask costs nothing, and is bounded.

Each key has so many in a minute and few at once, in each process. All of them together, and the
pages, have one of the two readers of the database: the look-up of keys has the other.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from translator.service.access.rate_limit import RateLimit
from translator.service.base.errors import LimitReached
from translator.service.database.connection import Connection
from translator.service.database.errors import Unavailable

T = TypeVar("T")

AT_ONCE = 4
"""Most questions of a key that wait for an answer."""

MAX_KEYS = 10_000
"""Most keys whose questions are counted; others were asked longer ago."""


class Reader(Protocol):
    """Who reads: `directory.Accounts`."""

    async def read(self, work: Callable[[Connection], T]) -> T: ...


class Reads:
    """The questions that a process answers; with 0 in a minute, any number."""

    def __init__(self, reader: Reader, per_minute: int, wait_s: float) -> None:
        self._reader = reader
        self._per_minute = per_minute
        self._wait_s = wait_s
        self._one_reader = asyncio.Semaphore(1)
        self._limits: OrderedDict[str, RateLimit] = OrderedDict()
        self._waiting: dict[str, int] = {}

    @contextmanager
    def of(self, key: str) -> Generator[None]:
        """A question of a key, while the context lasts; raises LimitReached."""
        waiting = self._waiting.get(key, 0)
        if waiting >= AT_ONCE:
            sentence = f"{waiting} questions of this key are being answered already"
            raise LimitReached(sentence, "requests", 1.0)
        self._take(key)
        self._waiting[key] = waiting + 1
        try:
            yield
        finally:
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key]

    def _take(self, key: str) -> None:
        if not self._per_minute:
            return
        now = time.monotonic()
        limit = self._limits.get(key)
        if limit is None:
            limit = self._limits[key] = RateLimit("requests", self._per_minute, now)
        self._limits.move_to_end(key)
        while len(self._limits) > MAX_KEYS:
            self._limits.popitem(last=False)
        if wait_s := limit.wait_s(1, now):
            sentence = f"Rate limit reached: {self._per_minute} questions per minute"
            raise LimitReached(sentence, "requests", wait_s)
        limit.take(1, now)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """What `work` reads, after others; raises Unavailable."""
        try:
            async with asyncio.timeout(self._wait_s):
                await self._one_reader.acquire()
        except TimeoutError:
            raise Unavailable("too many questions wait") from None
        try:
            return await self._reader.read(work)
        finally:
            self._one_reader.release()
