"""Exchanges as lines that are readable at a glance.

    14:03:07  kimi-k2p6       calling shell      4.0s   first 0.8s     44 tok/s   120 tokens

A tilde stands before what is guessed. What comes from a client is quoted where it is not plain: a
name of a model must not move the cursor.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from msgspec.structs import replace

from translator.service.base.colours import COLOURS

from .progress import Phase, Sight

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
"""A terminal of fewer columns shows no clock: what it shows is all there is of a row."""

ID_CHARACTERS = 12
"""Enough of an id to find its line in the log, and its folder."""


class Board:
    """All exchanges that go on."""

    def __init__(self) -> None:
        self._open: dict[str, Sight] = {}

    def __len__(self) -> int:
        return len(self._open)

    def take(self, sight: Sight) -> bool:
        """Put what is seen in its place; whether it is more than growth."""
        before = self._open.pop(sight.id, None)
        if not sight.over:
            self._open[sight.id] = sight
        return before is None or (before.phase, before.detail) != (sight.phase, sight.detail)

    def drop(self, sight_id: str) -> None:
        """Nothing more will be seen of it."""
        self._open.pop(sight_id, None)

    def clear(self) -> None:
        self._open.clear()

    def open(self) -> list[Sight]:
        """What goes on as it was seen last, the oldest first."""
        return sorted(self._open.values(), key=lambda sight: sight.at)

    def rows(self, now: float) -> list[Sight]:
        """The same, as old as it is by now; `now` is in seconds since 1970."""
        return [replace(row, seconds=max(0.0, now - row.at)) for row in self.open()]


def line(sight: Sight, *, width: int, colour: bool) -> str:
    """One exchange, cut to `width` characters."""
    style = PHASE_COLOURS[sight.phase]
    phase = f"{sight.phase} {_plain(sight.detail)}".rstrip()
    clock = "" if width < NARROW else time.strftime("%H:%M:%S  ", time.localtime(sight.at))
    parts = [
        (COLOURS["dim"], clock),
        ("", f"{_model(sight.model):<{MODEL_WIDTH}}  "),
        (style, f"{phase:<{PHASE_WIDTH}}"),
        ("", _figures(sight)),
        (COLOURS["dim"], f"  {sight.id[:ID_CHARACTERS]}"),
    ]
    if sight.notes:
        parts.append((COLOURS["tool"], f"  {_notes(sight.notes)}"))
    return _painted(parts, width, colour=colour)


def _figures(sight: Sight) -> str:
    guess = "" if sight.counted else "~"
    return "".join(
        f"{text:>{room}}"
        for text, room in (
            (f"{sight.seconds:.1f}s", 7),
            ("" if sight.first_s is None else f"first {sight.first_s:.1f}s", 13),
            ("" if sight.per_s is None else f"{guess}{sight.per_s:.0f} tok/s", 13),
            (f"{guess}{sight.tokens} tokens" if sight.tokens else "", 14),
        )
    )


def _model(model: str) -> str:
    """A model's name; of a long one the end, which tells more."""
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
    pieces: list[str] = []
    for style, text in parts:
        cut = text[:width]
        width -= len(cut)
        pieces.append(f"\x1b[{style}m{cut}\x1b[0m" if colour and style and cut else cut)
    return "".join(pieces).rstrip()
