"""The description of the service, and that it and the service agree."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from translator.service.http import openapi

from .responses_api import ASK_SMALL_WHOLE
from .wire import MODELS, Call, ScriptedUpstream, client_of, make_settings

pytestmark = pytest.mark.anyio


def described() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(openapi.document())
    return document


def check(answer: Any, path: str, method: str = "post") -> None:
    """The answer is one that the description allows."""
    document = described()
    allowed = document["paths"][path][method]["responses"][str(answer.status_code)]
    schema = allowed["content"]["application/json"]["schema"]
    jsonschema.Draft202012Validator(
        {**schema, "components": document["components"]},
    ).validate(answer.json())


async def test_it_is_served_without_a_key_and_is_openapi() -> None:
    async with client_of(make_settings("http://up.test")) as client:
        answer = await client.get("/openapi.json")
    document = answer.json()
    assert document["openapi"].startswith("3.1")
    assert set(document["paths"]) == {
        "/v1/responses",
        "/v1/responses/compact",
        "/v1/responses/input_tokens",
        "/v1/chat/completions",
        "/v1/models",
        "/v1/models/{id}",
        "/healthz",
        "/readyz",
        "/openapi.json",
    }
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_every_reference_leads_somewhere() -> None:
    document = described()
    text = json.dumps(document)
    for name in set(text.split('"#/components/schemas/')[1:]):
        assert name.partition('"')[0] in document["components"]["schemas"]


def test_every_operation_has_a_name_of_its_own() -> None:
    names = [
        operation["operationId"]
        for path in described()["paths"].values()
        for operation in path.values()
    ]
    assert len(names) == len(set(names)) == 9


async def test_answers_and_errors_are_as_described(upstream: ScriptedUpstream) -> None:
    async with upstream.client(models=MODELS) as client:
        check(await client.post("/v1/responses", json=ASK_SMALL_WHOLE), "/v1/responses")
        check(await client.post("/v1/responses", json={}), "/v1/responses")
        check(await client.post("/v1/responses", json={"model": "x"}), "/v1/responses")
        check(
            await client.post("/v1/responses/compact", json=ASK_SMALL_WHOLE),
            "/v1/responses/compact",
        )
        path = "/v1/responses/input_tokens"
        check(await client.post(path, json=ASK_SMALL_WHOLE), path)
        check(await client.post(path, content=b"x", headers={"content-encoding": "lzma"}), path)
        check(await client.get("/v1/models"), "/v1/models", "get")
        check(await client.get("/v1/models/small"), "/v1/models/{id}", "get")
        check(await client.get("/v1/models/none"), "/v1/models/{id}", "get")
        check(await client.get("/healthz"), "/healthz", "get")
        check(await client.get("/readyz"), "/readyz", "get")


async def test_an_answer_that_is_not_as_described_is_seen(upstream: ScriptedUpstream) -> None:
    """The check can fail: a list of models is not an answer of `POST /v1/responses`."""
    async with upstream.client(models=MODELS) as client:
        answer = await client.get("/v1/models")
    with pytest.raises(jsonschema.ValidationError):
        check(answer, "/v1/responses")


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
async def test_what_an_upstream_refuses_is_as_described(
    upstream: ScriptedUpstream, status: int
) -> None:
    async def script(call: Call) -> None:
        await call.answer({"error": {"message": "no"}}, status)

    upstream.script = script
    async with upstream.client(retries=0) as client:
        check(await client.post("/v1/responses", json=ASK_SMALL_WHOLE), "/v1/responses")
