"""Counting the tokens of a request that goes on from a stored response, and compacting it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from tests.service.chat_bodies import COMPLETION
from tests.service.responses_api import PATH
from tests.service.wire import Call, ScriptedUpstream, bounded
from translator.service.config.store import Location
from translator.service.database.statement import DatabaseTime

from .storing import ANNA, BOB, Service, ask, bytes_of, messages, refused, think

pytestmark = pytest.mark.anyio

COUNT = f"{PATH}/input_tokens"
COMPACT = f"{PATH}/compact"


async def posted(
    client: httpx.AsyncClient, path: str, headers: Mapping[str, str] | None = None, **fields: Any
) -> tuple[int, Any]:
    answer = await client.post(path, json={"model": "m"} | fields, headers=headers or {})
    body = answer.json()
    return answer.status_code, body.get("error", body)


async def says_what_it_is_asked(call: Call) -> None:
    """Answers each request with a text of its own."""
    if call.path.endswith("/tokenize"):
        await call.answer({"detail": "Not Found"}, 404)
        return
    said = f"answer to {messages(call)[-1]['content'][:20]}"
    choice = {"message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
    await call.answer(COMPLETION | {"choices": [{"index": 0} | choice]})


@pytest.mark.parametrize("path", [COUNT, COMPACT])
async def test_what_is_not_found_is_refused_as_in_a_turn(
    service: Service, path: str, upstream: ScriptedUpstream, location: Location
) -> None:
    """Unknown, foreign, deleted, expired, or not stored: all the same but for the id."""
    time = DatabaseTime()
    anna, bob = ({"authorization": f"Bearer {key}"} for key in (ANNA, BOB))
    async with service(time, clients=True) as client:
        foreign = await ask(client, headers=bob)
        deleted = await ask(client, headers=anna)
        await client.delete(f"{PATH}/{deleted['id']}", headers=anna)
        unstored = await ask(client, headers=anna, store=False)
        expired = await ask(client, headers=anna)
        before = bytes_of(location)
        time.offset_s = 31 * 86_400.0
        calls = len(upstream.calls)
        ids = ["resp_0", *(one["id"] for one in (foreign, deleted, unstored, expired))]
        for parent in ids:
            told = await refused(client, previous_response_id=parent, headers=anna)
            assert told[0] == 400
            assert told[1]["code"] == "previous_response_not_found"
            for given in ({"input": "Hi"}, {}):
                found = await posted(client, path, anna, previous_response_id=parent, **given)
                assert found == told
        missing = {"type": "item_reference", "id": "msg_0"}
        told = await refused(client, input=[missing], headers=anna)
        assert (await posted(client, path, anna, input=[missing])) == told
        assert told[0] == 404
        assert len(upstream.calls) == calls
    assert bytes_of(location) == before


async def test_the_tokens_of_what_precedes_are_counted(
    service: Service, upstream: ScriptedUpstream, location: Location
) -> None:
    """As if all of it had been sent; nothing is stored."""
    upstream.script = think("A long thought. " * 50, "A long answer. " * 50)
    async with service() as client:
        first = await ask(client, input="one " * 100)
        parent = {"previous_response_id": first["id"], "store": True}
        before = bytes_of(location)
        upstream.script = says_what_it_is_asked
        _, alone = await posted(client, COUNT, input="two")
        status, chained = await posted(client, COUNT, input="two", **parent)
        assert status == 200
        assert chained["object"] == "response.input_tokens"
        assert chained["input_tokens"] > alone["input_tokens"] + 400
        _, only_before = await posted(client, COUNT, **parent)
        assert alone["input_tokens"] < only_before["input_tokens"] < chained["input_tokens"]
        item = {"id": first["output"][-1]["id"]}
        _, referring = await posted(client, COUNT, input=[{"role": "user", "content": "x"}, item])
        assert referring["input_tokens"] > alone["input_tokens"] + 100
    assert bytes_of(location) == before


async def test_a_stored_conversation_becomes_a_shorter_one(
    service: Service, upstream: ScriptedUpstream, location: Location
) -> None:
    """Its output is all of the next input: also the messages that were sent in earlier requests."""
    upstream.script = says_what_it_is_asked
    async with service() as client:
        first = await ask(client, input="one")
        second = await ask(client, input="two", previous_response_id=first["id"])
        before = bytes_of(location)
        parent = {"previous_response_id": second["id"]}
        for given, kept in (({}, ["one", "two"]), ({"input": "three"}, ["one", "two", "three"])):
            status, body = await posted(client, COMPACT, **parent, **given)
            assert status == 200
            said = [one["content"] for one in messages(upstream.calls[-1])]
            assert said[:4] == ["one", "answer to one", "two", "answer to two"]
            *shown, made = body["output"]
            assert [one["content"][0]["text"] for one in shown] == kept
            assert {one["role"] for one in shown} == {"user"}
            assert made["type"] == "compaction"
            status, error = await refused(client, previous_response_id=body["id"])
            assert (status, error["code"]) == (400, "previous_response_not_found")
            assert (await client.get(f"{PATH}/{body['id']}")).status_code == 404
        item = {"id": first["output"][0]["id"]}
        _, body = await posted(client, COMPACT, input=[{"role": "user", "content": "x"}, item])
        assert [one["type"] for one in body["output"]] == ["message", "compaction"]
        assert messages(upstream.calls[-1])[1]["content"] == "answer to one"
        assert bytes_of(location) == before
        await ask(client, input=[*body["output"], {"role": "user", "content": "four"}])
        assert [one["role"] for one in messages(upstream.calls[-1])] == ["user"] * 3


async def test_a_conversation_is_counted_and_compacted_without_its_lock(
    service: Service, upstream: ScriptedUpstream, location: Location
) -> None:
    """Also while a response is about to append to it; nothing is appended."""
    upstream.script = says_what_it_is_asked
    async with service() as client:
        made = (await client.post("/v1/conversations", json={})).json()
        named = {"conversation": made["id"]}
        await ask(client, input="one", **named)
        path = f"/v1/conversations/{made['id']}/items"
        before = (await client.get(path)).json()
        _, alone = await posted(client, COUNT, input="two")
        status, counted = await posted(client, COUNT, input="two", **named)
        assert status == 200
        assert counted["input_tokens"] > alone["input_tokens"]
        status, body = await posted(client, COMPACT, input="two", **named)
        assert status == 200
        *shown, compaction = body["output"]
        assert [one["content"][0]["text"] for one in shown] == ["one", "two"]
        assert compaction["type"] == "compaction"
        assert (await client.get(path)).json() == before
        answering, may_end = asyncio.Event(), asyncio.Event()

        async def slow(call: Call) -> None:
            answering.set()
            await bounded(may_end.wait())
            await says_what_it_is_asked(call)

        upstream.script = slow
        running = asyncio.ensure_future(ask(client, input="two", **named))
        await bounded(answering.wait())
        upstream.script = says_what_it_is_asked
        for path in (COUNT, COMPACT):
            assert (await posted(client, path, input="x", **named))[0] == 200
        status, error = await refused(client, **named)
        assert (status, error["code"]) == (400, "conversation_locked")
        may_end.set()
        assert (await bounded(running))["status"] == "completed"
        for path in (COUNT, COMPACT):
            status, error = await posted(client, path, input="x", conversation="conv_0")
            assert (status, error["param"]) == (404, "conversation")
