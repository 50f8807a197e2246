"""Marked secrets and conversation text appear in no log, metric, span, or `/readyz`."""

from __future__ import annotations

import json
import logging
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from websockets.asyncio.client import connect

from translator.service.telemetry.otel import Spans

from .chat_bodies import COMPLETION, HELLO, chunk, frame
from .log import Log
from .responses_api import PATH
from .wire import BOUND_S, MODELS, Call, ScriptedUpstream, bounded, make_settings, serving

pytestmark = pytest.mark.anyio

PLANTED = "pl4nt3d"
"""A marker in all values that must not appear."""

ASK: dict[str, Any] = {
    "model": "small",
    "instructions": f"{PLANTED} instructions",
    "input": f"{PLANTED} input",
    "metadata": {"a": f"{PLANTED} metadata"},
    "user": f"{PLANTED}-user",
    "truncation": "auto",
    "unknown_field": f"{PLANTED} field",
    "tools": [{"type": "function", "name": "ls", "parameters": {}, "description": PLANTED}],
    "stream": True,
}
HEADERS = {
    "authorization": f"Bearer {PLANTED}-key",
    "cookie": f"session={PLANTED}",
    "x-custom": PLANTED,
    "x-request-id": f"{PLANTED} with a space",
    "traceparent": f"{PLANTED}-trace",
}


async def answer(call: Call) -> None:
    """Answer each call with the marker in another place."""
    message = {"error": {"message": f"{PLANTED} message", "param": None}}
    n = len(call.body) and int(call.headers.get("x-n", "0"))
    match n % 5:
        case 0:
            await call.head(headers={"x-upstream": PLANTED})
            await call.send(chunk({"content": PLANTED}), *HELLO[1:])
            await call.end()
        case 1:
            await call.answer(message, 400)
        case 2:
            await call.answer(f"<title>{PLANTED}</title>".encode(), 500)
        case 3:
            await call.head()
            await call.send(chunk({"content": PLANTED}), frame(message))
            await call.end()
        case _:
            await call.head()
            await call.send(chunk({"content": PLANTED}))
            call.drop()


async def test_no_marked_value_appears(upstream: ScriptedUpstream) -> None:
    memory = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    logs = [Log("text"), Log("json")]
    root = logging.getLogger("translator")
    before = root.level
    root.setLevel(logging.INFO)
    for log in logs:
        root.addHandler(log.where)

    calls = 0

    async def script(call: Call) -> None:
        nonlocal calls
        call.headers["x-n"] = str(calls)
        calls += 1
        if b'"stream":true' not in call.body.replace(b" ", b"") and calls % 2:
            await call.answer(COMPLETION)
        else:
            await answer(call)

    upstream.script = script
    settings = make_settings(
        upstream.url,
        models=MODELS,
        key=f"{PLANTED}-operator",
        upstream={"headers": {"x-team": f"{PLANTED}-team"}},
        retries=0,
    )
    output: list[str] = []
    try:
        async with (
            serving(settings, observe=Spans(provider)) as base,
            httpx.AsyncClient(base_url=base, headers=HEADERS, timeout=BOUND_S) as client,
        ):
            for stream in (True, False):
                for _ in range(6):
                    await client.post(f"{PATH}?key={PLANTED}", json=ASK | {"stream": stream})
            chat = {"model": "small", "messages": [{"role": "user", "content": PLANTED}]}
            for _ in range(4):
                await client.post("/v1/chat/completions", json=chat)
            await client.post(PATH, json=ASK | {"input": [{"role": PLANTED, "content": PLANTED}]})
            await client.post(PATH, content=f"{PLANTED} no JSON")
            await client.get("/v1/models", params={"q": PLANTED})
            async with connect(
                f"ws{base[4:]}{PATH}?key={PLANTED}",
                additional_headers={"authorization": f"Bearer {PLANTED}"},
                open_timeout=BOUND_S,
            ) as socket:
                await socket.send(json.dumps({"type": "response.create"} | ASK))
                await bounded(socket.recv())
            output.append((await client.get("/metrics")).text)
            output.append((await client.get("/readyz")).text)
    finally:
        root.setLevel(before)
        for log in logs:
            root.removeHandler(log.where)
        provider.shutdown()
    spans = memory.get_finished_spans()
    output += [span.to_json() for span in spans]
    output += [line for log in logs for line in log.lines]
    assert len(spans) > 30
    assert all(len(log.lines) >= 18 for log in logs)
    assert [text for text in output if PLANTED in text] == []
    received = [call.headers for call in upstream.calls]
    assert all(f"{PLANTED}-operator" in headers["authorization"] for headers in received)
