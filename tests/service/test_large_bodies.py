"""A large body is sent in parts, with a turn for everything else after each."""

from __future__ import annotations

from typing import Any

import pytest

from translator.service.upstreams.large_bodies import PART_BYTES, LargeBody, body_to_send

from .test_large_requests import Turns

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("limit", [None, 3 * PART_BYTES + 5, 10])
async def test_it_is_sent_in_parts(limit: int | None) -> None:
    body = bytes(range(256)) * (PART_BYTES // 64) + b"end"
    sent: list[bytes] = []
    at: list[int] = []

    class Writer:
        async def write(self, part: memoryview) -> None:
            sent.append(bytes(part))
            at.append(turns.count)

    writer: Any = Writer()
    async with Turns() as turns:
        await LargeBody(body).write_with_length(writer, limit)
    assert b"".join(sent) == body[:limit]
    assert max(map(len, sent)) <= PART_BYTES
    assert len(set(at)) == len(sent) == -(-len(body[:limit]) // PART_BYTES)


async def test_only_a_large_one_is() -> None:
    assert body_to_send(b"") is None
    assert body_to_send(b"x" * PART_BYTES) == b"x" * PART_BYTES
    large = body_to_send(b"x" * (PART_BYTES + 1))
    assert isinstance(large, LargeBody)
    assert large.size == PART_BYTES + 1
