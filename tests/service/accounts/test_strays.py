"""Holds that nothing would end: whatever goes wrong in a process that lives on, money is released."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest

from tests.service.wire import BOUND_S, bounded, client_of
from translator.service.accounts import directory
from translator.service.accounts.client import AccountCharge
from translator.service.config.settings import Settings
from translator.service.database import writer
from translator.service.database.connection import Connection

from .paying import ASK_CHAT, ON_SQLITE, USAGE, Books, answering, ask, bearer, settled
from .test_crashes import swept
from .test_rounds import Answering, accounts_of, held, over

pytestmark = pytest.mark.anyio


async def test_a_client_that_leaves_while_its_hold_is_given_up_leaves_none(
    books: Books, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database takes longer than a request waits, and the commit has begun."""
    loop = asyncio.get_running_loop()
    committing, giving_up, release = asyncio.Event(), asyncio.Event(), asyncio.Event()
    real_give_up = writer.Write.give_up

    async def give_up(self: Any, wait_s: float) -> bool:
        giving_up.set()
        return await real_give_up(self, wait_s)

    monkeypatch.setattr(writer.Write, "give_up", give_up)
    real = writer.Write.commits
    slow = False

    def commits(self: Any) -> None:
        nonlocal slow
        real(self)
        if self.awaited and not slow:
            slow = True
            loop.call_soon_threadsafe(committing.set)

    @contextmanager
    def writing(connection: Connection, **more: Any) -> Generator[None]:
        with real_writing(connection, **more):
            yield
            if slow:
                asyncio.run_coroutine_threadsafe(release.wait(), loop).result(BOUND_S)

    real_writing = writer.writing
    monkeypatch.setattr(writer.Write, "commits", commits)
    monkeypatch.setattr(writer, "writing", writing)
    async with client_of(books.settings(lease_s=60, database_timeout_s=0.2)) as client:
        asking = asyncio.create_task(ask(client, key))
        await bounded(committing.wait())
        await bounded(giving_up.wait())
        asking.cancel()
        await asyncio.wait([asking])
        release.set()
        async with asyncio.timeout(BOUND_S):
            while not books.usages():  # of the hold, whose commit comes to its end
                await asyncio.sleep(0.01)
        assert [row[0] for row in await swept(books)] == ["given_up"]
    assert not books.upstream.calls
    assert books.balance() == 10**12


