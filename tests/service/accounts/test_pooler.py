"""Accounts behind PgBouncer in transaction mode: each transaction may get another session."""

from __future__ import annotations

import asyncio

import pytest

from tests.service.store import postgres
from tests.service.wire import ScriptedUpstream
from translator.service.config.store import Location

from .paying import COST, USAGE, Books, answering, ask, settled

pytestmark = pytest.mark.anyio

REQUESTS = 24


async def test_bills_are_exact(
    upstream: ScriptedUpstream, postgres_server: postgres.Server, postgres_location: Location
) -> None:
    """Requests at once at two nodes, more than the pooler has sessions for."""
    upstream.script = answering(USAGE)
    program = postgres.needed(postgres.pooler)
    with postgres.pooling(program, postgres_server) as url:
        pooled = Location(postgres_location.kind, url("accounts"))
        with Books.opened(upstream, pooled) as books:
            books.account(balance="5")
            books.price()
            key = books.key()
            async with books.service() as one, books.service() as two:
                asked = [ask((one, two)[n % 2], key) for n in range(REQUESTS)]
                assert {answer.status_code for answer in await asyncio.gather(*asked)} == {200}
                assert {row[0] for row in await settled(books, REQUESTS)} == {"completed"}
            assert books.balance() == 5_000_000_000_000 - REQUESTS * COST
