"""Spans for OpenTelemetry: one for a request, and within it one for each call upstream.

    POST /v1/responses                server    the request, or a turn on a WebSocket
    └── chat kimi-k2p6                client    a call upstream, by the conventions for GenAI

The request's span continues the trace that the client's `traceparent` names; the call's span is
what the upstream is told as its parent. Spans hold names, counts and times, and nothing of what was
said, no header and no key. Where they are sent is decided by the environment, as the OpenTelemetry
SDK reads it (`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_TRACES_SAMPLER`, ...).

This module needs the extra `otel`, and so it is only imported where spans are asked for.
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
    ObservedEvent,
    Observer,
    RequestEnded,
    ResponseSent,
    RetryScheduled,
    Routed,
    UpstreamAnswered,
    UpstreamCalled,
)
from translator.service.observe.record import PROBED, Record
from translator.wire.responses import Response

from .error_kinds import kind_of

FLUSH_S = 5.0
"""How long the end of the process waits for spans that are not sent yet."""

MAX_NAME = 200
"""Longest name of a model in a span, in characters: clients choose it."""

_PROVIDERS: Mapping[str, str] = {"base": "openai", "mistral": "mistral_ai", "xai": "x_ai"}
"""`gen_ai.provider.name` where it is not the dialect's own name. Base is OpenAI's protocol."""

_carrier = TraceContextTextMapPropagator()


class Spans:
    """An `ObserverFactory` that makes spans. Call `close` at the end."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("translator", VERSION)

    def __call__(self, record: Record) -> Observer | None:
        return None if record.path in PROBED else _Exchange(self._tracer, record)

    def close(self) -> None:
        """Send what is left, within FLUSH_S: a collector that is down must not keep us."""
        ending = threading.Thread(target=self._provider.shutdown, daemon=True)
        ending.start()
        ending.join(FLUSH_S)


def exporting() -> Spans:
    """Spans that go where the environment says, over OTLP and HTTP."""
    own = {"service.version": VERSION}
    if "OTEL_SERVICE_NAME" not in os.environ and "service.name=" not in os.environ.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    ):
        own["service.name"] = "translator"
    # what is unfinished when the process ends is sent by `close`, not by an exit hook
    provider = TracerProvider(resource=Resource.create(own), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Spans(provider)


class _Exchange:
    """The observer that makes the spans of one request."""

    wants: frozenset[type[ObservedEvent]] = frozenset(
        {
            Routed,
            AttemptWritten,
            UpstreamCalled,
            UpstreamAnswered,
            AttemptFailed,
            RetryScheduled,
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
        self._began = time.perf_counter()
        self._called = 0.0
        self._call: Span | None = None
        parent = _carrier.extract(trace_context(record.headers), Context())
        method = "GET" if record.method == "WS" else record.method
        asked = {"http.request.method": method, "url.path": record.path[:MAX_NAME]}
        self._span = tracer.start_span(record.method, parent, SpanKind.SERVER, asked)
        self._inside = trace.set_span_in_context(self._span, parent)
        self._propagate(self._inside)

    def on(self, event: ObservedEvent) -> None:
        match event:
            case Routed(route):
                self._routed(route)
            case AttemptWritten(translation):
                self._translation = translation
            case UpstreamCalled(path):
                self._upstream_called(path)
            case UpstreamAnswered(status):
                self._upstream_answered(status)
            case AttemptFailed(error) | RetryScheduled(error) | ErrorSent(error):
                self._end_call(error)
            case ResponseSent(response):
                self._response = response
            case RequestEnded():
                self._ended()
            case _:
                pass

    def _routed(self, route: Route) -> None:
        self._route = route
        self._span.update_name(f"{self._record.method} {self._record.path}")
        self._span.set_attribute("http.route", self._record.path)

    def _upstream_called(self, path: str) -> None:
        self._end_call()
        self._called = time.perf_counter()
        route = self._route
        model = (route.upstream_model if route else None) or self._record.model
        chats = path == "chat/completions"
        name = f"chat {model[:MAX_NAME]}".strip() if chats else "models"
        self._call = self._tracer.start_span(name, self._inside, SpanKind.CLIENT)
        self._call.set_attributes(self._asked(model[:MAX_NAME]) if chats else {})
        self._call.set_attribute("translator.upstream", self._record.upstream)
        self._propagate(trace.set_span_in_context(self._call, self._inside))

    def _upstream_answered(self, status: int) -> None:
        if self._call is not None:
            self._call.set_attribute("http.response.status_code", status)
            if status >= 400:
                _failed(self._call, str(status))

    def _ended(self) -> None:
        self._end_call()
        record, span = self._record, self._span
        if record.status is not None:
            span.set_attribute("http.response.status_code", record.status)
        facts: dict[str, AttributeValue] = {
            "translator.request_id": record.request_id,
            "translator.outcome": record.result,
            "translator.dialects.dialect": record.dialect,
            "translator.wire.notices": sorted({notice.code for notice in record.notices}),
        }
        span.set_attributes({name: value for name, value in facts.items() if value})
        if record.failure is not None:
            span.set_attribute("error.type", kind_of(record.failure))
            if record.failure.status_hint >= 500:  # else it is the client's
                span.set_status(Status(StatusCode.ERROR))
        span.end()

    def _asked(self, model: str) -> dict[str, AttributeValue]:
        """What the conventions want to know of a request."""
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

    def _end_call(self, error: TranslatorError | None = None) -> None:
        """End the span of the latest call, for a reason or because its answer is there."""
        span, self._call = self._call, None
        if span is None:
            return
        translation = self._translation
        if error is None and translation is not None:
            error = translation.error
            if translation.finished:
                self._response = translation.response
        if self._response is not None:
            span.set_attributes(_answer(self._response))
        if self._record.first_token_s is not None:
            waited = self._record.first_token_s - (self._called - self._began)
            span.set_attribute("gen_ai.response.time_to_first_chunk", max(0.0, waited))
        if error is not None:
            _failed(span, kind_of(error))
        span.end()

    def _propagate(self, context: Context) -> None:
        """Put a context into the headers for the upstream, and into the log."""
        carried: dict[str, str] = {}
        _carrier.inject(carried, context)
        self._record.trace_context = carried


def _answer(response: Response) -> dict[str, AttributeValue]:
    """What the conventions want to know of an answer."""
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
        cut = response.incomplete_details.reason
        return "length" if cut == "max_output_tokens" else cut
    return "tool_call" if any(hasattr(item, "call_id") for item in response.output) else "stop"


def _failed(span: Span, kind: str) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR))
