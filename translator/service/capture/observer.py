"""The observer of a captured exchange: it keeps references, within a bound."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import assert_never, get_args

from msgspec import Raw
from msgspec.structs import replace

from translator import UpstreamError
from translator.service.models.table import Route
from translator.service.observe.observer import (
    AttemptFailed,
    AttemptWritten,
    ChunkReceived,
    ErrorSent,
    EventsSent,
    FallbackChosen,
    ImageDescribed,
    ObservedEvent,
    RequestEnded,
    RequestReceived,
    ResponseSent,
    RetryScheduled,
    Routed,
    ToolRan,
    UpstreamAnswered,
    UpstreamCalled,
)
from translator.service.observe.record import Record
from translator.wire.events import Event, OutputItemAdded

from .exchange import Attempt, CapturedExchange


class CaptureObserver:
    """Collects one exchange, and submits it when the request has ended."""

    wants: frozenset[type[ObservedEvent]] = frozenset(get_args(ObservedEvent))

    def __init__(
        self,
        record: Record,
        *,
        started_at: float,
        max_bytes: int,
        reserve: Callable[[int], bool],
        submit: Callable[[CapturedExchange], None],
    ) -> None:
        """`reserve` reserves bytes within the bound of all exchanges, or returns False."""
        self._exchange = CapturedExchange(
            record=record,
            started_at=started_at,
            headers=record.headers,
            next_attempt=Attempt(),
        )
        self._started_at = time.monotonic()
        self._free_bytes = max_bytes
        self._reserve = reserve
        self._submit = submit
        self._has_request = False

    def on(self, event: ObservedEvent) -> None:
        exchange = self._exchange
        match event:
            case ChunkReceived(chunk):
                self._chunk_received(chunk)
            case EventsSent(events):
                self._events_sent(events)
            case RequestReceived(body):
                self._request_received(body)
            case Routed(route, earlier):
                self._routed(route, earlier)
            case FallbackChosen(route):
                exchange.route = route
            case AttemptWritten(translation, notices):
                attempt = exchange.next_attempt
                attempt.notices = notices
                attempt.dialect = translation.dialect
                attempt.target = translation.target
                attempt.translated = translation.chat_body
            case ImageDescribed() | ToolRan():
                pass  # of an image, it is in the target of the attempt; a search is not captured
            case UpstreamCalled(_, body):
                self._upstream_called(body)
            case UpstreamAnswered(status, headers):
                exchange.attempts[-1].status = status
                exchange.attempts[-1].headers = headers
                exchange.upstream_s = self._seconds()
            case AttemptFailed(error):
                if exchange.attempts:
                    exchange.attempts[-1].error = error
            case RetryScheduled(error):
                self._retry_scheduled(error)
            case ResponseSent(response):
                exchange.response = response
            case ErrorSent(error):
                exchange.error = error
            case RequestEnded():
                exchange.seconds = self._seconds()
                if self._has_request:
                    self._submit(exchange)
            case _ as never:
                assert_never(never)

    def _request_received(self, body: bytes) -> None:
        self._has_request = True
        if self._hold(len(body)):
            self._exchange.request = body

    def _routed(self, route: Route, earlier: Sequence[Raw] | None) -> None:
        self._exchange.route = route
        if self._hold(sum(map(len, earlier or ()))):
            self._exchange.earlier = earlier
        else:
            self._exchange.earlier_overflow = earlier is not None

    def _upstream_called(self, body: bytes | None) -> None:
        held = body if self._hold(len(body or b"")) else None
        exchange = self._exchange
        exchange.attempts.append(replace(exchange.next_attempt, body=held, chunks=[]))

    def _chunk_received(self, chunk: bytes) -> None:
        attempt = self._exchange.attempts[-1]
        if self._hold(len(chunk)):
            attempt.chunks.append(chunk)
        elif not attempt.overflow:
            attempt.overflow = True
            attempt.chunks.clear()
            self._exchange.events.clear()

    def _retry_scheduled(self, error: UpstreamError) -> None:
        last = self._exchange.attempts[-1]
        last.error = error
        self._exchange.next_attempt = Attempt(
            translated=last.translated,
            dialect=last.dialect,
            target=last.target,
            notices=last.notices,
        )

    def _events_sent(self, events: Sequence[Event]) -> None:
        exchange = self._exchange
        if exchange.output_s is None and any(isinstance(one, OutputItemAdded) for one in events):
            exchange.output_s = self._seconds()
        if self._free_bytes >= 0:
            exchange.events += events

    def _seconds(self) -> float:
        return round(time.monotonic() - self._started_at, 3)

    def _hold(self, size: int) -> bool:
        """Reserve memory for a body. After the first False, all further bodies are left out."""
        self._free_bytes -= size
        if self._free_bytes >= 0 and not self._reserve(size):
            self._free_bytes = -1
        if self._free_bytes < 0:
            return False
        self._exchange.size += size
        return True
