"""What is shown of exchanges as they happen: phases and figures, and nothing that was said."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import logging
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
import msgspec
import pytest
from websockets.asyncio.client import connect

import translator
from translator import Notice
from translator.__main__ import main
from translator.service.live.board import Board, line
from translator.service.live.feed import FILES, Feed, News, Reader
from translator.service.live.progress import Sight, Watcher
from translator.service.live.terminal import Show, show_on
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

from .test_main import served
from .trace.keeping import kept
from .wire import (
    BOUND_S,
    COMPLETION,
    HELLO,
    Call,
    ScriptedUpstream,
    bounded,
    chunk,
    client_of,
    frame,
    make_settings,
    say_hello,
    serving,
)

pytestmark = pytest.mark.anyio

PATH = "/v1/responses"
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


def a_sight(**fields: Any) -> Sight:
    return Sight(**({"id": "req_1", "at": 1000.0, "seconds": 2.0, "model": "m"} | fields))


def phases(sights: list[Sight]) -> list[str]:
    """What phase follows what, in words."""
    words = [f"{sight.phase} {sight.detail}".strip() for sight in sights]
    return [word for at, word in enumerate(words) if at == 0 or words[at - 1] != word]


# --- what is seen -------------------------------------------------------------------------------


async def test_the_phases_of_a_stream(upstream: ScriptedUpstream) -> None:
    async def script(call: Call) -> None:
        await call.head()
        await call.send(*TURN)
        await call.end()

    upstream.script = script
    sights: list[Sight] = []
    async with client_of(make_settings(upstream.url), observe=Watcher(sights.append)) as client:
        answer = await client.post(PATH, json=ASK | {"tools": TOOLS, "truncation": "auto"})
    assert phases(sights) == ["waiting", "thinking", "answering", "calling ls", "done"]
    last = sights[-1]
    assert (last.tokens, last.counted) == (30, True)
    assert last.first_s is not None
    assert 0 <= last.first_s <= last.seconds
    assert last.notes == "1; ignored"
    assert last.id == answer.headers["x-request-id"]
    assert {sight.id for sight in sights} == {last.id}
    assert "secret" not in repr(sights)


async def test_the_phases_of_what_is_no_stream(upstream: ScriptedUpstream) -> None:
    """It has neither a first token nor a speed; what is passed through has a first piece."""
    sights: list[Sight] = []
    async with client_of(make_settings(upstream.url), observe=Watcher(sights.append)) as client:
        await client.post(PATH, json=ASK | {"stream": False})
        whole = sights.copy()
        await client.post("/v1/chat/completions", json={"model": "m", "messages": []})
        passed = sights[len(whole) :]
        await client.get("/healthz")
        await client.get("/v1/models")
    assert phases(whole) == phases(passed) == ["waiting", "answering", "done"]
    assert (whole[-1].tokens, whole[-1].counted, whole[-1].first_s) == (2, True, None)
    assert (passed[-1].tokens, passed[-1].counted) == (2, True)
    assert passed[-1].first_s is not None
    assert sights[-1] == passed[-1], "neither a health check nor a list is an exchange"
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
        sights: list[Sight] = []
        async with client_of(make_settings(upstream.url), observe=Watcher(sights.append)) as client:
            await client.post(PATH, json=ASK | more)
        found[next(iter(more))] = phases(sights)
        found[str(more.get("model"))] = phases(sights)
    assert found["temperature"] == ["waiting", "waiting attempt 2", "answering", "done"]
    assert found["later"] == [
        "waiting", "waiting again in 0s", "waiting attempt 2", "answering", "done"
    ]  # fmt: skip
    assert found["busy"] == ["waiting", "failed rate_limit_exceeded"]
    assert found["broken"] == ["waiting", "answering", "failed upstream_error"]
    assert found["input"] == ["failed missing_required_parameter"]


async def test_a_departure_and_turns_of_a_websocket(upstream: ScriptedUpstream) -> None:
    async def script(call: Call) -> None:
        if call.json["model"] == "m":
            await say_hello(call)
        else:
            await call.head()
            await call.send(*HELLO[:2])
            await bounded(call.gone())

    upstream.script = script
    sights: list[Sight] = []
    async with serving(make_settings(upstream.url), observe=Watcher(sights.append)) as base:
        async with connect(base.replace("http", "ws") + PATH) as socket:
            await socket.send(json.dumps(ASK | {"type": "response.create"}))
            while json.loads(await bounded(socket.recv()))["type"] != "response.completed":
                pass
        async with httpx.AsyncClient(base_url=base) as client:
            async with client.stream("POST", PATH, json=ASK | {"model": "slow"}) as answer:
                await bounded(anext(answer.aiter_raw()))
    assert phases([one for one in sights if one.model == "m"]) == ["waiting", "answering", "done"]
    assert phases([one for one in sights if one.model == "slow"])[-1] == "left"


def events_of(body: list[bytes]) -> Iterator[list[translator.Event]]:
    t = translator.Translation(
        json.dumps(ASK).encode(), response_id="r", created_at=1, new_id=lambda prefix: prefix
    )
    yield from (t.receive(piece) for piece in body)


def test_the_speed_of_an_answer() -> None:
    """Guessed from its length, four characters each, until the upstream tells the number."""
    now = 100.0
    sights: list[Sight] = []
    record = Record(method="POST", path=PATH, request_id="req_1", started_at=0.0)
    watching = Watcher(sights.append, clock=lambda: 5.0, timer=lambda: now)(record)
    watching.on(Routed(None, None))  # type: ignore[arg-type]
    watching.on(UpstreamCalled("chat/completions", b""))
    t = translator.Translation(
        json.dumps(ASK).encode(), response_id="r", created_at=1, new_id=lambda prefix: prefix
    )
    watching.on(AttemptWritten(t, ()))
    pieces = [chunk({"content": "x" * 20}) for _ in range(4)]
    for events in events_of([*pieces, chunk({}, "stop")]):
        now += 2.0
        watching.on(EventsSent(events))
    # the first after 2 s, the last delta after 8 s: 80 characters, about 20 tokens in 6 s
    assert (sights[-1].first_s, sights[-1].tokens, sights[-1].per_s) == (2.0, 20, 3.3)
    assert not sights[-1].counted
    assert sights[-1].at == 5.0
    [_, *_, events] = events_of([*pieces, *TURN[-3:]])
    watching.on(EventsSent(events))
    record.outcome = "completed"
    watching.on(RequestEnded())
    assert (sights[-1].phase, sights[-1].tokens, sights[-1].per_s) == ("done", 30, 5.0)
    assert sights[-1].counted


def test_growth_is_told_now_and_then() -> None:
    """A piece costs no line: what only grows is told when a while has passed."""
    now = 100.0
    sights: list[Sight] = []
    record = Record(method="POST", path=PATH, request_id="req_", started_at=0.0)
    watching = Watcher(sights.append, progress_s=1.0, timer=lambda: now)(record)
    for events in events_of([chunk({"content": "word "})] * 40):
        now += 0.1
        watching.on(EventsSent(events))
    assert 4 <= len(sights) <= 5


class Wordless:
    """Writes down only which events it is given."""

    def __init__(self, wants: Iterable[type[ObservedEvent]] = get_args(ObservedEvent)) -> None:
        self.wants = frozenset(wants)
        self.calls: list[str] = []

    def on(self, event: ObservedEvent) -> None:
        self.calls.append(type(event).__name__)


async def test_several_look_on_at_once(upstream: ScriptedUpstream) -> None:
    async def script(call: Call) -> None:
        await call.head()
        await call.send(*HELLO[:2])
        await call.cut(HELLO[2])

    async def busy(call: Call) -> None:
        upstream.script = script
        error = {"error": {"message": "Slow down."}}
        await call.answer(error, 429, headers={"retry-after": "0"})

    seen: list[Wordless] = []
    few: list[Wordless] = []

    def make(record: Record) -> Observer:
        seen.append(Wordless())
        return seen[-1]

    def of_retries(record: Record) -> Observer:
        few.append(Wordless({RetryScheduled}))
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
    told = {call for one in seen for call in one.calls}
    assert told == {kind.__name__ for kind in get_args(ObservedEvent)}
    assert [one.calls for one in few] == [[], [], ["RetryScheduled"]]
    assert fan_out([]) is None
    assert fan_out([make]) is make


# --- how it looks -------------------------------------------------------------------------------


def test_a_line_is_readable_at_a_glance() -> None:
    sight = a_sight(
        model="accounts/fireworks/models/kimi-k2p6", phase="calling", detail="shell",
        first_s=0.84, per_s=44.4, tokens=120, notes="2; ignored,weakened",
    )  # fmt: skip
    text = line(sight, width=200, colour=False)
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d  kimi-k2p6 +calling shell +2\.0s   first 0\.8s +~44 tok/s +~120 tokens"
        r"  req_1  2 notices: ignored,weakened",
        text,
    )
    counted = line(a_sight(counted=True, tokens=7, phase="done"), width=200, colour=False)
    assert " 7 tokens" in counted
    assert "tok/s" not in counted
    narrow = line(sight, width=79, colour=False)
    assert len(narrow) <= 79
    assert narrow.startswith("kimi-k2p6 ")
    assert "~120 tokens" not in narrow
    assert "~44 tok/s" in narrow
    coloured = line(sight, width=79, colour=True)
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == narrow
    assert "\x1b[33mcalling shell" in coloured


def test_a_name_moves_no_cursor() -> None:
    sight = a_sight(model="a\x1b[2Jb", phase="calling", detail="c\rd\n")
    assert set(line(sight, width=200, colour=False)) & {"\x1b", "\r", "\n"} == set()


class Terminal(io.StringIO):
    """Understands what is drawn on it, as far as it needs; keeps each picture."""

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
        """The picture in which a text stands, when it is drawn."""
        end = time.monotonic() + BOUND_S
        while time.monotonic() < end:
            for picture in self.pictures:
                if any(text in row for row in picture):
                    return picture
            self.written.wait(0.05)
            self.written.clear()
        raise AssertionError(f"{text} was never drawn")


def test_a_terminal_shows_rows_below_what_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("LINES", "24")
    terminal = Terminal()
    with closing(show_on(terminal)) as show:
        show.tell(a_sight(id="req_1", model="one"))
        show.tell(a_sight(id="req_2", model="two", at=1001.0))
        picture = terminal.until("two")
        assert ["one" in picture[0], "two" in picture[1], len(picture)] == [True, True, 2]
        show.tell(a_sight(id="req_1", model="one", phase="thinking"))
        assert "one" in terminal.until("thinking")[0]
        print("a line", file=show.log_stream(terminal))
        assert terminal.until("a line")[0] == "a line"
        show.tell(a_sight(id="req_1", model="one", phase="done"))
        picture = terminal.until("done")
        assert picture[0] == "a line"
        assert "done" in picture[1]
        assert "two" in picture[2]
    assert len(terminal.rows) == 2, "no row is left when it is closed"


def test_a_terminal_of_few_lines_counts_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("LINES", "8")
    terminal = Terminal()
    with closing(show_on(terminal)) as show:
        for number in range(20):
            show.tell(a_sight(id=f"req_{number}"))
        assert len(terminal.until("… and 15 more")) == 6


def test_a_pipe_gets_a_line_for_each_change() -> None:
    out = io.StringIO()
    with closing(show_on(out)) as show:
        show.tell(a_sight())
        show.tell(a_sight(tokens=4))
        show.tell(a_sight(phase="answering", tokens=5))
        show.tell(a_sight(phase="answering", tokens=50))
        show.tell(a_sight(phase="done", tokens=60))
        usual = io.StringIO()
        assert show.log_stream(usual) is usual
    words = [row.split()[2] for row in out.getvalue().splitlines()]
    assert words == ["waiting", "answering", "done"]
    assert "\x1b" not in out.getvalue()


def test_a_pipe_that_nobody_reads_holds_nothing_up() -> None:
    class Broken(io.StringIO):
        def flush(self) -> None:
            raise BrokenPipeError

    with closing(Show(Broken(), live=False, colour=False)) as show:
        for number in range(100):
            show.tell(a_sight(id=str(number)))


# --- through a file -----------------------------------------------------------------------------


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    with closing(Reader(tmp_path)) as reader:
        yield reader


def read_until(reader: Reader, count: int) -> list[Sight]:
    """Read until so many sights are there."""
    found: list[Sight] = []
    end = time.monotonic() + BOUND_S
    while len(found) < count and time.monotonic() < end:
        found += (reader.read() or News([], set())).sights
        time.sleep(0.01)
    assert len(found) == count
    return found


def test_a_feed_is_read_as_it_grows(tmp_path: Path, reader: Reader) -> None:
    assert reader.read() is None
    with closing(Feed(tmp_path)) as feed:
        [path] = tmp_path.glob(FILES)
        assert path.stat().st_mode & 0o777 == 0o600
        told = [a_sight(), a_sight(phase="thinking", detail="", first_s=0.5)]
        for sight in told:
            feed.tell(sight)
        assert read_until(reader, 2) == told
        with path.open("ab") as file:
            file.write(b'{"id":"half')
        assert reader.read() == News([], set())
    assert reader.read() == News([], {"req_1"}), "what went on is over with the process"
    assert reader.read() is None
    assert list(tmp_path.iterdir()) == []


def test_each_process_has_a_feed(tmp_path: Path, reader: Reader) -> None:
    """And the one of a process that ended badly is not believed, and goes with the next start."""
    (tmp_path / "live-dead.jsonl").write_bytes(msgspec.json.encode(a_sight(id="dead")) + b"\n")
    assert reader.read() is None
    with closing(Feed(tmp_path)) as one, closing(Feed(tmp_path)) as other:
        assert not (tmp_path / "live-dead.jsonl").exists()
        one.tell(a_sight(id="one"))
        other.tell(a_sight(id="other"))
        assert {sight.id for sight in read_until(reader, 2)} == {"one", "other"}


def test_a_feed_begins_anew_when_it_is_large(tmp_path: Path, reader: Reader) -> None:
    """What goes on is in the new file, what is over is not."""
    feed = Feed(tmp_path, max_bytes=20_000)
    feed.tell(a_sight(id="open"))
    feed.tell(a_sight(id="ends unseen"))
    assert len(read_until(reader, 2)) == 2
    for number in range(500):
        feed.tell(a_sight(id=str(number)))
        feed.tell(a_sight(id=str(number), phase="done"))
        if number == 0:
            feed.tell(a_sight(id="ends unseen", phase="done"))
    feed._writer.close()
    [path] = tmp_path.glob(FILES)
    assert path.stat().st_size <= 20_000
    news = reader.read()
    assert news is not None
    assert not news.lost & {"open", "ends unseen"}
    assert a_sight(id="ends unseen", phase="done") in news.sights, "also of the file before"
    board = Board()
    for sight in news.sights:
        board.take(sight)
    for lost in news.lost:
        board.drop(lost)
    assert [sight.id for sight in board.open()] == ["open"]
    feed.close()


def test_a_feed_that_cannot_be_written_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(feed: Feed) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Feed, "_begin_anew", full)
    with caplog.at_level(logging.WARNING, "translator"):
        with closing(Feed(tmp_path, max_bytes=1)) as feed:
            feed.tell(a_sight())
    assert "what goes on is not written: No space left on device" in caplog.text


def test_tail_begins_with_what_was_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    feed = Feed(tmp_path)
    for number in range(5):
        feed.tell(a_sight(id=f"req_{number}"))
        feed.tell(a_sight(id=f"req_{number}", phase="done"))
    feed.tell(a_sight(id="req_open"))
    feed._writer.close()
    assert main(["tail", "--once", "--lines", "2", str(tmp_path)]) == 0
    feed.close()
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[-1] for row in rows] == ["req_3", "req_4", "req_open"]


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
    one = line(a_sight(notes="1; ignored"), width=200, colour=False)
    assert one.endswith("  1 notice: ignored")
    assert Notice("a", "ignored", "b").code in one
