"""What the owner of a key asks about it: balance, limits and usage, and of nobody else's."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

import httpx
import jsonschema
import pytest
from msgspec.structs import replace

from tests.service.wire import ScriptedUpstream
from translator.service.accounts import usage
from translator.service.accounts.bills import Counts
from translator.service.accounts.money import PICO, read_amount, shown
from translator.service.accounts.periods import DAY_US, next_period, shown_time
from translator.service.accounts.price_book import PriceRow
from translator.service.accounts.usage_report import MAX_DAYS, MAX_RESULTS
from translator.service.database.connection import reading
from translator.service.http import account_endpoints
from translator.service.http.account_layer import AccountLayer

from .paying import COST, ON_SQLITE, PRICES, USAGE, Books, answering, ask, bearer, chat, settled
from .spending import spend

pytestmark = pytest.mark.anyio

U = Counts(12_000, 8_000, 1_000, 500, 400)
DAY_S = 86_400.0
METERS = (
    "/v1/key",
    "/v1/credits",
    "/v1/dashboard/billing/subscription",
    "/v1/dashboard/billing/usage",
    "/api/codex/usage",
    "/v1/usage",
)


async def got(client: httpx.AsyncClient, key: str, path: str, **query: Any) -> Any:
    answer = await client.get(path, params=query, headers=bearer(key))
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return json.loads(answer.text, parse_float=Decimal)


async def test_a_meter_reads_key_and_credits(books: Books, key: str) -> None:
    limited = books.key(
        name="ben",
        limit_amount=read_amount("0.01"),
        limit_period="month",
        requests_per_minute=60,
        expires_at=4_102_444_800_000_000,
    )
    async with books.service() as client:
        for text in (key, limited):
            assert (await ask(client, text, max_output_tokens=300)).status_code == 200
        await settled(books, 2)
        own = (await got(client, key, "/v1/key"))["data"]
        assert own["label"] == books.found(key).shown
        assert (own["limit"], own["limit_remaining"], own["limit_reset"]) == (None, None, None)
        for name in ("usage", "usage_daily", "usage_weekly", "usage_monthly"):
            assert own[name] == Decimal("0.0046")
        assert own["rate_limit"] == {"requests": -1, "interval": "1m"}
        assert own["available"] == own["spendable"] == "0.9908"
        other = (await got(client, limited, "/v1/key"))["data"]
        assert (other["limit"], other["limit_remaining"]) == (Decimal("0.01"), Decimal("0.0054"))
        assert other["limit_reset"] == "monthly"
        assert (other["available"], other["spendable"]) == ("0.9908", "0.0054")
        assert other["expires_at"] == "2100-01-01T00:00:00Z"
        assert other["rate_limit"]["requests"] == 60
        paid = (await got(client, key, "/v1/credits"))["data"]
        assert (paid["total_credits"], paid["total_usage"]) == (1, Decimal("0.0092"))


async def test_a_switcher_made_for_one_api_reads_what_is_left(books: Books, key: str) -> None:
    """Its balance is the limit less the usage, which it takes for hundredths."""
    async with books.service() as client:
        await ask(client, key)
        await settled(books, 1)
        for root in ("/v1", ""):
            limit = await got(client, key, f"{root}/dashboard/billing/subscription")
            used = await got(
                client, key, f"{root}/dashboard/billing/usage", start_date="2026-01-01"
            )
            assert limit["object"] == "billing_subscription"
            assert limit["access_until"] == 0
            assert used == {"object": "list", "total_usage": Decimal("0.46")}
            assert limit["hard_limit_usd"] - used["total_usage"] / 100 == Decimal("0.9954")
            assert limit["hard_limit_usd"] == limit["system_hard_limit_usd"]


async def test_codex_reads_the_balance_and_the_limit(books: Books, key: str) -> None:
    limited = books.key(name="ben", limit_amount=COST * 4, limit_period="week")
    spend(books, books.found(limited), U)
    async with books.service() as client:
        assert await got(client, key, "/api/codex/usage") == {
            "plan_type": "unknown",
            "rate_limit": None,
            "credits": {"has_credits": True, "unlimited": False, "balance": "0.99"},
        }
        found = await got(client, limited, "/api/codex/usage")
        window = found["rate_limit"].pop("primary_window")
        assert found["rate_limit"] == {
            "allowed": True,
            "limit_reached": False,
            "secondary_window": None,
        }
        assert (window["used_percent"], window["limit_window_seconds"]) == (25, 7 * 86_400)
        with reading(books.connection):
            after = next_period("week", usage.time_of(books.connection))
        assert after is not None
        assert window["reset_at"] == after // 10**6
        for _ in range(3):
            spend(books, books.found(limited), U)
        found = await got(client, limited, "/api/codex/usage")
        assert found["rate_limit"]["limit_reached"] is True
        assert found["rate_limit"]["primary_window"]["used_percent"] == 100
        assert found["credits"] == {"has_credits": False, "unlimited": False, "balance": "0.00"}


@ON_SQLITE
async def test_a_limit_of_an_earlier_period_is_not_of_this_one(books: Books, key: str) -> None:
    limited = books.key(name="ben", limit_amount=COST * 4, limit_period="day")
    books.price(PriceRow("old", input=600_000, from_at=1))
    spend(books, books.found(limited), U, model="old", at_s=-DAY_S)
    async with books.service() as client:
        data = (await got(client, limited, "/v1/key"))["data"]
        assert data["limit_remaining"] == data["limit"] == Decimal("0.0184")
        assert data["usage_daily"] == 0
        assert data["usage"] > 0


@ON_SQLITE
async def test_without_billing_there_is_no_balance(books: Books) -> None:
    books.account()
    key = books.key()
    async with books.service(billing=False) as client:
        data = (await got(client, key, "/v1/key"))["data"]
        assert (data["available"], data["spendable"], data["usage"]) == (None, None, 0)
        credits_ = (await got(client, key, "/api/codex/usage"))["credits"]
        assert credits_ == {"has_credits": True, "unlimited": True, "balance": None}
        for path in METERS[1:4]:
            answer = await client.get(path, headers=bearer(key))
            assert answer.status_code == 404
            assert "cost nothing here" in answer.json()["error"]["message"]


@ON_SQLITE
async def test_a_meter_needs_a_key_that_is_in_use(books: Books, key: str) -> None:
    other = books.key(name="ben")
    books.revoke(other)
    async with books.service() as client:
        for path in (*METERS, "/v1/usage/usage_1"):
            for headers in ({}, bearer(other), bearer("trk_x")):
                answer = await client.get(path, headers=headers)
                assert answer.status_code == 401, path
                assert answer.json()["error"]["code"] == "invalid_api_key"
            wrong = await client.post(path, headers=bearer(key), json={})
            assert wrong.status_code == 405, path
            assert wrong.headers["allow"] == "GET"


@ON_SQLITE
async def test_an_account_without_money_can_ask_for_its_balance(books: Books) -> None:
    books.account()
    books.price()
    key = books.key()
    async with books.service() as client:
        assert (await ask(client, key)).status_code == 429
        assert (await got(client, key, "/v1/key"))["data"]["spendable"] == "0.00"


@ON_SQLITE
async def test_a_meter_is_told_when_the_database_is_away(
    books: Books, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("away")

    monkeypatch.setattr(account_endpoints, "read_status", fail)
    async with books.service() as client:
        answer = await client.get("/v1/key", headers=bearer(key))
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "server_is_overloaded"


# --- days ---------------------------------------------------------------------------------------


@pytest.fixture
def spent(books: Books) -> Books:
    """Two accounts with two keys each, which used two models on two days."""
    books.price(replace(PRICES, from_at=1))
    books.price(PriceRow("other", input=1_000_000, output=2_000_000, from_at=1))
    for account in ("acme", "rival"):
        books.account(account, balance="5")
        for name in ("anna", "ben"):
            books.key(account, name)
    for number, one in enumerate(books.all_keys()):
        for at_s in (-2 * DAY_S, 0.0):
            for model in ("m", "other"):
                more = {"request_id": f"req_{number}", "response_id": f"resp_{number}_{model}"}
                spend(books, one, U, model=model, at_s=at_s, **more)
    return books


async def test_usage_comes_in_days_groups_and_pages(spent: Books) -> None:
    key = spent.key(name="reader")
    anna, ben, *_ = spent.all_keys()
    other = 12_000 * 1_000_000 + 500 * 2_000_000
    async with spent.service() as client:
        page = await got(client, key, "/v1/usage")
        assert (page["object"], page["currency"]) == ("page", "USD")
        assert (page["has_more"], page["next_page"]) == (False, None)
        assert len(page["data"]) == 31
        full = [bucket for bucket in page["data"] if bucket["results"]]
        assert [bucket["end_time"] - bucket["start_time"] for bucket in full] == [86_400, 86_400]
        assert full[0]["start_time"] + 2 * 86_400 == full[1]["start_time"]
        assert page["data"][-1] == full[1]
        [result] = full[0]["results"]
        assert result == {
            "object": "usage.result",
            "model": None,
            "api_key_id": None,
            "num_model_requests": 4,
            "input_tokens": 48_000,
            "input_cached_tokens": 32_000,
            "output_tokens": 2_000,
            "amount": shown(2 * (COST + other)),
        }
        assert page["total"]["amount"] == shown(4 * (COST + other))

        grouped = await got(client, key, "/v1/usage", group_by="model,api_key_id")
        results = grouped["data"][-1]["results"]
        assert {(one["model"], one["api_key_id"]) for one in results} == {
            (model, f"key_{one.id}") for model in ("m", "other") for one in (anna, ben)
        }
        assert grouped["total"] == page["total"]
        query = {"group_by[]": ["model"], "api_key_id": f"key_{ben.id}", "model": "other"}
        one = await got(client, key, "/v1/usage", **query)
        assert [result["amount"] for result in one["data"][-1]["results"]] == [shown(other)]

        day = shown_time(full[0]["start_time"] * 10**6)[:10]
        seen: list[Any] = []
        where: dict[str, Any] = {}
        while True:
            part = await got(client, key, "/v1/usage", start=day, limit=1, **where)
            seen += part["data"]
            assert part["total"] == page["total"]
            if not part["has_more"]:
                break
            where = {"page": part["next_page"]}
        assert seen == page["data"][-3:]
        until = await got(
            client, key, "/v1/usage", start=full[0]["start_time"], end=full[1]["start_time"]
        )
        assert until["total"]["num_model_requests"] == 4
        assert len(until["data"]) == 2


@ON_SQLITE
@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"start": "yesterday"}, "start"),
        ({"start": "2026-11-01T12:00"}, "start"),
        ({"start": "1"}, "start"),
        ({"start": "9" * 30}, "start"),
        ({"end": "10000-01-01"}, "end"),
        ({"start": "2026-11-02", "end": "2026-11-02"}, "end"),
        ({"page": "x"}, "page"),
        ({"group_by": "day"}, "group_by"),
        ({"api_key_id": "17"}, "api_key_id"),
        ({"api_key_id": "key_x"}, "api_key_id"),
        ({"limit": "0"}, "limit"),
        ({"limit": str(MAX_DAYS + 1)}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"bucket_width": "1h"}, "bucket_width"),
        ({"acount": "1"}, "acount"),
    ],
)
async def test_what_a_report_cannot_be_asked_for(
    books: Books, key: str, query: dict[str, str], param: str
) -> None:
    async with books.service() as client:
        answer = await client.get("/v1/usage", params=query, headers=bearer(key))
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert f"Invalid '{param}'" in answer.json()["error"]["message"]


@ON_SQLITE
async def test_a_page_ends_before_it_is_too_large(
    spent: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By days: what is left is on the next page."""
    assert MAX_RESULTS > 1000
    monkeypatch.setattr("translator.service.accounts.usage_report.MAX_RESULTS", 3)
    key = spent.key(name="reader")
    async with spent.service() as client:
        whole = await got(client, key, "/v1/usage", limit=31)
        sizes: list[int] = []
        days: list[int] = []
        where: dict[str, Any] = {"page": None}
        while where:
            page = await got(client, key, "/v1/usage", group_by="model,api_key_id", **where)
            sizes.append(sum(len(bucket["results"]) for bucket in page["data"]))
            days += [bucket["start_time"] for bucket in page["data"]]
            where = {"page": page["next_page"]} if page["has_more"] else {}
    assert days == [bucket["start_time"] for bucket in whole["data"]]
    assert [size for size in sizes if size] == [4, 4]  # a day is whole


