"""`POST /v1/responses`: streams, whole answers, and how each kind of failure reaches the client."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
from typing import Any

import openai
import pytest

from .chat_bodies import COMPLETION, HELLO, chunk, frame
from .responses_api import ASK_SMALL, ASK_SMALL_WHOLE, PATH, events
from .wire import (
    BOUND_S,
    MODELS,
    Call,
    ScriptedUpstream,
    bounded,
    client_of,
    hello_then_silence,
    make_settings,
)

pytestmark = pytest.mark.anyio

REFUSAL = frame({"error": {"message": "This is too much", "code": 429}})


def types(body: bytes) -> list[str]:
    return [event["type"] for event in events(body)]


async def test_a_stream_is_translated(upstream: ScriptedUpstream) -> None:
    async with upstream.client(models=MODELS, key="operator-key") as client:
        # SDKs ask for JSON even where they want a stream: only `stream` decides
        answer = await client.post(
            PATH,
            json=ASK_SMALL | {"max_output_tokens": 1000},
            headers={"accept": "application/json", "authorization": "Bearer client-key"},
        )
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["x-request-id"].startswith("req_")
    assert types(answer.content) == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    last = events(answer.content)[-1]["response"]
    assert last["model"] == "small"
    assert last["output"][0]["content"][0]["text"] == "Hello world"
    [call] = upstream.calls
    assert (call.method, call.path) == ("POST", "/v1/chat/completions")
    assert call.headers["authorization"] == "Bearer operator-key"
    assert call.headers["accept"] == "text/event-stream"
    assert call.headers["accept-encoding"] == "identity"
    assert call.json["model"] == "accounts/up/models/m"
    assert call.json["stream"] is True
    limits = {call.json.get("max_tokens"), call.json.get("max_completion_tokens")}
    assert limits - {None} == {100}


async def test_a_whole_answer_is_the_last_snapshot_of_the_stream(
    upstream: ScriptedUpstream,
) -> None:
    ids = iter(range(1000))

    def new_id(prefix: str) -> str:
        return f"{prefix}{next(ids)}"

    answers: list[dict[str, Any]] = []
    for request in (ASK_SMALL_WHOLE, ASK_SMALL):
        ids = iter(range(1000))
        settings = make_settings(upstream.url, models=MODELS)
        async with client_of(settings, clock=lambda: 1_700_000_000.7, new_id=new_id) as client:
            answer = await client.post(
                "/responses", json=request, headers={"accept": "text/event-stream"}
            )
        assert answer.status_code == 200
        if request is ASK_SMALL_WHOLE:
            assert answer.headers["content-type"] == "application/json"
            answers.append(answer.json())
        else:
            answers.append(events(answer.content)[-1]["response"])
    assert upstream.calls[0].json.get("stream") in (None, False)
    whole, streamed = answers
    assert whole["status"] == "completed"
    assert whole["created_at"] == 1_700_000_000
    assert whole["completed_at"] == 1_700_000_000
    assert whole["id"].startswith("resp_")
    assert whole["usage"]["total_tokens"] == 5
    assert whole["output"] == streamed["output"]
    assert {**whole, "usage": None} == {**streamed, "usage": None}


async def test_ids_cannot_be_guessed(upstream: ScriptedUpstream) -> None:
    async with upstream.client() as client:
        answers = [(await client.post(PATH, json=ASK_SMALL_WHOLE)).json() for _ in range(2)]
    found = [answer[key] for answer in answers for key in ("id",)]
    found += [answer["output"][0]["id"] for answer in answers]
    assert len(set(found)) == 4
    assert all(len(text.partition("_")[2]) >= 24 for text in found)


async def test_the_clients_key_is_passed_on_where_the_operator_gave_none(
    upstream: ScriptedUpstream,
) -> None:
    async with upstream.client() as client:
        await client.post(
            PATH, json=ASK_SMALL_WHOLE, headers={"authorization": "Bearer client-key"}
        )
        await client.post(PATH, json=ASK_SMALL_WHOLE)
    assert upstream.calls[0].headers["authorization"] == "Bearer client-key"
    assert "authorization" not in upstream.calls[1].headers


async def test_losses_are_told_in_a_header(
    upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="translator")
    lossy = {"tools": [{"type": "web_search"}], "truncation": "auto"}
    async with upstream.client() as client:
        for request in (ASK_SMALL, ASK_SMALL_WHOLE):
            answer = await client.post(PATH, json=request | lossy)
            assert answer.status_code == 200
            count, _, codes = answer.headers["x-translator-notices"].partition("; ")
            assert int(count) >= 1
            assert codes and codes.isascii() and " " not in codes
        assert "x-translator-notices" not in (await client.post(PATH, json=ASK_SMALL_WHOLE)).headers
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 3
    assert f"notes='{count}; {codes}'" in lines[0]
    assert "outcome=completed" in lines[0]
    assert "notes=" not in lines[2]


@pytest.mark.parametrize("family", ["summary", "text", "both", "none"])
async def test_the_reasoning_family_is_a_setting(upstream: ScriptedUpstream, family: str) -> None:
    async def script(call: Call) -> None:
        await call.head()
        await call.send(chunk({"reasoning_content": "Hm."}), *HELLO)
        await call.end()

    upstream.script = script
    async with upstream.client(reasoning_events=family) as client:
        answer = await client.post(PATH, json=ASK_SMALL)
    found = set(types(answer.content))
    assert ("response.reasoning_summary_text.delta" in found) == (family in ("summary", "both"))
    assert ("response.reasoning_text.delta" in found) == (family in ("text", "both"))


async def test_each_upstream_read_is_one_write_of_whole_frames(
    upstream: ScriptedUpstream,
) -> None:
    """A slow upstream: what one of its pieces became arrives before the next one exists."""
    seen = asyncio.Queue[None]()

    async def script(call: Call) -> None:
        await call.head()
        await call.send(HELLO[0])  # a role is not an answer yet
        for piece in HELLO[1:3]:
            await call.send(piece)
            await bounded(seen.get())
        await call.send(*HELLO[3:])
        await call.end()

    upstream.script = script
    reads: list[list[str]] = []
    async with (
        upstream.socket_client() as client,
        client.stream("POST", PATH, json=ASK_SMALL) as answer,
    ):
        async for piece in answer.aiter_raw():
            assert piece.endswith(b"\n\n")
            frames = piece.decode().split("\n\n")[:-1]
            reads.append([frame.partition("\n")[0].removeprefix("event: ") for frame in frames])
            seen.put_nowait(None)
    assert reads[0][:2] == ["response.created", "response.in_progress"]
    assert reads[0][-1] == "response.output_text.delta"
    assert reads[1] == ["response.output_text.delta"]
    assert reads[-1][-2:] == ["response.completed", "data: [DONE]"]


async def test_a_stream_begins_when_the_upstream_only_thinks(upstream: ScriptedUpstream) -> None:
    """An upstream that has said 200 and nothing else does not keep the client in the dark."""
    begun = asyncio.Event()

    async def script(call: Call) -> None:
        await call.head()
        await bounded(begun.wait())
        await call.send(*HELLO)
        await call.end()

    upstream.script = script
    async with (
        upstream.socket_client(headers_grace_s=0.01) as client,
        client.stream("POST", PATH, json=ASK_SMALL) as answer,
    ):
        pieces = answer.aiter_raw()
        first = await bounded(anext(pieces))
        assert first.startswith(b"event: response.created\n")
        begun.set()
        body = first + b"".join([piece async for piece in pieces])
    assert types(body)[-1] == "response.completed"


async def test_an_error_after_the_grace_time_is_an_event(upstream: ScriptedUpstream) -> None:
    begun = asyncio.Event()

    async def script(call: Call) -> None:
        await call.head()
        await bounded(begun.wait())
        await call.send(frame({"error": {"message": "boom", "code": 500}}))
        await call.end()

    upstream.script = script
    async with (
        upstream.socket_client(headers_grace_s=0.01) as client,
        client.stream("POST", PATH, json=ASK_SMALL) as answer,
    ):
        body = b""
        async for piece in answer.aiter_raw():
            body += piece
            begun.set()
    assert answer.status_code == 200
    assert types(body)[-2:] == ["error", "response.failed"]
    assert "boom" in events(body)[-1]["response"]["error"]["message"]


@pytest.mark.parametrize(
    "pieces",
    [
        [REFUSAL],
        [b": PROCESSING\n\n", HELLO[0], REFUSAL],
        [REFUSAL[:20], REFUSAL[20:]],
        [REFUSAL.removeprefix(b"data: ")],
    ],
)
@pytest.mark.parametrize("request_body", [ASK_SMALL, ASK_SMALL_WHOLE])
async def test_an_error_in_a_200_is_an_http_error_when_nothing_came_before(
    upstream: ScriptedUpstream, pieces: list[bytes], request_body: dict[str, Any]
) -> None:
    async def script(call: Call) -> None:
        await call.head()
        for piece in pieces:
            await call.send(piece)
            await asyncio.sleep(0.01)  # so that most pieces are reads of their own
        await call.end()

    upstream.script = script
    async with upstream.client() as client:
        answer = await client.post(PATH, json=request_body)
    assert answer.status_code == 429
    assert "This is too much" in answer.json()["error"]["message"]
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("request_body", [ASK_SMALL, ASK_SMALL_WHOLE])
async def test_a_200_without_an_answer_is_an_http_error(
    upstream: ScriptedUpstream, request_body: dict[str, Any]
) -> None:
    async def script(call: Call) -> None:
        await call.head()
        await call.end()

    upstream.script = script
    async with upstream.client() as client:
        answer = await client.post(PATH, json=request_body)
    assert answer.status_code == 502
    assert answer.json()["error"]["type"] == "server_error"


@pytest.mark.parametrize("request_body", [ASK_SMALL, ASK_SMALL_WHOLE])
async def test_an_upstreams_refusal_keeps_its_status_and_its_advice(
    upstream: ScriptedUpstream, request_body: dict[str, Any]
) -> None:
    async def script(call: Call) -> None:
        headers = {
            "retry-after": "7",
            "retry-after-ms": "7000",
            "x-ratelimit-remaining-requests": "0",
            "server": "secret",
        }
        await call.answer({"error": {"message": "Too many requests"}}, 429, headers=headers)

    upstream.script = script
    async with upstream.client() as client:
        answer = await client.post(PATH, json=request_body)
    assert answer.status_code == 429
    error = answer.json()["error"]
    assert error["code"] == "rate_limit_exceeded"
    assert "Too many requests" in error["message"]
    assert answer.headers["retry-after"] == "7"
    assert answer.headers["retry-after-ms"] == "7000"
    assert answer.headers["x-ratelimit-remaining-requests"] == "0"
    assert "server" not in answer.headers


async def test_an_endless_error_body_is_read_only_so_far(upstream: ScriptedUpstream) -> None:
    async def script(call: Call) -> None:
        await call.head(400, "text/plain")
        while True:
            await call.send(b"no " * 10_000)

    upstream.script = script
    async with upstream.client() as client:
        answer = await client.post(PATH, json=ASK_SMALL_WHOLE)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("no no no")


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key_is_the_operators_fault_only_when_it_is_the_operators(
    upstream: ScriptedUpstream, status: int
) -> None:
    async def script(call: Call) -> None:
        await call.answer({"error": {"message": "bad key op…key"}}, status)

    upstream.script = script
    async with upstream.client(key="operator-key") as client:
        answer = await client.post(PATH, json=ASK_SMALL)
    assert answer.status_code == 502
    assert answer.json()["error"]["message"] == (
        "The upstream refused the gateway's credential; its operator must correct it."
    )
    async with upstream.client() as client:
        answer = await client.post(PATH, json=ASK_SMALL)
    assert answer.status_code == status
    assert "bad key" in answer.json()["error"]["message"]


async def test_an_upstream_that_breaks_off_ends_the_stream_in_a_failure(
    upstream: ScriptedUpstream,
) -> None:
    async def script(call: Call) -> None:
        await call.head()
        await call.send(*HELLO[:2])
        call.drop()

    upstream.script = script
    async with upstream.client() as client:
        answer = await client.post(PATH, json=ASK_SMALL)
    assert answer.status_code == 200
    assert types(answer.content)[-2:] == ["error", "response.failed"]
    failed = events(answer.content)[-1]["response"]
    assert failed["status"] == "failed"
    assert "up" not in failed["error"]["message"].split()
    assert upstream.url not in answer.text


async def test_an_upstream_that_falls_silent_ends_the_stream_in_a_failure(
    upstream: ScriptedUpstream,
) -> None:
    upstream.script = hello_then_silence
    async with upstream.client(read_timeout_s=0.05) as client:
        answer = await client.post(PATH, json=ASK_SMALL)
    assert types(answer.content)[-2:] == ["error", "response.failed"]
    assert "silent" in events(answer.content)[-1]["response"]["error"]["message"]


async def test_a_whole_answer_that_breaks_off_or_is_too_large_is_an_http_error(
    upstream: ScriptedUpstream,
) -> None:
    async def cut(call: Call) -> None:
        await call.head(content_type="application/json")
        await call.send(json.dumps(COMPLETION).encode()[:50])
        call.drop()

    async def endless(call: Call) -> None:
        await call.head(content_type="application/json")
        while True:
            await call.send(b" " * 1000)

    async with upstream.client(max_answer_bytes=5000) as client:
        for script, words in ((cut, "mid-answer"), (endless, "5000 bytes")):
            upstream.script = script
            answer = await client.post(PATH, json=ASK_SMALL_WHOLE)
            assert answer.status_code == 502
            assert words in answer.json()["error"]["message"]


async def test_a_compressed_answer_is_understood(upstream: ScriptedUpstream) -> None:
    """Some upstreams compress whatever the request accepts."""

    async def script(call: Call) -> None:
        await call.answer(
            gzip.compress(b"".join(HELLO)),
            content_type="text/event-stream",
            headers={"content-encoding": "gzip"},
        )

    upstream.script = script
    async with upstream.client() as client:
        answer = await client.post(PATH, json=ASK_SMALL)
    assert types(answer.content)[-1] == "response.completed"
    assert "content-encoding" not in answer.headers


@pytest.mark.parametrize(
    ("body", "status", "param", "code"),
    [
        (b"{", 400, None, None),
        (b"[]", 400, None, None),
        (b'{"model":3,"input":"x"}', 400, "model", None),
        (b'{"input":"x"}', 400, "model", "missing_required_parameter"),
        (b'{"model":"","input":"x"}', 400, "model", "missing_required_parameter"),
        (b'{"model":"Small","input":"x"}', 404, "model", "model_not_found"),
        (b'{"model":"small"}', 400, "input", None),
        (b'{"model":"small","input":[{"role":"user","content":3}]}', 400, "input[0].content", None),
    ],
)
async def test_a_bad_request_names_its_field(
    upstream: ScriptedUpstream, body: bytes, status: int, param: str | None, code: str | None
) -> None:
    async with upstream.client(models=MODELS) as client:
        answer = await client.post(PATH, content=body)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert code is None or error["code"] == code
    assert upstream.calls == []


async def test_an_unknown_model_is_told_which_there_are(upstream: ScriptedUpstream) -> None:
    async with upstream.client(models=MODELS) as client:
        answer = await client.post(PATH, json=ASK_SMALL | {"model": "Small"})
    assert answer.status_code == 404
    message = "The model 'Small' does not exist. Did you mean 'small'? Models: small, org/large."
    assert answer.json()["error"]["message"] == message


async def test_a_chat_request_is_told_where_it_belongs(upstream: ScriptedUpstream) -> None:
    async with upstream.client() as client:
        asked = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
        answer = await client.post(PATH, json=asked)
    assert answer.status_code == 400
    assert answer.json()["error"] == {
        "message": "Missing required parameter: 'input'. 'messages' is a field of Chat Completions:"
        " send them as 'input', or this request to /v1/chat/completions.",
        "type": "invalid_request_error",
        "param": "input",
        "code": "missing_required_parameter",
    }
    assert upstream.calls == []


async def test_an_upstream_connection_is_used_again(upstream: ScriptedUpstream) -> None:
    async with upstream.client() as client:
        for request in (ASK_SMALL, ASK_SMALL_WHOLE, ASK_SMALL):
            assert (await client.post(PATH, json=request)).status_code == 200
    assert (len(upstream.calls), upstream.connections) == (3, 1)


async def test_what_follows_the_end_of_a_stream_is_not_waited_for(
    upstream: ScriptedUpstream,
) -> None:
    """After `[DONE]` the client has its answer, and an upstream that stays is hung up on."""
    gone = asyncio.Event()

    async def script(call: Call) -> None:
        await call.head()
        await call.send(*HELLO)
        await call.gone()
        gone.set()

    upstream.script = script
    async with upstream.client(read_timeout_s=0.5) as client:
        answer = await bounded(client.post(PATH, json=ASK_SMALL))
        await bounded(gone.wait())
    assert types(answer.content)[-1] == "response.completed"


async def test_the_openai_sdk_streams_and_creates(upstream: ScriptedUpstream) -> None:
    async with upstream.service(models=MODELS) as url:
        async with openai.AsyncOpenAI(
            base_url=f"{url}/v1", api_key="sk-test", timeout=BOUND_S
        ) as sdk:
            created = await sdk.responses.create(model="small", input="Hi")
            assert created.output_text == "Hello world"
            stream = await sdk.responses.create(model="small", input="Hi", stream=True)
            seen = [event.type async for event in stream]
            assert (seen[0], seen[-1]) == ("response.created", "response.completed")
            async with sdk.responses.stream(model="small", input="Hi") as events_:
                async for _ in events_:
                    pass
                final = await events_.get_final_response()
            assert final.output_text == "Hello world"


async def test_the_openai_sdk_from_a_thread(upstream: ScriptedUpstream) -> None:
    """The blocking client, as most programs use it."""

    def ask(url: str) -> tuple[str, str]:
        with openai.OpenAI(base_url=f"{url}/v1", api_key="sk-test", timeout=BOUND_S) as sdk:
            created = sdk.responses.create(model="small", input="Hi").output_text
            with sdk.responses.stream(model="small", input="Hi") as stream:
                stream.until_done()
                return created, stream.get_final_response().output_text

    async with upstream.service(models=MODELS) as url:
        assert await bounded(asyncio.to_thread(ask, url)) == ("Hello world", "Hello world")


async def test_the_openai_sdk_raises_the_right_errors(upstream: ScriptedUpstream) -> None:
    answers = iter([(404, "no such thing"), (429, "Too many requests"), (400, "bad field")])

    async def script(call: Call) -> None:
        status, message = next(answers)
        await call.answer({"detail": message}, status)

    upstream.script = script
    kinds = (openai.NotFoundError, openai.RateLimitError, openai.BadRequestError)
    async with upstream.service() as url:
        async with openai.AsyncOpenAI(
            base_url=f"{url}/v1", api_key="sk-test", timeout=BOUND_S, max_retries=0
        ) as sdk:
            for kind in kinds:
                with pytest.raises(kind) as caught:
                    await sdk.responses.create(model="m", input="Hi", stream=True)
                assert caught.value.request_id is not None
                assert caught.value.request_id.startswith("req_")
