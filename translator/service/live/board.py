"""The progress board, and its rows as text.

    14:03:07  kimi-k2p6       calling shell      4.0s   first 0.8s     44 tok/s   120 tokens

A tilde marks an estimate. Text from a client is escaped unless it is printable ASCII: the name of a
model must not move the cursor.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TypeAlias

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

COMPACT = 77
"""One of fewer columns has other columns: what is most wanted, in short."""

MIN_LEFT = 20
"""Columns that model and phase keep at least, where there are as many."""

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
    """One exchange as a line of at most `width` characters; each figure is there whole, or not."""
    lay_out = _full if width >= COMPACT else _compact
    painted: list[str] = []
    for style, text in lay_out(progress, width):
        cut = text[:width]
        width -= len(cut)
        painted.append(f"\x1b[{style}m{cut}\x1b[0m" if colour and style and cut else cut)
    return "".join(painted).rstrip()


_Part: TypeAlias = tuple[str, str]
"""A style, and a text in it."""


def _full(progress: Progress, width: int) -> Iterator[_Part]:
    """The columns that there is room for; only the notices are cut."""
    clock = "" if width < NARROW else time.strftime("%H:%M:%S  ", time.localtime(progress.at))
    head = [
        (COLOURS["dim"], clock),
        ("", f"{_model(progress.model, MODEL_WIDTH):<{MODEL_WIDTH}}  "),
        (PHASE_COLOURS[progress.phase], f"{_phase(progress):<{PHASE_WIDTH}}"),
    ]
    tail = [
        ("", f"  {_cut(_plain(progress.client), MODEL_WIDTH)}" if progress.client else ""),
        (COLOURS["dim"], f"  {progress.id[:ID_CHARACTERS]}"),
    ]
    figures = [(text, ("", f" {text}".rjust(size))) for size, text in _figures(progress)]
    if sum(len(text) for _, text in (*head, *(one for _, one in figures), *tail)) > width:
        figures = [(text, column) for text, column in figures if text]  # no room for empty ones
    if progress.ended and sum(len(text) for _, text in (*head, *dict(figures).values())) > width:
        figures = [one for one in figures if not one[0].startswith("first")]  # but for its tokens
    for style, text in (*head, *(one for _, one in figures), *tail):
        if len(text) <= width:
            yield style, text
            width -= len(text)
    notes = f"  {_notes(progress.notes)}" if progress.notes else ""
    if notes and width > notes.find(":"):
        yield COLOURS["tool"], _cut(notes, width)


def _compact(progress: Progress, width: int) -> Iterator[_Part]:
    """Model, phase and seconds, cut to fit; and of tokens, speed and client what fits beside."""
    (_, seconds), _, (_, speed), (_, tokens) = _figures(progress)
    right = [f" {seconds}".rjust(6)] if width >= MIN_LEFT - 6 else [""]
    room = width - len(right[0]) - MIN_LEFT
    for text in (tokens.removesuffix("ens"), _cut(_plain(progress.client), 8), speed):
        size = max(len(text), 9) + 1
        if text and size <= room:
            right.append(f"{text:>{size}}")
            room -= size
    left = width - sum(map(len, right))
    model = max(0, min(MODEL_WIDTH, left * 4 // 9))
    phase = max(0, min(PHASE_WIDTH, left - model - 1))
    yield "", f"{_model(progress.model, model):<{model}} "
    yield PHASE_COLOURS[progress.phase], f"{_cut(_phase(progress), phase):<{phase}}"
    yield "", "".join(right)


def _phase(progress: Progress) -> str:
    return f"{progress.phase} {_plain(progress.detail)}".rstrip()


def _figures(progress: Progress) -> list[tuple[int, str]]:
    """Seconds, time to the first output, speed and tokens, each with the width of its column."""
    tilde = "" if progress.counted else "~"
    return [
        (7, f"{progress.seconds:.1f}s"),
        (13, "" if progress.first_s is None else f"first {progress.first_s:.1f}s"),
        (13, "" if progress.per_s is None else f"{tilde}{progress.per_s:.0f} tok/s"),
        (14, f"{tilde}{progress.tokens} tokens" if progress.tokens else ""),
    ]


def _model(model: str, width: int) -> str:
    """A model's name; of a long one the last segment, which identifies it best."""
    plain = _plain(model)
    if len(plain) > width:
        plain = plain.rpartition("/")[2]
    return _cut(plain, width)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: max(0, width - 1)]}…"[:width]


def _notes(notes: str) -> str:
    count, _, codes = notes.partition("; ")
    return f"{count} notice{'' if count == '1' else 's'}: {codes}"


def _plain(text: str) -> str:
    return text if text.isascii() and text.isprintable() else ascii(text)[1:-1]
