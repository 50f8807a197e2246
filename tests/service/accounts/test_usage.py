"""The queries of usage: by day, key and model, request by request, and of one account alone."""

from __future__ import annotations

from collections import Counter

import pytest
from msgspec.structs import replace

from translator.service.accounts import usage
from translator.service.accounts.bills import Counts
from translator.service.accounts.periods import DAY_US
from translator.service.accounts.price_book import PriceRow
from translator.service.accounts.usage import Span
from translator.service.database.connection import reading

from .paying import COST, PRICES, Books
from .spending import spend

pytestmark = pytest.mark.anyio

U = Counts(12_000, 8_000, 1_000, 500, 400)
"""What costs COST."""

DAY_S = 86_400.0


@pytest.fixture
def spent(books: Books) -> Books:
    """Two accounts with two keys each, which used two models on two days."""
    books.price(replace(PRICES, from_at=1))
    books.price(PriceRow("other", input=1_000_000, output=2_000_000, from_at=1))
    for account in ("acme", "rival"):
        books.account(account, balance="5")
        for name in ("anna", "ben"):
            books.key(account, name)
    for number, key in enumerate(books.all_keys()):
        for at_s in (-DAY_S, 0.0):
            for model in ("m", "other"):
                spend(
                    books,
                    key,
                    U,
                    model=model,
                    at_s=at_s,
                    request_id=f"req_{number}",
                    response_id=f"resp_{number}_{model}_{at_s:g}",
                )
    return books


OTHER = 12_000 * 1_000_000 + 500 * 2_000_000
"""What U costs with the other model."""


async def test_sums_are_by_day_key_and_model(spent: Books) -> None:
    acme = spent.of("acme").id
    with reading(spent.connection):
        now = usage.time_of(spent.connection)
        today = now - now % DAY_US
        whole = usage.total(spent.connection, acme)
        assert (whole.requests, whole.amount) == (8, 4 * (COST + OTHER))
        assert (whole.input, whole.cached, whole.output) == (96_000, 64_000, 4_000)
        by_day = usage.sums(spent.connection, acme, by=("day",))
        assert [one.day for one in by_day] == [today - DAY_US, today]
        assert {one.amount for one in by_day} == {2 * (COST + OTHER)}
        by_model = usage.sums(spent.connection, acme, by=("model",))
        assert [(one.model, one.amount) for one in by_model] == [
            ("m", 4 * COST),
            ("other", 4 * OTHER),
        ]
        fine = usage.sums(spent.connection, acme, by=("day", "key", "model"))
        assert len(fine) == 8
        assert {(one.requests, one.input) for one in fine} == {(1, 12_000)}
        first = fine[0].key
        span = Span(start=today, key=first, model="m")
        assert usage.total(spent.connection, acme, span).amount == COST
        assert usage.total(spent.connection, acme, Span(end=today)).requests == 4
        assert usage.spent_in(spent.connection, acme, "day", now) == 2 * (COST + OTHER)
        assert usage.spent_in(spent.connection, acme, "never", now, first) == 2 * (COST + OTHER)


async def test_sums_of_nothing_are_one_row_of_zeros(books: Books) -> None:
    books.account()
    with reading(books.connection):
        assert usage.total(books.connection, 1) == usage.Sum()
        assert usage.sums(books.connection, 1, by=("day",)) == []


async def test_usages_come_in_pages_newest_first(spent: Books) -> None:
    acme = spent.of("acme").id
    with reading(spent.connection):
        pages: list[list[usage.Usage]] = []
        before = None
        while page := usage.usages(spent.connection, acme, before=before, limit=3):
            pages.append(page)
            before = page[-1].id
        assert [len(page) for page in pages] == [3, 3, 2]
        every = [one for page in pages for one in page]
        order = [(one.ended_at, one.id) for one in every]
        assert order == sorted(set(order), reverse=True)
        later = usage.usages(spent.connection, acme, before=10**6)
        assert len(later) == 8, "what is not there is before all that is"
        assert len(usage.usages(spent.connection, acme, before=2)) == 1
        assert sum(one.amount for one in every) == usage.total(spent.connection, acme).amount
        newest = every[0]
        assert newest.price is not None
        assert (newest.price.input, newest.price.cached_input) == (1_000_000, None)
        assert (newest.key_name, newest.model, newest.cost) == ("ben", "other", OTHER)
        span = Span(model="m", key=newest.key)
        assert len(usage.usages(spent.connection, acme, span)) == 2


async def test_a_usage_is_found_by_its_id_and_those_of_its_response_and_request(
    spent: Books,
) -> None:
    acme, rival = spent.of("acme").id, spent.of("rival").id
    with reading(spent.connection):

        def find(account: int, name: str) -> list[usage.Usage]:
            return usage.usages_of(spent.connection, account, name)

        [one] = find(acme, "resp_0_m_0")
        assert one.response_id == "resp_0_m_0"
        assert find(acme, f"usage_{one.id}") == [one]
        same = find(acme, "req_0")
        assert len(same) == 4
        assert [usage_.id for usage_ in same] == sorted((u.id for u in same), reverse=True)
        for name in ("resp_0_m_0", f"usage_{one.id}", "req_0", "", "usage_", "usage_x"):
            assert find(rival, name) == []
        assert find(acme, f"usage_{'9' * 40}") == []


async def test_a_correction_changes_what_a_usage_has_cost(spent: Books) -> None:
    acme = spent.of("acme").id
    with reading(spent.connection):
        before = usage.total(spent.connection, acme).amount
        [one, *_] = usage.usages(spent.connection, acme)
    spent.change(
        "INSERT INTO acct_ledger (account_id, at, kind, ref, amount, balance_after, key_id, model,"
        " actor, note) VALUES (:account, :at, 'correction', :ref, :amount, 0, :key, :model, '', '')",
        account=acme,
        at=one.ended_at,
        ref=str(one.id),
        amount=-7,
        key=one.key,
        model=one.model,
    )
    with reading(spent.connection):
        [found] = usage.usages_of(spent.connection, acme, f"usage_{one.id}")
        assert (found.amount, found.corrected, found.cost) == (OTHER, 7, OTHER + 7)
        assert usage.total(spent.connection, acme).amount == before  # the sums are the settlement's


async def test_the_ledger_comes_in_pages_and_adds_up_to_what_was_spent(spent: Books) -> None:
    acme = spent.of("acme").id
    with reading(spent.connection):
        every = usage.ledger(spent.connection, acme)
        assert Counter(one.kind for one in every) == {"usage": 8, "topup": 1}
        spent_ = sum(one.amount for one in every if one.kind == "usage")
        assert -spent_ == usage.total(spent.connection, acme).amount
        page = usage.ledger(spent.connection, acme, before=every[3].id, limit=2)
        assert page == every[4:6]
        key = next(one.key for one in usage.usages(spent.connection, acme))
        assert len(usage.ledger(spent.connection, acme, Span(key=key, model="m"))) == 2
