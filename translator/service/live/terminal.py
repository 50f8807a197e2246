"""What goes on, on a terminal or in a pipe.

    terminal    lines of what is over, and below them a row for each exchange that goes on
    pipe        a line whenever an exchange goes into another phase

A thread of its own writes, so a terminal that stands still holds nothing else up. Logs that go to
the same terminal are lines, too, and are drawn above the rows.
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

from .board import Board, line
from .progress import Sight

MAX_LINES_BEHIND = 10_000
"""Lines that wait for a terminal that stands still; of more, the oldest are lost."""

REFRESH_S = 0.25
PLAIN_WIDTH = 1000
"""A pipe's lines are not cut: nothing in them is longer, but an operator's list of notices."""

CLOSING_S = 2.0


class Show:
    """Shows what it is told, until it is closed."""

    def __init__(
        self,
        out: TextIO,
        *,
        live: bool,
        colour: bool,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._out = out
        self._live = live
        self._colour = colour
        self._clock = clock
        self._board = Board()
        self._lines: deque[str | Sight] = deque(maxlen=MAX_LINES_BEHIND)
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._closing = False
        self._drawn = 0  # rows that stand on the terminal
        self._thread = threading.Thread(target=self._run, name="show", daemon=True)
        self._thread.start()

    def tell(self, sight: Sight) -> None:
        """Show a change."""
        with self._lock:
            changed = self._board.take(sight)
            if sight.over or (changed and not self._live):
                self._lines.append(sight)
        self._news.set()

    def say(self, text: str) -> None:
        """Show a line of text."""
        with self._lock:
            self._lines.append(text)
        self._news.set()

    def drop(self, sight_id: str) -> None:
        """Nothing more will be told of this one."""
        with self._lock:
            self._board.drop(sight_id)
        self._news.set()

    def close(self) -> None:
        """Show what has not been shown, and leave no rows."""
        self._closing = True
        self._news.set()
        self._thread.join(CLOSING_S)

    def log_stream(self, usual: TextIO) -> TextIO:
        """Where logs go: above the rows, if they would be on the same terminal, else as usual."""
        return _Lines(self.say) if self._live and usual.isatty() else usual

    # --- in the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._closing:
                self._news.wait(REFRESH_S if self._live and len(self._board) else None)
                self._news.clear()
                self._draw()
            self._draw()
        except (OSError, ValueError):  # the terminal, or the pipe's reader, is gone
            return

    def _draw(self) -> None:
        size = shutil.get_terminal_size()
        width = size.columns - 1 if self._live else PLAIN_WIDTH
        with self._lock:
            lines, rows = list(self._lines), self._board.rows(self._clock())
            self._lines.clear()
        text = [
            one if isinstance(one, str) else line(one, width=width, colour=self._colour)
            for one in lines
        ]
        if self._live:
            room = max(1, size.lines - 3)
            shown = [] if self._closing else rows[:room]
            text += [line(row, width=width, colour=self._colour) for row in shown]
            if len(rows) > len(shown) > 0:
                text.append(f"… and {len(rows) - len(shown)} more")
            above = f"\x1b[{self._drawn}A" if self._drawn else ""
            self._out.write(f"\r{above}\x1b[J")
            self._drawn = len(text) - len(lines)
        self._out.writelines(f"{one}\n" for one in text)
        self._out.flush()


class _Lines(io.StringIO):
    """Gives whole lines on."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._say = say
        self._begun = ""

    def write(self, text: str, /) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        for one in lines:
            self._say(one)
        return len(text)


def show_on(out: TextIO) -> Show:
    """A show as it fits: rows and colours on a terminal, plain lines in a pipe."""
    live = out.isatty() and os.environ.get("TERM") != "dumb"
    return Show(out, live=live, colour=live and not os.environ.get("NO_COLOR"))