async def test_a_settlement_that_fails_for_good_is_swept(
    books: Books, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the process itself, which lives on, and by the last checkpoint."""
    answer = Answering()
    async with accounts_of(books, checkpoint_s=0.05, lease_s=0.2) as accounts:
        charge = await held(accounts, key, answer)
        answer.told(1000, 10)
        async with asyncio.timeout(BOUND_S):
            while books.rows("SELECT seen_output FROM acct_holds") != [(10,)]:
                await asyncio.sleep(0.01)
        with monkeypatch.context() as patched:
            patched.setattr(directory, "settle", _failing)
            over(charge, answer.told(1000, 20))
            async with asyncio.timeout(BOUND_S):
                while len(accounts._settlements):
                    await asyncio.sleep(0.01)
        [(outcome, estimated, input_, output, _)] = await swept(books)
    assert (outcome, estimated, input_, output) == ("orphan", "orphan", 1000, 10)


async def test_holds_of_a_living_process_are_left_to_it(books: Books, key: str) -> None:
    """However long a request, or a call within it, takes."""
    answer = Answering()
    async with accounts_of(books, checkpoint_s=0.05, lease_s=0.2) as accounts:
        charge = await held(accounts, key, answer)
        call = await charge.call("search")
        await asyncio.sleep(0.6)  # several sweeps
        assert len(books.rows("SELECT id FROM acct_holds")) == 2
        call.end(ran=True)
        over(charge, answer.told(1000, 10))
        await settled(books, 2)


@ON_SQLITE
async def test_one_broken_request_does_not_cost_a_process_its_lease(
    books: Books, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = Answering()
    real = AccountCharge.seen
    async with accounts_of(books, checkpoint_s=0.05) as accounts:
        broken, well = [await held(accounts, key, answer) for _ in range(2)]
        monkeypatch.setattr(
            AccountCharge, "seen", lambda self: _failing() if self is broken else real(self)
        )
        answer.told(1000, 10)
        query = "SELECT seen_output FROM acct_holds ORDER BY id"
        async with asyncio.timeout(BOUND_S):
            while books.rows(query) != [(None,), (10,)]:
                await asyncio.sleep(0.01)
        for charge in (broken, well):
            over(charge, answer.answered)


@ON_SQLITE
async def test_a_sweep_that_fails_is_followed_by_others(
    books: Books, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with accounts_of(books) as accounts:
        await held(accounts, key, Answering())
    books.change("UPDATE acct_boots SET seen_at = 0")
    real, reads = directory.Database.read, 0

    async def fails_once(self: Any, work: Any) -> Any:
        nonlocal reads
        reads += 1
        if reads == 1:
            raise ValueError("a fault")
        return await real(self, work)

    monkeypatch.setattr(directory.Database, "read", fails_once)
    async with accounts_of(books, checkpoint_s=0.05, lease_s=0.2):
        await swept(books)
    assert reads > 1


def _failing(*_: Any) -> Any:
    raise ValueError("a fault")


async def test_a_correction_counts_in_the_limit_of_the_key(books: Books) -> None:
    books.account(balance="1")
    books.price()
    key = books.key(limit_amount=10**12, limit_period="month")
    answer = Answering()
    async with accounts_of(books) as accounts:
        charge = await held(accounts, key, answer)
        books.change("UPDATE acct_boots SET seen_at = 0")
        async with accounts_of(books):
            await swept(books)
        books.upstream.script = answering(USAGE)
        over(charge, answer.told(1000, 10))
        async with asyncio.timeout(BOUND_S):
            while not books.rows("SELECT id FROM acct_ledger WHERE kind = 'correction'"):
                await asyncio.sleep(0.01)
        spent = 10**12 - books.balance()
        assert spent > 0
        assert books.rows("SELECT period_spent FROM acct_keys") == [(spent,)]


def without_models(books: Books) -> Settings:
    """Settings by which any model goes to the only upstream."""
    return msgspec.structs.replace(books.settings(billing=False, lease_s=60), models={})


@pytest.mark.parametrize("model", ["a\0b", "x" * 300])
async def test_any_name_of_a_model_can_be_held(books: Books, model: str) -> None:
    """Without a table of models, any text goes upstream."""
    books.account()
    key = books.key()
    books.upstream.script = answering(USAGE)
    async with client_of(without_models(books)) as client:
        answer = await ask(client, key, model=model)
        assert answer.status_code == 200, answer.text
        await settled(books, 1)


async def test_any_number_of_answers_can_be_asked_for(books: Books) -> None:
    books.account()
    key = books.key()
    books.upstream.script = answering(USAGE)
    async with client_of(without_models(books)) as client:
        answer = await client.post(
            "/v1/chat/completions", json=ASK_CHAT | {"n": 10**40}, headers=bearer(key)
        )
        assert answer.status_code == 200, answer.text
        await settled(books, 1)


async def test_settlements_are_synced_to_the_disk(
    books: Books, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a transaction of its own, some time later: nobody's hold waits for the disk meanwhile."""
    monkeypatch.setattr("translator.service.accounts.leases.SYNC_S", 0.05)
    real, durable = writer.writing, asyncio.Event()
    loop = asyncio.get_running_loop()

    @contextmanager
    def writing(connection: Connection, **more: Any) -> Generator[None]:
        with real(connection, **more):
            yield
        if more["durable"]:
            loop.call_soon_threadsafe(durable.set)

    monkeypatch.setattr(writer, "writing", writing)
    answer = Answering()
    async with accounts_of(books) as accounts:
        charge = await held(accounts, key, answer)
        assert not durable.is_set()
        over(charge, answer.told(1000, 10))
        await settled(books, 1)
        await bounded(durable.wait())
        durable.clear()
        monkeypatch.setattr("translator.service.accounts.leases.SYNC_S", 1000.0)
        charge = await held(accounts, key, answer)
        over(charge, answer.told(1000, 10))
        await settled(books, 2)
        assert not durable.is_set()
    await bounded(durable.wait())  # a process that ends waits for no time to come


async def test_writes_of_an_account_share_transactions(books: Books, key: str) -> None:
    """On PostgreSQL with no others, so that two processes cannot wait for each other."""
    books.account("bolt", balance="1")
    other = books.key("bolt")
    answer = Answering()
    async with accounts_of(books) as accounts:
        commits: list[int] = []
        accounts._meter.committed = lambda writes, seconds: commits.append(writes)  # type: ignore[method-assign]
        charges = [await held(accounts, one, answer) for one in (key, other) * 8]
        answer.told(1000, 10)
        commits.clear()
        begun, gate = threading.Event(), threading.Event()

        def waits(_: Connection) -> None:
            begun.set()
            gate.wait(BOUND_S)

        accounts._database.write(waits, size=1, keep_trying_s=BOUND_S)
        assert await asyncio.to_thread(begun.wait, BOUND_S)
        for charge in charges:
            over(charge, answer.answered)
        gate.set()
        await settled(books, 16)
    most = max(commits)
    assert most == (8 if books.location.kind == "postgresql" else 16)
    assert sum(commits) >= 16
