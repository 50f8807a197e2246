"""The pages of members and operators: what they show, what they change, and to whom."""

from __future__ import annotations

import csv
import io
import re
import time
from typing import Any

import httpx
import pytest

from tests.service.accounts.paying import (
    ON_SQLITE,
    PRICES,
    USAGE,
    Books,
    answering,
    ask,
    settled,
)
from translator.service.accounts import books as book
from translator.service.accounts import changes, channel_book, people, price_book
from translator.service.accounts import usage as query
from translator.service.accounts.ceilings import Limits
from translator.service.accounts.keys import Channel
from translator.service.accounts.member_channels import EVERY, set_member_channels
from translator.service.accounts.money import read_amount, shown
from translator.service.console import usage as console_usage
from translator.service.console.requests import COOKIE
from translator.service.console.usage import safe_cell
from translator.service.database.connection import writing
from translator.service.database.statement import DatabaseTime

from .browsing import MEMBER_PATHS, OPERATOR_PATHS, Person, pages, signed_in, text_of

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("furnished")]

MALICE = "<img src=x onerror=1>"


def key_in(response: httpx.Response) -> str:
    found = re.search(r"trk_[0-9a-f]{16}_[A-Za-z0-9_-]{43}", response.text)
    assert found is not None
    return found[0]


async def made(person: Person, account: str = "acct_1", **fields: str) -> str:
    """A key that is made on the page."""
    await person.get(f"/account/{account}/keys")
    response = await person.post(f"/account/{account}/keys", {"name": "laptop"} | fields)
    assert response.status_code == 200, text_of(response)
    assert response.headers["cache-control"] == "no-store"
    return key_in(response)


# --- keys ----------------------------------------------------------------------------------------


async def test_key_shown_once(books: Books) -> None:
    """Scenario 2: on the answer to the POST, and nowhere else."""
    books.upstream.script = answering(USAGE)
    async with signed_in(books) as person:
        key = await made(person)
        assert (await ask(person.client, key)).status_code == 200
        for path in ("keys", "keys/key_1", "connect", "channels", "usage", ""):
            page = await person.get(f"/account/acct_1/{path}")
            assert page.status_code == 200
            assert key[-20:] not in page.text
        listed = await person.get("/account/acct_1/keys")
        assert f"trk_{key[4:10]}…" in listed.text
        again = await person.post("/account/acct_1/keys", {"name": "laptop"})
        assert again.status_code == 422, "the same form once more makes no second key"
    for table in ("keys", "audit", "ledger", "usages", "holds", "sessions"):
        assert key[-20:] not in str(books.rows(f"SELECT * FROM acct_{table}"))


async def test_a_key_has_the_limits_of_its_form_and_others_later(books: Books) -> None:
    with writing(books.connection):
        channel = Channel("fast", "Fast models", ("m",), price_book.STANDARD)
        channel_book.set_channel(books.connection, channel)
        set_member_channels(books.connection, 1, EVERY)
    async with signed_in(books) as person:
        await made(
            person,
            requests_per_minute="60",
            tokens_per_minute="100 000",
            max_concurrent_requests="3",
            limit_amount="2.5",
            limit_period="week",
            models="m, other",
            expires_at="2099-01-31T12:00",
            channels="",
            channel="fast",
        )
        [one] = books.all_keys()
        assert one.limits == Limits(
            channels=("fast",),
            models=("m", "other"),
            requests_per_minute=60,
            tokens_per_minute=100_000,
            max_concurrent_requests=3,
            limit_amount=read_amount("2.5"),
            limit_period="week",
            expires_at=4_073_544_000_000_000,
        )
        page = await person.get("/account/acct_1/keys/key_1")
        assert 'value="2.50"' in page.text
        assert 'value="2099-01-31T12:00"' in page.text
        done = await person.post(
            "/account/acct_1/keys/key_1/limits",
            {"limit_period": "month", "channels": "", "channel": ["fast", "all"]},
        )
        assert done.status_code == 303
        [one] = books.all_keys()
        assert one.limits == Limits(channels=("fast", "all"))
        done = await person.post("/account/acct_1/keys/key_1/rename", {"name": "desk"})
        assert done.headers["location"] == "/account/acct_1/keys/key_1?done=renamed"
        page = await person.get(done.headers["location"])
        assert "The key has its new name." in text_of(page)
        assert books.all_keys()[0].name == "desk"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"name": ""}, "The name of a key is printable"),
        ({"name": "a\u202eb"}, "The name of a key is printable"),
        ({"requests_per_minute": "-1"}, "The limit of requests is a whole number"),
        ({"tokens_per_minute": "9" * 30}, "The limit of tokens is a whole number"),
        ({"tokens_per_minute": "0" * 20 + "9" * 30}, "The limit of tokens is a whole number"),
        ({"tokens_per_minute": "0" * 9000 + "9" * 5000}, "The limit of tokens is a whole number"),
        ({"requests_per_minute": "000"}, "The limit of requests is a whole number"),
        ({"limit_amount": "1e3"}, "'1e3' is no decimal number"),
        ({"limit_amount": "-1"}, "A limit is 0 or more"),
        ({"limit_amount": "1", "limit_period": "year"}, "A limit is of a day"),
        ({"models": "nothing"}, "There is no model 'nothing'"),
        ({"models": "*"}, "is no name of a model"),
        ({"expires_at": "soon"}, "The time is one such as"),
        ({"expires_at": "9999-12-31T23:59-23:00"}, "The time is one such as"),
        ({"channel": ["gold", "all"]}, "There are not so many channels"),
        ({"channel": "gold"}, "There is no channel 'gold'"),
        ({"channels": ""}, "A key needs a channel"),
    ],
)
@ON_SQLITE
async def test_a_wrong_form_says_why_and_keeps_what_was_written(
    books: Books, fields: dict[str, Any], why: str
) -> None:
    async with signed_in(books) as person:
        await person.get("/account/acct_1/keys")
        sent = {"name": "mine", "max_concurrent_requests": "7", "limit_period": "day"} | fields
        response = await person.post("/account/acct_1/keys", sent)
        assert response.status_code == 422
        assert why in text_of(response)
        assert 'value="7"' in response.text
        assert not books.all_keys()


