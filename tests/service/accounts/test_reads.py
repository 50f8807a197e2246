"""Questions of keys and of operators' programs: bounded, in nobody's way, and by an index."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import httpx
import pytest

from tests.service.wire import BOUND_S
from translator.service.accounts import reads, usage
from translator.service.accounts.usage import Span
from translator.service.database.connection import Connection
from translator.service.database.statement import DatabaseTime, Statement
from translator.service.http import account_endpoints

from .operators import Operator
from .paying import ON_SQLITE, Books, ask, bearer

pytestmark = pytest.mark.anyio


@ON_SQLITE
async def test_a_key_has_so_many_questions_in_a_minute(books: Books, key: str, robot: str) -> None:
    other = books.key(name="other")
    async with books.service(reads_per_minute=3) as client:
        for path in ("/v1/key", "/v1/usage", "/v1/credits"):
            assert (await client.get(path, headers=bearer(key))).status_code == 200
        refused = await client.get("/v1/usage/x", headers=bearer(key))
        assert refused.status_code == 429
        error = refused.json()["error"]
        assert (error["code"], error["type"]) == ("rate_limit_exceeded", "requests")
        assert "3 questions per minute" in error["message"]
        assert 0 < int(refused.headers["retry-after"]) <= 20
        assert (await client.get("/v1/key", headers=bearer(other))).status_code == 200
        assert (await ask(client, key)).status_code == 200, "what is paid for has other limits"
        api = Operator(client, robot)
        for _ in range(3):
            await api.get("/accounts")
        assert (await api.refused("GET", "/accounts", None, 429))["code"] == "rate_limit_exceeded"
        await api.post("/accounts", {"name": "new"})
    async with books.service(reads_per_minute=0) as client:
        for _ in range(20):
            assert (await client.get("/v1/key", headers=bearer(key))).status_code == 200


@ON_SQLITE
async def test_questions_are_not_in_the_way_of_requests(
    books: Books, key: str, robot: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While reports of many keys stand still, a key that nobody has seen yet is looked up."""
    go_on, began = threading.Event(), threading.Semaphore(0)
    real = account_endpoints.report

    def waits(*args: Any) -> Any:
        began.release()
        assert go_on.wait(BOUND_S)
        return real(*args)

    monkeypatch.setattr(account_endpoints, "report", waits)
    keys = [books.key(name=f"k{number}") for number in range(3)]
    async with books.service(database_timeout_s=BOUND_S, lease_s=60) as client:

        async def asks(one: str) -> httpx.Response:
            return await client.get("/v1/usage", headers=bearer(one))

        tasks = [asyncio.create_task(asks(one)) for one in keys]
        tasks += [asyncio.create_task(asks(key)) for _ in range(reads.AT_ONCE + 1)]
        assert await asyncio.to_thread(began.acquire, timeout=BOUND_S)
        answer = await asyncio.wait_for(ask(client, books.key(name="new")), BOUND_S / 2)
        assert answer.status_code == 200
        go_on.set()
        statuses = [one.status_code for one in await asyncio.gather(*tasks)]
    assert statuses.count(429) == 1, "more than AT_ONCE of one key"
    assert statuses.count(200) == len(tasks) - 1


async def test_pages_wait_for_their_turn_and_not_for_ever(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    books.account()
    key = books.key()
    async with books.service(database_timeout_s=0.3) as client:
        go_on = threading.Event()
        real = account_endpoints.report

        def waits(*args: Any) -> Any:
            go_on.wait(BOUND_S)
            return real(*args)

        monkeypatch.setattr(account_endpoints, "report", waits)
        first = asyncio.create_task(client.get("/v1/usage", headers=bearer(key)))
        second = asyncio.create_task(client.get("/v1/usage", headers=bearer(key)))
        for one in (first, second):
            assert (await one).status_code == 503
        go_on.set()
        monkeypatch.setattr(account_endpoints, "report", real)
        async with asyncio.timeout(BOUND_S):
            while (await client.get("/v1/usage", headers=bearer(key))).status_code != 200:
                await asyncio.sleep(0.05)


def plan(books: Books, connection: Connection, statement: Statement, **values: Any) -> str:
    """How a database finds the rows of a statement."""
    kind = books.location.kind
    text = statement.text(kind, DatabaseTime())
    driver: Any = connection._driver  # type: ignore[attr-defined] # pyright: ignore
    if kind == "sqlite":
        rows = driver.execute(f"EXPLAIN QUERY PLAN {text}", statement.in_order(values))
    else:
        rows = driver.execute(f"EXPLAIN {text}", values)
    return "\n".join(str(row[-1]) for row in rows.fetchall())


MANY = """
    INSERT INTO acct_usages (hold_id, account_id, key_id, key_name, request_id, response_id, endpoint,
        model, channel, began_at, ended_at, outcome, input, cached, written, output, reasoning,
        estimated, amount)
    SELECT n, 1 + n % 3, CASE WHEN n % 100 = 1 THEN 7 ELSE 1 + n % 5 END, 'k', 'r' || n, 'a' || n,
        '/responses', CASE WHEN n % 100 = 1 THEN 'rare' ELSE 'm' END, 'all', n, n, 'completed',
        1, 0, 0, 1, 0, 'no', 0
    FROM generate_series(1, 20000) n
"""


def fill(connection: Connection) -> None:
    """Have PostgreSQL plan for many usages: of a table that is small now, any index will do."""
    driver: Any = connection._driver  # type: ignore[attr-defined] # pyright: ignore
    driver.execute("SET LOCAL session_replication_role = replica")
    driver.execute(MANY)
    driver.execute("ANALYZE acct_usages")


@pytest.mark.parametrize(
    ("span", "index"),
    [
        (Span(), "acct_usages_account"),
        (Span(model="rare"), "acct_usages_model"),
        (Span(key=7), "acct_usages_key"),
    ],
)
async def test_an_index_finds_usages(books: Books, span: Span, index: str) -> None:
    """However rare a model, a key or the days are: nothing else is looked at, nothing is sorted."""
    values: dict[str, Any] = {"account": 1, "start": 0, "end": 9**9, "last": 9, "before": 9**9}
    if span.model is not None:
        values["model"] = span.model
    if span.key is not None:
        values["key"] = span.key
    connection = books.connection
    connection.begin(writes=True)
    try:
        if books.location.kind == "postgresql":  # it reads a small table whole
            fill(connection)
            for name in ("enable_seqscan", "enable_bitmapscan"):
                connection.execute(Statement(f"SELECT set_config('{name}', 'off', true)"))
        usages = plan(books, connection, usage._usages(usage._narrowed(span)), limit=5, **values)
        entries = plan(books, connection, usage._ledger(""), limit=5, **values)
        sums = plan(books, connection, usage._sums((), usage._narrowed(span)), **values)
    finally:
        connection.rollback()
    if books.location.kind == "sqlite":
        other = {"acct_usages_account": "", "acct_usages_model": "model=? AND "}
        equal = other.get(index, "key_id=? AND ")
        assert f"USING INDEX {index} (account_id=? AND {equal}ended_at>? AND ended_at<?)" in usages
        assert "USING INDEX acct_ledger_account (account_id=? AND id<?)" in entries
        key_in_sums = "account_id=? AND key_id=? AND day>? AND day<?" in sums
        assert key_in_sums == (span.key is not None)
        assert "SCAN" not in usages + entries + sums
        assert "TEMP B-TREE" not in usages + entries
    else:
        assert f"Index Scan Backward using {index} " in usages
        assert "acct_sums_pkey" in sums
        assert "Sort" not in usages
        assert "Seq Scan" not in usages + entries + sums
