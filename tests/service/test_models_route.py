"""`GET /v1/models` and `GET /v1/models/{id}`."""

from __future__ import annotations

import json

import openai
import pytest

from translator.service.config.loading import read_table
from translator.service.http import models_list

from .wire import BOUND_S, MODELS, Call, ScriptedUpstream, client_of, make_settings, serving

pytestmark = pytest.mark.anyio

SMALL = {
    "id": "small",
    "object": "model",
    "created": 1_700_000_000,
    "owned_by": "up",
    "vision": False,
    "context_window": 1000,
    "max_output_tokens": 100,
}
LARGE = {
    "id": "org/large",
    "object": "model",
    "created": 1_700_000_000,
    "owned_by": "up",
    "vision": True,
}

CODEX_NEEDS = frozenset(
    "slug display_name supported_reasoning_levels shell_type visibility supported_in_api priority"
    " base_instructions support_verbosity truncation_policy experimental_supported_tools".split()
)
"""Fields that Codex 0.169 requires of a catalog entry."""

QUERY = {"client_version": "0.169.0"}
"""The query of Codex's request."""


def clock() -> float:
    return 1_700_000_000.9


async def test_the_table_is_listed() -> None:
    settings = make_settings("http://up.test", models=MODELS)
    async with client_of(settings, clock=clock) as client:
        for path in ("/v1/models", "/models"):
            answer = await client.get(path)
            assert answer.status_code == 200
            assert answer.headers["content-type"] == "application/json"
            listed = answer.json()
            assert listed.pop("models")
            assert listed == {"object": "list", "data": [SMALL, LARGE]}


async def test_a_model_whose_upstream_takes_no_images_has_no_vision() -> None:
    """The entry and Codex's catalog say the same."""
    models = {"m": {"upstream": "up", "dialect": "deepseek"}}
    async with client_of(make_settings("http://up.test", models=models)) as client:
        listed = (await client.get("/v1/models")).json()
    assert not listed["data"][0]["vision"]
    assert listed["models"][0]["input_modalities"] == ["text"]


async def test_the_list_holds_codex_catalog() -> None:
    """It stands beside OpenAI's list for every client: others ignore it."""
    settings = make_settings("http://up.test", models=MODELS, upstream={"dialect": "deepseek"})
    async with client_of(settings) as client:
        for query in ("", "?client_version=0.169.0"):
            small, large = (await client.get(f"/v1/models{query}")).json()["models"]
            assert (small["slug"], small["context_window"]) == ("small", 1000)
            assert small["input_modalities"] == ["text"]
            levels = [level["effort"] for level in small["supported_reasoning_levels"]]
            assert levels == ["none", "low", "high", "max"]
            assert small["default_reasoning_level"] == "high"
            assert large["slug"] == "org/large"
            assert "context_window" not in large
            assert small.keys() >= CODEX_NEEDS


async def test_one_model_is_shown_even_with_a_slash_in_its_id() -> None:
    settings = make_settings("http://up.test", models=MODELS)
    async with client_of(settings, clock=clock) as client:
        assert (await client.get("/v1/models/small")).json() == SMALL
        assert (await client.get("/models/org/large")).json() == LARGE
        assert (await client.get("/v1/models/org%2Flarge")).json() == LARGE


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("kimi-k2p6", "accounts/fireworks/models/kimi-k2p6"),
        ("moonshotai/kimi-k2p6", "accounts/fireworks/models/kimi-k2p6"),
        ("Kimi-K2.6", "accounts/fireworks/models/kimi-k2p6"),
        ("model-007", "model-7"),
        ("nothing-like-it", None),
    ],
)
async def test_of_many_models_the_nearest_is_named(asked: str, meant: str | None) -> None:
    """And the list has a bound."""
    names = ["accounts/fireworks/models/kimi-k2p6", *(f"model-{number}" for number in range(99))]
    table = {
        "upstreams": {"up": {"base_url": "http://up.test"}},
        "models": {name: {"upstream": "up"} for name in names},
    }
    async with client_of(read_table(table, {})) as client:
        message = (await client.get(f"/v1/models/{asked}")).json()["error"]["message"]
    hint = f" Did you mean '{meant}'?" if meant else ""
    assert message.startswith(f"The model '{asked}' does not exist.{hint} Models: accounts/")
    assert message.endswith("model-48 and 50 more.")


async def test_an_unknown_model_is_told_which_there_are() -> None:
    async with client_of(make_settings("http://up.test", models=MODELS)) as client:
        answer = await client.get("/v1/models/SMALL")
    assert answer.status_code == 404
    assert answer.json()["error"] == {
        "message": "The model 'SMALL' does not exist. Did you mean 'small'? Models: small, org/large.",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }


