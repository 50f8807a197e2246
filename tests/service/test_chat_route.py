"""`POST /v1/chat/completions`: passed through, with the model table applied."""

from __future__ import annotations

import asyncio
import json
import logging

import httpx
import openai
import pytest

from .chat_bodies import COMPLETION, HELLO, frame
from .log import Log
from .wire import BOUND_S, MODELS, Call, ScriptedUpstream, bounded

pytestmark = pytest.mark.anyio
PATH = "/v1/chat/completions"


async def test_the_model_table_is_applied_and_all_else_keeps_its_bytes(
    upstream: ScriptedUpstream,
) -> None:
    body = (
        b'{"model":"small","max_tokens":101,"max_completion_tokens":7,"temperature":1.0e0,'
        b'"messages":[{"role":"user","content":"\\u00e9  \xc3\xa9"}],"x_own":{"b":1, "a":2}}'
    )
    async with upstream.client(models=MODELS) as client:
        answer = await client.post(PATH, content=body)
    assert answer.status_code == 200
    [call] = upstream.calls
    assert (call.method, call.path) == ("POST", PATH)
    assert call.headers["content-type"] == "application/json"
    assert call.headers["accept-encoding"] == "identity"
    assert call.body == body.replace(b'"small"', b'"accounts/up/models/m"').replace(b"101", b"100")
    assert answer.json() == COMPLETION  # the upstream's own name of the model stays


@pytest.mark.parametrize("limit", [1, 100, 100.0, "many", None, True])
async def test_an_output_limit_that_is_not_too_large_is_not_touched(
    upstream: ScriptedUpstream, limit: object
) -> None:
    async with upstream.client(models=MODELS) as client:
        await client.post(PATH, json={"model": "small", "max_tokens": limit})
    assert upstream.calls[0].json["max_tokens"] == limit


async def test_without_a_table_the_request_keeps_every_byte(upstream: ScriptedUpstream) -> None:
    body = b' {"max_tokens" : 9999999, "model":"any/thing", "messages":[]}\n'
    async with upstream.client() as client:
        await client.post("/chat/completions", content=body)
    assert upstream.calls[0].body == body


async def test_a_stream_comes_through_byte_for_byte(upstream: ScriptedUpstream) -> None:
    pieces = [b": comment\r\n\r\n", b'data: {"cut', b'":1}\n\n', *HELLO, b"stray"]

    async def script(call: Call) -> None:
        await call.head(content_type="text/event-stream;charset=x")
        await call.send(*pieces)
        await call.end()

    upstream.script = script
    async with upstream.client() as client:
        answer = await client.post(PATH, json={"model": "m", "stream": True})
    assert answer.content == b"".join(pieces)
    assert answer.headers["content-type"] == "text/event-stream;charset=x"
    assert answer.headers["x-accel-buffering"] == "no"


async def test_a_piece_is_passed_on_before_the_next_one_exists(upstream: ScriptedUpstream) -> None:
    seen = asyncio.Event()

    async def script(call: Call) -> None:
        await call.head()
        await call.send(HELLO[0])
        await bounded(seen.wait())
        await call.send(HELLO[1])
        await call.end()

    upstream.script = script
    async with (
        upstream.socket_client() as client,
        client.stream("POST", PATH, json={"model": "m", "stream": True}) as answer,
    ):
        pieces = answer.aiter_raw()
        assert await bounded(anext(pieces)) == HELLO[0]
        seen.set()
        assert await bounded(anext(pieces)) == HELLO[1]


