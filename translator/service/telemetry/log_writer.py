"""A log handler that never waits: a thread writes the lines, from a bounded queue.

    record ──► line ──► queue ──► thread ──► file descriptor
                        full: dropped and counted; a line says so where they are missing

Whoever reads the log may stop (a pager, a stopped collector, a full disk): a handler that writes
itself would then stop the event loop, and all streams with it. The descriptor is written past
Python's own buffer, whose lock a blocked thread would hold until the process ends.
"""

from __future__ import annotations

import logging
import os
import select
import sys
import threading
from collections import deque
from contextlib import suppress

from translator.service.base.losses import LOSSES

MAX_LINES = 10_000
MAX_BYTES = 8 * 1024 * 1024
"""Lines that wait to be written, all together."""

FLUSH_S = 2.0
"""How long the end of the process waits for lines that are not written yet."""

RETRY_S = 5.0
"""How long after a failure the thread tries again when there is nothing else to write."""


class LogWriter(logging.Handler):
    """Writes formatted records to a file descriptor, in their order."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._lines: deque[bytes] = deque()
        self._size = 0
        self._dropping = False  # since the queue was full, and until half of it is free
        self._dropped = 0  # behind the last line of the queue
        self._failed = 0  # before its first line
        self._is_cut = False  # the last line was written in part
        self._writing = False
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self._line(record)
        except Exception:
            self.handleError(record)
        else:
            self._put(line)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Say in a line that a record has wrong arguments: logging writes a traceback to stderr."""
        error = sys.exc_info()[1]
        self._put(self._own_line("log: a record of %s is not written: %r", record.name, error))

    def _line(self, record: logging.LogRecord) -> bytes:
        return self.format(record).encode("utf-8", "backslashreplace") + b"\n"

    def _own_line(self, text: str, *args: object) -> bytes:
        """A line of the log about itself."""
        return self._line(
            logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, args, None)
        )

    def _write_last(self, line: bytes) -> None:
        """Write a line at the end of the process, when the thread is gone, if that is no wait."""
        with suppress(OSError, ValueError):
            if select.select([], [self._descriptor], [], 0)[1]:
                self._write(line)

    def _put(self, line: bytes) -> None:
        if self._closed:
            self._write_last(line)
            return
        with self._changed:
            scale = 2 if self._dropping else 1
            waiting = scale * len(self._lines), scale * (self._size + len(line))
            if self._lines and (waiting[0] >= MAX_LINES or waiting[1] > MAX_BYTES):
                self._dropping = True
                self._dropped += 1
                LOSSES.add("log")
                return
            self._dropping = False
            if self._dropped:
                self._append(self._loss(self._dropped))
                self._dropped = 0
            self._append(line)
            self._changed.notify_all()

    def _append(self, line: bytes) -> None:
        self._lines.append(line)
        self._size += len(line)

    def flush(self) -> None:
        """Wait until all lines are written, for FLUSH_S at most."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._lines or self._writing), FLUSH_S)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        super().close()

    def _loss(self, count: int) -> bytes:
        """The line that stands for lines that were lost."""
        return self._own_line("log: %d lines were lost here, as they could not be written", count)

    # --- in the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        while (line := self._next()) is not None:
            if self._failed and self._write(self._loss(self._failed)):
                self._failed = 0
            if line and (self._failed or not self._write(line)):
                self._failed += 1
                LOSSES.add("log")

    def _next(self) -> bytes | None:
        """The next line, empty when it is only time to try again; None at the end."""
        with self._changed:
            self._writing = False
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: self._lines or self._dropped or self._closed,
                RETRY_S if self._failed else None,
            )
            if not self._lines and self._dropped:  # nothing has been logged since
                self._append(self._loss(self._dropped))
                self._dropped = 0
                self._dropping = False
            if not self._lines:
                return None if self._closed else b""
            self._writing = True
            line = self._lines.popleft()
            self._size -= len(line)
            return line

    def _write(self, line: bytes) -> bool:
        """Write a line, however long that takes; False if it cannot be written."""
        left = memoryview(b"\n" + line if self._is_cut else line)
        whole = len(left)
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:  # another program has made the terminal non-blocking
                with suppress(OSError, ValueError):
                    select.select([], [self._descriptor], [], RETRY_S)
            except OSError:
                self._is_cut = self._is_cut or len(left) < whole
                return False
        self._is_cut = False
        return True
