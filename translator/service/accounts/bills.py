"""Bills: what a request may cost at most, and what it has cost.

    hold    = input × max(input, cache write) + output × output price + per request
    amount  = plain × input + cached × cached input + written × cache write
            + output × output price + per request

Prices are pico per token, so both are exact. An input that is not counted yet is taken for a token
per three bytes, and 256 for the upstream's template: a hold is pessimistic, and no bill. A bill
without the upstream's count takes a token per four bytes. An image stands for 1,500 tokens.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from translator.service.access.client import Ended
from translator.service.access.cost import BYTES_PER_TOKEN, MAX_TOKENS, Answered, StatedUsage

from .sizes import Size
from .tools import Kind

Estimated = Literal["no", "output", "all", "orphan"]
"""Which counts of a usage are estimates: none, those of an answer that broke off, all, or those of
a process that died."""


class Price(Struct, frozen=True):
    """A row of prices: pico per token, and per request."""

    id: int
    input: int
    cached_input: int | None
    cache_write: int | None
    output: int
    per_request: int
    free: bool


class Counts(Struct, frozen=True):
    """The tokens of a request; cached and written ones are among those of the input."""

    input: int = 0
    cached: int = 0
    written: int = 0
    output: int = 0
    reasoning: int = 0


class Bill(Struct, frozen=True):
    """The tokens that a request is billed for; `billed`: it is billed at all.

    `calls` are those of a tool, of which each has a price, and which have no tokens.
    """

    counts: Counts
    estimated: Estimated
    billed: bool
    calls: int = 0


NOTHING = Bill(Counts(), "no", billed=False)


def most(price: Price, input_tokens: int, output_tokens: int) -> int:
    """The hold of a request with so many tokens, in pico."""
    return base(price, input_tokens) + output_tokens * price.output


def base(price: Price, input_tokens: int) -> int:
    """The part of a hold that does not depend on the answer."""
    per_token = max(price.input, price.input if price.cache_write is None else price.cache_write)
    return input_tokens * per_token + price.per_request


def amount(price: Price, counts: Counts) -> int:
    """The cost of a request, in pico; never negative."""
    cached = min(counts.cached, counts.input)
    written = min(counts.written, counts.input - cached)
    plain = counts.input - cached - written
    cached_input = price.input if price.cached_input is None else price.cached_input
    cache_write = price.input if price.cache_write is None else price.cache_write
    return (
        plain * price.input
        + cached * cached_input
        + written * cache_write
        + counts.output * price.output
        + price.per_request
    )


def cost_of(price: Price | None, kind: Kind, found: Bill) -> int:
    """What is billed, in pico."""
    if price is None or price.free or not found.billed:
        return 0
    return amount(price, found.counts) if kind == "request" else found.calls * price.per_request


def bill_of_calls(count: int) -> Bill:
    """The bill of so many calls of a tool."""
    return Bill(Counts(), "no", billed=count > 0, calls=count)


def bill(ended: Ended, size: Size, *, broken: Literal["nothing", "estimate"]) -> Bill:
    """What a request is billed for, by how it ended.

    `broken`: what an answer costs that the upstream or this service broke off.
    """
    answered = ended.answered
    if ended.by_us or not ended.went_upstream:
        return NOTHING
    told = counted(answered)
    if told is not None:
        return Bill(told, "no", billed=True)
    seen = output_seen(answered)
    guess = estimate(size, answered)
    if ended.result in ("completed", "incomplete"):
        return guess
    if not seen:
        return NOTHING
    if ended.result == "client_left":
        return guess
    return Bill(guess.counts, "output", billed=broken == "estimate")


def estimate(size: Size, answered: Answered) -> Bill:
    """The bill of a request whose upstream has not counted its tokens."""
    counts = Counts(input=size.billed_tokens, output=output_seen(answered))
    return Bill(counts, "all", billed=True)


def counted(answered: Answered) -> Counts | None:
    """The tokens that the upstream has counted; None where it has not, or beyond belief."""
    usage = answered.usage
    if usage is None or max(usage.input_tokens, usage.output_tokens) > MAX_TOKENS:
        return None
    if not usage.input_tokens and not usage.output_tokens:
        return None
    return _clamped(usage)


def _clamped(usage: StatedUsage) -> Counts:
    cached = min(usage.cached_tokens, usage.input_tokens)
    written = min(usage.cache_write_tokens, usage.input_tokens - cached)
    reasoning = min(usage.reasoning_tokens, usage.output_tokens)
    return Counts(usage.input_tokens, cached, written, usage.output_tokens, reasoning)


def output_seen(answered: Answered) -> int:
    """The tokens that an answer has by its text: a token per four bytes, one per event at least."""
    return max(answered.events, -(-answered.written // BYTES_PER_TOKEN))