async def test_an_upstream_error_comes_through_with_its_status_and_body(
    upstream: ScriptedUpstream,
) -> None:
    async def script(call: Call) -> None:
        await call.answer(
            b'{"error" : "slow down"}',
            status=429,
            headers={"retry-after": "7", "x-ratelimit-limit-requests": "1", "set-cookie": "a=b"},
        )

    upstream.script = script
    async with upstream.client() as client:
        answer = await client.post(PATH, json={"model": "m"})
        await client.post(PATH, json={"model": "m"})
    assert (answer.status_code, answer.content) == (429, b'{"error" : "slow down"}')
    assert answer.headers["retry-after"] == "7"
    assert answer.headers["x-ratelimit-limit-requests"] == "1"
    assert "set-cookie" not in answer.headers
    assert "cookie" not in upstream.calls[1].headers


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key_is_the_operators_fault_only_when_it_is_the_operators(
    upstream: ScriptedUpstream, status: int
) -> None:
    async def script(call: Call) -> None:
        await call.answer(
            {"error": {"message": f"bad key {call.headers['authorization']}"}}, status
        )

    upstream.script = script
    client_key = {"authorization": "Bearer client-key"}
    async with upstream.client(key="operator-key") as client:
        answer = await client.post(PATH, json={"model": "m"}, headers=client_key)
    assert upstream.calls[0].headers["authorization"] == "Bearer operator-key"
    assert answer.status_code == 502
    assert answer.headers["x-should-retry"] == "false"
    assert answer.json() == {
        "error": {
            "message": "The upstream refused the gateway's credential; its operator must correct "
            "it.",
            "type": "server_error",
            "param": None,
            "code": "upstream_error",
        }
    }
    async with upstream.client() as client:
        answer = await client.post(PATH, json={"model": "m"}, headers=client_key)
    assert upstream.calls[1].headers["authorization"] == "Bearer client-key"
    assert answer.status_code == status
    assert answer.json() == {"error": {"message": "bad key Bearer [removed]"}}


async def test_a_credential_in_a_header_keeps_the_clients_key_away(
    upstream: ScriptedUpstream,
) -> None:
    async with upstream.client(upstream={"headers": {"Api-Key": "operator-key"}}) as client:
        await client.post(PATH, json={"model": "m"}, headers={"authorization": "Bearer client"})
    assert upstream.calls[0].headers["api-key"] == "operator-key"
    assert "authorization" not in upstream.calls[0].headers


async def test_a_redirect_is_not_followed(upstream: ScriptedUpstream) -> None:
    async def script(call: Call) -> None:
        await call.answer(b"moved", 307, headers={"location": "http://elsewhere.test/"})

    upstream.script = script
    async with upstream.client() as client:
        answer = await client.post(PATH, json={"model": "m"})
    assert answer.status_code == 502
    assert "redirect" in answer.json()["error"]["message"]
    assert "elsewhere" not in answer.text + str(answer.headers)


async def test_an_answer_that_breaks_off_is_cut_for_the_client_too(
    upstream: ScriptedUpstream,
) -> None:
    async def script(call: Call) -> None:
        await call.head()
        await call.send(HELLO[0])
        call.drop()

    upstream.script = script
    async with upstream.socket_client() as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post(PATH, json={"model": "m", "stream": True})
        assert (await client.get("/healthz")).json() == {"status": "ok"}


@pytest.mark.parametrize(
    ("body", "status", "param", "code"),
    [
        (b"{", 400, None, None),
        (b"\xff", 400, None, None),
        (b"[]", 400, None, "invalid_type"),
        (b'{"model":3}', 400, None, "invalid_type"),
        (b"{}", 400, "model", "missing_required_parameter"),
        (b'{"model":""}', 400, "model", "missing_required_parameter"),
        (b'{"model":"Small"}', 404, "model", "model_not_found"),
    ],
)
async def test_our_own_refusals_are_in_the_envelope(
    upstream: ScriptedUpstream, body: bytes, status: int, param: str | None, code: str | None
) -> None:
    async with upstream.client(models=MODELS) as client:
        answer = await client.post(PATH, content=body)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, code)
    assert upstream.calls == []


@pytest.mark.parametrize("status", [400, 422, 200, 500])
async def test_a_responses_request_is_told_where_it_belongs(
    upstream: ScriptedUpstream, status: int
) -> None:
    """Where the upstream refuses it; else its answer is passed through as any other."""

    async def script(call: Call) -> None:
        await call.answer({"error": {"message": "messages: field required"}}, status)

    upstream.script = script
    async with upstream.client() as client:
        answer = await client.post(PATH, json={"model": "m", "input": "hi"})
    if status not in (400, 422):
        assert answer.status_code == status
        assert answer.json() == {"error": {"message": "messages: field required"}}
        return
    assert answer.status_code == 400
    assert answer.json()["error"] == {
        "message": "Missing required parameter: 'messages'. 'input' is a field of the Responses"
        " API: send this request to /v1/responses.",
        "type": "invalid_request_error",
        "param": "messages",
        "code": "missing_required_parameter",
    }


async def test_the_openai_sdk_gets_a_stream_and_an_answer(upstream: ScriptedUpstream) -> None:
    async with upstream.service(models=MODELS) as url:
        sdk = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="sk-test", timeout=BOUND_S)
        async with sdk:
            ask = sdk.chat.completions.create
            whole = await ask(model="small", messages=[{"role": "user", "content": "Hi"}])
            stream = await ask(
                model="small", messages=[{"role": "user", "content": "Hi"}], stream=True
            )
            text = "".join([part.choices[0].delta.content or "" async for part in stream])
    assert (whole.choices[0].message.content, text) == ("Hello world", "Hello world")
    assert json.loads(upstream.calls[0].body)["model"] == "accounts/up/models/m"


