"""OpenTelemetry spans: one for a request, and within it one for each call upstream.

    POST /v1/responses                server    the request, or a turn on a WebSocket
    └── chat kimi-k2p6                client    a call upstream, by the conventions for GenAI

The request's span continues the trace of the client's `traceparent`; the upstream gets the call's
span as its parent. Spans hold names, counts and times: no text of the conversation, no header, no
key. The exporter is configured by the environment variables of the OpenTelemetry SDK
(`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_TRACES_SAMPLER`, ...).

This module needs the extra `otel`, so it is imported only when the settings ask for spans.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from translator import Translation, TranslatorError
from translator.service.base.trace_context import trace_context
from translator.service.base.version import VERSION
from translator.service.models.table import Route
from translator.service.observe.observer import (
    AttemptFailed,
    AttemptWritten,
    ErrorSent,
    FallbackChosen,
    ObservedEvent,
    Observer,
    RequestEnded,
    ResponseSent,
    RetryScheduled,
    Routed,
    ToolRan,
    UpstreamAnswered,
    UpstreamCalled,
)
from translator.service.observe.record import QUIET, Record, bounded
from translator.service.upstreams.error_kinds import kind_of
from translator.wire.responses import Response

FLUSH_S = 5.0
"""How long `close` waits for spans that are not exported yet, in seconds."""

MAX_NAME = 200
"""Longest path or model in a span, in characters: clients choose both."""

_PROVIDERS: Mapping[str, str] = {"base": "openai", "mistral": "mistral_ai", "xai": "x_ai"}
"""`gen_ai.provider.name` of a dialect, if it differs from the dialect's name."""

_propagator = TraceContextTextMapPropagator()


