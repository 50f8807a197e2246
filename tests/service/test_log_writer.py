"""The log's own thread: no record waits for whoever reads the log, and what is lost is counted."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from pathlib import Path

import pytest

from translator.service.base import losses
from translator.service.base.losses import LOSSES, WARNING_PERIOD_S, Outage
from translator.service.telemetry import log_writer
from translator.service.telemetry.log_writer import LogWriter

from .wire import BOUND_S


@pytest.fixture
def pipe() -> Generator[tuple[int, int]]:
    """A pipe of one page, which is full at once."""
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    yield read, write
    for end in (read, write):
        with suppress(OSError):
            os.close(end)


@pytest.fixture(autouse=True)
def no_losses() -> None:
    LOSSES.take()


def record(text: str) -> logging.LogRecord:
    return logging.LogRecord("t", logging.INFO, __file__, 1, text, (), None)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + BOUND_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def read_all(end: int) -> list[str]:
    """The lines until the other end is closed."""
    data = b""
    while chunk := os.read(end, 65536):
        data += chunk
    return data.decode().splitlines()


def read_later(end: int) -> tuple[threading.Thread, list[str]]:
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.extend(read_all(end)))
    thread.start()
    return thread, found


def closed(writer: LogWriter, descriptor: int) -> None:
    until(lambda: not (writer._lines or writer._writing))
    writer.close()
    os.close(descriptor)


def test_lines_come_in_their_order(pipe: tuple[int, int]) -> None:
    thread, found = read_later(pipe[0])
    writer = LogWriter(pipe[1])
    for number in range(5000):
        writer.handle(record(f"line {number}"))
    writer.flush()
    closed(writer, pipe[1])
    thread.join(BOUND_S)
    assert found == [f"line {number}" for number in range(5000)]
    assert not LOSSES.take()


def test_nobody_waits_for_a_reader(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound lines are dropped, and one line in their place says how many."""
    monkeypatch.setattr(log_writer, "MAX_LINES", 100)
    monkeypatch.setattr(log_writer, "FLUSH_S", 0.1)
    writer = LogWriter(pipe[1])
    for number in range(1000):
        writer.handle(record(f"{number:0100}"))
    writer.flush()  # gives up
    assert 50 < len(writer._lines) <= 100
    thread, found = read_later(pipe[0])
    until(lambda: not writer._lines)
    writer.handle(record("at last"))
    closed(writer, pipe[1])
    thread.join(BOUND_S)
    [place] = [index for index, line in enumerate(found) if line.startswith("log: ")]
    kept = [int(line) for line in found[:place]]
    assert kept == list(range(len(kept)))
    assert found[place:] == [
        f"log: {1000 - len(kept)} lines were lost here, as they could not be written",
        "at last",
    ]
    assert LOSSES.take() == {"log": 1000 - len(kept)}


def test_a_loss_is_told_though_nothing_is_logged_any_more(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "MAX_BYTES", 10_000)
    writer = LogWriter(pipe[1])
    for _ in range(1000):
        writer.handle(record("x" * 100))
    assert writer._size <= 10_000
    thread, found = read_later(pipe[0])
    until(lambda: any("were lost here" in line for line in found) or not writer._dropped)
    closed(writer, pipe[1])
    thread.join(BOUND_S)
    assert (
        found[-1]
        == f"log: {1000 - len(found) + 1} lines were lost here, as they could not be written"
    )


def test_a_line_over_the_bound_is_written(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "MAX_BYTES", 10)
    thread, found = read_later(pipe[0])
    writer = LogWriter(pipe[1])
    writer.handle(record("x" * 100))
    closed(writer, pipe[1])
    thread.join(BOUND_S)
    assert found == ["x" * 100]


def test_a_full_disk_is_got_over(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines are tried once. A line that was cut does not run into the next one."""
    full, cut = threading.Event(), threading.Event()
    write = os.write

    def write_or_fail(descriptor: int, data: bytes) -> int:
        if not full.is_set():
            return write(descriptor, data)
        if cut.is_set():
            raise OSError(errno.ENOSPC, "No space left on device")
        cut.set()
        return write(descriptor, data[:3])

    monkeypatch.setattr(os, "write", write_or_fail)
    monkeypatch.setattr(log_writer, "RETRY_S", 0.01)
    writer = LogWriter(pipe[1])
    writer.handle(record("first"))
    until(lambda: not (writer._lines or writer._writing))
    full.set()
    for number in range(10):
        writer.handle(record(f"lost {number}"))
    until(lambda: writer._failed == 10)
    full.clear()
    until(lambda: not writer._failed)
    writer.handle(record("last"))
    closed(writer, pipe[1])
    assert read_all(pipe[0]) == [
        "first",
        "los",
        "log: 10 lines were lost here, as they could not be written",
        "last",
    ]
    assert LOSSES.take() == {"log": 10}


def test_a_terminal_that_another_program_made_non_blocking(pipe: tuple[int, int]) -> None:
    os.set_blocking(pipe[1], False)
    writer = LogWriter(pipe[1])
    for number in range(1000):
        writer.handle(record(f"{number:0100}"))
    thread, found = read_later(pipe[0])
    closed(writer, pipe[1])
    thread.join(BOUND_S)
    assert [int(line) for line in found] == list(range(1000))


def test_a_reader_that_has_left_costs_nothing(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    writer = LogWriter(pipe[1])
    for _ in range(10):
        writer.handle(record("x"))
    until(lambda: writer._failed == 10)
    assert LOSSES.take() == {"log": 10}
    writer.close()


def test_a_record_that_cannot_be_formatted_is_no_line(
    pipe: tuple[int, int], tmp_path: Path
) -> None:
    writer = LogWriter(pipe[1])
    handled: list[logging.LogRecord] = []
    writer.handleError = handled.append  # type: ignore[method-assign]
    broken = logging.LogRecord("t", logging.INFO, __file__, 1, "%d", ("x",), None)
    writer.handle(broken)
    writer.handle(record("\udcff"))
    closed(writer, pipe[1])
    assert handled == [broken]
    assert read_all(pipe[0]) == ["\\udcff"]


# --- one warning for many failures ----------------------------------------------------------------


def test_one_warning_in_a_period(caplog: pytest.LogCaptureFixture) -> None:
    """Another reason is another warning; the end is one, and flapping is not."""
    now = 1000.0
    outage = Outage(logging.getLogger("t"), "capture", "exchanges", lambda: now)
    outage.worked()
    for number in range(100):
        outage.failed(f"req_{number}", "No space left on device")
    outage.failed("req_x", "Permission denied")
    now += WARNING_PERIOD_S
    outage.failed("req_y", "Permission denied")
    outage.worked()
    for _ in range(100):
        outage.failed("req_z", "Permission denied")
        outage.worked()
    now += WARNING_PERIOD_S
    outage.failed("req_z", "Permission denied")
    outage.worked()
    outage.worked()
    assert [one.getMessage() for one in caplog.records] == [
        "trace: req_0 is not written: No space left on device",
        "trace: req_x is not written: Permission denied, nor were 99 other exchanges",
        "trace: req_y is not written: Permission denied",
        "trace: exchanges are written again; 102 were lost",
        "trace: req_z is not written: Permission denied, nor were 100 other exchanges",
        "trace: exchanges are written again; 101 were lost",
    ]
    assert LOSSES.take() == {"capture": 203}
    assert not losses.LOSSES.take()
