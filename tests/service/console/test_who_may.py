"""Who may open a page and change something: sessions, forms of ours, and accounts of others."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.service.accounts.paying import ON_SQLITE, USAGE, Books, answering, ask, settled
from translator.service.accounts import books as book
from translator.service.accounts import channel_book, price_book
from translator.service.accounts.ceilings import NO_CEILING, Ceiling, Limits
from translator.service.accounts.keys import Channel
from translator.service.accounts.money import read_amount
from translator.service.accounts.periods import read_time
from translator.service.database.connection import writing
from translator.service.database.database import Database
from translator.service.database.errors import Unavailable

from .browsing import MEMBER_PATHS, OPERATOR_PATHS, PASSWORD, pages, signed_in, text_of

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("furnished")]


async def test_csrf(books: Books) -> None:
    """Scenario 35: a form that no page of this session sent changes nothing."""
    async with signed_in(books) as person, signed_in(books, "gus") as other:
        await person.get("/account/acct_1/keys")
        await other.get("/account/acct_2/keys")
        theirs, path = other.csrf, "/account/acct_1/keys"
        assert person.csrf
        assert theirs not in ("", person.csrf)
        for fields, headers in (
            ({"csrf": ""}, {}),
            ({"csrf": theirs}, {}),
            ({}, {"sec_fetch_site": "cross-site"}),
            ({}, {"sec_fetch_site": "same-site"}),
            ({}, {"sec_fetch_site": "cross-site", "origin": "https://evil.example"}),
        ):
            await person.get(path)
            response = await person.post(path, {"name": "x"} | fields, **headers)
            assert response.status_code == 403, (fields, headers)
            assert "Nothing was changed" in text_of(response)
        for headers in ({}, {"origin": "https://evil.example"}, {"origin": "null"}):
            await person.get(path)
            response = await person.client.post(
                path, data={"name": "x", "csrf": person.csrf}, headers=person.headers(**headers)
            )
            assert response.status_code == 403, headers
        assert not books.all_keys()
        await person.get(path)
        own = person.headers(origin="http://gateway")
        response = await person.client.post(
            path, data={"name": "x", "csrf": person.csrf}, headers=own
        )
        assert response.status_code == 200, "an older browser says only where the page is from"


@ON_SQLITE
async def test_a_sign_in_from_another_page_is_refused(books: Books) -> None:
    async with pages(books) as person:
        response = await person.post(
            "/account/sign-in",
            {"name": "anna", "password": PASSWORD},
            sec_fetch_site="cross-site",
        )
        assert response.status_code == 403
        assert "set-cookie" not in response.headers


@ON_SQLITE
async def test_cors_does_not_open_the_pages(books: Books) -> None:
    async with signed_in(books, server={"cors_origins": ["*"]}) as person:
        page = await person.get("/account/acct_1/", origin="https://evil.example")
        assert not [name for name in page.headers if name.startswith("access-control")]
        await person.get("/account/acct_1/keys")
        headers = person.headers(origin="https://evil.example")
        refused = await person.client.post(
            "/account/acct_1/keys", data={"name": "x", "csrf": person.csrf}, headers=headers
        )
        assert refused.status_code == 403


CHANGES = (
    *("/account/acct_1/keys", "/account/acct_1/keys/key_1/rename"),
    *("/account/acct_1/keys/key_1/limits", "/account/acct_1/keys/key_1/rotate"),
    *("/account/acct_1/keys/key_1/revoke", "/account/acct_2/keys/key_1/revoke"),
    *(f"/account/operator{path}" for path in ("", "/users", "/channels", "/prices")),
    *(
        f"/account/operator/acct_2/{what}"
        for what in ("top-up", "adjust", "credit", "suspend", "resume")
    ),
    *(
        f"/account/operator/users/user_2/{what}"
        for what in ("password", "unlock", "disable", "enable")
    ),
)


async def test_others_data(books: Books) -> None:
    """Scenario 31: whoever belongs to another account finds no such page, and changes nothing."""
    books.upstream.script = answering(USAGE)
    key = books.key()
    tables = ("accounts", "keys", "users", "channels", "prices", "ledger")
    async with signed_in(books, "gus") as person:
        await ask(person.client, key)
        await settled(books, 1)
        before = [books.rows(f"SELECT * FROM acct_{name}") for name in tables]
        for path in (
            *(f"/account/acct_1{path}" for path in MEMBER_PATHS),
            *(f"/account/operator{path}" for path in OPERATOR_PATHS),
            *("/account/acct_2/keys/key_1", "/account/acct_3/", "/account/acct_2/nothing"),
        ):
            page = await person.get(path)
            assert page.status_code == 404, path
            assert "acme" not in page.text
            assert "anna" not in page.text
        for path in CHANGES:
            await person.get("/account/acct_2/keys")
            fields = {"name": "x", "amount": "1", "ref": "r", "why": "w", "password": PASSWORD}
            assert (await person.post(path, fields)).status_code == 404, path
        assert [books.rows(f"SELECT * FROM acct_{name}") for name in tables] == before
        for path in ("/usage", "/usage.csv", "/usage.csv?rows=requests", "/ledger", "/ledger.csv"):
            for query in ("key=key_1", "before=999999", "model=m"):
                mark = "&" if "?" in path else "?"
                page = await person.get(f"/account/acct_2{path}{mark}{query}")
                assert page.status_code == 200
                assert "0.0046" not in page.text
                assert "anna" not in page.text


async def test_an_operator_sees_every_page(books: Books) -> None:
    books.key()
    async with signed_in(books, "olga") as person:
        for path in (
            *(f"/account/acct_1{path}" for path in MEMBER_PATHS),
            *(f"/account/operator{path}" for path in OPERATOR_PATHS),
            *("/account/password", "/account/operator/health?reconcile="),
        ):
            page = await person.get(path)
            assert page.status_code == 200, path


@ON_SQLITE
async def test_every_page_has_the_balance_and_strict_headers(books: Books) -> None:
    books.key()
    async with signed_in(books) as person:
        for path in (*(f"/account/acct_1{path}" for path in MEMBER_PATHS), "/account/password"):
            page = await person.get(path)
            policy = page.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; style-src 'self'; img-src 'self'; ")
            assert "unsafe" not in policy
            assert page.headers["cache-control"] == "no-store"
            assert page.headers["x-content-type-options"] == "nosniff"
            assert page.headers["referrer-policy"] == "same-origin"
            if not path.endswith(".csv"):
                assert "Balance 10.00 USD" in text_of(page)
                assert "Sign out" in text_of(page)
                assert "<script" not in page.text
                assert " style=" not in page.text
        style = re.search(r'href="(/account/static/[0-9a-f]{16}/style.css)"', page.text)
        assert style is not None
        sheet = await person.client.get(style[1])
        assert sheet.headers["cache-control"] == "public, max-age=31536000, immutable"
        other = await person.client.get("/account/static/0000000000000000/style.css")
        assert other.headers["cache-control"] == "no-cache"
        assert (await person.client.get("/account/static/x/base.html")).status_code == 404


async def test_members_give_keys_the_channels_of_their_account(books: Books) -> None:
    """A channel has prices: that of another customer is not to be chosen. A key keeps what it has."""
    with writing(books.connection):
        for name in ("friends", "fast"):
            channel = Channel(name, name.title(), ("m",), price_book.STANDARD)
            channel_book.set_channel(books.connection, channel)
    books.key(name="given", channels=("friends",))
    async with signed_in(books, "olga") as operator, signed_in(books) as person:
        path = "/account/operator/acct_1/channels"
        wrong = await operator.post(path, {"channels": "gold"})
        assert wrong.status_code == 422
        assert "There is no channel 'gold'" in text_of(wrong)
        await operator.post(path, {"channels": "fast, all"})
        page = await person.get("/account/acct_1/keys")
        assert 'value="fast" checked' in page.text
        assert "friends" not in page.text.split("New key")[1]
        refused = await person.post("/account/acct_1/keys", {"name": "x", "channel": "friends"})
        assert refused.status_code == 422
        assert "no channel 'friends' for this account" in text_of(refused)
        assert (await person.post("/account/acct_1/keys", {"name": "x"})).status_code == 200
        limits = "/account/acct_1/keys/key_1/limits"
        page = await person.get("/account/acct_1/keys/key_1")
        assert re.findall(r'name="channel" value="(\w+)"', page.text) == ["friends"]
        kept = await person.post(limits, {"channel": "friends"})
        assert kept.status_code == 303, "the operator gave it"
        more = await person.post(limits, {"channel": ["friends", "all"]})
        assert "channels: an operator allows friends" in text_of(more).lower()
        assert (await operator.post(limits, {"channel": ["friends", "all"]})).status_code == 303
        assert (await person.post(limits, {"channel": "all"})).status_code == 303
        assert (await person.post(limits, {"channel": ["all", "friends"]})).status_code == 303
        assert books.all_keys()[0].limits.channels == ("friends", "all"), "its order has prices"
        own = "/account/acct_1/keys/key_2/limits"
        assert (await person.post(own, {"channel": "all"})).status_code == 303
        assert (await person.post(own, {"channel": "fast"})).status_code == 303
        assert (await person.post(own, {"channel": "friends"})).status_code == 422
        await operator.post(path, {"channels": "*"})
        free = await person.post("/account/acct_1/keys", {"name": "y", "channel": "friends"})
        assert free.status_code == 200
        await operator.post(path, {"channels": "none"})
        assert "Operators make the keys" in text_of(await person.get("/account/acct_1/keys"))
        refused = await person.post("/account/acct_1/keys", {"name": "z"})
        assert "Operators make the keys of this account" in text_of(refused)
        assert (await operator.post("/account/acct_1/keys", {"name": "z"})).status_code == 200
    channels = {one.name: one.limits.channels for one in books.all_keys()}
    assert channels.pop("given") == ("friends", "all")
    assert channels == {"x": ("fast",), "y": ("friends",), "z": ("all",)}


async def test_no_member_chooses_the_prices_of_others(books: Books) -> None:
    """Without a word of an operator the channel `all` is there, and no other one."""
    with writing(books.connection):
        channel_book.set_channel(
            books.connection, Channel("staff", "Staff", ("m",), price_book.STANDARD)
        )
    async with signed_in(books) as person:
        page = await person.get("/account/acct_1/keys")
        assert re.findall(r'name="channel" value="(\w+)"', page.text) == ["all"]
        refused = await person.post("/account/acct_1/keys", {"name": "x", "channel": "staff"})
        assert refused.status_code == 422
        assert (await person.post("/account/acct_1/keys", {"name": "x"})).status_code == 200
        limits = "/account/acct_1/keys/key_1/limits"
        assert (await person.post(limits, {"channel": "staff"})).status_code == 422
    assert [one.limits.channels for one in books.all_keys()] == [("all",)]


GIVEN: dict[str, Any] = {
    "models": ("m",),
    "requests_per_minute": 3,
    "tokens_per_minute": 900,
    "max_concurrent_requests": 2,
    "limit_amount": read_amount("1"),
    "limit_period": "day",
    "expires_at": read_time("2030-01-01"),
}
FORM = {
    "models": "m",
    "requests_per_minute": "3",
    "tokens_per_minute": "900",
    "max_concurrent_requests": "2",
    "limit_amount": "1",
    "limit_period": "day",
    "expires_at": "2030-01-01T00:00",
}


@pytest.mark.parametrize("by_hand", [False, True])
async def test_members_only_tighten_what_an_operator_limits(books: Books, by_hand: bool) -> None:
    """Scenario: the limits that an operator gave to a key, as it was made or later."""
    books.key(**({} if by_hand else GIVEN))
    limits = "/account/acct_1/keys/key_1/limits"
    async with signed_in(books, "olga") as operator, signed_in(books) as person:
        if by_hand:
            assert (await operator.post(limits, FORM)).status_code == 303
        page = text_of(await person.get("/account/acct_1/keys/key_1"))
        for said in ("3", "900", "2", "1.00 per day", "2030-01-01 00:00:00", "m"):
            assert f"An operator allows at most {said}" in page
        for name, texts in {
            "models": ("", "other"),
            "requests_per_minute": ("", "4"),
            "tokens_per_minute": ("", "901"),
            "max_concurrent_requests": ("", "3"),
            "limit_amount": ("", "1.000001"),
            "limit_period": ("month", "never"),
            "expires_at": ("", "2030-01-01T00:01"),
        }.items():
            for text in texts:
                refused = await person.post(limits, FORM | {name: text})
                assert refused.status_code == 422, (name, text)
        assert books.all_keys()[0].limits == Limits(**GIVEN)
        tight = FORM | {"requests_per_minute": "1", "limit_amount": "0.5"}
        assert (await person.post(limits, tight)).status_code == 303
        assert (await person.post(limits, FORM)).status_code == 303, "its own may be lifted"
        renewed = await person.post("/account/acct_1/keys/key_1/rotate", {"grace_hours": "24"})
        assert "the old one ends at once" in text_of(renewed)
        renewed = await person.post("/account/acct_1/keys/key_1/rotate", {"grace_hours": "0"})
        assert renewed.status_code == 200
        limits = "/account/acct_1/keys/key_2/limits"
        assert (await person.post(limits, {"models": ""})).status_code == 422
        assert (await operator.post(limits, {"models": ""})).status_code == 303
        assert (await person.post(limits, {"requests_per_minute": "5"})).status_code == 303
        assert (await person.post(limits, {"requests_per_minute": ""})).status_code == 303


async def test_members_give_their_own_keys_no_more_than_the_account_has(books: Books) -> None:
    """A key of an operator is not bound by it, and one of a member only as far as none said more."""
    books.key(name="given")
    ceiling = FORM | {"expires_at": "", "models": "m", "requests_per_minute": "1,000"}
    own = ceiling | {"name": "own", "channel": "all"}
    keys = "/account/acct_1/keys"
    limits = f"{keys}/key_2/limits"
    async with signed_in(books, "olga") as operator, signed_in(books) as person:
        path = "/account/operator/acct_1/ceiling"
        assert (await operator.post(path, ceiling | {"limit_amount": "1,0"})).status_code == 422
        assert (await operator.post(path, ceiling)).status_code == 303
        assert books.of().ceiling == Ceiling(
            **{**GIVEN, "expires_at": None, "requests_per_minute": 1000}
        )
        page = await person.get(keys)
        assert 'name="requests_per_minute" type="text" value="1000"' in page.text
        assert "An operator allows at most 1,000." in text_of(page)
        for name in ("models", "requests_per_minute", "limit_amount"):
            refused = await person.post(keys, own | {name: ""})
            assert "an operator allows" in text_of(refused).lower(), name
        assert (await person.post(keys, own)).status_code == 200
        assert "at most 1,000" in text_of(await person.get(f"{keys}/key_2"))
        assert (await person.post(limits, own | {"requests_per_minute": "1001"})).status_code == 422
        assert (await person.post(limits, own | {"requests_per_minute": "5"})).status_code == 303
        assert (await person.post(limits, own)).status_code == 303
        renewed = await person.post(f"{keys}/key_2/rotate", {"grace_hours": "1"})
        assert "the old one ends at once" in text_of(renewed)
        free = {"requests_per_minute": "5000"}
        assert (await person.post(f"{keys}/key_1/limits", free)).status_code == 303
        assert (await operator.post(limits, own | free)).status_code == 303
        assert (await person.post(limits, own | free)).status_code == 303, "an operator said more"
        refused = await person.post(limits, own | free | {"tokens_per_minute": "901"})
        assert refused.status_code == 422
        await person.post(f"{keys}/key_2/rotate", {"grace_hours": "0"})
        limits = f"{keys}/key_3/limits"
        assert (await person.post(limits, own | {"tokens_per_minute": ""})).status_code == 422
        assert (await operator.post(path, {"limit_period": "month"})).status_code == 303
        assert books.of().ceiling == NO_CEILING
        assert (await person.post(limits, own | {"tokens_per_minute": ""})).status_code == 303


@ON_SQLITE
async def test_where_requests_cost_nothing_forms_leave_limits_of_money(books: Books) -> None:
    """They show none, and so neither take one away nor want one."""
    given = {"limit_amount": read_amount("1"), "limit_period": "day"}
    books.key(name="given", **given)
    with writing(books.connection):
        book.set_ceiling(books.connection, "acme", Ceiling(**given))
    async with signed_in(books, billing=False) as person:
        keys = "/account/acct_1/keys"
        assert 'name="limit_amount"' not in (await person.get(keys)).text
        assert (await person.post(keys, {"name": "own"})).status_code == 200
        for number in (1, 2):
            path = f"{keys}/key_{number}/limits"
            assert (await person.post(path, {"requests_per_minute": "3"})).status_code == 303
    limits = Limits(**given, requests_per_minute=3)
    assert [one.limits for one in books.all_keys()] == [limits] * 2


async def test_no_rotation_renews_a_limit_of_money(books: Books) -> None:
    """A key that replaces another goes on with what that one has spent."""
    books.upstream.script = answering(USAGE)
    key = books.key(limit_amount=read_amount("1"), limit_period="day")
    async with signed_in(books) as person:
        await ask(person.client, key)
        await settled(books, 1)
        await person.get("/account/acct_1/keys")
        await person.post("/account/acct_1/keys/key_1/rotate", {"grace_hours": "0"})
    old, new = books.all_keys()
    assert new.spent == old.spent > 0


@ON_SQLITE
async def test_the_database_away(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page says so, and does not take it for a wrong password."""
    async with signed_in(books) as person:

        async def away(*_: object) -> None:
            raise Unavailable("gone")

        monkeypatch.setattr(Database, "read", away)
        page = await person.get("/account/acct_1/")
        assert page.status_code == 503
        assert "The database does not answer" in text_of(page)
