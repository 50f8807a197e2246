"""`GET /v1/models` and `GET /v1/models/{id}`."""

from __future__ import annotations

import openai
import pytest

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


def clock() -> float:
    return 1_700_000_000.9


async def test_the_table_is_listed() -> None:
    settings = make_settings("http://up.test", models=MODELS)
    async with client_of(settings, clock=clock) as client:
        for path in ("/v1/models", "/models"):
            answer = await client.get(path)
            assert answer.status_code == 200
            assert answer.headers["content-type"] == "application/json"
            assert answer.json() == {"object": "list", "data": [SMALL, LARGE]}


async def test_one_model_is_shown_even_with_a_slash_in_its_id() -> None:
    settings = make_settings("http://up.test", models=MODELS)
    async with client_of(settings, clock=clock) as client:
        assert (await client.get("/v1/models/small")).json() == SMALL
        assert (await client.get("/models/org/large")).json() == LARGE
        assert (await client.get("/v1/models/org%2Flarge")).json() == LARGE


async def test_an_unknown_model_is_told_which_there_are() -> None:
    async with client_of(make_settings("http://up.test", models=MODELS)) as client:
        answer = await client.get("/v1/models/SMALL")
    assert answer.status_code == 404
    assert answer.json()["error"] == {
        "message": "The model 'SMALL' does not exist. Models: small, org/large.",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }


async def test_without_a_table_the_upstream_is_asked(upstream: ScriptedUpstream) -> None:
    async def script(call: Call) -> None:
        await call.answer(b'{"object":"list", "data":[]}')

    upstream.script = script
    async with client_of(make_settings(upstream.url)) as client:
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


async def test_an_upstream_without_models_answers_for_itself(upstream: ScriptedUpstream) -> None:
    async def script(call: Call) -> None:
        await call.answer(b"<html>no", 404, "text/html")

    upstream.script = script
    async with client_of(make_settings(upstream.url)) as client:
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
