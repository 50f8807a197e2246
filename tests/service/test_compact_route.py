"""`POST /v1/responses/compact`, and `compaction_trigger` on `POST /v1/responses`."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import openai
import pytest
from websockets.asyncio.client import connect

from translator.request.compaction import PREFIX, SUMMARY_REQUEST, read_summary

from .chat_bodies import COMPLETION, HELLO, chunk
from .responses_api import events
from .wire import BOUND_S, MODELS, Call, ScriptedUpstream, bounded, make_settings, serving

pytestmark = pytest.mark.anyio

PATH = "/v1/responses/compact"
TRIGGER = {"type": "compaction_trigger"}
TALK: list[dict[str, Any]] = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello, who are you?"},
    {"role": "user", "content": "A user."},
]
REQUEST = {"model": "small", "input": TALK}
STREAM = {"model": "small", "input": [*TALK, TRIGGER], "stream": True}


def summary_in(item: dict[str, Any]) -> str:
    """The words that the model wrote."""
    return read_summary(item["encrypted_content"], "").split("\n\n", 1)[1]


async def test_a_conversation_becomes_a_shorter_one(upstream: ScriptedUpstream) -> None:
    async with upstream.client(models=MODELS, key="operator-key") as client:
        answer = await client.post(PATH, json=REQUEST | {"instructions": "Be kind.", "seed": 1})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    *messages, made = body["output"]
    assert [message["content"][0]["text"] for message in messages] == ["Hi", "A user."]
    assert {(message["type"], message["role"]) for message in messages} == {("message", "user")}
    assert (made["type"], made["id"][:4], summary_in(made)) == ("compaction", "cmp_", "Hello world")
    assert body["object"] == "response.compaction"
    assert body["id"].startswith("resp_")
    assert body["usage"]["total_tokens"] == 5
    [call] = upstream.calls
    assert call.path == "/v1/chat/completions"
    assert call.headers["authorization"] == "Bearer operator-key"
    assert call.json == {
        "model": "accounts/up/models/m",
        "messages": [
            {"role": "system", "content": "Be kind."},
            *TALK,
            {"role": "user", "content": SUMMARY_REQUEST},
        ],
        "stream": False,
        "seed": 1,
    }


async def test_the_output_is_the_next_input(upstream: ScriptedUpstream) -> None:
    async with upstream.client(models=MODELS) as client:
        output = (await client.post("/responses/compact", json=REQUEST)).json()["output"]
        more = [*output, {"role": "user", "content": "And now?"}]
        answer = await client.post("/v1/responses", json={"model": "small", "input": more})
        again = await client.post("/v1/responses", json={"model": "small", "input": output})
    assert answer.json()["status"] == again.json()["status"] == "completed"
    _, second, third = (call.json["messages"] for call in upstream.calls)
    assert [message["role"] for message in second] == ["user"] * 4
    assert second[2]["content"].endswith("\n\nHello world")
    assert second[:3] == third


# Its types know no user messages in an output, though OpenAI sends them, too: it warns and goes on.
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
async def test_the_python_sdk_compacts(upstream: ScriptedUpstream) -> None:
    async with upstream.service(models=MODELS) as url:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0) as client:
            talk: Any = TALK
            short = await client.responses.compact(model="small", input=talk)
            assert [item.type for item in short.output] == ["message", "message", "compaction"]
            assert short.object == "response.compaction"
            assert short.usage.total_tokens == 5
            asked: Any = [*short.output, {"role": "user", "content": "And now?"}]
            told = await client.responses.create(model="small", input=asked)
            assert told.output_text == "Hello world"
            with pytest.raises(openai.BadRequestError) as refused:
                await client.responses.compact(model=None, input="Hi")
            assert refused.value.param == "model"
    assert upstream.calls[1].json["messages"][2]["content"].endswith("\n\nHello world")


async def test_the_python_sdk_reads_a_compaction_from_a_stream(upstream: ScriptedUpstream) -> None:
    async with upstream.service(models=MODELS) as url:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0) as client:
            asked: Any = [*TALK, TRIGGER]
            async with client.responses.stream(model="small", input=asked) as stream:
                [made] = (await stream.get_final_response()).output
    assert made.type == "compaction"
    assert summary_in(made.model_dump()) == "Hello world"


@pytest.mark.parametrize("models", [MODELS, None])
@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (b'{"input": "x"}', 400, "model"),
        (b'{"model": null, "input": "x"}', 400, "model"),
        (b'{"model": 5, "input": "x"}', 400, "model"),
        (b'{"model": "small"}', 400, "input"),
        (b'{"model": "small", "previous_response_id": "resp_1"}', 400, "previous_response_id"),
        (b'{"model": "small", "input": [{"role": "user"}]}', 400, "input[0].content"),
        (b'{"model": "small", "input": [{"type": "compaction", "encrypted_content": "gAAA"}]}', 400, "input[0].encrypted_content"),
        (b'{"model": "small", "input": "x", "temperature": 3}', 400, "temperature"),
        (b"{", 400, None),
    ],
)  # fmt: skip
async def test_faulty_requests_never_reach_the_upstream(
    upstream: ScriptedUpstream, models: Any, body: bytes, status: int, param: str | None
) -> None:
    async with upstream.client(models=models) as client:
        answer = await client.post(PATH, content=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert upstream.calls == []


async def test_the_path_has_one_method_and_the_table_its_models(upstream: ScriptedUpstream) -> None:
    async with upstream.client(models=MODELS, max_body_bytes=200) as client:
        assert (await client.get(PATH)).headers["allow"] == "POST"
        unknown = await client.post(PATH, json={"model": "other", "input": "x"})
        large = await client.post(PATH, json={"model": "small", "input": "x" * 200})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
    assert large.status_code == 413
    assert upstream.calls == []


@pytest.mark.parametrize("path", [PATH, "/v1/responses"])
@pytest.mark.parametrize(
    ("answer", "status", "headers", "expected", "code"),
    [
        ({"error": {"message": "slow down"}}, 429, {"retry-after": "7"}, 429, "rate_limit_exceeded"),
        ({"error": {"message": "maximum context length is 10 tokens"}}, 400, {}, 400, "context_length_exceeded"),
        ({"error": {"message": "a bad moment"}}, 500, {}, 500, None),
        (COMPLETION | {"choices": [{"index": 0, "message": {"content": " "}, "finish_reason": "stop"}]}, 200, {}, 502, "upstream_error"),
    ],
)  # fmt: skip
async def test_failures_are_told_as_anywhere(
    upstream: ScriptedUpstream,
    path: str,
    answer: dict[str, Any],
    status: int,
    headers: dict[str, str],
    expected: int,
    code: str | None,
) -> None:
    async def script(call: Call) -> None:
        await call.answer(answer, status, headers=headers)

    upstream.script = script
    body = REQUEST if path == PATH else STREAM
    async with upstream.client(models=MODELS) as client:
        refused = await client.post(path, json=body)
    assert refused.status_code == expected
    assert code in (None, refused.json()["error"]["code"])
    assert refused.headers.get("retry-after") == headers.get("retry-after")


async def test_a_summary_that_was_cut_is_no_answer(upstream: ScriptedUpstream) -> None:
    """Neither a compaction here, nor there: it would stand for more than it tells."""

    async def script(call: Call) -> None:
        choice = {"index": 0, "message": {"content": "The us"}, "finish_reason": "length"}
        await call.answer(COMPLETION | {"choices": [choice]})

    upstream.script = script
    async with upstream.client(models=MODELS) as client:
        endpoint = await client.post(PATH, json=REQUEST)
        stream = await client.post("/v1/responses", json=STREAM)
    assert (endpoint.status_code, stream.status_code) == (502, 200)
    assert "max_output_tokens" in endpoint.json()["error"]["message"]
    last = events(stream.content)[-1]
    assert (last["type"], last["response"]["output"]) == ("response.incomplete", [])


async def test_a_field_that_the_upstream_refuses_is_left_out(upstream: ScriptedUpstream) -> None:
    async def script(call: Call) -> None:
        if "seed" in call.json:
            await call.answer({"error": {"message": "Unsupported parameter: 'seed'"}}, 400)
        else:
            await call.answer(COMPLETION)

    upstream.script = script
    async with upstream.client(models=MODELS) as client:
        answer = await client.post(PATH, json=REQUEST | {"seed": 1})
    assert summary_in(answer.json()["output"][-1]) == "Hello world"
    assert len(upstream.calls) == 2
    assert answer.headers["x-translator-notices"].startswith("1; ")


async def test_messages_for_which_there_is_no_room_are_noticed(upstream: ScriptedUpstream) -> None:
    long = {"role": "user", "content": "x" * 200_000}
    async with upstream.client(models=MODELS) as client:
        answer = await client.post(PATH, json={"model": "small", "input": [*TALK, long, long]})
    assert [item["type"] for item in answer.json()["output"]] == ["message", "compaction"]
    assert answer.headers["x-translator-notices"] == "3; message_summarised"
    assert len(upstream.calls[0].json["messages"]) == 6, "the summary is made of all of them"


async def test_a_stream_begins_before_the_summary_is_written(upstream: ScriptedUpstream) -> None:
    """Clients give up on a request that stays without a status."""
    begun = asyncio.Event()

    async def script(call: Call) -> None:
        await call.head()
        await call.send(*HELLO[:2])
        await bounded(begun.wait())
        await call.send(*HELLO[2:])
        await call.end()

    upstream.script = script
    settings = make_settings(upstream.url, models=MODELS, headers_grace_s=0.05)
    async with serving(settings) as url, httpx.AsyncClient(timeout=20) as client:
        async with client.stream("POST", f"{url}/v1/responses", json=STREAM) as answer:
            pieces = answer.aiter_bytes()
            body = await bounded(anext(pieces))
            assert b"compaction" not in body
            begun.set()
            async for piece in pieces:
                body += piece
    kinds = [event["type"] for event in events(body)]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-3:] == [
        "response.output_item.added",
        "response.output_item.done",
        "response.completed",
    ]
    assert summary_in(events(body)[-1]["response"]["output"][0]) == "Hello world"


async def test_a_client_that_leaves_takes_the_upstream_s_work_with_it(
    upstream: ScriptedUpstream,
) -> None:
    asked, gone = asyncio.Event(), asyncio.Event()

    async def script(call: Call) -> None:
        await call.head()
        await call.send(chunk({"content": "The"}))
        asked.set()
        await bounded(call.gone())
        gone.set()

    upstream.script = script
    async with upstream.service(models=MODELS) as url:
        async with httpx.AsyncClient() as client:
            asking = asyncio.ensure_future(client.post(f"{url}{PATH}", json=REQUEST))
            await bounded(asked.wait())
            asking.cancel()
            await bounded(gone.wait())


async def test_a_damaged_blob_is_told_by_its_path(upstream: ScriptedUpstream) -> None:
    items = [{"type": "compaction", "encrypted_content": PREFIX + "AAAA"}, TALK[0]]
    async with upstream.client(models=MODELS) as client:
        answer = await client.post("/v1/responses", json={"model": "small", "input": items})
    error = json.loads(answer.content)["error"]
    assert (answer.status_code, error["param"]) == (400, "input[0].encrypted_content")
    assert "damaged" in error["message"]
    assert upstream.calls == []


async def test_a_conversation_by_ids_is_shortened_here(upstream: ScriptedUpstream) -> None:
    """Over a socket, a request says only what is new: what the compaction replaced stays away."""
    async with upstream.service(models=MODELS) as url:
        address = url.replace("http://", "ws://") + "/v1/responses"
        async with connect(address, open_timeout=BOUND_S, close_timeout=BOUND_S) as socket:
            last: str | None = None
            for items in (TALK, [TRIGGER], [{"role": "user", "content": "And now?"}]):
                create = {"type": "response.create", "model": "small", "input": items}
                await socket.send(json.dumps(create | {"previous_response_id": last}))
                event: dict[str, Any] = {"type": ""}
                while event["type"] != "response.completed":
                    event = json.loads(await bounded(socket.recv()))
                    assert event["type"] != "error", event
                last = event["response"]["id"]
    _, asked, going_on = (call.json["messages"] for call in upstream.calls)
    said = [*TALK, {"role": "assistant", "content": "Hello world"}]
    assert asked == [*said, {"role": "user", "content": SUMMARY_REQUEST}]
    texts = [message["content"].split("\n\n")[-1] for message in going_on]
    assert texts == ["Hi", "A user.", "Hello world", "And now?"]
    assert {message["role"] for message in going_on} == {"user"}
