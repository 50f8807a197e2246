"""Prometheus metrics: counts and durations of requests, of calls upstream, and of the process.

An observer counts when a request begins, when a call upstream begins or ends, and when the request
ends; never per chunk. Labels are bounded: a model is one of the table or "other", a code is one of
ours, an upstream is one of the settings. No text of a client or an upstream becomes a label.

With several workers, each writes its metrics to files of one folder, and the worker that answers
`/metrics` sums the files of all (`shared_metrics`). prometheus_client reads that setting on import,
so this module is imported only when an application is created.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.process_collector import ProcessCollector

from translator import Translation, TranslatorError, UpstreamError
from translator.service.base.connection_meter import CutReason
from translator.service.base.errors import OutOfDescriptors
from translator.service.base.losses import KINDS, LOSSES
from translator.service.base.version import VERSION
from translator.service.config.settings import Settings
from translator.service.observe.observer import (
    AttemptFailed,
    AttemptWritten,
    DescriptionResult,
    ErrorSent,
    FallbackChosen,
    ImageDescribed,
    ObservedEvent,
    RequestEnded,
    RetryScheduled,
    ToolRan,
    UpstreamAnswered,
    UpstreamCalled,
)
from translator.service.observe.record import QUIET, Record
from translator.service.upstreams.error_kinds import UPSTREAM_KINDS, kind_of
from translator.wire.items import Reasoning
from translator.wire.notices import NOTICE_CODES
from translator.wire.responses import Usage

from .instruments import FAST, Instruments
from .shared_metrics import FOLDER

if TYPE_CHECKING:
    from .account_metrics import AccountMetrics
    from .store_metrics import StoreMetrics
    from .tool_metrics import ToolMetrics

LAG_INTERVAL_S = 0.5
"""Seconds between two measurements of the event loop's lag."""

ENDPOINTS: Mapping[str, str] = {
    "/responses": "responses",
    "/responses/compact": "compact",
    "/responses/input_tokens": "input_tokens",
    "/chat/completions": "chat",
    "/alpha/search": "search",
    "/models": "models",
}

TOKEN_KINDS = ("input", "cached", "output", "reasoning")

MAX_MODELS_AT_ZERO = 5
"""For so many models of the settings, the first ones, counters begin at zero: some 90 for each."""

_STORED = ("/responses/", "/conversations")
"""What paths of the store begin with."""

_USUAL_ENDPOINTS = ("responses", "chat", "websocket")
_USUAL_STATUSES = ("200", "400", "429", "500", "502", "503", "none")
_USUAL_RESULTS = (
    ("200", "completed"),
    ("200", "incomplete"),
    ("200", "failed"),
    ("200", "client_left"),
    ("400", "refused"),
    ("429", "refused"),
    ("500", "failed"),
    ("502", "failed"),
    ("503", "failed"),
    ("504", "failed"),
)
"""Statuses with outcomes."""

_STATUS_KINDS = {"4": "refused", "5": "failed"}
"""The kind of an error that was passed through, by the first digit of its status."""

_RATES = (1, 2.5, 5, 10, 20, 30, 40, 50, 75, 100, 150, 200, 300, 500, 1000)


