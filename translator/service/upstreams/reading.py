"""An upstream's answer, read by a task of its own.

So whoever waits for its next piece can stop waiting, and say to the client that work goes on,
without breaking the read off. One task reads the whole answer: no task, and no timer, per piece.

    opened ──task──► ready ──next──► all that has come since
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, suppress
from types import TracebackType
from typing import Self

from translator.errors import UpstreamError

MAX_AHEAD_BYTES = 256 * 1024
"""How much is read ahead of a client that takes its answer slowly, in bytes (and one piece)."""

DRAIN_S = 1.0
"""How long the end of a body may take after its last event, so that the connection is reusable."""

MAX_DRAIN_BYTES = 64 * 1024


class Reading:
    """The pieces of one answer, as long as the `async with` block lasts.

    `opening` opens the answer and yields its pieces; it runs, with all that it waits for, inside
    the task. What goes wrong in it is raised by `next`, behind the pieces that came before.
    """

    def __init__(self, opening: AbstractAsyncContextManager[AsyncIterator[bytes]]) -> None:
        self._opening = opening
        self._loop = asyncio.get_running_loop()
        self._ready: list[bytes] = []
        self._size = 0
        self._room = asyncio.Event()
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._read())
        self._task.add_done_callback(self._wake)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._task.cancel()
        await asyncio.wait((self._task,))
        if not self._task.cancelled():
            self._task.exception()  # whoever wanted to know it has asked `next`

    async def _read(self) -> None:
        async with self._opening as pieces:
            async for piece in pieces:
                if not piece:
                    continue
                self._ready.append(piece)
                self._size += len(piece)
                self._wake()
                while self._size > MAX_AHEAD_BYTES:
                    self._room.clear()
                    await self._room.wait()

    async def next(self, until: float | None = None) -> bytes | None:
        """All that has come since; empty at the end. Raises UpstreamError when it broke off.

        None when nothing comes until then, by the loop's clock, and sometimes earlier: whoever asks
        looks at the clock. (So one timer lasts for many pieces.)
        """
        while not self._ready and not self._task.done():
            if until is not None:
                self._wake_at(until)
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
            if until is not None:
                break
        if self._ready:
            piece = self._ready[0] if len(self._ready) == 1 else b"".join(self._ready)
            self._ready.clear()
            self._size = 0
            self._room.set()
            return piece
        if self._task.done():
            self._task.result()
            return b""
        return None

    def _wake_at(self, until: float) -> None:
        if self._timer is not None:
            if self._timer.when() <= until:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(until, self._time_is_up)

    def _time_is_up(self) -> None:
        self._timer = None
        self._wake()

    def _wake(self, _task: object = None) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def drain(self) -> None:
        """Read what follows the last event, if it is little and comes at once."""
        left = MAX_DRAIN_BYTES
        with suppress(UpstreamError, TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                while left > 0 and (piece := await self.next()):
                    left -= len(piece)
