"""What Prometheus is told: counts and times of requests, of calls upstream, and of the process.

A request is looked at when it begins, when a call upstream begins or ends, and when it is over;
never per piece of an answer. Labels are bounded: a model is one of the table or "other", a code one
of ours, an upstream one of the settings. Nothing that a client or an upstream says is a label.

Where several processes serve, each writes its figures into files of one folder, and whoever is
asked adds up the files of all (`shared_metrics`). prometheus_client decides that when it is
imported, so this module is only imported where an application is made.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.process_collector import ProcessCollector

from translator import Translation, TranslatorError, UpstreamError
from translator.service.base.version import VERSION
from translator.service.config.settings import Settings
from translator.service.observe.observer import (
    AttemptFailed,
    AttemptWritten,
    ErrorSent,
    ObservedEvent,
    RequestEnded,
    RetryScheduled,
    UpstreamAnswered,
    UpstreamCalled,
)
from translator.service.observe.record import PROBED, Record

from .error_kinds import kind_of
from .shared_metrics import FOLDER

NAMESPACE = "translator"
"""What all names begin with."""

LAG_EVERY_S = 0.5
"""How often the event loop is asked how late it is."""

ENDPOINTS: Mapping[str, str] = {
    "/responses": "responses",
    "/responses/compact": "compact",
    "/chat/completions": "chat",
    "/models": "models",
}

Among = Literal["livesum", "max"]
"""What becomes of a gauge where several processes serve."""

_FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
_SLOW = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)
_RATES = (1, 2.5, 5, 10, 20, 30, 40, 50, 75, 100, 150, 200, 300, 500, 1000)


class Metrics:
    """The metrics of one application; an `ObserverFactory` that observes every request."""

    def __init__(self, settings: Settings) -> None:
        self._models = settings.models
        registry = self._registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, namespace=NAMESPACE, registry=registry)

        def gauge(name: str, text: str, *labels: str, among: Among = "livesum") -> Gauge:
            return Gauge(
                name,
                text,
                labels,
                namespace=NAMESPACE,
                registry=registry,
                multiprocess_mode=among,
            )

        def histogram(
            name: str, text: str, *labels: str, buckets: Sequence[float] = _SLOW
        ) -> Histogram:
            return Histogram(
                name, text, labels, namespace=NAMESPACE, registry=registry, buckets=buckets
            )

        self.requests = counter(
            "requests",
            "Requests that are over, and turns on WebSockets.",
            *("endpoint", "model", "dialect", "status", "outcome"),
        )
        self.requests_open = gauge("requests_open", "Requests that are being answered.", "endpoint")
        self.streams_open = gauge(
            "streams_open", "Requests whose answer is a stream, from when they go upstream."
        )
        self.websockets_open = gauge("websockets_open", "Open WebSockets.")
        self.duration = histogram(
            "request_duration_seconds",
            "From a request to the end of its answer.",
            *("endpoint", "model"),
        )
        self.first_token = histogram(
            "time_to_first_token_seconds",
            "From a request to the first output item that its stream announces.",
            "model",
        )
        self.speed = histogram(
            "output_tokens_per_second",
            "Tokens of a stream behind its first one, by the time that they took.",
            "model",
            buckets=_RATES,
        )
        self.tokens = counter(
            "tokens",
            "Tokens, as counted upstream; cached ones are also input, reasoning is also output.",
            *("model", "kind"),
        )
        self.errors = counter(
            "errors", "Errors that clients got, by code.", *("endpoint", "model", "code")
        )
        self.notices = counter(
            "notices", "What requests lost on their way upstream, by code.", "code"
        )
        self.translation = histogram(
            "translation_seconds",
            "Time to read a request and to write it for the upstream.",
            buckets=_FAST,
        )
        self.upstream_calls = counter(
            "upstream_calls",
            "Requests that were sent upstream, by the status of the answer; none without one.",
            *("upstream", "status"),
        )
        self.upstream_headers = histogram(
            "upstream_headers_seconds",
            "From a request upstream to the status line of its answer.",
            "upstream",
        )
        self.upstream_errors = counter(
            "upstream_errors", "What went wrong upstream, by kind.", *("upstream", "kind")
        )
        self.retries = counter(
            "upstream_retries",
            "Requests that were sent upstream again, by what had gone wrong.",
            *("upstream", "kind"),
        )
        self.lag = histogram(
            "event_loop_lag_seconds",
            f"How late the event loop is, asked every {LAG_EVERY_S:g} s.",
            buckets=_FAST,
        )
        self.build = gauge("build_info", "The version that serves.", "version", among="max")
        self.build.labels(VERSION).set(1)
        if FOLDER not in os.environ:
            ProcessCollector(registry=registry)  # of one process only, so not where several serve

    def __call__(self, record: Record) -> _Request | None:
        return None if record.path in PROBED else _Request(self, record)

    async def page(self, accept: str) -> tuple[bytes, str]:
        """All figures as text, and its content type; `accept` says which forms will do."""
        encode, content_type = choose_encoder(accept)
        registry = self._registry
        if FOLDER in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return await asyncio.to_thread(encode, registry), content_type

    @asynccontextmanager
    async def watching_the_loop(self) -> AsyncGenerator[None]:
        """Look at the event loop for as long as the context lasts."""
        watching = asyncio.create_task(self._watch_the_loop())
        try:
            yield
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching

    async def _watch_the_loop(self) -> None:
        now = asyncio.get_running_loop().time
        while True:
            due = now() + LAG_EVERY_S
            await asyncio.sleep(LAG_EVERY_S)
            self.lag.observe(max(0.0, now() - due))

    def model(self, name: str) -> str:
        """A model as a label: clients may ask for whatever they like."""
        return name if name in self._models else "other"


class _Request:
    """The observer of one request; all but the gauges is counted at its end."""

    wants: frozenset[type[ObservedEvent]] = frozenset(
        {
            AttemptWritten,
            UpstreamCalled,
            UpstreamAnswered,
            AttemptFailed,
            RetryScheduled,
            ErrorSent,
            RequestEnded,
        }
    )

    def __init__(self, metrics: Metrics, record: Record) -> None:
        self._metrics = metrics
        self._record = record
        self._endpoint = _endpoint(record)
        self._streams = False
        self._translation: Translation | None = None
        self._error: TranslatorError | None = None  # the latest that is counted
        self._kind = "other"
        self._called_at: float | None = None  # of the latest call
        self._status = ""  # of its answer
        metrics.requests_open.labels(self._endpoint).inc()

    def on(self, event: ObservedEvent) -> None:
        match event:
            case AttemptWritten(translation):
                self._attempt_written(translation)
            case UpstreamCalled():
                self._upstream_called()
            case UpstreamAnswered(status, headers):
                self._upstream_answered(status, headers)
            case AttemptFailed(error) | RetryScheduled(error) | ErrorSent(error):
                self._count(error)
            case RequestEnded():
                self._ended()
            case _:
                pass

    def _attempt_written(self, translation: Translation) -> None:
        self._count_error_in_answer()
        self._translation = translation
        if translation.request.stream:
            self._stream()

    def _upstream_called(self) -> None:
        if self._called_at is not None:
            self._count_error_in_answer()
            self._close_call()
            self._metrics.retries.labels(self._record.upstream, self._kind).inc()
        self._error = None
        self._called_at = time.perf_counter()
        self._status = "none"

    def _upstream_answered(self, status: int, headers: Mapping[str, str]) -> None:
        self._status = str(status)
        if self._called_at is not None:
            waited = time.perf_counter() - self._called_at
            self._metrics.upstream_headers.labels(self._record.upstream).observe(waited)
        if headers.get("content-type", "").startswith("text/event-stream"):
            self._stream()

    def _ended(self) -> None:
        record, metrics = self._record, self._metrics
        model = metrics.model(record.model)
        self._count_error_in_answer()
        self._close_call()
        metrics.requests_open.labels(self._endpoint).dec()
        if self._streams:
            metrics.streams_open.dec()
        metrics.requests.labels(
            self._endpoint, model, record.dialect, str(record.status or "none"), record.result
        ).inc()
        metrics.duration.labels(self._endpoint, model).observe(record.seconds)
        if record.failure is not None:
            metrics.errors.labels(self._endpoint, model, kind_of(record.failure)).inc()
        for notice in record.notices:
            metrics.notices.labels(notice.code).inc()
        if record.translation_s is not None:
            metrics.translation.observe(max(0.0, record.translation_s))
        self._count_tokens(record, model)

    def _count_tokens(self, record: Record, model: str) -> None:
        metrics, usage, first_s = self._metrics, record.usage, record.first_token_s
        if first_s is not None:
            metrics.first_token.labels(model).observe(max(0.0, first_s))
        if usage is None:
            return
        counts = {
            "input": usage.input_tokens,
            "cached": usage.input_tokens_details.cached_tokens,
            "output": usage.output_tokens,
            "reasoning": usage.output_tokens_details.reasoning_tokens,
        }
        for kind, count in counts.items():
            metrics.tokens.labels(model, kind).inc(count)
        if first_s is not None and usage.output_tokens > 1 and record.seconds > first_s:
            rate = (usage.output_tokens - 1) / (record.seconds - first_s)
            metrics.speed.labels(model).observe(rate)

    def _stream(self) -> None:
        if not self._streams:
            self._streams = True
            self._metrics.streams_open.inc()

    def _count_error_in_answer(self) -> None:
        """Count an error in the body of a 200."""
        if self._translation is not None and self._translation.error is not None:
            self._count(self._translation.error)

    def _close_call(self) -> None:
        if self._called_at is None:
            return
        self._metrics.upstream_calls.labels(self._record.upstream, self._status).inc()
        passed_on = self._translation is None and self._error is None
        if passed_on and self._status[0] in "45":
            self._fail("refused" if self._status[0] == "4" else "failed")

    def _count(self, error: TranslatorError) -> None:
        if isinstance(error, UpstreamError) and error is not self._error:
            self._fail(kind_of(error))
        self._error = error

    def _fail(self, kind: str) -> None:
        self._kind = kind
        self._metrics.upstream_errors.labels(self._record.upstream, kind).inc()


def _endpoint(record: Record) -> str:
    if record.method == "WS":
        return "websocket"
    path = record.path.removeprefix("/v1")
    return ENDPOINTS.get(path) or ("models" if path.startswith("/models/") else "other")
