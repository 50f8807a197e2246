"""The live view: phases and figures of exchanges, and no text of the conversation."""

from __future__ import annotations

import asyncio
import io
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
from websockets.asyncio.client import connect

import translator
from translator import Notice
from translator.__main__ import main
from translator.service.live.board import format_row
from translator.service.live.progress import Progress, ProgressObserverFactory
from translator.service.live.terminal import LiveView, open_view
from translator.service.observe.fan_out import fan_out
from translator.service.observe.observer import (
    AttemptWritten,
    EventsSent,
    ObservedEvent,
    Observer,
    RequestEnded,
    RetryScheduled,
    Routed,
    UpstreamCalled,
)
from translator.service.observe.record import Record

from .capture.captured import kept
from .chat_bodies import COMPLETION, HELLO, chunk, frame
from .processes import served
from .progress import a_progress
from .responses_api import PATH
from .wire import (
    BOUND_S,
    Call,
    ScriptedUpstream,
    bounded,
    client_of,
    make_settings,
    say_hello,
    serving,
)

pytestmark = pytest.mark.anyio

ASK: dict[str, Any] = {"model": "m", "input": "A secret question", "stream": True}
USAGE = {"prompt_tokens": 10, "completion_tokens": 30, "total_tokens": 40}
CALL = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "ls", "arguments": ""}}
TURN = [
    chunk({"reasoning_content": "A secret thought"}),
    chunk({"content": "A secret answer"}),
    chunk({"tool_calls": [CALL]}),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}),
    chunk({}, "tool_calls"),
    frame({"id": "c", "object": "chat.completion.chunk", "choices": [], "usage": USAGE}),
    b"data: [DONE]\n\n",
]
TOOLS = [{"type": "function", "name": "ls", "parameters": {"type": "object"}}]


def phases(reports: list[Progress]) -> list[str]:
    """The phases in their order, in words."""
    words = [f"{progress.phase} {progress.detail}".strip() for progress in reports]
    return [word for at, word in enumerate(words) if at == 0 or words[at - 1] != word]


# --- progress ---------------------------------------------------------------------------------


async def test_the_phases_of_a_stream(upstream: ScriptedUpstream) -> None:
    async def script(call: Call) -> None:
        await call.head()
        await call.send(*TURN)
        await call.end()

    upstream.script = script
    reports: list[Progress] = []
    async with client_of(
        make_settings(upstream.url), observe=ProgressObserverFactory(reports.append)
    ) as client:
        answer = await client.post(PATH, json=ASK | {"tools": TOOLS, "truncation": "auto"})
    assert phases(reports) == ["waiting", "thinking", "answering", "calling ls", "done"]
    last = reports[-1]
    assert (last.tokens, last.counted) == (30, True)
    assert last.first_s is not None
    assert 0 <= last.first_s <= last.seconds
    assert last.notes == "1; ignored"
    assert last.id == answer.headers["x-request-id"]
    assert {progress.id for progress in reports} == {last.id}
    assert "secret" not in repr(reports)


