"""The rounds of a request whose tools are run here: what each has cost, and all of them together.

What has come is told as a sum over all rounds, so a round has what was added since the one before.
A round whose upstream told no usage is estimated by itself; the others stay as they were told.
"""

from __future__ import annotations

from typing import Literal

from msgspec.structs import replace

from translator.service.access.client import Ended
from translator.service.access.cost import Answered, StatedUsage

from .bills import NOTHING, Bill, Counts, Estimated, bill, counted, estimate
from .sizes import Size

_BY_DOUBT: tuple[Estimated, ...] = ("no", "output", "all", "orphan")


class Rounds:
    """What the rounds of a request have cost."""

    __slots__ = ("_before", "_over", "_size")

    def __init__(self, size: Size) -> None:
        """`size` is that of the request as it is sent."""
        self._size = size
        self._before = Answered()
        self._over = NOTHING

    def spent(self, answered: Answered) -> Counts:
        """The counts of all rounds, of which this has come, if the latest one is over."""
        return _both(self._over, self._latest(answered)).counts

    def begin(self, size: Size, answered: Answered) -> None:
        """Begin a further round, whose request has this size: what has come is that of others."""
        self._over = _both(self._over, self._latest(answered))
        self._before, self._size = answered, size

    def seen(self, answered: Answered | None) -> Counts | None:
        """The counts until now; None where nothing has come of any round."""
        came = None if answered is None else _added(answered, self._before)
        if answered is None or came is None or not (came.written or came.events or came.usage):
            return self._over.counts if self._over.billed else None
        return self.spent(answered)

    def bill(self, ended: Ended, *, broken: Literal["nothing", "estimate"]) -> Bill:
        """What all rounds are billed for, by how the last one ended."""
        if not self._over.billed or ended.by_us:
            return bill(ended, self._size, broken=broken)
        came = _added(ended.answered, self._before)
        last = bill(replace(ended, answered=came), self._size, broken=broken)
        return _both(self._over, last) if last.billed else self._over

    def _latest(self, answered: Answered) -> Bill:
        """The latest round, if it ended now."""
        came = _added(answered, self._before)
        told = counted(came)
        return estimate(self._size, came) if told is None else Bill(told, "no", billed=True)


def _added(answered: Answered, before: Answered) -> Answered:
    """What has come since."""
    usage = answered.usage
    if usage is not None and before.usage is not None:
        usage = StatedUsage(
            *(
                max(0, getattr(usage, name) - getattr(before.usage, name))
                for name in StatedUsage.__struct_fields__
            )
        )
    return Answered(
        max(0, answered.written - before.written),
        max(0, answered.events - before.events),
        usage if usage is not None and any(_figures(usage)) else None,
        answered.response_id,
    )


def _figures(usage: StatedUsage) -> tuple[int, ...]:
    return tuple(getattr(usage, name) for name in StatedUsage.__struct_fields__)


def _both(one: Bill, other: Bill) -> Bill:
    """The bill of both."""
    counts = Counts(
        *(
            getattr(one.counts, name) + getattr(other.counts, name)
            for name in Counts.__struct_fields__
        )
    )
    doubts: tuple[Estimated, Estimated] = one.estimated, other.estimated
    return Bill(counts, max(doubts, key=_BY_DOUBT.index), billed=one.billed or other.billed)
