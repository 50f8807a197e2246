"""`GET /openapi.json` with a store: its paths, and that answers are as it says."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import jsonschema
import pytest

from tests.service.responses_api import PATH
from tests.service.wire import ScriptedUpstream, client_of
from translator.service.config.store import Location
from translator.service.http import openapi, routes

from .storing import Service, ask, settings_of

pytestmark = pytest.mark.anyio


def described() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(openapi.document(stores=True))
    return document


def check(answer: httpx.Response, path: str) -> Any:
    """The answer is one that the description allows."""
    document = described()
    method = answer.request.method.lower()
    allowed = document["paths"][path][method]["responses"][str(answer.status_code)]
    schema = allowed["content"]["application/json"]["schema"]
    jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(
        answer.json()
    )
    return answer.json()


async def test_it_has_the_paths_that_are_served(
    upstream: ScriptedUpstream, location: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them, with all of their methods."""
    served: dict[str, set[str]] = {}

    router = routes.PathRouter.__init__

    def spy(self: Any, paths: Any, **more: Any) -> None:
        served.update({path: set(vars(one).get("_methods", ())) for path, one in paths.items()})
        router(self, paths, **more)

    monkeypatch.setattr(routes.PathRouter, "__init__", spy)
    async with client_of(settings_of(upstream, location)) as client:
        document = (await client.get("/openapi.json")).json()
    assert document == described()
    found = {
        path: {method.upper() for method in item if method != "parameters"}
        for path, item in document["paths"].items()
    }
    own = {path.replace(":path", "") for path in served if path.startswith("/v1/")}
    assert set(found) == own | {"/healthz", "/readyz", "/openapi.json"}
    for path, methods in found.items():
        assert methods == served.get(path, served.get(path.replace("{id}", "{id:path}")))


def test_names_and_parameters() -> None:
    document = described()
    names: list[str] = []
    for path, item in document["paths"].items():
        operations = [one for method, one in item.items() if method != "parameters"]
        names += [one["operationId"] for one in operations]
        given = [
            *item.get("parameters", ()),
            *(p for o in operations for p in o.get("parameters", ())),
        ]
        in_path = {one["name"] for one in given if one["in"] == "path"}
        assert in_path == set(re.findall(r"\{(\w+)\}", path))
    assert len(names) == len(set(names)) == 21
    text = json.dumps(document)
    for name in set(text.split('"#/components/schemas/')[1:]):
        assert name.partition('"')[0] in document["components"]["schemas"]
    assert "conversation" not in json.loads(openapi.document())["paths"]


async def test_answers_are_as_described(service: Service) -> None:
    async with service() as client:
        response = await ask(client)
        one = f"{PATH}/{response['id']}"
        check(await client.get(one), "/v1/responses/{id}")
        check(await client.get(f"{one}/input_items"), "/v1/responses/{id}/input_items")
        check(await client.get(f"{one}/input_items?limit=0"), "/v1/responses/{id}/input_items")
        check(await client.post(f"{one}/cancel"), "/v1/responses/{id}/cancel")
        body = {"items": [{"role": "user", "content": "Hi"}], "metadata": {"a": "b"}}
        made = check(await client.post("/v1/conversations", json=body), "/v1/conversations")
        path = f"/v1/conversations/{made['id']}"
        check(await client.get(path), "/v1/conversations/{id}")
        check(await client.post(path, json={"metadata": {}}), "/v1/conversations/{id}")
        items = "/v1/conversations/{id}/items"
        added = check(await client.post(f"{path}/items", json={"items": body["items"]}), items)
        check(await client.get(f"{path}/items"), items)
        item = f"{path}/items/{added['data'][0]['id']}"
        check(await client.get(item), f"{items}/{{item}}")
        check(await client.delete(item), f"{items}/{{item}}")
        check(await client.delete(path), "/v1/conversations/{id}")
        check(await client.get(path), "/v1/conversations/{id}")
        check(await client.delete(one), "/v1/responses/{id}")
        check(await client.delete(one), "/v1/responses/{id}")
