"""Paths with a slash or `/v1` too many are served; of others, the error names the nearest one."""

from __future__ import annotations

import httpx
import pytest
from websockets.asyncio.client import connect

from translator.service.config.loading import read_table
from translator.service.http.near_paths import nearest_path, plain_path
from translator.service.http.routes import API_PATHS

from .wire import client_of, make_settings, serving

pytestmark = pytest.mark.anyio

TABLE = {
    "upstreams": {"up": {"base_url": "http://up.test/v1"}},
    "models": {"m": {"upstream": "up"}, "a//b/": {"upstream": "up"}},
}


@pytest.mark.parametrize("prefix", ["", "/v1", "/v1/v1", "//v1", "/v1//", "//v1/v1//v1"])
@pytest.mark.parametrize("suffix", ["", "/", "//"])
async def test_what_can_mean_one_endpoint_is_served(prefix: str, suffix: str) -> None:
    """Each method as at the right path."""
    async with client_of(read_table(TABLE, {})) as client:
        for path, methods in (
            ("/responses", "POST"),
            ("/responses/compact", "POST"),
            ("/responses/input_tokens", "POST"),
            ("/chat/completions", "POST"),
            ("/models", "GET"),
        ):
            answer = await client.request("DELETE", f"http://testserver{prefix}{path}{suffix}")
            assert (answer.status_code, answer.headers.get("allow")) == (405, methods), path
        listed = await client.get(f"http://testserver{prefix}/models{suffix}")
        assert [one["id"] for one in listed.json()["data"]] == ["m", "a//b/"]
        one = await client.get(f"http://testserver{prefix}/models/m")
        assert one.json()["id"] == "m"


async def test_the_id_of_a_model_keeps_its_slashes() -> None:
    async with client_of(read_table(TABLE, {})) as client:
        assert (await client.get("/v1/models/a//b/")).json()["id"] == "a//b/"


async def test_the_answer_is_that_of_the_right_path() -> None:
    message = {"role": "assistant", "content": "Hi."}
    body = {"choices": [{"message": message, "finish_reason": "stop"}]}
    transport = httpx.MockTransport(lambda _request: httpx.Response(200, json=body))
    async with client_of(make_settings("http://up.test"), transport=transport) as client:
        answer = await client.post("/v1/v1/responses/", json={"model": "m", "input": "hi"})
    assert answer.status_code == 200
    assert answer.json()["output"][0]["content"][0]["text"] == "Hi."


async def test_a_websocket_opens_there_too() -> None:
    async with serving(make_settings("http://up.test")) as base:
        for path in ("/v1/v1/responses", "//v1//responses/"):
            async with connect(base.replace("http", "ws") + path):
                pass


async def test_health_and_metrics_have_exact_paths() -> None:
    """Their path decides who may ask, and on which port."""
    async with client_of(make_settings("http://up.test")) as client:
        for path in ("http://testserver//metrics", "/healthz/", "/v1/readyz", "/v1/openapi.json"):
            assert (await client.get(path)).status_code == 404, path


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/v1/response", "/v1/responses"),
        ("/v1/Responses", "/v1/responses"),
        ("/api/v1/responses", "/v1/responses"),
        ("/openai/v1/chat/completions/", "/v1/chat/completions"),
        ("/v1/chat", "/v1/chat/completions"),
        ("/v1/chat/completion", "/v1/chat/completions"),
        ("/chat_completions", "/v1/chat/completions"),
        ("/v1/model", "/v1/models"),
        ("/v1/nonsense", None),
        ("/v1", None),
        ("/", None),
        ("/" + "x" * 5000, None),
    ],
)
async def test_the_nearest_path_is_named(path: str, meant: str | None) -> None:
    assert nearest_path(path, API_PATHS) == meant
    async with client_of(make_settings("http://up.test")) as client:
        error = (await client.post(path)).json()["error"]
    hint = f" Did you mean {meant}?" if meant else ""
    assert error["message"] == f"Unknown path: POST {path[:200]}.{hint}"
    assert error["code"] == "unknown_path"


def test_only_empty_parts_and_versions_are_left_out() -> None:
    assert plain_path("/v1//a/v1/b/") == "/a/v1/b"
    assert plain_path("/v10/responses") == "/v10/responses"
