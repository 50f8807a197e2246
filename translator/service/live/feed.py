"""What goes on, through files: services that keep exchanges write them, `translator tail` reads.

    file = { sight }      a line of JSON for each change; one file for each process

A process holds a lock on its file, so a reader knows whether anybody still writes it. When a file
has grown too large it begins anew, with what goes on; when the process ends, it is removed.
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

from translator.service.base.background import Background

from .board import Board
from .progress import Sight

if sys.platform != "win32":
    import fcntl

FILES = "live-*.jsonl"

MAX_FEED_BYTES = 4 * 1024 * 1024
MAX_BEHIND = 1000
"""Changes that wait for the disk; of more, those that are no end are left out."""

log = logging.getLogger(__name__)

_read = msgspec.json.Decoder(Sight).decode


class Feed:
    """Writes the file of this process."""

    def __init__(self, folder: Path, max_bytes: int = MAX_FEED_BYTES) -> None:
        """Removes the files of processes that ended badly. Raises OSError."""
        for left in folder.glob(FILES):
            with left.open("rb", buffering=0) as file:
                if not _is_written(file):
                    left.unlink(missing_ok=True)
        self._path = folder / FILES.replace("*", secrets.token_hex(4))
        self._max_bytes = max_bytes
        self._board = Board()
        self._file = _begun(self._path)
        self._writer = Background("feed", self._write)

    def tell(self, sight: Sight) -> None:
        """Never waits."""
        if sight.over or self._writer.behind < MAX_BEHIND:
            self._writer.put(sight)

    def close(self) -> None:
        self._writer.close()
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
        self._file.close()

    def _write(self, sight: Sight) -> None:
        self._board.take(sight)
        try:
            self._file.write(msgspec.json.encode(sight) + b"\n")
            if self._file.tell() > self._max_bytes:
                self._begin_anew()
        except OSError as error:
            log.warning("trace: what goes on is not written: %s", error.strerror)

    def _begin_anew(self) -> None:
        anew = self._path.with_suffix(".part")
        file = _begun(anew)
        file.write(b"".join(msgspec.json.encode(one) + b"\n" for one in self._board.open()))
        anew.replace(self._path)
        self._file.close()
        self._file = file


def _begun(path: Path) -> FileIO:
    """A new file, which only its owner reads, and which says that it is written."""
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    file = path.open("r+b", buffering=0)
    if sys.platform != "win32":
        fcntl.flock(file, fcntl.LOCK_EX)
    return file


def _is_written(file: FileIO) -> bool:
    """Whether a process holds the file; on Windows, which cannot tell, whether it is there."""
    if sys.platform == "win32":
        return True
    else:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        fcntl.flock(file, fcntl.LOCK_UN)
        return False


class News(Struct, frozen=True):
    """What has changed. After that, nothing more will be told of the exchanges in `lost`."""

    sights: list[Sight]
    lost: set[str]


class Reader:
    """Reads the files of a folder as they grow."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[Path, _File] = {}

    def read(self) -> News | None:
        """What is new; None where no process writes."""
        news = News([], set())
        begun = bool(self._files)
        for path in {*self._folder.glob(FILES), *self._files}:
            file = self._files.setdefault(path, _File(path))
            if not file.read(news):
                file.close()
                del self._files[path]
        return news if begun or self._files else None

    def close(self) -> None:
        for file in self._files.values():
            file.close()


class _File:
    """One of them. It is held open, so that no other can pass for it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: FileIO | None = None
        self._rest = b""  # of a line that is not whole
        self._board = Board()

    def read(self, news: News) -> bool:
        """Add what is new; False where nobody writes any more."""
        try:
            if self._file is not None:
                self._take(self._file, news)
            if self._file is None or not _is_at(self._path, self._file):
                self._go_on_in(self._path.open("rb", buffering=0), news)
            is_written = self._file is not None and _is_written(self._file)
        except OSError:
            is_written = False
        if not is_written:
            self._lose_all(news)
        return is_written

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _go_on_in(self, file: FileIO, news: News) -> None:
        """Read a file that begins anew: what it does not tell of has ended."""
        self.close()
        self._file, self._rest = file, b""
        self._lose_all(news)
        self._take(file, news)

    def _take(self, file: FileIO, news: News) -> None:
        *whole, self._rest = (self._rest + file.readall()).split(b"\n")
        for text in whole:
            sight = _read(text)
            self._board.take(sight)
            news.sights.append(sight)
            news.lost.discard(sight.id)

    def _lose_all(self, news: News) -> None:
        news.lost.update(sight.id for sight in self._board.open())
        self._board.clear()


def _is_at(path: Path, file: FileIO) -> bool:
    """Whether this is the file at the path."""
    return os.path.samestat(path.stat(), os.fstat(file.fileno()))
