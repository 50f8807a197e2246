"""Prometheus metrics are right, and clients and upstreams cannot choose their labels."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import connect

from translator.service.telemetry import metrics as module
from translator.service.telemetry.metrics import Metrics
from translator.service.telemetry.shared_metrics import FOLDER, shared_metrics, worker_gone
from translator.service.upstreams.error_kinds import UPSTREAM_KINDS

from .chat_bodies import COMPLETION, HELLO, chunk, frame
from .processes import served
from .responses_api import ASK_SMALL, PATH
from .wire import (
    BOUND_S,
    MODELS,
    Call,
    Script,
    ScriptedUpstream,
    bounded,
    client_of,
    make_settings,
    say_hello,
)

pytestmark = pytest.mark.anyio

USAGE = {
    "prompt_tokens": 30,
    "completion_tokens": 12,
    "total_tokens": 42,
    "prompt_tokens_details": {"cached_tokens": 20},
    "completion_tokens_details": {"reasoning_tokens": 5},
}


class Page:
    """A scrape of `/metrics`."""

    def __init__(self, text: str) -> None:
        self.samples = [
            sample for family in text_string_to_metric_families(text) for sample in family.samples
        ]

    def __call__(self, metric: str, **labels: str) -> float:
        """The sum of all samples of that name that have these labels; 0 when there is none."""
        return sum(
            sample.value
            for sample in self.samples
            if sample.name == f"translator_{metric}" and labels.items() <= sample.labels.items()
        )

    def labels(self, name: str) -> set[str]:
        """All values of one label."""
        return {sample.labels[name] for sample in self.samples if name in sample.labels}


async def scrape(client: httpx.AsyncClient, base: str = "") -> Page:
    answer = await client.get(f"{base}/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    return Page(answer.text)


async def say_hello_with_usage(call: Call) -> None:
    await call.head()
    await call.send(*HELLO[:-1], frame({"choices": [], "usage": USAGE}), HELLO[-1])
    await call.end()


async def test_a_stream_is_counted(upstream: ScriptedUpstream) -> None:
    upstream.script = say_hello_with_usage
    async with upstream.client(models=MODELS) as client:
        await client.post(PATH, json=ASK_SMALL | {"truncation": "auto", "store": True})
        page = await scrape(client)
    assert (
        page(
            "requests_total",
            endpoint="responses",
            model="small",
            dialect="base",
            status="200",
            outcome="completed",
        )
        == 1
    )
    assert page("requests_total") == 1  # that of the metrics is no request
    assert page("request_duration_seconds_count", endpoint="responses", model="small") == 1
    assert page("time_to_first_token_seconds_count", model="small") == 1
    assert 0 < page("time_to_first_token_seconds_sum") <= page("request_duration_seconds_sum")
    assert page("output_tokens_per_second_count", model="small") == 1
    assert page("output_tokens_per_second_sum") > 0
    for kind, count in {"input": 30, "cached": 20, "output": 12, "reasoning": 5}.items():
        assert page("tokens_total", model="small", kind=kind) == count
    assert page("translation_seconds_count") == 1
    assert page("upstream_calls_total", upstream="up", status="200") == 1
    assert page("upstream_headers_seconds_count", upstream="up") == 1
    assert page("upstream_errors_total") == page("errors_total") == 0
    assert page("notices_total", code="ignored") == 2
    assert page("requests_open") == page("streams_open") == 0


async def test_an_answer_that_is_not_streamed_has_no_first_token(
    upstream: ScriptedUpstream,
) -> None:
    async with upstream.client(models=MODELS) as client:
        await client.post(PATH, json=ASK_SMALL | {"stream": False})
        page = await scrape(client)
    assert page("requests_total", outcome="completed", status="200") == 1
    assert page("tokens_total", kind="output") == COMPLETION["usage"]["completion_tokens"]
    assert page("time_to_first_token_seconds_count") == 0
    assert page("output_tokens_per_second_count") == 0


async def test_gauges_count_open_requests(upstream: ScriptedUpstream) -> None:
    go = asyncio.Event()

    async def script(call: Call) -> None:
        await call.head()
        await call.send(*HELLO[:2])
        await go.wait()
        await call.send(*HELLO[2:])
        await call.end()

    upstream.script = script
    async with (
        upstream.service(models=MODELS) as base,
        httpx.AsyncClient(timeout=BOUND_S) as client,
    ):
        async with client.stream("POST", base + PATH, json=ASK_SMALL) as answer:
            pieces = answer.aiter_raw()
            await bounded(anext(pieces))
            async with connect(f"ws{base[4:]}{PATH}", open_timeout=BOUND_S):
                page = await scrape(client, base)
                assert page("requests_open", endpoint="responses") == 1
                assert page("streams_open") == page("websockets_open") == 1
            go.set()
            async for _ in pieces:
                pass
        async with asyncio.timeout(BOUND_S):
            while (page := await scrape(client, base))("websockets_open"):
                pass
        assert page("requests_open") == page("streams_open") == 0


async def test_a_turn_on_a_websocket_is_a_request(upstream: ScriptedUpstream) -> None:
    async with upstream.service(models=MODELS) as base:
        async with connect(f"ws{base[4:]}{PATH}", open_timeout=BOUND_S) as socket:
            await socket.send(json.dumps({"type": "response.create"} | ASK_SMALL))
            while json.loads(await bounded(socket.recv()))["type"] != "response.completed":
                pass
            await socket.send("{")
            await bounded(socket.recv())
        async with httpx.AsyncClient() as client, asyncio.timeout(BOUND_S):
            while not (page := await scrape(client, base))("requests_total"):
                pass
    assert page("requests_total", endpoint="websocket", model="small", status="200") == 1
    assert page("requests_total") == 1  # half a frame is no turn
    assert page("time_to_first_token_seconds_count", model="small") == 1


async def test_a_client_that_leaves_has_its_own_outcome(upstream: ScriptedUpstream) -> None:
    async def script(call: Call) -> None:
        await call.head()
        await call.send(*HELLO[:2])
        await call.gone()

    upstream.script = script
    async with (
        upstream.service(models=MODELS) as base,
        httpx.AsyncClient(timeout=BOUND_S) as client,
    ):
        async with client.stream("POST", base + PATH, json=ASK_SMALL) as answer:
            await bounded(anext(answer.aiter_raw()))
        async with asyncio.timeout(BOUND_S):
            while not (page := await scrape(client, base))("requests_total"):
                pass
    assert page("requests_total", outcome="client_left", status="200") == 1
    assert page("errors_total") == 0


async def test_a_model_that_is_not_in_the_table_is_other(upstream: ScriptedUpstream) -> None:
    async with upstream.client(models=MODELS) as client:
        for model in ("small", "sk-secret", "x" * 1000):
            await client.post(PATH, json=ASK_SMALL | {"model": model})
        page = await scrape(client)
    assert page.labels("model") == {*MODELS, "other"}
    assert page("requests_total", model="other", status="404", outcome="refused") == 2
    assert page("errors_total", model="other", code="model_not_found", endpoint="responses") == 2
    async with upstream.client() as client:  # any model is accepted
        await client.post(PATH, json=ASK_SMALL)
        page = await scrape(client)
    assert page.labels("model") == {"other"}
    assert page("requests_total", status="200") == 1


@pytest.mark.parametrize(
    ("status", "error", "kind", "code"),
    [
        (429, {"message": "Slow down"}, "rate_limit_exceeded", "rate_limit_exceeded"),
        (
            400,
            {"message": "This model's maximum context length is 9"},
            *["context_length_exceeded"] * 2,
        ),
        (400, {"message": "no", "code": "sk-secret"}, "refused", "refused"),
        (418, {"message": "no"}, "refused", "refused"),
        (500, {"message": "out of memory"}, "failed", "failed"),
        (503, {"message": "busy"}, "server_is_overloaded", "server_is_overloaded"),
    ],
)
async def test_a_refusal_of_the_upstream_is_counted_by_kind(
    status: int, error: dict[str, str], kind: str, code: str, upstream: ScriptedUpstream
) -> None:
    async def script(call: Call) -> None:
        await call.answer({"error": error}, status)

    upstream.script = script
    async with upstream.client(models=MODELS, retries=0) as client:
        answer = await client.post(PATH, json=ASK_SMALL)
        page = await scrape(client)
    assert page("upstream_errors_total", upstream="up", kind=kind) == 1
    assert page("upstream_errors_total") == 1
    assert page("upstream_calls_total", status=str(status)) == 1
    outcome = "refused" if answer.status_code < 500 else "failed"
    assert page("requests_total", status=str(answer.status_code), outcome=outcome) == 1
    assert page("errors_total", code=code) == page("errors_total") == 1
    assert kind in UPSTREAM_KINDS


async def test_an_unreachable_upstream_is_counted() -> None:
    settings = make_settings("http://127.0.0.1:9/v1", models=MODELS, retries=0)
    async with client_of(settings) as client:
        await client.post(PATH, json=ASK_SMALL)
        page = await scrape(client)
    assert page("upstream_errors_total", upstream="up", kind="unreachable") == 1
    assert page("upstream_calls_total", upstream="up", status="none") == 1
    assert page("upstream_headers_seconds_count") == 0
    assert page("requests_total", status="502", outcome="failed") == 1


async def test_an_answer_that_breaks_off_is_counted(upstream: ScriptedUpstream) -> None:
    async def script(call: Call) -> None:
        await call.head()
        await call.send(HELLO[1])
        await call.cut(HELLO[2])

    upstream.script = script
    async with upstream.client(models=MODELS) as client:
        answer = await client.post(PATH, json=ASK_SMALL)
        assert "response.failed" in answer.text
        page = await scrape(client)
    assert page("upstream_errors_total", kind="broken") == page("upstream_errors_total") == 1
    assert page("requests_total", status="200", outcome="failed") == 1
    assert page("time_to_first_token_seconds_count") == 1


async def test_an_error_inside_an_answer_is_counted_once(upstream: ScriptedUpstream) -> None:
    async def script(call: Call) -> None:
        await call.head()
        await call.send(HELLO[1], frame({"error": {"message": "boom", "code": 500}}))
        await call.end()

    upstream.script = script
    async with upstream.client(models=MODELS) as client:
        await client.post(PATH, json=ASK_SMALL)
        page = await scrape(client)
    assert page("upstream_errors_total", kind="failed") == page("upstream_errors_total") == 1
    assert page("requests_total", status="200", outcome="failed") == 1


async def test_another_attempt_is_a_retry(upstream: ScriptedUpstream) -> None:
    async def script(call: Call) -> None:
        if "temperature" in call.json:
            await call.answer({"error": {"message": "Unknown parameter: 'temperature'."}}, 400)
        else:
            await say_hello(call)

    upstream.script = script
    async with upstream.client(models=MODELS) as client:
        await client.post(PATH, json=ASK_SMALL | {"temperature": 0.5})
        page = await scrape(client)
    assert page("upstream_retries_total", upstream="up", kind="refused") == 1
    assert page("upstream_calls_total", status="400") == 1
    assert page("upstream_calls_total", status="200") == 1
    assert page("upstream_errors_total", kind="refused") == page("upstream_errors_total") == 1
    assert page("notices_total", code="refused_upstream") == 1
    assert page("errors_total") == 0


async def test_a_request_that_was_not_accepted_is_a_retry(upstream: ScriptedUpstream) -> None:
    async def script(call: Call) -> None:
        if len(upstream.calls) == 1:
            await call.answer({}, 503, headers={"retry-after": "0"})
        else:
            await say_hello(call)

    upstream.script = script
    async with upstream.client(models=MODELS, retries=1) as client:
        assert (await client.post(PATH, json=ASK_SMALL)).status_code == 200
        page = await scrape(client)
    assert page("upstream_retries_total", kind="server_is_overloaded") == 1
    assert page("upstream_errors_total") == 1
    assert page("upstream_calls_total") == 2


async def test_a_chat_request_that_is_passed_through_is_counted(upstream: ScriptedUpstream) -> None:
    async def script(call: Call) -> None:
        if call.path.endswith("/models"):
            await call.answer({"data": []})
        elif len(upstream.calls) == 1:
            await say_hello(call)
        else:
            await call.answer({"error": {"message": "no"}}, 500)

    upstream.script = script
    chat = {"model": "m", "messages": [], "stream": True}
    async with upstream.client(retries=0) as client:
        await client.post("/v1/chat/completions", json=chat)
        await client.post("/chat/completions", json=chat)
        await client.get("/v1/models")
        await client.get("/v1/other")
        page = await scrape(client)
    assert page("requests_total", endpoint="chat", status="200", outcome="completed") == 1
    assert page("requests_total", endpoint="chat", status="500", outcome="failed") == 1
    assert page("requests_total", endpoint="models", status="200") == 1
    assert page("requests_total", endpoint="other", status="404") == 1
    assert page("upstream_errors_total", upstream="up", kind="failed") == 1
    assert page("upstream_errors_total") == 1
    assert page("upstream_calls_total", upstream="up") == 3
    assert page("streams_open") == 0


async def test_the_lag_of_the_event_loop_is_measured(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LAG_INTERVAL_S", 0.01)
    async with upstream.client() as client, asyncio.timeout(BOUND_S):
        while (await scrape(client))("event_loop_lag_seconds_count") < 3:
            await asyncio.sleep(0.01)


async def test_process_metrics_and_the_version(upstream: ScriptedUpstream) -> None:
    async with upstream.client() as client:
        page = await scrape(client)
        newer = await client.get("/metrics", headers={"accept": "application/openmetrics-text"})
    assert page("build_info") == 1
    assert {"process_open_fds", "process_resident_memory_bytes"} <= {
        sample.name for sample in page.samples
    }
    assert newer.headers["content-type"].startswith("application/openmetrics-text")
    assert newer.text.endswith("# EOF\n")


async def test_metrics_can_be_switched_off(upstream: ScriptedUpstream) -> None:
    async with upstream.client(metrics=False) as client:
        assert (await client.get("/metrics")).status_code == 404
        assert (await client.post(PATH, json=ASK_SMALL)).status_code == 200


async def test_metrics_can_have_a_port_of_their_own(upstream: ScriptedUpstream) -> None:
    """That port serves nothing else, and no other port serves metrics."""
    async with upstream.client(metrics_port=9464) as client:
        assert (await client.get("/metrics")).status_code == 404
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.post(PATH, json=ASK_SMALL)).status_code == 200
        own = "http://gateway:9464"
        for path in ("/metrics", "/healthz", "/readyz"):
            assert (await client.get(own + path)).status_code == 200
        for path in (PATH, "/responses", "/v1/chat/completions", "/v1/models"):
            assert (await client.post(own + path, json=ASK_SMALL)).status_code == 404
    assert len([call for call in upstream.calls if call.method == "POST"]) == 1


def test_serve_listens_on_the_port_of_the_metrics(tmp_path: Path) -> None:
    with httpx.Client(timeout=BOUND_S) as client:
        port = free_port()
        file = tmp_path / "settings.toml"
        file.write_text(
            f"[server]\nmetrics_port = {port}\n[upstreams.a]\nbase_url = 'http://127.0.0.1:9/v1'\n"
        )
        with served("--config", str(file)) as (line, process):
            base = line.partition("/v1 and ")[0].removeprefix("translator listens on ")
            assert client.get(f"{base}/healthz").status_code == 200
            assert client.get(f"{base}/metrics").status_code == 404
            page = Page(client.get(f"http://127.0.0.1:{port}/metrics").text)
            assert client.post(f"http://127.0.0.1:{port}{PATH}", json=ASK_SMALL).status_code == 404
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=BOUND_S)
        assert page("build_info") == 1


def free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


async def test_the_metrics_of_several_processes_are_summed(upstream: ScriptedUpstream) -> None:
    """Any process serves the sums; gauges sum only live processes."""

    async def script(call: Call) -> None:
        await call.head()
        await call.send(chunk({"content": "Hello"}))
        await call.gone()

    with shared_metrics() as folder:
        env = {FOLDER: str(folder)}
        words = ("--upstream", upstream.url)
        with served(*words, env=env) as (one, first), served(*words, env=env) as (two, _):
            bases = [
                line.partition("/v1 and ")[0].removeprefix("translator listens on ")
                for line in (one, two)
            ]
            async with httpx.AsyncClient(timeout=BOUND_S) as client:
                for base in bases:
                    await client.post(base + PATH, json=ASK_SMALL | {"stream": False})
                upstream.script = script
                async with client.stream("POST", bases[0] + PATH, json=ASK_SMALL) as answer:
                    pieces = answer.aiter_raw()
                    await bounded(anext(pieces))
                    page = await scrape(client, bases[1])
                    assert page("requests_total", status="200") == 2
                    assert page("build_info") == 1
                    assert page("streams_open") == page("requests_open") == 1
                    first.kill()
                    first.wait(BOUND_S)
                worker_gone(first.pid)
                page = await scrape(client, bases[1])
                assert page("streams_open") == page("requests_open") == 0
                assert page("requests_total", status="200") == 2  # what it has counted stays
    assert FOLDER not in os.environ
    assert not folder.exists()


def test_the_operators_folder_is_emptied_and_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    (tmp_path / "counter_1.db").write_bytes(b"old")
    (tmp_path / "note").write_bytes(b"")
    with shared_metrics() as folder:
        assert folder == tmp_path
        assert [path.name for path in folder.iterdir()] == ["note"]
    assert os.environ[FOLDER] == str(tmp_path)


def test_an_application_has_metrics_of_its_own() -> None:
    """Two in one process, as in tests, do not share metrics."""
    settings = make_settings("http://up.test")
    first, second = Metrics(settings), Metrics(settings)
    first.websockets_open.inc()
    assert "translator_websockets_open 0.0" in asyncio.run(second.page(""))[0].decode()


@pytest.mark.parametrize(("thought", "later"), [({}, 9), ({"reasoning_content": "Hm."}, 49)])
async def test_the_speed_leaves_out_what_came_before_the_first_token(
    upstream: ScriptedUpstream, thought: dict[str, str], later: int
) -> None:
    """Reasoning that is not shown would make a stream look five times as fast."""
    usage = {
        "prompt_tokens": 3,
        "completion_tokens": 50,
        "total_tokens": 53,
        "completion_tokens_details": {"reasoning_tokens": 40},
    }

    async def script(call: Call) -> None:
        await call.head()
        await call.send(chunk(thought), *HELLO[:-1], frame({"choices": [], "usage": usage}))
        await call.send(HELLO[-1])
        await call.end()

    upstream.script = script
    now = 1000.0

    def timer() -> float:
        nonlocal now
        now += 1
        return now

    async with client_of(make_settings(upstream.url), timer=timer) as client:
        await client.post(PATH, json=ASK_SMALL)
        page = await scrape(client)
    duration, first = (
        page(f"{name}_seconds_sum") for name in ("request_duration", "time_to_first_token")
    )
    assert page("output_tokens_per_second_sum") == pytest.approx(later / (duration - first))


def failing(status: int) -> Script:
    async def script(call: Call) -> None:
        await call.answer({"error": {"message": "It failed."}}, status)

    return script


async def cut(call: Call) -> None:
    await call.head()
    await call.send(*HELLO[:2])
    await call.cut(HELLO[2])


async def drop(call: Call) -> None:
    call.drop()


FAILURES: dict[str, Script] = {
    **{str(status): failing(status) for status in (400, 429, 500, 503)},
    "cut": cut,
    "dropped": drop,
}


@pytest.mark.parametrize(("path", "models"), [(PATH, None), ("/v1/chat/completions", MODELS)])
@pytest.mark.parametrize("name", FAILURES)
async def test_a_counter_is_there_before_its_first_error(
    upstream: ScriptedUpstream, path: str, name: str, models: dict[str, Any] | None
) -> None:
    """Else `rate()` would not see it: a series that begins at 1 has not grown."""
    upstream.script = FAILURES[name]
    async with upstream.socket_client(models=models, retries=1) as client:
        before = await scrape(client)
        with suppress(httpx.RemoteProtocolError):  # an answer that is cut
            await client.post(path, json=ASK_SMALL | {"messages": [], "max_output_tokens": 1000})
        after = await scrape(client)

    def counters(page: Page) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        return {
            (one.name, frozenset(one.labels.items())): one.value
            for one in page.samples
            if one.name.endswith("_total") and one.name.startswith("translator_")
        }

    first, second = counters(before), counters(after)
    grown = {series for series, value in second.items() if value > first.get(series, 0)}
    assert grown
    assert grown <= first.keys()
    assert set(first.values()) == {0}


def test_the_series_that_begin_at_zero_are_few() -> None:
    """For a hundred models, too: what a scrape costs is bounded."""
    models = {f"m{number}": {"upstream": "up"} for number in range(100)}
    page = asyncio.run(Metrics(make_settings("http://up.test", models=models)).page(""))[0]
    assert page.count(b"\n") < 1500
