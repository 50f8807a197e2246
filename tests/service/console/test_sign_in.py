"""Signing in: who gets in, for how long, and how often one may guess."""

from __future__ import annotations

import asyncio
import itertools
import time
from contextlib import closing
from typing import Any

import httpx
import pytest

from tests.service.accounts.conftest import TABLES
from tests.service.accounts.paying import ON_SQLITE, Books
from translator.service.accounts import browsers, passwords, people
from translator.service.console.requests import BROWSER_COOKIE, COOKIE
from translator.service.database.connection import connect, writing
from translator.service.database.statement import DatabaseTime, Statement

from .browsing import (
    MEMBER_PATHS,
    PASSWORD,
    Person,
    add_user,
    hashed,
    pages,
    signed_in,
    text_of,
)

pytestmark = pytest.mark.anyio

HOUR_S = 3600


@pytest.fixture(autouse=True)
def users(books: Books) -> None:
    books.account()
    add_user(books, "anna", "acme")
    add_user(books, "olga", None)


async def test_a_member_gets_in_and_sees_one_account(books: Books) -> None:
    books.top_up("12.345678", "r")
    async with pages(books) as person:
        first = await person.get("/account/")
        assert first.status_code == 200
        assert "Sign in" in text_of(first)
        assert "acme" not in first.text
        sent = await person.post("/account/sign-in", {"name": " Anna ", "password": PASSWORD})
        assert sent.status_code == 303
        session, browser = sent.headers.get_list("set-cookie")
        for cookie, name, days in ((session, COOKIE, 7), (browser, BROWSER_COOKIE, 90)):
            assert cookie.startswith(f"{name}=")
            assert set(cookie.split("; ")[1:]) == {
                *(f"Max-Age={days * 86_400}", "Path=/", "Secure", "HttpOnly", "SameSite=Lax")
            }
        page = await person.sign_in("anna")
        assert page.status_code == 200
        assert "acme" in text_of(page)
        assert "Balance 12.34 USD" in text_of(page)
        [(stored,)] = books.rows("SELECT token_hash FROM acct_sessions WHERE csrf <> ''")[:1]
        assert person.token not in stored
        assert people.hash_of(person.token) in {
            row[0] for row in books.rows("SELECT token_hash FROM acct_sessions")
        }


@ON_SQLITE
async def test_it_goes_on_to_the_page_that_was_asked_for(books: Books) -> None:
    async with pages(books) as person:
        page = await person.get("/account/acct_1/usage")
        assert 'name="after" value="/account/acct_1/usage"' in page.text
        sent = await person.post(
            "/account/sign-in",
            {"name": "anna", "password": PASSWORD, "after": "/account/acct_1/usage"},
        )
        assert sent.headers["location"] == "/account/acct_1/usage?welcome="
        for elsewhere in ("https://evil.example/", "//evil.example", "/account/\\evil.example"):
            sent = await person.post(
                "/account/sign-in", {"name": "anna", "password": PASSWORD, "after": elsewhere}
            )
            assert sent.headers["location"] == "/account/?welcome="


@ON_SQLITE
async def test_a_browser_without_the_cookie_is_told_of_https(books: Books) -> None:
    async with pages(books) as person:
        page = await person.get("/account/?welcome=")
        assert "HTTPS" in text_of(page)


async def test_all_failures_look_the_same(books: Books) -> None:
    async with pages(books) as person:
        seen: set[tuple[int, str]] = set()
        with writing(books.connection):
            people.set_disabled(books.connection, "olga", disabled=True)
        for name, password in (
            ("anna", "wrong horse battery"),
            ("nobody", "wrong horse battery"),
            ("olga", PASSWORD),
            ("anna", "x" * 5000),
        ):
            response = await person.post("/account/sign-in", {"name": name, "password": password})
            seen.add((response.status_code, text_of(response)))
            assert "set-cookie" not in response.headers
        assert len(seen) == 1
        assert "The name or the password is not right." in seen.pop()[1]