async def test_a_form_orders_the_channels_of_a_key(books: Books) -> None:
    """The first one that has a model says what it costs: so their places are numbers."""
    with writing(books.connection):
        for name in ("fast", "slow"):
            channel = Channel(name, name.title(), ("m",), price_book.STANDARD)
            channel_book.set_channel(books.connection, channel)
    books.key(name="given", channels=("fast", "all"))
    limits = "/account/acct_1/keys/key_1/limits"
    async with signed_in(books, "olga") as operator, signed_in(books) as person:
        page = await operator.get("/account/acct_1/keys/key_1")
        places = re.findall(r'name="place (\w+)" value="(\d*)"', page.text)
        assert places == [("fast", "1"), ("all", "2"), ("slow", "")]
        form = {"channel": ["fast", "all", "slow"], "place fast": "3", "place all": "1"}
        assert (await operator.post(limits, form | {"place slow": "2"})).status_code == 303
        assert books.all_keys()[0].limits.channels == ("all", "slow", "fast")
        assert (await operator.post(limits, form | {"place slow": ""})).status_code == 303
        assert books.all_keys()[0].limits.channels == ("all", "fast", "slow")
        for place, why in (("1", "two channels have the place 1"), ("x", "a whole number from 1")):
            refused = await operator.post(
                limits, form | {"place slow": place, "limit_period": "day"}
            )
            assert why in text_of(refused).lower()
            assert f'name="place slow" value="{place}"' in refused.text
        page = await person.get("/account/acct_1/keys/key_1")
        assert 'name="place ' not in page.text
        assert "An operator gave their order." in text_of(page)
        assert (await person.post(limits, form | {"place slow": "9"})).status_code == 303
        assert books.all_keys()[0].limits.channels == ("all", "fast", "slow")


@ON_SQLITE
@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(("1000", 1000), ("1,000", 1000), ("1 000 000", 10**6), ("1\u202f000", 1000), ("007", 7)),
        *((text, None) for text in ("1,2,3", "1,0000", "1,000 000", "12,00", ",100", "1.5", "-1")),
    ],
)
async def test_numbers_have_groups_of_three_or_none(
    books: Books, text: str, number: int | None
) -> None:
    books.key()
    async with signed_in(books, "olga") as person:
        answer = await person.post(
            "/account/acct_1/keys/key_1/limits", {"requests_per_minute": text}
        )
        if number is None:
            assert "is a whole number from 1 to 1000000000000, such as" in text_of(answer)
    assert books.all_keys()[0].limits.requests_per_minute == number


