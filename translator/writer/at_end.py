"""The parts of an answer that show only in the last events of a response."""

from __future__ import annotations

from typing import assert_never, get_args

from msgspec import Raw

from translator.wire import responses
from translator.wire.deltas import ServiceTier, Sources, Usage

_TIERS = frozenset(get_args(responses.Tier))


class AtEnd:
    """Usage, service tier, sources and extra content, as far as they have come."""

    def __init__(self) -> None:
        self.usage: responses.Usage | None = None
        self.tier: str | None = None
        self.sources: Sources | None = None
        self.extras: dict[str, Raw] = {}
        """Extra content of calls by their ids; of the message: under an empty one."""

    def keep(self, delta: Sources | Usage | ServiceTier) -> None:
        """Keep the latest of each kind."""
        match delta:
            case Sources():
                self.sources = delta
            case Usage():
                self.usage = _usage(delta)
            case ServiceTier():
                self.tier = delta.name if delta.name in _TIERS else None
            case _ as never:
                assert_never(never)


def _usage(usage: Usage) -> responses.Usage:
    return responses.Usage(
        usage.input_tokens,
        responses.InputTokensDetails(usage.cached_tokens, usage.cache_write_tokens),
        usage.output_tokens,
        responses.OutputTokensDetails(usage.reasoning_tokens),
        usage.input_tokens + usage.output_tokens,
    )