class Metrics:
    """The metrics of one application; an `ObserverFactory` that observes every request."""

    def __init__(self, settings: Settings) -> None:
        self._models = settings.models
        registry = self._registry = CollectorRegistry()
        instruments = Instruments(registry)
        counter, gauge, histogram = (
            instruments.counter,
            instruments.gauge,
            instruments.histogram,
        )
        self.requests = counter(
            "requests",
            "Finished requests, and turns on WebSockets.",
            *("endpoint", "model", "dialect", "status", "outcome"),
        )
        self.requests_open = gauge("requests_open", "Requests in progress.", "endpoint")
        self.streams_open = gauge(
            "streams_open", "Streamed requests in progress, from the first call upstream."
        )
        self.websockets_open = gauge("websockets_open", "Open WebSockets.")
        self.connections_open = gauge("connections_open", "Open client connections.")
        self.connections_cut = counter(
            "connections_cut",
            "Client connections that the service closed by itself, by reason.",
            "reason",
        )
        self.connections = _ConnectionMetrics(self.connections_open, self.connections_cut)
        self.duration = histogram(
            "request_duration_seconds",
            "From a request to the end of its response.",
            *("endpoint", "model"),
        )
        self.first_token = histogram(
            "time_to_first_token_seconds",
            "From a request to the first output item of its stream.",
            "model",
        )
        self.speed = histogram(
            "output_tokens_per_second",
            "Tokens per second of a stream after its first token.",
            "model",
            buckets=_RATES,
        )
        self.tokens = counter(
            "tokens",
            "Tokens, as counted upstream; cached ones are also input, reasoning is also output.",
            *("model", "kind"),
        )
        self.errors = counter(
            "errors", "Errors sent to clients, by code.", *("endpoint", "model", "code")
        )
        self.notices = counter(
            "notices", "Notices of request features that were dropped or weakened, by code.", "code"
        )
        self.translation = histogram(
            "translation_seconds",
            "Time to translate a request.",
            buckets=FAST,
        )
        self.upstream_calls = counter(
            "upstream_calls",
            "Requests sent upstream, by the status of the answer; none without one.",
            *("upstream", "status"),
        )
        self.upstream_headers = histogram(
            "upstream_headers_seconds",
            "From a request upstream to the status line of its answer.",
            "upstream",
        )
        self.upstream_errors = counter(
            "upstream_errors", "Errors of upstreams, by kind.", *("upstream", "kind")
        )
        self.fallbacks = counter(
            "fallbacks",
            "Attempts that went to another route than the one before, and why.",
            *("model", "route", "reason"),
        )
        self.retries = counter(
            "upstream_retries",
            "Retries of requests upstream, by the kind of the error before.",
            *("upstream", "kind"),
        )
        self.lag = histogram(
            "event_loop_lag_seconds",
            f"Lag of the event loop, measured every {LAG_INTERVAL_S:g} s.",
            buckets=FAST,
        )
        self.dropped = counter(
            "dropped",
            "Log lines, captures and progress reports that could not be written.",
            "what",
        )
        if settings.describing_models:
            self.image_descriptions = counter(
                "image_descriptions",
                "Images that one model described for another, or could not, by the first one.",
                *("model", "result"),
            )
            self.image_description_tokens = counter(
                "image_description_tokens",
                "Tokens of describing images, which are not among those of requests.",
                *("model", "kind"),
            )
        for model in settings.describing_models:
            for result in get_args(DescriptionResult):
                self.image_descriptions.labels(model, result)
        self.store: StoreMetrics | None = None
        """Those of the store, where the settings have one."""
        if settings.store is not None:
            from .store_metrics import StoreMetrics

            self.store = StoreMetrics(instruments)
        self.accounts: AccountMetrics | None = None
        """Those of the accounts, where the settings have any."""
        if settings.accounts is not None:
            from .account_metrics import AccountMetrics

            self.accounts = AccountMetrics(instruments)
        self.tools: ToolMetrics | None = None
        """Those of tools that the service runs itself, where it runs any."""
        if settings.tools is not None:
            from .tool_metrics import ToolMetrics

            self.tools = ToolMetrics(instruments)
        self._begin_at_zero(settings)
        self.build = gauge("build_info", "The version of the service.", "version", mode="max")
        self.build.labels(VERSION).set(1)
        if FOLDER not in os.environ:
            ProcessCollector(registry=registry)  # it knows this process only

    def _begin_at_zero(self, settings: Settings) -> None:
        """Make the series whose labels are known, so that `rate()` sees the first of each.

        Those of further codes, statuses and outcomes begin with their first request.
        """
        for what in KINDS:
            self.dropped.labels(what)
        for reason in get_args(CutReason):
            self.connections_cut.labels(reason)
        for code in NOTICE_CODES:
            self.notices.labels(code)
        for upstream in settings.upstreams:
            for status in _USUAL_STATUSES:
                self.upstream_calls.labels(upstream, status)
            for kind in UPSTREAM_KINDS:
                self.upstream_errors.labels(upstream, kind)
                self.retries.labels(upstream, kind)
        models = {name: model.dialect.name for name, model in settings.models.items()}
        if not models:
            models["other"] = next(iter(settings.upstreams.values())).dialect
        endpoints = [
            name for name in _USUAL_ENDPOINTS if name != "websocket" or settings.server.websocket
        ]
        for model, dialect in islice(models.items(), MAX_MODELS_AT_ZERO):
            for kind in TOKEN_KINDS:
                self.tokens.labels(model, kind)
            for endpoint in endpoints:
                for status, outcome in _USUAL_RESULTS:
                    self.requests.labels(endpoint, model, dialect, status, outcome)
                for code in UPSTREAM_KINDS:
                    self.errors.labels(endpoint, model, code)

    def __call__(self, record: Record) -> _RequestMetrics | None:
        return None if record.path in QUIET else _RequestMetrics(self, record)

    async def page(self, accept: str) -> tuple[bytes, str]:
        """The metrics as text, and its content type, for an `accept` header."""
        self._count_losses()
        encode, content_type = choose_encoder(accept)
        registry = self._registry
        if FOLDER in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return await asyncio.to_thread(encode, registry), content_type

    @asynccontextmanager
    async def measuring_lag(self) -> AsyncGenerator[None]:
        """Measure the lag of the event loop within the context."""
        task = asyncio.create_task(self._measure_lag())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _measure_lag(self) -> None:
        now = asyncio.get_running_loop().time
        while True:
            due = now() + LAG_INTERVAL_S
            await asyncio.sleep(LAG_INTERVAL_S)
            self.lag.observe(max(0.0, now() - due))
            self._count_losses()

    def _count_losses(self) -> None:
        for kind, count in LOSSES.take().items():
            self.dropped.labels(kind).inc(count)

    def model(self, name: str) -> str:
        """The label of a model: a name that is not in the settings is "other"."""
        return name if name in self._models else "other"


