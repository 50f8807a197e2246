"""The calls of one round: run at once within their bounds, and ended with the turn.

    calls ──► tasks ──► outcomes, as they come          time, drain and client end all of them

A call is charged for before it runs. Whatever becomes of it is told the model; only what ends the
turn itself is raised.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from translator.common.hosted import HostedCall, Outcome
from translator.service.base.drain import Drain
from translator.service.base.errors import Stopping
from translator.service.observe.context import RequestContext
from translator.service.observe.observer import ToolRan, ToolResult
from translator.wire.errors import TranslatorError, UpstreamTimeout

from .hosting import Hosting, ToolRunner

log = logging.getLogger(__name__)

_FAILED = "The tool failed. Answer without it, or say so."


class ToolRound:
    """The calls of a round, running as long as the `async with` block lasts.

    `next(until)` is a call with its outcome, or None when there is none until then. It raises
    Stopping when the service shuts down, UpstreamTimeout at the deadline of the response, and what
    `stop` was called with.
    """

    def __init__(
        self,
        calls: Sequence[HostedCall],
        runner: ToolRunner,
        hosting: Hosting,
        context: RequestContext,
        drain: Drain,
        timer: Callable[[], float],
        *,
        until: float,
    ) -> None:
        """`until` is the deadline of the response, by the loop's clock; `timer` measures calls."""
        self._calls = calls
        self._runner = runner
        self._timeout_s = hosting.call_timeout_s
        self._slots = asyncio.Semaphore(hosting.calls_at_once)
        self._context = context
        self._drain = drain
        self._timer = timer
        self._until = until
        self._tasks: dict[asyncio.Task[Outcome], HostedCall] = {}
        self._stopped_by: TranslatorError | None = None
        self._wake = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._drain.join(self._drained)
        self._tasks = {asyncio.create_task(self._run(one)): one for one in self._calls}
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._drain.leave(self._drained)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def next(self, until: float = math.inf) -> tuple[HostedCall, Outcome] | None:
        """The next call that has its outcome; None when there is none until then."""
        now = asyncio.get_running_loop().time
        waking = asyncio.create_task(self._wake.wait())
        try:
            left = max(0.0, min(until, self._until) - now())
            await asyncio.wait(
                (*self._tasks, waking),
                timeout=None if left == math.inf else left,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            waking.cancel()
        if self._stopped_by is not None:
            raise self._stopped_by
        for task in self._tasks:
            if task.done():
                return self._tasks.pop(task), task.result()
        if now() >= self._until:
            raise UpstreamTimeout("The response took too long.")
        return None

    def stop(self, error: TranslatorError) -> None:
        """End the current wait, and all that follow, with an error."""
        self._stopped_by = error
        self._wake.set()

    def _drained(self) -> None:
        self.stop(Stopping())

    async def _run(self, call: HostedCall) -> Outcome:
        async with self._slots:
            began = self._timer()
            result: ToolResult = "left"
            try:
                outcome = await self._charged(call)
                result = "failed" if outcome.failed else "completed"
            finally:
                ran = ToolRan(self._runner.name_of(call), result, self._timer() - began)
                self._context.observer.on(ran)
        return outcome

    async def _charged(self, call: HostedCall) -> Outcome:
        """What becomes of a call, once it is charged for."""
        tool = self._runner.charged_as(call)
        if tool is None:
            return await self._outcome(call)
        try:
            charge = await self._context.charge_for_call(tool)
        except TranslatorError as error:
            return Outcome((f"Not run: {error.message}",), failed=True)
        ran = False
        try:
            outcome = await self._outcome(call)
            ran = not outcome.failed
        finally:
            charge.end(ran=ran)
        return outcome

    async def _outcome(self, call: HostedCall) -> Outcome:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._runner.run(call)
        except TimeoutError:
            text = f"The tool took more than {self._timeout_s:g} s. Answer without it, or say so."
        except Exception:
            log.exception("internal error")
            text = _FAILED
        return Outcome((text,), failed=True)
