"""Processes that are killed or stopped: nothing is billed twice, nothing is lost but as is stated."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.faults.processes import PROCESS_S
from tests.service.wire import BOUND_S
from translator.service.accounts import books as book
from translator.service.accounts.money import read_price
from translator.service.accounts.people import FREE_FAILURES
from translator.service.accounts.price_book import PriceRow
from translator.service.accounts.reconcile import losses
from translator.service.accounts.sizes import TEMPLATE_TOKENS
from translator.service.database.connection import reading, writing

from .paying import Books
from .process import BODY, TEXT
from .test_crashes import swept
from .test_rounds import accounts_of

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals"),
]

ROOT = Path(__file__).parents[3]
PRICE = PriceRow("m", input=read_price("1"), output=read_price("2"))
HOLD = (-(-len(BODY) // 3) + TEMPLATE_TOKENS) * PRICE.input + 1000 * PRICE.output
POINTS = ("holding", "held", "sent", "checkpointed", "queued", "settling", "settled")

KILLS = int(os.environ.get("TRANSLATOR_KILLS", "3"))
"""How often in a run: TRANSLATOR_KILLS=20 is the whole scenario."""


class Worker:
    """A process of `process.py`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def line(self) -> str:
        """The next line that it says."""
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), PROCESS_S)
        return line.decode().strip()

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")

    async def over(self) -> None:
        """Wait until it has ended well."""
        assert await asyncio.wait_for(self.process.wait(), PROCESS_S) == 0

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()


