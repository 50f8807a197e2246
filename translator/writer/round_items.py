"""Items of a response of rounds: calls that have an outcome, and reasoning that seals what ran."""

from __future__ import annotations

from msgspec.structs import replace

from translator.common.hosted import HostedFunction, Outcome, RanRound
from translator.common.sealed import Thought, seal, unsealed
from translator.wire.notices import Notice

from .open_items import TOO_MUCH_REASONING, Closing, FinalStatus, OpenReasoning
from .segments import CallSegment

_TOO_MUCH_FOUND = Notice(
    "tools",
    "results_dropped",
    "What hosted tools were asked and have found is too large to be sealed; the next request will"
    " not have it.",
)


class RoundCall(CallSegment):
    """A call in a response of rounds; one of a hosted tool is whole when it has its outcome."""

    __slots__ = ("hosted", "item_id", "outcome", "told")

    def __init__(self, key: int) -> None:
        super().__init__(key)
        self.hosted: HostedFunction | None = None
        self.outcome: Outcome | None = None
        self.told: str | None = None
        self.item_id = ""

    @property
    def whole(self) -> bool:
        return super().whole if self.hosted is None else self.outcome is not None

    @property
    def function(self) -> HostedFunction:
        """The function of the hosted tool, once its turn is over."""
        assert self.hosted is not None, "the call is not of a hosted tool"
        return self.hosted

    @property
    def text(self) -> str:
        """Its arguments."""
        return self._arguments.text() if self.begun else "{}"


class OpenRoundReasoning(OpenReasoning):
    """Reasoning that may hold what ran before it."""

    __slots__ = ("ran", "thought")

    ran: RanRound | None
    thought: Thought

    def closed(self, status: FinalStatus) -> Closing:
        self.thought = unsealed(self._thought(self._texts.text()))
        return (yield from super().closed(status))

    def _seals(self, thought: Thought) -> tuple[str | None, str | None]:
        if self.ran is None:
            return super()._seals(thought)
        blob = seal(replace(thought, ran=self.ran))
        if blob is None:
            blob = seal(Thought("", "", ran=self.ran))
            lost = TOO_MUCH_REASONING
            if blob is None:
                blob, lost = seal(thought), _TOO_MUCH_FOUND
            self._lose(lost)
        return blob, blob
