"""The usage of a response over its rounds."""

from __future__ import annotations

from msgspec.structs import replace

from translator.common.hosted import RoundUsage as Told
from translator.wire.responses import InputTokensDetails, OutputTokensDetails, Usage

CHARACTERS_PER_TOKEN = 4
"""What a token counts for where an upstream does not tell its usage."""


class RoundUsage:
    """The usage of the rounds that are over; each may have told none."""

    __slots__ = ("_last", "_spent", "output_tokens")

    def __init__(self) -> None:
        self._spent: Usage | None = None
        self._last: Usage | None = None  # of the last round that told any
        self.output_tokens = 0
        """The tokens of output in all of them."""

    def spend(self, usage: Usage | None, written: int) -> None:
        """Count a round that is over, with the bytes that it has written."""
        told = written // CHARACTERS_PER_TOKEN if usage is None else usage.output_tokens
        self.output_tokens += told
        self._spent = summed(self._spent, usage)
        self._last = usage or self._last

    def total(self, own: Usage | None) -> Usage | None:
        """The sum with that of the current round; None where none has told any."""
        return summed(self._spent, own)

    def told(self, own: Usage | None, how: Told) -> Usage | None:
        """The usage that the client is told, with that of the current round."""
        total, last = self.total(own), own or self._last
        if how == "sum" or total is None or last is None:
            return total
        return replace(
            total,
            input_tokens=last.input_tokens,
            input_tokens_details=last.input_tokens_details,
            total_tokens=last.input_tokens + total.output_tokens,
        )


def summed(before: Usage | None, usage: Usage | None) -> Usage | None:
    """The usage of several rounds, each count added up."""
    if before is None or usage is None:
        return before or usage
    output = before.output_tokens + usage.output_tokens
    reasoning = OutputTokensDetails(
        before.output_tokens_details.reasoning_tokens + usage.output_tokens_details.reasoning_tokens
    )
    one, two = before.input_tokens_details, usage.input_tokens_details
    tokens = before.input_tokens + usage.input_tokens
    read = InputTokensDetails(
        one.cached_tokens + two.cached_tokens, one.cache_write_tokens + two.cache_write_tokens
    )
    return Usage(tokens, read, output, reasoning, tokens + output)
