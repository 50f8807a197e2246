"""What operators have beside the books: keys for programs, exports, pruning, and the log's line."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import logging
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from msgspec.structs import replace

from tests.service.wire import BOUND_S
from translator.__main__ import main
from translator.service.accounts import pruning, usage
from translator.service.accounts.bills import Counts
from translator.service.accounts.money import PICO, shown_cost
from translator.service.accounts.pruning import prune_oldest
from translator.service.database.connection import reading, writing

from .operators import API, Operator, operator_key
from .paying import COST, ON_SQLITE, PRICES, USAGE, Books, answering, ask, bearer, chat, settled
from .spending import spend

pytestmark = pytest.mark.anyio

U = Counts(12_000, 8_000, 1_000, 500, 400)
DAY_S = 86_400.0


@pytest.fixture
def config(books: Books, tmp_path: Path) -> str:
    """A settings file for commands."""
    url = books.location.target
    if books.location.kind == "sqlite":
        url = f"sqlite:///{url}"
    file = tmp_path / "settings.toml"
    file.write_text(f"[accounts]\nurl = {json.dumps(url)}\n")
    return str(file)


def run(config: str, words: str) -> int:
    return main([*words.split(), "--config", config])


# --- keys of programs ---------------------------------------------------------------------------


async def test_an_operators_key_is_made_listed_and_revoked(
    books: Books, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(config, "account operator-key list") == 0
    assert capsys.readouterr().out == "There are no keys of operators.\n"
    assert run(config, "account operator-key new robot") == 0
    key = capsys.readouterr().out.strip()
    async with books.service() as client:
        assert (await Operator(client, key).get("/accounts"))["data"] == []
        assert run(config, "account operator-key new robot") == 2
        assert "already" in capsys.readouterr().err
        assert run(config, "account operator-key list") == 0
        listed = capsys.readouterr().out
        assert f"{key[:10]}…" in listed
        assert key[21:] not in listed
        assert run(config, "account operator-key revoke robot") == 0
        assert (await client.get(f"{API}/accounts", headers=bearer(key))).status_code == 401
    assert run(config, "account operator-key revoke robot") == 2
    assert "known: none" in capsys.readouterr().err


@ON_SQLITE
async def test_the_description_has_the_api_of_operators(books: Books) -> None:
    robot = operator_key(books)
    books.account(balance="1")
    books.key()
    async with books.service() as client:
        described = (await client.get("/openapi.json")).json()
        api = Operator(client, robot)
        answers = {
            ("get", "/accounts"): await api.get("/accounts"),
            ("get", "/keys"): await api.get("/keys"),
            ("get", "/keys/{id}"): await api.get("/keys/key_1"),
            ("get", "/channels/{id}"): await api.get("/channels/all"),
            ("get", "/ledger"): await api.get("/ledger", account="acct_1"),
            ("post", "/prices"): await api.post("/prices", {"model": "m", "free": True}),
            ("post", "/topups"): await api.post(
                "/topups", {"account": "acct_1", "amount": "1", "ref": "x"}
            ),
        }
    for (method, path), answer in answers.items():
        responses = described["paths"][f"{API}{path}"][method]["responses"]
        schema = responses["200" if method == "get" else "201"]["content"]["application/json"]
        jsonschema.Draft202012Validator(
            {**schema["schema"], "components": described["components"]}
        ).validate(answer)
    body = described["paths"][f"{API}/keys"]["post"]["requestBody"]["content"]["application/json"]
    assert body["schema"]["$ref"].endswith("/NewKey")
    assert described["components"]["schemas"]["NewKey"]["additionalProperties"] is False


# --- exports ------------------------------------------------------------------------------------


@pytest.fixture
def spent(books: Books) -> Books:
    """Two accounts that used something on two days; one of them has a dangerous name."""
    books.price(replace(PRICES, from_at=1))
    for account in ("acme", "=rival()"):
        books.account(account, balance="5")
        books.key(account, "anna")
    for at_s in (-2 * DAY_S, 0.0):
        for one in books.all_keys():
            spend(books, one, U, at_s=at_s, request_id="+1")
    return books


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


async def test_usage_and_ledger_are_exported(
    spent: Books, config: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("translator.service.accounts.export.MAX_ROWS", 1)  # page by page

    def exported(words: str) -> list[dict[str, str]]:
        assert run(config, f"account export {words}") == 0
        return table(capsys.readouterr().out)

    days = exported("days")
    assert [(row["account"], row["amount"]) for row in days] == [
        (name, "0.0046") for name in ("acme", "acme", "'=rival()", "'=rival()")
    ]
    requests = exported("requests --account acme")
    assert [row["id"] for row in requests] == ["usage_3", "usage_1"]
    assert {row["request"] for row in requests} == {"'+1"}
    assert {row["amount"] for row in requests} == {"0.0046"}
    entries = exported("ledger --account acme")
    assert [row["kind"] for row in entries] == ["usage", "usage", "topup"]
    today = days[1]["day"]
    assert exported(f"days --account acme --since {today}") == days[1:2]
    assert exported(f"days --account acme --until {today}") == days[:1]
    assert len(exported(f"requests --since {today}")) == 2
    assert run(config, "account export ledger --format jsonl --account acme") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["amount"] for line in lines] == ["-0.0046", "-0.0046", "5.00"]
    assert lines[0]["balance_after"] == "4.9908"
    assert run(config, "account export days --account nobody") == 2
    assert "no account 'nobody'" in capsys.readouterr().err


# --- pruning ------------------------------------------------------------------------------------


async def test_the_service_deletes_what_is_older_than_it_is_to_be_kept(
    spent: Books, explained: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In small transactions; sums and ledger stay."""
    monkeypatch.setattr("translator.service.accounts.pruning.PRUNED_ROWS", 1)
    monkeypatch.setattr(pruning, "PAUSE_S", 0.01)
    account = spent.of().id
    with reading(spent.connection):
        before = usage.total(spent.connection, account)
        entries = usage.ledger(spent.connection, account)
    key = spent.key(name="reader")
    async with spent.service(usage_days=1) as client:
        async with asyncio.timeout(BOUND_S):
            while len(spent.usages()) > 2:
                await asyncio.sleep(0.01)
        page = (await client.get("/v1/usage", headers=bearer(key))).json()
        assert page["total"]["num_model_requests"] == 2
        gone = await client.get("/v1/usage/usage_1", headers=bearer(key))
        assert gone.status_code == 404
    assert len(spent.usages()) == 2
    with reading(spent.connection):
        assert usage.total(spent.connection, account) == before
        assert usage.ledger(spent.connection, account) == entries


