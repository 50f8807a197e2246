"""The cost of a request in tokens: by its usage where that is plausible, else by its bytes.

    cost = input, output ;
    input    as stated; a token per four bytes of the request where it is 0
    output   as stated; a token per four bytes of what the model has written where that is far more

Four bytes are about what a token of English has, and few texts have more. Usage is the upstream's
word, and clients pay by it; but some upstreams send zeros, or what their counters have overflown
to, and many send none for a stream unless they are asked to.
"""

from __future__ import annotations

from msgspec import Struct

BYTES_PER_TOKEN = 4

MAX_BYTES_PER_TOKEN = 32
"""Most bytes that a token of a text has on average. Only white space and rulers have more."""

MAX_TOKENS = 20_000_000
"""Most tokens that one request can cost: the largest context windows have half of it."""


class StatedUsage(Struct, frozen=True):
    """Tokens as an upstream states them. 0 is unknown; a total may be all that it states."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    cached_tokens: int = 0
    """Of the input, read from a cache."""

    cache_write_tokens: int = 0
    """Of the input, written to one."""

    reasoning_tokens: int = 0
    """Of the output."""


class Answered(Struct, frozen=True):
    """What has come of an answer."""

    written: int = 0
    """Bytes of text, reasoning and arguments of calls, in UTF-8."""

    events: int = 0
    """Events of a stream that is passed through: few upstreams put several tokens in one."""

    usage: StatedUsage | None = None
    response_id: str = ""


def tokens_of(size: int) -> int:
    """The tokens that so many bytes are taken for."""
    return size // BYTES_PER_TOKEN


def cost(request: int, answered: Answered) -> int:
    """The tokens of a request, which itself is taken for `request` tokens, and of its answer."""
    written = max(tokens_of(answered.written), answered.events)
    usage = answered.usage
    if usage is None:
        return request + written
    known = usage.input_tokens or usage.output_tokens
    if not known and _is_plausible(usage.total_tokens, answered):
        return usage.total_tokens or request
    stated = 0 < usage.input_tokens <= MAX_TOKENS
    total = usage.input_tokens if stated else request
    if not _is_plausible(usage.output_tokens, answered):
        return total + written
    total += usage.output_tokens
    # a total may hold tokens that neither part does, such as hidden reasoning
    return max(total, usage.total_tokens) if usage.total_tokens <= MAX_TOKENS else total


def _is_plausible(tokens: int, answered: Answered) -> bool:
    return answered.written <= tokens * MAX_BYTES_PER_TOKEN and tokens <= MAX_TOKENS