class _ConnectionMetrics:
    """A `ConnectionMeter`."""

    def __init__(self, gauge: Gauge, cut: Counter) -> None:
        self.opened = gauge.inc
        self.closed = gauge.dec
        self._cut = cut

    def cut(self, reason: CutReason) -> None:
        self._cut.labels(reason).inc()


class _RequestMetrics:
    """Counts one request: the gauges at once, its results at its end."""

    __slots__ = (
        *("_call_status", "_called_at", "_endpoint", "_error", "_error_kind", "_metrics"),
        *("_record", "_streams", "_translation"),
    )

    wants: frozenset[type[ObservedEvent]] = frozenset(
        {
            AttemptWritten,
            FallbackChosen,
            ImageDescribed,
            ToolRan,
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
        self._endpoint = _endpoint(record, stores=metrics.store is not None)
        self._streams = False
        self._translation: Translation | None = None
        self._error: TranslatorError | None = None  # the latest that was counted
        self._error_kind = "other"
        self._called_at: float | None = None  # the latest call upstream
        self._call_status = ""
        metrics.requests_open.labels(self._endpoint).inc()

    def on(self, event: ObservedEvent) -> None:
        if type(event) not in self.wants:
            return
        match event:  # those of every request first: a pattern that does not match a Struct is slow
            case AttemptWritten():
                self._attempt_written(event.translation)
            case UpstreamCalled():
                self._upstream_called()
            case UpstreamAnswered():
                self._upstream_answered(event.status, event.headers)
            case RequestEnded():
                self._ended()
            case FallbackChosen(route, why):
                name = f"{route.model}@{route.upstream.name}"
                self._metrics.fallbacks.labels(self._record.model, name, why or "returned").inc()
            case ImageDescribed(model, result, usage):
                self._image_described(model, result, usage)
            case ToolRan():
                if self._metrics.tools is not None:
                    self._metrics.tools.ran(event)
            case AttemptFailed(error) | RetryScheduled(error) | ErrorSent(error):
                self._count_error(error)
            case _:
                pass

    def _image_described(self, model: str, result: str, usage: Usage | None) -> None:
        self._metrics.image_descriptions.labels(model, result).inc()
        if usage is not None:
            tokens = self._metrics.image_description_tokens
            tokens.labels(model, "input").inc(usage.input_tokens)
            tokens.labels(model, "output").inc(usage.output_tokens)

    def _attempt_written(self, translation: Translation) -> None:
        self._count_error_in_body()
        self._translation = translation
        if translation.request.stream:
            self._count_stream()

    def _upstream_called(self) -> None:
        if self._called_at is not None:
            self._count_error_in_body()
            self._count_call()
            self._metrics.retries.labels(self._record.upstream, self._error_kind).inc()
        self._error = None
        self._called_at = time.perf_counter()
        self._call_status = "none"

    def _upstream_answered(self, status: int, headers: Mapping[str, str]) -> None:
        self._call_status = str(status)
        if self._called_at is not None:
            waited = time.perf_counter() - self._called_at
            self._metrics.upstream_headers.labels(self._record.upstream).observe(waited)
        if headers.get("content-type", "").startswith("text/event-stream"):
            self._count_stream()

    def _ended(self) -> None:
        record, metrics = self._record, self._metrics
        model = metrics.model(record.model)
        self._count_error_in_body()
        if self._translation is None and record.failure is not None:
            self._count_error(record.failure)  # of an answer that was passed through
        self._count_call()
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
        counts = (
            usage.input_tokens,
            usage.input_tokens_details.cached_tokens,
            usage.output_tokens,
            usage.output_tokens_details.reasoning_tokens,
        )
        for kind, count in zip(TOKEN_KINDS, counts, strict=True):
            metrics.tokens.labels(model, kind).inc(count)
        if first_s is None or record.seconds <= first_s:
            return
        later = usage.output_tokens - self._hidden_tokens(usage) - 1
        if later > 0:
            rate = later / (record.seconds - first_s)
            metrics.speed.labels(model).observe(rate)

    def _hidden_tokens(self, usage: Usage) -> int:
        """Tokens of reasoning that is not shown: all of them came before the first token."""
        output = () if self._translation is None else self._translation.response.output
        shown = any(isinstance(item, Reasoning) for item in output)
        return 0 if shown else usage.output_tokens_details.reasoning_tokens

    def _count_stream(self) -> None:
        if not self._streams:
            self._streams = True
            self._metrics.streams_open.inc()

    def _count_error_in_body(self) -> None:
        """Count an error in the body of an answer with status 200."""
        if self._translation is not None and self._translation.error is not None:
            self._count_error(self._translation.error)

    def _count_call(self) -> None:
        if self._called_at is None:
            return
        self._metrics.upstream_calls.labels(self._record.upstream, self._call_status).inc()
        is_passed_through = self._translation is None and self._error is None
        kind = _STATUS_KINDS.get(self._call_status[0])
        if is_passed_through and kind is not None:
            self._count_upstream_error(kind)

    def _count_error(self, error: TranslatorError) -> None:
        if isinstance(error, OutOfDescriptors):
            self._called_at = None  # there was no call
        if isinstance(error, UpstreamError) and error is not self._error:
            self._count_upstream_error(kind_of(error))
        self._error = error

    def _count_upstream_error(self, kind: str) -> None:
        self._error_kind = kind
        self._metrics.upstream_errors.labels(self._record.upstream, kind).inc()


def _endpoint(record: Record, *, stores: bool) -> str:
    if record.method == "WS":
        return "websocket"
    path = record.path.removeprefix("/v1")
    if stores and path.startswith(_STORED) and path not in ENDPOINTS:
        return "stored"
    return ENDPOINTS.get(path) or ("models" if path.startswith("/models/") else "other")
