"""What a request costs: by its usage where that is plausible, else by its bytes, on every route."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.service.chat_bodies import COMPLETION, HELLO, chunk, frame
from tests.service.responses_api import ASK_SMALL_WHOLE as ASK
from tests.service.wire import Call, ScriptedUpstream, bounded, client_of, serving
from translator.service.access.cost import MAX_TOKENS, Answered, StatedUsage, cost

from .clients import (
    ALICE,
    ASK_CHAT,
    CHAT,
    RESPONSES,
    Clock,
    bearer,
    keyed,
    limited,
    settings_for,
)

pytestmark = pytest.mark.anyio

LIMIT = 10_000_000
TEXT = "word" * 100
"""400 bytes in each event."""

EVENTS = 100
WRITTEN = EVENTS * len(TEXT)

WAYS = {
    "stream": (RESPONSES, ASK | {"stream": True}),
    "json": (RESPONSES, ASK),
    "compact": ("/v1/responses/compact", ASK),
    "chat": (CHAT, ASK_CHAT | {"stream": True}),
    "chat json": (CHAT, ASK_CHAT),
}


# --- the rule -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answered", "tokens"),
    [
        (Answered(), 100),
        (Answered(400), 200),
        (Answered(3), 100),
        (Answered(400, 500), 600),
        (Answered(400, 5), 200),
        (Answered(400, 0, StatedUsage(30, 20, 50)), 50),
        (Answered(400, 500, StatedUsage(30, 20, 50)), 50),
        # parts that are missing
        (Answered(400, 0, StatedUsage(0, 20, 0)), 120),
        (Answered(400, 0, StatedUsage(30, 0, 0)), 130),
        (Answered(0, 0, StatedUsage(30, 0, 30)), 30),
        (Answered(400, 0, StatedUsage(0, 0, 50)), 50),
        (Answered(400, 0, StatedUsage(30, 20, 90)), 90),
        # not plausible
        (Answered(0, 0, StatedUsage(0, 0, 0)), 100),
        (Answered(400, 0, StatedUsage(0, 0, 0)), 200),
        (Answered(400, 0, StatedUsage(0, 0, 1)), 200),
        (Answered(4000, 0, StatedUsage(30, 20, 50)), 1030),
        (Answered(400, 0, StatedUsage(MAX_TOKENS + 1, 20, 0)), 120),
        (Answered(400, 0, StatedUsage(30, MAX_TOKENS + 1, 0)), 130),
        (Answered(400, 0, StatedUsage(30, 20, MAX_TOKENS + 1)), 50),
        (Answered(400, 0, StatedUsage(0, 0, 10**30)), 200),
    ],
)
def test_the_cost_of_a_request_of_100_tokens(answered: Answered, tokens: int) -> None:
    assert cost(100, answered) == tokens


@pytest.mark.parametrize("bytes_per_token", [1, 4, 10, 30])
def test_usage_counts_for_dense_text_and_for_sparse(bytes_per_token: int) -> None:
    stated = StatedUsage(30, 1000, 1030)
    assert cost(100, Answered(1000 * bytes_per_token, 1000, stated)) == 1030


# --- every route ----------------------------------------------------------------------------------


@asynccontextmanager
async def served(url: str, **limits: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client with a token limit, on a real socket: chunks take the short path."""
    limits = {"tokens_per_minute": LIMIT, **limits}
    settings = settings_for(url, {"alice": keyed(ALICE, **limits)}, heartbeat_s=3600)
    async with (
        serving(settings, clock=Clock()) as base,
        httpx.AsyncClient(base_url=base, headers=bearer(ALICE), timeout=20) as client,
    ):
        yield client


async def spent_by(client: httpx.AsyncClient, limit: int = LIMIT) -> int:
    """The tokens that are spent."""
    answer = await client.get("/v1/models")
    return limit - int(answer.headers["x-ratelimit-remaining-tokens"])


