"""Charts: bars of a table's numbers, in integers alone.

A chart is an SVG that a macro draws of these bars; the numbers stand in a table of the same page.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from translator.service.accounts.periods import shown_time
from translator.service.accounts.usage import Sum

HEIGHT = 120
"""Of the tallest bar."""

WIDTH = 720
"""Of all bars together."""

MAX_BARS = 400


class Bar(Struct, frozen=True):
    """A bar: where it stands, and the sum that it stands for."""

    label: str
    sum: Sum
    x: int
    y: int
    width: int
    height: int
    marked: bool
    """Whether its label stands below it: not all would fit."""


def bars_of(days: Iterable[tuple[int, Sum]], *, billing: bool) -> list[Bar]:
    """A bar for each day: of what it cost, or where nothing costs, of its requests."""
    rows = list(days)[-MAX_BARS:]
    values = [max(0, one.amount if billing else one.requests) for _, one in rows]
    highest = max(values, default=0)
    step = WIDTH * 100 // max(1, len(rows))  # hundredths
    gap = max(1, min(6, step // 500))
    marked = {0, len(rows) // 2, len(rows) - 1}
    found: list[Bar] = []
    for number, ((at, one), value) in enumerate(zip(rows, values, strict=True)):
        height = -(-value * HEIGHT // highest) if highest else 0
        x = step * number // 100
        width = max(1, step * (number + 1) // 100 - x - gap)
        label = shown_time(at)[:10]
        found.append(Bar(label, one, x, HEIGHT - height, width, height, number in marked))
    return found
