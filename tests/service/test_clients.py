"""Clients with keys: who gets in, what each may use, how much of it, and where the key never goes."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from translator.service.guard.clients import Allowance, shown_s
from translator.service.guard.keys import new_key, read_stored, salt_of, store
from translator.service.guard.tally import MAX_TAIL_BYTES, Tally
from translator.service.process.run import _say_who_may_ask
from translator.service.settings import Settings, SettingsError, read_table

from .wire import (
    COMPLETION,
    HELLO,
    MODELS,
    Call,
    ScriptedUpstream,
    bounded,
    chunk,
    client_of,
    events,
    frame,
    say_hello,
    serving,
)

pytestmark = pytest.mark.anyio

RESPONSES = "/v1/responses"
CHAT = "/v1/chat/completions"
ASK: dict[str, Any] = {"model": "small", "input": "Hi"}
ASK_CHAT: dict[str, Any] = {"model": "small", "messages": [{"role": "user", "content": "Hi"}]}
ALICE, BOB, FREE = new_key(), new_key(), new_key()
USAGE = {"prompt_tokens": 30, "completion_tokens": 20, "total_tokens": 50}


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def settings_for(
    url: str,
    clients: Mapping[str, Mapping[str, Any]],
    *,
    models: Mapping[str, Any] | None = MODELS,
    **server: Any,
) -> Settings:
    """Settings with these clients in front of one upstream, which has no key of its own."""
    table: dict[str, Any] = {
        "server": server,
        "upstreams": {"up": {"base_url": url}},
        "clients": clients,
    }
    if models is not None:
        table["models"] = models
    return read_table(table, {})


def keyed(key: str, **more: Any) -> dict[str, Any]:
    return {"keys": [str(store(key))], **more}


class Clock:
    """A time that only moves when it is told to, in seconds."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def limited(
    url: str, clock: Clock | None = None, **limits: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the service who holds a key with these limits."""
    settings = settings_for(url, {"alice": keyed(ALICE, **limits)})
    async with client_of(settings, clock=clock or Clock()) as client:
        client.headers.update(bearer(ALICE))
        yield client


# --- keys -----------------------------------------------------------------------------------------


def test_a_key_is_known_by_its_hash_and_by_no_other() -> None:
    first, second = new_key(), new_key()
    assert first != second
    stored = read_stored(str(store(first)))
    assert stored is not None
    assert stored.fits(first)
    assert not stored.fits(second)
    assert not stored.fits(first[:-1])
    forged = f"trk_{salt_of(first)}_{second.rpartition('_')[2]:0>43}"[:64]
    assert not stored.fits(forged)


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
        ({}, "clients: no client is given; without this section everyone may ask"),
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
        ("0.0.0.0", {}, "WARNING", "whoever reaches 0.0.0.0 may ask: no client needs a key"),
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
    _say_who_may_ask(read_table(table | ({"clients": clients} if clients else {}), {}))
    [record] = caplog.records
    assert record.levelname == level
    assert words in record.getMessage()
    assert read_table(table | {"server": {}}, {}).server.host == "127.0.0.1"


# --- which models ---------------------------------------------------------------------------------


async def test_a_client_sees_and_uses_only_its_models(upstream: ScriptedUpstream) -> None:
    clients = {"alice": keyed(ALICE, models=["small"]), "free": keyed(FREE)}
    async with client_of(settings_for(upstream.url, clients)) as client:
        client.headers.update(bearer(ALICE))
        listed = (await client.get("/v1/models")).json()
        assert [entry["id"] for entry in listed["data"]] == ["small"]
        assert [entry["slug"] for entry in listed["models"]] == ["small"]
        assert (await client.get("/v1/models/small")).status_code == 200
        refused = [
            await client.get("/v1/models/org/large"),
            await client.post(RESPONSES, json=ASK | {"model": "org/large"}),
            await client.post("/v1/responses/compact", json=ASK | {"model": "org/large"}),
            await client.post(CHAT, json=ASK_CHAT | {"model": "org/large"}),
        ]
        for answer in refused:
            assert answer.status_code == 404
            assert answer.json()["error"]["code"] == "model_not_found"
            assert answer.json()["error"]["message"].endswith("Models: small.")
        assert upstream.calls == []
        everything = (await client.get("/v1/models", headers=bearer(FREE))).json()
        assert [entry["id"] for entry in everything["data"]] == list(MODELS)


async def test_without_a_table_the_upstream_s_list_is_cut_to_the_client_s_models(
    upstream: ScriptedUpstream,
) -> None:
    async def script(call: Call) -> None:
        if call.path.endswith("/models"):
            rows = [{"id": name, "max_model_len": 9} for name in ("a", "b", "c")]
            await call.answer({"object": "list", "data": [*rows, "odd"]})
        else:
            await say_hello(call)

    upstream.script = script
    clients = {"alice": keyed(ALICE, models=["a", "c"]), "free": keyed(FREE)}
    async with client_of(settings_for(upstream.url, clients, models=None)) as client:
        client.headers.update(bearer(ALICE))
        listed = (await client.get("/v1/models")).json()
        assert listed["data"] == [{"id": "a", "max_model_len": 9}, {"id": "c", "max_model_len": 9}]
        assert [entry["slug"] for entry in listed["models"]] == ["a", "c"]
        assert (await client.get("/v1/models/b")).status_code == 404
        assert (await client.post(RESPONSES, json=ASK | {"model": "b"})).status_code == 404
        nameless = await client.post(CHAT, json={"messages": []})
        assert nameless.json()["error"]["code"] == "missing_required_parameter"
        assert (await client.post(RESPONSES, json=ASK | {"model": "a"})).status_code == 200
        everything = (await client.get("/v1/models", headers=bearer(FREE))).json()
        assert len(everything["data"]) == 4
    assert {call.path for call in upstream.calls} == {"/v1/models", "/v1/chat/completions"}


async def test_a_second_model_beside_the_allowed_one_does_not_get_upstream(
    upstream: ScriptedUpstream,
) -> None:
    """Neither as a key that is given twice, nor as a list of what to fall back to."""
    settings = settings_for(upstream.url, {"alice": keyed(ALICE, models=["m"])}, models=None)
    async with client_of(settings) as client:
        client.headers.update(bearer(ALICE) | {"content-type": "application/json"})
        twice = b'{"model":"secret","messages":[],"model":"m"}'
        assert (await client.post(CHAT, content=twice)).status_code == 200
        answer = await client.post(CHAT, json=ASK_CHAT | {"model": "m", "models": ["secret"]})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "models"
    [call] = upstream.calls
    assert b"secret" not in call.body


# --- how much -------------------------------------------------------------------------------------


def test_an_allowance_fills_up_evenly_and_never_over_its_limit() -> None:
    allowance = Allowance("requests", 60, now=0.0)
    for _ in range(60):
        assert allowance.wait_s(1, 0.0) == 0
        allowance.take(1, 0.0)
    assert allowance.wait_s(1, 0.0) == pytest.approx(1.0)
    assert allowance.wait_s(1, 0.5) == pytest.approx(0.5)
    assert allowance.wait_s(30, 0.5) == pytest.approx(29.5)
    assert allowance.wait_s(1, 1.0) == 0
    assert allowance.headers(1e6)["x-ratelimit-remaining-requests"] == "60"


def test_a_clock_that_is_set_back_gives_nothing_and_takes_nothing() -> None:
    allowance = Allowance("tokens", 60, now=1000.0)
    allowance.take(60, 1000.0)
    assert allowance.wait_s(1, 10.0) == pytest.approx(1.0)
    assert allowance.wait_s(1, 11.0) == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.0204, "20ms"), (1, "1s"), (7.66, "7.66s"), (59.999, "1m0s"), (179.5, "2m59.5s")],
)  # fmt: skip
def test_times_read_as_in_openai_s_headers(seconds: float, text: str) -> None:
    assert shown_s(seconds) == text


async def test_requests_per_minute(upstream: ScriptedUpstream) -> None:
    clock = Clock()
    async with limited(upstream.url, clock, requests_per_minute=2) as client:
        first = await client.post(RESPONSES, json=ASK)
        second = await client.post(CHAT, json=ASK_CHAT)
        third = await client.post(RESPONSES, json=ASK)
        listed = await client.get("/v1/models")
        clock.now += 30
        fourth = await client.post(RESPONSES, json=ASK)
    assert [one.status_code for one in (first, second, third, listed, fourth)] == [
        200, 200, 429, 200, 200,
    ]  # fmt: skip
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert first.headers["x-ratelimit-reset-requests"] == "30s"
    assert second.headers["x-ratelimit-remaining-requests"] == "0"
    assert third.headers["retry-after"] == "30"
    assert third.headers["retry-after-ms"] == "30000"
    assert third.headers["x-ratelimit-remaining-requests"] == "0"
    error = third.json()["error"]
    assert (error["type"], error["code"]) == ("requests", "rate_limit_exceeded")
    assert error["message"] == "Rate limit reached: 2 requests per minute. Please try again in 30s."
    assert len(upstream.calls) == 3


async def with_usage(call: Call) -> None:
    """The usual answer, which tells what it has cost: 50 tokens."""
    if b'"stream":true' in call.body.replace(b" ", b""):
        await call.head()
        await call.send(*HELLO[:-1], frame({"choices": [], "usage": USAGE}), HELLO[-1])
        await call.end()
    else:
        await call.answer(COMPLETION | {"usage": USAGE})


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("path", "body"), [(RESPONSES, ASK), (CHAT, ASK_CHAT)])
async def test_a_request_costs_the_tokens_that_its_answer_tells(
    upstream: ScriptedUpstream, path: str, body: dict[str, Any], stream: bool
) -> None:
    upstream.script = with_usage
    clock = Clock()
    async with limited(upstream.url, clock, tokens_per_minute=1000) as client:
        for spent in (0, 50, 100):
            answer = await client.post(path, json=body | {"stream": stream})
            assert answer.status_code == 200
            charged = len(answer.request.content) // 4
            left = int(answer.headers["x-ratelimit-remaining-tokens"])
            assert left == 1000 - spent - charged


async def test_tokens_that_were_overdrawn_are_waited_for(upstream: ScriptedUpstream) -> None:
    upstream.script = with_usage
    clock = Clock()
    async with limited(upstream.url, clock, tokens_per_minute=40) as client:
        assert (await client.post(RESPONSES, json=ASK)).status_code == 200  # costs 50 of 40
        refused = await client.post(RESPONSES, json=ASK)
        assert refused.status_code == 429
        error = refused.json()["error"]
        assert (error["type"], error["code"]) == ("tokens", "rate_limit_exceeded")
        wait_s = int(refused.headers["retry-after"])
        charged = len(refused.request.content) // 4
        assert wait_s == -(-(10 + charged) * 60 // 40)
        clock.now += wait_s - 2
        assert (await client.post(RESPONSES, json=ASK)).status_code == 429
        clock.now += 2
        assert (await client.post(RESPONSES, json=ASK)).status_code == 200
    assert len(upstream.calls) == 2


async def test_a_request_larger_than_the_allowance_needs_all_of_it(
    upstream: ScriptedUpstream,
) -> None:
    """It is not refused for ever; and what it really cost is all that it leaves behind."""
    upstream.script = with_usage
    async with limited(upstream.url, tokens_per_minute=100) as client:
        large = ASK | {"input": "x" * 4000}
        assert (await client.post(RESPONSES, json=large)).status_code == 200
        assert (await client.post(RESPONSES, json=large)).status_code == 429
        assert (await client.post(RESPONSES, json=ASK)).status_code == 200  # 50 are left


async def test_requests_at_the_same_time_cannot_spend_the_same_tokens(
    upstream: ScriptedUpstream,
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def script(call: Call) -> None:
        begun.set()
        await bounded(go_on.wait())
        await with_usage(call)

    upstream.script = script
    large = ASK | {"input": "x" * 2800}  # 700 tokens, as far as can be known
    async with limited(upstream.url, tokens_per_minute=1000) as client:
        first = asyncio.create_task(client.post(RESPONSES, json=large))
        await bounded(begun.wait())
        assert (await client.post(RESPONSES, json=large)).status_code == 429
        go_on.set()
        assert (await first).status_code == 200
        assert (await client.post(RESPONSES, json=large)).status_code == 200


@pytest.mark.parametrize(("path", "body"), [(RESPONSES, ASK), (CHAT, ASK_CHAT)])
async def test_what_is_refused_costs_no_tokens(
    upstream: ScriptedUpstream, path: str, body: dict[str, Any]
) -> None:
    async def script(call: Call) -> None:
        await call.answer({"error": {"message": "no"}}, 400)

    upstream.script = script
    async with limited(upstream.url, tokens_per_minute=1000, requests_per_minute=9) as client:
        await client.post(path, json=body)
        after = await client.get("/v1/models")
    assert after.headers["x-ratelimit-remaining-tokens"] == "1000"
    assert after.headers["x-ratelimit-remaining-requests"] == "8"


async def test_a_chat_stream_that_does_not_tell_its_usage_costs_a_token_per_event(
    upstream: ScriptedUpstream,
) -> None:
    async with limited(upstream.url, tokens_per_minute=1000) as client:
        answer = await client.post(CHAT, json=ASK_CHAT | {"stream": True})
        after = await client.get("/v1/models")
    charged = len(answer.request.content) // 4
    assert int(after.headers["x-ratelimit-remaining-tokens"]) == 1000 - charged - len(HELLO)


async def test_a_cut_answer_costs_what_was_charged(upstream: ScriptedUpstream) -> None:
    async def script(call: Call) -> None:
        await call.head()
        await call.send(chunk({"content": "Hel"}))
        call.drop()

    upstream.script = script
    async with limited(upstream.url, tokens_per_minute=1000) as client:
        answer = await client.post(RESPONSES, json=ASK | {"stream": True})
        after = await client.get("/v1/models")
    assert events(answer.content)[-1]["type"] == "response.failed"
    charged = len(answer.request.content) // 4
    assert int(after.headers["x-ratelimit-remaining-tokens"]) == 1000 - charged


async def test_requests_at_once_per_key(upstream: ScriptedUpstream) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def script(call: Call) -> None:
        begun.set()
        await bounded(go_on.wait())
        await say_hello(call)

    upstream.script = script
    clients = {"alice": keyed(ALICE, max_concurrent_requests=1), "free": keyed(FREE)}
    async with client_of(settings_for(upstream.url, clients)) as client:
        first = asyncio.create_task(client.post(RESPONSES, json=ASK, headers=bearer(ALICE)))
        await bounded(begun.wait())
        second = await client.post(RESPONSES, json=ASK, headers=bearer(ALICE))
        other = asyncio.create_task(client.post(RESPONSES, json=ASK, headers=bearer(FREE)))
        go_on.set()
        assert (await first).status_code == 200
        assert (await other).status_code == 200
        assert (await client.post(RESPONSES, json=ASK, headers=bearer(ALICE))).status_code == 200
    assert second.status_code == 429
    assert second.headers["retry-after"] == "1"
    assert second.json()["error"]["code"] == "rate_limit_exceeded"
    assert len(upstream.calls) == 3


async def test_limits_on_a_websocket_leave_it_open(upstream: ScriptedUpstream) -> None:
    settings = settings_for(upstream.url, {"alice": keyed(ALICE, requests_per_minute=1)})
    async with serving(settings, clock=Clock()) as url:
        address = url.replace("http", "ws") + RESPONSES
        async with connect(address, additional_headers=bearer(ALICE), proxy=None) as socket:
            ends: list[dict[str, Any]] = []
            for _ in range(2):
                await socket.send(json.dumps({"type": "response.create", **ASK}))
                last: dict[str, Any] = {}
                while last.get("type") not in ("response.completed", "error"):
                    last = json.loads(await bounded(socket.recv()))
                ends.append(last)
    assert ends[0]["type"] == "response.completed"
    assert (ends[1]["status"], ends[1]["error"]["code"]) == (429, "rate_limit_exceeded")
    assert ends[1]["headers"]["retry-after"] == "60"
    assert ends[1]["headers"]["x-ratelimit-remaining-requests"] == "0"
    assert len(upstream.calls) == 1


async def test_the_upstream_s_own_limits_are_not_told_in_place_of_the_client_s(
    upstream: ScriptedUpstream,
) -> None:
    async def script(call: Call) -> None:
        await call.answer(COMPLETION, headers={"x-ratelimit-remaining-requests": "99999"})

    upstream.script = script
    async with limited(upstream.url, requests_per_minute=5) as client:
        answer = await client.post(CHAT, json=ASK_CHAT)
    assert answer.headers.get_list("x-ratelimit-remaining-requests") == ["4"]


# --- what is read of an answer that passes ---------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_the_usage_is_found_however_the_answer_is_cut(size: int) -> None:
    text = json.dumps({"content": 'a "usage": {"total_tokens": 9} b', "usage": USAGE}).encode()
    tally = Tally()
    for start in range(0, len(text), size):
        tally.add(text[start : start + size])
    assert tally.total == 50


def test_what_a_model_says_of_usage_is_not_believed() -> None:
    tally = Tally()
    tally.add(json.dumps({"content": '"usage": {"total_tokens": 9}'}).encode())
    assert tally.total is None


def test_only_the_end_of_an_answer_is_kept() -> None:
    tally = Tally()
    for _ in range(100):
        tally.add(b"data: x\n" * 2048)
        assert len(tally._tail) <= 2 * MAX_TAIL_BYTES + 16384
    tally.add(json.dumps({"usage": USAGE}).encode())
    assert tally.total == 50
    assert tally.events == 204_800
