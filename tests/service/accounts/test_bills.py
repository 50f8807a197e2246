"""Bills: what a request costs, on every way, however it ends."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack

import httpx
import openai
import pytest
from msgspec.structs import replace

from tests.service.access.clients import CHAT
from tests.service.chat_bodies import chunk
from tests.service.responses_api import PATH
from tests.service.websocket.client import ask as ask_on_socket
from tests.service.websocket.client import open_socket
from tests.service.wire import BOUND_S, Call, bounded, serving
from translator.service.accounts import books as book
from translator.service.accounts import changes, price_book
from translator.service.accounts.changes import Mistake
from translator.service.accounts.money import read_amount, read_price, shown_down
from translator.service.accounts.periods import read_time
from translator.service.accounts.price_book import PriceRow
from translator.service.database.connection import reading, writing
from translator.service.database.statement import DatabaseTime

from .paying import (
    ASK,
    ASK_CHAT,
    COST,
    DEAR,
    ON_SQLITE,
    PRICES,
    USAGE,
    Books,
    answering,
    ask,
    bearer,
    chat,
    settled,
)

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("explained")]


# --- exact --------------------------------------------------------------------------------------


async def test_exact_bill(books: Books, key: str) -> None:
    """The same usage on every way is the same amount."""
    async with serving(books.settings()) as url:
        async with httpx.AsyncClient(base_url=url, timeout=BOUND_S) as client:
            answers = [
                await ask(client, key, stream=True),
                await ask(client, key),
                await client.post(f"{PATH}/compact", json=ASK, headers=bearer(key)),
                await chat(client, key, stream=True),
                await chat(client, key),
            ]
            assert [answer.status_code for answer in answers] == [200] * 5
        async with open_socket(url, key) as socket:
            assert (await ask_on_socket(socket))[-1]["type"] == "response.completed"
        await settled(books, 6)
    assert (
        books.usages("input, cached, written, output, reasoning, estimated, amount")
        == [(12_000, 8_000, 1_000, 500, 400, "no", COST)] * 6
    )
    assert books.balance() == read_amount("1") - read_amount("0.0276")
    ids = books.usages("request_id, response_id, endpoint, model, channel")
    assert {row[2:] for row in ids} == {
        (f"/{one}", "m", "all") for one in ("responses", "responses/compact", "chat/completions")
    }
    assert len({row[0] for row in ids}) == 6
    assert ids[1][1] == answers[1].json()["id"]


async def test_no_cache_prices(books: Books) -> None:
    books.account(balance="1")
    books.price(DEAR)
    key = books.key()
    books.upstream.script = answering(USAGE)
    async with books.service() as client:
        await ask(client, key)
    assert books.usages("amount") == [(8_450_000_000,)]


async def test_cached_above_input(books: Books, key: str) -> None:
    usage = {
        "prompt_tokens": 56_322,
        "completion_tokens": 10,
        "total_tokens": 56_332,
        "prompt_tokens_details": {"cached_tokens": 72_960},
    }
    books.upstream.script = answering(usage)
    async with books.service() as client:
        await ask(client, key)
        await chat(client, key)
    assert (
        books.usages("input, cached, amount")
        == [(56_322, 56_322, 5_632_200_000 + 10 * 2_500_000)] * 2
    )


async def test_old_request_old_price(books: Books, key: str) -> None:
    held, release = asyncio.Event(), asyncio.Event()
    script = answering(USAGE)

    async def waits(call: Call) -> None:
        held.set()
        await bounded(release.wait())
        await script(call)

    books.upstream.script = waits
    async with books.service() as client:
        first = asyncio.create_task(ask(client, key))
        await bounded(held.wait())
        books.price(replace(PRICES, output=PRICES.output * 2))
        release.set()
        await first
        await ask(client, key)
    assert books.usages("amount") == [(COST,), (COST + 500 * PRICES.output,)]
    with pytest.raises(Mistake, match="past"), writing(books.connection):
        price_book.set_price(
            books.connection, replace(PRICES, from_at=read_time("2026-01-01")), "tests"
        )


async def test_a_price_of_the_future_holds_from_its_time_on(books: Books, key: str) -> None:
    time = DatabaseTime()
    with reading(books.connection):
        later = changes.now(books.connection) + 3_600_000_000
    books.price(replace(PRICES, output=PRICES.output * 2, from_at=later))
    async with books.service(time) as client:
        await ask(client, key)
        await settled(books, 1)
        time.offset_s = 3601.0
        await ask(client, key)
    assert books.usages("amount") == [(COST,), (COST + 500 * PRICES.output,)]


async def test_unpriced_model(books: Books, key: str) -> None:
    async with books.service() as client:
        listed = await client.get("/v1/models", headers=bearer(key))
        assert [one["id"] for one in listed.json()["data"]] == ["m"]
        for answer in (await ask(client, key, model="other"), await chat(client, key, model="x")):
            assert answer.status_code == 404
            assert answer.json()["error"]["code"] == "model_not_found"
    assert not books.upstream.calls


async def test_free_model(books: Books) -> None:
    books.account()
    books.price(PriceRow("m", free=True))
    key = books.key()
    books.upstream.script = answering(USAGE)
    async with books.service() as client:
        assert (await ask(client, key)).status_code == 200
        await settled(books, 1)
        with writing(books.connection):
            book.adjust(books.connection, "acme", -1, "a test", "ref", "tests")
        refused = await ask(client, key)
        assert refused.json()["error"]["code"] == "insufficient_quota"
    assert books.usages("output, amount") == [(500, 0)]
    assert books.rows("SELECT kind FROM acct_ledger") == [("adjustment",)]


# --- holds --------------------------------------------------------------------------------------


async def test_ten_of_fifty(books: Books) -> None:
    """Money for ten: ten pass, whichever process they come to."""
    books.account()
    books.price(PriceRow("m", input=read_price("1"), output=read_price("1")))
    key = books.key()
    body = json.dumps(ASK | {"max_output_tokens": 1000}).encode()
    hold = (-(-len(body) // 3) + 256 + 1000) * 1_000_000
    with writing(books.connection):
        book.top_up(books.connection, "acme", 10 * hold, "ten", "tests")
    release = asyncio.Event()
    script = answering({"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10})

    async def waits(call: Call) -> None:
        await bounded(release.wait())
        await script(call)

    books.upstream.script = waits
    headers = bearer(key) | {"content-type": "application/json"}
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(books.service(lease_s=60, min_output_tokens=1000))
            for _ in range(4)
        ]
        tasks = [
            asyncio.create_task(clients[n % 4].post(PATH, content=body, headers=headers))
            for n in range(50)
        ]
        async with asyncio.timeout(BOUND_S):
            while sum(task.done() for task in tasks) < 40:
                await asyncio.sleep(0.01)
        release.set()
        answers = await asyncio.gather(*tasks)
    assert sorted(answer.status_code for answer in answers) == [200] * 10 + [429] * 40
    codes = {answer.json()["error"]["code"] for answer in answers if answer.status_code == 429}
    assert codes == {"insufficient_quota"}
    assert len(books.upstream.calls) == 10


@pytest.mark.parametrize("asked", [1000, None])
async def test_lowered_limit(books: Books, asked: int | None) -> None:
    """What is left pays for so many tokens, and the upstream is told so."""
    books.account(balance="0.009")
    books.price(DEAR)
    key = books.key()
    books.upstream.script = answering(USAGE)
    async with books.service() as client:
        for path, fields, name in (
            (PATH, ASK | {"input": ""}, "max_output_tokens"),
            (CHAT, ASK_CHAT | {"user": ""}, "max_tokens"),
        ):
            if asked is not None:
                fields = fields | {name: asked}
            text = "input" if path == PATH else "user"
            fields = fields | {text: "x" * (40_000 - len(json.dumps(fields)))}
            body = json.dumps(fields).encode()
            assert len(body) == 40_000
            headers = bearer(key) | {"content-type": "application/json"}
            answer = await client.post(path, content=body, headers=headers)
            assert answer.status_code == 200, answer.text
            assert books.upstream.calls[-1].json["max_tokens"] == 338
            assert "clamped" in answer.headers["x-translator-notices"]
            await settled(books, len(books.upstream.calls))
            with writing(books.connection):
                left = book.account(books.connection, "acme").balance
                again = read_amount("0.009") - left
                book.adjust(books.connection, "acme", again, "again", path, "tests")


async def test_too_little(books: Books) -> None:
    books.account(balance="0.0083")
    books.price(DEAR)
    key = books.key()
    async with books.service() as client:
        for answer in (
            await ask(client, key, input="x" * 40_000, max_output_tokens=1000),
            await chat(client, key, user="x" * 40_000),
        ):
            assert answer.status_code == 429
            error = answer.json()["error"]
            assert (error["code"], error["type"]) == ("insufficient_quota", "insufficient_quota")
            assert answer.headers["x-should-retry"] == "false"
            assert "retry-after" not in answer.headers
            assert "0.00" not in error["message"]
    assert not books.upstream.calls
    assert not books.usages()


@ON_SQLITE
async def test_openai_sdk_asks_once(books: Books) -> None:
    """An account with nothing left is an error of the SDK after one request."""
    books.account()
    books.price()
    key = books.key()
    asked: list[str] = []

    async def count(_request: httpx.Request) -> None:
        asked.append(_request.url.path)

    async with serving(books.settings()) as url:
        hooked = httpx.AsyncClient(event_hooks={"request": [count]})
        async with openai.AsyncOpenAI(
            base_url=f"{url}/v1", api_key=key, http_client=hooked
        ) as client:
            with pytest.raises(openai.RateLimitError) as caught:
                await client.responses.create(model="m", input="Hi")
            assert caught.value.code == "insufficient_quota"
            with pytest.raises(openai.RateLimitError) as caught:
                await client.chat.completions.create(
                    model="m", messages=[{"role": "user", "content": "Hi"}]
                )
            assert caught.value.code == "insufficient_quota"
    assert len(asked) == 2
    assert not books.upstream.calls


@ON_SQLITE
async def test_real_codex_sees_the_balance(books: Books, key: str) -> None:
    """In the headers that Codex reads: what the account, or the key, has left."""
    limited = books.key(name="b", limit_amount=read_amount("0.2"), limit_period="month")
    async with books.service() as client:
        for one, left in ((key, "1.00"), (limited, "0.20")):
            answer = await ask(client, one)
            assert answer.headers["x-codex-credits-balance"] == left
            assert answer.headers["x-codex-credits-has-credits"] == "true"
            assert answer.headers["x-codex-credits-unlimited"] == "false"
        await settled(books, 2)
        answer = await chat(client, key)
        assert answer.headers["x-codex-credits-balance"] == shown_down(10**12 - 2 * COST) == "0.99"


async def test_key_limit_per_month(books: Books, key: str) -> None:
    """Used up on the last day, and new in the next month, without a job."""
    limit = read_amount("0.09")
    mine = books.key(name="b", limit_amount=limit, limit_period="month")
    with reading(books.connection):
        now = changes.now(books.connection)
    time = DatabaseTime()
    end = read_time("2027-02-01T00:00:00Z")
    time.offset_s = (end - now) / 1e6 - 120
    async with books.service(time, lease_s=1000.0) as client:
        assert (await ask(client, mine)).status_code == 200
        await settled(books, 1)
        books.change("UPDATE acct_keys SET period_spent = :spent WHERE name = 'b'", spent=limit)
        refused = await ask(client, mine)
        assert refused.status_code == 429
        error = refused.json()["error"]
        assert error["code"] == "insufficient_quota"
        assert "this key" in error["message"]
        assert "2027-02-01 00:00:00Z" in error["message"]
        assert (await ask(client, key)).status_code == 200
        time.offset_s += 121
        assert (await ask(client, mine)).status_code == 200


# --- as asked ----------------------------------------------------------------------------------


async def test_refused_and_asked_again(books: Books, key: str) -> None:
    """Attempts of one request have one hold, one usage and one entry."""
    script = answering(USAGE)

    async def first_refuses(call: Call) -> None:
        if "temperature" in call.json:
            error = {"message": "Unsupported parameter: 'temperature'.", "param": "temperature"}
            await call.answer({"error": error}, 400)
        else:
            await script(call)

    books.upstream.script = first_refuses
    async with books.service() as client:
        assert (await ask(client, key, temperature=0.5)).status_code == 200
    assert len(books.upstream.calls) == 2
    assert books.usages("amount") == [(COST,)]
    assert books.rows("SELECT kind, amount FROM acct_ledger WHERE kind = 'usage'") == [
        ("usage", -COST)
    ]


@ON_SQLITE
async def test_include_usage_forced(books: Books, key: str) -> None:
    async with books.service() as client:
        for options in (
            {},
            {"stream_options": None},
            {"stream_options": {"include_usage": False, "include_obfuscation": False}},
        ):
            answer = await chat(client, key, stream=True, **options)
            assert b'"choices": []' in answer.content
            sent = books.upstream.calls[-1].json["stream_options"]
            assert sent == (options.get("stream_options") or {}) | {"include_usage": True}
        await chat(client, key)
        assert "stream_options" not in books.upstream.calls[-1].json
        assert [row[1] for row in await settled(books, 4)] == ["no"] * 4


async def test_odd_usage(books: Books, key: str) -> None:
    async def cumulative(call: Call) -> None:
        await call.head()
        for n in (1, 2, 3):
            counts = {"prompt_tokens": 100, "completion_tokens": n, "total_tokens": 100 + n}
            text = '"usage": {"prompt_tokens": 9}'
            await call.send(chunk({"content": text}, "stop" if n == 3 else None, usage=counts))
        await call.send(b"data: [DONE]\n\n")
        await call.end()

    books.upstream.script = cumulative
    async with books.service() as client:
        await ask(client, key, stream=True)
        await chat(client, key, stream=True)
        await settled(books, 2)
    assert (
        books.usages("input, output, amount")
        == [(100, 3, 100 * PRICES.input + 3 * PRICES.output)] * 2
    )


async def test_same_client_id_twice(books: Books, key: str) -> None:
    async with books.service() as client:
        for _ in range(2):
            headers = bearer(key) | {"x-request-id": "mine"}
            assert (await client.post(PATH, json=ASK, headers=headers)).status_code == 200
    assert books.usages("request_id, amount") == [("mine", COST)] * 2


async def test_nothing_is_billed_that_only_counts_tokens(books: Books) -> None:
    books.account()
    books.price()
    key = books.key()
    async with books.service() as client:
        path = f"{PATH}/input_tokens"
        assert (await client.post(path, json=ASK, headers=bearer(key))).status_code == 200
    assert books.usages("endpoint, amount") == [("/responses/input_tokens", 0)]


@ON_SQLITE
async def test_what_changes_the_price_is_refused(books: Books, key: str) -> None:
    async with books.service() as client:
        for fields in ({"service_tier": "priority"}, {"web_search_options": {}}, {"models": ["x"]}):
            refused = await chat(client, key, **fields)
            assert refused.status_code == 400
            assert refused.json()["error"]["code"] == "unsupported_parameter"
        assert (await ask(client, key, service_tier="priority")).status_code == 400
        assert (await ask(client, key, service_tier="auto")).status_code == 200
        assert (await chat(client, key, service_tier="default")).status_code == 200
        await settled(books, 2)
    async with books.service(forward_priced=["service_tier"]) as client:
        assert (await chat(client, key, service_tier="priority")).status_code == 200
        assert books.upstream.calls[-1].json["service_tier"] == "priority"


@ON_SQLITE
async def test_an_empty_account_of_the_operator_is_no_affair_of_the_client(
    books: Books, key: str
) -> None:
    error = {"message": "You exceeded your current quota.", "code": "insufficient_quota"}

    async def empty(call: Call) -> None:
        await call.answer({"error": error}, 402)

    books.upstream.script = empty
    async with books.service() as client:
        for answer in (await ask(client, key), await chat(client, key)):
            assert answer.status_code == 502
            assert answer.json()["error"]["code"] != "insufficient_quota"
        assert [row[3] for row in await settled(books, 2)] == [0, 0]


async def test_an_upstream_that_counts_more_than_was_held_is_paid(
    books: Books, caplog: pytest.LogCaptureFixture
) -> None:
    books.account(balance="0.02")
    books.price(DEAR)
    key = books.key()
    books.upstream.script = answering(
        {"prompt_tokens": 10, "completion_tokens": 100_000, "total_tokens": 100_010}
    )
    async with books.service() as client:
        await ask(client, key, max_output_tokens=300)
        await settled(books, 1)
        refused = await ask(client, key)
        assert refused.json()["error"]["code"] == "insufficient_quota"
    assert books.balance() < 0
    assert "was less than its request has cost" in caplog.text


async def test_two_totals(books: Books, key: str) -> None:
    """Usages, ledger, sums and balance say the same."""
    other = books.key(name="b")
    async with books.service() as client:
        for one in (key, other, key):
            await ask(client, one)
            await chat(client, one, stream=True)
    [(usages,)] = books.rows("SELECT CAST(sum(amount) AS BIGINT) FROM acct_usages")
    [(sums,)] = books.rows("SELECT CAST(sum(amount) AS BIGINT) FROM acct_sums")
    [(ledger,)] = books.rows("SELECT CAST(sum(amount) AS BIGINT) FROM acct_ledger")
    assert usages == sums == 6 * COST
    assert ledger == books.balance() == 10**12 - 6 * COST