@ON_SQLITE
async def test_an_unknown_name_costs_what_a_known_one_does(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not measured: the same work is done, once for each attempt."""
    work: list[bytes] = []
    hasher = passwords._hasher()
    known = type(hasher).verify

    def counted(self: object, stored: str, data: bytes) -> bool:
        work.append(data)
        return known(hasher, stored, data)

    monkeypatch.setattr(type(hasher), "verify", counted)
    async with pages(books) as person:
        for name in ("anna", "nobody"):
            await person.post("/account/sign-in", {"name": name, "password": "wrong horse battery"})
    assert work == [b"wrong horse battery"] * 2
    assert not passwords.needs_rehash(passwords._NOBODY), "it costs what others cost"


async def test_sign_in_throttled(books: Books, quick: None) -> None:
    """Scenario 34: the sixth wrong password waits, over two processes; then the right one works.

    Each attempt comes from another address, by a proxy that is believed.
    """
    time_ = DatabaseTime()
    proxied: dict[str, Any] = {"trusted_proxies": ["127.0.0.0/8"]}
    addresses = (f"192.0.2.{number}" for number in itertools.count(1))
    async with (
        pages(books, time=time_, **proxied) as one,
        pages(books, time=time_, **proxied) as other,
    ):

        async def tried(person: Person, password: str) -> httpx.Response:
            fields = {"name": "anna", "password": password}
            address = next(addresses)
            return await person.post("/account/sign-in", fields, x_forwarded_for=address)

        for number in range(5):
            assert (await tried((one, other)[number % 2], "no")).status_code == 401
        for person in (other, one):
            response = await tried(person, PASSWORD)
            assert response.status_code == 429
            assert response.headers["retry-after"] == "1"
            assert "Try again in 1 second." in text_of(response)
        time_.offset_s += 1.1
        assert (await tried(other, "no")).status_code == 401
        assert (await tried(one, "no")).headers["retry-after"] == "2"
        time_.offset_s += 2.1
        assert (await tried(one, PASSWORD)).status_code == 303
        assert (await tried(other, "no")).status_code == 401, "the name begins anew"


async def test_many_names_from_one_address_are_throttled(books: Books, quick: None) -> None:
    time_ = DatabaseTime()
    async with pages(books, time=time_) as person:
        for number in range(5):
            response = await person.post(
                "/account/sign-in", {"name": f"n{number}", "password": "no"}
            )
            assert response.status_code == 401
        response = await person.post("/account/sign-in", {"name": "anna", "password": PASSWORD})
        assert response.status_code == 429
        time_.offset_s += 1.1
        assert (await person.sign_in("anna")).status_code == 200
        response = await person.post("/account/sign-in", {"name": "n9", "password": "no"})
        assert response.status_code == 401, "a sign-in that goes well is no failure"
        response = await person.post("/account/sign-in", {"name": "n9", "password": "no"})
        assert response.headers["retry-after"] == "2", "nor does it buy more guesses"


async def test_a_known_browser_is_not_kept_out_by_strangers(books: Books, quick: None) -> None:
    """Of its own user alone, and with as many failures as anybody has."""
    time_ = DatabaseTime()
    async with pages(books, time=time_) as person, pages(books, time=time_) as stranger:
        await person.sign_in("anna")
        known = person.browser
        assert known
        assert known not in str(books.rows("SELECT * FROM acct_browsers"))
        person.token = ""

        async def tried(one: Person, name: str, password: str) -> int:
            fields = {"name": name, "password": password}
            return (await one.post("/account/sign-in", fields)).status_code

        for _ in range(8):
            await tried(stranger, "anna", "no")
        assert await tried(stranger, "anna", PASSWORD) == 429
        assert await tried(person, "gus", PASSWORD) == 429, "it is a stranger for others"
        assert await tried(person, "anna", PASSWORD) == 303
        assert person.browser == known
        before = books.rows("SELECT * FROM acct_attempts ORDER BY subject")
        assert [await tried(person, "anna", "no") for _ in range(5)] == [401] * 5
        assert await tried(person, "anna", PASSWORD) == 429
        after = books.rows("SELECT * FROM acct_attempts ORDER BY subject")
        assert [row for row in after if not row[0].startswith("browser ")] == before
        time_.offset_s += 1.1
        assert await tried(person, "anna", PASSWORD) == 303
        assert books.rows("SELECT * FROM acct_attempts ORDER BY subject") == before


async def test_no_secret_of_a_person_is_kept_or_told(
    books: Books, quick: None, caplog: pytest.LogCaptureFixture
) -> None:
    """Passwords, and the tokens of sessions and browsers: on no page, in no table and no log."""
    caplog.set_level("DEBUG")
    async with signed_in(books) as person:
        texts = [(await person.get("/metrics")).text]
        shown = [(await person.get(f"/account/acct_1{path}")).text for path in MEMBER_PATHS]
        secrets = (PASSWORD, person.token, person.browser, books.location.target)
    assert all(secrets)
    tables = {table: repr(books.rows(f"SELECT * FROM acct_{table}")) for table in TABLES}
    texts += [*shown, *tables.values(), *(record.getMessage() for record in caplog.records)]
    assert "acme" in "".join(texts)
    for secret in secrets[:3]:
        assert not [text for text in texts if secret in text]
    assert not [text for text in (*shown, *texts[:1]) if secrets[-1] in text]


async def test_browsers_are_forgotten(books: Books, quick: None) -> None:
    """After a new password, disabling, 90 days, and where there are more than ten."""
    time_ = DatabaseTime()
    connection = books.connection

    def known(token: str) -> bool:
        with writing(connection):
            return bool(people.attempt(connection, "anna", "192.0.2.1", token).browser)

    async with pages(books, time=time_) as person:
        for how in ("password", "disabled"):
            await person.sign_in("anna")
            assert known(person.browser)
            with writing(connection):
                if how == "password":
                    people.set_password(connection, "anna", hashed())
                else:
                    people.set_disabled(connection, "anna", disabled=True)
                    people.set_disabled(connection, "anna", disabled=False)
            assert not known(person.browser)
        tokens: list[str] = []
        for _ in range(browsers.MAX_BROWSERS + 1):
            person.browser = ""
            await person.sign_in("anna")
            tokens.append(person.browser)
        assert [known(token) for token in tokens] == [False] + [True] * browsers.MAX_BROWSERS
        for token in ("x", "\ud800", tokens[1] + "x"):
            assert not known(token)
        connection.time.offset_s += browsers.KNOWN_US / 1e6 + 60
        assert not known(tokens[-1])
        time_.offset_s = connection.time.offset_s
        person.browser = ""
        await person.sign_in("anna")
    assert len(books.rows("SELECT token_hash FROM acct_browsers")) == 1


async def test_many_at_once_are_many(books: Books, quick: None) -> None:
    """Each attempt is counted before its password is checked."""
    async with pages(books) as person:
        sent = [
            person.client.post(
                "/account/sign-in",
                data={"name": "anna", "password": "no"},
                headers={"sec-fetch-site": "same-origin"},
            )
            for _ in range(20)
        ]
        statuses = [one.status_code for one in await asyncio.gather(*sent)]
    assert statuses.count(401) == 5
    assert statuses.count(429) == 15


@ON_SQLITE
async def test_pauses_double_to_a_quarter_of_an_hour() -> None:
    pauses = [people.pause_us(count) // people.SECOND_US for count in range(3, 20)]
    assert pauses[:5] == [0, 0, 1, 2, 4]
    assert pauses[-1] == 900
    assert people.pause_us(10**6) == 900 * people.SECOND_US


async def test_a_session_ends_when_it_is_idle_or_old(books: Books, quick: None) -> None:
    time_ = DatabaseTime()
    async with signed_in(books, time=time_) as person:
        for _ in range(15):  # in use, and so not idle
            time_.offset_s += 11 * HOUR_S
            page = await person.get("/account/acct_1/")
            assert "acme" in text_of(page)
        time_.offset_s += 4 * HOUR_S
        assert "Sign in" in text_of(await person.get("/account/acct_1/")), "older than 7 days"
        await person.sign_in("anna")
        time_.offset_s += 12 * HOUR_S + 1
        assert "Sign in" in text_of(await person.get("/account/acct_1/")), "idle for 12 hours"


async def test_the_old_cookie_gets_the_sign_in_page(books: Books, quick: None) -> None:
    """Scenario 35: after signing out, a new password, or disabling."""
    async with pages(books) as person:
        for how in ("sign-out", "password", "disabled"):
            page = await person.sign_in("anna")
            assert page.status_code == 200
            assert "acme" in text_of(page)
            old = person.token
            if how == "sign-out":
                response = await person.post("/account/sign-out")
                assert response.status_code == 303
                assert "Max-Age=0" in response.headers["set-cookie"]
            else:
                with writing(books.connection):
                    if how == "password":
                        people.set_password(books.connection, "anna", hashed())
                    else:
                        people.set_disabled(books.connection, "anna", disabled=True)
            person.token = old
            for path in ("/account/acct_1/", "/account/acct_1/keys"):
                page = await person.get(path)
                assert "Sign in" in text_of(page), how
                assert "acme" not in page.text
            before = books.rows("SELECT count(*) FROM acct_keys")
            await person.post("/account/acct_1/keys", {"name": "late", "csrf": "x"})
            assert books.rows("SELECT count(*) FROM acct_keys") == before


async def test_a_session_has_a_token_of_its_own_at_each_sign_in(books: Books, quick: None) -> None:
    async with pages(books) as person:
        tokens: set[str] = set()
        for _ in range(people.MAX_SESSIONS + 3):
            await person.sign_in("anna")
            tokens.add(person.token)
        assert len(tokens) == people.MAX_SESSIONS + 3
    assert len(books.rows("SELECT token_hash FROM acct_sessions")) == people.MAX_SESSIONS


async def test_the_own_password_is_changed(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    new = "another horse battery"
    async with signed_in(books) as person:
        await person.get("/account/password")
        for fields, why in (
            ({"password": PASSWORD, "new": "short", "again": "short"}, "at least 12"),
            ({"password": PASSWORD, "new": new, "again": new + "!"}, "not the same"),
            ({"password": "wrong horse battery", "new": new, "again": new}, "not right"),
            ({"password": PASSWORD, "new": "ä" * 600, "again": "ä" * 600}, "at most 1024"),
        ):
            response = await person.post("/account/password", fields)
            assert response.status_code == 422
            assert why in text_of(response)
        done = await person.post(
            "/account/password", {"password": PASSWORD, "new": new, "again": new}
        )
        assert done.headers["location"] == "/account/sign-in?done=password"
        assert "Sign in" in text_of(await person.get("/account/acct_1/"))
        assert (await person.sign_in("anna", PASSWORD)).status_code == 401
        assert (await person.sign_in("anna", new)).status_code == 200
    [(stored,)] = books.rows("SELECT password FROM acct_users WHERE name = 'anna'")
    assert stored.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert new not in str(books.rows("SELECT * FROM acct_audit"))


@ON_SQLITE
async def test_a_weaker_hash_is_made_anew_at_sign_in(books: Books) -> None:
    from argon2 import PasswordHasher

    weak = PasswordHasher(time_cost=1, memory_cost=1024).hash(PASSWORD)
    books.change("UPDATE acct_users SET password = :weak WHERE name = 'anna'", weak=weak)
    async with signed_in(books) as person:
        [(stored,)] = books.rows("SELECT password FROM acct_users WHERE name = 'anna'")
        assert "m=65536,t=3,p=4" in stored
        assert (await person.get("/account/acct_1/")).status_code == 200, "the session lasts"
        assert (await person.sign_in("anna")).status_code == 200


@ON_SQLITE
async def test_too_many_passwords_at_once_are_refused(books: Books) -> None:
    checks = passwords.Passwords()
    checks._waiting = passwords.MAX_WAITING
    with pytest.raises(passwords.Busy):
        await checks.verify(None, "x")


@ON_SQLITE
async def test_failures_are_forgotten(books: Books) -> None:
    with closing(connect(books.location, DatabaseTime())) as connection:
        with writing(connection):
            for _ in range(7):
                people.attempt(connection, "anna", "192.0.2.1")
        connection.time.offset_s = 25 * HOUR_S
        with writing(connection):
            assert people.attempt(connection, "ben", "192.0.2.2").wait_us == 0
    rows = books.rows("SELECT subject FROM acct_attempts ORDER BY subject")
    assert rows == [("address 192.0.2.2",), ("name ben",)]


@ON_SQLITE
async def test_names_that_were_tried_do_not_fill_the_disk(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(people, "MAX_SUBJECTS", 10)
    with writing(books.connection):
        for number in range(30):
            people.attempt(books.connection, f"n{number}", f"192.0.2.{number}")
    assert len(books.rows("SELECT subject FROM acct_attempts")) == 10


@ON_SQLITE
async def test_pages_answer_while_a_password_is_checked(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is checked in a thread, beside streams."""

    def slow(stored: str | None, text: str) -> bool:
        time.sleep(0.3)
        return False

    monkeypatch.setattr(passwords, "verify", slow)
    async with pages(books) as person:
        other = Person(person.client)
        signing_in = asyncio.create_task(
            other.post("/account/sign-in", {"name": "anna", "password": "no"})
        )
        await asyncio.sleep(0)
        assert (await person.client.get("/healthz")).status_code == 200
        assert not signing_in.done()
        assert (await signing_in).status_code == 401


@pytest.mark.parametrize("by", ["unlock", "password"])
async def test_an_operator_ends_the_pause_of_a_name(books: Books, quick: None, by: str) -> None:
    """Failures of others keep nobody out for longer than an operator lets them."""
    async with signed_in(books, "olga") as operator, pages(books) as person:
        many = Statement("UPDATE acct_attempts SET failures = 12 WHERE subject = 'name anna'")
        with writing(books.connection):
            people.attempt(books.connection, "anna", "192.0.2.1")
            books.connection.change(many, {})
            anna = people.user(books.connection, "anna")
        assert (await person.sign_in("anna")).status_code == 429
        page = f"/account/operator/users/user_{anna.id}"
        await operator.get(page)
        assert (await operator.post(f"{page}/{by}", {"password": PASSWORD})).status_code == 303
        assert (await person.sign_in("anna")).status_code == 200