async def test_without_a_table_the_upstream_is_asked(upstream: ScriptedUpstream) -> None:
    async def script(call: Call) -> None:
        await call.answer(b'{"object":"list", "data":[]}')

    upstream.script = script
    async with upstream.client() as client:
        listed = await client.get("/v1/models", headers={"authorization": "Bearer client"})
        await client.get("/v1/models/accounts/x/models/a b")
        climbing = await client.get("/v1/models/x%2F..%2F..%2Fadmin")
    assert listed.content == b'{"object":"list", "data":[]}'
    assert [(call.method, call.path) for call in upstream.calls] == [
        ("GET", "/v1/models"),
        ("GET", "/v1/models/accounts/x/models/a%20b"),
    ]
    assert upstream.calls[0].headers["authorization"] == "Bearer client"
    assert climbing.status_code == 404


async def test_codex_gets_a_catalog_of_the_upstreams_models(upstream: ScriptedUpstream) -> None:
    """It is made of ids, dialect, and context windows under any name; the rest is unchanged."""
    rows = [
        {"id": "a", "max_model_len": 1000, "context_length": 9},
        {"id": "b", "context_length": 2000},
        {"id": "c", "context_window": 3000},
        {"id": "d", "max_context_length": 4000, "context_window": None},
        {"id": "e", "context_length": 0, "score": 1.0},
        {"id": 7},
        "nonsense",
        {"id": "f", "context_length": "many"},
    ]

    async def script(call: Call) -> None:
        body = json.dumps({"object": "list", "x": 1.10, "data": rows})
        await call.answer(body.replace("1.1", "1.10").encode())

    upstream.script = script
    async with upstream.client(upstream={"dialect": "zai"}) as client:
        answer = await client.get("/v1/models", params=QUERY, headers={"authorization": "Bearer k"})
        other = await client.get("/v1/models", params={"limit": "1", "client_versions": "1"})
    assert '"x":1.10' in answer.text
    listed = answer.json()
    assert listed["data"] == rows
    assert [(model["slug"], model.get("context_window")) for model in listed["models"]] == [
        ("a", 1000),
        ("b", 2000),
        ("c", 3000),
        ("d", 4000),
        ("e", None),
        ("f", None),
    ]
    levels = listed["models"][0]["supported_reasoning_levels"]
    assert [level["effort"] for level in levels] == ["none", "high"]
    assert "models" not in other.json()
    assert upstream.calls[0].headers["authorization"] == "Bearer k"
    assert upstream.calls[0].path == "/v1/models"


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"[]",
        b'{"object":"list"}',
        b'{"data": {}}',
        b'{"data": [], "models": [1] }',
        b"\xff",
    ],
)
async def test_what_is_no_list_of_models_goes_to_codex_as_it_is(
    upstream: ScriptedUpstream, body: bytes
) -> None:
    async def script(call: Call) -> None:
        await call.answer(body, content_type="text/odd")

    upstream.script = script
    async with upstream.client() as client:
        answer = await client.get("/v1/models", params=QUERY)
    assert (answer.status_code, answer.content) == (200, body)
    assert answer.headers["content-type"] == "text/odd"


async def test_a_refusal_goes_to_codex_as_it_is(upstream: ScriptedUpstream) -> None:
    async def script(call: Call) -> None:
        await call.answer({"error": {"message": "no"}}, 401)

    upstream.script = script
    async with upstream.client() as client:
        answer = await client.get("/v1/models", params=QUERY)
    assert (answer.status_code, answer.json()) == (401, {"error": {"message": "no"}})
    async with upstream.client(key="sk-operator") as client:
        answer = await client.get("/v1/models", params=QUERY)
    assert answer.status_code == 502, "the operator's own key was refused, not the client's"


async def test_a_list_has_bounds(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the first models of a long list get a catalog entry; an endless list is an error."""

    async def script(call: Call) -> None:
        await call.answer({"data": [{"id": str(number)} for number in range(9)]})

    upstream.script = script
    async with upstream.client() as client:
        monkeypatch.setattr(models_list, "MAX_LISTED", 2)
        listed = (await client.get("/v1/models", params=QUERY)).json()
        assert len(listed["data"]) == 9
        assert [model["slug"] for model in listed["models"]] == ["0", "1"]
        monkeypatch.setattr(models_list, "MAX_LIST_BYTES", 20)
        answer = await client.get("/v1/models", params=QUERY)
    assert answer.status_code == 502
    assert "over 20 bytes" in answer.json()["error"]["message"]


async def test_an_upstream_without_models_answers_for_itself(upstream: ScriptedUpstream) -> None:
    async def script(call: Call) -> None:
        await call.answer(b"<html>no", 404, "text/html")

    upstream.script = script
    async with upstream.client() as client:
        answer = await client.get("/v1/models")
    assert (answer.status_code, answer.content) == (404, b"<html>no")
    assert answer.headers["content-type"] == "text/html"


async def test_the_openai_sdk_lists_models() -> None:
    async with serving(make_settings("http://up.test", models=MODELS)) as url:
        async with openai.AsyncOpenAI(
            base_url=f"{url}/v1", api_key="sk-test", timeout=BOUND_S
        ) as sdk:
            assert [model.id async for model in sdk.models.list()] == ["small", "org/large"]
            assert (await sdk.models.retrieve("small")).id == "small"
