"""The parts of an answer that show only in the last events of a response."""

from __future__ import annotations

from typing import Any, assert_never, get_args

import msgspec
from msgspec import Raw

from translator.wire import responses
from translator.wire.deltas import Finish, ServiceTier, Sources, Usage
from translator.wire.errors import UpstreamError
from translator.wire.events import ErrorBody

from .sizes import size_of_source

_TIERS = frozenset(get_args(responses.Tier))


class AtEnd:
    """Usage, service tier, sources and extra content, as far as they have come."""

    __slots__ = ("extras", "sources", "tier", "usage")

    def __init__(self) -> None:
        self.usage: responses.Usage | None = None
        self.tier: str | None = None
        self.sources: Sources | None = None
        self.extras: dict[str, Raw] = {}
        """Extra content of calls by their ids; of the message: under an empty one."""

    @property
    def size(self) -> int:
        """The bytes of the sources."""
        return 0 if self.sources is None else sum(map(size_of_source, self.sources.sources))

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

    def final(
        self,
        base: responses.Response,
        **fields: Any,  # noqa: ANN401 - of a response
    ) -> responses.Response:
        """The final response, made of the first one."""
        tier = self.tier or base.service_tier
        return msgspec.structs.replace(base, service_tier=tier, usage=self.usage, **fields)


_FATAL_TYPES = {
    "context_length_exceeded": "invalid_request_error",
    "invalid_prompt": "invalid_request_error",
    "insufficient_quota": "insufficient_quota",
    "rate_limit_exceeded": "rate_limit_error",
}
"""Codes that clients act on, with their types. Every other failure is `server_error`, which they
retry: `server_is_overloaded` would end a Codex turn for good."""


def error_body(error: UpstreamError) -> ErrorBody:
    """The error object of an answer that broke off; its code is never None."""
    code, kind = "server_error", "server_error"
    if error.code in _FATAL_TYPES:
        code, kind = error.code, _FATAL_TYPES[error.code]
    return ErrorBody(kind, code, error.message, error.param)


def why_incomplete(verdict: Finish) -> responses.IncompleteDetails:
    """Why a response is not complete whose answer was cut, or would have gone on."""
    filtered = verdict.reason == "content_filter"
    return responses.IncompleteDetails("content_filter" if filtered else "max_output_tokens")


def _usage(usage: Usage) -> responses.Usage:
    return responses.Usage(
        usage.input_tokens,
        responses.InputTokensDetails(usage.cached_tokens, usage.cache_write_tokens),
        usage.output_tokens,
        responses.OutputTokensDetails(usage.reasoning_tokens),
        usage.input_tokens + usage.output_tokens,
    )
