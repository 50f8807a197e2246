"""The memory that answers in progress hold together, and the bound on it for one process.

    answer ──► account(size) ──► HeldBytes ──► over the bound: the largest answer ends

What an answer holds is summed up as it grows (`translator.Translation`). The bound of one answer
does not bound a thousand of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import TracebackType
from typing import Self

from translator.service.base.ids import log_extra
from translator.wire.errors import AnswerTooLarge

log = logging.getLogger(__name__)


class HeldBytes:
    """What all answers in progress hold, in bytes; at most about `limit`."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.total = 0
        self._open: set[HeldAnswer] = set()

    @property
    def owners(self) -> list[object]:
        """The turns whose answers are in progress."""
        return [answer.owner for answer in self._open if answer.owner is not None]

    def answer(self, request_id: str = "") -> HeldAnswer:
        """An answer that is about to begin, to the request of this id."""
        return HeldAnswer(self, request_id)

    def add(self, answer: HeldAnswer) -> None:
        self._open.add(answer)

    def remove(self, answer: HeldAnswer) -> None:
        self._open.discard(answer)

    def largest(self) -> HeldAnswer:
        """The answer to end, the largest one."""
        return max(self._open, key=lambda one: one.size)

    def error(self) -> AnswerTooLarge:
        """The error that the largest answer ends in."""
        return AnswerTooLarge(
            f"The service holds over {self.limit} bytes of answers, and this is the largest."
        )


class HeldAnswer:
    """One answer's part of it, while the `with` block lasts."""

    __slots__ = ("_held", "ended", "owner", "request_id", "size", "stop")

    def __init__(self, held: HeldBytes, request_id: str) -> None:
        self._held = held
        self.request_id = request_id
        self.size = 0
        self.ended = False
        """Whether it was told to end."""
        self.stop: Callable[[AnswerTooLarge], None] | None = None
        """Ends the answer, wherever it waits."""
        self.owner: object = None
        """The turn whose answer it is, from its request upstream to its end."""

    def __enter__(self) -> Self:
        self._held.add(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end()
        self.ended = False
        self.stop = None
        self.owner = None

    def end(self) -> None:
        """Count its bytes no more: they are about to be released, and nobody else must end, too."""
        self.ended = True
        self._held.remove(self)
        self._held.total -= self.size
        self.size = 0

    def account(self, size: int) -> None:
        """The answer holds so many bytes now.

        At the bound the largest one ends; raises AnswerTooLarge where it is this one.
        """
        held = self._held
        if self.ended:
            raise held.error()
        held.total += size - self.size
        self.size = size
        if held.total <= held.limit:
            return
        largest = held.largest()
        log.warning(
            "answers hold over %d bytes; the largest, of %d bytes, ends",
            held.limit,
            largest.size,
            extra=log_extra(largest.request_id),
        )
        largest.end()
        if largest is self:
            raise held.error()
        if largest.stop is not None:
            largest.stop(held.error())
