"""The context of a request: its record, its observer, its client, and what it was charged."""

from __future__ import annotations

import logging

from translator.service.access.clients import Charge, Client
from translator.service.base.errors import drop_tracebacks

from .observer import NOBODY, Observer, RequestEnded
from .record import PROBED, LogLine, Record

log = logging.getLogger(__name__)


class RequestContext:
    """One request on its way through the service, over HTTP or on a WebSocket."""

    __slots__ = ("charge", "client", "observer", "record")

    def __init__(self, record: Record) -> None:
        self.record = record
        self.observer: Observer = NOBODY
        self.client: Client | None = None
        """The client, where the settings know clients."""
        self.charge: Charge | None = None

    def admit(self, client: Client) -> None:
        """The client has been authenticated."""
        self.client = client
        self.record.client = client.name

    def charge_for(self, size: int, *, choices: int = 1) -> None:
        """Charge the client for a request of `size` bytes; raises LimitReached.

        `choices` is the number of answers that it asks for.
        """
        if self.client is not None:
            self.charge = self.client.charge(size, choices=choices)

    def end(self, now: float) -> None:
        """Settle the charge, log the request, and release its observer."""
        record, observer = self.record, self.observer
        record.seconds = max(0.0, now - record.started_at)
        if self.charge is not None:
            answered = record.status is not None and record.status < 400
            self.charge.close(record.usage, answered=answered)
        log.log(logging.DEBUG if record.path in PROBED else logging.INFO, LogLine(record))
        self.observer = NOBODY
        observer.on(RequestEnded())
        drop_tracebacks(record.failure)
