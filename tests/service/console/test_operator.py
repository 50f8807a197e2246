"""The operator's pages: accounts, money, users, channels, prices, and the health of the books."""

from __future__ import annotations

import asyncio
import re

import pytest

from tests.service.accounts.paying import (
    ON_SQLITE,
    USAGE,
    Books,
    answering,
    ask,
    settled,
)
from tests.service.wire import BOUND_S
from translator.service.accounts import channel_book, price_book
from translator.service.accounts.money import read_amount, read_price
from translator.service.accounts.periods import SECOND_US
from translator.service.database.connection import reading

from .browsing import PASSWORD, add_user, signed_in, text_of

pytestmark = pytest.mark.anyio

ROOT = "/account/operator"


@pytest.fixture(autouse=True)
def operator(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator, whose password is compared at once."""
    from translator.service.accounts import passwords

    monkeypatch.setattr(passwords, "verify", lambda stored, text: bool(stored) and text == PASSWORD)
    add_user(books, "olga", None)


async def test_an_account_from_its_beginning_to_its_first_request(books: Books) -> None:
    """All on pages: the account, its price, its money, its user, a key; then a request."""
    books.upstream.script = answering(USAGE)
    async with signed_in(books, "olga") as person:
        done = await person.post(ROOT, {"name": "initech", "credit": "1.5"})
        assert done.headers["location"] == f"{ROOT}/acct_1?done=account"
        await person.post(
            f"{ROOT}/prices",
            {
                "model": "m",
                "input": "0.60",
                "cached_input": "0.10",
                "cache_write": "0.75",
                "output": "2.50",
            },
        )
        done = await person.post(f"{ROOT}/acct_1/top-up", {"amount": "10", "ref": "bill 1"})
        assert done.headers["location"] == f"{ROOT}/acct_1?done=booked"
        fields = {"name": "Peter", "password": "a password of his", "account": "acct_1"}
        done = await person.post(f"{ROOT}/users", fields)
        assert done.headers["location"] == f"{ROOT}/users?done=user"
        await person.get("/account/acct_1/keys")
        response = await person.post("/account/acct_1/keys", {"name": "first"})
        found = re.search(r"trk_[\w-]{60}", response.text)
        assert found is not None
        assert (await ask(person.client, found[0])).status_code == 200
        await settled(books, 1)
        page = text_of(await person.get(f"{ROOT}/acct_1"))
        assert "Balance 9.99 USD" in page
        assert "Left to spend 11.49" in page
        assert "+ 10.000000" in page
        assert "-0.004600" in page
        health = text_of(await person.get(f"{ROOT}/health?reconcile="))
        assert "All figures agree." in health
        log = text_of(await person.get(f"{ROOT}/audit"))
        for action in ("add account", "set price", "top up", "add user", "add key"):
            assert action in log
        assert "a password of his" not in log
    [(name, role, account)] = books.rows("SELECT name, role, account_id FROM acct_users")[1:]
    assert (name, role, account) == ("peter", "member", 1)


async def test_top_up_twice(books: Books) -> None:
    """Scenario 24 on the page: a reference is booked once, and that is said."""
    books.account()
    async with signed_in(books, "olga") as person:
        fields = {"amount": "5", "ref": "transfer 77"}
        first = await person.post(f"{ROOT}/acct_1/top-up", fields)
        again = await person.post(f"{ROOT}/acct_1/top-up", fields)
        assert first.headers["location"].endswith("?done=booked")
        assert again.headers["location"].endswith("?done=known")
        assert "Nothing is booked twice." in text_of(await person.get(again.headers["location"]))
        other = await person.post(f"{ROOT}/acct_1/top-up", {"amount": "6", "ref": "transfer 77"})
        assert other.status_code == 422
        assert "is that of another topup, entry 1" in text_of(other)
        assert 'value="6"' in other.text
    assert books.balance() == read_amount("5")
    assert len(books.rows("SELECT id FROM acct_audit WHERE action = 'top up'")) == 1


async def test_money_is_adjusted_for_a_reason(books: Books) -> None:
    books.account(balance="5")
    async with signed_in(books, "olga") as person:
        sent = {"amount": "-1.25", "ref": "r", "why": "a refund"}
        for missing, why in (("why", "A reason"), ("ref", "A reference"), ("amount", "An amount")):
            response = await person.post(f"{ROOT}/acct_1/adjust", sent | {missing: ""})
            assert response.status_code == 422
            assert why in text_of(response)
        assert (await person.post(f"{ROOT}/acct_1/adjust", sent)).status_code == 303
        for amount, why in (
            ("1e6", "is no decimal number"),
            ("0.0000000000001", "more than 12 decimals"),
            ("1000001", "is beyond 1000000.00"),
            ("-3", "A top-up is more than 0"),
        ):
            refused = await person.post(f"{ROOT}/acct_1/top-up", {"amount": amount, "ref": "x"})
            assert refused.status_code == 422
            assert why in text_of(refused)
        assert (await person.post(f"{ROOT}/acct_1/credit", {"credit": "-1"})).status_code == 422
        assert (await person.post(f"{ROOT}/acct_1/credit", {"credit": "7"})).status_code == 303
    assert books.of().balance == read_amount("3.75")
    assert books.of().credit == read_amount("7")


async def test_a_suspended_account_is_refused_and_told(books: Books) -> None:
    books.account(balance="5")
    books.price()
    books.upstream.script = answering(USAGE)
    key = books.key()
    add_user(books, "anna", "acme")
    async with signed_in(books, "olga") as person, signed_in(books, "anna") as member:
        asked = await person.get(f"{ROOT}/acct_1/suspend")
        assert "Suspend acme?" in text_of(asked)
        await person.post(f"{ROOT}/acct_1/suspend")
        assert (await ask(person.client, key)).status_code == 401
        page = await member.get("/account/acct_1/")
        assert "This account is suspended" in text_of(page)
        await person.post(f"{ROOT}/acct_1/resume")
        async with asyncio.timeout(BOUND_S):  # what is known of a key may be a second old
            while (await ask(person.client, key)).status_code != 200:
                await asyncio.sleep(0.1)


async def test_users(books: Books) -> None:
    books.account()
    async with signed_in(books, "olga") as person:
        for fields, why in (
            ({"name": "", "password": PASSWORD, "account": "operator"}, "A user's name"),
            ({"name": "x", "password": "short", "account": "operator"}, "at least 12"),
            ({"name": "x", "password": PASSWORD, "account": "acct_9"}, "A user is a member"),
            ({"name": "OLGA", "password": PASSWORD, "account": "operator"}, "'olga' already"),
        ):
            response = await person.post(f"{ROOT}/users", fields)
            assert response.status_code == 422
            assert why in text_of(response)
            assert PASSWORD not in response.text
        await person.post(
            f"{ROOT}/users", {"name": "anna", "password": PASSWORD, "account": "acct_1"}
        )
        [(anna,)] = books.rows("SELECT id FROM acct_users WHERE name = 'anna'")
        async with signed_in(books, "anna") as member:
            done = await person.post(f"{ROOT}/users/user_{anna}/disable")
            assert done.headers["location"].endswith("done=disabled")
            assert "Sign in" in text_of(await member.get("/account/acct_1/"))
            assert (await member.sign_in("anna")).status_code == 401
            await person.post(f"{ROOT}/users/user_{anna}/enable")
            assert (await member.sign_in("anna")).status_code == 200
            await person.post(
                f"{ROOT}/users/user_{anna}/password", {"password": "another password"}
            )
            assert "Sign in" in text_of(await member.get("/account/acct_1/"))
        own = await person.post(f"{ROOT}/users/user_1/disable")
        assert own.status_code == 422
        assert "lock yourself out" in text_of(own)
        assert (await person.get(f"{ROOT}/users/user_9")).status_code == 404


BEYOND = "9999-12-31T23:59-23:00"
"""A time that is of the year 10000 in UTC."""


async def test_channels_and_prices(books: Books) -> None:
    async with signed_in(books, "olga") as person:
        for fields, why in (
            ({"name": "", "models": "m"}, "The name of a channel"),
            ({"name": "c", "models": ""}, "A channel has from 1"),
            ({"name": "c", "models": "a*"}, "A model is an id"),
            ({"name": "c", "models": "m", "price_list": "gold"}, "There is no price list 'gold'"),
        ):
            response = await person.post(f"{ROOT}/channels", fields)
            assert response.status_code == 422
            assert why in text_of(response)
        await person.post(f"{ROOT}/channels", {"name": "c", "models": "m\r\nother, m"})
        with reading(books.connection):
            assert channel_book.channels(books.connection)["c"].models == ("m", "other")
        edited = await person.get(f"{ROOT}/channels?edit=c")
        assert ">m\nother</textarea>" in edited.text
        for price, why in (
            ({"input": "1"}, "The id of a model"),
            ({"model": "m"}, "A price has an input and an output"),
            ({"model": "m", "input": "1"}, "A price has an input and an output"),
            ({"model": "m", "output": "1"}, "A price has an input and an output"),
            ({"model": "tool:search", "input": "1"}, "has a price per request"),
            ({"model": "m", "input": "0", "output": "0"}, "All prices are 0"),
            ({"model": "m", "input": "-1", "output": "1"}, "is below 0"),
            ({"model": "m", "input": "0.0000001", "output": "1"}, "more than 6 decimals"),
            ({"model": "m", "input": "1", "free": "yes"}, "A free model has no price"),
            ({"model": "m", "free": "yes", "from_at": "then"}, "The time is one such as"),
            ({"model": "m", "free": "yes", "from_at": BEYOND}, "The time is one such as"),
        ):
            response = await person.post(f"{ROOT}/prices", price)
            assert response.status_code == 422, price
            assert why in text_of(response)
        later = {"model": "m", "input": "2", "output": "3", "from_at": "2099-01-31T12:00"}
        await person.post(f"{ROOT}/prices", {"model": "m", "input": "1", "output": "2"})
        await person.post(f"{ROOT}/prices", later)
        await person.post(f"{ROOT}/prices", {"model": "other", "free": "yes"})
        past = later | {"from_at": "2020-01-31T12:00"}
        assert "the past never change" in text_of(await person.post(f"{ROOT}/prices", past))
        page = text_of(await person.get(f"{ROOT}/prices"))
        assert "in force 1.00" in page
        assert "to come 2.00" in page
        assert "in force free" in page
        assert "not in the settings" not in page
        await person.post(f"{ROOT}/prices", {"model": "gone", "free": "yes"})
        await person.post(f"{ROOT}/prices", {"model": "tool:mcp", "free": "yes"})
        page = text_of(await person.get(f"{ROOT}/prices"))
        assert "not in the settings, so that nobody can use them: gone." in page
    with reading(books.connection):
        prices = price_book.prices(books.connection)
    assert [(one.model, one.input) for one in prices] == [
        *(("gone", 0), ("m", read_price("1")), ("m", read_price("2")), ("other", 0)),
        ("tool:mcp", 0),
    ]


@ON_SQLITE
async def test_the_health_of_the_books(books: Books) -> None:
    """Open requests with their age, processes that are alive and dead, and figures that differ."""
    books.account(balance="5")
    key = books.key()
    books.price()
    [(now,)] = books.rows("SELECT CAST(db_now() * 1000000 AS BIGINT)")
    books.change(
        "INSERT INTO acct_boots (id, began_at, seen_at) VALUES ('deadbeef00', :at, :at)",
        at=now - 7200 * SECOND_US,
    )
    books.change(
        "INSERT INTO acct_holds (token, account_id, key_id, boot, model, channel, endpoint, amount,"
        " tokens, began_at, request_id) VALUES ('t', 1, 1, 'deadbeef00', 'm', 'all', '/responses',"
        " 5, 0, :at, 'r')",
        at=now - 300 * SECOND_US,
    )
    assert key
    async with signed_in(books, "olga", lease_s=3600.0, checkpoint_s=100.0) as person:
        page = text_of(await person.get(f"{ROOT}/health?reconcile="))
        assert "5 min hold 1" in page
        assert "dead" in page
        assert "deadbeef 2 h 2 h ago" in page
        assert "0.000000000005" in page
        assert "Some figures differ." in page
        assert "account acme: 0.00 are held, its holds add up to 0.000000000005" in page


@ON_SQLITE
async def test_the_audit_log_has_pages_and_an_end(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    from translator.service.accounts import people
    from translator.service.database.connection import writing

    monkeypatch.setattr(people, "MAX_AUDIT", 250)
    with writing(books.connection):
        for number in range(400):
            people.audit(books.connection, "tests", "count", f"n{number}")
    assert len(books.rows("SELECT id FROM acct_audit")) == 250
    async with signed_in(books, "olga") as person:
        page = await person.get(f"{ROOT}/audit")
        seen = re.findall(r">(n\d+)<", page.text)
        assert seen[0] == "n399"
        onward = re.search(r'rel="next" href="([^"]+)"', page.text)
        assert onward is not None
        more = re.findall(r">(n\d+)<", (await person.get(onward[1])).text)
        assert len({*seen, *more}) == 199, "one of the 200 is the sign-in"
