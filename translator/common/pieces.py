"""Text that grows in pieces, and how much memory it holds.

A piece of a few characters takes some 60 bytes as an object, fifteen times its text. Pieces are
joined from time to time: by `add` itself, or by whoever appends them on the path of a token and
asks for the size now and then.
"""

from __future__ import annotations

from translator.wire.json_values import utf8_size

MAX_NEW = 1024
"""How many pieces `add` leaves as they are."""

_MIN_JOINED = 4096
"""A shorter text, in characters, is joined again with what follows it."""


class Pieces:
    """One text. `append(piece)` is that of a list, and costs no more."""

    __slots__ = ("_joined", "_length", "_new", "_size", "append")

    def __init__(self) -> None:
        self._joined: list[str] = []
        self._new: list[str] = []
        self._size = 0
        self._length = 0
        self.append = self._new.append

    def __bool__(self) -> bool:
        return bool(self._new or self._joined)

    def add(self, piece: str) -> None:
        """Append a piece where nobody asks for the size."""
        self._new.append(piece)
        if len(self._new) > MAX_NEW:
            self.settle()

    def settle(self) -> int:
        """Join what is new; returns the size of all, in bytes of UTF-8."""
        if self._new:
            piece = "".join(self._new)
            self._new.clear()
            self._size += utf8_size(piece)
            self._length += len(piece)
            if self._joined and len(self._joined[-1]) < _MIN_JOINED:
                piece = self._joined.pop() + piece
            self._joined.append(piece)
        return self._size

    def text(self) -> str:
        """The text so far."""
        return "".join((*self._joined, *self._new))

    def since(self, position: int) -> str:
        """The text from a position on, in characters; quick where that is near the end."""
        self.settle()
        parts: list[str] = []
        left = self._length - position
        for piece in reversed(self._joined):
            if left <= 0:
                break
            parts.append(piece[max(0, len(piece) - left) :])
            left -= len(piece)
        return "".join(reversed(parts))

    def take(self) -> str:
        """The text so far, which starts anew."""
        text = self.text()
        self._new.clear()
        self._joined.clear()
        self._size = self._length = 0
        return text