def answering(
    usage: Any = None, *, delta: Callable[[str], dict[str, Any]] = lambda text: {"content": text}
) -> Callable[[Call], Awaitable[None]]:
    """An answer of WRITTEN bytes, with this usage."""
    stated = {} if usage is None else {"usage": usage}

    async def script(call: Call) -> None:
        if call.json.get("stream"):
            await call.head()
            for _ in range(EVENTS):
                await call.send(chunk(delta(TEXT)))
            await call.send(chunk({}, "stop"), frame({"choices": []} | stated), HELLO[-1])
            await call.end()
        else:
            message = {"role": "assistant", **delta(TEXT * EVENTS)}
            choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
            await call.answer(COMPLETION | {"choices": choices, "usage": usage})

    return script


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        {"prompt_tokens": -5, "completion_tokens": -5, "total_tokens": -10},
        {"prompt_tokens": 0, "completion_tokens": 3, "total_tokens": 3},
        {"prompt_tokens": 0, "completion_tokens": 10**18, "total_tokens": 10**18},
    ],
    ids=["none", "zeros", "negative", "far too little", "huge"],
)
@pytest.mark.parametrize("way", WAYS)
async def test_without_plausible_usage_text_costs_a_token_per_four_bytes(
    upstream: ScriptedUpstream, way: str, usage: Any
) -> None:
    upstream.script = answering(usage)
    path, body = WAYS[way]
    async with limited(upstream.url, tokens_per_minute=LIMIT) as client:
        answer = await client.post(path, json=body)
        assert answer.status_code == 200
        spent = await spent_by(client) - len(answer.request.content) // 4
        assert WRITTEN // 4 <= spent <= WRITTEN // 4 + (30 if way == "compact" else 0)


@pytest.mark.parametrize("way", WAYS)
async def test_plausible_usage_counts_instead(upstream: ScriptedUpstream, way: str) -> None:
    upstream.script = answering({"prompt_tokens": 11, "completion_tokens": 6000})
    path, body = WAYS[way]
    async with limited(upstream.url, tokens_per_minute=LIMIT) as client:
        assert (await client.post(path, json=body)).status_code == 200
        assert await spent_by(client) == 6011


@pytest.mark.parametrize("way", ["stream", "chat"])
@pytest.mark.parametrize("kind", ["reasoning", "arguments"])
async def test_reasoning_and_arguments_cost_as_much_as_text(
    upstream: ScriptedUpstream, way: str, kind: str
) -> None:
    def delta(text: str) -> dict[str, Any]:
        if kind == "reasoning":
            return {"reasoning_content": text}
        return {
            "tool_calls": [{"index": 0, "id": "c", "function": {"name": "", "arguments": text}}]
        }

    async def script(call: Call) -> None:
        await call.head()
        name = {"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"a":"'}}
        await call.send(chunk({"tool_calls": [name]} if kind == "arguments" else {}))
        for _ in range(EVENTS):
            await call.send(chunk(delta(TEXT)))
        await call.send(chunk({}, "tool_calls" if kind == "arguments" else "stop"))
        await call.end()

    upstream.script = script
    path, body = WAYS[way]
    async with served(upstream.url) as client:
        answer = await client.post(path, json=body)
        spent = await spent_by(client) - len(answer.request.content) // 4
        assert WRITTEN // 4 <= spent <= WRITTEN // 4 + 3


@pytest.mark.parametrize("way", WAYS)
async def test_an_answer_that_the_upstream_cuts_costs_what_came(
    upstream: ScriptedUpstream, way: str
) -> None:
    path, body = WAYS[way]
    streams = "stream" in body

    async def script(call: Call) -> None:
        if streams:
            await call.head()
            for _ in range(EVENTS):
                await call.send(chunk({"content": TEXT}))
        else:
            await call.head(content_type="application/json")
            whole = {"choices": [{"message": {"content": TEXT * EVENTS}}]}
            await call.send(json.dumps(whole).encode()[:-20])
        await asyncio.sleep(0.01)
        call.drop()

    upstream.script = script
    async with served(upstream.url) as client:
        try:
            await client.post(path, json=body)
        except httpx.RemoteProtocolError:
            assert way.startswith("chat")
        spent = await spent_by(client)
    assert WRITTEN // 4 <= spent <= WRITTEN // 4 + 100


@pytest.mark.parametrize("way", WAYS)
async def test_an_answer_that_the_client_leaves_costs_what_came(
    upstream: ScriptedUpstream, way: str
) -> None:
    path, body = WAYS[way]
    sent, came, gone = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def read(client: httpx.AsyncClient, path: str, body: Any) -> None:
        got = b""
        async with client.stream("POST", path, json=body) as answer:
            async for part in answer.aiter_raw():
                got += part
                if got.count(b"word") >= WRITTEN // 4 - 20:
                    came.set()

    async def script(call: Call) -> None:
        if "stream" in body:
            await call.head()
            for _ in range(EVENTS):
                await call.send(chunk({"content": TEXT}))
        else:
            await call.head(content_type="application/json")
            whole = {"choices": [{"message": {"content": TEXT * EVENTS}}]}
            await call.send(json.dumps(whole).encode()[:-20])
        sent.set()
        await call.gone()
        gone.set()

    upstream.script = script
    async with served(upstream.url) as client:
        asking = asyncio.create_task(read(client, path, body))
        await bounded(sent.wait())
        if way in ("json", "compact"):
            await asyncio.sleep(0.5)  # nothing tells when it has come
        else:
            await bounded(came.wait())
        asking.cancel()
        await bounded(gone.wait())
        spent = await spent_by(client)
    assert WRITTEN // 4 <= spent <= WRITTEN // 4 + 100


@pytest.mark.parametrize("way", WAYS)
async def test_a_client_that_leaves_before_the_answer_has_spent_its_request(
    upstream: ScriptedUpstream, way: str
) -> None:
    """The upstream reads it all the same."""
    path, body = WAYS[way]
    begun, gone = asyncio.Event(), asyncio.Event()

    async def script(call: Call) -> None:
        begun.set()
        await call.gone()
        gone.set()

    upstream.script = script
    async with served(upstream.url) as client:
        asking = asyncio.create_task(client.post(path, json=body))
        await bounded(begun.wait())
        asking.cancel()
        await bounded(gone.wait())
        assert 0 < await spent_by(client) < 100


@pytest.mark.parametrize("way", WAYS)
async def test_an_upstream_that_answers_with_an_error_costs_nothing(
    upstream: ScriptedUpstream, way: str
) -> None:
    async def script(call: Call) -> None:
        await call.answer(b"<html>" + b"x" * 100_000, status=500)

    upstream.script = script
    path, body = WAYS[way]
    async with limited(upstream.url, tokens_per_minute=LIMIT) as client:
        assert (await client.post(path, json=body)).status_code >= 500
        assert await spent_by(client) == 0


async def test_a_request_over_the_limit_costs_all_of_it_without_usage(
    upstream: ScriptedUpstream,
) -> None:
    """It was charged the whole bucket in advance; the rest becomes a debt."""
    upstream.script = answering()
    clock = Clock()
    async with limited(upstream.url, clock, tokens_per_minute=1000) as client:
        large = await client.post(RESPONSES, json=ASK | {"input": "x" * 400_000})
        assert large.status_code == 200
        refused = await client.post(RESPONSES, json=ASK)
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) > 60 * (100 + WRITTEN // 4 // 1000 - 2)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_compressed_chat_answer_costs_its_text(
    upstream: ScriptedUpstream, stream: bool
) -> None:
    """It is decompressed on its way."""
    text = "x" * 100_000
    message = {"choices": [{"index": 0, "message": {"content": text}}]}
    plain = chunk({"content": text}) + HELLO[-1] if stream else json.dumps(message).encode()

    async def script(call: Call) -> None:
        kind = "text/event-stream" if stream else "application/json"
        body = gzip.compress(plain)
        await call.answer(body, content_type=kind, headers={"content-encoding": "gzip"})

    upstream.script = script
    async with served(upstream.url) as client:
        answer = await client.post(CHAT, json=ASK_CHAT | {"stream": stream})
        assert answer.content == plain
        assert "content-encoding" not in answer.headers
        assert await spent_by(client) >= len(text) // 4


