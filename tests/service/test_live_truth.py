"""What the live view says is what has happened, at every width: figures, models, clients."""

from __future__ import annotations

import asyncio
import io
import json
import re
from contextlib import closing
from typing import Any

import httpx
import pytest

from translator.service.base.keys import new_key, store
from translator.service.config.loading import read_table
from translator.service.config.settings import Settings
from translator.service.live.board import format_row
from translator.service.live.progress import Progress, ProgressObserverFactory
from translator.service.live.terminal import open_view

from .chat_bodies import COMPLETION, HELLO, chunk, frame
from .log import Log
from .progress import a_progress
from .responses_api import ASK, PATH
from .websocket.client import CREATE, open_socket
from .wire import (
    BOUND_S,
    Call,
    ScriptedUpstream,
    client_of,
    hello_then_silence,
    make_settings,
    serving,
)

pytestmark = pytest.mark.anyio

CASES = [
    a_progress(),
    a_progress(
        model="accounts/fireworks/models/a-model-with-a-long-name", phase="calling",
        detail="a_tool_with_a_long_name", seconds=12345.6, first_s=123.4, per_s=1234.5,
        tokens=12_345_678, notes="12; ignored,weakened,clamped", id="req_" + "0" * 32,
    ),
    a_progress(phase="failed", detail="rate_limit_exceeded", client="alice", model="kimi-k2p6"),
    a_progress(model="模型-🙂", client="клиент", phase="answering", tokens=7, counted=True),
]  # fmt: skip


@pytest.mark.parametrize("progress", CASES)
def test_a_row_fits_every_terminal_and_no_figure_is_cut(progress: Progress) -> None:
    """What is shown of a figure is all of it: `12 tokens` must not be the rest of 12345678."""
    tilde = "" if progress.counted else "~"
    speed = "" if progress.per_s is None else f"{tilde}{progress.per_s:.0f}"
    for width in range(1, 201):
        row = format_row(progress, width=width, colour=False)
        assert len(row) <= width
        assert row.isascii() or row.replace("…", "").isascii()
        assert set(re.findall(r"(\S+) tok(?:ens)?(?= |$)", row)) <= {f"{tilde}{progress.tokens}"}
        assert set(re.findall(r"(\S+) tok/s(?= |$)", row)) <= {speed}
        assert set(re.findall(r"(\S+) notice", row)) <= {progress.notes.partition(";")[0]}
        if width >= 19:
            assert f" {progress.seconds:.1f}s" in row
        coloured = format_row(progress, width=width, colour=True)
        assert re.sub(r"\x1b\[[0-9;]*m", "", coloured).rstrip() == row


@pytest.mark.parametrize("width", [39, 59, 76])
def test_a_narrow_row_shows_what_is_most_wanted(width: int) -> None:
    running = a_progress(model="kimi", phase="answering", tokens=120, per_s=44.4)
    text = format_row(running, width=width, colour=False)
    assert [word for word in text.split() if word in ("kimi", "answering", "2.0s", "~120")] == [
        *("kimi", "answering", "2.0s", "~120")
    ]
    assert ("~44 tok/s" in text) == (width > 50)
    refused = a_progress(model="kimi", phase="failed", detail="rate_limit_exceeded", client="alice")
    text = format_row(refused, width=width, colour=False)
    assert {"kimi", "failed", "2.0s", "alice"} <= set(text.split())
    assert "failed rate" in text


@pytest.mark.parametrize("shown", [True, False])
@pytest.mark.parametrize("stream", [True, False])
async def test_tokens_are_those_of_the_log(
    upstream: ScriptedUpstream, log: Log, *, stream: bool, shown: bool
) -> None:
    """Of a whole answer, too, and whether its reasoning is shown or not."""
    usage = {
        "prompt_tokens": 3,
        "completion_tokens": 50,
        "total_tokens": 53,
        "completion_tokens_details": {"reasoning_tokens": 40},
    }
    thought = {"reasoning_content": "Hm."} if shown else {}

    async def script(call: Call) -> None:
        if stream:
            await call.head()
            await call.send(chunk(thought), *HELLO[:-1], frame({"choices": [], "usage": usage}))
            await call.send(HELLO[-1])
            await call.end()
        else:
            message = {"role": "assistant", "content": "Yes.", **thought}
            choice = {"index": 0, "finish_reason": "stop", "message": message}
            await call.answer({**COMPLETION, "choices": [choice], "usage": usage})

    upstream.script = script
    reports: list[Progress] = []
    async with client_of(
        make_settings(upstream.url), observe=ProgressObserverFactory(reports.append)
    ) as client:
        await client.post(PATH, json=ASK | {"stream": stream})
    assert (reports[-1].tokens, reports[-1].counted) == (50, True)
    assert log.request["output_tokens"] == 50


async def test_tokens_of_an_answer_that_fails_are_those_of_the_log(
    upstream: ScriptedUpstream, log: Log
) -> None:
    async def script(call: Call) -> None:
        usage = {"prompt_tokens": 3, "completion_tokens": 9, "total_tokens": 12}
        await call.head()
        await call.send(*HELLO[:2], frame({"choices": [], "usage": usage}))
        await call.send(frame({"error": {"message": "It broke."}}))
        await call.end()

    upstream.script = script
    reports: list[Progress] = []
    async with client_of(
        make_settings(upstream.url), observe=ProgressObserverFactory(reports.append)
    ) as client:
        await client.post(PATH, json=ASK)
    assert reports[-1].phase == "failed"
    assert reports[-1].tokens == log.request.get("output_tokens", reports[-1].tokens)
    assert log.request["output_tokens"] == 9


