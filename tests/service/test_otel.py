"""OpenTelemetry spans: one for a request, one for each call upstream, in the client's trace."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id
from websockets.asyncio.client import connect

from translator.__main__ import main
from translator.program.invocation import install_hint
from translator.service.server import run
from translator.service.telemetry.otel import Spans

from .chat_bodies import HELLO, chunk, frame
from .processes import served
from .responses_api import PATH
from .wire import (
    BOUND_S,
    MODELS,
    Call,
    ScriptedUpstream,
    bounded,
    client_of,
    make_settings,
    say_hello,
    serving,
)

pytestmark = pytest.mark.anyio

ASK: dict[str, Any] = {"model": "small", "input": "the secret plan", "stream": True}
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
TRACED = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=abc"}


class Collected:
    """Spans in memory instead of an exporter."""

    def __init__(self) -> None:
        self._memory = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._memory))
        self.factory = Spans(provider)

    def of(self, kind: SpanKind) -> list[ReadableSpan]:
        return [span for span in self._memory.get_finished_spans() if span.kind is kind]

    @property
    def server(self) -> ReadableSpan:
        [span] = self.of(SpanKind.SERVER)
        return span

    @property
    def client(self) -> ReadableSpan:
        [span] = self.of(SpanKind.CLIENT)
        return span


@pytest.fixture
def collected() -> Iterator[Collected]:
    found = Collected()
    yield found
    found.factory.close()


def ids(span: ReadableSpan) -> tuple[str, str]:
    assert span.context is not None
    return format_trace_id(span.context.trace_id), format_span_id(span.context.span_id)


async def test_a_request_and_its_call_are_spans_of_the_clients_trace(
    upstream: ScriptedUpstream, collected: Collected
) -> None:
    usage = {
        "prompt_tokens": 30,
        "completion_tokens": 12,
        "total_tokens": 42,
        "prompt_tokens_details": {"cached_tokens": 20},
    }

    async def script(call: Call) -> None:
        await call.head()
        await call.send(*HELLO[:-1], frame({"choices": [], "usage": usage}), HELLO[-1])
        await call.end()

    upstream.script = script
    settings = make_settings(upstream.url, models=MODELS)
    async with client_of(settings, observe=collected.factory) as client:
        ask = ASK | {"temperature": 0.5, "top_p": 0.25, "max_output_tokens": 50, "store": True}
        answer = await client.post(PATH, json=ask, headers=TRACED)
        await client.get("/healthz")
    server, call = collected.server, collected.client
    assert ids(server)[0] == ids(call)[0] == TRACE
    assert server.parent is not None
    assert format_span_id(server.parent.span_id) == PARENT
    assert call.parent is not None
    assert format_span_id(call.parent.span_id) == ids(server)[1]
    [received] = upstream.calls
    assert received.headers["traceparent"] == f"00-{TRACE}-{ids(call)[1]}-01"
    assert received.headers["tracestate"] == "vendor=abc"
    assert server.name == f"POST {PATH}"
    assert server.attributes == {
        "http.request.method": "POST",
        "http.route": PATH,
        "url.path": PATH,
        "http.response.status_code": 200,
        "translator.request_id": answer.headers["x-request-id"],
        "translator.outcome": "completed",
        "translator.dialect": "base",
        "translator.notices": ("ignored",),
    }
    assert call.name == "chat accounts/up/models/m"
    assert call.attributes is not None
    attributes = dict(call.attributes)
    first = attributes.pop("gen_ai.response.time_to_first_chunk")
    assert isinstance(first, float)
    assert 0 <= first < BOUND_S
    assert attributes.pop("gen_ai.response.id").startswith("resp_")  # type: ignore[union-attr]
    assert attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "accounts/up/models/m",
        "gen_ai.request.stream": True,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 0.25,
        "gen_ai.request.max_tokens": 50,
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 30,
        "gen_ai.usage.output_tokens": 12,
        "gen_ai.usage.cache_read.input_tokens": 20,
        "gen_ai.usage.reasoning.output_tokens": 0,
        "server.address": "127.0.0.1",
        "server.port": int(upstream.url.split(":")[2].split("/")[0]),
        "http.response.status_code": 200,
        "translator.upstream": "up",
    }


@pytest.mark.parametrize(
    ("chunks", "reason"),
    [
        ([chunk({"content": "x"}, "length")], "length"),
        ([chunk({"content": "x"}, "content_filter")], "content_filter"),
        (
            [
                chunk(
                    {
                        "tool_calls": [
                            {"index": 0, "id": "a", "function": {"name": "ls", "arguments": "{}"}}
                        ]
                    },
                    "tool_calls",
                )
            ],
            "tool_call",
        ),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_a_span_has_the_finish_reason(
    chunks: list[bytes], reason: str, stream: bool, upstream: ScriptedUpstream, collected: Collected
) -> None:
    async def script(call: Call) -> None:
        await call.head()
        await call.send(*chunks, HELLO[-1])
        await call.end()

    upstream.script = script
    tools = [{"type": "function", "name": "ls", "parameters": {"type": "object"}}]
    async with client_of(make_settings(upstream.url), observe=collected.factory) as client:
        await client.post(PATH, json=ASK | {"stream": stream, "tools": tools})
    assert collected.client.attributes is not None
    assert collected.client.attributes["gen_ai.response.finish_reasons"] == (reason,)


async def test_each_call_of_a_request_is_a_span(
    upstream: ScriptedUpstream, collected: Collected
) -> None:
    async def script(call: Call) -> None:
        if len(upstream.calls) == 1:
            await call.answer({}, 503, headers={"retry-after": "0"})
        elif "temperature" in call.json:
            await call.answer({"error": {"message": "Unknown parameter: 'temperature'."}}, 400)
        else:
            await say_hello(call)

    upstream.script = script
    settings = make_settings(upstream.url, models=MODELS, retries=1)
    async with client_of(settings, observe=collected.factory) as client:
        await client.post(PATH, json=ASK | {"temperature": 0.5})
    calls = collected.of(SpanKind.CLIENT)
    assert [(span.attributes or {}).get("error.type") for span in calls] == [
        "server_is_overloaded",
        "refused",
        None,
    ]
    assert [span.status.status_code for span in calls] == [
        StatusCode.ERROR,
        StatusCode.ERROR,
        StatusCode.UNSET,
    ]
    assert [call.headers["traceparent"].split("-")[2] for call in upstream.calls] == [
        ids(span)[1] for span in calls
    ]
    assert collected.server.status.status_code is StatusCode.UNSET


async def test_a_failure_is_an_error_of_both_spans(collected: Collected) -> None:
    settings = make_settings("http://127.0.0.1:9/v1", retries=0)
    async with client_of(settings, observe=collected.factory) as client:
        await client.post(PATH, json=ASK)
    for span, kind in ((collected.server, "unreachable"), (collected.client, "unreachable")):
        assert span.status.status_code is StatusCode.ERROR
        assert span.status.description is None
        assert span.attributes is not None
        assert span.attributes["error.type"] == kind
    assert collected.server.attributes is not None
    assert collected.server.attributes["http.response.status_code"] == 502


async def test_an_error_of_the_client_is_no_error_of_the_service(
    upstream: ScriptedUpstream, collected: Collected
) -> None:
    async with client_of(make_settings(upstream.url), observe=collected.factory) as client:
        await client.post(PATH, json={"model": "m", "input": 3})
    span = collected.server
    assert span.status.status_code is StatusCode.UNSET
    assert span.attributes is not None
    assert span.attributes["http.response.status_code"] == 400
    assert span.attributes["error.type"] == "invalid_type"
    assert collected.of(SpanKind.CLIENT) == []


async def test_a_turn_on_a_websocket_is_a_span_of_the_handshakes_trace(
    upstream: ScriptedUpstream, collected: Collected
) -> None:
    settings = make_settings(upstream.url, models=MODELS)
    async with serving(settings, observe=collected.factory) as base:
        uri = f"ws{base[4:]}{PATH}"
        async with connect(uri, additional_headers=TRACED, open_timeout=BOUND_S) as socket:
            await socket.send(json.dumps({"type": "response.create"} | ASK))
            while json.loads(await bounded(socket.recv()))["type"] != "response.completed":
                pass
    assert collected.server.name == f"WS {PATH}"
    assert ids(collected.server)[0] == ids(collected.client)[0] == TRACE
    [call] = upstream.calls
    assert call.headers["traceparent"].split("-")[1:3] == list(ids(collected.client))


async def test_a_chat_request_that_is_passed_through_has_spans(
    upstream: ScriptedUpstream, collected: Collected
) -> None:
    async with client_of(make_settings(upstream.url), observe=collected.factory) as client:
        await client.post("/v1/chat/completions", json={"model": "m", "messages": []})
    assert collected.server.name == "POST /v1/chat/completions"
    assert collected.client.name == "chat m"
    assert collected.client.attributes is not None
    assert collected.client.attributes["gen_ai.operation.name"] == "chat"


async def test_spans_hold_no_text_of_the_conversation(
    upstream: ScriptedUpstream, collected: Collected
) -> None:
    async def script(call: Call) -> None:
        if len(upstream.calls) == 1:
            await call.answer({"error": {"message": "the secret plan", "code": "secret"}}, 400)
        else:
            await call.head()
            await call.send(chunk({"content": "secret"}, "stop"), HELLO[-1])
            await call.end()

    upstream.script = script
    settings = make_settings(upstream.url, key="sk-secret", upstream={"headers": {"x-a": "secret"}})
    async with client_of(settings, observe=collected.factory) as client:
        for _ in range(2):
            await client.post(PATH, json=ASK, headers={"authorization": "Bearer secret"})
    spans = [*collected.of(SpanKind.SERVER), *collected.of(SpanKind.CLIENT)]
    assert len(spans) == 4
    for span in spans:
        assert "secret" not in span.to_json()


async def test_serve_exports_spans_as_the_environment_configures_it(
    upstream: ScriptedUpstream,
) -> None:
    collector = ScriptedUpstream()

    async def accept(call: Call) -> None:
        await call.answer(b"", content_type="application/x-protobuf")

    collector.script = accept
    async with collector.running():
        env = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url.removesuffix("/v1"),
            "OTEL_BSP_SCHEDULE_DELAY": "10",
            "NO_PROXY": "127.0.0.1",
        }
        settings = f"[server]\ntraces = true\n[upstreams.a]\nbase_url = '{upstream.url}'\n"
        with written(settings) as file, served("--config", file, env=env) as (line, process):
            base = line.partition("/v1 and ")[0].removeprefix("translator listens on ")
            async with httpx.AsyncClient(timeout=BOUND_S) as client:
                answer = await client.post(base + PATH, json=ASK)
            process.terminate()
            await bounded(asyncio.to_thread(process.communicate, timeout=BOUND_S))
    sent = b"".join(call.body for call in collector.calls)
    assert {call.path for call in collector.calls} == {"/v1/traces"}
    assert answer.headers["x-request-id"].encode() in sent
    assert b"gen_ai.request.model" in sent
    assert b"translator" in sent
    assert b"secret" not in sent


def test_traces_without_the_extra_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in list(sys.modules):
        if name.startswith("opentelemetry.") or name == "translator.service.telemetry.otel":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.setattr(run, "start_logging", lambda *_: None)  # it would outlast the test
    settings = "[server]\nport = 0\ntraces = true\n[upstreams.a]\nbase_url = 'http://u/v1'\n"
    with written(settings) as file:
        assert main(["serve", "--config", file]) == 2
    assert capsys.readouterr().err == (
        "translator: server.traces: opentelemetry is missing; "
        f"{install_hint('service,otel')} installs it\n"
    )


@pytest.mark.parametrize(
    ("path", "route"),
    [
        *(("/v1/models/small", "/v1/models/{id}"), ("/models/s/m/l", "/v1/models/{id}")),
        *(("/v1/models", "/v1/models"), ("//v1/models", "/v1/models"), ("/v1/nothing/7", "")),
    ],
)
async def test_a_span_has_the_name_of_its_route_and_no_id(
    upstream: ScriptedUpstream, collected: Collected, path: str, route: str
) -> None:
    settings = make_settings(upstream.url, models=MODELS)
    async with client_of(settings, observe=collected.factory) as client:
        await client.get(f"{client.base_url}{path}" if path.startswith("//") else path)
    assert collected.server.name == f"GET {route}".strip()
    attributes = collected.server.attributes
    assert attributes is not None
    assert attributes["url.path"] == path
    assert attributes.get("http.route", "") == route


@contextmanager
def written(settings: str) -> Iterator[str]:
    """A settings file with this text; its path."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "settings.toml"
        file.write_text(settings)
        yield str(file)
