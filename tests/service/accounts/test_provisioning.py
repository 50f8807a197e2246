"""The JSON API of operators: what it makes is what the service then serves, once for each request."""

from __future__ import annotations

from typing import Any

import pytest

from translator.service.accounts import key_book, people
from translator.service.accounts.ceilings import Limits
from translator.service.accounts.passwords import verify
from translator.service.accounts.periods import read_time
from translator.service.base.keys import new_key, store
from translator.service.database.connection import reading, writing
from translator.service.database.statement import Statement

from .conftest import TABLES
from .operators import API, Operator
from .paying import USAGE, Books, answering, ask, bearer, settled

pytestmark = pytest.mark.anyio

PRICE = {
    "model": "m",
    "input": "0.60",
    "output": "2.50",
    "cached_input": "0.10",
    "cache_write": "0.75",
}


async def test_a_customer_is_set_up_and_served(books: Books, robot: str, explained: None) -> None:
    books.upstream.script = answering(USAGE)
    async with books.service() as client:
        api = Operator(client, robot)
        account = await api.post("/accounts", {"name": "acme"})
        assert account["id"] == "acct_1"
        assert (account["balance"], account["available"]) == ("0.00", "0.00")
        price = await api.post("/prices", PRICE)
        assert (price["input"], price["free"], price["price_list"]) == ("0.60", False, "standard")
        entry = await api.post("/topups", {"account": "acct_1", "amount": "5", "ref": "bill-1"})
        assert (entry["amount"], entry["balance_after"]) == ("5.00", "5.00")
        assert (entry["kind"], entry["ref"]) == ("topup", "bill-1")
        made = await api.post(
            "/keys",
            {
                "account": "acct_1",
                "name": "anna",
                "requests_per_minute": 10,
                "limit": {"amount": "1.50", "period": "month"},
                "expires_at": "2100-01-01T00:00:00Z",
            },
        )
        key = made.pop("key")
        assert made["shown"] == key[:10] + "…"
        assert made["limit"] == {"amount": "1.50", "period": "month"}
        assert made["expires_at"] == 4_102_444_800
        assert await api.get("/keys/key_1") == made | {"key": None}
        assert (await ask(client, key)).status_code == 200
        await settled(books, 1)
        page = await api.get("/ledger", account="acct_1")
        assert [one["kind"] for one in page["data"]] == ["usage", "topup"]
        assert page["data"][0]["amount"] == "-0.0046"
        lowered = await api.post(
            "/adjustments",
            {"account": "acct_1", "amount": "-1", "reason": "a mistake", "ref": "a-1"},
        )
        assert (lowered["note"], lowered["actor"]) == ("a mistake", "operator key robot")
        found = await api.get("/accounts/acct_1")
        assert found["balance"] == "3.9954"
        renamed = await api.patch("/keys/key_1", {"name": "anna 2", "limit": None})
        assert (renamed["name"], renamed["limit"]) == ("anna 2", None)
        assert renamed["requests_per_minute"] == 10
        suspended = await api.patch("/accounts/acct_1", {"suspended": True, "credit": "2.50"})
        assert suspended["suspended_at"] is not None
        assert suspended["credit"] == "2.50"
        assert (await ask(client, key)).status_code == 401
        resumed = await api.patch("/accounts/acct_1", {"suspended": False})
        assert resumed["suspended_at"] is None
        rotated = await api.post("/keys/key_1/rotate", {"grace_s": 0})
        assert (await api.get("/keys/key_1"))["replaced_by"] == rotated["id"] == "key_2"
        assert (await ask(client, key)).status_code == 401
        assert (await ask(client, rotated["key"])).status_code == 200
        revoked = await api.post("/keys/key_2/revoke", {})
        assert revoked["revoked_at"] is not None
        assert (await ask(client, rotated["key"])).status_code == 401
        await settled(books, 2)
    with reading(books.connection):
        trail = people.trail(books.connection, 10**9, 100)
    assert {one.actor for one in trail} == {"operator key robot"}
    assert [one.action for one in reversed(trail)] == [
        *("add account", "set price", "top up", "new key", "adjust", "rename key", "limit key"),
        *("set credit", "suspend", "resume", "rotate key", "revoke key"),
    ]


