"""Bills of requests that end otherwise than well."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from tests.service.access.clients import CHAT
from tests.service.chat_bodies import chunk
from tests.service.responses_api import PATH, events
from tests.service.websocket.client import ask as ask_on_socket
from tests.service.websocket.client import open_socket
from tests.service.wire import BOUND_S, Call, bounded, serving

from .paying import (
    ASK,
    ASK_CHAT,
    COST,
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


async def test_client_leaves(books: Books, key: str) -> None:
    """After 300 chunks: they are billed; before any: nothing, stream or whole."""
    arrived, gone = asyncio.Event(), asyncio.Event()

    async def endless(call: Call) -> None:
        await call.head()
        await call.send(*(chunk({"content": "word"}) for _ in range(300)))
        await bounded(call.gone())
        gone.set()

    async def silent(call: Call) -> None:
        arrived.set()
        await bounded(call.gone())
        gone.set()

    async with serving(books.settings(lease_s=60)) as url:
        async with httpx.AsyncClient(base_url=url, timeout=BOUND_S) as client:
            for path, fields in ((PATH, ASK), (CHAT, ASK_CHAT)):
                books.upstream.script = endless
                gone.clear()
                body = fields | {"stream": True}
                async with client.stream("POST", path, json=body, headers=bearer(key)) as answer:
                    seen = b""
                    async for data in answer.aiter_bytes():
                        seen += data
                        if seen.count(b"word") >= 300:
                            break
                await bounded(gone.wait())
                for stream in (True, False):
                    books.upstream.script = silent
                    arrived.clear()
                    gone.clear()
                    body = fields | {"stream": stream}
                    sending = asyncio.create_task(client.post(path, json=body, headers=bearer(key)))
                    await bounded(arrived.wait())
                    sending.cancel()
                    await bounded(gone.wait())
        found = await settled(books, 6)
    for outcome, estimated, output, amount in (found[0], found[3]):
        assert (outcome, estimated) == ("client_left", "all")
        assert output >= 300
        assert amount > output * PRICES.output
    for row in (*found[1:3], *found[4:]):
        assert row == ("client_left", "no", 0, 0)


async def test_usage_missing(books: Books, key: str) -> None:
    books.upstream.script = answering(None, "x" * 400)
    async with books.service() as client:
        await ask(client, key, stream=True)
        await chat(client, key, stream=True)
        await ask(client, key)
        found = await settled(books, 3)
    assert {row[:3] for row in found} == {("completed", "all", 100)}
    assert all(amount >= 100 * PRICES.output for *_, amount in found)


@pytest.mark.parametrize("broken", ["nothing", "estimate"])
async def test_upstream_breaks_after_output(books: Books, key: str, broken: str) -> None:
    async def script(call: Call) -> None:
        await call.head()
        await call.send(chunk({"content": "x" * 400}))
        await call.cut(chunk({"content": "y"}))

    books.upstream.script = script
    async with books.service(bill_broken=broken) as client:
        answer = await ask(client, key, stream=True)
        assert events(answer.content)[-1]["type"] == "response.failed"
        [(outcome, estimated, output, amount)] = await settled(books, 1)
    assert (outcome, estimated, output) == ("failed", "output", 100)
    assert bool(amount) is (broken == "estimate")


async def test_usage_in_an_unhappy_end(books: Books, key: str) -> None:
    async def cut_short(call: Call) -> None:
        await call.head()
        await call.send(chunk({"content": "x"}), chunk({}, "length"))
        await call.send(chunk(usage=USAGE, choices=[]), b"data: [DONE]\n\n")
        await call.end()

    async def filtered(call: Call) -> None:
        await call.head()
        await call.send(chunk({"content": "x"}), chunk({}, "content_filter"))
        await call.send(chunk(usage=USAGE, choices=[]), b"data: [DONE]\n\n")
        await call.end()

    async def failing(call: Call) -> None:
        await call.head()
        await call.send(chunk({"content": "x"}, usage=USAGE))
        await call.send(b'data: {"error": {"message": "No.", "code": 500}}\n\n')
        await call.end()

    ends = {"response.incomplete": cut_short, "incomplete": filtered, "response.failed": failing}
    async with books.service() as client:
        for end, script in ends.items():
            books.upstream.script = script
            answer = await ask(client, key, stream=True)
            assert events(answer.content)[-1]["type"].endswith(end)
        found = await settled(books, 3)
    assert [row[1:] for row in found] == [("no", 500, COST)] * 3


async def test_metrics(books: Books, key: str) -> None:
    """Holds and bills are counted, without a name of anybody."""
    async with books.service() as client:
        await ask(client, key)
        await settled(books, 1)
        assert (await ask(client, key, model="other")).status_code == 404
        books.change("UPDATE acct_accounts SET balance = 0")
        assert (await ask(client, key)).status_code == 429
        books.change("UPDATE acct_accounts SET balance = :left", left=10**12 - COST)
        async with asyncio.timeout(BOUND_S):
            while 'settlements_total{estimated="no"} 1.0' not in (
                text := (await client.get("/metrics", headers=bearer(key))).text
            ):
                await asyncio.sleep(0.01)
    for line in (
        "translator_accounts_holds_open 0.0",
        'translator_accounts_hold_seconds_count{result="held"} 1.0',
        'translator_accounts_hold_seconds_count{result="refused"} 1.0',
        'translator_accounts_settlements_total{estimated="orphan"} 0.0',
        "translator_accounts_settlement_lag_seconds_count 1.0",
        "translator_accounts_overdraft_total 0.0",
        "translator_accounts_lost_total 0.0",
    ):
        assert line in text
    assert "acme" not in text


async def test_turns_on_a_websocket(books: Books, key: str) -> None:
    """Scenario 22: each is held and billed for itself, and one that is not sent holds nothing."""
    async with serving(books.settings()) as url, open_socket(url, key) as socket:
        events_ = await ask_on_socket(socket, generate=False)
        assert events_[-1]["type"] == "response.completed"
        assert not books.rows("SELECT id FROM acct_holds")
        assert (await ask_on_socket(socket))[-1]["type"] == "response.completed"
        await settled(books, 1)
        assert books.balance() == 10**12 - COST
        books.revoke(key)
        [refused] = await ask_on_socket(socket)
        assert (refused["status"], refused["error"]["code"]) == (401, "invalid_api_key")
    assert books.usages("outcome, amount") == [("completed", COST)]
