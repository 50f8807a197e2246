"""The service's own search with accounts: it counts as a request, and costs nothing."""

from __future__ import annotations

import msgspec
import pytest

from tests.service.tools.searching import Codex, ScriptedWeb, settings_of
from tests.service.wire import client_of

from .paying import Books

pytestmark = pytest.mark.anyio


async def test_a_search_counts_as_a_request_and_costs_nothing(
    books: Books, explained: None
) -> None:
    books.account(balance="1")
    books.price()
    key = books.key(requests_per_minute=2, tokens_per_minute=10_000)
    async with ScriptedWeb().running() as scripted:
        tools = settings_of(scripted).tools
        settings = msgspec.structs.replace(books.settings(lease_s=60), tools=tools)
        async with client_of(settings) as client:
            codex = Codex(client, key)
            assert (await codex.post("no command")).status_code == 400
            answer = await codex.post({"time": [{}]})
            assert answer.status_code == 200
            assert answer.headers["x-ratelimit-remaining-requests"] == "0"
            assert (await codex.post({"time": [{}]})).status_code == 429
            books.revoke(key)
            assert (await codex.post({"time": [{}]})).status_code == 401
    assert not books.upstream.calls
    assert books.usages("endpoint, model, outcome, input, output, amount") == [
        ("/alpha/search", "", outcome, 0, 0, 0) for outcome in ("refused", "completed")
    ]
    assert books.balance() == 10**12
