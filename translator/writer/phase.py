"""The phase of a response."""

from __future__ import annotations

from enum import Enum, auto


class Phase(Enum):
    """Where a response is; each is entered once, in this order."""

    NEW = auto()
    OPEN = auto()
    OVER = auto()
