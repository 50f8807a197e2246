"""Endpoints of known APIs that are not served: each says why, and what to set."""

from __future__ import annotations

import re

import openai
import pytest
from starlette.routing import compile_path
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from translator.service.base.keys import new_key, store
from translator.service.config.loading import read_table
from translator.service.http.absent_endpoints import ABSENT, absent_error

from .wire import ScriptedUpstream, client_of, make_settings, serving

pytestmark = pytest.mark.anyio

CODE = "unsupported_endpoint"
ASKED = """
GET /responses/resp_1                     stored
DELETE /responses/resp_1                  stored
POST /responses/resp_1/cancel             stored
GET /responses/resp_1/input_items         stored
POST /conversations                       `conversation`
GET /conversations/conv_1                 `conversation`
DELETE /conversations/conv_1              `conversation`
POST /conversations/conv_1/items          `conversation`
DELETE /conversations/conv_1/items/msg_1  `conversation`
GET /chat/completions/chatcmpl-1          `store`
GET /chat/completions/chatcmpl-1/messages `store`
POST /alpha/search                        web_search = "disabled"
POST /alpha/notes/v2/read_file            Codex
POST /alpha/history/v2/list_items         Codex
POST /memories/trace_summarize            memories = false
POST /images/generations                  base URL
POST /images/edits                        base URL
GET /images                               base URL
GET /audio/voices                         base URL
POST /files                               `file_data`
GET /files/file-1/content                 `file_data`
POST /uploads                             `file_data`
POST /uploads/upload_1/parts              `file_data`
POST /vector_stores/vs_1/search           `file_data`
POST /embeddings                          base URL
POST /moderations                         base URL
POST /audio/speech                        base URL
POST /audio/transcriptions                base URL
POST /realtime/calls                      /v1/responses
POST /realtime/client_secrets             /v1/responses
POST /batches                             /v1/responses
GET /batches/batch_1                      /v1/responses
POST /fine_tuning/jobs                    /v1/responses
GET /assistants                           /v1/responses
POST /completions                         /v1/chat/completions
POST /messages                            /v1/responses
POST /messages/count_tokens               /v1/responses
GET /wham/usage                           `base_url`
GET /wham/tasks/list                      `base_url`
GET /backend-api/wham/usage               `base_url`
POST /backend-api/codex/responses         `base_url`
GET /wham                                 `base_url`
GET /api/codex/usage                      `base_url`
GET /connectors/directory/list            `base_url`
POST /responses/responses                 ends in /v1
POST /chat/completions/chat/completions   ends in /v1
"""
"""What clients ask for, and a word of the advice that they get."""


async def test_each_says_why_and_what_to_set(upstream: ScriptedUpstream) -> None:
    """With and without `/v1`, in an error's envelope; no upstream is asked."""
    async with upstream.client() as client:
        for line in ASKED.strip().splitlines():
            method, path, advice = line.split(maxsplit=2)
            for prefix in ("/v1", ""):
                answer = await client.request(method, prefix + path, json={"a": 1})
                assert answer.status_code == 404, line
                error = answer.json()["error"]
                assert error.pop("message").startswith(f"{method} {prefix}{path}: "), line
                assert advice in answer.text.replace('\\"', '"'), line
                assert error == {"type": "invalid_request_error", "param": None, "code": CODE}
        twice = await client.post("/v1/v1/files", json={})
        assert "ends in /v1" in twice.json()["error"]["message"]
    assert upstream.calls == []


async def test_every_method_is_told_the_same() -> None:
    """No other one is served there, so none is named."""
    async with client_of(make_settings("http://up.test")) as client:
        for path in ("/v1/embeddings", "/responses/resp_1", "/v1/files", "/conversations/conv_1"):
            for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"):
                answer = await client.request(method, path)
                assert (answer.status_code, answer.headers.get("allow")) == (404, None), path
                error = answer.json()["error"]
                assert error["code"] == CODE
                assert error["message"].startswith(f"{method} {path}: ")
            assert (await client.head(path)).status_code == 404


