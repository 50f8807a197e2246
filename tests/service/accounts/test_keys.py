"""Keys of accounts: who may send a request, for which models, and how many, in any process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.service.access.clients import CHAT
from tests.service.chat_bodies import HELLO
from tests.service.responses_api import PATH
from tests.service.websocket.client import ask as ask_on_socket
from tests.service.websocket.client import open_socket
from tests.service.wire import BOUND_S, Call, ScriptedUpstream, client_of, serving
from translator.check.run import _settings_row
from translator.service.accounts import books as book
from translator.service.accounts import channel_book, key_book
from translator.service.accounts.keys import Channel
from translator.service.accounts.known_keys import KNOWN_S
from translator.service.base.keys import new_key, store
from translator.service.config.loading import read_table
from translator.service.config.settings import SettingsError
from translator.service.config.store import read_store
from translator.service.database.connection import writing
from translator.service.database.statement import DatabaseTime
from translator.service.server.listeners import _log_access

from .conftest import TABLES
from .paying import ASK, ASK_CHAT, ON_SQLITE, Books, answering, ask, bearer

pytestmark = pytest.mark.anyio

SERVICE: dict[str, Any] = {"billing": False}


async def until_settled(books: Books, count: int = 0) -> None:
    """Wait until so many holds are open."""
    async with asyncio.timeout(BOUND_S):
        while len(books.rows("SELECT id FROM acct_holds")) != count:
            await asyncio.sleep(0.01)


# --- who ----------------------------------------------------------------------------------------


def test_off_by_default() -> None:
    program = (
        "import sys; from translator.service.config.loading import read_table;"
        "from translator.service.http.app import create_app;"
        "create_app(read_table({'upstreams': {'up': {'base_url': 'http://up.test'}}}, {}));"
        "print(*sorted(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    loaded = done.stdout.split()
    assert "translator.service.http.app" in loaded
    assert not [
        one
        for one in loaded
        if one.startswith(("translator.service.accounts", "translator.service.database"))
        or one in ("translator.service.config.accounts", "sqlite3", "sqlalchemy", "psycopg")
    ]


async def test_without_the_section_there_is_no_path_of_it(upstream: ScriptedUpstream) -> None:
    async with upstream.client() as client:
        assert (await client.get("/account")).status_code == 404
        assert "accounts" not in (await client.get("/readyz")).json()


async def test_a_key_admits_and_a_wrong_one_does_not(books: Books) -> None:
    books.account()
    key = books.key()
    async with books.service(**SERVICE) as client:
        answer = await ask(client, key)
        assert answer.status_code == 200
        assert answer.json()["output"][0]["content"][0]["text"] == "Hello world"
        assert not any(name.startswith("x-codex") for name in answer.headers)
        for text in ("", "trk_0", f"{key[:-1]}{'a' if key[-1] != 'a' else 'b'}", key[:30]):
            for again in range(2):
                refused = await ask(client, text)
                assert refused.status_code == 401, again
                assert refused.json()["error"]["code"] == "invalid_api_key"
        assert (await client.post(PATH, json=ASK)).status_code == 401
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).json()["accounts"] == "ready"
    assert len(books.usages()) == len(books.upstream.calls) == 1


@pytest.mark.parametrize("how", ["revoked", "expired", "suspended"])
async def test_who_may_not_is_refused_at_once_in_every_process(books: Books, how: str) -> None:
    """What a process knows of a key from a moment before changes nothing."""
    books.account()
    key = books.key()
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(books.service(**SERVICE)) for _ in range(2)]
        for client in clients:
            assert (await ask(client, key)).status_code == 200
        if how == "revoked":
            books.revoke(key)
        elif how == "suspended":
            with writing(books.connection):
                book.suspend(books.connection, "acme", suspended=True)
        else:
            books.change("UPDATE acct_keys SET expires_at = 1000000")
        for client in clients:
            for path, fields in ((PATH, ASK), (CHAT, ASK_CHAT)):
                refused = await client.post(path, json=fields, headers=bearer(key))
                assert refused.status_code == 401
                code = refused.json()["error"]["code"]
                assert code == ("account_deactivated" if how == "suspended" else "invalid_api_key")
            assert (await client.get("/v1/models", headers=bearer(key))).status_code == 401
        if how == "suspended":
            with writing(books.connection):
                book.suspend(books.connection, "acme", suspended=False)
            await asyncio.sleep(KNOWN_S)
            assert (await ask(clients[0], key)).status_code == 200
    assert not books.rows("SELECT id FROM acct_holds")


async def test_a_rotated_key_works_until_its_grace_is_over(books: Books) -> None:
    books.account()
    old = books.key(requests_per_minute=100)
    text = rotated(books, old, grace_us=3_600_000_000)
    time = DatabaseTime()
    async with books.service(time, **SERVICE) as client:
        for key in (old, text):
            assert (await ask(client, key)).status_code == 200
        time.offset_s = 3601.0
        refused = await ask(client, old)
        assert refused.status_code == 401
        assert "expired" in refused.json()["error"]["message"]
        assert (await ask(client, text)).status_code == 200
    first, second = books.all_keys()
    assert first.replaced_by == second.id
    assert second.limits.requests_per_minute == 100


def rotated(books: Books, old: str, grace_us: int) -> str:
    text = new_key()
    found = books.found(old)
    with writing(books.connection):
        key_book.rotate(books.connection, found, store(text), grace_us)
    return text


async def test_moved_from_clients(books: Books) -> None:
    """The same keys work, for the same models and with the same limits."""
    old, other = new_key(), new_key()
    table = {
        "anna": {"keys": [str(store(old))], "models": ["m"], "requests_per_minute": 7},
        "bob": {"keys": [str(store(other))], "tokens_per_minute": 500},
    }
    up = {"up": {"base_url": books.upstream.url}}
    clients = read_table({"upstreams": up, "clients": table}, {}).clients
    books.account()
    with writing(books.connection):
        assert key_book.import_clients(books.connection, "acme", clients) == (2, 0)
        assert key_book.import_clients(books.connection, "acme", clients) == (0, 2)
    async with books.service(**SERVICE) as client:
        answer = await ask(client, old)
        assert answer.headers["x-ratelimit-remaining-requests"] == "6"
        assert (await ask(client, old, model="other")).status_code == 404
        answer = await ask(client, other, model="other")
        assert answer.headers["x-ratelimit-limit-tokens"] == "500"
    with pytest.raises(SettingsError, match=r"accounts: .*import-clients FILE --account NAME"):
        read_table({"upstreams": up, "clients": table, "accounts": {"billing": False}}, {})


# --- which models -------------------------------------------------------------------------------


async def test_channels_say_which_models_a_key_has(books: Books) -> None:
    books.account()
    with writing(books.connection):
        channel_book.set_channel(
            books.connection, Channel("few", "Few", ("other", "gone"), "standard")
        )
    everything = books.key(name="a")
    few = books.key(name="b", channels=("few",))
    one = books.key(name="c", models=("m",))
    none = books.key(name="d", channels=("few",), models=("m",))
    expected = {everything: ["m", "other"], few: ["other"], one: ["m"], none: []}
    async with books.service(**SERVICE) as client:
        for key, models in expected.items():
            listed = await client.get("/v1/models", headers=bearer(key))
            assert [entry["id"] for entry in listed.json()["data"]] == models
            for model in ("m", "other", "gone"):
                status = 200 if model in models else 404
                answers = [
                    await ask(client, key, model=model),
                    await client.post(CHAT, json=ASK_CHAT | {"model": model}, headers=bearer(key)),
                    await client.get(f"/v1/models/{model}", headers=bearer(key)),
                ]
                assert [answer.status_code for answer in answers] == [status] * 3
                if status == 404:
                    codes = {answer.json()["error"]["code"] for answer in answers}
                    assert codes == {"model_not_found"}


async def test_a_channel_without_the_model_refuses_at_once(books: Books) -> None:
    books.account()
    key = books.key()
    async with books.service(**SERVICE) as client:
        assert (await ask(client, key)).status_code == 200
        with writing(books.connection):
            channel_book.set_channel(books.connection, Channel("all", "", ("other",), "standard"))
        refused = await ask(client, key)
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")
    assert len(books.upstream.calls) == 1


async def test_all_models_are_those_that_are_listed(books: Books) -> None:
    """Not every name that a catch-all would serve; without a table, any name."""
    books.account()
    key = books.key()
    models = {"m": {"upstream": "up"}, "*": {"upstream": "up"}}
    async with books.service(models=models, **SERVICE) as client:
        assert (await ask(client, key)).status_code == 200
        assert (await ask(client, key, model="whatever")).status_code == 404
    settings = books.settings(**SERVICE)
    async with client_of(_without_models(settings)) as client:
        assert (await ask(client, key, model="whatever")).status_code == 200


def _without_models(settings: Any) -> Any:
    return msgspec.structs.replace(settings, models={})


# --- how many -----------------------------------------------------------------------------------


async def test_limits_over_workers(books: Books) -> None:
    """60 in a minute, whichever process they come to, and the headers agree."""
    books.account()
    key = books.key(requests_per_minute=60)
    async with AsyncExitStack() as stack:
        patient = SERVICE | {"database_timeout_s": BOUND_S, "lease_s": 60}
        clients = [await stack.enter_async_context(books.service(**patient)) for _ in range(4)]
        answers = await asyncio.gather(
            *(ask(clients[number % 4], key) for number in range(100)),
        )
    passed = [answer for answer in answers if answer.status_code == 200]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(passed) + len(refused) == 100
    assert 60 <= len(passed) <= 60 + BOUND_S
    left = sorted(int(answer.headers["x-ratelimit-remaining-requests"]) for answer in passed)
    assert left[-1] == 59
    for answer in refused:
        error = answer.json()["error"]
        assert (error["code"], error["type"]) == ("rate_limit_exceeded", "requests")
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert answer.headers["x-ratelimit-remaining-requests"] == "0"
    assert len(books.upstream.calls) == len(passed)


async def test_tokens_are_charged_before_and_corrected_after(books: Books) -> None:
    books.account()
    key = books.key(tokens_per_minute=1000)
    books.upstream.script = answering(
        {"prompt_tokens": 100, "completion_tokens": 700, "total_tokens": 800}
    )
    async with books.service(**SERVICE) as client:
        first = await ask(client, key)
        assert int(first.headers["x-ratelimit-remaining-tokens"]) > 980
        await until_settled(books)
        second = await ask(client, key, input="x" * 400)
        assert 60 <= int(second.headers["x-ratelimit-remaining-tokens"]) <= 200 + BOUND_S * 16
        await until_settled(books)
        third = await ask(client, key)  # the second one has left a debt
        assert third.status_code == 429
        assert third.json()["error"]["type"] == "tokens"
        books.change("UPDATE acct_allowances SET since = since - 120000000")
        assert (await ask(client, key)).status_code == 200


async def test_requests_at_once_are_counted_over_processes(books: Books) -> None:
    books.account()
    key = books.key(max_concurrent_requests=2)
    release = asyncio.Event()

    async def script(call: Call) -> None:
        await release.wait()
        await call.head()
        await call.send(*HELLO)
        await call.end()

    books.upstream.script = script
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(books.service(**SERVICE)) for _ in range(2)]
        open_ = [asyncio.create_task(ask(client, key, stream=True)) for client in clients]
        await until_settled(books, 2)
        for client in clients:
            refused = await ask(client, key)
            assert refused.status_code == 429
            assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        release.set()
        assert [answer.status_code for answer in await asyncio.gather(*open_)] == [200, 200]
        await until_settled(books)
        assert (await ask(clients[0], key, stream=True)).status_code == 200
    assert [(one.open, one.held) for one in books.all_keys()] == [(0, 0)]


# --- all ways -----------------------------------------------------------------------------------


async def test_websocket(books: Books) -> None:
    """A turn that is not sent holds nothing; a key that is revoked between two turns is a 401."""
    books.account()
    key = books.key()
    async with serving(books.settings(**SERVICE)) as url, open_socket(url, key) as socket:
        events = await ask_on_socket(socket, generate=False)
        assert events[-1]["type"] == "response.completed"
        events = await ask_on_socket(socket)
        assert events[-1]["type"] == "response.completed"
        await until_settled(books)
        assert books.usages("endpoint, outcome") == [("/responses", "completed")]
        books.revoke(key)
        [error] = await ask_on_socket(socket)
        assert (error["type"], error["status"]) == ("error", 401)
        assert error["error"]["code"] == "invalid_api_key"
    assert len(books.usages()) == len(books.upstream.calls) == 1


async def test_who_is_refused_costs_nothing(books: Books) -> None:
    books.account()
    key = books.key(tokens_per_minute=10_000)
    async with books.service(**SERVICE) as client:
        refused = await ask(client, key, input=7)
        assert refused.status_code == 400
        assert not books.usages()

        async def failing(call: Call) -> None:
            await call.answer({"error": {"message": "No.", "code": "no"}}, 400)

        books.upstream.script = failing
        assert (await ask(client, key)).status_code == 400
        await until_settled(books)
    assert books.usages("outcome, output, estimated") == [("refused", 0, "no")]
    [(rest,)] = books.rows("SELECT rest FROM acct_allowances WHERE noun = 'tokens'")
    assert rest == 10_000 * 60_000_000


async def test_what_is_stored_belongs_to_the_account(books: Books, tmp_path: Path) -> None:
    """Two keys of one account see the same responses, and those of another see none."""
    books.account()
    books.account("other")
    first, second = books.key(), books.key(name="bob")
    foreign = books.key("other")
    settings = books.settings(**SERVICE)
    stored = read_store({"url": f"sqlite:///{tmp_path}/store.db"}, tmp_path, {}, [])
    async with client_of(msgspec.structs.replace(settings, store=stored)) as client:
        made = (await ask(client, first)).json()["id"]
        for key, status in ((first, 200), (second, 200), (foreign, 404)):
            got = await client.get(f"{PATH}/{made}", headers=bearer(key))
            assert got.status_code == status


async def test_the_secret_is_nowhere(books: Books, caplog: pytest.LogCaptureFixture) -> None:
    books.account()
    key = books.key()
    caplog.set_level("DEBUG")
    async with books.service(**SERVICE) as client:
        texts = [(await ask(client, key)).text, (await ask(client, f"{key}x")).text]
        texts.append((await client.get("/metrics", headers=bearer(key))).text)
    texts += [repr(books.rows(f"SELECT * FROM acct_{table}")) for table in TABLES]
    texts += [record.getMessage() for record in caplog.records]
    secret = key.rpartition("_")[2] if key.count("_") == 2 else key[21:]
    assert all(secret not in text for text in texts)
    assert any("acme/key_1" in text for text in texts)


@ON_SQLITE
async def test_what_is_said_of_keys(books: Books, caplog: pytest.LogCaptureFixture) -> None:
    """The start, the page and `check` know that requests need a key of an account."""
    settings = books.settings(**SERVICE)
    assert settings.needs_keys
    assert not settings.serves_page
    caplog.set_level("INFO")
    _log_access(settings)
    assert caplog.messages == ["a client needs a key of an account here"]
    row = _settings_row(settings, "settings.toml")
    assert "keys of accounts" in row.summary
    assert not row.advice


@ON_SQLITE
async def test_a_model_without_a_longest_answer_is_named(books: Books) -> None:
    """More than was held for it may be billed."""
    settings = books.settings()
    row = _settings_row(settings, "settings.toml")
    without = [name for name, model in settings.models.items() if model.max_output_tokens is None]
    assert without
    assert "may cost more than is held for it" in row.advice
    assert all(name in row.advice for name in without)
    limited = {
        name: msgspec.structs.replace(model, max_output_tokens=9)
        for name, model in settings.models.items()
    }
    settings = msgspec.structs.replace(settings, models=limited)
    assert not _settings_row(settings, "settings.toml").advice


async def test_a_response_in_the_background_keeps_its_hold_until_it_ends(
    books: Books, tmp_path: Path
) -> None:
    books.account()
    key = books.key()
    release = asyncio.Event()
    script = answering({"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7})

    async def waits(call: Call) -> None:
        await release.wait()
        await script(call)

    books.upstream.script = waits
    stored = read_store({"url": f"sqlite:///{tmp_path}/store.db"}, tmp_path, {}, [])
    settings = msgspec.structs.replace(books.settings(**SERVICE), store=stored)
    async with client_of(settings) as client:
        answer = await ask(client, key, background=True)
        assert answer.json()["status"] == "queued"
        assert len(books.rows("SELECT id FROM acct_holds")) == 1
        release.set()
        await until_settled(books)
        assert books.usages("response_id, input, output, estimated") == [
            (answer.json()["id"], 5, 2, "no")
        ]
