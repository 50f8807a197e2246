"""What one client has is not there for another; and no key is in the database, the log or metrics."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.service.responses_api import PATH
from tests.service.wire import Call, ScriptedUpstream, client_of, say_hello
from translator.service.base.ids import random_id
from translator.service.config.loading import read_table
from translator.service.config.store import Location
from translator.service.database import connection as connections
from translator.service.database.statement import DatabaseTime, Statement

from .storing import ANNA, BOB, Service, ask, bytes_of, think

pytestmark = pytest.mark.anyio

HEADERS = {name: {"authorization": f"Bearer {key}"} for name, key in {"a": ANNA, "b": BOB}.items()}
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_-"


_OF_A_NEW_CONNECTION = ("sqlite_master", "version_num")


class Statements:
    """Remembers which statements are executed, and how many rows each returns or changes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.executed: list[tuple[str, int]] = []
        for one in (connections.SqliteConnection, connections.PostgresConnection):
            for name in ("execute", "change"):
                monkeypatch.setattr(one, name, self._remembering(getattr(one, name)))

    def _remembering(self, original: Any) -> Any:
        def method(
            connection: Any, statement: Statement, values: Any = connections.NO_VALUES
        ) -> Any:
            found = original(connection, statement, values)
            number = len(found) if isinstance(found, list) else found
            text = statement.text("sqlite", DatabaseTime())
            if not any(name in text for name in _OF_A_NEW_CONNECTION):
                self.executed.append((text, number))
            return found

        return method

    def taken(self) -> list[tuple[str, int]]:
        found, self.executed = self.executed, []
        return found


async def tried(client: httpx.AsyncClient, response_id: str, item_id: str) -> list[tuple[int, Any]]:
    """All that client b can do with ids: statuses and bodies, without the ids."""
    one, headers = f"{PATH}/{response_id}", HEADERS["b"]
    asked: Sequence[tuple[str, str, Any]] = (
        ("GET", one, None),
        ("DELETE", one, None),
        ("GET", f"{one}/input_items", None),
        ("GET", f"{one}/input_items?after={item_id}&order=asc", None),
        ("POST", f"{one}/cancel", None),
        ("POST", PATH, {"previous_response_id": response_id, "input": "x"}),
        ("POST", f"{PATH}/input_tokens", {"previous_response_id": response_id, "input": "x"}),
        ("POST", f"{PATH}/compact", {"previous_response_id": response_id, "input": "x"}),
        ("POST", PATH, {"input": [{"id": item_id}]}),
        ("POST", PATH, {"input": [{"type": "item_reference", "id": item_id}]}),
        ("POST", f"{PATH}/input_tokens", {"input": [{"id": item_id}]}),
    )
    found: list[tuple[int, Any]] = []
    for method, path, body in asked:
        json = None if body is None else {"model": "m"} | body
        answer = await client.request(method, path, json=json, headers=headers)
        text = answer.text.replace(response_id, "RESPONSE").replace(item_id, "ITEM")
        found.append((answer.status_code, text))
    return found


def mutated(found: str, chance: random.Random) -> str:
    """An id that is nearly right."""
    place = chance.randrange(len(found))
    kind = chance.randrange(4)
    if kind == 0:
        others = DIGITS.replace(found[place], "")
        return found[:place] + chance.choice(others) + found[place + 1 :]
    if kind == 1:
        return found[:place] + found[place + 1 :]
    if kind == 2:
        return found[:place] + chance.choice("%_*' ") + found[place:]
    return found.swapcase()


