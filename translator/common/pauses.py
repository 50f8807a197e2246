"""Pauses in long work: between two steps of it, a caller may let others have their turn.

    pause()     is called by work on a request between two items, two parts, two tools, …

The core only says where it may pause. What is done between two pauses is one item in Python, or one
pass in C over some part of the request, which takes about a millisecond per megabyte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

Pause = Callable[[], None]
"""Called often, so it has to be cheap where no pause is due. What it raises ends the work."""


def no_pause() -> None:
    """Do not pause: all of the work is done at once."""


def paced(items: Iterable[T], pause: Pause) -> Iterable[T]:
    """The items, with a pause before each; as they are where none is wanted."""
    return items if pause is no_pause else _with_pauses(items, pause)


def _with_pauses(items: Iterable[T], pause: Pause) -> Iterator[T]:
    for item in items:
        pause()
        yield item
