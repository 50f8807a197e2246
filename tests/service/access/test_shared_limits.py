"""Limits of clients that several processes share: exact, whoever dies, and bounded."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from tests.service.wire import make_settings
from translator.service.access import shared_limits
from translator.service.access.clients import Client
from translator.service.access.shared_limits import LayoutUnknown, LimitsFile, SharedLimits
from translator.service.base.errors import LimitReached
from translator.service.config.clients import ClientConfig
from translator.service.server.worker_channel import WorkerChannel

from .clients import ALICE, Clock, keyed, settings_for

COLUMNS = 8


@pytest.fixture
def file() -> Iterator[LimitsFile]:
    with closing(LimitsFile(COLUMNS)) as made:
        yield made


def worker(file: LimitsFile, *names: str, column: int | None = None) -> SharedLimits:
    """What a worker process has; several of one process are as good, as it has no threads."""
    column = file.take_column() if column is None else column
    assert column is not None
    shared = SharedLimits(file.fd, column)
    shared.attach(names)
    return shared


def client(shared: SharedLimits, name: str = "a", clock: Any = None, **limits: Any) -> Client:
    return shared.client(name, ClientConfig(keys=(), **limits), clock or Clock())


def refused(one: Client, size: int = 0) -> LimitReached | None:
    try:
        one.charge(size)
    except LimitReached as error:
        return error
    return None


# --- other processes ------------------------------------------------------------------------------

PROGRAM = """
import os, signal, sys, time
from contextlib import ExitStack
from translator.service.access.shared_limits import SharedLimits
from translator.service.base.errors import LimitReached
from translator.service.config.clients import ClientConfig
shared = SharedLimits({fd}, {column})
shared.attach(["a"])
one = shared.client("a", ClientConfig(keys=(), **{limits}), time.monotonic)
held = ExitStack()
def attempts(count, attempt):
    passed = 0
    for _ in range(count):
        try:
            attempt()
        except LimitReached:
            continue
        passed += 1
    return passed
