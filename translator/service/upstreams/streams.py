"""An upstream's answer, read by whoever needs it, and how long that may take.

    opened ──► read ──► … ──► ended          none of the waits longer than its bound

Whoever waits for the next piece can stop waiting, and say to the client that work goes on, without
breaking anything off. Opening takes a task, as it is many waits; reading takes none, and no timer
per piece.
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
from translator.service.base.reusable_timeout import Patience
from translator.wire.errors import UpstreamError, UpstreamTimeout

from .client import Answer
from .connection import Taker

DRAIN_S = 1.0
"""How long the end of a body may take after its last event, so that the connection is reusable."""

MAX_DRAIN_BYTES = 64 * 1024


class Reading:
    """One answer, as long as the `async with` block lasts.

    All that waits raises UpstreamError where the answer is refused or broken, UpstreamTimeout where
    it takes too long, and Stopping when the service does not wait for it any more.
    """

    def __init__(
        self,
        opening: Coroutine[Any, Any, Answer],
        drain: Drain,
        *,
        until: float,
        silence_s: float,
        progress_s: float,
    ) -> None:
        """`until` is when all of it ends, by the loop's clock; `silence_s` bounds each read.

        `progress_s` bounds signs of life alone, which only whoever reads can tell from the answer.
        """
        self.progress_s = progress_s
        self._now = asyncio.get_running_loop().time
        self._to_open = opening
        self._opening: asyncio.Task[Answer] | None = None
        self._drain = drain
        self._until = until
        self._silence_s = silence_s
        self.heard = math.inf
        """When something came last, by the loop's clock."""
        self._answer: Answer | None = None
        self._patience = Patience()

    async def __aenter__(self) -> Self:
        try:
            self._drain.join(self._stop)
        except Stopping:
            self._to_open.close()
            raise
        self._opening = asyncio.create_task(self._to_open)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._drain.leave(self._stop)
        self._patience.close()
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait((self._opening,))
            # what went wrong in it has been told whoever wanted to know
            if not self._opening.cancelled() and self._opening.exception() is None:
                self._answer = self._opening.result()
        if self._answer is not None:
            await self._answer.aclose()

    async def answer(self) -> Answer:
        """The answer, as soon as its headers are there."""
        while self._answer is None:
            await self._open(math.inf)
        return self._answer

    async def next(self, until: float = math.inf, taker: Taker | None = None) -> bytes | None:
        """All that has come since; empty at the end; None when nothing comes until then.

        What a taker can take goes there, and it sets `heard`. None, too, when it wants a look.
        """
        if self._answer is None and not await self._open(until):
            return None
        assert self._answer is not None
        while True:
            silent = self.heard + self._silence_s
            try:
                with self._patience.until(min(until, self._until, silent)):
                    piece = await self._answer.read(taker)
            except TimeoutError:
                self._check()
                now = self._now()
                if now >= self.heard + self._silence_s:
                    raise UpstreamTimeout("The upstream fell silent in mid-answer.") from None
                if now >= until:
                    return None
                continue
            if piece is None:
                return None  # what the taker has is not lost, whatever the time
            self.hears()
            self._check()
            return piece

    def hears(self) -> float:
        """Something has come; when that is, by the loop's clock."""
        self.heard = self._now()
        return self.heard

    async def _open(self, until: float) -> bool:
        """Wait for the answer's headers; False when they do not come until then."""
        assert self._opening is not None
        try:
            with self._patience.until(min(until, self._until)):
                await asyncio.wait((self._opening,))
        except TimeoutError:
            self._check()
            return False
        self._answer, self._opening = self._opening.result(), None
        self.hears()
        return True

    def _check(self) -> None:
        if self._until == -math.inf:
            raise Stopping
        if self._now() >= self._until:
            raise UpstreamTimeout("The upstream's answer took too long.")

    def _stop(self) -> None:
        self._until = -math.inf
        self._patience.end()

    async def drain(self) -> None:
        """Read what follows the last event, if it is little and comes at once."""
        left = MAX_DRAIN_BYTES
        until = self._now() + DRAIN_S
        with suppress(UpstreamError, Stopping):
            while left > 0 and (piece := await self.next(until)):
                left -= len(piece)