@pytest.mark.parametrize("stream", [True, False])
async def test_attempts_that_are_replaced_cost_what_they_wrote(
    upstream: ScriptedUpstream, stream: bool
) -> None:
    """Reasoning that is not shown may come before an error on which another attempt is made."""

    async def script(call: Call) -> None:
        await call.head()
        if len(upstream.calls) == 1:
            for _ in range(EVENTS):
                await call.send(chunk({"reasoning_content": TEXT}))
            error = {"message": "Unsupported parameter: 'top_p'", "param": "top_p", "code": 400}
            await call.send(frame({"error": error}))
        else:
            await call.send(*HELLO)
        await call.end()

    upstream.script = script
    settings = settings_for(
        upstream.url, {"alice": keyed(ALICE, tokens_per_minute=LIMIT)}, reasoning_events="none"
    )
    async with client_of(settings, clock=Clock()) as client:
        client.headers.update(bearer(ALICE))
        answer = await client.post(RESPONSES, json=ASK | {"stream": stream, "top_p": 0.5})
        assert answer.status_code == 200
        assert len(upstream.calls) == 2
        spent = await spent_by(client)
        assert spent == len(answer.request.content) // 4 + (WRITTEN + len("Hello world")) // 4


# --- WebSockets -----------------------------------------------------------------------------------


@asynccontextmanager
async def socket(url: str, **limits: Any) -> AsyncIterator[tuple[ClientConnection, str]]:
    settings = settings_for(url, {"alice": keyed(ALICE, **limits)})
    async with serving(settings, clock=Clock()) as base:
        address = base.replace("http", "ws") + RESPONSES
        async with connect(address, additional_headers=bearer(ALICE), proxy=None) as open_one:
            yield open_one, base


