"""Our own branches for Windows and macOS, with the system simulated (see posix_only)."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.clients.upstream import ScriptedUpstream, Turn
from translator.service.config.settings import Server
from translator.service.server import workers
from translator.service.server.listeners import limit_unread_data

from .posix_only import MODULES, NAMES

ROOT = Path(__file__).parents[2]
AS_WINDOWS = [sys.executable, "-m", "tests.service.posix_only"]
TIMEOUT_S = 60.0

OF_WORKERS = {"service/server/workers.py", "service/access/shared_limits.py"}
"""What only several workers need; `serve` refuses them on Windows before it imports these."""

GUARDED = {
    "launch/foreground.py": {
        "SIGCHLD",
        "SIGHUP",
        "SIGPIPE",
        "SIGQUIT",
        "SIGUSR1",
        "SIGUSR2",
        "WNOHANG",
        "pthread_sigmask",
        "sigwait",
    },
    "launch/service_process.py": {"start_new_session"},
    "launch/session.py": {"SIGHUP"},
    "service/database/files.py": {"/proc"},
    "service/base/descriptors.py": {"fcntl", "resource", "termios"},
    "service/live/feed.py": {"fcntl"},
    "service/server/graceful_shutdown.py": {"SIGHUP", "add_signal_handler"},
    "service/server/listeners.py": {"TCP_USER_TIMEOUT"},
    "service/server/worker_channel.py": {"/proc", "AF_UNIX", "O_DIRECTORY", "poll"},
    "service/telemetry/shared_metrics.py": {"fcntl", "getuid"},
}
"""What stands behind a look at the system, and the tests below run without."""


_ARGUMENTS = frozenset({"process_group", "preexec_fn", "start_new_session", "pass_fds"})
_WORDS = re.compile(
    rf"import .*\b({'|'.join(MODULES)})\b|from ({'|'.join((*MODULES, *NAMES))}) "
    rf"|add_signal_handler|/proc|{'|'.join(_ARGUMENTS)}|"
    + "|".join(rf"\b{owner}\.({'|'.join(names)})\b" for owner, names in NAMES.items())
)
"""Fast to find; what a file has then is read from its syntax."""


def posix_only(path: Path) -> set[str]:
    """The names in a file that Windows does not have."""
    text = path.read_text("utf-8")
    found: set[str] = set()
    if not _WORDS.search(text):
        return found
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & MODULES
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module)} & MODULES
            found |= {alias.name for alias in node.names} & NAMES.get(str(node.module), frozenset())
        elif isinstance(node, ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            found |= {node.attr} & (NAMES.get(owner, frozenset()) | {"add_signal_handler"})
        elif isinstance(node, ast.keyword):
            found |= {str(node.arg)} & _ARGUMENTS
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= {"/proc"} if re.match("/proc(/|$)", node.value) else set()
    return found


def test_what_windows_lacks_is_used_only_where_it_is_looked_for() -> None:
    """A new use fails here: guard it, run it below, and add it to the table."""
    package = ROOT / "translator"
    used = {
        str(path.relative_to(package)): names
        for path in package.rglob("*.py")
        if (names := posix_only(path))
    }
    assert {name: used[name] for name in used if name not in OF_WORKERS} == GUARDED


@contextmanager
def as_windows(*words: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The base URL and process of `translator serve` on what looks like Windows."""
    process = subprocess.Popen(
        [*AS_WINDOWS, "serve", "--port", "0", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"listens on (http://\S+)", line)
        assert found, line + (process.kill() or process.communicate()[1])
        yield found[1], process
    finally:
        process.kill()
        process.communicate()


def test_it_serves_records_and_shuts_down(tmp_path: Path) -> None:
    """Streamed and not; with captures and their feed; until Ctrl-C."""
    with ScriptedUpstream(Turn(text="Hello."), Turn(text="Hello again.")) as upstream:
        with as_windows("--upstream", upstream.base_url, "--trace", str(tmp_path)) as (
            url,
            process,
        ):
            for streamed in (False, True):
                ask = {"model": "m", "input": "Hi", "stream": streamed}
                answer = httpx.post(
                    f"{url}/responses", json=ask, trust_env=False, timeout=TIMEOUT_S
                )
                assert answer.status_code == 200
                assert '"status":"completed"' in answer.text
            assert len(list(tmp_path.glob("live-*.jsonl"))) == 1
            process.send_signal(signal.SIGINT)
            _, log = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130, log
    assert "Traceback" not in log
    assert "shutting down: no request is open" in log
    assert len(list(tmp_path.glob("*/exchange.toml"))) == 2
    assert list(tmp_path.glob("live-*.jsonl")) == []


def test_it_stores_responses(tmp_path: Path) -> None:
    """In a SQLite file, from which the next request goes on."""
    with ScriptedUpstream(Turn(text="Hello."), Turn(text="Hello again.")) as upstream:
        config = tmp_path / "settings.toml"
        config.write_text(
            f'[upstreams.up]\nbase_url = "{upstream.base_url}"\n[store]\nurl = "sqlite:///s.db"\n'
        )
        with as_windows("--config", str(config)) as (url, process):
            before = None
            for _ in range(2):
                ask = {"model": "m", "input": "Hi", "previous_response_id": before}
                answer = httpx.post(
                    f"{url}/responses", json=ask, trust_env=False, timeout=TIMEOUT_S
                )
                assert answer.status_code == 200, answer.text
                before = answer.json()["id"]
            process.send_signal(signal.SIGINT)
            _, log = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130, log
    assert "Traceback" not in log
    assert (tmp_path / "s.db").exists()


def test_several_workers_are_refused_in_one_sentence() -> None:
    done = subprocess.run(
        [*AS_WINDOWS, "serve", "--upstream", "http://127.0.0.1:9/v1", "--workers", "2"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "translator: server.workers: Windows runs one process only; start several services on ports "
        "of their own, behind a proxy\n"
    )


PROGRAM = """
import sys
from tests.service.posix_only import become_windows
become_windows()
from translator.__main__ import main
for words in json.loads(sys.argv[1]):
    print(words[0], main(words))
"""


def test_the_commands_beside_it_work(tmp_path: Path) -> None:
    """They write files, replace them with a backup, and print PowerShell's words."""
    (tmp_path / "request.json").write_text(json.dumps({"model": "m", "input": "Hi"}))
    codex = ["codex", "--upstream", "https://up.test/v1", "--model", "m", "--write", "--codex-home"]
    commands = [
        ["convert", str(tmp_path / "request.json")],
        ["key", "new", "ann"],
        [*codex, str(tmp_path / "codex")],
        [*codex, str(tmp_path / "codex"), "--context-window", "1000"],
        ["dialects", "deepseek"],
    ]
    done = subprocess.run(
        [sys.executable, "-c", f"import json{PROGRAM}", json.dumps(commands)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^(\w+) (\d)$", done.stdout, re.MULTILINE) == [
        (words[0], "0") for words in commands
    ]
    assert (tmp_path / "codex/model_catalog.json.bak").exists()
    assert '$env:TRANSLATOR_API_KEY = "..."' in done.stderr
    assert "export " not in done.stderr


FEED = """
from tests.service.posix_only import become_windows
become_windows()
import sys
from pathlib import Path
from translator.service.live.feed import FeedReader, FeedWriter
from translator.service.live.progress import Progress
folder = Path(sys.argv[1])
(folder / "live-00000000.jsonl").write_text("")  # of a process that has crashed
writer = FeedWriter(folder, max_bytes=2000)
reader = FeedReader(folder)
for number in range(200):
    writer.write(Progress(id="req_1", at=1.0, seconds=float(number), phase="thinking"))
    seconds = -1.0
    while seconds < number:
        for report in reader.read().reports:
            seconds = report.seconds
[file] = folder.iterdir()
print(file.stat().st_size < 3000, file.name != "live-00000000.jsonl")
reader.close()
writer.close()
print(list(folder.iterdir()))
"""


def test_the_feed_stays_bounded(tmp_path: Path) -> None:
    """Its file is open, so it can be neither replaced nor removed: it is written anew."""
    done = subprocess.run(
        [sys.executable, "-c", FEED, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("True True\n[]\n", "")


# --- macOS --------------------------------------------------------------------------------------


def test_where_the_system_does_not_spread_connections_workers_share_a_socket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    shared = workers.listeners(Server(port=0, workers=2))
    try:
        addresses = {listener.getsockname() for listener in shared}
        assert (len(shared), len(addresses)) == (2, 1)
        assert len({listener.fileno() for listener in shared}) == 2
    finally:
        for listener in shared:
            listener.close()


def test_a_system_without_a_timeout_for_unread_data_does_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr("socket.TCP_USER_TIMEOUT")
    [listener] = workers.listeners(Server(port=0))
    with listener:
        limit_unread_data(listener, 1.0)


def test_limits_of_clients_have_a_file_where_memory_has_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`memfd_create` is Linux's own."""
    from translator.service.access import shared_limits

    monkeypatch.delattr("os.memfd_create")
    number = shared_limits._nameless_file()
    try:
        assert os.fstat(number).st_nlink == 0
    finally:
        os.close(number)
