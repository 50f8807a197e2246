"""The supervisor of workers, with workers that do what a test wants."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from translator.service.access.shared_limits import LimitsFile
from translator.service.config.settings import SettingsError
from translator.service.server import workers
from translator.service.server.workers import _Slot, _Supervisor
from translator.service.telemetry import shared_metrics as metrics_folder
from translator.service.telemetry.shared_metrics import FOLDER, shared_metrics

from .wire import BOUND_S, bounded, make_settings

pytestmark = pytest.mark.anyio

# Each worker does what the next line of a file says: it hangs before it is ready, or it serves.
FAKE = """
import os, signal, socket, sys, time
plan = sys.argv[1]
lines = open(plan).read().split("\\n")
open(plan, "w").write("\\n".join(lines[1:]))
parent = socket.socket(fileno=int(sys.argv[sys.argv.index("--worker-channel") + 1].split(":")[0]))
if lines[0] == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(1000)
parent.send(b"+")
while True:
    try:
        parent.send(b".")
    except OSError:
        sys.exit(0)
    time.sleep(0.05)
"""


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """All is a matter of tenths of a second."""
    monkeypatch.setattr(workers, "TICK_S", 0.05)
    monkeypatch.setattr(workers, "KILL_S", 0.3)
    monkeypatch.setattr(workers, "START_S", 5.0)
    monkeypatch.setattr(workers, "announce", lambda *_: None)


@asynccontextmanager
async def supervising(tmp_path: Path, *plan: str, **server: Any) -> AsyncGenerator[_Supervisor]:
    file = tmp_path / "plan"
    file.write_text("\n".join(plan))
    with (
        shared_metrics(),
        closing(LimitsFile(8)) as limits,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        slots = [_Slot(listener) for _ in range(2)]
        settings = make_settings("http://up.test", workers=2, **server)
        command = [sys.executable, "-S", "-c", FAKE, str(file)]
        supervisor = _Supervisor(settings, command, slots, [], limits)
        running = asyncio.create_task(supervisor.run())
        try:
            yield supervisor
        finally:
            supervisor._stop(0)
            await bounded(running)


def pids(supervisor: _Supervisor) -> list[int]:
    return [slot.worker.pid for slot in supervisor._slots if slot.worker is not None]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(BOUND_S):
        while not condition():
            await asyncio.sleep(0.02)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def test_a_worker_that_stands_still_is_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And killed, as it does not react. The other one is left alone."""
    async with supervising(tmp_path, worker_timeout_s=0.5) as supervisor:
        await until(lambda: len(pids(supervisor)) == 2)
        stopped, other = pids(supervisor)
        os.kill(stopped, signal.SIGSTOP)
        await until(lambda: stopped not in pids(supervisor) and gone(stopped))
        assert len(pids(supervisor)) == 2
        assert other in pids(supervisor)
    errors = [one.getMessage() for one in caplog.records if one.levelno == logging.ERROR]
    assert errors[0].startswith(f"worker {stopped} has not reacted for ")
    assert f"worker {stopped} is killed" in errors