async def turn(connection: ClientConnection, **fields: Any) -> dict[str, Any]:
    """One turn; its last event."""
    await connection.send(json.dumps({"type": "response.create", **ASK, **fields}))
    last: dict[str, Any] = {}
    while (
        last.get("type") not in ("response.completed", "response.failed") and "status" not in last
    ):
        last = json.loads(await bounded(connection.recv()))
    return last


async def remaining(base: str) -> int:
    async with httpx.AsyncClient(base_url=base, headers=bearer(ALICE)) as client:
        answer = await client.get("/v1/models")
        return int(answer.headers["x-ratelimit-remaining-tokens"])


async def test_a_turn_is_charged_for_the_conversation_that_it_continues(
    upstream: ScriptedUpstream,
) -> None:
    """And not for the few bytes of its message."""
    limit = 1_000_000
    upstream.script = answering({"prompt_tokens": 5, "completion_tokens": 10_000})
    async with socket(upstream.url, tokens_per_minute=limit) as (connection, base):
        first = await turn(connection, input="y" * 40_000)
        assert await remaining(base) == limit - 10_005
        held, go_on = asyncio.Event(), asyncio.Event()

        async def script(call: Call) -> None:
            held.set()
            await bounded(go_on.wait())
            await answering({"prompt_tokens": 5, "completion_tokens": 10_000})(call)

        upstream.script = script
        after = first["response"]["id"]
        asking = asyncio.create_task(turn(connection, previous_response_id=after))
        await bounded(held.wait())
        charged = limit - 10_005 - await remaining(base)
        assert 20_000 <= charged <= 20_200  # 40,000 bytes of input, 40,000 of the answer to it
        go_on.set()
        assert (await asking)["type"] == "response.completed"
        assert await remaining(base) == limit - 20_010


async def test_a_conversation_that_costs_more_than_is_left_is_refused(
    upstream: ScriptedUpstream,
) -> None:
    upstream.script = answering({"prompt_tokens": 5, "completion_tokens": 10_000})
    async with socket(upstream.url, tokens_per_minute=25_000) as (connection, _):
        first = await turn(connection, input="y" * 40_000)
        refused = await turn(connection, previous_response_id=first["response"]["id"])
        assert (refused["status"], refused["error"]["code"]) == (429, "rate_limit_exceeded")
    assert len(upstream.calls) == 1


async def test_a_compacted_conversation_is_charged_as_it_goes_upstream(
    upstream: ScriptedUpstream,
) -> None:
    limit = 1_000_000
    upstream.script = answering({"prompt_tokens": 5, "completion_tokens": 10_000})
    async with socket(upstream.url, tokens_per_minute=limit) as (connection, base):
        first = await turn(connection, input="Hi")  # 40,000 bytes of answer
        trigger = [{"type": "compaction_trigger"}]
        after = first["response"]["id"]

        async def short(call: Call) -> None:
            await call.head()
            await call.send(*HELLO)
            await call.end()

        upstream.script = short
        compacted = await turn(connection, input=trigger, previous_response_id=after)
        before = await remaining(base)
        await turn(connection, previous_response_id=compacted["response"]["id"])
        assert before - await remaining(base) < 200


async def test_a_turn_of_which_nothing_goes_upstream_costs_no_tokens(
    upstream: ScriptedUpstream,
) -> None:
    """The next one is charged for all that it has prepared."""
    limit = 1_000_000
    async with socket(upstream.url, tokens_per_minute=limit) as (connection, base):
        first = await turn(connection, input="y" * 40_000, generate=False)
        assert await remaining(base) == limit
        await turn(connection, previous_response_id=first["response"]["id"])
        assert limit - await remaining(base) >= 10_000
    assert len(upstream.calls) == 1


@pytest.mark.parametrize("leaves", [True, False])
async def test_a_turn_that_is_cut_costs_what_came(upstream: ScriptedUpstream, leaves: bool) -> None:
    sent, gone = asyncio.Event(), asyncio.Event()

    async def script(call: Call) -> None:
        await call.head()
        for _ in range(EVENTS):
            await call.send(chunk({"content": TEXT}))
        sent.set()
        if leaves:
            await call.gone()
            gone.set()
        else:
            call.drop()

    upstream.script = script
    async with socket(upstream.url, tokens_per_minute=LIMIT) as (connection, base):
        if leaves:
            await connection.send(json.dumps({"type": "response.create", **ASK}))
            await bounded(sent.wait())
            came = 0
            while came < WRITTEN:
                event = json.loads(await bounded(connection.recv()))
                came += len(event.get("delta", ""))
            connection.transport.abort()
            await bounded(gone.wait())
            await asyncio.sleep(0.05)
        else:
            assert (await turn(connection))["type"] == "response.failed"
        spent = LIMIT - await remaining(base)
    assert WRITTEN // 4 <= spent <= WRITTEN // 4 + 100
