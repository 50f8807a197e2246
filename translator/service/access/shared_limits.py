"""Limits of clients over all workers of one parent: counts in memory that the workers share.

    file   = header, { slot } ;
    header = MAGIC, columns ;
    slot   = digest, requests, tokens, { open }, { user } ;

The parent makes a file without a name and hands it to each worker with a column of its own; a
worker maps it, and finds the slots of its clients by the digests of their names. `requests` and
`tokens` are buckets, as in `rate_limit`. `open` are the requests in progress, one count for each
column, so that a worker writes only its own; `user` marks the columns whose workers know the
client.

Shared memory and not a process that counts, since that would be a message and a wait for each
request: here it is a system call to lock a slot and one to unlock it, some microseconds of a
request and nothing of a token. The lock is a record lock of the system (`fcntl`), which ends with
its owner: a worker that is killed leaves none behind, and each of its writes is one number, so it
leaves no slot half written. Its open requests are cleared by the parent. What it had charged stays
charged.

Slots that no living worker uses are given to new names, so the file is bounded by the clients in
the settings of the workers. Times are of a clock that all processes of the machine share.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import math
import mmap
import os
import struct
import tempfile
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager

from translator.service.config.clients import ClientConfig

from .clients import Charge, Client

MAGIC = b"translator limits 1\n".ljust(32, b"\0")
"""Names the layout: a worker of another version leaves a file of another layout alone."""

_HEADER = struct.Struct("=32sQ")
_HEADER_SIZE = 64
_DIGEST_SIZE = 32
_BUCKETS = 4  # numbers of 8 bytes: left and since, of requests and of tokens

LOCK_S = 1.0
"""Longest wait for a lock that another worker holds: only one that the system has stopped can hold
it for more than microseconds. Then this one counts without it, which may be one request wrong."""

_RETRY_S = 50e-6

log = logging.getLogger(__name__)


class LayoutUnknown(Exception):
    """The file is of another version."""


class LimitsFile:
    """The parent's side: the file, and the columns that it hands out."""

    def __init__(self, columns: int) -> None:
        """For at most `columns` workers that live at once."""
        self.fd = _nameless_file()
        os.pwrite(self.fd, _HEADER.pack(MAGIC, columns).ljust(_HEADER_SIZE, b"\0"), 0)
        self._free = list(range(columns - 1, -1, -1))

    def take_column(self) -> int | None:
        """A column for a new worker; None when all are taken."""
        return self._free.pop() if self._free else None

    def release_column(self, column: int) -> None:
        """The worker of a column is dead: its requests are over, its clients not used by it."""
        layout = _Layout(self.fd)
        size = os.fstat(self.fd).st_size
        for start in range(_HEADER_SIZE, size - layout.slot_size + 1, layout.slot_size):
            os.pwrite(self.fd, bytes(4), start + layout.open_at + 4 * column)
            os.pwrite(self.fd, bytes(1), start + layout.user_at + column)
        self._free.append(column)

    def close(self) -> None:
        os.close(self.fd)


