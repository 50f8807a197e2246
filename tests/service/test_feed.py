"""The feed of the live view: a file of each process, read by others as it grows."""

from __future__ import annotations

import errno
import io
import json
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from io import FileIO
from pathlib import Path

import msgspec
import pytest

from translator.__main__ import main
from translator.service.base.losses import LOSSES
from translator.service.live import feed as live_feed
from translator.service.live.board import ProgressBoard
from translator.service.live.feed import FILES, FeedChanges, FeedReader, FeedWriter
from translator.service.live.progress import Progress

from .progress import a_progress
from .wire import BOUND_S


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[FeedReader]:
    with closing(FeedReader(tmp_path)) as reader:
        yield reader


def read_until(reader: FeedReader, count: int) -> list[Progress]:
    """Read until there are `count` reports."""
    found: list[Progress] = []
    end = time.monotonic() + BOUND_S
    while len(found) < count and time.monotonic() < end:
        found += (reader.read() or FeedChanges([], set())).reports
        time.sleep(0.01)
    assert len(found) == count
    return found


def test_a_feed_is_read_as_it_grows(tmp_path: Path, reader: FeedReader) -> None:
    assert reader.read() is None
    with closing(FeedWriter(tmp_path)) as feed:
        [path] = tmp_path.glob(FILES)
        assert path.stat().st_mode & 0o777 == 0o600
        sent = [a_progress(), a_progress(phase="thinking", detail="", first_s=0.5)]
        for progress in sent:
            feed.write(progress)
        assert read_until(reader, 2) == sent
        with path.open("ab") as file:
            file.write(b'{"id":"half')
        assert reader.read() == FeedChanges([], set())
    assert reader.read() == FeedChanges([], {"req_1"}), "active exchanges end with the process"
    assert reader.read() is None
    assert list(tmp_path.iterdir()) == []


def test_each_process_has_a_feed(tmp_path: Path, reader: FeedReader) -> None:
    """The one of a crashed process is ignored, and removed at the next start."""
    (tmp_path / "live-dead.jsonl").write_bytes(msgspec.json.encode(a_progress(id="dead")) + b"\n")
    assert reader.read() is None
    with closing(FeedWriter(tmp_path)) as one, closing(FeedWriter(tmp_path)) as other:
        assert not (tmp_path / "live-dead.jsonl").exists()
        one.write(a_progress(id="one"))
        other.write(a_progress(id="other"))
        assert {progress.id for progress in read_until(reader, 2)} == {"one", "other"}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such lock")
def test_processes_that_start_together_leave_each_other_their_feeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One looks for feeds of crashed processes while the other has not locked its own yet."""
    lock = live_feed.fcntl.flock
    others: list[FeedWriter] = []

    def slow_lock(file: io.FileIO, how: int) -> None:
        if how == live_feed.fcntl.LOCK_EX and not others:
            monkeypatch.setattr(live_feed.fcntl, "flock", lock)
            others.append(FeedWriter(tmp_path))
        lock(file, how)

    monkeypatch.setattr(live_feed.fcntl, "flock", slow_lock)
    with closing(FeedWriter(tmp_path)), closing(others[0]):
        assert len(list(tmp_path.glob(FILES))) == 2


def test_a_crashed_process_has_left_a_feed_that_another_removes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale = tmp_path / "live-dead.jsonl"
    stale.touch()

    def removed_meanwhile(_file: io.FileIO) -> bool:
        stale.unlink()
        return False

    monkeypatch.setattr(live_feed, "_is_locked", removed_meanwhile)
    FeedWriter(tmp_path).close()


def test_a_large_feed_is_rotated(tmp_path: Path, reader: FeedReader) -> None:
    """The new file begins with the active exchanges."""
    feed = FeedWriter(tmp_path, max_bytes=20_000)
    feed.write(a_progress(id="open"))
    feed.write(a_progress(id="ends unseen"))
    assert len(read_until(reader, 2)) == 2
    for number in range(500):
        feed.write(a_progress(id=str(number)))
        feed.write(a_progress(id=str(number), phase="done"))
        if number == 0:
            feed.write(a_progress(id="ends unseen", phase="done"))
    feed._thread.close()
    [path] = tmp_path.glob(FILES)
    assert path.stat().st_size <= 20_000
    changes = reader.read()
    assert changes is not None
    assert not changes.lost & {"open", "ends unseen"}
    assert a_progress(id="ends unseen", phase="done") in changes.reports, "also of the file before"
    board = ProgressBoard()
    for progress in changes.reports:
        board.update(progress)
    for lost in changes.lost:
        board.remove(lost)
    assert [progress.id for progress in board.active()] == ["open"]
    feed.close()


def test_a_feed_that_cannot_be_written_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(feed: FeedWriter) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(FeedWriter, "_rotate", full)
    with caplog.at_level(logging.WARNING, "translator"):
        with closing(FeedWriter(tmp_path, max_bytes=1)) as feed:
            feed.write(a_progress())
    assert "progress is not written: No space left on device" in caplog.text


def test_a_full_disk_is_got_over(
    tmp_path: Path,
    reader: FeedReader,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One warning, no half line, and then what is still active: an end may have been lost."""
    room = 1500

    def write(file: FileIO, data: bytes) -> None:
        """As the system does: a part, and then an error."""
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = file.write(memoryview(data)[:room])
        room -= written
        if written < len(data):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(live_feed, "_write_all", write)
    LOSSES.take()
    with closing(FeedWriter(tmp_path)) as feed:
        for number in range(100):
            feed.write(a_progress(id=f"req_{number}"))
        for number in range(99):
            feed.write(a_progress(id=f"req_{number}", phase="done"))
        until = time.monotonic() + BOUND_S
        while feed._thread.pending and time.monotonic() < until:
            time.sleep(0.01)
        [path] = tmp_path.glob(FILES)
        assert all(json.loads(line) for line in path.read_text().splitlines())
        room = 1_000_000
        feed.write(a_progress(id="req_last"))
        board = ProgressBoard()
        while "req_last" not in {one.id for one in board.active()} and time.monotonic() < until:
            changes = reader.read()
            assert changes is not None
            for lost in changes.lost:
                board.remove(lost)
            for progress in changes.reports:
                board.update(progress)
        assert {one.id for one in board.active()} == {"req_99", "req_last"}
    [first, last] = [record.getMessage() for record in caplog.records]
    assert first == "trace: progress is not written: No space left on device"
    lost = LOSSES.take()["progress"]
    assert last == f"trace: reports of progress are written again; {lost} were lost"
    assert lost > 150


def test_a_line_that_is_no_report_is_skipped(tmp_path: Path, reader: FeedReader) -> None:
    with closing(FeedWriter(tmp_path)) as feed:
        feed._file.write(b'{"id":"req_\n{}\n\n')
        feed.write(a_progress())
        assert read_until(reader, 1) == [a_progress()]


def test_tail_begins_with_the_latest_exchanges(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    feed = FeedWriter(tmp_path)
    for number in range(5):
        feed.write(a_progress(id=f"req_{number}"))
        feed.write(a_progress(id=f"req_{number}", phase="done"))
    feed.write(a_progress(id="req_open"))
    feed._thread.close()
    assert main(["tail", "--once", "--lines", "2", str(tmp_path)]) == 0
    feed.close()
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[-1] for row in rows] == ["req_3", "req_4", "req_open"]