async def test_users_and_channels(books: Books, robot: str) -> None:
    books.account()
    async with books.service() as client:
        api = Operator(client, robot)
        password = "correct horse battery"
        user = {"name": "Anna", "password": password, "role": "member", "account": "acct_1"}
        made = await api.post("/users", user)
        assert (made["id"], made["name"], made["account"]) == ("user_1", "anna", "acct_1")
        with writing(books.connection):
            for _ in range(9):
                people.attempt(books.connection, "anna", "192.0.2.1")
        assert (await api.post("/users/user_1/unlock", {})) == made
        with reading(books.connection):
            paused = books.connection.execute(Statement("SELECT subject FROM acct_attempts"))
        assert paused == [("address 192.0.2.1",)]
        boss = await api.post("/users", {"name": "boss", "password": password, "role": "operator"})
        assert boss["account"] is None
        assert (await api.patch("/users/user_1", {"disabled": True}))["disabled_at"] is not None
        assert (await api.patch("/users/user_1", {"disabled": False}))["disabled_at"] is None
        changed = await api.patch("/users/user_2", {"password": "another horse battery"})
        assert changed["role"] == "operator"
        assert [one["name"] for one in (await api.get("/users"))["data"]] == ["anna", "boss"]
        assert await api.get("/users/user_2") == changed
        for wrong, param in (
            (user | {"account": None}, "account"),
            ({**user, "role": "operator", "name": "x"}, "account"),
            (user | {"password": "short"}, "password"),
        ):
            assert (await api.refused("POST", "/users", wrong))["param"] == param
        assert (await api.refused("POST", "/users", user | {"account": "acct_9"}, 404))["code"]
        with reading(books.connection):
            stored = people.password_of(books.connection, "boss")
        assert stored is not None
        assert verify(stored[1], "another horse battery")

        channel = {"models": ["m", "other"], "title": "Fast ones"}
        for _ in range(2):
            answer = await api.send("PUT", "/channels/fast", channel)
            assert answer.status_code == 200
        assert answer.json() == {
            "id": "fast",
            "object": "channel",
            "name": "fast",
            "title": "Fast ones",
            "models": ["m", "other"],
            "tools": None,
            "price_list": "standard",
        }
        assert await api.get("/channels/fast") == answer.json()
        less = await api.send("PUT", "/channels/fast", {"models": ["m"], "tools": ["search"]})
        assert less.json() == answer.json() | {"models": ["m"], "tools": ["search"]}
        assert await api.get("/channels/fast") == less.json()
        key = {"account": "acct_1", "name": "anna", "channels": ["fast"], "tools": ["mcp:docs"]}
        assert (await api.post("/keys", key))["tools"] == ["mcp:docs"]
        for tools in ([], ["search", "mcp"], None):
            assert (await api.patch("/keys/key_1", {"tools": tools}))["tools"] == tools
        wrong = await api.refused("PATCH", "/keys/key_1", {"tools": ["bash"]})
        assert "is no tool" in wrong["message"]
        names = [one["name"] for one in (await api.get("/channels"))["data"]]
        assert names == ["all", "fast"]
        wrong = await api.refused("PUT", "/channels/x", {"models": ["m"], "price_list": "none"})
        assert "no price list 'none'" in wrong["message"]
        assert (await api.refused("GET", "/channels/none", None, 404))["code"]


