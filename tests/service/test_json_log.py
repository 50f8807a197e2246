"""A JSON log has nothing but JSON, whatever happens: each line on stderr is one object."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults.processes import PROCESS_S
from translator.__main__ import main
from translator.service.config.settings import Settings
from translator.service.telemetry.log_writer import LogWriter
from translator.service.telemetry.logs import JsonFormatter

SETTINGS = """
[server]
log_format = "json"
port = 0
workers = 2
[upstreams.up]
base_url = "http://127.0.0.1:9/v1"
"""


def objects(text: str) -> list[dict[str, Any]]:
    """The lines of a JSON log; raises where one is not an object."""
    found = [json.loads(line) for line in text.splitlines()]
    assert all(isinstance(one, dict) and one["level"] and one["message"] for one in found)
    return found


def serve(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "translator", "serve", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def read_until(process: subprocess.Popen[str], words: str) -> list[str]:
    """The lines of stderr, up to the one with these words."""
    assert process.stderr is not None
    lines: list[str] = []
    for line in process.stderr:
        lines.append(line)
        if words in line:
            return lines
    raise AssertionError(f"it has ended: {lines}")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--log-format", "json"], "serve needs --upstream URL or --config FILE"),
        (["--log-format=json", "--upstream", "x"], '"x" is not a URL'),
        (["--log-f", "json", "--upstream", "http://x", "--port", "x"], "is not a port number"),
        (["--upstream", "http://x", "--prt", "1", "--log-format", "json"], "--prt"),
        (["--log-format", "json", "--config", "nowhere.toml"], "nowhere.toml cannot be read"),
        (["--config", "wrong.toml"], "server.prt: there is no such setting"),
        (["--worker-log-format", "json", "--config", "broken.toml"], "broken.toml is not TOML"),
    ],
)
def test_a_start_that_fails_says_so_in_json(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("wrong.toml").write_text(SETTINGS.replace("port", "prt"))
    Path("broken.toml").write_text("[[[")
    assert main(["serve", *words]) == 2
    out, err = capsys.readouterr()
    [line] = objects(err)
    assert says in line["message"]
    assert (out, line["level"]) == ("", "error")


@pytest.mark.parametrize(
    "words",
    [
        ["--log-format", "text", "--config", "wrong.toml"],
        ["--log-format"],
        ["--log-format", "xml"],
        ["--config", "broken.toml"],
        ["--config", "odd.toml"],
        ["--config"],
    ],
)
def test_any_other_start_says_it_as_text(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("wrong.toml").write_text(SETTINGS.replace("port", "prt"))
    Path("broken.toml").write_text("[[[")
    Path("odd.toml").write_text("server = 3")
    assert main(["serve", *words]) == 2
    assert capsys.readouterr().err.startswith("translator: ")


def test_a_start_that_fails_for_a_fault_of_ours_says_so_in_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("one\ntwo")

    monkeypatch.setattr("translator.commands.serve.settings_of", fail)
    words = ["serve", "--upstream", "http://x"]
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    assert main([*words, "--log-format", "json"]) == 1
    [line] = objects(capsys.readouterr().err)
    assert line["exception"].endswith("RuntimeError: one\ntwo")
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    with pytest.raises(RuntimeError, match="one"):
        main(words)


@pytest.mark.skipif(sys.platform == "win32", reason="workers need signals")
def test_a_worker_that_does_not_start_says_so_in_json(tmp_path: Path) -> None:
    """Though its file is none any more: it writes to the stream of its parent."""
    file = tmp_path / "settings.toml"
    file.write_text(SETTINGS)
    process = serve("--config", str(file))
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("translator listens")
        file.write_text("[[[")
        process.send_signal(signal.SIGHUP)
        lines = read_until(process, "does not start; the other")
        process.send_signal(signal.SIGTERM)
        lines.append(process.communicate(timeout=PROCESS_S)[1])
    finally:
        process.kill()
        process.communicate()
    found = [line["message"] for line in objects("".join(lines))]
    assert any("is not TOML" in text for text in found)
    assert process.returncode == 0


def test_a_worker_logs_in_the_format_of_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the file has been changed: one stream has the lines of all."""
    file = tmp_path / "settings.toml"
    file.write_text(SETTINGS.replace('"json"', '"text"'))
    seen: list[str] = []

    def serve(settings: Settings, **_: object) -> int:
        seen.append(settings.server.log_format)
        return 0

    monkeypatch.setattr("translator.service.server.run.run", serve)
    monkeypatch.setattr("translator.service.server.worker_channel.WorkerChannel", lambda *_: None)
    words = ["serve", "--config", str(file), "--worker-channel", "3:4", "--worker-limits", "5:0"]
    for more in ([], ["--worker-log-format", "json"]):
        assert main([*words, *more]) == 0
    assert seen == ["text", "json"]


FAULTS = """
import asyncio, logging, sys, threading, warnings
from translator.service.telemetry.logs import start_logging

start_logging("info", sys.argv[1], secrets=["s3cret-word"])

class Odd:
    def __del__(self):
        raise ValueError("s3cret-word as it ended")

def fail():
    raise ValueError("s3cret-word in a thread")

async def later():
    asyncio.get_running_loop().call_soon(fail)
    await asyncio.sleep(0)

Odd()
thread = threading.Thread(target=fail, name="mine")
thread.start()
thread.join()
leaving = threading.Thread(target=sys.exit)
leaving.start()
leaving.join()
warnings.warn("two\\nlines")
logging.getLogger("some.library").error("%d", "no number")
asyncio.run(later())
last = Odd()  # which ends when the log has been closed
raise ValueError("s3cret-word at last")
"""


@pytest.mark.parametrize("form", ["json", "text"])
def test_what_nobody_catches_is_logged(form: str) -> None:
    """In a thread, in a callback, as an object ends, behind the log's own end; without secrets."""
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, form],
        capture_output=True,
        text=True,
        timeout=PROCESS_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "s3cret" not in done.stderr
    if form == "json":
        said = [
            (line["logger"], line["message"].partition(": ")[0]) for line in objects(done.stderr)
        ]
        own = "translator.service.telemetry.logs"
        assert said[:2] == [
            (own, "Exception ignored in"),
            (own, "uncaught exception in the thread 'mine'"),
        ]
        assert [name for name, _ in said[2:]] == [
            *("py.warnings", "translator.service.telemetry.log_writer", "asyncio", own, own)
        ]
    else:
        starts = [line for line in done.stderr.splitlines() if not line.startswith("  ")]
        assert all(line[:4].isdigit() for line in starts), starts
        assert len(starts) == 7


def test_a_line_behind_the_end_of_the_log_waits_for_nobody(tmp_path: Path) -> None:
    """As for a pipe that nobody reads: it is lost, and the process ends."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"x" * 65536)
    except BlockingIOError:
        os.set_blocking(writer, True)
    handler = LogWriter(writer)
    handler.setFormatter(JsonFormatter())
    handler.close()
    record = logging.LogRecord("translator", logging.ERROR, "", 0, "last", (), None)
    handler.emit(record)
    os.close(reader)
    os.close(writer)
    handler.emit(record)