REFUSING: dict[str, dict[str, Any]] = {
    "rate_limit_exceeded": {"requests_per_minute": 1},
    "model_not_found": {"models": ["other"]},
}


@pytest.mark.parametrize("path", [PATH, "/v1/chat/completions", "/v1/responses/compact"])
@pytest.mark.parametrize("code", REFUSING)
async def test_a_refused_request_has_its_model_and_its_client(
    upstream: ScriptedUpstream, log: Log, path: str, code: str
) -> None:
    """Though no upstream was asked for it."""
    reports: list[Progress] = []
    settings = keyed(upstream.url, **REFUSING[code])
    asked = {"model": "small", "input": "Hi", "messages": []}
    observe = ProgressObserverFactory(reports.append)
    async with client_of(settings, observe=observe) as client:
        for _ in range(2):
            last = await client.post(path, json=asked, headers=AUTHORIZED)
    assert last.json()["error"]["code"] == code
    end = reports[-1]
    assert (end.phase, end.detail, end.model, end.client) == ("failed", code, "small", "alice")
    line = log.objects[-1]
    assert (line["status"], line["model"], line["client"]) == (last.status_code, "small", "alice")


@pytest.mark.parametrize("path", [PATH, "/v1/chat/completions", "/v1/responses/input_tokens"])
async def test_so_has_one_for_which_there_is_no_slot(
    upstream: ScriptedUpstream, log: Log, path: str
) -> None:
    """Its body is not waited for; one that is there is looked into."""
    upstream.script = hello_then_silence
    reports: list[Progress] = []
    settings = keyed(upstream.url, max_concurrent_requests=1)
    async with (
        serving(settings, observe=ProgressObserverFactory(reports.append)) as base,
        httpx.AsyncClient(base_url=base, timeout=BOUND_S, headers=AUTHORIZED) as client,
        client.stream("POST", PATH, json=ASK) as open_one,
    ):
        assert open_one.status_code == 200
        refused = await client.post(path, json={"model": "small", "input": "Hi", "messages": []})
    assert refused.status_code == 429
    [line] = [one for one in log.objects if one.get("status") == 429]
    assert (line["model"], line["client"]) == ("small", "alice")
    assert ("failed", "small", "alice") in {(one.phase, one.model, one.client) for one in reports}


async def test_so_has_a_turn_for_which_there_is_no_slot(
    upstream: ScriptedUpstream, log: Log
) -> None:
    upstream.script = hello_then_silence
    async with serving(keyed(upstream.url, max_concurrent_requests=1)) as base:
        async with open_socket(base, AUTHORIZED["authorization"].split()[1]) as socket:
            for lane in ("one", "two"):
                await socket.send(json.dumps(CREATE | {"stream_id": lane, "model": "small"}))
            async with asyncio.timeout(BOUND_S):
                while not (turns := [one for one in log.objects if one.get("method") == "WS"]):
                    await asyncio.sleep(0.01)
    assert (turns[0]["status"], turns[0]["model"], turns[0]["client"]) == (429, "small", "alice")


KEY = new_key()
AUTHORIZED = {"authorization": f"Bearer {KEY}"}


def keyed(url: str, **limits: Any) -> Settings:
    """Settings with one client, which has these limits."""
    table = {
        "upstreams": {"up": {"base_url": url}},
        "models": {name: {"upstream": "up"} for name in ("small", "other", "m")},
        "clients": {"alice": {"keys": [str(store(KEY))], **limits}},
    }
    return read_table(table, {})


def test_a_terminal_with_few_characters_ends_no_view() -> None:
    """As one that is Latin-1: what it lacks is written otherwise."""
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="latin-1")
    with closing(open_view(out)) as view:
        view.write_line("模型")
        view.update(a_progress(model="m" * 30))
        view.update(a_progress(model="last", phase="done"))
    shown = raw.getvalue().decode("latin-1")
    assert "\\u6a21\\u578b" in shown
    assert "mmmm. " in shown
    assert "last" in shown


async def test_times_at_the_end_are_those_of_the_log(upstream: ScriptedUpstream, log: Log) -> None:
    reports: list[Progress] = []
    observe = ProgressObserverFactory(reports.append, timer=lambda: 7.0)
    now = 1000.0

    def timer() -> float:
        nonlocal now
        now += 1
        return now

    async with client_of(make_settings(upstream.url), observe=observe, timer=timer) as client:
        await client.post(PATH, json=ASK)
    line, last = log.request, reports[-1]
    assert (last.seconds * 1000, (last.first_s or 0) * 1000) == (
        line["duration_ms"],
        line["first_token_ms"],
    )


def test_a_row_of_80_columns_ends_with_its_tokens() -> None:
    """While it runs, the time to the first one tells more."""
    fields: dict[str, Any] = {"first_s": 0.8, "per_s": 44.4, "tokens": 120, "counted": True}
    ended = format_row(a_progress(phase="done", **fields), width=79, colour=False)
    assert ended.endswith("2.0s     44 tok/s    120 tokens")
    running = format_row(a_progress(phase="answering", **fields), width=79, colour=False)
    assert running.endswith("2.0s   first 0.8s     44 tok/s")