async def test_what_members_may_give_their_keys(books: Books, robot: str) -> None:
    async with books.service() as client:
        api = Operator(client, robot)
        await api.send("PUT", "/channels/fast", {"models": ["m"]})
        made = await api.post("/accounts", {"name": "acme"})
        assert (made["channels"], made["ceiling"]) == (["all"], None)
        ceiling = {
            "models": ["m"],
            "tools": [],
            "requests_per_minute": 60,
            "limit": {"amount": "2.00", "period": "month"},
            "expires_at": "2090-01-01T00:00:00Z",
        }
        more = {"channels": ["fast", "all"], "ceiling": ceiling}
        changed = await api.patch("/accounts/acct_1", more)
        nothing = {"channels": None, "tokens_per_minute": None, "max_concurrent_requests": None}
        shown = ceiling | nothing | {"expires_at": 3786912000}
        assert changed == made | more | {"ceiling": shown}
        assert await api.get("/accounts/acct_1") == changed
        other = await api.post("/accounts", {"name": "lab", "channels": []} | {"ceiling": ceiling})
        assert (other["channels"], other["ceiling"]) == ([], shown)
        with writing(books.connection):
            limits = Limits(
                models=("m",),
                requests_per_minute=1,
                limit_amount=1,
                limit_period="month",
                expires_at=read_time("2089-01-01"),
            )
            key_book.add_key(
                books.connection, "acme", "anna", store(new_key()), limits, by_member=True
            )
        key = await api.get("/keys/key_1")
        assert (key["ceiling"], key["of_member"], key["tools"]) == (shown, True, [])
        theirs = await api.post("/keys", {"account": "acct_1", "name": "b", "models": ["m"]})
        assert not theirs["of_member"]
        assert theirs["ceiling"] == dict.fromkeys(shown) | {"channels": ["all"], "models": ["m"]}
        for wrong, param in (
            ({"ceiling": {"requests": 1}}, "ceiling.requests"),
            ({"ceiling": {"limit": {"amount": "x", "period": "day"}}}, "ceiling.limit.amount"),
            ({"ceiling": {"expires_at": "soon"}}, "ceiling.expires_at"),
            ({"ceiling": {"models": ["a\0"]}}, "ceiling.models[0]"),
            ({"ceiling": {"tools": ["search", "web"]}}, "ceiling.tools[1]"),
            ({"channels": ["gold"]}, "channels"),
        ):
            refused = await api.refused("PATCH", "/accounts/acct_1", wrong)
            assert refused["param"] == param
        free = await api.patch("/accounts/acct_1", {"channels": None, "ceiling": None})
        assert free == made
        past = {"expires_at": "2020-01-01T00:00:00Z"}
        for method, path, body in (
            ("POST", "/keys", {"account": "acct_1", "name": "c"} | past),
            ("PATCH", "/keys/key_1", past),
        ):
            refused = await api.refused(method, path, body)
            assert refused["param"] == "expires_at"
            assert "is past" in refused["message"]


# --- lists --------------------------------------------------------------------------------------


async def pages(api: Operator, path: str, **query: Any) -> list[Any]:
    """All objects of a list, in pages of two."""
    found: list[Any] = []
    after: dict[str, str] = {}
    while True:
        page = await api.get(path, limit=2, **query, **after)
        found += page["data"]
        if page["data"]:
            assert page["first_id"] == page["data"][0]["id"]
            assert page["last_id"] == page["data"][-1]["id"]
        if not page["has_more"]:
            return found
        assert len(page["data"]) == 2
        after = {"after": page["last_id"]}


async def test_lists_come_in_pages(books: Books, robot: str) -> None:
    for name in ("a", "b", "c", "d", "e"):
        books.account(name, balance="1")
        books.key(name, "first")
        books.key(name, "second")
    books.account("f")
    for number in range(5):
        books.top_up("1", f"more-{number}", "a")
    async with books.service() as client:
        api = Operator(client, robot)
        for number in range(3):
            await api.send("PUT", f"/channels/one-{number}", {"models": [f"m{number}"]})
            await api.post("/prices", PRICE | {"model": f"m{number}"})
        await api.post("/prices", {"model": "m0", "free": True, "price_list": "friends"})
        accounts = await pages(api, "/accounts")
        assert [one["name"] for one in accounts] == ["a", "b", "c", "d", "e", "f"]
        assert await pages(api, "/accounts", name="c") == [accounts[2]]
        assert await pages(api, "/accounts", name="nobody") == []
        keys = await pages(api, "/keys")
        assert [one["id"] for one in keys] == [f"key_{number}" for number in range(1, 11)]
        assert await pages(api, "/keys", account="acct_2") == keys[2:4]
        assert len(await pages(api, "/channels")) == 4
        prices = await pages(api, "/prices")
        assert [one["model"] for one in prices] == ["m0", "m1", "m2", "m0"]
        assert await pages(api, "/prices", price_list="friends") == prices[3:]
        assert await pages(api, "/prices", model="m0") == [prices[0], prices[3]]
        entries = await pages(api, "/ledger", account="acct_1")
        assert [one["ref"] for one in entries] == [
            *(f"more-{number}" for number in reversed(range(5))),
            "first-a",
        ]
        assert await pages(api, "/ledger", account="acct_1", end="2020-01-01") == []
        assert await pages(api, "/ledger", account="acct_1", start="2020-01-01") == entries
        assert await pages(api, "/users") == []