# --- single requests ----------------------------------------------------------------------------


async def test_the_bill_of_a_request_explains_itself(books: Books, key: str) -> None:
    async with books.service() as client:
        answer = await ask(client, key)
        await settled(books, 1)
        names = (answer.json()["id"], answer.headers["x-request-id"], "usage_1")
        first, *others = [await got(client, key, f"/v1/usage/{name}") for name in names]
        assert others == [first, first]
        assert first["amount"] == "0.0046"
        assert (first["id"], first["object"], first["others"]) == ("usage_1", "usage", [])
        assert first["price"] == {
            "id": "price_1",
            "input": "0.60",
            "cached_input": "0.10",
            "cache_write": "0.75",
            "output": "2.50",
            "per_request": "0.00",
        }
        counts = {name: value for name, value in first.items() if name.endswith("_tokens")}
        assert counts == {
            "input_tokens": 12_000,
            "input_cached_tokens": 8_000,
            "input_cache_write_tokens": 1_000,
            "output_tokens": 500,
            "output_reasoning_tokens": 400,
        }
        assert (first["api_key_name"], first["outcome"], first["estimated"]) == (
            "anna",
            "completed",
            "no",
        )


async def test_the_same_client_id_twice(books: Books, key: str, explained: None) -> None:
    """Scenario 23: two bills, of which the newest is found by that id, and names the other."""
    async with books.service() as client:
        for way in (ask, chat):
            client.headers["x-request-id"] = "mine"
            assert (await way(client, key)).status_code == 200
        await settled(books, 2)
        del client.headers["x-request-id"]
        found = await got(client, key, "/v1/usage/mine")
        assert (found["id"], found["others"]) == ("usage_2", ["usage_1"])
        assert found["endpoint"] == "/chat/completions"
        assert (await got(client, key, "/v1/usage/usage_1"))["endpoint"] == "/responses"
    assert books.balance() == PICO - 2 * COST