async def test_the_phases_of_an_answer_that_is_not_streamed(upstream: ScriptedUpstream) -> None:
    """It has neither a first token nor a speed; one that is passed through has a first token."""
    reports: list[Progress] = []
    async with client_of(
        make_settings(upstream.url), observe=ProgressObserverFactory(reports.append)
    ) as client:
        await client.post(PATH, json=ASK | {"stream": False})
        whole = reports.copy()
        await client.post("/v1/chat/completions", json={"model": "m", "messages": []})
        passed = reports[len(whole) :]
        await client.get("/healthz")
        await client.get("/v1/models")
    assert phases(whole) == phases(passed) == ["waiting", "answering", "done"]
    assert (whole[-1].tokens, whole[-1].counted, whole[-1].first_s) == (2, True, None)
    assert (passed[-1].tokens, passed[-1].counted) == (2, True)
    assert passed[-1].first_s is not None
    assert reports[-1] == passed[-1], "neither a health check nor a list is an exchange"
    assert COMPLETION["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


async def test_another_attempt_and_failures(upstream: ScriptedUpstream) -> None:
    async def script(call: Call) -> None:
        if "temperature" in call.json:
            await call.answer({"error": {"message": "Unknown parameter: 'temperature'."}}, 400)
        elif call.json["model"] == "later":
            upstream.script = say_hello
            error = {"error": {"message": "Slow down."}}
            await call.answer(error, 429, headers={"retry-after": "0"})
        elif call.json["model"] == "busy":
            await call.answer({"error": {"message": "Slow down."}}, 429)
        elif call.json["model"] == "broken":
            await call.head()
            await call.send(*HELLO[:2])
            await call.cut(HELLO[2])
        else:
            await say_hello(call)

    upstream.script = script
    found: dict[str, list[str]] = {}
    for more in (
        {"temperature": 0.5}, {"model": "busy"}, {"model": "broken"}, {"input": []}, {"model": "later"},
    ):  # fmt: skip
        reports: list[Progress] = []
        async with client_of(
            make_settings(upstream.url), observe=ProgressObserverFactory(reports.append)
        ) as client:
            await client.post(PATH, json=ASK | more)
        found[next(iter(more))] = phases(reports)
        found[str(more.get("model"))] = phases(reports)
    assert found["temperature"] == ["waiting", "waiting attempt 2", "answering", "done"]
    assert found["later"] == [
        "waiting", "waiting again in 0s", "waiting attempt 2", "answering", "done"
    ]  # fmt: skip
    assert found["busy"] == ["waiting", "failed rate_limit_exceeded"]
    assert found["broken"] == ["waiting", "answering", "failed upstream_error"]
    assert found["input"] == ["failed missing_required_parameter"]


async def test_a_client_that_leaves_and_turns_of_a_websocket(upstream: ScriptedUpstream) -> None:
    async def script(call: Call) -> None:
        if call.json["model"] == "m":
            await say_hello(call)
        else:
            await call.head()
            await call.send(*HELLO[:2])
            await bounded(call.gone())

    upstream.script = script
    reports: list[Progress] = []
    async with serving(
        make_settings(upstream.url), observe=ProgressObserverFactory(reports.append)
    ) as base:
        async with connect(base.replace("http", "ws") + PATH) as socket:
            await socket.send(json.dumps(ASK | {"type": "response.create"}))
            while json.loads(await bounded(socket.recv()))["type"] != "response.completed":
                pass
        async with httpx.AsyncClient(base_url=base) as client:
            async with client.stream("POST", PATH, json=ASK | {"model": "slow"}) as answer:
                await bounded(anext(answer.aiter_raw()))
    assert phases([one for one in reports if one.model == "m"]) == ["waiting", "answering", "done"]
    assert phases([one for one in reports if one.model == "slow"])[-1] == "left"


def events_of(body: list[bytes]) -> Iterator[list[translator.Event]]:
    t = translator.Translation(
        json.dumps(ASK).encode(), response_id="r", created_at=1, new_id=lambda prefix: prefix
    )
    yield from map(t.receive, body)


def test_the_speed_of_an_answer() -> None:
    """Estimated from its length, four characters per token, until the upstream reports a count."""
    now = 100.0
    reports: list[Progress] = []
    record = Record(method="POST", path=PATH, request_id="req_1", started_at=0.0)
    observer = ProgressObserverFactory(reports.append, clock=lambda: 5.0, timer=lambda: now)(record)
    observer.on(Routed(None, None))  # type: ignore[arg-type]
    observer.on(UpstreamCalled("chat/completions", b""))
    t = translator.Translation(
        json.dumps(ASK).encode(), response_id="r", created_at=1, new_id=lambda prefix: prefix
    )
    observer.on(AttemptWritten(t, ()))
    pieces = [chunk({"content": "x" * 20}) for _ in range(4)]
    for events in events_of([*pieces, chunk({}, "stop")]):
        now += 2.0
        observer.on(EventsSent(events))
    # the first after 2 s, the last delta after 8 s: 80 characters, about 20 tokens in 6 s
    assert (reports[-1].first_s, reports[-1].tokens, reports[-1].per_s) == (2.0, 20, 3.3)
    assert not reports[-1].counted
    assert reports[-1].at == 5.0
    [_, *_, events] = events_of([*pieces, *TURN[-3:]])
    observer.on(EventsSent(events))
    record.outcome = "completed"
    observer.on(RequestEnded())
    assert (reports[-1].phase, reports[-1].tokens, reports[-1].per_s) == ("done", 30, 5.0)
    assert reports[-1].counted


def test_growth_is_reported_once_per_interval() -> None:
    """Not per chunk."""
    now = 100.0
    reports: list[Progress] = []
    record = Record(method="POST", path=PATH, request_id="req_", started_at=0.0)
    observer = ProgressObserverFactory(reports.append, interval_s=1.0, timer=lambda: now)(record)
    for events in events_of([chunk({"content": "word "})] * 40):
        now += 0.1
        observer.on(EventsSent(events))
    assert 4 <= len(reports) <= 5


class Names:
    """An observer that records the names of its events."""

    def __init__(self, wants: Iterable[type[ObservedEvent]] = get_args(ObservedEvent)) -> None:
        self.wants = frozenset(wants)
        self.calls: list[str] = []

    def on(self, event: ObservedEvent) -> None:
        self.calls.append(type(event).__name__)


async def test_several_observers_of_one_request(upstream: ScriptedUpstream) -> None:
    async def script(call: Call) -> None:
        await call.head()
        await call.send(*HELLO[:2])
        await call.cut(HELLO[2])

    async def busy(call: Call) -> None:
        upstream.script = script
        error = {"error": {"message": "Slow down."}}
        await call.answer(error, 429, headers={"retry-after": "0"})

    seen: list[Names] = []
    few: list[Names] = []

    def make(record: Record) -> Observer:
        seen.append(Names())
        return seen[-1]

    def of_retries(record: Record) -> Observer:
        few.append(Names({RetryScheduled}))
        return few[-1]

    async with client_of(
        make_settings(upstream.url), observe=fan_out([make, of_retries, make])
    ) as client:
        await client.post(PATH, json=ASK | {"stream": False})
        await client.post(PATH, content=b"{")
        upstream.script = busy
        await client.post(PATH, json=ASK)
    for one, other in (seen[:2], seen[2:4], seen[4:]):
        assert one.calls == other.calls
        assert one.calls[0] == "RequestReceived"
        assert one.calls[-1] == "RequestEnded"
    observed = {call for one in seen for call in one.calls}
    known = {kind.__name__ for kind in get_args(ObservedEvent)}
    # these need a second model, or a search: `test_fallbacks`, `test_image_descriptions`, `tools`
    assert observed == known - {"FallbackChosen", "ImageDescribed", "ToolRan"}
    assert [one.calls for one in few] == [[], [], ["RetryScheduled"]]
    assert fan_out([]) is None
    assert fan_out([make]) is make


# --- on a terminal ------------------------------------------------------------------------------


def test_a_row_shows_phase_and_figures() -> None:
    progress = a_progress(
        model="accounts/fireworks/models/kimi-k2p6", phase="calling", detail="shell",
        first_s=0.84, per_s=44.4, tokens=120, notes="2; ignored,weakened",
    )  # fmt: skip
    text = format_row(progress, width=200, colour=False)
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d  kimi-k2p6 +calling shell +2\.0s   first 0\.8s +~44 tok/s +~120 tokens"
        r"  req_1  2 notices: ignored,weakened",
        text,
    )
    counted = format_row(a_progress(counted=True, tokens=7, phase="done"), width=200, colour=False)
    assert " 7 tokens" in counted
    assert "tok/s" not in counted
    narrow = format_row(progress, width=79, colour=False)
    assert len(narrow) <= 79
    assert narrow.startswith("kimi-k2p6 ")
    assert "~120 tokens" not in narrow
    assert "~44 tok/s" in narrow
    coloured = format_row(progress, width=79, colour=True)
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == narrow
    assert "\x1b[33mcalling shell" in coloured