async def test_a_key_is_rotated_and_revoked(books: Books) -> None:
    books.upstream.script = answering(USAGE)
    async with signed_in(books) as person:
        old = await made(person)
        await person.get("/account/acct_1/keys/key_1/rotate")
        response = await person.post("/account/acct_1/keys/key_1/rotate", {"grace_hours": "2"})
        new = key_in(response)
        assert new != old
        assert "works until" in text_of(response)
        for key in (old, new):
            assert (await ask(person.client, key)).status_code == 200
        asked = await person.get("/account/acct_1/keys/key_2/revoke")
        assert "Revoke laptop?" in text_of(asked)
        assert (await ask(person.client, new)).status_code == 200, "a question changes nothing"
        done = await person.post("/account/acct_1/keys/key_2/revoke")
        assert done.headers["location"] == "/account/acct_1/keys?done=revoked"
        assert (await ask(person.client, new)).status_code == 401
        assert (await ask(person.client, old)).status_code == 200
        for what in ("rename", "limits"):
            refused = await person.post(f"/account/acct_1/keys/key_2/{what}", {"name": "x"})
            assert refused.status_code == 422
            assert "revoked, for ever" in text_of(refused)
    actions = [row[0] for row in books.rows("SELECT action FROM acct_audit ORDER BY id")]
    assert actions == ["sign in", "add key", "rotate key", "revoke key"]


# --- what is shown -------------------------------------------------------------------------------


async def test_escaping(books: Books) -> None:
    """Scenario 36: a name is text on all pages, and no cell of a CSV is a formula."""
    books.upstream.script = answering(USAGE)
    with writing(books.connection):
        channel_book.set_channel(
            books.connection, Channel(MALICE, MALICE, ("*",), price_book.STANDARD)
        )
        book.add_account(books.connection, MALICE)
        people.add_user(books.connection, "<b>mallory", MALICE, "x")
    formula = '=HYPERLINK("http://evil.example")'
    key = books.key(name=formula)
    named = books.key(name=MALICE, channels=(MALICE,))
    books.top_up("1", f"@{MALICE}")
    async with signed_in(books, "olga") as person:
        for one in (key, named):
            assert (await ask(person.client, one)).status_code == 200
        await settled(books, 2)
        for path in (
            *(f"/account/acct_1{path}" for path in MEMBER_PATHS if ".csv" not in path),
            *("/account/acct_1/keys/key_2", "/account/acct_1/channels?key=key_2"),
            *(f"/account/operator{path}" for path in OPERATOR_PATHS),
            f"/account/acct_1/keys?done={MALICE}",
            f"/account/acct_1/usage?model={MALICE}&start={MALICE}",
        ):
            page = await person.get(path)
            assert page.status_code == 200
            assert "<img src=x" not in page.text, path
            assert "<b>mallory" not in page.text
        assert MALICE in text_of(await person.get("/account/acct_1/keys"))
        for path in ("usage.csv", "usage.csv?rows=requests", "ledger.csv"):
            answer = await person.get(f"/account/acct_1/{path}")
            assert answer.headers["content-disposition"].startswith("attachment")
            rows = list(csv.reader(io.StringIO(answer.text)))
            assert len(rows) >= 3
            assert {len(row) for row in rows} == {len(rows[0])}
            assert not [cell for row in rows for cell in row if cell[:1] in tuple("=+-@\t\r")]
            if path != "ledger.csv":
                assert [f"'{formula}" in row for row in rows].count(True) == 1


@ON_SQLITE
async def test_cells(books: Books) -> None:
    assert [safe_cell(one) for one in ("=1", "+1", "-1+1", "@a", "\tx", "a=1", 7, "-1.50", "")] == [
        *("'=1", "'+1", "'-1+1", "'@a", "'\tx", "a=1", "7", "-1.50", "")
    ]


async def test_two_totals(books: Books) -> None:
    """Scenario 40: overview, usage page, CSVs and ledger have the same sum for the same days."""
    books.upstream.script = answering(USAGE)
    key, other = books.key(), books.key(name="ci")
    noon = DatabaseTime(129_600 - time.time() % 86_400)  # tomorrow: no day ends meanwhile
    async with signed_in(books, time=noon) as person:
        for one in (key, key, other):
            assert (await ask(person.client, one)).status_code == 200
        await settled(books, 3)
        total = shown(3 * 4_600_000_000)
        assert total == "0.0138"
        overview = text_of(await person.get("/account/acct_1/"))
        assert overview.count("0.013800") == 5, "today, this month, by day twice, by model"
        usage = await person.get("/account/acct_1/usage")
        assert f'title="{total}"' in usage.text
        by_day = await person.get("/account/acct_1/usage.csv")
        rows = list(csv.DictReader(io.StringIO(by_day.text)))
        assert sum(read_amount(row["amount"]) for row in rows) == read_amount(total)
        assert sum(int(row["requests"]) for row in rows) == 3
        single = await person.get("/account/acct_1/usage.csv?rows=requests")
        rows = list(csv.DictReader(io.StringIO(single.text)))
        assert sum(read_amount(row["amount"]) for row in rows) == read_amount(total)
        assert len(rows) == 3
        ledger = await person.get("/account/acct_1/ledger.csv")
        rows = list(csv.DictReader(io.StringIO(ledger.text)))
        taken = sum(read_amount(row["taken"]) for row in rows if row["kind"] == "usage")
        assert taken == read_amount(total)
        assert read_amount(rows[0]["balance"]) == books.balance()
        one_key = await person.get("/account/acct_1/usage.csv?key=key_2")
        [row] = csv.DictReader(io.StringIO(one_key.text))
        assert row["amount"] == "0.0046"
        assert row["key name"] == "ci"


