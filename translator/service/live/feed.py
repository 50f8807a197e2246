"""The progress feed: JSON Lines files that services write and `translator tail` reads.

    file = { progress }      one line of JSON for each report; one file for each process

A process holds a lock on its file, which shows readers that it is alive. A file that has grown too
large is replaced by a new one that begins with the active exchanges; it is removed when the process
ends.
"""

from __future__ import annotations

import logging
import os
import secrets
import sys
from contextlib import suppress
from io import FileIO
from pathlib import Path

import msgspec
from msgspec import Struct

from translator.service.base.background import BackgroundThread
from translator.service.base.losses import LOSSES, Outage

from .board import ProgressBoard
from .progress import Progress

if sys.platform != "win32":
    import fcntl

FILES = "live-*.jsonl"

MAX_FEED_BYTES = 4 * 1024 * 1024
MAX_PENDING = 1000
"""Reports that wait for the disk; further ones are dropped, unless they end an exchange."""

log = logging.getLogger(__name__)

_decode = msgspec.json.Decoder(Progress).decode


class FeedWriter:
    """Writes the file of this process."""

    def __init__(self, folder: Path, max_bytes: int = MAX_FEED_BYTES) -> None:
        """Removes the files of processes that have crashed. Raises OSError."""
        for stale in folder.glob(FILES):
            with suppress(FileNotFoundError):
                _remove_stale(stale)
        self._path = folder / FILES.replace("*", secrets.token_hex(4))
        self._max_bytes = max_bytes
        self._board = ProgressBoard()
        self._file = _create_locked(self._path)
        self._broken = False
        self._outage = Outage(log, "progress", "reports of progress")
        self._thread = BackgroundThread("feed", self._append)

    def write(self, progress: Progress) -> None:
        """Does not wait: a thread writes."""
        if progress.ended or self._thread.pending < MAX_PENDING:
            self._thread.put(progress)
        else:
            LOSSES.add("progress")

    def close(self) -> None:
        self._thread.close()
        if sys.platform == "win32":  # which removes no open file
            self._file.close()
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
        self._file.close()

    # --- in the thread --------------------------------------------------------------------------

    def _append(self, progress: Progress) -> None:
        self._board.update(progress)
        try:
            if self._broken:  # it lacks reports, perhaps that an exchange has ended
                self._rotate()
            else:
                self._write(_line(progress))
            if self._file.tell() > self._max_bytes:
                self._rotate()
        except OSError as error:
            self._broken = True
            self._outage.failed("progress", error.strerror or str(error))
        else:
            self._broken = False
            self._outage.worked()

    def _write(self, line: bytes) -> None:
        """Write a whole line or nothing."""
        place = self._file.tell()
        try:
            _write_all(self._file, line)
        except OSError:
            self._file.truncate(place)
            self._file.seek(place)
            raise

    def _rotate(self) -> None:
        """Replace the file by one that begins with the active exchanges."""
        if sys.platform == "win32":  # which replaces no open file: it is written anew
            self._file.seek(0)
            self._file.truncate()
            _write_all(self._file, b"".join(map(_line, self._board.active())))
            return
        file = _create_locked(self._path, b"".join(map(_line, self._board.active())))
        self._file.close()
        self._file = file


def _line(progress: Progress) -> bytes:
    return msgspec.json.encode(progress) + b"\n"


def _create_locked(path: Path, content: bytes = b"") -> FileIO:
    """A new file that only its owner may read, locked by this process.

    It gets its name when it is locked: another process would remove a file without a lock.
    """
    # Windows has no such lock, and renames no open file.
    part = path if sys.platform == "win32" else path.with_suffix(".part")
    part.unlink(missing_ok=True)
    part.touch(mode=0o600)
    file = part.open("r+b", buffering=0)
    if sys.platform != "win32":
        fcntl.flock(file, fcntl.LOCK_EX)
    try:
        _write_all(file, content)
        if part != path:
            part.replace(path)
    except OSError:
        file.close()
        raise
    return file


def _write_all(file: FileIO, data: bytes) -> None:
    """Write all of it; on a full disk a write may take a part, and only the next one fails."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def _remove_stale(path: Path) -> None:
    """Remove the file of a process that has crashed; raises OSError."""
    if sys.platform == "win32":
        with suppress(PermissionError):  # a process has it open
            path.unlink()
        return
    with path.open("rb", buffering=0) as file:
        if not _is_locked(file):
            path.unlink()


def _is_locked(file: FileIO) -> bool:
    """Whether a process writes the file. Always true on Windows, which has no such lock."""
    if sys.platform == "win32":
        return True
    else:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        fcntl.flock(file, fcntl.LOCK_UN)
        return False


class FeedChanges(Struct, frozen=True):
    """Reports since the last read. `lost` are ids of exchanges that get no further reports."""

    reports: list[Progress]
    lost: set[str]


class FeedReader:
    """Reads the files of a folder as they grow."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[Path, _FeedFile] = {}

    def read(self) -> FeedChanges | None:
        """The changes since the last read; None if no process writes, nor did one then."""
        changes = FeedChanges([], set())
        had_files = bool(self._files)
        for path in {*self._folder.glob(FILES), *self._files}:
            file = self._files.setdefault(path, _FeedFile(path))
            if not file.read(changes):
                file.close()
                del self._files[path]
        return changes if had_files or self._files else None

    def close(self) -> None:
        for file in self._files.values():
            file.close()


class _FeedFile:
    """A file of the folder. It stays open, so that a replacement is recognised."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: FileIO | None = None
        self._partial = b""  # a line that is still being written
        self._board = ProgressBoard()

    def read(self, changes: FeedChanges) -> bool:
        """Add the changes; False if no process writes the file any more."""
        try:
            if self._file is not None and os.fstat(self._file.fileno()).st_size < self._file.tell():
                self._file.seek(0)  # written anew, on Windows
                self._partial = b""
                self._lose_all(changes)
            if self._file is not None:
                self._read_lines(self._file, changes)
            if self._file is None or not _is_at(self._path, self._file):
                self._switch_to(self._path.open("rb", buffering=0), changes)
            is_alive = self._file is not None and _is_locked(self._file)
        except OSError:
            is_alive = False
        if not is_alive:
            self._lose_all(changes)
        return is_alive

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _switch_to(self, file: FileIO, changes: FeedChanges) -> None:
        """Read a new file; exchanges that are not in it have ended."""
        self.close()
        self._file, self._partial = file, b""
        self._lose_all(changes)
        self._read_lines(file, changes)

    def _read_lines(self, file: FileIO, changes: FeedChanges) -> None:
        *lines, self._partial = (self._partial + file.readall()).split(b"\n")
        for text in lines:
            try:
                progress = _decode(text)
            except msgspec.DecodeError:  # from before a crash, or of a full disk
                continue
            self._board.update(progress)
            changes.reports.append(progress)
            changes.lost.discard(progress.id)

    def _lose_all(self, changes: FeedChanges) -> None:
        changes.lost.update(progress.id for progress in self._board.active())
        self._board.clear()


def _is_at(path: Path, file: FileIO) -> bool:
    """Whether the path leads to this file."""
    return os.path.samestat(path.stat(), os.fstat(file.fileno()))
