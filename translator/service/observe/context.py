"""The context of a request: its record, its observer, its client, and what it was charged."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from translator import Notice
from translator.service.access.clients import Charge, Client
from translator.service.access.cost import Answered
from translator.service.base.errors import drop_tracebacks

from .observer import NOBODY, Observer, RequestEnded
from .record import QUIET, LogLine, Record, notices_summary

log = logging.getLogger(__name__)


class RequestContext:
    """One request on its way through the service, over HTTP or on a WebSocket."""

    __slots__ = ("answered", "charge", "client", "goes_on", "observer", "record")

    def __init__(self, record: Record) -> None:
        self.record = record
        self.observer: Observer = NOBODY
        self.client: Client | None = None
        """The client, where the settings know clients."""
        self.charge: Charge | None = None
        """What the client was charged, where it has a token limit."""

        self.answered: Callable[[], Answered] | None = None
        """Adds up what has come of the answer: at the end, where there is a charge."""

        self.goes_on = False
        """Whether its work goes on in the background, which ends it."""

    @property
    def counts_tokens(self) -> bool:
        """Whether the client has a token limit."""
        return self.client is not None and self.client.counts_tokens

    def admit(self, client: Client) -> None:
        """The client has been authenticated."""
        self.client = client
        self.record.client = client.name

    def charge_for(self, size: int, *, choices: int = 1) -> None:
        """Charge the client for a request of `size` bytes; raises LimitReached.

        `choices` is the number of answers that it asks for.
        """
        if self.client is not None:
            charge = self.client.charge(size, choices=choices)
            if self.client.counts_tokens:
                self.charge = charge

    def note(self, notices: Sequence[Notice]) -> None:
        """The notices of the request as it is sent upstream; at debug level, each is a line."""
        record = self.record
        record.notices = notices
        record.remarks = notices_summary(notices)
        for notice in notices:
            log.debug("%s: %s", notice.path, notice.message)

    def end(self, now: float) -> None:
        """Settle the charge, log the request, and release its observer."""
        record, observer = self.record, self.observer
        record.seconds = max(0.0, now - record.started_at)
        if self.charge is not None:
            try:
                self._settle(self.charge)
            except Exception:
                log.exception("the charge could not be settled")
        log.log(logging.DEBUG if record.path in QUIET else logging.INFO, LogLine(record))
        self.observer = NOBODY
        observer.on(RequestEnded())
        drop_tracebacks(record.failure)

    def _settle(self, charge: Charge) -> None:
        record = self.record
        answered = Answered() if self.answered is None else self.answered()
        self.answered = None  # which holds the turn, which holds this
        failed = record.failure is not None or (record.status or 0) >= 400
        came = answered.written or answered.events or answered.usage
        charge.settle(answered if record.upstream and (came or not failed) else None)
