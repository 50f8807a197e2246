"""Requests of several rounds: each extends the hold before it goes upstream, one settlement ends it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.service.wire import BOUND_S
from translator.service.access.client import Ask, Charge, Ended, Extension, Round
from translator.service.access.cost import Answered, StatedUsage
from translator.service.accounts.directory import Accounts
from translator.service.accounts.keys import Offer
from translator.service.accounts.sizes import TEMPLATE_TOKENS
from translator.service.base.errors import AccountsUnavailable, QuotaExceeded
from translator.service.database.statement import DatabaseTime

from .paying import DEAR, Books, bearer, settled

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("explained")]

BODY = b"x" * 3000
"""A request of 1,256 tokens, for which money is held."""

BODY_TOKENS = 1000 + TEMPLATE_TOKENS
INPUT, OUTPUT = DEAR.input, DEAR.output


@asynccontextmanager
async def accounts_of(
    books: Books, time: DatabaseTime | None = None, **more: Any
) -> AsyncGenerator[Accounts]:
    """The accounts of a process, without its HTTP."""
    section = books.settings(**{"checkpoint_s": 30, "lease_s": 60} | more).accounts
    assert section is not None
    offer = Offer(frozenset({"m"}), catches_all=False, billing=section.section.billing)
    accounts = Accounts(section, offer, time)
    async with accounts.running():
        yield accounts


class Answering:
    """What has come of the answer of a request, over all its rounds."""

    def __init__(self) -> None:
        self.answered = Answered()

    def told(self, input_: int, output: int) -> Answered:
        """All rounds together have so many tokens."""
        self.answered = Answered(4 * output, 0, StatedUsage(input_, output, input_ + output))
        return self.answered

    def __call__(self) -> Answered:
        return self.answered


async def held(
    accounts: Accounts, key: str, answer: Answering, body: bytes = BODY, **more: Any
) -> Charge:
    client = await accounts.find(bearer(key)["authorization"], fresh=True)
    fields = {"max_output_tokens": 1000, "path": "/v1/responses", "model": "m"} | more
    charge = await client.hold(Ask(size=len(body), body=body, **fields), answer)
    assert charge is not None
    return charge


def over(charge: Charge, answered: Answered, result: Any = "completed", **more: Any) -> None:
    charge.end(Ended(result=result, answered=answered, went_upstream=True, **more))


def money(books: Books, balance: str = "1", **limits: Any) -> str:
    books.account(balance=balance)
    books.price(DEAR)
    return books.key(**limits)


def is_held(books: Books) -> int:
    [(amount,)] = books.rows("SELECT amount FROM acct_holds")
    [one] = books.all_keys()
    assert (books.of().held, one.held, one.open) == (amount, amount, 1)
    return int(amount)


async def test_each_round_extends_the_hold_and_one_settlement_covers_all(books: Books) -> None:
    key = money(books, tokens_per_minute=100_000)
    answer = Answering()
    async with accounts_of(books) as accounts:
        charge = await held(accounts, key, answer)
        first = BODY_TOKENS * INPUT + 1000 * OUTPUT
        assert is_held(books) == first
        answer.told(900, 100)
        assert await charge.extend(Round(body=BODY * 2, max_output_tokens=900)) == Extension()
        spent = 900 * INPUT + 100 * OUTPUT
        further = (2000 + TEMPLATE_TOKENS) * INPUT + 900 * OUTPUT
        assert is_held(books) == spent + further
        answer.told(3000, 150)
        assert await charge.extend(Round(body=BODY, max_output_tokens=1)) == Extension()
        assert is_held(books) == spent + further  # which covers it: a hold never shrinks
        [(tokens,)] = books.rows("SELECT tokens FROM acct_holds")
        assert tokens == 3000 // 4 * 4  # of the three rounds
        over(charge, answer.told(4000, 160))
        await settled(books, 1)
    cost = 4000 * INPUT + 160 * OUTPUT
    assert books.usages() == [("completed", 4000, 0, 0, 160, cost)]
    assert books.balance() == 10**12 - cost
    [(rest,)] = books.rows("SELECT rest FROM acct_allowances WHERE noun = 'tokens'")
    assert 100_000 - 4160 <= rest / 60e6 < 100_000 - 4160 + 100_000 * BOUND_S / 60


async def test_a_round_that_is_paid_in_part_is_the_last(books: Books) -> None:
    key = money(books, "0.006")
    answer = Answering()
    async with accounts_of(books) as accounts:
        charge = await held(accounts, key, answer)
        answer.told(1000, 500)
        found = await charge.extend(Round(body=BODY, max_output_tokens=2000))
        left = 6 * 10**9 - 1000 * INPUT - 500 * OUTPUT - BODY_TOKENS * INPUT
        assert found == Extension(left // OUTPUT, last=True)
        assert 6 * 10**9 - OUTPUT < is_held(books) <= 6 * 10**9
        over(charge, answer.told(2000, 500 + left // OUTPUT))
        await settled(books, 1)
    assert books.balance() >= 0


async def test_a_round_that_nothing_pays_for_is_refused(books: Books) -> None:
    """What has come is billed, and the rest of the hold is released."""
    key = money(books, "0.004")
    answer = Answering()
    async with accounts_of(books) as accounts:
        charge = await held(accounts, key, answer)
        before = is_held(books)
        answer.told(1200, 900)
        with pytest.raises(QuotaExceeded):
            await charge.extend(Round(body=BODY, max_output_tokens=2000))
        assert is_held(books) == before
        over(charge, answer.answered, "failed", failed=True)
        [(outcome, estimated, output, amount)] = await settled(books, 1)
    assert (outcome, estimated, output) == ("failed", "no", 900)
    assert amount == 1200 * INPUT + 900 * OUTPUT


async def test_the_limit_of_a_key_bounds_its_rounds(books: Books) -> None:
    key = money(books, limit_amount=4 * 10**9, limit_period="day")
    answer = Answering()
    async with accounts_of(books) as accounts:
        charge = await held(accounts, key, answer)
        answer.told(1200, 900)
        with pytest.raises(QuotaExceeded, match="limit of this key"):
            await charge.extend(Round(body=BODY, max_output_tokens=2000))
        over(charge, answer.answered)
        await settled(books, 1)


@pytest.mark.parametrize("how", ["revoked", "suspended", "next period"])
async def test_an_answer_that_has_begun_comes_to_its_end(books: Books, how: str) -> None:
    """A key that may no longer be used has one more round, without tools."""
    limits = {"limit_amount": 10**12, "limit_period": "day"} if how == "next period" else {}
    key = money(books, **limits)
    answer = Answering()
    async with accounts_of(books) as accounts:
        charge = await held(accounts, key, answer)
        if how == "revoked":
            books.revoke(key)
        elif how == "suspended":
            books.change("UPDATE acct_accounts SET suspended_at = 1")
        else:
            books.change("UPDATE acct_keys SET period_start = period_start + 86400000000")
        answer.told(1000, 500)
        assert (await charge.extend(Round(body=BODY))).last
        over(charge, answer.told(2000, 600))
        await settled(books, 1)


async def test_rounds_of_one_account_overspend_nothing(books: Books) -> None:
    """Requests that all want a further round at once, on two processes, share what there is."""
    key = money(books, "0.05")
    async with accounts_of(books) as one, accounts_of(books) as other:
        answers = [Answering() for _ in range(10)]
        charges = [
            await held((one, other)[number % 2], key, answer)
            for number, answer in enumerate(answers)
        ]
        for answer in answers:
            answer.told(BODY_TOKENS, 1000)
        further = Round(body=BODY * 10, max_output_tokens=1000)
        found = await asyncio.gather(
            *(charge.extend(further) for charge in charges), return_exceptions=True
        )
        assert books.of().available >= 0
        for charge, answer, extension in zip(charges, answers, found, strict=True):
            if isinstance(extension, Extension):
                limit = extension.max_output_tokens or 1000
                answer.told(2 * BODY_TOKENS + 9000, 1000 + limit)
            else:
                assert isinstance(extension, QuotaExceeded)
            over(charge, answer.answered)
        await settled(books, 10)
    refused = sum(isinstance(one, QuotaExceeded) for one in found)
    assert 0 < refused < 10
    assert books.balance() >= 0


async def test_a_hold_that_a_sweeper_has_ended_grows_no_more(books: Books) -> None:
    key = money(books)
    answer = Answering()
    async with accounts_of(books) as accounts:
        charge = await held(accounts, key, answer)
        books.change("UPDATE acct_boots SET seen_at = 0")
        async with accounts_of(books):
            await settled(books, 1)
        with pytest.raises(AccountsUnavailable):
            await charge.extend(Round(body=BODY))
        over(charge, answer.answered, "failed", failed=True)


async def test_a_process_that_dies_in_a_further_round_is_billed_for_all_of_them(
    books: Books,
) -> None:
    """The last checkpoint has the rounds that are over, and what has come of the last one."""
    key = money(books)
    answer = Answering()
    async with accounts_of(books, checkpoint_s=0.05) as accounts:
        charge = await held(accounts, key, answer)
        answer.told(1000, 500)
        await charge.extend(Round(body=BODY))
        answer.answered = Answered(4 * 600, 0, StatedUsage(1000, 500, 1500))
        async with asyncio.timeout(BOUND_S):
            while books.rows("SELECT seen_input, seen_output FROM acct_holds") != [(1750, 600)]:
                await asyncio.sleep(0.01)
        over(charge, answer.answered)
        [(_, estimated, output, amount)] = await settled(books, 1)
    assert (estimated, output) == ("all", 600)
    assert amount == 1750 * INPUT + 600 * OUTPUT


@pytest.mark.parametrize("when", ["refuse", "serve"])
async def test_a_round_without_the_database(
    books: Books, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    books.account()
    key = books.key()
    answer = Answering()
    more = {"billing": False, "when_database_fails": when, "database_timeout_s": 0.2}
    async with accounts_of(books, **more) as accounts:
        charge = await held(accounts, key, answer)
        monkeypatch.setattr("translator.service.accounts.directory.extend", _failing)
        if when == "serve":
            assert await charge.extend(Round(body=BODY)) == Extension()
        else:
            with pytest.raises(AccountsUnavailable):
                await charge.extend(Round(body=BODY))
        over(charge, answer.answered)
        await settled(books, 1)


def _failing(*_: Any) -> None:
    raise ValueError("a fault")
