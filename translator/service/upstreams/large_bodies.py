"""Large request bodies: sent in parts, between which every other task has its turn.

aiohttp gives a body to the transport at once, and libuv writes all of it, as fast as the upstream
reads: some 3 ms per megabyte for which all streams stop.
"""

from __future__ import annotations

import asyncio

import aiohttp
from aiohttp.abc import AbstractStreamWriter

PART_BYTES = 256 * 1024


class LargeBody(aiohttp.BytesPayload):
    """A body that is written in parts of PART_BYTES."""

    async def write_with_length(
        self, writer: AbstractStreamWriter, content_length: int | None
    ) -> None:
        whole = memoryview(self._value)[:content_length]
        for start in range(0, len(whole), PART_BYTES):
            await writer.write(whole[start : start + PART_BYTES])
            await asyncio.sleep(0)


def is_large(body: bytes | None) -> bool:
    """Whether a body is sent in parts."""
    return body is not None and len(body) > PART_BYTES


def body_to_send(body: bytes | None) -> bytes | LargeBody | None:
    """The `data` of aiohttp's request; None without a body."""
    return LargeBody(body) if body is not None and is_large(body) else body or None