async def test_two_totals(books: Books, key: str, explained: None) -> None:
    """Scenario 40: days, single requests, the key, the credits and the ledger: one sum."""
    ben = books.key(name="ben")
    async with books.service() as client:
        for way in (ask, chat):
            for text in (key, ben):
                assert (await way(client, text)).status_code == 200
        books.upstream.script = answering(USAGE | {"completion_tokens": 77})
        await ask(client, ben)
        books.upstream.script = answering(None)
        await ask(client, key)
        await settled(books, 6)
        account = books.of().id
        with reading(books.connection):
            today = usage.time_of(books.connection) // DAY_US * DAY_US
            singles = sum(one.cost for one in usage.usages(books.connection, account))
            entries = usage.ledger(books.connection, account)
        booked = -sum(one.amount for one in entries if one.kind == "usage")
        assert singles == booked == PICO - books.balance() > 4 * COST
        for by in ("", "model", "api_key_id", "model,api_key_id"):
            page = await got(client, key, "/v1/usage", group_by=by, start=today // 10**6)
            parts = [one["amount"] for bucket in page["data"] for one in bucket["results"]]
            assert sum(map(Decimal, parts)) == Decimal(page["total"]["amount"])
            assert page["total"]["amount"] == shown(booked)
        used = [(await got(client, text, "/v1/key"))["data"]["usage"] for text in (key, ben)]
        paid = (await got(client, key, "/v1/credits"))["data"]["total_usage"]
        assert paid == round(Decimal(shown(booked)), 6)
        assert abs(sum(used) - paid) <= Decimal("0.000001")  # each is rounded for itself
        rows = [await got(client, key, f"/v1/usage/usage_{number}") for number in range(1, 7)]
        assert sum(Decimal(row["amount"]) for row in rows) == Decimal(shown(booked))


@ON_SQLITE
async def test_nobody_finds_anything_of_others(spent: Books) -> None:
    """Scenario 31, invariant 13: ids, keys, models and cursors of another account, everywhere."""
    mine = spent.key("rival", "reader")
    acme, rival = spent.of("acme").id, spent.of("rival").id
    keys = {one.id: one.account_name for one in spent.all_keys()}
    own_keys = {f"key_{number}" for number, name in keys.items() if name == "rival"}
    others = spent.rows(
        "SELECT hold_id, request_id, response_id FROM acct_usages WHERE account_id = :account",
        account=acme,
    )
    own_total = await _total_of(spent, rival)
    async with spent.service() as client:
        for number, request_id, response_id in others:
            for name in (f"usage_{number}", request_id, response_id, f"{response_id}%00"):
                answer = await client.get(f"/v1/usage/{name}", headers=bearer(mine))
                assert answer.status_code == 404, name
                assert str(COST) not in answer.text
        for number in keys:
            for group in ("", "model", "api_key_id", "model,api_key_id"):
                for more in ({}, {"model": "m"}, {"account": f"acct_{acme}"}):
                    query = {"api_key_id": f"key_{number}", "group_by": group, **more}
                    answer = await client.get("/v1/usage", params=query, headers=bearer(mine))
                    if "account" in more:
                        assert answer.status_code == 400
                        continue
                    page = answer.json()
                    named = set(re.findall(r"key_\d+", answer.text))
                    assert named <= own_keys
                    if keys[number] != "rival":
                        assert page["total"]["num_model_requests"] == 0
                        assert not any(bucket["results"] for bucket in page["data"])
        page = await got(client, mine, "/v1/usage")
        assert page["total"]["amount"] == shown(own_total)
        credits_ = (await got(client, mine, "/v1/credits"))["data"]
        assert credits_["total_usage"] == round(Decimal(shown(own_total)), 6)
        assert (await got(client, mine, "/v1/key"))["data"]["usage"] == 0


async def _total_of(books: Books, account: int) -> int:
    with reading(books.connection):
        return usage.total(books.connection, account).amount


# --- where they are -----------------------------------------------------------------------------


async def test_without_accounts_there_are_no_such_paths(upstream: ScriptedUpstream) -> None:
    async with upstream.client() as client:
        for path in (*METERS, "/v1/usage/usage_1"):
            assert (await client.get(path)).status_code == 404, path
        described = (await client.get("/openapi.json")).json()["paths"]
        assert not set(described) & set(METERS)


@ON_SQLITE
async def test_the_description_has_them_with_accounts(books: Books, key: str) -> None:
    async with books.service() as client:
        await ask(client, key)
        await settled(books, 1)
        described = (await client.get("/openapi.json")).json()
        paths = (*METERS, "/v1/usage/usage_1")
        for path in paths:
            template = path.replace("usage_1", "{id}")
            allowed = described["paths"][template]["get"]["responses"]["200"]
            schema = allowed["content"]["application/json"]["schema"]
            jsonschema.Draft202012Validator(
                {**schema, "components": described["components"]}
            ).validate((await client.get(path, headers=bearer(key))).json())
        assert (await client.get("/v1/v1/usage/usage_1", headers=bearer(key))).status_code == 200
        near = await client.get("/v1/credit", headers=bearer(key))
        assert "Did you mean /v1/credits?" in near.text


def test_the_door_of_accounts_is_theirs_alone() -> None:
    layer = AccountLayer.__new__(AccountLayer)
    assert layer.own_door("/account")
    assert layer.own_door("/account/api/keys")
    for path in ("/accounts", "/v1/account/x", "//account/", "/"):
        assert not layer.own_door(path)