@asynccontextmanager
async def worker(books: Books, key: str, *words: str, **more: Any) -> AsyncGenerator[Worker]:
    """A process with the accounts of the books."""
    url = books.location.target
    url = f"sqlite:///{url}" if books.location.kind == "sqlite" else url
    table = {
        "upstreams": {"up": {"base_url": "http://up.test/v1"}},
        "models": {"m": {"upstream": "up"}},
        "accounts": {
            "url": url,
            "checkpoint_s": 0.2,
            "lease_s": 60,
            "database_timeout_s": 60.0,  # the machine may be busy
        }
        | more,
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.service.accounts.process", json.dumps(table), key, *words),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        yield Worker(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        if process.stdin is not None:
            process.stdin.close()


def money(books: Books, holds: int = 1000, **limits: Any) -> str:
    """The key of an account with money for so many holds."""
    books.account()
    books.price(PRICE)
    with writing(books.connection):
        book.top_up(books.connection, "acme", holds * HOLD, "holds", "tests")
    return books.key(**limits)


def cost(output: int) -> int:
    return TEXT * PRICE.input + output * PRICE.output


async def dead(books: Books) -> list[Any]:
    """The usages, once another process has ended what a dead one held."""
    books.change("UPDATE acct_boots SET seen_at = 0")
    async with accounts_of(books, lease_s=60):
        return await swept(books)


def seen(books: Books) -> dict[str, int]:
    """How far the open requests are, by the last checkpoint."""
    query = "SELECT request_id, seen_output FROM acct_holds WHERE seen_output IS NOT NULL"
    return dict(books.rows(query))


@pytest.mark.parametrize("point", POINTS)
async def test_kill_at_seven_points(books: Books, point: str) -> None:
    """Of the life of a hold: afterwards there is what the table of crashes says, and no more."""
    key = money(books)
    more = {} if point == "checkpointed" else {"checkpoint_s": 25}
    async with worker(books, key, "one", point, **more) as process:
        if point not in ("holding", "held"):
            assert await process.line() == "sent"
        if point == "checkpointed":
            async with asyncio.timeout(BOUND_S):
                while seen(books) != {"r": 100}:
                    await asyncio.sleep(0.01)
        elif point != "sent":
            assert await process.line() == f"at {point}"
        await process.kill()
    found = await dead(books)
    rows = {
        "holding": [],
        "checkpointed": [("orphan", "orphan", TEXT, 100, cost(100))],
        "settled": [("completed", "no", TEXT, 200, cost(200))],
    }
    assert found == rows.get(point, [("orphan", "orphan", 0, 0, 0)])
    assert books.balance() == 1000 * HOLD - sum(row[-1] for row in found)
    with reading(books.connection):
        assert len(list(losses(books.connection))) == sum(not row[-1] for row in found)


async def test_kill_at_random(books: Books, tmp_path: Path) -> None:
    """Two processes at work, again and again: what a checkpoint has is billed, nothing twice."""
    key = money(books)
    log = tmp_path / "sent"
    chance = random.Random(27)
    promised: dict[str, int] = {}
    for _ in range(KILLS):
        async with AsyncExitStack() as stack:
            processes = [
                await stack.enter_async_context(
                    worker(books, key, "endless", str(log), checkpoint_s=0.05)
                )
                for _ in range(2)
            ]
            for process in processes:
                assert await process.line() == "ready"
            async with asyncio.timeout(BOUND_S):
                while not seen(books):
                    await asyncio.sleep(0.01)
            await asyncio.sleep(chance.random() / 3)
            promised |= seen(books)
            for process in processes:
                await process.kill()
    sent: dict[str, int] = {}
    for line in log.read_text().splitlines():
        request, output = line.split()
        sent[request] = int(output)
    await dead(books)
    usages = books.usages("request_id, output, amount, outcome")
    billed = {request: output for request, output, *_ in usages}
    assert len(usages) == len(billed), "a request is billed twice"
    assert sent.keys() <= billed.keys(), "a request has no usage"
    assert promised
    for request, output, amount, outcome in usages:
        assert promised.get(request, 0) <= output <= sent.get(request, 0)
        assert amount in (0, cost(output))
        if outcome == "completed":
            assert output == sent.get(request, 0)
    assert books.balance() == 1000 * HOLD - sum(row[2] for row in usages)


async def test_stopped_and_continued(books: Books) -> None:
    """A process that gets SIGSTOP for longer than its lease, and goes on: one usage, a correction."""
    key = money(books)
    async with worker(books, key, "stopped") as process:
        assert await process.line() == "sent"
        async with asyncio.timeout(BOUND_S):
            while seen(books) != {"r": 100}:
                await asyncio.sleep(0.01)
        await stop(books, process)
        [orphan] = await dead(books)
        assert orphan == ("orphan", "orphan", TEXT, 100, cost(100))
        process.process.send_signal(signal.SIGCONT)
        process.go_on()
        await process.over()
    assert await swept(books) == [orphan]
    entries = books.rows("SELECT kind, amount FROM acct_ledger WHERE kind <> 'topup' ORDER BY id")
    assert entries == [("usage", -cost(100)), ("correction", cost(100) - cost(200))]
    assert books.balance() == 1000 * HOLD - cost(200)


async def stop(books: Books, process: Worker) -> None:
    """Stop a process while it has no transaction open, which would hold up others."""
    for _ in range(100):
        process.process.send_signal(signal.SIGSTOP)
        if books.location.kind == "postgresql":
            busy = "SELECT 1 FROM pg_stat_activity WHERE state LIKE 'idle in%' OR state = 'active'"
            if len(books.rows(busy)) == 1:  # the question itself
                return
        else:
            try:
                books.change("UPDATE acct_meta SET value = value WHERE key = 'none'")
            except sqlite3.OperationalError:
                pass  # it is locked
            else:
                return
        process.process.send_signal(signal.SIGCONT)
        await asyncio.sleep(0.05)
    raise AssertionError("it never rests")


async def burst(books: Books, key: str, processes: int, each: int) -> int:
    """How many of so many requests at once, of so many processes, have a hold."""
    async with AsyncExitStack() as stack:
        workers = [
            await stack.enter_async_context(worker(books, key, "burst", str(each)))
            for _ in range(processes)
        ]
        for one in workers:
            assert await one.line() == "ready"
        for one in workers:
            one.go_on()
        held = sum([int(await one.line()) for one in workers])
        assert books.of().available >= 0
        for one in workers:
            one.go_on()
            await one.over()
    assert len(await swept(books)) == held
    return held


async def test_ten_of_fifty_over_nodes(books: Books) -> None:
    """Money for ten: of fifty requests at once, to two processes, ten have a hold."""
    key = money(books, 10)
    assert await burst(books, key, 2, 25) == 10
    assert books.balance() == 10 * HOLD - 10 * cost(1000)


async def test_sign_in_throttled_over_processes(books: Books) -> None:
    """Of twenty attempts at once, of two processes, five come to a password."""
    key = money(books)
    async with AsyncExitStack() as stack:
        workers = [
            await stack.enter_async_context(worker(books, key, "attempts", "anna", "10"))
            for _ in range(2)
        ]
        for one in workers:
            assert await one.line() == "ready"
        for one in workers:
            one.go_on()
        counted = [int(await one.line()) for one in workers]
        for one in workers:
            await one.over()
    assert sum(counted) == FREE_FAILURES
    found = books.rows("SELECT subject, failures FROM acct_attempts WHERE subject = 'name anna'")
    assert found == [("name anna", FREE_FAILURES)]


async def test_limits_over_processes(books: Books) -> None:
    """60 in a minute: of 200 requests at once, to four processes, 60 have a hold, and refills."""
    key = money(books, requests_per_minute=60)
    assert 60 <= await burst(books, key, 4, 50) <= 60 + BOUND_S