# --- mistakes -----------------------------------------------------------------------------------

KEY = {"account": "acct_1", "name": "anna"}
TOPUP = {"account": "acct_1", "amount": "5", "ref": "r"}
MISTAKES: list[tuple[str, str, Any, str, str]] = [
    ("POST", "/accounts", {"name": "x", "budget": 5}, "budget", "unknown_parameter"),
    ("POST", "/accounts", {}, "name", "missing_required_parameter"),
    ("POST", "/accounts", {"name": ""}, "name", "string_below_min_length"),
    ("POST", "/accounts", {"name": "x\n"}, "name", "invalid_value"),
    ("POST", "/accounts", {"name": "x", "credit": "-1"}, "credit", "invalid_value"),
    ("POST", "/accounts", {"name": "x", "credit": 5.0}, "credit", "invalid_type"),
    ("POST", "/accounts", {"name": "x" * 201}, "name", "string_above_max_length"),
    ("PATCH", "/accounts/acct_1", {"balance": "5"}, "balance", "unknown_parameter"),
    ("PATCH", "/accounts/acme", {}, "id", "invalid_value"),
    ("POST", "/keys", KEY | {"limit": {"amount": "5", "per": 1}}, "limit.per", "unknown_parameter"),
    ("POST", "/keys", KEY | {"limit": {"amount": "5"}}, "limit.period", "missing_required_"),
    (
        "POST",
        "/keys",
        KEY | {"limit": {"amount": "5,0", "period": "day"}},
        "limit.amount",
        "invalid_value",
    ),
    (
        "POST",
        "/keys",
        KEY | {"limit": {"amount": "5", "period": "year"}},
        "limit.period",
        "invalid_value",
    ),
    ("POST", "/keys", KEY | {"channels": []}, "channels", "array_below"),
    ("POST", "/keys", KEY | {"channels": ["all", "a\0"]}, "channels[1]", "invalid_value"),
    ("POST", "/keys", KEY | {"expires_at": "tomorrow"}, "expires_at", "invalid_value"),
    (
        "POST",
        "/keys",
        KEY | {"requests_per_minute": 0},
        "requests_per_minute",
        "integer_below_min_value",
    ),
    ("POST", "/keys", KEY | {"account": "acme"}, "account", "invalid_value"),
    ("POST", "/keys/key_1/rotate", {"grace_s": -1}, "grace_s", "integer_below_min_value"),
    ("POST", "/keys/key_1/revoke", {"why": "x"}, "why", "unknown_parameter"),
    ("POST", "/topups", TOPUP | {"amount": "0"}, "amount", "invalid_value"),
    ("POST", "/topups", TOPUP | {"amount": "1e3"}, "amount", "invalid_value"),
    ("POST", "/topups", TOPUP | {"amount": "1000001"}, "amount", "invalid_value"),
    ("POST", "/topups", {"account": "acct_1", "amount": "1"}, "ref", "missing_required_parameter"),
    ("POST", "/prices", PRICE | {"input": "0.0000001"}, "input", "invalid_value"),
    ("POST", "/prices", PRICE | {"model": "*"}, "model", "invalid_value"),
    ("POST", "/prices", PRICE | {"from": "x"}, "from", "invalid_value"),
    ("POST", "/prices", PRICE | {"from": "9999-12-31T23:59:00-23:00"}, "from", "invalid_value"),
    ("POST", "/prices", PRICE | {"from": "0001-01-01T00:00:00+23:00"}, "from", "invalid_value"),
    ("POST", "/users", {"name": "x", "password": "p", "role": "admin"}, "role", "invalid_value"),
    ("GET", "/accounts?limit=101", None, "limit", "invalid_value"),
    ("GET", "/accounts?after=key_1", None, "after", "invalid_value"),
    ("GET", "/accounts?page=2", None, "page", "unknown_parameter"),
    ("GET", "/ledger", None, "account", "missing_required_parameter"),
]


