"""The JSON API of operators: a request that is sent twice, who may send any, and what is kept."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.service.capture.captured import kept, tracing
from translator.service.accounts import operator_keys
from translator.service.database.connection import writing
from translator.service.provisioning.api import ACTIONS
from translator.service.provisioning.idempotency import KEPT_US

from .conftest import TABLES
from .operators import API, Operator, operator_key
from .paying import COST, ON_SQLITE, Books, ask, bearer, settled

pytestmark = pytest.mark.anyio

KEY = {"account": "acct_1", "name": "anna"}
TOPUP = {"account": "acct_1", "amount": "5", "ref": "r"}


# --- once ---------------------------------------------------------------------------------------


async def test_top_up_twice(books: Books, robot: str) -> None:
    """Scenario 24: by its reference it happens once, however it is sent."""
    books.account()
    async with books.service() as client:
        api = Operator(client, robot)
        made = [await api.post("/topups", TOPUP, name) for name in (None, None, "k", "k", "k2")]
        assert all(one == made[0] for one in made)
        many = await asyncio.gather(
            *(api.post("/topups", TOPUP | {"ref": "r2"}, name) for name in (None, "a", "a", "b"))
        )
        assert len({one["id"] for one in many}) == 1
    assert books.balance() == 10 * 10**12
    assert len(books.rows("SELECT id FROM acct_ledger")) == 2


async def test_a_request_that_is_sent_twice_happens_once(books: Books, robot: str) -> None:
    books.account()
    async with books.service() as client:
        api = Operator(client, robot)
        sent = [await api.send("POST", "/keys", KEY, "my-key") for _ in range(3)]
        assert {one.status_code for one in sent} == {201}
        first, *others = [one.json() for one in sent]
        assert first["key"].startswith("trk_")
        assert others == [first | {"key": None}] * 2
        assert [one.headers.get("idempotency-replayed") for one in sent] == [None, "true", "true"]
        assert len(books.all_keys()) == 1
        reused = await api.send("POST", "/keys", KEY | {"name": "ben"}, "my-key")
        assert (reused.status_code, reused.json()["error"]["code"]) == (
            422,
            "idempotency_key_reused",
        )
        other = Operator(client, operator_key(books, "other robot"))
        assert (await other.post("/keys", KEY | {"name": "ben"}, "my-key"))["id"] == "key_2"
        at_once = await asyncio.gather(
            *(api.send("POST", "/accounts", {"name": "new"}, "at-once") for _ in range(6))
        )
        assert [one.status_code for one in at_once] == [201] * 6
        assert len({one.text for one in at_once}) == 1
        for name in ("", "x" * 256, "a b"):
            assert (await api.send("POST", "/accounts", {"name": "y"}, name)).status_code == 400
        failed = await api.send("POST", "/topups", TOPUP | {"account": "acct_9"}, "again")
        assert failed.status_code == 404
        assert (await api.send("POST", "/topups", TOPUP, "again")).status_code == 201


async def test_it_happens_once_over_processes(books: Books, robot: str) -> None:
    """Two services that get the same request at once: one does it, both answer alike."""
    books.account()
    async with books.service() as one, books.service() as other:
        apis = [Operator(client, robot) for client in (one, other)]
        for number in range(3):
            body = TOPUP | {"ref": f"bill {number}"}
            answers = await asyncio.gather(
                *(api.send("POST", "/topups", body, f"name-{number}") for api in apis * 3)
            )
            assert {answer.status_code for answer in answers} == {201}
            assert len({answer.text for answer in answers}) == 1
            replayed = [answer.headers.get("idempotency-replayed") for answer in answers]
            assert replayed.count(None) == 1
    assert len(books.rows("SELECT id FROM acct_ledger")) == 3


@ON_SQLITE
async def test_answers_are_kept_for_a_day(books: Books, robot: str) -> None:
    books.account()
    async with books.service() as client:
        api = Operator(client, robot)
        await api.post("/accounts", {"name": "one"}, "k")
        books.change("UPDATE acct_answers SET at = at - :day", day=KEPT_US)
        again = await api.send("POST", "/accounts", {"name": "one"}, "k")
        assert "already" in again.json()["error"]["message"]
        await api.post("/accounts", {"name": "two"})
        assert len(books.rows("SELECT name FROM acct_answers")) == 1


async def test_no_secret_is_kept(books: Books, robot: str) -> None:
    """Invariant 15: neither a key nor a password, and no fast hash of one."""
    books.account()
    password = "a password to guess"
    async with books.service() as client:
        api = Operator(client, robot)
        key = (await api.post("/keys", KEY, "k"))["key"]
        await api.post("/users", {"name": "u", "password": password, "role": "operator"}, "u")
        again = {"name": "u", "password": "another password", "role": "operator"}
        assert (await api.send("POST", "/users", again, "u")).status_code == 201
    texts = [repr(books.rows(f"SELECT * FROM acct_{table}")) for table in TABLES]
    for secret in (key[21:], robot[21:], password):
        assert not any(secret in text for text in texts)


# --- who ----------------------------------------------------------------------------------------


async def test_only_an_operators_key_opens_it_and_it_opens_no_model(
    books: Books, robot: str
) -> None:
    books.account(balance="1")
    books.price()
    key = books.key()
    gone = operator_key(books, "gone")
    with writing(books.connection):
        operator_keys.revoke_operator_key(books.connection, "gone")
    async with books.service() as client:
        for path, actions in ACTIONS.items():
            for method in actions:
                where = f"{API}{path.replace('{id}', 'x_1')}"
                for text in (key, gone, "", robot[:-1] + ("a" if robot[-1] != "a" else "b")):
                    answer = await client.request(method, where, json={}, headers=bearer(text))
                    assert answer.status_code == 401, (method, where)
                    assert answer.json()["error"]["code"] == "invalid_api_key"
        assert (await client.get(f"{API}/accounts")).status_code == 401
        assert (await client.get(f"{API}/nothing")).status_code == 401
        for method, path in (("POST", "/v1/responses"), ("GET", "/v1/models"), ("GET", "/v1/key")):
            answer = await client.request(method, path, json={}, headers=bearer(robot))
            assert answer.status_code == 401
            assert "no model" in answer.json()["error"]["message"]
    assert not books.upstream.calls
    assert not books.usages()


@ON_SQLITE
async def test_a_key_that_is_revoked_meanwhile_changes_nothing(
    books: Books, robot: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with books.service() as client:
        api = Operator(client, robot)
        monkeypatch.setattr(operator_keys, "use", lambda *_: False)
        assert (await api.send("POST", "/accounts", {"name": "x"})).status_code == 401
    assert not books.rows("SELECT * FROM acct_accounts")


async def test_the_last_use_of_an_operators_key_is_known_to_the_hour(
    books: Books, robot: str
) -> None:
    async with books.service() as client:
        api = Operator(client, robot)
        await api.post("/accounts", {"name": "a"})
        [(first,)] = books.rows("SELECT used_at FROM acct_operator_keys")
        await api.post("/accounts", {"name": "b"})
        assert books.rows("SELECT used_at FROM acct_operator_keys") == [(first,)]


@ON_SQLITE
async def test_it_is_there_without_the_pages(books: Books, robot: str) -> None:
    async with books.service(dashboard=False) as client:
        api = Operator(client, robot)
        assert (await api.get("/accounts"))["data"] == []
        assert (await client.get("/account")).status_code == 404


async def test_a_bill_is_what_the_ledger_shows(books: Books, key: str, robot: str) -> None:
    async with books.service() as client:
        await ask(client, key)
        await settled(books, 1)
        page = await Operator(client, robot).get("/ledger", account="acct_1", limit=1)
        assert page["has_more"]
        [entry] = page["data"]
        assert json.dumps(entry["amount"]) == '"-0.0046"'
        assert entry["ref"] == "1"
        assert books.balance() == 10**12 - COST


@ON_SQLITE
async def test_no_secret_is_in_the_log_or_a_trace(
    books: Books, robot: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What an operator's program sends and gets is recorded nowhere."""
    caplog.set_level("DEBUG")
    books.account(balance="1")
    books.price()
    folder = tmp_path / "traces"
    password = "a password to guess"
    settings = books.settings(server={"trace_folder": str(folder)})
    async with tracing(settings) as client:
        api = Operator(client, robot)
        key = (await api.post("/keys", KEY))["key"]
        await api.post("/users", {"name": "u", "password": password, "role": "operator"})
        assert (await ask(client, key)).status_code == 200
        await api.send("GET", "/accounts/acct_1")
    texts = [record.getMessage() for record in caplog.records]
    assert any("client=operator/robot" in text for text in texts)
    assert kept(folder)
    texts += [file.read_text("utf-8", "replace") for file in folder.rglob("*") if file.is_file()]
    for secret in (key[21:], robot[21:], password):
        assert not any(secret in text for text in texts)