async def test_an_estimate_is_marked(books: Books) -> None:
    """Scenario 16: the page says ~ where the upstream did not say what was used."""
    books.upstream.script = answering(None)
    key = books.key()
    async with signed_in(books) as person:
        await ask(person.client, key, stream=True)
        await settled(books, 1)
        page = await person.get("/account/acct_1/usage")
        assert re.search(r"~\s*</abbr>", page.text)
        assert re.search(r">~\d", page.text)


async def test_pages_of_a_hundred(books: Books) -> None:
    """Further ones are found by the id that a page ended with."""
    for number in range(130):
        books.top_up("0.01", f"r{number}")
    async with signed_in(books) as person:
        first = await person.get("/account/acct_1/ledger")
        refs = re.findall(r">(r\d+)<", first.text.replace("</td>", "<"))
        assert len(refs) == 100
        assert refs[0] == "r129"
        onward = re.search(r'rel="next" href="([^"]+)"', first.text)
        assert onward is not None
        second = await person.get(onward[1].replace("&amp;", "&"))
        more = re.findall(r">(r\d+)<", second.text.replace("</td>", "<"))
        assert len({*refs, *more}) == 130
        assert 'rel="next"' not in second.text
        odd = await person.get("/account/acct_1/usage?start=2027-02-31")
        assert "start: a day is one such as" in text_of(odd)
        odd = await person.get("/account/acct_1/usage?start=2027-02-03&end=2027-02-01")
        assert "end: the first day is after the last one." in text_of(odd)


