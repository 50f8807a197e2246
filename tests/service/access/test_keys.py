"""Clients with keys: who gets in, and where the key never goes."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.service.responses_api import ASK_SMALL_WHOLE as ASK
from tests.service.wire import ScriptedUpstream, bounded, client_of, serving
from translator.service.base.keys import new_key, read_stored, salt_of, store
from translator.service.config.loading import read_table
from translator.service.config.settings import SettingsError
from translator.service.server.listeners import _log_access

from .clients import (
    ALICE,
    ASK_CHAT,
    BOB,
    CHAT,
    RESPONSES,
    bearer,
    keyed,
    settings_for,
)

pytestmark = pytest.mark.anyio


# --- keys -----------------------------------------------------------------------------------------


def test_a_key_is_known_by_its_hash_and_by_no_other() -> None:
    first, second = new_key(), new_key()
    assert first != second
    stored = read_stored(str(store(first)))
    assert stored is not None
    assert stored.matches(first)
    assert not stored.matches(second)
    assert not stored.matches(first[:-1])
    forged = f"trk_{salt_of(first)}_{second.rpartition('_')[2]:0>43}"[:64]
    assert not stored.matches(forged)


def test_the_hash_does_not_hold_the_key() -> None:
    key = new_key()
    secret = key.split("_", 2)[2]
    assert len(secret) == 43  # 256 bits in base64url
    assert secret not in str(store(key))


def test_the_same_key_never_has_the_same_hash_under_another_salt() -> None:
    digests = {store(new_key()).digest for _ in range(50)}
    assert len(digests) == 50


@pytest.mark.parametrize(
    "text", ["", "sha256:abc", "md5:0:0", "sha256:" + "0" * 16 + ":" + "0" * 63]
)
def test_what_is_no_hash_is_not_taken_for_one(text: str) -> None:
    assert read_stored(text) is None


@pytest.mark.parametrize(
    ("clients", "problem"),
    [
        ({}, "clients: no client is given; without this section requests need no key"),
        ([], "clients: expected a table, as in [clients.NAME]"),
        ({"a": {}}, "clients.a.keys: is missing"),
        ({"a": {"keys": []}}, "clients.a.keys: no key is given; translator key new a makes one"),
        ({"a": {"keys": ["plain"]}}, "clients.a.keys[0]: is not what translator key new a prints"),
        ({"a": keyed(ALICE), "b": keyed(ALICE)}, "clients.b.keys[0]: is a key that was given before"),
        ({"a": keyed(ALICE, models=["smal"])}, 'clients.a.models: there is no model "smal"'),
        ({"a": keyed(ALICE, tokens_per_minute=0)}, "clients.a.tokens_per_minute: expected int >= 1"),
        ({"a": keyed(ALICE, rpm=1)}, "clients.a.rpm: there is no such setting; known: keys, models, requests_per_minute, tokens_per_minute, max_concurrent_requests"),
    ],
)  # fmt: skip
def test_mistakes_in_the_section_are_told(clients: Any, problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings_for("http://up.test/v1", clients)
    assert caught.value.problems == (problem,)


# --- who gets in ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer sk-something",
        f"Basic {ALICE}",
        ALICE,
        f"Bearer {ALICE[:-1]}",
        f"Bearer {ALICE}x",
        f"Bearer {BOB}",
        f"Bearer trk_{salt_of(ALICE)}_{'A' * 43}",
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", RESPONSES), ("POST", "/v1/responses/compact"), ("POST", CHAT), ("GET", "/v1/models"), ("GET", "/models/small"), ("GET", "/nowhere"), ("GET", "/metrics")],
)  # fmt: skip
async def test_without_a_known_key_nothing_is_answered(
    upstream: ScriptedUpstream, authorization: str | None, method: str, path: str
) -> None:
    headers = {} if authorization is None else {"authorization": authorization}
    async with client_of(settings_for(upstream.url, {"alice": keyed(ALICE)})) as client:
        answer = await client.request(method, path, json=ASK, headers=headers)
    assert answer.status_code == 401
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_api_key")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert upstream.calls == []


async def test_whether_the_service_is_up_needs_no_key(upstream: ScriptedUpstream) -> None:
    async with client_of(settings_for(upstream.url, {"alice": keyed(ALICE)})) as client:
        assert (await client.get("/healthz")).status_code == 200


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER "])
async def test_a_known_key_gets_in_and_goes_no_further(
    upstream: ScriptedUpstream, scheme: str
) -> None:
    """No header that goes upstream holds it, not even where the upstream has no key at all."""
    headers = {"authorization": f"{scheme} {ALICE}"}
    async with client_of(settings_for(upstream.url, {"alice": keyed(ALICE)})) as client:
        answers = [
            await client.post(RESPONSES, json=ASK, headers=headers),
            await client.post(RESPONSES, json=ASK | {"stream": True}, headers=headers),
            await client.post("/v1/responses/compact", json=ASK, headers=headers),
            await client.post(CHAT, json=ASK_CHAT, headers=headers),
        ]
    assert [answer.status_code for answer in answers] == [200] * 4
    assert len(upstream.calls) == 4
    for call in upstream.calls:
        assert "authorization" not in call.headers
        assert ALICE.encode() not in call.body
        assert ALICE not in json.dumps(call.headers)


async def test_each_of_two_keys_of_a_client_gets_in(upstream: ScriptedUpstream) -> None:
    """So a key can be replaced without a moment in which neither is known."""
    section = {"keys": [str(store(ALICE)), str(store(BOB))]}
    async with client_of(settings_for(upstream.url, {"alice": section})) as client:
        for key in (ALICE, BOB):
            assert (await client.post(RESPONSES, json=ASK, headers=bearer(key))).status_code == 200


async def test_a_websocket_asks_for_the_key_once_and_sends_it_nowhere(
    upstream: ScriptedUpstream,
) -> None:
    settings = settings_for(upstream.url, {"alice": keyed(ALICE, models=["small"])})
    async with serving(settings) as url:
        address = url.replace("http", "ws") + RESPONSES
        for headers in ({}, bearer(BOB)):
            with pytest.raises(InvalidStatus) as refused:
                await bounded(connect(address, additional_headers=headers, proxy=None))
            assert refused.value.response.status_code == 401
            assert b"invalid_api_key" in (refused.value.response.body or b"")
        async with connect(address, additional_headers=bearer(ALICE), proxy=None) as socket:
            for model in ("small", "org/large", "small"):
                await socket.send(json.dumps({"type": "response.create", **ASK, "model": model}))
                last: dict[str, Any] = {}
                while last.get("type") not in ("response.completed", "error"):
                    last = json.loads(await bounded(socket.recv()))
                if model == "small":
                    assert last["response"]["status"] == "completed"
                else:
                    assert last["error"]["code"] == "model_not_found"
                    assert "org/large" not in last["error"]["message"].partition("Models")[2]
    assert len(upstream.calls) == 2
    assert all("authorization" not in call.headers for call in upstream.calls)


async def test_the_log_names_the_client_and_not_its_key(
    upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with client_of(settings_for(upstream.url, {"alice": keyed(ALICE)})) as client:
        await client.post(RESPONSES, json=ASK, headers=bearer(ALICE))
        await client.post(RESPONSES, json=ASK, headers=bearer(BOB))
    assert "client=alice" in caplog.text
    assert ALICE not in caplog.text
    assert BOB not in caplog.text


@pytest.mark.parametrize(
    ("host", "clients", "level", "words"),
    [
        ("127.0.0.1", {}, "INFO", "only programs on this machine can reach 127.0.0.1"),
        ("0.0.0.0", {}, "WARNING", "anyone who can reach 0.0.0.0 may use it: clients need no key"),
        ("0.0.0.0", {"alice": keyed(ALICE)}, "INFO", "a client needs a key here; known clients: 1"),
    ],
)
def test_the_service_says_who_may_ask(
    caplog: pytest.LogCaptureFixture, host: str, clients: Any, level: str, words: str
) -> None:
    """Without keys it listens on this machine only, unless it is told otherwise."""
    caplog.set_level(logging.INFO)
    table: dict[str, Any] = {
        "server": {"host": host},
        "upstreams": {"up": {"base_url": "http://a"}},
    }
    _log_access(read_table(table | ({"clients": clients} if clients else {}), {}))
    [record] = caplog.records
    assert record.levelname == level
    assert words in record.getMessage()
    assert read_table(table | {"server": {}}, {}).server.host == "127.0.0.1"