def test_a_name_moves_no_cursor() -> None:
    progress = a_progress(model="a\x1b[2Jb", phase="calling", detail="c\rd\n")
    assert set(format_row(progress, width=200, colour=False)) & {"\x1b", "\r", "\n"} == set()


class Terminal(io.StringIO):
    """A terminal that understands the escape sequences of the view, and records each picture."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[str] = []
        self.pictures: list[list[str]] = []
        self.written = threading.Event()

    def write(self, text: str, /) -> int:
        if text.startswith("\r"):
            up = re.fullmatch(r"\r(?:\x1b\[(\d+)A)?\x1b\[J", text)
            assert up
            del self.rows[len(self.rows) - int(up[1] or 0) :]
        else:
            assert text.endswith("\n")
            self.rows.append(re.sub(r"\x1b\[[0-9;]*m", "", text[:-1]))
        return len(text)

    def flush(self) -> None:
        self.pictures.append(self.rows.copy())
        self.written.set()

    def isatty(self) -> bool:
        return True

    def until(self, text: str) -> list[str]:
        """Wait for a picture with this text."""
        end = time.monotonic() + BOUND_S
        while time.monotonic() < end:
            for picture in self.pictures:
                if any(text in row for row in picture):
                    return picture
            self.written.wait(0.05)
            self.written.clear()
        raise AssertionError(f"{text} was never drawn")


def test_a_terminal_shows_rows_below_ended_exchanges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("LINES", "24")
    terminal = Terminal()
    with closing(open_view(terminal)) as view:
        view.update(a_progress(id="req_1", model="one"))
        view.update(a_progress(id="req_2", model="two", at=1001.0))
        picture = terminal.until("two")
        assert ["one" in picture[0], "two" in picture[1], len(picture)] == [True, True, 2]
        view.update(a_progress(id="req_1", model="one", phase="thinking"))
        assert "one" in terminal.until("thinking")[0]
        print("a line", file=view.log_stream(terminal))
        assert terminal.until("a line")[0] == "a line"
        view.update(a_progress(id="req_1", model="one", phase="done"))
        picture = terminal.until("done")
        assert picture[0] == "a line"
        assert "done" in picture[1]
        assert "two" in picture[2]
    assert len(terminal.rows) == 2, "no row is left when it is closed"


def test_a_terminal_of_few_lines_counts_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("LINES", "8")
    terminal = Terminal()
    with closing(open_view(terminal)) as view:
        for number in range(20):
            view.update(a_progress(id=f"req_{number}"))
        assert len(terminal.until("… and 15 more")) == 6


def test_a_pipe_gets_a_line_for_each_change() -> None:
    out = io.StringIO()
    with closing(open_view(out)) as view:
        view.update(a_progress())
        view.update(a_progress(tokens=4))
        view.update(a_progress(phase="answering", tokens=5))
        view.update(a_progress(phase="answering", tokens=50))
        view.update(a_progress(phase="done", tokens=60))
        usual = io.StringIO()
        assert view.log_stream(usual) is usual
    words = [row.split()[2] for row in out.getvalue().splitlines()]
    assert words == ["waiting", "answering", "done"]
    assert "\x1b" not in out.getvalue()


def test_a_broken_pipe_blocks_nothing() -> None:
    class Broken(io.StringIO):
        def flush(self) -> None:
            raise BrokenPipeError

    with closing(LiveView(Broken(), live=False, colour=False)) as view:
        for number in range(100):
            view.update(a_progress(id=str(number)))


# --- as processes -------------------------------------------------------------------------------


@contextmanager
def following(folder: Path) -> Generator[subprocess.Popen[str]]:
    """`translator tail` as a process."""
    words = [sys.executable, "-m", "translator", "tail", str(folder)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def rows_until(process: subprocess.Popen[str], text: str) -> list[str]:
    assert process.stdout is not None
    rows = [""]
    while text not in rows[-1] and (row := process.stdout.readline()):
        rows.append(row)
    return rows[1:]


async def test_serve_watch_and_tail_show_an_exchange(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    words = ["--upstream", upstream.url, "--watch", "--trace", str(tmp_path)]
    with served(*words) as (start, process), following(tmp_path) as tail:
        base = start.partition(" and ")[0].removeprefix("translator listens on ")
        async with httpx.AsyncClient(timeout=BOUND_S) as client:
            await client.post(f"{base}/responses", json=ASK)
        rows = await bounded(asyncio.to_thread(rows_until, tail, " done "))
        tail.send_signal(signal.SIGINT)
        _, err = tail.communicate(timeout=BOUND_S)
        assert (tail.returncode, err) == (0, "")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=BOUND_S)
    assert [row.split()[2] for row in out.splitlines()] == ["waiting", "answering", "done"]
    assert rows[-1] == out.splitlines()[-1] + "\n"
    assert err == "", "with --watch, only warnings are logged"
    assert [main(["replay", str(folder)]) for folder in kept(tmp_path)] == [0]


def test_notices_are_counted_in_words() -> None:
    one = format_row(a_progress(notes="1; ignored"), width=200, colour=False)
    assert one.endswith("  1 notice: ignored")
    assert Notice("a", "ignored", "b").code in one