async def test_a_mistake_is_named_by_its_path(books: Books, robot: str) -> None:
    """Fault 7 of others: a field that is not known is never dropped."""
    books.account()
    books.key()
    before = [books.rows(f"SELECT * FROM acct_{name}") for name in TABLES if name not in _TOUCHED]
    async with books.service() as client:
        api = Operator(client, robot)
        for method, path, body, param, code in MISTAKES:
            error = await api.refused(method, path, body)
            assert error["param"] == param, (path, body, error)
            assert error["code"].startswith(code), (path, body, error)
        for text in ("{", "[]", '{"name": "a", "name"', "\xff"):
            answer = await client.post(
                f"{API}/accounts", content=text.encode("latin-1"), headers=bearer(robot)
            )
            assert answer.status_code == 400, text
        large = await client.post(
            f"{API}/accounts", content=b" " * (1024 * 1024 + 1), headers=bearer(robot)
        )
        assert large.status_code == 413
        for path in ("/accounts/acct_9", "/keys/key_9", "/users/user_9"):
            answer = await api.send("GET", path)
            assert answer.status_code == 404
            assert answer.json()["error"]["code"].endswith("_not_found")
        assert (await api.send("GET", "/nothing")).json()["error"]["code"] == "unknown_path"
        wrong = await api.send("PUT", "/accounts", {})
        assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, POST")
    after = [books.rows(f"SELECT * FROM acct_{name}") for name in TABLES if name not in _TOUCHED]
    assert after == before


_TOUCHED = {"boots", "operator_keys"}


@pytest.mark.parametrize("left_out", ["input", "output"])
async def test_a_price_that_is_left_out_is_not_nothing(
    books: Books, robot: str, left_out: str
) -> None:
    body = {name: value for name, value in PRICE.items() if name != left_out}
    async with books.service() as client:
        error = await Operator(client, robot).refused("POST", "/prices", body)
    assert "has an input and an output" in error["message"]
    assert books.rows("SELECT * FROM acct_prices") == []


async def test_what_the_books_do_not_allow_is_said(books: Books, robot: str) -> None:
    books.account()
    books.account("other")
    books.key()
    books.price()
    books.top_up("1", "r-1")
    async with books.service() as client:
        api = Operator(client, robot)
        for method, path, body, words in (
            ("POST", "/accounts", {"name": "acme"}, "an account 'acme' already"),
            ("POST", "/keys", KEY, "a key 'anna' already"),
            ("POST", "/keys", KEY | {"name": "b", "channels": ["none"]}, "no channel 'none'"),
            ("POST", "/topups", {"account": "acct_2", "amount": "1", "ref": "r-1"}, "another"),
            ("POST", "/topups", TOPUP | {"amount": "2", "ref": "r-1"}, "another topup"),
            ("POST", "/prices", PRICE | {"from": "2020-01-01"}, "the time is past"),
            ("POST", "/prices", {"model": "new", "input": "0", "output": "0"}, "all prices are 0"),
        ):
            error = await api.refused(method, path, body)
            assert words.lower() in error["message"].lower()
        assert not books.rows("SELECT * FROM acct_answers")
        await api.post("/keys/key_1/revoke", {})
        assert "is revoked" in (await api.refused("PATCH", "/keys/key_1", {"name": "b"}))["message"]
        assert "is revoked" in (await api.refused("POST", "/keys/key_1/rotate", {}))["message"]