def _nameless_file() -> int:
    """A file that ends with its last process, in memory where the system has such."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("translator-limits")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class _Layout:
    """Where things are in a file."""

    def __init__(self, fd: int) -> None:
        """Raises LayoutUnknown."""
        header = os.pread(fd, _HEADER.size, 0)
        if len(header) < _HEADER.size or not header.startswith(MAGIC):
            raise LayoutUnknown
        self.columns: int = _HEADER.unpack(header)[1]
        self.open_at = _DIGEST_SIZE + 8 * _BUCKETS
        self.user_at = self.open_at + 4 * self.columns
        self.slot_size = (self.user_at + self.columns + 7) // 8 * 8


class SharedLimits:
    """A worker's side: makes clients that share their counts."""

    def __init__(self, fd: int, column: int) -> None:
        """Raises LayoutUnknown."""
        self._fd = fd
        self._column = column
        self._layout = _Layout(fd)
        if column >= self._layout.columns:
            raise LayoutUnknown
        self._slots: dict[str, int] = {}
        self._memory = memoryview(b"")

    def attach(self, names: Iterable[str]) -> None:
        """Find or make the slots of clients; to be called once, before `client`."""
        with _Lock(self._fd, 0, math.inf):  # nobody is served yet
            self._slots = self._find(names)
            for start in self._slots.values():
                os.pwrite(self._fd, b"\1", start + self._layout.user_at + self._column)
        self._memory = memoryview(mmap.mmap(self._fd, os.fstat(self._fd).st_size))

    def client(self, name: str, section: ClientConfig, clock: Callable[[], float]) -> Client:
        """A client whose limits are those of all workers."""
        return _SharedClient(name, section, clock, self._slot(name))

    def _slot(self, name: str) -> _Slot:
        layout, start = self._layout, self._slots[name]
        numbers = self._memory[start + _DIGEST_SIZE : start + layout.open_at].cast("d")
        counts = self._memory[start + layout.open_at : start + layout.user_at].cast("I")
        return _Slot(_Lock(self._fd, start), numbers, counts, self._column)

    def _find(self, names: Iterable[str]) -> dict[str, int]:
        """The slots of the names: those that they have, then unused ones, then new ones."""
        fd, layout = self._fd, self._layout
        end = os.fstat(fd).st_size
        known: dict[bytes, int] = {}
        unused: list[int] = []
        for start in range(_HEADER_SIZE, end - layout.slot_size + 1, layout.slot_size):
            slot = os.pread(fd, layout.slot_size, start)
            known[slot[:_DIGEST_SIZE]] = start
            if not any(slot[layout.user_at : layout.user_at + layout.columns]):
                unused.append(start)
        digests = {name: hashlib.sha256(name.encode()).digest() for name in names}
        found = {name: known[digest] for name, digest in digests.items() if digest in known}
        taken = set(found.values())
        unused = [start for start in unused if start not in taken]
        missing = [name for name in digests if name not in found]
        grown = max(0, len(missing) - len(unused)) * layout.slot_size
        os.ftruncate(fd, end + grown)
        unused += range(end, end + grown, layout.slot_size)
        for name, start in zip(missing, unused, strict=False):
            os.pwrite(fd, digests[name].ljust(layout.slot_size, b"\0"), start)
            found[name] = start
        return found


class _Slot:
    """The counts of one client."""

    def __init__(
        self, lock: _Lock, numbers: memoryview[float], counts: memoryview[int], column: int
    ) -> None:
        self.lock = lock
        self.requests, self.tokens = numbers[:2], numbers[2:]
        self.counts = counts
        self.column = column


class _SharedClient(Client):
    """A client whose counts are shared; it holds the lock while it reads and changes them."""

    def __init__(
        self, name: str, section: ClientConfig, clock: Callable[[], float], slot: _Slot
    ) -> None:
        self._slot = slot
        with slot.lock:
            super().__init__(name, section, clock, requests=slot.requests, tokens=slot.tokens)

    @contextmanager
    def slot(self) -> Generator[None]:
        counts, column = self._slot.counts, self._slot.column
        with self._slot.lock:
            self._check_open(sum(counts))
            counts[column] += 1
        try:
            yield
        finally:
            counts[column] -= 1  # which only this worker writes

    def check_slot(self) -> None:
        self._check_open(sum(self._slot.counts))  # without the lock: `slot` decides

    def charge(self, size: int, *, choices: int = 1) -> Charge:
        with self._slot.lock:
            return super().charge(size, choices=choices)

    def correct(self, tokens: int) -> None:
        with self._slot.lock:
            super().correct(tokens)

    def headers(self) -> dict[str, str]:
        with self._slot.lock:
            return super().headers()


class _Lock:
    """A lock among processes: one byte of the file. Within a process it is held by one thread.

    It may be entered again by its holder.
    """

    def __init__(self, fd: int, position: int, wait_s: float = LOCK_S) -> None:
        self._fd = fd
        self._position = position
        self._depth = 0
        self._wait_s = self._patience_s = wait_s

    def __enter__(self) -> None:
        self._depth += 1
        if self._depth > 1:
            return
        until = 0.0
        while True:
            try:
                fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, self._position)
            except OSError as error:
                if not isinstance(error, BlockingIOError | PermissionError):
                    self._depth -= 1
                    raise
            else:
                self._patience_s = self._wait_s
                return
            now = time.monotonic()
            until = until or now + self._patience_s
            if now >= until:
                if self._patience_s:
                    log.warning("a worker that does not run holds up the limits of a client")
                self._patience_s = 0.0  # until it lets go
                return
            time.sleep(_RETRY_S)

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if not self._depth:
            fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, self._position)
