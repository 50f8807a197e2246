"""What holds for every answer of the service: ids of its own, envelopes, and no word too many."""

from __future__ import annotations

import itertools
import re
from typing import Any

import httpx
import pytest

from .chat_bodies import chunk
from .responses_api import events
from .wire import Call, ScriptedUpstream

pytestmark = pytest.mark.anyio

TOOLS = [{"type": "function", "name": "f"}]
ASK: dict[str, Any] = {"model": "m", "input": "Hi", "tools": TOOLS}
KEY = "operator-key-3141"
ID = re.compile(r"[a-z]+_[0-9a-zA-Z]{24,}")


def ids_in(value: Any) -> set[str]:
    """Every id that stands in a JSON value."""
    if isinstance(value, dict):
        own = {value[key] for key in ("id", "item_id", "call_id") if key in value}
        return own.union(*map(ids_in, value.values()))
    return set().union(*map(ids_in, value)) if isinstance(value, list) else set()


async def test_no_two_answers_share_an_id(upstream: ScriptedUpstream) -> None:
    """Clients keep items of several answers in one conversation, and servers by their ids."""

    async def script(call: Call) -> None:
        nameless = {"index": 0, "function": {"name": "f", "arguments": "{}"}}  # no id: ours is made
        await call.head()
        await call.send(
            chunk({"reasoning_content": "a"}),
            chunk({"content": "b"}),
            chunk({"tool_calls": [nameless]}, "tool_calls"),
        )
        await call.end()

    upstream.script = script
    async with upstream.client() as client:
        answers = [await client.post("/v1/responses", json={**ASK, "stream": True}) for _ in "123"]
    found = [ids_in(events(answer.content)) for answer in answers]
    assert [len(ids) for ids in found] == [5, 5, 5]  # response, three items, one call
    assert all(ID.fullmatch(one) for ids in found for one in ids)
    assert not any(one & other for one, other in itertools.combinations(found, 2))


def secrets_of(upstream: ScriptedUpstream) -> list[str]:
    host, _, port = upstream.url.removeprefix("http://").removesuffix("/v1").partition(":")
    return [KEY, host, port]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, b'{"error": {"message": "no", "type": "invalid_request_error"}}', 400),
        (401, b'{"error": {"message": "Incorrect API key provided: operator-key-3141"}}', 502),
        (403, b'{"detail": "operator-key-3141 may not"}', 502),
        (302, b"", 502),
        (404, b"<html><title>404 Not Found</title></html>", 404),
        (413, b"", 413),
        (422, b'{"detail": [{"loc": ["body", "x"], "msg": "bad"}]}', 400),
        (429, b'{"error": "Too Many Requests"}', 429),
        (500, b"\xff", 500),
        (503, b"upstream connect error", 503),
        (200, b'{"error": {"message": "login fail", "code": 401}}', 502),
        (200, b'{"error": {"message": "busy", "code": 429}}', 429),
        (200, b"<html>oops</html>", 502),
        (200, b"", 502),
    ],
)
async def test_every_error_is_an_envelope_without_secrets(
    upstream: ScriptedUpstream, stream: bool, status: int, body: bytes, expected: int
) -> None:
    async def script(call: Call) -> None:
        await call.answer(body, status, headers={"location": f"{upstream.url}/else"})

    upstream.script = script
    async with upstream.client(key=KEY) as client:
        answer = await client.post("/v1/responses", json={**ASK, "stream": stream})
    assert answer.status_code == expected
    check_envelope(answer)
    shown = answer.text + repr(answer.headers)
    assert not [secret for secret in secrets_of(upstream) if secret in shown]


def check_envelope(answer: httpx.Response) -> None:
    """The four keys, whatever went wrong; `param` is a path of the request, and here there is none."""
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["message"] and error["type"]
    assert error["param"] is None
