"""The stream of an upstream's answer, with timeouts for all its waits.

    opening ──► open ──► … ──► end          none of the waits longer than its limit

A reader can stop waiting for the next chunk, send its client a heartbeat, and read on: nothing is
cancelled by that. Opening takes a task, as it is many waits; reading takes none, and no timer per
chunk.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from translator.service.base.drain import Drain
from translator.service.base.errors import Stopping
from translator.service.base.reusable_timeout import ReusableTimeout
from translator.service.base.sinks import ChunkSink
from translator.wire.errors import TranslatorError, UpstreamError, UpstreamTimeout

from .client import Answer

DISCARD_S = 1.0
"""How long the end of a body may take after its last event, so that its connection is reused."""

MAX_DISCARD_BYTES = 64 * 1024


class UpstreamStream:
    """One answer, open as long as the `async with` block lasts.

    Each wait raises UpstreamError where the answer is an error or breaks, UpstreamTimeout where it
    takes too long, Stopping when the service shuts down, and what `stop` was called with.
    """

    __slots__ = (
        *("_answer", "_drain", "_now", "_opening", "_silence_s", "_stopped_by", "_timeout"),
        *("_unopened", "_until", "begin_by", "last_activity", "progress_s"),
    )

    def __init__(
        self,
        opening: Coroutine[Any, Any, Answer],
        drain: Drain,
        *,
        until: float,
        silence_s: float,
        progress_s: float,
        first_s: float | None = None,
    ) -> None:
        """`until` is the deadline of all of it, by the loop's clock; `silence_s` limits each read.

        `first_s` limits the time until the answer begins: keep-alives do not begin it.
        `progress_s` is the limit of an answer that does not grow, which its reader has to enforce.
        """
        self.progress_s = progress_s
        self._now = asyncio.get_running_loop().time
        self._unopened = opening
        self._opening: asyncio.Task[Answer] | None = None
        self._drain = drain
        self._until = until
        self._silence_s = silence_s
        self.begin_by = math.inf if first_s is None else self._now() + first_s
        """When the answer has to have begun; its reader, who sees that it has, sets it to inf."""
        self.last_activity = math.inf
        """When the latest chunk came, by the loop's clock."""
        self._answer: Answer | None = None
        self._timeout = ReusableTimeout()
        self._stopped_by: TranslatorError | None = None

    async def __aenter__(self) -> Self:
        try:
            self._drain.join(self._drained)
        except Stopping:
            self._unopened.close()
            raise
        self._opening = asyncio.create_task(self._unopened)
        del self._unopened  # which would be held as long as the answer
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._drain.leave(self._drained)
        self._timeout.close()
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait((self._opening,))
            # its error, if any, has been raised by `answer` or `next`, or nobody waited
            if not self._opening.cancelled() and self._opening.exception() is None:
                self._answer = self._opening.result()
        if self._answer is not None:
            await self._answer.aclose()

    async def answer(self) -> Answer:
        """The answer, as soon as its headers are there."""
        while self._answer is None:
            await self._open(math.inf)
        return self._answer

    async def next(self, until: float = math.inf, sink: ChunkSink | None = None) -> bytes | None:
        """All that has come since; empty at the end; None when nothing comes until then.

        What the sink can consume is pushed there, and the sink keeps `last_activity` up to date.
        None, too, when it needs its reader.
        """
        if self._answer is None and not await self._open(until):
            return None
        assert self._answer is not None
        while True:
            silent = self.last_activity + self._silence_s
            try:
                with self._timeout.until(min(until, self._until, silent, self.begin_by)):
                    chunk = await self._answer.read(sink)
            except TimeoutError:
                self._check()
                now = self._now()
                if now >= self.last_activity + self._silence_s:
                    raise UpstreamTimeout("The upstream fell silent in mid-answer.") from None
                if now >= until:
                    return None
                continue
            if chunk is None:
                return None  # the sink's chunks are not lost, even if the deadline has passed
            self.touch()
            self._check()
            return chunk

    def touch(self) -> float:
        """Note that a chunk has come; the time, by the loop's clock."""
        self.last_activity = self._now()
        return self.last_activity

    async def _open(self, until: float) -> bool:
        """Wait for the answer's headers; False when they do not come until then."""
        assert self._opening is not None
        try:
            with self._timeout.until(min(until, self._until)):
                await _ended(self._opening)
        except TimeoutError:
            self._check()
            return False
        self._answer, self._opening = self._opening.result(), None
        self.touch()
        return True

    def _check(self) -> None:
        if self._stopped_by is not None:
            raise self._stopped_by
        now = self._now()
        if now >= self._until:
            raise UpstreamTimeout("The upstream's answer took too long.")
        if now >= self.begin_by:
            raise UpstreamTimeout("The upstream has not begun its answer in time.")

    def stop(self, error: TranslatorError) -> None:
        """End the current wait, if there is one, and all that follow, with an error."""
        self._stopped_by = error
        self._until = -math.inf
        self._timeout.end()

    def _drained(self) -> None:
        self.stop(Stopping())

    async def discard_rest(self) -> None:
        """Read what follows the last event, if it is little and comes at once."""
        if self._answer is not None and self._answer.at_end:
            return
        left = MAX_DISCARD_BYTES
        until = self._now() + DISCARD_S
        with suppress(UpstreamError, Stopping):
            while left > 0 and (chunk := await self.next(until)):
                left -= len(chunk)


async def _ended(task: asyncio.Task[Any]) -> None:
    """Wait until a task has ended. Cancelled, it ends the wait and not the task.

    As `asyncio.wait` does, without the sets that it makes for many tasks.
    """
    if task.done():
        return
    waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def wake(_: object) -> None:
        if not waiter.done():
            waiter.set_result(None)

    task.add_done_callback(wake)
    try:
        await waiter
    finally:
        task.remove_done_callback(wake)
