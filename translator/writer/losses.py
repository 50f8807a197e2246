"""Losses of an answer: the calls that the model has made and the response does not have.

They become notices, which are known in full only at the end of the response.
"""

from __future__ import annotations

from collections import Counter
from typing import Literal

from translator.wire.notices import Notice

WhyNot = Literal["tool_choice", "parallel_tool_calls", "tools"]
"""Why a call is left out: by the field that forbids it; or a bound has withdrawn all `tools`."""

_CALLS_DROPPED: dict[WhyNot, str] = {
    "tool_choice": "Calls of tools that it does not allow were left out: {}.",
    "parallel_tool_calls": "Calls beside the one that it allows were left out: {}.",
    "tools": "Calls that came when none could be run any more were left out: {}.",
}


class Losses:
    """The calls that a response does not have, over all of its rounds."""

    __slots__ = ("_calls", "_dropped")

    def __init__(self) -> None:
        self._dropped: dict[int, WhyNot] = {}  # of the current round, by the key of the call
        self._calls: Counter[WhyNot] = Counter()  # of the rounds before

    def call_dropped(self, key: int, why: WhyNot) -> None:
        """A call is left out, however many deltas of it come."""
        self._dropped[key] = why

    def call_taken(self, key: int) -> None:
        """It is not, now that its name is whole."""
        self._dropped.pop(key, None)

    def round_over(self) -> None:
        """The calls of the next round have keys of their own."""
        self._calls.update(self._dropped.values())
        self._dropped = {}

    def round_again(self) -> None:
        """Another attempt at the current round begins."""
        self._dropped = {}

    @property
    def notices(self) -> tuple[Notice, ...]:
        """A notice for each reason, so that there are few."""
        calls = self._calls + Counter(self._dropped.values())
        return tuple(
            Notice(why, "call_dropped", text.format(calls[why]))
            for why, text in _CALLS_DROPPED.items()
            if calls[why]
        )
