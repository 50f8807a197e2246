"""The progress board, and its rows as text.

    14:03:07  kimi-k2p6       calling shell      4.0s   first 0.8s     44 tok/s   120 tokens

A tilde marks an estimate. Text from a client is escaped unless it is printable ASCII: the name of a
model must not move the cursor.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from msgspec.structs import replace

from translator.service.base.colours import COLOURS

from .progress import Phase, Progress

PHASE_COLOURS: dict[Phase, str] = {
    "waiting": COLOURS["dim"],
    "thinking": COLOURS["reasoning"],
    "answering": COLOURS["text"],
    "calling": COLOURS["tool"],
    "done": COLOURS["good"],
    "incomplete": COLOURS["tool"],
    "failed": "1;31",
    "left": COLOURS["dim"],
}
MODEL_WIDTH = 20
PHASE_WIDTH = 22
NARROW = 100
"""A terminal of fewer columns shows no clock, to leave room for the figures."""

ID_CHARACTERS = 12
"""Enough of an id to find its line in the log, and its capture folder."""


class ProgressBoard:
    """The latest progress of each active exchange."""

    def __init__(self) -> None:
        self._active: dict[str, Progress] = {}

    def __len__(self) -> int:
        return len(self._active)

    def update(self, progress: Progress) -> bool:
        """Store the progress, or remove an ended exchange; True if its phase is another one."""
        before = self._active.pop(progress.id, None)
        if not progress.ended:
            self._active[progress.id] = progress
        return before is None or (before.phase, before.detail) != (progress.phase, progress.detail)

    def remove(self, exchange_id: str) -> None:
        self._active.pop(exchange_id, None)

    def clear(self) -> None:
        self._active.clear()

    def active(self) -> list[Progress]:
        """The active exchanges, oldest first."""
        return sorted(self._active.values(), key=lambda progress: progress.at)

    def rows(self, now: float) -> list[Progress]:
        """The same with their present age; `now` is in seconds since 1970."""
        return [replace(row, seconds=max(0.0, now - row.at)) for row in self.active()]


def format_row(progress: Progress, *, width: int, colour: bool) -> str:
    """One exchange as a line, cut to `width` characters."""
    style = PHASE_COLOURS[progress.phase]
    phase = f"{progress.phase} {_plain(progress.detail)}".rstrip()
    clock = "" if width < NARROW else time.strftime("%H:%M:%S  ", time.localtime(progress.at))
    parts = [
        (COLOURS["dim"], clock),
        ("", f"{_model(progress.model):<{MODEL_WIDTH}}  "),
        (style, f"{phase:<{PHASE_WIDTH}}"),
        ("", _figures(progress)),
        (COLOURS["dim"], f"  {progress.id[:ID_CHARACTERS]}"),
    ]
    if progress.notes:
        parts.append((COLOURS["tool"], f"  {_notes(progress.notes)}"))
    return _painted(parts, width, colour=colour)


def _figures(progress: Progress) -> str:
    tilde = "" if progress.counted else "~"
    columns = (
        (7, f"{progress.seconds:.1f}s"),
        (13, "" if progress.first_s is None else f"first {progress.first_s:.1f}s"),
        (13, "" if progress.per_s is None else f"{tilde}{progress.per_s:.0f} tok/s"),
        (14, f"{tilde}{progress.tokens} tokens" if progress.tokens else ""),
    )
    return "".join(f"{text:>{width}}" for width, text in columns)


def _model(model: str) -> str:
    """A model's name; of a long one the last segment, which identifies it best."""
    plain = _plain(model)
    if len(plain) > MODEL_WIDTH:
        plain = plain.rpartition("/")[2]
    return plain if len(plain) <= MODEL_WIDTH else plain[: MODEL_WIDTH - 1] + "…"


def _notes(notes: str) -> str:
    count, _, codes = notes.partition("; ")
    return f"{count} notice{'' if count == '1' else 's'}: {codes}"


def _plain(text: str) -> str:
    return text if text.isascii() and text.isprintable() else ascii(text)[1:-1]


def _painted(parts: Iterable[tuple[str, str]], width: int, *, colour: bool) -> str:
    """The parts, each in its style, within `width` characters."""
    painted: list[str] = []
    for style, text in parts:
        cut = text[:width]
        width -= len(cut)
        painted.append(f"\x1b[{style}m{cut}\x1b[0m" if colour and style and cut else cut)
    return "".join(painted).rstrip()