@ON_SQLITE
async def test_a_csv_goes_on_where_one_ended(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has many rows, read in pages; what is beyond it comes by the id that it ended with."""
    monkeypatch.setattr(query, "MAX_ROWS", 10)
    monkeypatch.setattr(console_usage, "CSV_ROWS", 25)
    for number in range(40):
        books.top_up("0.01", f"r{number}")
    async with signed_in(books) as person:
        first = await person.get("/account/acct_1/ledger.csv")
        rows = list(csv.DictReader(io.StringIO(first.text)))
        assert [row["reference"] for row in rows] == [f"r{number}" for number in range(39, 14, -1)]
        second = await person.get(f"/account/acct_1/ledger.csv?before={rows[-1]['id']}")
        rows = list(csv.DictReader(io.StringIO(second.text)))
        assert [row["reference"] for row in rows] == [
            *(f"r{number}" for number in range(14, -1, -1)),
            "first-acme",
        ]


@ON_SQLITE
async def test_rights_to_tools(books: Books) -> None:
    """Where the service runs tools, a key and a channel say which of them."""
    tools = {"search": {"backend": "brave", "key_env": "UP_KEY"}}
    async with signed_in(books, tools=tools) as person:
        await made(person, tools="mcp:docs, search")
        assert books.all_keys()[0].tools == ("mcp:docs", "search")
        page = await person.get("/account/acct_1/keys/key_1")
        assert 'value="mcp:docs, search"' in page.text
        for text, kept in (("none", ()), ("", None)):
            await person.post("/account/acct_1/keys/key_1/limits", {"tools": text})
            assert books.all_keys()[0].tools == kept
        wrong = await person.post("/account/acct_1/keys/key_1/limits", {"tools": "shell"})
        assert wrong.status_code == 422
        assert "'shell' is no tool" in text_of(wrong)
        await person.sign_in("olga")
        fields = {"name": "all", "title": "All", "models": "*", "tools": "search"}
        await person.post("/account/operator/channels", fields)
        assert books.rows("SELECT tools FROM acct_channels") == [('["search"]',)]
        page = await person.get("/account/operator/channels?edit=all")
        assert 'value="search"' in page.text


async def test_available_channels(books: Books) -> None:
    """What a key can use: the prices in force, and the next change."""
    with writing(books.connection):
        at = changes.now(books.connection) + 86_400_000_000
        price_book.set_price(
            books.connection,
            price_book.PriceRow("m", input=PRICES.input * 2, output=PRICES.output * 2, from_at=at),
            "tests",
        )
    books.key()
    async with signed_in(books) as person:
        page = text_of(await person.get("/account/acct_1/channels"))
        assert "m All models" in page
        assert "0.60 0.10 0.75 2.50" in page
        assert "input 1.20, cached input as input, output 5.00" in page
        assert "other" not in page, "it has no price"
        connect = await person.get("/account/acct_1/connect")
        for client in ("curl", "python", "node", "codex", "opencode"):
            assert f'<pre id="snippet-{client}"' in connect.text
        assert "http://gateway/v1" in connect.text
        assert 'id="snippet-codex-profile-m"' in connect.text


@ON_SQLITE
async def test_the_base_url_is_that_of_the_settings_or_of_the_visitor(books: Books) -> None:
    books.key()
    async with signed_in(books, public_url="https://gateway.example/") as person:
        page = await person.get("/account/acct_1/connect")
        assert '<code id="base-url">https://gateway.example/v1</code>' in page.text
    async with signed_in(books, trusted_proxies=["127.0.0.1"]) as person:
        page = await person.get("/account/acct_1/connect", x_forwarded_proto="https")
        assert '<code id="base-url">https://gateway/v1</code>' in page.text
    async with signed_in(books) as person:
        page = await person.get("/account/acct_1/connect", x_forwarded_proto="https")
        assert '<code id="base-url">http://gateway/v1</code>' in page.text


@ON_SQLITE
async def test_without_billing_there_is_no_money(books: Books) -> None:
    books.upstream.script = answering(USAGE)
    key = books.key()
    async with signed_in(books, billing=False) as person:
        assert (await ask(person.client, key)).status_code == 200
        await settled(books, 1)
        for path in ("/", "/keys", "/keys/key_1", "/channels", "/usage", "/connect"):
            page = await person.get(f"/account/acct_1{path}")
            assert page.status_code == 200
            assert "Balance" not in page.text, path
            assert "USD" not in page.text, path


@ON_SQLITE
async def test_pages_can_be_left_out(books: Books) -> None:
    async with pages(books, dashboard=False) as person:
        response = await person.client.get("/account/")
        assert response.status_code == 404
        assert response.json()["error"]["type"] == "invalid_request_error"


@ON_SQLITE
async def test_odd_requests(books: Books) -> None:
    async with signed_in(books) as person:
        await person.get("/account/acct_1/keys")
        headers = person.headers(sec_fetch_site="same-origin")
        for sent, status in (
            ({"json": {"csrf": person.csrf, "name": "x"}}, 400),
            (
                {
                    "content": b"\xff",
                    "headers": {"content-type": "application/x-www-form-urlencoded"},
                },
                400,
            ),
            ({"data": {"name": "x" * 70_000, "csrf": person.csrf}}, 413),
            ({"data": {f"f{number}": "" for number in range(600)}}, 400),
        ):
            sent_headers = headers | sent.pop("headers", {})
            response = await person.client.post(
                "/account/acct_1/keys", **sent, headers=sent_headers
            )
            assert response.status_code == status
        for method in ("PUT", "DELETE"):
            response = await person.client.request(method, "/account/acct_1/keys", headers=headers)
            assert response.status_code == 405
        assert (await person.client.head("/account/acct_1/", headers=headers)).status_code == 200
        assert (await person.client.get("/account", headers=headers)).status_code == 303
        junk = {"cookie": f"a=b; {COOKIE}=%00\u00e4; c".encode()}
        assert "Sign in" in (await person.client.get("/account/acct_1/", headers=junk)).text
        assert not books.all_keys()


@ON_SQLITE
@pytest.mark.parametrize("path", ["/usage.csv", "/usage.csv?rows=requests", "/ledger.csv"])
async def test_a_table_of_an_unreadable_range_is_refused(books: Books, path: str) -> None:
    """A program that asks for it must not take other rows for those of its range."""
    mark = "&" if "?" in path else "?"
    async with signed_in(books) as person:
        for query, field in (
            ("start=abc", "start"),
            ("end=2027-02-30", "end"),
            ("start=2027-02-01&end=2027-01-01", "end"),
            ("key=abc", "key"),
            ("before=x", "before"),
        ):
            refused = await person.get(f"/account/acct_1{path}{mark}{query}")
            assert refused.status_code == 400, query
            assert refused.text.startswith(f"{field}: ")