async def test_all_processes_may_be_stopped_for_a_while(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As by a debugger, or with the machine: no worker is to blame."""
    async with supervising(tmp_path, worker_timeout_s=0.8) as supervisor:
        await until(lambda: len(pids(supervisor)) == 2)
        before = pids(supervisor)
        for pid in before:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(2.0)  # noqa: ASYNC251 - this process stands still, too
        await asyncio.sleep(0.6)  # it goes on before they do
        for pid in before:
            os.kill(pid, signal.SIGCONT)
        await asyncio.sleep(0.5)
        assert pids(supervisor) == before
    assert not [one for one in caplog.records if one.levelno == logging.ERROR]


async def test_a_worker_that_hangs_while_it_starts_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In place of one that has ended; another one is tried then."""
    async with supervising(tmp_path) as supervisor:
        await until(lambda: len(pids(supervisor)) == 2)
        ended, other = pids(supervisor)
        monkeypatch.setattr(workers, "START_S", 0.5)
        (tmp_path / "plan").write_text("deaf")
        os.kill(ended, signal.SIGKILL)
        await until(lambda: "does not start" in caplog.text and "is killed" in caplog.text)
        monkeypatch.setattr(workers, "START_S", 5.0)
        await until(lambda: len(supervisor._alive) == 2)
        assert other in pids(supervisor)


async def test_workers_that_hang_while_they_start_end_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(workers, "START_S", 0.5)
    monkeypatch.setattr(workers, "MARGIN_S", 0.2)
    async with supervising(tmp_path, "deaf", "", drain_s=0.2) as supervisor:
        await bounded(supervisor._stopping.wait())
        assert supervisor._code == 1
    assert "the workers failed to start" in caplog.text


# --- a worker without its parent ------------------------------------------------------------------

ORPHAN = """
import asyncio, sys, time
from translator.service.server import worker_channel
worker_channel.ORPHAN_S = 0.3
channel = worker_channel.WorkerChannel(int(sys.argv[2]), [])
channel.end_with_parent(1000 if sys.argv[1] != "late" else 0.5)

async def main():
    channel.report_ready(lambda: None)
    if sys.argv[1] == "hangs":
        time.sleep(1000)
    await asyncio.sleep(1000)

if sys.argv[1] == "starts":
    time.sleep(1000)
asyncio.run(main())
"""


@pytest.mark.parametrize("state", ["starts", "hangs", "late"])
def test_a_worker_does_not_outlive_its_parent(state: str) -> None:
    """Whatever its event loop does: it has not begun, stands still, or does not come to an end."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", ORPHAN, state, str(theirs.fileno())], pass_fds=[theirs.fileno()]
        )
    with ours:
        if state != "starts":
            ours.settimeout(BOUND_S)
            assert ours.recv(1) == b"+"
    assert process.wait(BOUND_S) == 1


# --- the folder of the metrics --------------------------------------------------------------------

PARENT = """
import sys, tempfile, time
tempfile.tempdir = sys.argv[1]
from translator.service.telemetry.shared_metrics import shared_metrics
with shared_metrics() as folder:
    (folder / "gauge_livesum_1.db").write_bytes(b"")
    print(folder, flush=True)
    time.sleep(1000)
"""


def test_the_folder_of_a_killed_parent_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of a living one stays, and so does what is not known."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv(FOLDER, raising=False)
    command = [sys.executable, "-c", PARENT, str(tmp_path)]
    parents = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    killed, living = [Path(one.stdout.readline().strip()) for one in parents if one.stdout]
    others = [tmp_path / f"translator-metrics-{name}" for name in ("new", "foreign", "empty")]
    for folder in others:
        folder.mkdir()
    (others[1] / "counter_1.db").write_bytes(b"")
    for folder in others[1:]:
        os.utime(folder, (0, 0))
    (tmp_path / "translator-metrics-link").symlink_to(living)
    try:
        parents[0].kill()
        parents[0].wait()
        with shared_metrics() as made:
            left = set(tmp_path.iterdir())
            assert killed not in left
            expected = {living, made, *others[:2], tmp_path / "translator-metrics-link"}
            assert left == expected
        assert (living / "gauge_livesum_1.db").exists()
    finally:
        for one in parents:
            one.kill()
            one.communicate()
    assert metrics_folder.FOLDER not in os.environ


RESERVES = """
import os, resource, signal, sys
from translator.service.telemetry import shared_metrics
if len(sys.argv) > 1:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
shared_metrics.reserve_files(2)
from tests.service.wire import make_settings
from translator.service.telemetry.metrics import Metrics
metrics = Metrics(make_settings("http://up.test"))
metrics.websockets_open.inc()
import asyncio
page, _ = asyncio.run(metrics.page(""))
assert b"translator_websockets_open 1.0" in page
print("FOLDER" if shared_metrics.FOLDER in os.environ else "MEMORY")
"""


@pytest.mark.parametrize(("limit", "expected"), [([], "FOLDER"), (["100000"], "MEMORY")])
def test_the_space_of_the_metrics_is_reserved(
    tmp_path: Path, limit: list[str], expected: str
) -> None:
    """No file has a hole, into which a write would end the process; without space, no file."""
    done = subprocess.run(
        [sys.executable, "-c", RESERVES, *limit],
        env={**os.environ, FOLDER: str(tmp_path)},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=3 * BOUND_S,
        check=False,
    )
    assert done.stdout.strip() == expected, done.stderr
    files = list(tmp_path.glob("*.db"))
    assert len(files) == (4 if expected == "FOLDER" else 0)
    for file in files:
        assert file.stat().st_blocks * 512 >= file.stat().st_size > 0


def test_a_folder_that_cannot_be_made_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    monkeypatch.delenv(FOLDER, raising=False)
    with pytest.raises(SettingsError, match="no folder for those of several workers can be made"):
        with shared_metrics():
            pass
