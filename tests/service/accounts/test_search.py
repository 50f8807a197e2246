"""The service's own search with accounts: who may search, what it costs, and how it is counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
import pytest
from aiohttp import web

from tests.service.tools.searching import Codex, ScriptedWeb, result, settings_of
from tests.service.wire import BOUND_S, bounded, serving
from translator.service.access.client import FREE_CALL
from translator.service.accounts import channel_book, key_book, price_book
from translator.service.accounts.changes import Mistake
from translator.service.accounts.keys import Channel
from translator.service.accounts.money import read_amount
from translator.service.accounts.price_book import PriceRow
from translator.service.base.errors import InvalidKey, QuotaExceeded
from translator.service.config.settings import SettingsError
from translator.service.database.connection import writing
from translator.service.observe.observer import ToolRan
from translator.service.tools import commands

from .paying import MODELS, ON_SQLITE, USAGE, Books, answering, ask, settled
from .test_rounds import BODY, Answering, accounts_of, held, over

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("explained")]

PRICE = 5 * 10**9
SEARCH_PRICE = PriceRow("tool:search", per_request=PRICE)
QUERY = [{"q": "ledger"}]


@asynccontextmanager
async def searching(
    books: Books, key: str, scripted: ScriptedWeb | None = None, **more: Any
) -> AsyncGenerator[tuple[Codex, ScriptedWeb]]:
    """A Codex with a key, on a service with a scripted web."""
    web_ = scripted or ScriptedWeb()
    async with web_.running():
        web_.results = [result(f"{web_.url}/page")]
        tools = settings_of(web_).tools
        settings = msgspec.structs.replace(books.settings(lease_s=60, **more), tools=tools)
        async with serving(settings) as url, httpx.AsyncClient(base_url=url) as client:
            yield Codex(client, key), web_


def give_tools(books: Books, key: str, tools: tuple[str, ...]) -> None:
    found = books.found(key)
    with writing(books.connection):
        key_book.set_tools(books.connection, found, tools)


def usages(books: Books) -> list[Any]:
    return books.usages("kind, endpoint, model, outcome, calls, amount")


async def test_a_search_counts_as_a_request_and_costs_nothing(books: Books) -> None:
    books.account(balance="1")
    books.price()
    key = books.key(requests_per_minute=2, tokens_per_minute=10_000)
    async with searching(books, key) as (codex, _):
        assert (await codex.post("no command")).status_code == 400
        answer = await codex.post({"time": [{}]})
        assert answer.status_code == 200
        assert answer.headers["x-ratelimit-remaining-requests"] == "0"
        assert (await codex.post({"time": [{}]})).status_code == 429
        books.revoke(key)
        assert (await codex.post({"time": [{}]})).status_code == 401
    assert not books.upstream.calls
    assert usages(books) == [
        ("search", "/alpha/search", "tool:search", outcome, 0, 0)
        for outcome in ("refused", "completed")
    ]
    assert books.balance() == 10**12


async def test_a_search_has_a_price(books: Books) -> None:
    """Each search with results costs it, and nothing else of the request does."""
    books.account(balance="1")
    books.price(SEARCH_PRICE)
    key = books.key()
    async with searching(books, key) as (codex, web_):
        await codex.ask(search_query=QUERY * 3, open=[{"ref_id": web_.url}], time=[{}])
        await codex.ask(search_query=[{"q": ""}])  # is not run
        web_.search = _broken
        await codex.ask(search_query=QUERY)
    assert usages(books) == [
        ("search", "/alpha/search", "tool:search", "completed", calls, calls * PRICE)
        for calls in (3, 0, 0)
    ]
    assert books.balance() == 10**12 - 3 * PRICE
    assert books.rows("SELECT model, requests, amount FROM acct_sums") == [
        ("tool:search", 3, 3 * PRICE)
    ]


async def _broken(_: web.Request) -> web.StreamResponse:
    return web.Response(status=500)


async def test_an_account_without_balance_cannot_search_where_that_costs(books: Books) -> None:
    books.account(balance="0.009")
    key = books.key()
    async with searching(books, key) as (codex, web_):
        await codex.ask(search_query=QUERY * 2)  # a tool without a price costs nothing
        books.price(SEARCH_PRICE)
        answer = await codex.post({"search_query": QUERY * 2})
        assert answer.status_code == 429
        assert answer.json()["error"]["code"] == "insufficient_quota"
        assert answer.headers["x-should-retry"] == "false"
        await codex.ask(search_query=QUERY)
        await codex.ask(time=[{}])
        assert (await codex.post({"search_query": QUERY})).status_code == 429
        books.price(PriceRow("tool:search", free=True))
        await codex.ask(search_query=QUERY)
    assert len([path for path in web_.asked if path == "/search"]) == 4
    assert books.balance() == 4 * 10**9


async def test_a_search_whose_client_leaves_is_billed_as_far_as_it_was(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    books.account(balance="1")
    books.price(SEARCH_PRICE)
    key = books.key()
    answers, ran = 0, asyncio.Event()
    real = commands.ToolRan

    def counted(*args: Any) -> ToolRan:
        ran.set()
        return real(*args)

    async def one_of_two(_: web.Request) -> web.StreamResponse:
        nonlocal answers
        answers += 1
        if answers == 2:
            await asyncio.sleep(BOUND_S)
        return web.json_response({"results": []})

    monkeypatch.setattr(commands, "ToolRan", counted)
    scripted = ScriptedWeb()
    scripted.search = one_of_two
    async with searching(books, key, scripted) as (codex, _):
        asking = asyncio.create_task(codex.post({"search_query": QUERY * 2}))
        await bounded(ran.wait())
        asking.cancel()
        await asyncio.wait([asking])
        await settled(books, 1)
    assert [row[3:] for row in usages(books)] == [("client_left", 1, PRICE)]


async def test_keys_and_channels_have_the_right_to_search(books: Books) -> None:
    """A channel gives it, a key has it unless it is limited to other tools; the first one prices."""
    books.account(balance="1")
    with writing(books.connection):
        for name in ("without", "dear"):
            price_book.set_price(
                books.connection,
                PriceRow("tool:search", per_request=len(name), price_list=name),
                "tests",
            )
            channel_book.set_channel(books.connection, Channel(name, name, (), name))
        channel_book.set_tools(books.connection, "without", ("mcp", "mcp:docs"))
    keys = {
        "by its channel": books.key(name="a", channels=("without", "dear")),
        "not by its channel": books.key(name="b", channels=("without",)),
        "not by itself": books.key(name="c", channels=("dear",)),
        "by itself": books.key(name="d", channels=("dear",)),
    }
    for name, tools in (("not by itself", ()), ("by itself", ("search",))):
        give_tools(books, keys[name], tools)
    for name, key in keys.items():
        async with searching(books, key) as (codex, _):
            answer = await codex.post({"search_query": QUERY})
            if name.startswith("not"):
                assert answer.status_code == 404, name
                assert answer.json()["error"]["code"] == "unsupported_endpoint"
            else:
                assert answer.status_code == 200, name
    assert [row[-1] for row in usages(books)] == [len("dear")] * 2


async def test_a_right_that_is_taken_away_is_gone_at_once(books: Books) -> None:
    """What a process knows of a key from a moment before changes nothing."""
    books.account()
    key = books.key()
    async with searching(books, key, billing=False) as (codex, _):
        await codex.ask(time=[{}])
        give_tools(books, key, ())
        answer = await codex.post({"time": [{}]})
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "unsupported_endpoint"


async def test_calls_within_a_request_have_holds_of_their_own(books: Books) -> None:
    """They take no slot and nothing of the minute; one that fails costs nothing."""
    books.account(balance="1")
    books.price()
    books.price(SEARCH_PRICE)
    key = books.key(max_concurrent_requests=1, requests_per_minute=1)
    answer = Answering()
    async with accounts_of(books) as accounts:
        charge = await held(accounts, key, answer)
        calls = [await charge.call(tool) for tool in ("search", "search", "mcp:docs")]
        assert books.all_keys()[0].open == 1
        assert books.of().held == books.rows("SELECT sum(amount) FROM acct_holds")[0][0]
        for call, ran in zip(calls, (True, False, True), strict=True):
            call.end(ran=ran)
        over(charge, answer.told(1000, 10))
        await settled(books, 4)
    [(request,)] = books.rows("SELECT hold_id FROM acct_usages WHERE kind = 'request'")
    assert books.usages("kind, model, outcome, calls, amount, parent")[1:] == [
        ("search", "tool:search", "completed", 1, PRICE, request),
        ("search", "tool:search", "failed", 0, 0, request),
        ("mcp", "tool:mcp", "completed", 1, 0, request),
    ]


async def test_a_call_that_is_not_paid_for_is_not_run(books: Books) -> None:
    books.account(balance="0.012")
    books.price()
    books.price(SEARCH_PRICE)
    key = books.key()
    answer = Answering()
    async with accounts_of(books) as accounts:
        charge = await held(accounts, key, answer, BODY, max_output_tokens=1000)
        first = await charge.call("search")
        with pytest.raises(QuotaExceeded):
            await charge.call("search")
        first.end(ran=True)
        books.revoke(key)
        with pytest.raises(InvalidKey):
            await charge.call("search")
        over(charge, answer.told(1000, 10))
        await settled(books, 2)


async def test_a_call_is_served_where_requests_are_served_without_the_database(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    books.account()
    key = books.key()
    more: dict[str, Any] = {"billing": False, "when_database_fails": "serve"}
    async with accounts_of(books, database_timeout_s=0.2, **more) as accounts:
        charge = await held(accounts, key, Answering())
        with monkeypatch.context() as patched:
            patched.setattr("translator.service.accounts.directory.hold", _failing)
            assert await charge.call("search") is FREE_CALL
        over(charge, Answering().answered)
        await settled(books, 1)


def _failing(*_: Any, **__: Any) -> None:
    raise ValueError("a fault")


@ON_SQLITE
async def test_names_of_tools_are_those_of_no_model(books: Books) -> None:
    with pytest.raises(SettingsError, match="tools in prices"):
        async with books.service(models=MODELS | {"tool:search": {"upstream": "up"}}):
            pass
    for price in (
        PriceRow("tool:searches", per_request=1),
        PriceRow("tool:search", input=1, per_request=1),
    ):
        with pytest.raises(Mistake), writing(books.connection):
            price_book.set_price(books.connection, price, "tests")
    for tools in (("web",), ("search:x",), ("mcp:",)):
        with pytest.raises(Mistake), writing(books.connection):
            channel_book.set_tools(books.connection, "all", tools)
    books.account(balance="1")
    books.price(SEARCH_PRICE)
    key = books.key()
    async with books.service() as client:
        assert (await ask(client, key, model="tool:search")).status_code == 404


async def test_usages_of_both_kinds_add_up(books: Books) -> None:
    """The balance is what requests and searches have left of it."""
    books.account(balance="1")
    books.price()
    books.price(SEARCH_PRICE)
    key = books.key()
    books.upstream.script = answering(USAGE)
    async with searching(books, key) as (codex, _):
        await codex.ask(search_query=QUERY)
        assert (await ask(codex.client, key)).status_code == 200
    amounts = dict(books.usages("kind, amount"))
    assert amounts == {"search": PRICE, "request": 4_600_000_000}
    assert books.balance() == read_amount("1") - sum(amounts.values())
