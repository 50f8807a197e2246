"""Settlements wait for others, and holds go before them, but never at a client's expense."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.service.wire import BOUND_S
from translator.service.access.client import Charge, Round
from translator.service.accounts import books as book
from translator.service.accounts import settling
from translator.service.accounts.client import AccountCharge
from translator.service.accounts.directory import Accounts
from translator.service.accounts.holds import Held
from translator.service.accounts.meter import NullAccountMeter
from translator.service.database import writer
from translator.service.database.connection import writing

from .paying import DEAR, ON_SQLITE, Books, settled
from .test_crashes import swept
from .test_rounds import BODY, Answering, accounts_of, held, over

pytestmark = pytest.mark.anyio

MONEY = 10**12
ANSWERED = Answering().told(100, 10)
COST = 100 * DEAR.input + 10 * DEAR.output


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """They wait for longer than any test."""
    monkeypatch.setattr(settling, "GATHER_S", 10 * BOUND_S)


def key_of(books: Books, amount: int = MONEY, **limits: Any) -> str:
    books.account()
    books.price(DEAR)
    with writing(books.connection):
        book.top_up(books.connection, "acme", amount, "money", "tests")
    return books.key(**limits)


def what(charge: Charge) -> Held:
    assert isinstance(charge, AccountCharge)
    return charge.held


async def amount_of_a_hold(accounts: Accounts, key: str) -> int:
    """What each of the holds here is for; it is settled again."""
    charge = await held(accounts, key, Answering())
    over(charge, Answering().answered, "refused")
    await accounts.reads.read(lambda _: None)  # which queues what waits
    return what(charge).amount


async def test_a_hold_goes_before_settlements_and_knows_what_they_give_back(books: Books) -> None:
    key = key_of(books)
    async with accounts_of(books) as accounts:
        over(await held(accounts, key, Answering()), ANSWERED)
        second = await held(accounts, key, Answering())
        assert not books.usages()
        assert books.of().held == 2 * what(second).amount
        assert what(second).left == MONEY - COST
        over(second, ANSWERED)
    assert [row[-1] for row in books.usages()] == [COST] * 2
    assert books.balance() == MONEY - 2 * COST
    await swept(books)


@pytest.mark.parametrize("share", [2.1, 2.5], ids=["refused", "limited"])
async def test_a_hold_that_depends_on_settlements_comes_after_them(
    books: Books, share: float
) -> None:
    """Of the money that is left without them, it could have nothing, or less than it asks for."""
    key = key_of(books)
    async with accounts_of(books) as accounts:
        amount = await amount_of_a_hold(accounts, key)
        await settled(books, 1)
        with writing(books.connection):
            left = round(share * amount)
            book.adjust(books.connection, "acme", left - MONEY, "a test", "less", "tests")
        over(await held(accounts, key, Answering()), ANSWERED)
        second = await held(accounts, key, Answering())
        assert len(books.usages()) == 1
        third = await held(accounts, key, Answering())
        assert what(third).max_output_tokens is None
        assert what(third).left == left - COST - amount
        assert len(books.usages()) == 2
        for charge in (second, third):
            over(charge, ANSWERED)
    assert books.balance() == left - 3 * COST
    await swept(books)


@pytest.mark.parametrize(
    ("limits", "more"),
    [
        ({"max_concurrent_requests": 1}, 0),
        ({"tokens_per_minute": 10_000}, 0),
        ({"limit_amount": MONEY, "limit_period": "day"}, 0),
        ({}, 1),
    ],
    ids=["slots", "tokens", "money of the key", "a balance that runs short"],
)
async def test_what_the_next_request_needs_is_settled_at_once(
    books: Books, limits: dict[str, Any], more: int
) -> None:
    """In whichever process that is."""
    key = key_of(books, **limits)
    async with accounts_of(books) as accounts, accounts_of(books) as others:
        if more:
            amount = await amount_of_a_hold(accounts, key)
            await settled(books, 1)
            with writing(books.connection):
                less = 3 * amount // 2 - MONEY
                book.adjust(books.connection, "acme", less, "a test", "less", "tests")
        over(await held(accounts, key, Answering()), ANSWERED)
        await settled(books, 1 + more)
        over(await held(others, key, Answering()), ANSWERED)
        await settled(books, 2 + more)


@ON_SQLITE
async def test_what_has_grown_is_settled_at_once(books: Books) -> None:
    key = key_of(books)
    async with accounts_of(books) as accounts:
        answer = Answering()
        charge = await held(accounts, key, answer)
        answer.told(100, 10)
        await charge.extend(Round(body=BODY, max_output_tokens=1000))
        over(charge, answer.told(200, 20))
        await settled(books, 1)


@ON_SQLITE
async def test_settlements_share_a_transaction(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def committed(self: NullAccountMeter, writes: int, seconds: float) -> None:
        sizes.append(writes)

    monkeypatch.setattr(NullAccountMeter, "committed", committed)
    monkeypatch.setattr(settling, "GATHER_S", 0.01)
    key = key_of(books)
    async with accounts_of(books) as accounts:
        for charge in [await held(accounts, key, Answering()) for _ in range(5)]:
            over(charge, ANSWERED)
        await settled(books, 5)
        assert sizes[-1] == 5


@ON_SQLITE
async def test_settlements_for_which_there_is_no_room_stay_until_there_is(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service is not ready meanwhile."""
    key = key_of(books)
    async with accounts_of(books) as accounts:
        charges = [await held(accounts, key, Answering()) for _ in range(2)]
        with monkeypatch.context() as patched:
            patched.setattr(writer, "MAX_WAITING", 0)
            for charge in charges:
                over(charge, ANSWERED)
            assert accounts.released(1) == 2 * (what(charges[0]).amount - COST)
            assert not accounts.failing
            accounts.settle_again()
            assert accounts.failing
            assert all(accounts.knows(what(charge).id) for charge in charges)
            assert accounts.released(1) == 0
        accounts.settle_again()
        await settled(books, 2)
        async with asyncio.timeout(BOUND_S):
            while accounts.failing:
                await asyncio.sleep(0.01)