@ON_SQLITE
async def test_nothing_is_deleted_by_default(spent: Books) -> None:
    async with spent.service():
        await asyncio.sleep(0.05)
    assert len(spent.usages()) == 4


async def test_a_day_is_kept_whole(spent: Books) -> None:
    """With two days to keep, those of the day before yesterday are there."""
    with writing(spent.connection):
        assert prune_oldest(spent.connection, 2) == 0
        assert prune_oldest(spent.connection, 1) == 2


# --- the line of a request in the log -------------------------------------------------------------


async def test_the_line_of_a_request_says_what_it_has_cost(
    books: Books, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    books.upstream.script = answering(USAGE)
    async with books.service() as client:
        for way in (ask, chat):
            assert (await way(client, key)).status_code == 200
        await settled(books, 2)
        await client.get("/v1/key", headers=bearer(key))
    lines = [record for record in caplog.records if "id=req_" in record.getMessage()]
    for record in lines[:2]:
        text = record.getMessage()
        assert " key=key_1 account=acme amount=0.004600 " in text
        assert "client=" not in text
        facts: Any = record.msg
        assert facts.facts()["amount"] == "0.004600"
        assert facts.facts()["client"] == "acme/key_1"
    assert " client=acme/key_1 " in lines[2].getMessage()
    assert "amount=" not in lines[2].getMessage()


@ON_SQLITE
async def test_without_billing_the_line_has_no_amount(
    books: Books, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    books.account()
    key = books.key()
    async with books.service(billing=False) as client:
        await ask(client, key)
    [line] = [text for text in map(str, caplog.messages) if "id=req_" in text]
    assert " key=key_1 account=acme " in line
    assert "amount=" not in line


@pytest.mark.parametrize(
    ("amount", "text"),
    [(COST, "0.004600"), (0, "0.000000"), (PICO, "1.000000"), (1, "0.000000000001")],
)
def test_a_cost_has_six_decimals_or_more(amount: int, text: str) -> None:
    assert shown_cost(amount) == text
