"""The cache of descriptions of images, in memory and in a file where the settings name one.

A description stands in every later request of its conversation, and the prompt cache of the
upstream needs the same bytes each time.

    file = { JSON object of `key` and `text`, line feed } ;

Lines are only appended, by all workers, and each reads those of the others; a line that is damaged
counts for nothing. A file that has grown too large is written anew with what is known.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path

import msgspec
from msgspec import Struct

from translator.wire.json_values import NOT_JSON

MAX_DESCRIPTIONS = 10_000
MAX_TEXT_BYTES = 16 * 1024 * 1024
"""Most descriptions in memory, and bytes of them all; the least recently used are dropped."""

MAX_FILE_BYTES = 32 * 1024 * 1024
"""Size at which the file is written anew; of a larger one, the end is read."""

_ENTRY_BYTES = 250
"""What an entry takes in memory beside its text."""


class _Line(Struct):
    key: str
    text: str


_read_line = msgspec.json.Decoder(_Line).decode


class Descriptions:
    """Descriptions by key, an LRU cache.

    `read` and `append` use the file, and raise OSError; they are for a thread. Without a file they
    do nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._texts: OrderedDict[str, str] = OrderedDict()
        self._size = 0
        self._read_to = 0
        self._inode = -1

    def get(self, key: str) -> str | None:
        text = self._texts.get(key)
        if text is not None:
            self._texts.move_to_end(key)
        return text

    def add(self, key: str, text: str) -> None:
        """Add a description; one that is known stays, as conversations have it."""
        if key in self._texts:
            return
        self._texts[key] = text
        self._size += _size(text)
        while len(self._texts) > MAX_DESCRIPTIONS or self._size > MAX_TEXT_BYTES:
            _, dropped = self._texts.popitem(last=False)
            self._size -= _size(dropped)

    def news(self) -> list[tuple[str, str]]:
        """What has been appended to the file since the last time, for `add`."""
        if self.path is None:
            return []
        try:
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_ino != self._inode or status.st_size < self._read_to:
                    self._inode, self._read_to = status.st_ino, 0
                if status.st_size == self._read_to:
                    return []
                file.seek(max(self._read_to, status.st_size - MAX_FILE_BYTES))
                data = file.read(MAX_FILE_BYTES)
                start = file.tell() - len(data)
        except FileNotFoundError:
            return []
        whole = data.rfind(b"\n") + 1  # the rest is being written
        self._read_to = start + whole
        return [found for line in data[:whole].splitlines() if (found := _entry(line)) is not None]

    def append(self, key: str, text: str) -> None:
        """Append a description to the file, for its owner alone to read."""
        if self.path is None:
            return
        line = msgspec.json.encode(_Line(key, text)) + b"\n"
        file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            size = os.fstat(file).st_size
            if size and os.lseek(file, -1, os.SEEK_END) >= 0 and os.read(file, 1) != b"\n":
                line = b"\n" + line  # somebody was killed while writing
            if size + len(line) <= MAX_FILE_BYTES:
                os.write(file, line)
                return
        finally:
            os.close(file)
        self._write_anew()

    def _write_anew(self) -> None:
        """Write the file with what is known, half as large as it may be at most."""
        assert self.path is not None
        lines: list[bytes] = []
        left = MAX_FILE_BYTES // 2
        for key, text in reversed(list(self._texts.items())):
            line = msgspec.json.encode(_Line(key, text)) + b"\n"
            left -= len(line)
            if left < 0:
                break
            lines.append(line)
        beside = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(file, "wb") as new:
            new.writelines(reversed(lines))
        beside.replace(self.path)


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass")) + _ENTRY_BYTES


def _entry(line: bytes) -> tuple[str, str] | None:
    """The key and text of a line; None where it is damaged."""
    try:
        read = _read_line(line)
    except NOT_JSON:
        return None
    return (read.key, read.text) if read.text else None
