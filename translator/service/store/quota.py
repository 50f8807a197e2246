"""Quota: what is too much to be stored, of one response, or of all of a client."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence

import msgspec
from msgspec import Raw

from translator.service.base.errors import StoreQuotaExceeded
from translator.service.config.store import StoreSection
from translator.service.database.errors import Unavailable
from translator.wire.items import OutputItem

SWEEP_FIRST_S = 2.0
"""Longest time that a request waits for a sweep which may make room for it, in seconds."""

AGAIN_S = 10.0
"""Shortest time from one such sweep to the next, in seconds."""


def why_too_much(limits: StoreSection, source: Sequence[Raw | int], used: int) -> str | None:
    """Why a response with some input of its own is not stored, in a sentence; None if it may be.

    `used` are the bytes that its client has stored.
    """
    sizes = [len(one) for one in source if isinstance(one, Raw)]
    if (size := sum(sizes)) > limits.max_kept_response_bytes:
        limit = limits.max_kept_response_bytes
        return f"The input is over {limit} bytes, so the response is not stored."
    if max(sizes, default=0) > limits.max_kept_item_bytes:
        limit = limits.max_kept_item_bytes
        return f"An item of the input is over {limit} bytes, so the response is not stored."
    if 0 < limits.max_client_bytes < used + size:
        limit = limits.max_client_bytes
        return f"All of a client may have {limit} bytes, so the response is not stored."
    return None


def check_items(limits: StoreSection, items: Sequence[Raw]) -> None:
    """Raise StoreQuotaExceeded where items that are given to a conversation are too large."""
    limit = limits.max_kept_response_bytes
    if sum(map(len, items)) > limit:
        raise StoreQuotaExceeded(f"The items are over {limit} bytes.", "items")
    limit = limits.max_kept_item_bytes
    for index, one in enumerate(items):
        if len(one) > limit:
            raise StoreQuotaExceeded(f"An item is over {limit} bytes.", f"items[{index}]")


def too_large(
    limits: StoreSection, held: int, source_bytes: int, output: Sequence[OutputItem]
) -> str | None:
    """Why a final response with some bytes of its own input is not stored; None if it may be.

    `held` are the bytes of its answer, `output` is what is stored of it item by item.
    """
    limit = limits.max_kept_response_bytes
    if held + source_bytes > limit:
        return f"over {limit} bytes"
    limit = limits.max_kept_item_bytes
    if held <= limit or all(len(msgspec.json.encode(one)) <= limit for one in output):
        return None
    return f"an item over {limit} bytes"


def too_large_to_store(why: str, *, in_background: bool = False) -> StoreQuotaExceeded:
    """The error for a response that is complete, and which `too_large` refuses."""
    how = "without `background`, and with" if in_background else "with"
    return StoreQuotaExceeded(
        f"The response could not be stored ({why}). Send the request {how} `store` set to false."
    )


class SweepsFirst:
    """Lets the sweep make room before a request is told that there is none."""

    def __init__(self, sweep: Callable[[], Awaitable[int]]) -> None:
        """`sweep` does a step, and returns 0 where there is nothing more to do."""
        self._sweep = sweep
        self._next_at = 0.0

    async def first(self) -> bool:
        """Sweep, unless it was just done; whether anything was deleted."""
        now = time.monotonic()
        if now < self._next_at:
            return False
        self._next_at = now + AGAIN_S
        deleted = False
        try:
            while await self._sweep():
                deleted = True
                if time.monotonic() - now > SWEEP_FIRST_S:
                    break
        except Unavailable:
            pass
        return deleted