@pytest.mark.parametrize("streams", [False, True])
async def test_a_limit_that_is_lowered_is_a_notice(
    upstream: ScriptedUpstream, log: Log, *, streams: bool
) -> None:
    logging.getLogger("translator").setLevel(logging.DEBUG)
    ask = {"model": "small", "messages": [], "max_tokens": 101, "max_completion_tokens": 100}
    async with upstream.client(models=MODELS) as client:
        answer = await client.post(PATH, json=ask | {"stream": streams})
        logged = log.request
        page = (await client.get("/metrics")).text
    assert upstream.calls[0].json["max_tokens"] == 100
    assert answer.headers["x-translator-notices"] == "1; clamped"
    assert logged["notices"] == {"clamped": 1}
    assert "notes='1; clamped'" in logged["message"]
    assert 'translator_notices_total{code="clamped"} 1.0' in page
    notice = next(line for line in log.objects if line["level"] == "debug")
    assert notice["message"] == "max_tokens: The model generates at most 100 tokens."
    assert notice["id"] == logged["id"]


async def test_a_request_that_loses_nothing_has_no_notice(
    upstream: ScriptedUpstream, log: Log
) -> None:
    async with upstream.client(models=MODELS) as client:
        answer = await client.post(PATH, json={"model": "small", "messages": [], "max_tokens": 100})
    assert "x-translator-notices" not in answer.headers
    assert "notices" not in log.request


async def test_a_limit_that_would_be_lowered_is_refused_where_nothing_may_be_lost(
    upstream: ScriptedUpstream,
) -> None:
    ask = {"model": "small", "messages": [], "max_completion_tokens": 101}
    async with upstream.client(models=MODELS, strict=True) as client:
        answer = await client.post(PATH, json=ask)
    assert (answer.status_code, upstream.calls) == (400, [])
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("unsupported_parameter", "max_completion_tokens")


IN_THE_STREAM = {
    "an event": [HELLO[0], frame({"error": {"message": "no", "code": "rate_limit_exceeded"}})],
    "beside choices": [
        HELLO[0],
        frame({"choices": [], "error": {"message": "no", "code": "rate_limit_exceeded"}}),
    ],
}


@pytest.mark.parametrize("name", IN_THE_STREAM)
async def test_an_error_in_an_answer_is_no_completed_request(
    upstream: ScriptedUpstream, log: Log, name: str
) -> None:
    """It comes through as it is; the log and the metrics say what it was."""

    async def script(call: Call) -> None:
        await call.head()
        await call.send(*IN_THE_STREAM[name])
        await call.end()

    upstream.script = script
    async with upstream.client() as client:
        answer = await client.post(PATH, json={"model": "m", "messages": [], "stream": True})
        logged = log.request
        page = (await client.get("/metrics")).text
    assert answer.content == b"".join(IN_THE_STREAM[name])
    assert (logged["status"], logged["outcome"]) == (200, "failed rate_limit_exceeded")
    assert logged["error"]["code"] == "rate_limit_exceeded"
    assert 'endpoint="chat",model="other",outcome="failed",status="200"} 1.0' in page
    assert 'translator_upstream_errors_total{kind="rate_limit_exceeded",upstream="up"} 1.0' in page


async def test_an_error_that_is_passed_through_is_what_it_is_for_responses(
    upstream: ScriptedUpstream, log: Log
) -> None:
    """In the log, and among the errors of upstreams and of clients."""

    async def script(call: Call) -> None:
        await call.answer({"error": {"message": "Slow down."}}, 429)

    upstream.script = script
    async with upstream.client(retries=0) as client:
        await client.post(PATH, json={"model": "m", "messages": []})
        logged = log.request
        page = (await client.get("/metrics")).text
    assert (logged["status"], logged["outcome"]) == (429, "rate_limit_exceeded")
    code = 'translator_errors_total{code="rate_limit_exceeded",endpoint="chat",model="other"} 1.0'
    assert code in page
    assert 'translator_upstream_errors_total{kind="rate_limit_exceeded",upstream="up"} 1.0' in page
    assert 'translator_upstream_errors_total{kind="refused",upstream="up"} 0.0' in page