print("ready", flush=True)
sys.stdin.readline()
"""


@contextmanager
def process(file: LimitsFile, program: str, **limits: Any) -> Iterator[subprocess.Popen[str]]:
    """A process with a column, which runs the program when it gets a line."""
    column = file.take_column()
    text = PROGRAM.format(fd=file.fd, column=column, limits=limits) + textwrap.dedent(program)
    with subprocess.Popen(
        [sys.executable, "-c", text],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=[file.fd],
    ) as running:  # fmt: skip
        try:
            assert running.stdout
            assert running.stdout.readline() == "ready\n"
            yield running
        finally:
            running.kill()
            running.wait()
            assert column is not None
            file.release_column(column)


def go(running: subprocess.Popen[str]) -> None:
    assert running.stdin
    running.stdin.write("\n")
    running.stdin.flush()


def line(running: subprocess.Popen[str]) -> str:
    assert running.stdout
    return running.stdout.readline().strip()


def test_processes_at_the_same_time_pass_exactly_the_limit(file: LimitsFile) -> None:
    """Requests, tokens, and requests at once, each of them to the last one."""
    program = """
        requests = attempts(6000, lambda: one.charge(0))
        print(requests, attempts(3000, lambda: held.enter_context(one.slot())), flush=True)
        sys.stdin.readline()
    """
    limits = {"requests_per_minute": 6000, "max_concurrent_requests": 3000}
    with (
        process(file, program, **limits) as first,
        process(file, program, **limits) as second,
        process(file, program, **limits) as third,
    ):
        began = time.monotonic()
        for one in (first, second, third):
            go(one)
        found = [list(map(int, line(one).split())) for one in (first, second, third)]
        refilled = (time.monotonic() - began) * 6000 / 60
    requests, at_once = (sum(column) for column in zip(*found, strict=True))
    assert 6000 <= requests <= 6000 + refilled
    assert at_once == 3000


def test_a_killed_process_gives_back_its_open_requests(file: LimitsFile) -> None:
    program = """
        print(attempts(9, lambda: held.enter_context(one.slot())), flush=True)
        sys.stdin.readline()
    """
    other = client(worker(file, "a"), max_concurrent_requests=4)
    with other.slot():
        with process(file, program, max_concurrent_requests=4) as running:
            go(running)
            assert line(running) == "3"
            with pytest.raises(LimitReached), other.slot():
                pass
            running.kill()
            running.wait()
            with pytest.raises(LimitReached), other.slot():  # before its parent has noticed
                pass
        with other.slot(), other.slot(), other.slot(), pytest.raises(LimitReached), other.slot():
            pass


def test_a_process_that_is_killed_with_the_lock_holds_up_nobody(file: LimitsFile) -> None:
    program = """
        with one._slot.lock:
            print("locked", flush=True)
            time.sleep(60)
    """
    other = client(worker(file, "a"), requests_per_minute=5)
    with process(file, program, requests_per_minute=5) as running:
        go(running)
        assert line(running) == "locked"
        running.kill()
        running.wait()
        assert [refused(other) is None for _ in range(6)] == [True] * 5 + [False]
        assert other._slot.lock._patience_s == shared_limits.LOCK_S  # type: ignore[attr-defined]


def test_a_process_that_is_stopped_with_the_lock_holds_up_the_others_once(
    file: LimitsFile, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    waits: list[float] = []
    now = time.monotonic

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        monkeypatch.setattr(shared_limits.time, "monotonic", lambda: now() + len(waits) * 0.3)

    program = """
        with one._slot.lock:
            print("locked", flush=True)
            os.kill(os.getpid(), signal.SIGSTOP)
        print("unlocked", flush=True)
        sys.stdin.readline()
    """
    other = client(worker(file, "a"), requests_per_minute=5)
    with process(file, program, requests_per_minute=5) as running:
        go(running)
        assert line(running) == "locked"
        os.waitpid(running.pid, os.WUNTRACED)  # it has stopped
        monkeypatch.setattr(shared_limits.time, "sleep", sleep)
        assert refused(other) is None
        assert 1 <= len(waits) <= 5
        waited = len(waits)
        assert refused(other) is None
        assert len(waits) == waited
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        os.kill(running.pid, signal.SIGCONT)
        assert line(running) == "unlocked"
        assert [refused(other) is None for _ in range(4)] == [True] * 3 + [False]


# --- one file -------------------------------------------------------------------------------------


def test_workers_share_requests_tokens_and_headers(file: LimitsFile) -> None:
    clock = Clock()
    limits = {"requests_per_minute": 4, "tokens_per_minute": 100}
    first = client(worker(file, "a"), clock=clock, **limits)
    second = client(worker(file, "a"), clock=clock, **limits)
    charge = first.charge(200)
    assert second.headers()["x-ratelimit-remaining-tokens"] == "50"
    assert second.headers() == first.headers()
    error = refused(second, 240)
    assert error is not None
    assert error.type == "tokens"
    assert error.headers["retry-after"] == "6"
    charge.settle(None)
    assert refused(second, 240) is None
    assert second.headers()["x-ratelimit-remaining-requests"] == "2"
    clock.now += 60
    assert first.headers()["x-ratelimit-remaining-requests"] == "4"


def test_clients_do_not_share_with_each_other(file: LimitsFile) -> None:
    names = ["a", "A", "a ", "", "ä", "a\n", "名前", "a" * 10_000, 'x"]\x00', "\ufffd"]
    limits = {"requests_per_minute": 1, "max_concurrent_requests": 1}
    first, second = worker(file, *names), worker(file, *reversed(names))
    for name in names:
        one, other = client(first, name, **limits), client(second, name, **limits)
        with one.slot():
            assert refused(one) is None
            assert refused(other) is not None
            with pytest.raises(LimitReached), other.slot():
                pass


def test_very_many_clients(file: LimitsFile) -> None:
    names = [f"client {number}" for number in range(3000)]
    first, second = worker(file, *names), worker(file, *names)
    for name in names[::300]:
        assert refused(client(first, name, requests_per_minute=1)) is None
        assert refused(client(second, name, requests_per_minute=1)) is not None


def test_new_settings_keep_the_counts_of_clients_that_stay(file: LimitsFile) -> None:
    clock = Clock()
    old = client(worker(file, "a", "b"), clock=clock, requests_per_minute=4)
    for _ in range(3):
        old.charge(0)
    shared = worker(file, "new", "a")
    same = client(shared, clock=clock, requests_per_minute=4)
    assert [refused(same) is None for _ in range(2)] == [True, False]
    assert refused(old) is not None
    assert refused(client(shared, "new", clock=clock, requests_per_minute=1)) is None


def test_a_limit_that_is_new_begins_full(file: LimitsFile) -> None:
    """Though the client has been there before, without it or with another one."""
    clock = Clock()
    client(worker(file, "a"), clock=clock, requests_per_minute=4).charge(0)
    both = client(worker(file, "a"), clock=clock, requests_per_minute=4, tokens_per_minute=9)
    assert both.headers()["x-ratelimit-remaining-tokens"] == "9"
    assert both.headers()["x-ratelimit-remaining-requests"] == "3"
    less = client(worker(file, "a"), clock=clock, requests_per_minute=2)
    assert less.headers()["x-ratelimit-remaining-requests"] == "2"


def test_the_file_is_bounded_by_the_clients_that_are_known_at_once(file: LimitsFile) -> None:
    """However often the settings change."""
    sizes: list[int] = []
    live: list[int] = []
    for number in range(20):
        column = file.take_column()
        assert column is not None
        shared = worker(file, "stays", f"client {number}", column=column)
        one = client(shared, f"client {number}", requests_per_minute=2)
        assert one.headers()["x-ratelimit-remaining-requests"] == "2"
        one.charge(0)
        live.append(column)
        if len(live) == 2:
            file.release_column(live.pop(0))
        sizes.append(os.fstat(file.fd).st_size)
    assert max(sizes) == sizes[1]


def test_a_name_that_comes_back_has_its_own_count_or_a_full_one(file: LimitsFile) -> None:
    column = file.take_column()
    assert column is not None
    client(worker(file, "a", column=column), requests_per_minute=1).charge(0)
    file.release_column(column)
    assert refused(client(worker(file, "a"), requests_per_minute=1)) is not None


def test_columns_are_bounded_and_used_again(file: LimitsFile) -> None:
    columns = [file.take_column() for _ in range(COLUMNS)]
    assert sorted(filter(None, columns)) == list(range(1, COLUMNS))
    assert file.take_column() is None
    file.release_column(3)
    assert file.take_column() == 3


def test_a_file_of_another_layout_is_left_alone(file: LimitsFile) -> None:
    with pytest.raises(LayoutUnknown):
        SharedLimits(file.fd, COLUMNS)
    os.pwrite(file.fd, b"translator limits 2\n", 0)
    with pytest.raises(LayoutUnknown):
        SharedLimits(file.fd, 0)
    os.ftruncate(file.fd, 0)
    with pytest.raises(LayoutUnknown):
        SharedLimits(file.fd, 0)


def test_a_system_without_memory_files_uses_a_temporary_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    with closing(LimitsFile(2)) as file:
        assert os.fstat(file.fd).st_nlink == 0
        first = client(worker(file, "a"), requests_per_minute=1)
        assert refused(first) is None
        assert refused(client(worker(file, "a"), requests_per_minute=1)) is not None


@pytest.mark.parametrize("limits", ["none", "of another layout", "of ours"])
def test_a_worker_of_another_version_than_its_parent_counts_for_itself(
    file: LimitsFile, limits: str, caplog: pytest.LogCaptureFixture
) -> None:
    """After an upgrade, SIGHUP starts new workers under the old parent."""
    if limits == "of another layout":
        os.pwrite(file.fd, b"translator limits 0\n", 0)
    with_limits = settings_for("http://up.test", {"a": keyed(ALICE, requests_per_minute=1)})
    ours, theirs = socket.socketpair()
    with ours:
        channel = WorkerChannel(theirs.detach(), [], None if limits == "none" else (file.fd, 0))
        factory = channel.client_factory(with_limits)
        assert channel.client_factory(make_settings("http://up.test")) is None
        channel._parent.close()
    assert (factory is None) is (limits != "of ours")
    assert [record.levelname for record in caplog.records] == ["WARNING"] * (factory is None)


def test_a_single_process_loads_none_of_it() -> None:
    program = (
        "import sys; import translator.service.server.run, translator.service.server.workers;"
        "from translator.service.access.clients import Clients;"
        "print('translator.service.access.shared_limits' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "False\n"
