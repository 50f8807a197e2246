"""Responses whose searches are run here, with accounts: each round and each search is paid for."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx
import msgspec
import pytest

from tests.rounds import REQUEST, says, search, turn
from tests.service.tools.hosting import Model, frames
from tests.service.tools.searching import ScriptedWeb, result, settings_of
from tests.service.wire import serving

from .paying import DEAR, Books, bearer, settled
from .test_search import PRICE, SEARCH_PRICE, give_tools

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("explained")]

BODY = {**REQUEST, "model": "m"}


@asynccontextmanager
async def responding(
    books: Books, key: str, model: Model
) -> AsyncGenerator[tuple[httpx.AsyncClient, ScriptedWeb]]:
    """A client with a key, on a service with a scripted web and a scripted model."""
    web = ScriptedWeb()
    books.upstream.script = model
    async with web.running():
        web.results = [result(f"{web.url}/page")]
        tools = settings_of(web).tools
        settings = msgspec.structs.replace(books.settings(lease_s=60), tools=tools)
        async with (
            serving(settings) as url,
            httpx.AsyncClient(base_url=url, headers=bearer(key), timeout=20) as client,
        ):
            yield client, web


async def test_all_rounds_and_each_search_are_billed(books: Books) -> None:
    books.account(balance="1")
    books.price(DEAR)
    books.price(SEARCH_PRICE)
    key = books.key()
    model = Model(turn(search("a"), search("b")), turn(search("c")), says("So."))
    async with responding(books, key, model) as (client, web):
        answer = await client.post("/v1/responses", json=BODY)
        assert frames(answer.text)[-1]["response"]["status"] == "completed"
        await settled(books, 4)  # that of each search is its own
    assert web.asked == ["/search"] * 3
    assert books.balance() == 10**12 - 30 * DEAR.input - 15 * DEAR.output - 3 * PRICE


async def test_a_round_that_is_paid_in_part_is_the_last_and_has_no_tools(books: Books) -> None:
    books.account(balance="0.02")
    books.price(DEAR)
    key = books.key()
    model = Model(turn(search("a"), usage=(3000, 500)), says("So."))
    async with responding(books, key, model) as (client, _):
        answer = await client.post("/v1/responses", json={**BODY, "max_output_tokens": 100_000})
        assert frames(answer.text)[-1]["response"]["status"] == "completed"
        await settled(books, 2)
    assert model.bodies[1]["tool_choice"] == "none"
    assert books.balance() >= 0


async def test_a_round_that_nothing_pays_for_fails_the_response(books: Books) -> None:
    """What has come of it is billed."""
    books.account(balance="0.008")
    books.price(DEAR)
    key = books.key()
    model = Model(turn(search("a"), usage=(9000, 900)), says("So."))
    async with responding(books, key, model) as (client, _):
        answer = await client.post("/v1/responses", json=BODY)
        final = frames(answer.text)[-1]["response"]
        await settled(books, 2)
    assert final["error"]["code"] == "insufficient_quota"
    assert len(model.bodies) == 1
    assert books.balance() == 8 * 10**9 - 9000 * DEAR.input - 900 * DEAR.output


async def test_a_search_that_is_not_paid_for_is_told_the_model(books: Books) -> None:
    books.account(balance="0.004")
    books.price(DEAR)
    books.price(SEARCH_PRICE)
    key = books.key()
    model = Model(turn(search("a")), says("I cannot say."))
    async with responding(books, key, model) as (client, web):
        answer = await client.post("/v1/responses", json=BODY)
        assert frames(answer.text)[-1]["response"]["output"][0]["status"] == "failed"
    assert not web.asked
    assert model.tool_messages(1)[0].startswith("Not run: ")


async def test_a_key_without_the_tool_has_no_search(books: Books) -> None:
    books.account(balance="1")
    books.price(DEAR)
    key = books.key()
    give_tools(books, key, ())
    model = Model(says("Hello."))
    async with responding(books, key, model) as (client, _):
        answer = await client.post("/v1/responses", json=BODY)
    assert answer.headers["x-translator-notices"] == "1; tool_dropped"
