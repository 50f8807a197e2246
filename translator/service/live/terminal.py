"""The live view, on a terminal or in a pipe.

    terminal    lines of ended exchanges, and below them a row for each active one
    pipe        a line whenever an exchange enters another phase

A thread writes, so a blocked terminal delays nothing else. Logs for the same terminal are written
as lines above the rows.
"""

from __future__ import annotations

import io
import os
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TextIO

from translator.service.base.losses import LOSSES, Kind

from .board import ProgressBoard, format_row
from .progress import Progress

MAX_PENDING_LINES = 10_000
"""Lines that wait for a blocked terminal; beyond that, the oldest are dropped."""

REFRESH_S = 0.25
PIPE_WIDTH = 1000
"""Lines in a pipe are not cut: only a list of notices could be longer."""

JOIN_S = 2.0
"""How long `close` waits for a blocked terminal, in seconds."""


class LiveView:
    """Shows progress and lines of text until it is closed."""

    def __init__(
        self,
        out: TextIO,
        *,
        live: bool,
        colour: bool,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`live` draws rows on a terminal; else lines are written, as for a pipe."""
        self._out = out
        self._live = live
        self._colour = colour
        self._clock = clock
        self._ellipsis = _encodable(out, "…", ".")
        self._board = ProgressBoard()
        self._lines: deque[str | Progress] = deque(maxlen=MAX_PENDING_LINES)
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._closing = False
        self._lost = 0  # lines, before the first one that waits
        self._drawn = 0  # rows on the terminal
        self._thread = threading.Thread(target=self._run, name="live view", daemon=True)
        self._thread.start()

    def update(self, progress: Progress) -> None:
        """Show the progress of an exchange."""
        with self._lock:
            is_new_phase = self._board.update(progress)
            if progress.ended or (is_new_phase and not self._live):
                self._append(progress, "progress")
        self._changed.set()

    def remove(self, exchange_id: str) -> None:
        """Remove the row of an exchange that gets no further reports."""
        with self._lock:
            self._board.remove(exchange_id)
        self._changed.set()

    def write_line(self, text: str) -> None:
        with self._lock:
            self._append(text, "log")
        self._changed.set()

    def _append(self, line: str | Progress, kind: Kind) -> None:
        if len(self._lines) == MAX_PENDING_LINES:
            self._lost += 1
            LOSSES.add(kind)
        self._lines.append(line)

    def close(self) -> None:
        """Write the pending lines, and remove the rows."""
        self._closing = True
        self._changed.set()
        self._thread.join(JOIN_S)

    def log_stream(self, stream: TextIO) -> TextIO:
        """A stream for logs: above the rows if both are on a terminal, else `stream` itself."""
        return _LineStream(self.write_line) if self._live and stream.isatty() else stream

    # --- in the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._closing:
                self._changed.wait(REFRESH_S if self._live and len(self._board) else None)
                self._changed.clear()
                self._draw()
            self._draw()
        except (OSError, ValueError):  # the terminal, or the pipe's reader, is gone
            return

    def _draw(self) -> None:
        size = shutil.get_terminal_size()
        width = size.columns - 1 if self._live else PIPE_WIDTH
        with self._lock:
            lines, rows = list(self._lines), self._board.rows(self._clock())
            self._lines.clear()
            if self._lost:
                lines.insert(0, f"… {self._lost} lines were lost here")
                self._lost = 0
        text = [one if isinstance(one, str) else self._format(one, width) for one in lines]
        if self._live:
            shown = [] if self._closing else rows[: max(1, size.lines - 3)]
            text += [self._format(row, width) for row in shown]
            if len(rows) > len(shown) > 0:
                text.append(f"… and {len(rows) - len(shown)} more")
            up = f"\x1b[{self._drawn}A" if self._drawn else ""
            self._out.write(f"\r{up}\x1b[J")
            self._drawn = len(text) - len(lines)
        self._out.writelines(f"{one.replace('…', self._ellipsis)}\n" for one in text)
        self._out.flush()

    def _format(self, progress: Progress, width: int) -> str:
        return format_row(progress, width=width, colour=self._colour)


class _LineStream(io.StringIO):
    """A text stream that passes on whole lines."""

    def __init__(self, write_line: Callable[[str], None]) -> None:
        super().__init__()
        self._write_line = write_line
        self._partial = ""

    def write(self, text: str, /) -> int:
        *lines, self._partial = (self._partial + text).split("\n")
        for line in lines:
            self._write_line(line)
        return len(text)


def _encodable(out: TextIO, text: str, instead: str) -> str:
    """A text, or another one where the encoding of `out` does not have it."""
    try:
        text.encode(getattr(out, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return instead
    return text


def open_view(out: TextIO) -> LiveView:
    """Rows and colours on a terminal, plain lines in a pipe; no character ends the view."""
    reconfigure = getattr(out, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")  # of a log line
    live = out.isatty() and os.environ.get("TERM") != "dumb"
    return LiveView(out, live=live, colour=live and not os.environ.get("NO_COLOR"))
