"""Clients with keys: which models each may use, and how much of them."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from types import SimpleNamespace
from typing import Any

import pytest
from websockets.asyncio.client import connect

from tests.service.chat_bodies import COMPLETION, HELLO, chunk, frame
from tests.service.responses_api import ASK_SMALL_WHOLE as ASK
from tests.service.responses_api import events
from tests.service.wire import (
    MODELS,
    Call,
    ScriptedUpstream,
    bounded,
    client_of,
    say_hello,
    serving,
)
from translator.service.access.clients import Charge
from translator.service.access.cost import Answered
from translator.service.access.rate_limit import RateLimit, shown_s
from translator.service.config.loading import read_table
from translator.service.http import app
from translator.service.http.chat_fields import DOCUMENTED

from .clients import (
    ALICE,
    ASK_CHAT,
    CHAT,
    FREE,
    RESPONSES,
    USAGE,
    Clock,
    bearer,
    keyed,
    limited,
    settings_for,
)

pytestmark = pytest.mark.anyio


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


OTHER_WAYS: dict[str, Any] = {
    "models": ["secret"],
    "Model": "secret",
    "model ": "secret",
    "fallbacks": [{"m": ["secret"]}],
    "context_window_fallback_dict": {"m": "secret"},
    "content_policy_fallbacks": ["secret"],
    "api_base": "http://secret.test",
    "base_url": "http://secret.test",
    "api_key": "secret",
    "user_config": {"model_list": ["secret"]},
    "preset": "secret",
    "plugins": [{"id": "secret"}],
    "route": "fallback",
    "provider": {"order": ["secret"]},
    "extra_body": {"model": "secret"},
    "litellm_params": {"model": "secret"},
    "metadata": {"model_group": ["secret"]},
    "tools": [{"type": "function", "function": {"name": "f"}}, {"type": "openrouter:secret"}],
}
NAMED = {"metadata": "metadata.model_group", "tools": "tools[1].type"}


@pytest.mark.parametrize("name", OTHER_WAYS)
@pytest.mark.parametrize("models", [None, {"m": {"upstream": "up"}}])
async def test_a_key_for_certain_models_may_send_only_known_chat_fields(
    upstream: ScriptedUpstream, name: str, models: dict[str, Any] | None
) -> None:
    """Gateways read other models from many fields; a key for all models may send any."""
    clients = {"alice": keyed(ALICE, models=["m"]), "free": keyed(FREE)}
    body = ASK_CHAT | {"model": "m", name: OTHER_WAYS[name]}
    async with client_of(settings_for(upstream.url, clients, models=models)) as client:
        answer = await client.post(CHAT, json=body, headers=bearer(ALICE))
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == NAMED.get(name, name)
        assert upstream.calls == []
        assert (await client.post(CHAT, json=body, headers=bearer(FREE))).status_code == 200
    assert upstream.calls[0].json == body


async def test_a_key_for_certain_models_may_send_what_is_documented_and_what_is_forwarded(
    upstream: ScriptedUpstream,
) -> None:
    """What the dialect names, too: an effort is a field of another name almost everywhere."""
    documented = dict.fromkeys(DOCUMENTED - {"model", "messages", "stream"})
    tools = [{"type": "custom", "custom": {"name": "c"}}, {"function": {"name": "f"}}]
    body = ASK_CHAT | documented | {"model": "m", "tools": tools, "metadata": {"model": "x"}}
    body |= {"top_k": 1, "own": {"model": "secret"}, "enable_thinking": True}
    settings = read_table(
        {
            "server": {"forward": ["own", "top_k"]},
            "upstreams": {"up": {"base_url": upstream.url, "dialect": "dashscope"}},
            "clients": {"alice": keyed(ALICE, models=["m"])},
        },
        {},
    )
    async with client_of(settings) as client:
        client.headers.update(bearer(ALICE))
        answer = await client.post(CHAT, json=body)
        assert answer.status_code == 200, answer.text
        refused = await client.post(CHAT, json=body | {"min_p": 1})
        assert refused.json()["error"]["param"] == "min_p"
        odd: list[tuple[str, object]] = [("tools", 7), ("tools", [7]), ("metadata", 7)]
        for name, value in odd:
            refused = await client.post(CHAT, json=body | {name: value})
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, name)
    assert [call.json for call in upstream.calls] == [body]


async def test_a_name_that_stands_twice_is_sent_once(upstream: ScriptedUpstream) -> None:
    """In whatever spelling: the upstream reads the same model, type and metadata as the check."""
    clients = {"alice": keyed(ALICE, models=["m"]), "free": keyed(FREE)}
    bodies = [
        b'{"model":"secret","messages":[],"model":"m"}',
        b'{"mod\\u0065l":"secret","messages":[],"model":"m"}',
        b'{"model":"secret","messages":[],"mod\\u0065l":"m"}',
    ]
    nested = [
        b'{"model":"m","tools":[{"type":"secret","type":"function"}]}',
        b'{"model":"m","metadata":{"a":["secret"],"a":"b"}}',
    ]
    async with client_of(settings_for(upstream.url, clients, models=None)) as client:
        for body in bodies:
            for key in (ALICE, FREE):
                await client.post(CHAT, content=body, headers=bearer(key))
        for body in nested:
            await client.post(CHAT, content=body, headers=bearer(ALICE))
        for path in (RESPONSES, "/v1/responses/compact"):
            body = b'{"model":"secret","input":"Hi","model":"m"}'
            await client.post(path, content=body, headers=bearer(ALICE))
            body = b'{"model":"m","input":"Hi","model":"secret"}'
            assert (await client.post(path, content=body, headers=bearer(ALICE))).is_error
    assert len(upstream.calls) == 10
    for call in upstream.calls:
        assert b"secret" not in call.body
        assert call.json["model"] == "m"


# --- how much -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "charged"),
    [(1, 1), (4, 4), (None, 1), ("4", 4), (4.0, 4), (0, 1), (-4, 1), ("many", 1), ([4], 1)],
)
async def test_each_answer_is_charged_in_advance(
    upstream: ScriptedUpstream, n: object, charged: int
) -> None:
    """A request for several answers reserves as much for each, until their usage is known."""
    seen = asyncio.Event()

    async def script(call: Call) -> None:
        seen.set()
        await bounded(call.gone())

    upstream.script = script
    body = json.dumps(ASK_CHAT | {"n": n, "user": "x" * 100}).encode()
    async with limited(upstream.url, tokens_per_minute=1000) as client:
        asking = asyncio.create_task(client.post(CHAT, content=body))
        await bounded(seen.wait())
        listed = await client.get("/v1/models")
        asking.cancel()
        await asyncio.wait([asking])
    left = int(listed.headers["x-ratelimit-remaining-tokens"])
    assert 1000 - left == len(body) // 4 * charged


async def test_a_huge_number_of_answers_is_charged_as_the_whole_bucket(
    upstream: ScriptedUpstream,
) -> None:
    async with limited(upstream.url, tokens_per_minute=1000) as client:
        for n in (10**9, 1e300, "1e999"):
            answer = await client.post(CHAT, json=ASK_CHAT | {"n": n})
            assert answer.status_code in (200, 429)


def test_an_allowance_fills_up_evenly_and_never_over_its_limit() -> None:
    allowance = RateLimit("requests", 60, now=0.0)
    for _ in range(60):
        assert allowance.wait_s(1, 0.0) == 0
        allowance.take(1, 0.0)
    assert allowance.wait_s(1, 0.0) == pytest.approx(1.0)
    assert allowance.wait_s(1, 0.5) == pytest.approx(0.5)
    assert allowance.wait_s(30, 0.5) == pytest.approx(29.5)
    assert allowance.wait_s(1, 1.0) == 0
    assert allowance.headers(1e6)["x-ratelimit-remaining-requests"] == "60"


def test_a_clock_that_is_set_back_gives_nothing_and_takes_nothing() -> None:
    allowance = RateLimit("tokens", 60, now=1000.0)
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


async def test_setting_the_clock_of_the_machine_refills_no_bucket(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does it hold a refill up: limits go by a clock that is never set."""
    steady = Clock()
    monkeypatch.setattr(app, "time", SimpleNamespace(time=time.time, monotonic=steady))
    settings = settings_for(upstream.url, {"alice": keyed(ALICE, requests_per_minute=1)})
    async with client_of(settings) as client:
        client.headers.update(bearer(ALICE))
        assert (await client.post(RESPONSES, json=ASK)).status_code == 200
        assert (await client.post(RESPONSES, json=ASK)).status_code == 429
        steady.now += 60
        assert (await client.post(RESPONSES, json=ASK)).status_code == 200


async def test_a_charge_that_cannot_be_settled_leaves_the_request_in_the_log(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(self: Charge, answered: Answered | None) -> None:
        raise OSError("no locks")

    monkeypatch.setattr(Charge, "settle", broken)
    caplog.set_level(logging.INFO)
    async with limited(upstream.url, tokens_per_minute=1000) as client:
        assert (await client.post(RESPONSES, json=ASK)).status_code == 200
    assert "the charge could not be settled" in caplog.text
    assert "POST /v1/responses 200" in caplog.text


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
