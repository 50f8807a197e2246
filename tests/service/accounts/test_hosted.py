"""Responses of several rounds with accounts: one bill for the rounds, one for each search."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
import pytest

from tests.rounds import REQUEST, says, search, turn
from tests.service.tools.hosting import Model, frames
from tests.service.tools.searching import ScriptedWeb, result, settings_of
from tests.service.wire import BOUND_S, Call, serving
from translator.service.accounts.price_book import PriceRow

from .paying import DEAR, Books, bearer, settled

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("explained")]

PRICE = 5 * 10**9
SEARCH_PRICE = PriceRow("tool:search", per_request=PRICE)


@asynccontextmanager
async def hosting(
    books: Books, model: Model, **tools: Any
) -> AsyncGenerator[tuple[httpx.AsyncClient, ScriptedWeb]]:
    """A client of a service with accounts that runs searches; its model follows a script."""
    books.upstream.script = model
    async with ScriptedWeb().running() as web:
        web.results = [result(f"{web.url}/page")]
        settings = msgspec.structs.replace(
            books.settings(lease_s=60, min_output_tokens=8),
            tools=settings_of(web, tools=tools).tools,
        )
        async with (
            serving(settings) as url,
            httpx.AsyncClient(base_url=url, timeout=BOUND_S) as client,
        ):
            yield client, web


async def respond(client: httpx.AsyncClient, key: str, **fields: Any) -> dict[str, Any]:
    """The response, streamed or whole."""
    request = {**REQUEST, "model": "m", **fields}
    answer = await client.post("/v1/responses", json=request, headers=bearer(key))
    assert answer.status_code == 200, answer.text
    whole: dict[str, Any] = answer.json() if not request.get("stream") else {}
    return whole or frames(answer.text)[-1]["response"]


def counted(payloads: Any, input_: int, output: int) -> Any:
    """A turn with so many tokens."""
    usage = {"prompt_tokens": input_, "completion_tokens": output}
    usage["total_tokens"] = input_ + output
    return [
        one | {"usage": usage} if isinstance(one, dict) and one.get("usage") else one
        for one in payloads
    ]


def rounds() -> Model:
    return Model(
        counted(turn(search("news")), 1000, 20),
        counted(turn(search("more news")), 2000, 30),
        counted(says("It is so [1]."), 3000, 40),
    )


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("round_usage", ["sum", "context"])
async def test_rounds_and_searches_are_billed(books: Books, stream: bool, round_usage: str) -> None:
    """As the upstream has told it of each round, whatever the client is told of them."""
    books.account(balance="1")
    books.price(DEAR)
    books.price(SEARCH_PRICE)
    key = books.key(max_concurrent_requests=1)
    async with hosting(books, rounds(), round_usage=round_usage) as (client, _):
        response = await respond(client, key, stream=stream)
        assert response["status"] == "completed"
        await settled(books, 3)
    cost = 6000 * DEAR.input + 90 * DEAR.output
    assert sorted(books.usages("kind, outcome, estimated, input, output, calls, amount")) == [
        ("request", "completed", "no", 6000, 90, 0, cost),
        *[("search", "completed", "no", 0, 0, 1, PRICE)] * 2,
    ]
    assert books.balance() == 10**12 - cost - 2 * PRICE


async def test_a_search_that_nothing_pays_for_is_told_the_model(books: Books) -> None:
    books.account(balance="0.005")
    books.price(PriceRow("m", output=1, input=1))
    books.price(PriceRow("tool:search", per_request=10**10))
    key = books.key()
    model = Model(turn(search("news")), says("I could not search."))
    async with hosting(books, model) as (client, web):
        await respond(client, key, max_output_tokens=500)
        await settled(books, 1)
        assert not web.asked
    [told] = model.tool_messages(1)
    assert told.startswith("Not run: Nothing is left")


async def test_the_last_round_that_is_paid_for_goes_without_tools(books: Books) -> None:
    """Where the money pays for a part of a round, the response ends with it."""
    books.account(balance="0.0047")
    books.price(PriceRow("m", input=1_000_000, output=2_000_000))
    key = books.key()
    model = Model(
        counted(turn(search("news")), 100, 1500),
        counted(says("That is what there is."), 100, 8),
    )
    async with hosting(books, model) as (client, _):
        response = await respond(client, key, max_output_tokens=2000)
        await settled(books, 2)
    assert response["status"] == "completed"
    last = model.bodies[-1]
    assert not last.get("tools") or last.get("tool_choice") == "none"
    assert last["max_tokens"] < 500  # which are left of those that were asked for
    assert books.balance() >= 0


@pytest.mark.parametrize("stream", [True, False])
async def test_a_response_whose_next_round_is_not_paid_for_fails(
    books: Books, stream: bool
) -> None:
    """What has come is billed."""
    books.account(balance="0.00441")
    books.price(PriceRow("m", input=10, output=2_000_000))
    key = books.key()
    model = Model(counted(turn(search("news")), 100, 2200), says("never"))
    async with hosting(books, model) as (client, _):
        response = await respond(client, key, max_output_tokens=10_000, stream=stream)
        await settled(books, 2)
    assert response["status"] == "failed"
    assert response["error"]["code"] == "insufficient_quota"
    assert len(model.bodies) == 1
    [cost] = [amount for kind, amount in books.usages("kind, amount") if kind == "request"]
    assert cost == 100 * 10 + 2200 * 2_000_000


@pytest.mark.parametrize("stream", [True, False])
async def test_a_round_that_fails_leaves_the_bill_of_those_before(
    books: Books, stream: bool
) -> None:
    """The client is told their usage, too."""

    async def refused(call: Call) -> None:
        await call.answer({"error": {"message": "upstream says no"}}, status=400)

    books.account(balance="1")
    books.price(DEAR)
    key = books.key()
    async with hosting(books, Model(counted(turn(search("a")), 1000, 20), refused)) as (client, _):
        response = await respond(client, key, stream=stream)
        await settled(books, 2)
    assert response["status"] == "failed"
    usage = response["usage"]
    assert (usage["input_tokens"], usage["output_tokens"]) == (1000, 20)
    assert ("request", "failed", 1000, 20) in books.usages("kind, outcome, input, output")


async def test_a_key_without_the_right_has_no_search(books: Books) -> None:
    books.account(balance="1")
    books.price(DEAR)
    key = books.key()
    books.change("UPDATE acct_keys SET tools = '[]'")
    model = Model(says("No search."))
    async with hosting(books, model) as (client, _):
        await client.post("/v1/responses", json={**REQUEST, "model": "m"}, headers=bearer(key))
    assert not any(body.get("tools") for body in model.bodies)