async def test_a_405_names_the_methods_that_are_served() -> None:
    async with client_of(make_settings("http://up.test")) as client:
        for method, path, allow in (
            ("GET", "/v1/responses/compact", "POST"),
            ("DELETE", "/responses", "POST"),
            ("GET", "/chat/completions", "POST"),
            ("DELETE", "/v1/models/m", "GET"),
        ):
            answer = await client.request(method, path)
            assert (answer.status_code, answer.headers["allow"]) == (405, allow), path


async def test_what_is_in_no_row_stays_unknown() -> None:
    async with client_of(make_settings("http://up.test")) as client:
        for path in ("/v1/nonsense", "/v1/responses/a/b/c", "/v2/files", "/filesystem", "/v1/"):
            error = (await client.get(path)).json()["error"]
            assert (error["code"], error["message"]) == (
                "unknown_path",
                f"Unknown path: GET {path}.",
            )


async def test_openai_understands_it() -> None:
    """It is not asked again, as it would be for a 501."""
    async with serving(make_settings("http://up.test")) as base:
        async with openai.AsyncOpenAI(base_url=f"{base}/v1", api_key="k", max_retries=0) as client:
            with pytest.raises(openai.NotFoundError, match="not stored here"):
                await client.responses.retrieve("resp_1")
            with pytest.raises(openai.NotFoundError, match="not stored here"):
                await client.conversations.create()


async def test_a_websocket_for_realtime_is_told_the_same() -> None:
    """Not that WebSockets are not supported: at another path they are."""
    async with serving(make_settings("http://up.test")) as base:
        for path, status in (("/v1/realtime?model=m", 404), ("/v1/nonsense", 426)):
            with pytest.raises(InvalidStatus) as refusal:
                async with connect(base.replace("http", "ws") + path):
                    pass
            assert refusal.value.response.status_code == status
            assert (CODE.encode() in (refusal.value.response.body or b"")) is (status == 404)


async def test_a_key_is_required_first(upstream: ScriptedUpstream) -> None:
    table = {
        "upstreams": {"up": {"base_url": upstream.url}},
        "clients": {"a": {"keys": [str(store(new_key()))]}},
    }
    async with client_of(read_table(table, {})) as client:
        for path in ("/v1/files", "/v1/responses/resp_1"):
            assert (await client.get(path)).status_code == 401


def test_the_table_is_well_formed() -> None:
    """No row stands twice; every sentence ends, and names something that can be done."""
    paths = [row.path for row in ABSENT]
    assert len(paths) == len(set(paths))
    for row in ABSENT:
        assert re.search(r"\b([Ss]et|[Uu]se|[Ss]end|[Ll]eave|keep)\b.*\.$", row.why, re.DOTALL), row


def test_a_row_is_found_as_by_a_search_of_the_whole_table() -> None:
    """Rows are looked up by the first part of a path, which so must be a word in each of them."""
    table = [
        (compile_path(prefix + row.path)[0], row)
        for row in ABSENT
        for prefix in ("/v1", "")
        if prefix or not row.path.startswith("/v1/")
    ]
    assert not any(row.path.startswith("/{") for row in ABSENT)
    named = [re.sub(r"\{\w+(:path)?\}", "x", row.path) for row in ABSENT]
    unknown = ["", "/", "/v1", "/v1/", "//", "*", "v1/files", "files", "/v1files", "/V1/files"]
    tails = ("", "/", "/y", "/y/z/", "\n", "y", "/%2F")
    for path in (f"{prefix}{one}{tail}" for one in named + unknown for tail in tails
                 for prefix in ("", "/v1", "/v1/v1", "/v2")):  # fmt: skip
        expected = next((row for pattern, row in table if pattern.match(path)), None)
        found = absent_error("GET", path)
        assert (found and found.message) == (expected and f"GET {path}: {expected.why}"), path
