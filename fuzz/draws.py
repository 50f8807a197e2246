"""Draws: choices that follow from bytes, for targets that build their input.

A mutation of one byte changes one choice, so a driver guided by coverage finds its way as it does
in a text. Where the bytes end, each choice is the first one.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TypeVar

_T = TypeVar("_T")


class Draws:
    """Takes choices from bytes, in order; every input gives some choice."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    @property
    def left(self) -> bool:
        """Bytes are left, so that choices still differ."""
        return self._place < len(self._data)

    def number(self, below: int) -> int:
        """A number from 0 on; `below` is at most 65536."""
        size = 1 if below <= 256 else 2
        taken = self._data[self._place : self._place + size]
        self._place += size
        return int.from_bytes(taken, "little") % below

    def flag(self) -> bool:
        """True or False."""
        return self.number(2) == 1

    def rarely(self) -> bool:
        """True for one byte in eight."""
        return self.number(8) == 7

    def pick(self, among: Sequence[_T]) -> _T:
        """One of them."""
        return among[self.number(len(among))]

    def text(self, words: Sequence[str], most: int) -> str:
        """So many words at most, joined."""
        return "".join(self.pick(words) for _ in range(self.number(most + 1)))

    def slices(self, text: str, most: int) -> list[str]:
        """The text in slices, cut between UTF-16 units: also in the middle of a character."""
        units = text.encode("utf-16-le", "surrogatepass")
        half = len(units) // 2
        places = sorted(self.number(half + 1) for _ in range(self.number(most + 1)))
        edges = [0, *places, half]
        parts = [units[2 * a : 2 * b] for a, b in itertools.pairwise(edges)]
        return [part.decode("utf-16-le", "surrogatepass") for part in parts]
