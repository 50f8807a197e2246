"""The context of a request: its record, its observer, its client, and what it was charged."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from translator import Notice
from translator.service.access.client import (
    FREE_CALL,
    WHOLE,
    Ask,
    CallCharge,
    Charge,
    Client,
    Ended,
    Extension,
    Round,
)
from translator.service.access.cost import Answered, StatedUsage
from translator.service.base.errors import InternalError, drop_tracebacks
from translator.wire.responses import Usage

from .observer import NOBODY, Observer, RequestEnded
from .record import QUIET, LogLine, Record, notices_summary

log = logging.getLogger(__name__)


class RequestContext:
    """One request on its way through the service, over HTTP or on a WebSocket."""

    __slots__ = (
        *("answered", "calls", "charge", "client", "goes_on", "lost", "observer", "progress"),
        *("record", "runs_again"),
    )

    def __init__(self, record: Record) -> None:
        self.record = record
        self.observer: Observer = NOBODY
        self.client: Client | None = None
        """The client, where the settings know clients."""
        self.charge: Charge | None = None
        """What the client was charged, where the end of the request decides how much it is."""

        self.answered: Callable[[], Answered] | None = None
        """Adds up what has come of the answer: at the end, where there is a charge."""

        self.progress: Callable[[], Answered] | None = None
        """The same before the end, as often as it is asked."""

        self.lost: Callable[[], Sequence[Notice]] | None = None
        """What of the answer was lost: known at the end."""

        self.calls = 0
        """Calls with a result, of those that the request itself was charged for."""

        self.runs_again = False
        """Whether the same request, sent again, would have tools run a second time."""

        self.goes_on = False
        """Whether its work goes on in the background, which ends it."""

    @property
    def counts_tokens(self) -> bool:
        """Whether it matters how many tokens the request has."""
        return self.client is not None and self.client.counts_tokens

    def admit(self, client: Client) -> None:
        """The client has been authenticated."""
        self.client = client
        self.record.client = client.name

    async def charge_for(self, ask: Ask) -> Charge | None:
        """Charge the client for a request; None where its end does not matter.

        Raises what `Client.hold` raises.
        """
        if self.client is not None:
            self.charge = await self.client.hold(ask, self.so_far)
        return self.charge

    async def charge_for_round(self, further: Round) -> Extension:
        """Charge for a further round of the request; raises what `Charge.extend` raises."""
        return WHOLE if self.charge is None else await self.charge.extend(further)

    async def charge_for_call(self, tool: str) -> CallCharge:
        """Charge for a call of a tool within the request; raises what `Charge.call` raises."""
        return FREE_CALL if self.charge is None else await self.charge.call(tool)

    def so_far(self) -> Answered | None:
        """What has come of the answer; None before its beginning."""
        return None if self.progress is None else self.progress()

    def note(self, notices: Sequence[Notice]) -> None:
        """The notices of the request as it is sent upstream; at debug level, each is a line."""
        self.record.notices = ()
        self._note_more(notices)

    def _note_more(self, notices: Sequence[Notice]) -> None:
        record = self.record
        record.notices = (*record.notices, *notices)
        record.remarks = notices_summary(record.notices)
        for notice in notices:
            log.debug("%s: %s", notice.path, notice.message)

    def end(self, now: float) -> None:
        """Settle the charge, log the request, and release its observer."""
        record, observer = self.record, self.observer
        record.seconds = max(0.0, now - record.started_at)
        lost, self.lost = self.lost, None  # which holds the turn, which holds this
        if lost is not None and (more := [one for one in lost() if one not in record.notices]):
            self._note_more(more)
        if self.charge is not None:
            try:
                self._settle(self.charge)
            except Exception:
                log.exception("the charge could not be settled")
        level = logging.DEBUG if record.path in QUIET else logging.INFO
        if log.isEnabledFor(level):  # not `log.log`, which looks for its caller in the stack
            line = LogLine(record)
            log.handle(log.makeRecord(log.name, level, __file__, 0, line, (), None, "end"))
        self.observer = NOBODY
        observer.on(RequestEnded())
        drop_tracebacks(record.failure)

    def _settle(self, charge: Charge) -> None:
        record = self.record
        answered = Answered() if self.answered is None else self.answered()
        self.answered = self.progress = None  # which hold the turn, which holds this
        failed = record.failure is not None or (record.status or 0) >= 400
        charge.end(
            Ended(
                result=record.result,
                answered=answered,
                went_upstream=bool(record.upstream),
                failed=failed,
                by_us=isinstance(record.failure, InternalError),
                calls=self.calls,
            )
        )
        record.charged = charge.labels


def stated_usage(usage: Usage) -> StatedUsage:
    """The usage of a response, for what the request costs."""
    return StatedUsage(
        usage.input_tokens,
        usage.output_tokens,
        usage.total_tokens,
        usage.input_tokens_details.cached_tokens,
        usage.input_tokens_details.cache_write_tokens,
        usage.output_tokens_details.reasoning_tokens,
    )