async def test_id_guessing(
    service: Service, location: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A foreign id costs the same statements, with the same rows, as one that is nowhere."""
    async with service(clients=True) as client:
        foreign = await ask(client, headers=HEADERS["a"], store=True)
        item = foreign["output"][0]["id"]
        await ask(client, headers=HEADERS["a"], previous_response_id=foreign["id"])
        before = bytes_of(location)
        statements = Statements(monkeypatch)
        results: list[Any] = []
        for response_id, item_id in (
            (random_id("resp_"), random_id("msg_")),
            (foreign["id"], item),
            (random_id("resp_"), random_id("msg_")),
        ):
            answers = await tried(client, response_id, item_id)
            assert {status for status, _ in answers} == {400, 404}
            results.append((answers, statements.taken()))
        assert results[0] == results[1] == results[2]
        assert len(results[0][1]) > 8
        assert {rows for _, rows in results[0][1]} == {0}
        chance = random.Random(58)
        guesses = {mutated(foreign["id"], chance) for _ in range(300)} - {foreign["id"]}
        for guess in sorted(guesses):
            answer = await client.get(
                httpx.URL(f"http://test{PATH}/").join(guess.replace("%", "%25")),
                headers=HEADERS["a"],
            )
            assert answer.status_code == 404, guess
        statements.taken()
    assert bytes_of(location) == before


async def test_many_guesses(service: Service) -> None:
    """Random ids, as many at once as the service takes."""
    async with service(clients=True) as client:
        foreign = await ask(client, headers=HEADERS["a"], store=True)

        async def guess(response_id: str) -> int:
            answer = await client.get(f"{PATH}/{response_id}", headers=HEADERS["b"])
            return answer.status_code

        ids = [random_id("resp_") for _ in range(300)]
        ids[150] = foreign["id"]
        assert set(await asyncio.gather(*map(guess, ids))) == {404}


# --- secrets --------------------------------------------------------------------------------------


SECRETS = {
    "client key": "sk-canary-client-0123456789",
    "client header": "canary-header-0123456789",
    "cookie": "canary-cookie-0123456789",
    "upstream key": "sk-canary-upstream-0123456789",
    "upstream header": "canary-upstream-header-0123456789",
    "password": "canary-password-0123456789",
}


def folder_bytes(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.iterdir() if file.is_file())


async def test_secrets_in_bytes(
    upstream: ScriptedUpstream, location: Location, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither in the files and rows of the database, nor in the log, metrics, and answers."""
    caplog.set_level(logging.DEBUG)
    url = location.target
    if location.kind == "postgresql":  # its server trusts, so it does not look at the password
        url = url.replace("tests@", f"tests:{SECRETS['password']}@")
    table: dict[str, Any] = {
        "upstreams": {
            "up": {
                "base_url": upstream.url,
                "headers": {"x-upstream-secret": SECRETS["upstream header"]},
            },
            "keyed": {"base_url": upstream.url, "api_key_env": "KEY"},
        },
        "models": {"m": {"upstream": "up"}, "keyed": {"upstream": "keyed"}},
        "store": {"url_env": "STORE", "write_wait_s": 0.2},
    }
    environ = {
        "KEY": SECRETS["upstream key"],
        "STORE": f"sqlite:///{url}" if location.kind == "sqlite" else url,
    }
    settings = read_table(table, environ)
    headers = {
        "authorization": f"Bearer {SECRETS['client key']}",
        "x-secret": SECRETS["client header"],
        "cookie": f"session={SECRETS['cookie']}",
    }
    seen: list[str] = [repr(settings)]

    async def breaking(call: Call) -> None:
        await call.answer({"error": {"message": f"wrong key {call.headers['authorization']}"}}, 400)

    async with client_of(settings) as client:
        upstream.script = think("hm", "Hello")
        for model in ("m", "keyed"):
            fields = {"model": model, "headers": headers}
            first = await ask(client, **fields, stream=True, metadata={"a": "b"}, user="someone")
            second = await ask(client, **fields, previous_response_id=first["id"])
            for path in ("", "/input_items"):
                answer = await client.get(f"{PATH}/{second['id']}{path}", headers=headers)
                assert answer.status_code == 200
                seen.append(answer.text)
        sent = [call.headers.get("authorization") for call in upstream.calls]
        assert sent[0] == headers["authorization"]
        assert sent[-1] == f"Bearer {SECRETS['upstream key']}"
        assert upstream.calls[0].headers["x-upstream-secret"] == SECRETS["upstream header"]
        upstream.script = breaking
        body = {"model": "m", "input": "x", "store": True}
        seen.append((await client.post(PATH, json=body, headers=headers)).text)
        seen.append((await client.get("/metrics")).text)
        seen.append((await client.get("/readyz")).text)
        files = b""
        if location.kind == "sqlite":
            files = await asyncio.to_thread(folder_bytes, Path(location.target).parent)
            assert first["id"].encode() in files
    upstream.script = say_hello
    rows = repr(bytes_of(location))
    assert first["id"] in rows
    for name, secret in SECRETS.items():
        for text in (*seen, caplog.text, rows):
            assert secret not in text, name
        assert secret.encode() not in files, name