class Spans:
    """An `ObserverFactory` that makes spans; `close` exports the last ones."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("translator", VERSION)

    def __call__(self, record: Record) -> Observer | None:
        return None if record.path in QUIET else _RequestSpans(self._tracer, record)

    def close(self) -> None:
        """Export the pending spans. Waits FLUSH_S at most: the collector may be down."""
        shutdown = threading.Thread(target=self._provider.shutdown, daemon=True)
        shutdown.start()
        shutdown.join(FLUSH_S)


def otlp_spans() -> Spans:
    """Spans that are exported over OTLP and HTTP, as the environment configures it."""
    own = {"service.version": VERSION}
    if "OTEL_SERVICE_NAME" not in os.environ and "service.name=" not in os.environ.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    ):
        own["service.name"] = "translator"
    # `close` exports the last spans, with a bound; the exit hook of the SDK has none
    provider = TracerProvider(resource=Resource.create(own), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Spans(provider)


class _RequestSpans:
    """Makes the spans of one request."""

    __slots__ = (
        *("_call", "_called_at", "_context", "_record", "_response", "_route", "_span"),
        *("_started_at", "_tracer", "_translation"),
    )

    wants: frozenset[type[ObservedEvent]] = frozenset(
        {
            Routed,
            FallbackChosen,
            AttemptWritten,
            UpstreamCalled,
            UpstreamAnswered,
            AttemptFailed,
            RetryScheduled,
            ToolRan,
            ResponseSent,
            ErrorSent,
            RequestEnded,
        }
    )

    def __init__(self, tracer: trace.Tracer, record: Record) -> None:
        self._tracer = tracer
        self._record = record
        self._route: Route | None = None
        self._translation: Translation | None = None
        self._response: Response | None = None
        self._started_at = time.perf_counter()
        self._called_at = 0.0
        self._call: Span | None = None
        parent = _propagator.extract(trace_context(record.headers), Context())
        method = "GET" if record.method == "WS" else record.method
        attributes = {"http.request.method": method, "url.path": record.path[:MAX_NAME]}
        self._span = tracer.start_span(record.method, parent, SpanKind.SERVER, attributes)
        self._context = trace.set_span_in_context(self._span, parent)
        self._propagate(self._context)

    def on(self, event: ObservedEvent) -> None:
        match event:
            case Routed(route):
                self._route = route
            case FallbackChosen(route, why):
                self._route = route
                self._span.set_attribute("translator.fallback.model", route.model[:MAX_NAME])
                self._span.set_attribute("translator.fallback.reason", why)
            case AttemptWritten(translation):
                self._translation = translation
            case UpstreamCalled(path):
                self._upstream_called(path)
            case UpstreamAnswered(status):
                self._upstream_answered(status)
            case AttemptFailed(error) | RetryScheduled(error) | ErrorSent(error):
                self._end_call(error)
            case ToolRan(tool, result, seconds):
                self._tool_ran(tool, result, seconds)
            case ResponseSent(response):
                self._response = response
            case RequestEnded():
                self._ended()
            case _:
                pass

    def _upstream_called(self, path: str) -> None:
        self._end_call()
        self._called_at = time.perf_counter()
        route = self._route
        model = (route.upstream_model if route else None) or self._record.model
        is_chat = path == "chat/completions"
        name = f"chat {model[:MAX_NAME]}".strip() if is_chat else "models"
        self._call = self._tracer.start_span(name, self._context, SpanKind.CLIENT)
        self._call.set_attributes(self._request_attributes(model[:MAX_NAME]) if is_chat else {})
        self._call.set_attribute("translator.upstream", self._record.upstream)
        self._propagate(trace.set_span_in_context(self._call, self._context))

    def _upstream_answered(self, status: int) -> None:
        if self._call is not None:
            self._call.set_attribute("http.response.status_code", status)
            if status >= 400:
                _set_error(self._call, str(status))

    def _tool_ran(self, tool: str, result: str, seconds: float) -> None:
        """The span of a tool that has run, between two calls upstream."""
        ended_at = time.time_ns()
        began_at = ended_at - int(seconds * 1e9)
        self._end_call(at=began_at)
        span = self._tracer.start_span(
            f"execute_tool {tool}",
            self._context,
            attributes={"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": tool},
            start_time=began_at,
        )
        if result != "completed":
            _set_error(span, result)
        span.end(ended_at)

    def _ended(self) -> None:
        self._end_call()
        record, span = self._record, self._span
        if record.route:
            span.update_name(f"{record.method} {record.route}")
            span.set_attribute("http.route", record.route)
        if record.status is not None:
            span.set_attribute("http.response.status_code", record.status)
        facts: dict[str, AttributeValue] = {
            "translator.request_id": record.request_id,
            "translator.outcome": record.result,
            "translator.dialect": record.dialect,
            "translator.notices": sorted({notice.code for notice in record.notices}),
        }
        if record.store_s is not None:
            facts["translator.store.seconds"] = record.store_s
            facts["translator.store.problem"] = bounded(record.not_stored)
        span.set_attributes({name: value for name, value in facts.items() if value})
        if record.failure is not None:
            span.set_attribute("error.type", kind_of(record.failure))
            if record.failure.status_hint >= 500:  # a 4xx is an error of the client
                span.set_status(Status(StatusCode.ERROR))
        span.end()

    def _request_attributes(self, model: str) -> dict[str, AttributeValue]:
        """The attributes of a chat request, by the conventions for GenAI."""
        known: dict[str, AttributeValue | None] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": model or None,
        }
        if self._route is not None:
            dialect, upstream = self._route.dialect.name, self._route.upstream
            known["gen_ai.provider.name"] = _PROVIDERS.get(dialect, dialect)
            if not upstream.fallback_urls:
                url = urlsplit(upstream.base_url)
                known["server.address"] = url.hostname
                known["server.port"] = url.port or (443 if url.scheme == "https" else 80)
        if self._translation is not None:
            request = self._translation.request
            known |= {
                "gen_ai.request.stream": bool(request.stream),
                "gen_ai.request.max_tokens": request.max_output_tokens,
                "gen_ai.request.temperature": request.temperature,
                "gen_ai.request.top_p": request.top_p,
            }
        return {name: value for name, value in known.items() if value is not None}

    def _end_call(self, error: TranslatorError | None = None, at: int | None = None) -> None:
        """End the span of the latest call, which has failed or been answered; by default now."""
        span, self._call = self._call, None
        if span is None:
            return
        translation = self._translation
        if error is None and translation is not None:
            error = translation.error
            if translation.finished:
                self._response = translation.response
        if self._response is not None:
            span.set_attributes(_response_attributes(self._response))
        if self._record.first_token_s is not None:
            first_chunk_s = self._record.first_token_s - (self._called_at - self._started_at)
            if first_chunk_s >= 0:  # else an earlier call of the same response had it
                span.set_attribute("gen_ai.response.time_to_first_chunk", first_chunk_s)
        if error is not None:
            _set_error(span, kind_of(error))
        span.end(at)

    def _propagate(self, context: Context) -> None:
        """Make a context that of the headers sent upstream, and of the log line."""
        headers: dict[str, str] = {}
        _propagator.inject(headers, context)
        self._record.trace_context = headers


def _response_attributes(response: Response) -> dict[str, AttributeValue]:
    """The attributes of a response, by the conventions for GenAI."""
    found: dict[str, AttributeValue] = {
        "gen_ai.response.id": response.id,
        "gen_ai.response.finish_reasons": [_finish_reason(response)],
    }
    if (usage := response.usage) is not None:
        found |= {
            "gen_ai.usage.input_tokens": usage.input_tokens,
            "gen_ai.usage.output_tokens": usage.output_tokens,
            "gen_ai.usage.cache_read.input_tokens": usage.input_tokens_details.cached_tokens,
            "gen_ai.usage.reasoning.output_tokens": usage.output_tokens_details.reasoning_tokens,
        }
    return found


def _finish_reason(response: Response) -> str:
    if response.status == "failed":
        return "error"
    if response.incomplete_details is not None:
        reason = response.incomplete_details.reason
        return "length" if reason == "max_output_tokens" else reason
    return "tool_call" if any(hasattr(item, "call_id") for item in response.output) else "stop"


def _set_error(span: Span, kind: str) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR))
