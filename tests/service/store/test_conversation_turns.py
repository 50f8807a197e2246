"""Turns in conversations: their context, what they append, and the lock."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tests.service.chat_bodies import HELLO, chunk
from tests.service.responses_api import PATH, events
from tests.service.wire import Call, ScriptedUpstream, hello_then_silence, say_hello, serving
from translator.service.config.store import Location
from translator.service.database.statement import DatabaseTime
from translator.service.store.upkeep import problems

from .conversing import CALL, CONVERSATIONS, OUTPUT, items_of, new, rows, said, texts_of
from .storing import DONE, Service, ask, messages, refused, settings_of, think

pytestmark = pytest.mark.anyio

LOCKED = {
    "message": "Another process is currently operating on this conversation."
    " Please retry in a few seconds.",
    "type": "invalid_request_error",
    "param": "conversation",
    "code": "conversation_locked",
}

# --- what is appended --------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
async def test_conversation_completed_appends(
    service: Service, upstream: ScriptedUpstream, location: Location, stream: bool
) -> None:
    async with service() as client:
        made = await new(client, said("zero"))
        first = await ask(client, input="one", conversation=made, stream=stream)
        assert first["conversation"] == {"id": made}
        assert (await client.get(f"{PATH}/{first['id']}")).json() == first
        assert await texts_of(client, made) == ["zero", "one", "Hello world"]
        [_, _, answered] = await items_of(client, made)
        assert answered == first["output"][0]
        second = await ask(client, input="two", conversation={"id": made}, stream=stream)
        assert second["conversation"] == {"id": made}
    said_so_far = [one["content"] for one in messages(upstream.calls[1])]
    assert said_so_far == ["zero", "one", "Hello world", "two"]
    assert list(problems(location)) == []
    assert rows(location, "SELECT lock_token, lock_until FROM resp_conversations") == [(None, None)]


async def test_every_event_names_the_conversation(service: Service) -> None:
    async with service() as client:
        made = await new(client)
        body = {"model": "m", "input": "Hi", "stream": True, "conversation": made}
        answer = await client.post(PATH, json=body)
        found = [one["response"] for one in events(answer.content) if "response" in one]
        assert [one["conversation"] for one in found] == [{"id": made}] * 3


async def test_conversation_incomplete_appends(
    service: Service, upstream: ScriptedUpstream
) -> None:
    async def cut(call: Call) -> None:
        await call.head()
        await call.send(*HELLO[:2], chunk({}, "length"), DONE)
        await call.end()

    upstream.script = cut
    async with service() as client:
        made = await new(client)
        found = await ask(client, input="one", conversation=made, stream=True)
        assert found["status"] == "incomplete"
        assert await texts_of(client, made) == ["one", "Hello"]


async def test_conversation_failed_nothing(service: Service, upstream: ScriptedUpstream) -> None:
    """Nor is it locked: neither by a stream that breaks off, nor by one that never began."""

    async def breaks(call: Call) -> None:
        await call.head()
        await call.send(*HELLO[:2])
        await call.cut(HELLO[2])

    async def refuses(call: Call) -> None:
        await call.answer({"error": {"message": "No."}}, status=403)

    async with service() as client:
        made = await new(client)
        upstream.script = breaks
        found = await ask(client, input="one", conversation=made, stream=True)
        assert (found["status"], found["conversation"]) == ("failed", {"id": made})
        upstream.script = refuses
        for stream in (True, False):
            status, _ = await refused(client, input="two", conversation=made, stream=stream)
            assert status == 403
        assert await items_of(client, made) == []
        upstream.script = say_hello
        await ask(client, input="three", conversation=made)
        assert await texts_of(client, made) == ["three", "Hello world"]


async def test_a_request_that_is_refused_releases_the_lock(service: Service) -> None:
    async with service(server={"max_input_items": 2}) as client:
        made = await new(client)
        for fields in (
            {"input": [said("x")] * 3},
            {"input": [{"type": "nonsense"}]},
            {"input": [OUTPUT]},
            {"input": "x", "model": "m", "tools": [{"type": "function"}]},
            {"input": [{"type": "item_reference", "id": "msg_0"}]},
        ):
            status, error = await refused(client, conversation=made, **fields)
            assert status in (400, 404)
            assert error["code"] != "conversation_locked"
        await ask(client, conversation=made)


async def test_conversation_store_false_nothing(
    service: Service, upstream: ScriptedUpstream, location: Location
) -> None:
    """It is read, also while another response is about to append to it."""
    everything = "SELECT * FROM resp_conversations"
    async with service() as client:
        made = await new(client, said("zero"))
        before = rows(location, everything)
        found = await ask(client, input="one", conversation=made, store=False)
        assert (found["store"], found["conversation"]) == (False, {"id": made})
        assert rows(location, everything) == before
        assert [one["content"] for one in messages(upstream.calls[0])] == ["zero", "one"]
        going, may_end = asyncio.Event(), asyncio.Event()
        upstream.script = waits(going, may_end)
        running = asyncio.create_task(ask(client, input="two", conversation=made))
        await going.wait()
        upstream.script = say_hello
        await ask(client, input="one", conversation=made, store=False)
        may_end.set()
        await running
        assert await texts_of(client, made) == ["zero", "two", "Hello world"]


def waits(going: asyncio.Event, may_end: asyncio.Event) -> Any:
    """A script that answers when it may."""

    async def script(call: Call) -> None:
        going.set()
        await may_end.wait()
        await say_hello(call)

    return script


async def leaves(
    upstream: ScriptedUpstream, location: Location, script: Any, until: str
) -> tuple[str, list[str], Any]:
    """A client that leaves: the conversation, its texts afterwards, the response (or None).

    It asks for a stream, and leaves when it has read `until`; where that is empty, for a response.
    """
    upstream.script = script
    settings = settings_of(upstream, location)
    async with (
        serving(settings) as base,
        httpx.AsyncClient(base_url=base, timeout=20 if until else 0.5) as hasty,
        httpx.AsyncClient(base_url=base, timeout=20) as client,
    ):
        made = await new(client, said("zero"))
        body = {"model": "m", "input": "one", "conversation": made, "stream": bool(until)}
        if until:
            async with hasty.stream("POST", PATH, json=body) as answer:
                async for line in answer.aiter_lines():
                    if until in line:
                        break
        else:
            with pytest.raises(httpx.ReadTimeout):
                await hasty.post(PATH, json=body)
        for _ in range(500):
            if rows(location, "SELECT lock_token FROM resp_conversations") == [(None,)]:
                break
            await asyncio.sleep(0.02)
        found = rows(location, "SELECT id FROM resp_responses")
        response = None
        if found:
            response = (await client.get(f"{PATH}/{found[0][0]}")).json()
        upstream.script = say_hello
        await ask(client, input="two", conversation=made)
        return made, await texts_of(client, made), response


@pytest.mark.parametrize("until", ["Hello", ""])
async def test_conversation_client_left_nothing(
    upstream: ScriptedUpstream, location: Location, until: str
) -> None:
    """No item was whole: nothing is stored, and the lock is free at once."""
    _, texts, response = await leaves(upstream, location, hello_then_silence, until)
    assert texts == ["zero", "two", "Hello world"]
    assert response is None


async def calls_then_silence(call: Call) -> None:
    """A whole call, and the beginning of a text."""
    await call.head()
    function = {"name": "ls", "arguments": "{}"}
    await call.send(
        chunk({"reasoning_content": "hm"}),
        chunk({"tool_calls": [{"index": 0, "id": "c1", "function": function}]}),
        chunk({"content": "And "}),
    )
    await call.gone()


async def test_conversation_cancelled_nothing(
    upstream: ScriptedUpstream, location: Location
) -> None:
    """A client left a stream: its whole items are those of a cancelled response, and no more."""
    made, texts, response = await leaves(upstream, location, calls_then_silence, '"type":"message"')
    assert texts == ["zero", "two", "Hello world"]
    assert response["status"] == "cancelled"
    assert response["conversation"] == {"id": made}
    assert [item["type"] for item in response["output"]] == ["reasoning", "function_call"]
    assert (response["error"], response["usage"], response["completed_at"]) == (None, None, None)
    async with serving(settings_of(upstream, location)) as base:
        async with httpx.AsyncClient(base_url=base, timeout=20) as client:
            await ask(client, input=[OUTPUT], previous_response_id=response["id"])
            path = f"{PATH}/{response['id']}/input_items?order=asc"
            listed = (await client.get(path)).json()["data"]
            assert [one["content"][0]["text"] for one in listed] == ["zero", "one"]
    sent = messages(upstream.calls[-1])
    assert [one["role"] for one in sent] == ["user", "user", "assistant", "tool"]
    assert sent[2]["reasoning_content"] == "hm"
    assert list(problems(location)) == []


# --- the lock ----------------------------------------------------------------------------------


async def test_conversation_two_at_once(service: Service, upstream: ScriptedUpstream) -> None:
    going, may_end = asyncio.Event(), asyncio.Event()
    upstream.script = waits(going, may_end)
    async with service() as client, service() as other:
        made = await new(client, said("zero"))
        item = (await items_of(client, made))[0]["id"]
        path = f"{CONVERSATIONS}/{made}"
        running = asyncio.create_task(ask(client, input="one", conversation=made))
        await going.wait()
        for one in (client, other):
            assert await refused(one, input="two", conversation=made) == (400, LOCKED)
            added = await one.post(f"{path}/items", json={"items": [said("x")]})
            removed = await one.delete(f"{path}/items/{item}")
            for answer in (added, removed):
                assert (answer.status_code, answer.json()["error"]) == (400, LOCKED)
            assert (await one.get(path)).status_code == 200
            assert (await one.post(path, json={"metadata": {"a": "b"}})).status_code == 200
            assert await texts_of(one, made) == ["zero"]
            counting = {"model": "m", "input": "x", "conversation": made}
            assert (await one.post(f"{PATH}/input_tokens", json=counting)).status_code == 200
        may_end.set()
        await running
        await ask(other, input="two", conversation=made)
        await ask(client, input="three", conversation=made)
        answer = await client.delete(f"{path}/items/{item}")
        assert answer.json()["metadata"] == {"a": "b"}
        assert await texts_of(client, made) == [
            *("one", "Hello world", "two", "Hello world", "three", "Hello world")
        ]


async def test_a_lock_is_renewed_while_its_turn_runs(
    service: Service, upstream: ScriptedUpstream
) -> None:
    going, may_end = asyncio.Event(), asyncio.Event()
    upstream.script = waits(going, may_end)
    async with service(lease_s=0.5) as client:
        made = await new(client)
        running = asyncio.create_task(ask(client, input="one", conversation=made))
        await going.wait()
        await asyncio.sleep(1.2)
        assert await refused(client, input="two", conversation=made) == (400, LOCKED)
        may_end.set()
        await running
        assert await texts_of(client, made) == ["one", "Hello world"]


async def test_who_has_lost_its_lock_appends_nothing(
    service: Service, upstream: ScriptedUpstream, location: Location
) -> None:
    """Its response fails, and is not there: another one has gone on meanwhile."""
    going, may_end = asyncio.Event(), asyncio.Event()
    upstream.script = waits(going, may_end)
    time = DatabaseTime()
    async with service() as client, service(time) as other:
        made = await new(client, said("zero"))
        running = [
            asyncio.create_task(client.post(PATH, json=body))
            for body in [{"model": "m", "input": "one", "conversation": made, "stream": True}]
        ]
        await going.wait()
        upstream.script = say_hello
        time.offset_s = 31.0
        await ask(other, input="two", conversation=made)
        may_end.set()
        found = events((await running[0]).content)
        assert [one["type"] for one in found[-2:]] == ["error", "response.failed"]
        assert (await client.get(f"{PATH}/{found[0]['response']['id']}")).status_code == 404
        assert await texts_of(client, made) == ["zero", "two", "Hello world"]
        await ask(client, input="three", conversation=made)
    assert list(problems(location)) == []


async def test_conversation_deleted_while_running(
    service: Service, upstream: ScriptedUpstream, location: Location
) -> None:
    """The response completes, with what it saw; nothing is appended, and nothing is left over."""
    going, may_end = asyncio.Event(), asyncio.Event()
    upstream.script = waits(going, may_end)
    async with service() as client:
        made = await new(client, said("zero"))
        running = asyncio.create_task(ask(client, input="one", conversation=made))
        await going.wait()
        assert (await client.delete(f"{CONVERSATIONS}/{made}")).status_code == 200
        sweep(location)
        may_end.set()
        found = await running
        assert found["status"] == "completed"
        sweep(location)
        upstream.script = say_hello
        status, _ = await refused(client, input="two", conversation=made)
        assert status == 404
        await ask(client, input="two", previous_response_id=found["id"])
        sent = [one["content"] for one in messages(upstream.calls[1])]
        assert sent == ["zero", "one", "Hello world", "two"]
        assert list(problems(location)) == []
        for (response,) in rows(location, "SELECT id FROM resp_responses"):
            await client.delete(f"{PATH}/{response}")
    sweep(location)
    for table in ("items", "conversations", "conversation_items", "responses"):
        assert rows(location, f"SELECT count(*) FROM resp_{table}") == [(0,)]


def sweep(location: Location) -> None:
    from translator.service.store.upkeep import sweep as sweep_all

    sum(sweep_all(location, DatabaseTime(), 0.0))


# --- context -----------------------------------------------------------------------------------


async def test_parent_and_conversation(service: Service) -> None:
    async with service() as client:
        made, first = await new(client), await ask(client)
        status, error = await refused(client, previous_response_id=first["id"], conversation=made)
        assert (status, error["param"]) == (400, "previous_response_id")
        await ask(client, previous_response_id=None, conversation=None)
        again = await ask(client, previous_response_id=first["id"], conversation=None)
        assert "conversation" not in again
        for value, code in [(7, "invalid_type"), ({}, "invalid_type"), ("", "invalid_value")]:
            status, error = await refused(client, conversation=value)
            assert (status, error["param"], error["code"]) == (400, "conversation", code)
        status, error = await refused(client, conversation="conv_0")
        assert (status, error) == (
            404,
            {
                "message": "Conversation with id 'conv_0' not found.",
                "type": "invalid_request_error",
                "param": "conversation",
                "code": None,
            },
        )


async def test_a_conversation_and_a_chain_are_the_same_to_the_upstream(
    service: Service, upstream: ScriptedUpstream
) -> None:
    upstream.script = think("hm", "Hello")
    async with service() as client:
        made, parent = await new(client), None
        for text in ("one", "two", "three"):
            await ask(client, input=text, conversation=made, stream=True)
            found = await ask(client, input=text, previous_response_id=parent, stream=True)
            parent = found["id"]
    bodies = [call.body for call in upstream.calls]
    assert bodies[::2] == bodies[1::2]
    assert b'"reasoning_content":"hm"' in bodies[-1]


async def test_a_response_in_a_conversation_is_continued_as_it_was(
    service: Service, upstream: ScriptedUpstream, location: Location
) -> None:
    """Whatever is appended, deleted or swept afterwards."""
    async with service() as client:
        made = await new(client, said("zero"), said("other"))
        first = await ask(client, input="one", conversation=made)
        await ask(client, input="two", conversation=made)
        zero, other, *_ = await items_of(client, made)
        for item in (other, zero):
            await client.delete(f"{CONVERSATIONS}/{made}/items/{item['id']}")
        sweep(location)
        assert (await texts_of(client, made))[0] == "one"
        await ask(client, input="three", conversation=made)
        await ask(client, input="three", previous_response_id=first["id"])
        sent = [[one["content"] for one in messages(call)] for call in upstream.calls]
        assert sent[2] == ["one", "Hello world", "two", "Hello world", "three"]
        assert sent[3] == ["zero", "other", "one", "Hello world", "three"]
        path = f"{PATH}/{first['id']}/input_items?order=asc"
        listed = (await client.get(path)).json()["data"]
        assert [one["content"][0]["text"] for one in listed] == ["zero", "other", "one"]
        await client.delete(f"{CONVERSATIONS}/{made}")
        sweep(location)
        await ask(client, input="four", previous_response_id=first["id"])
        assert [one["content"] for one in messages(upstream.calls[-1])] == [*sent[3][:-1], "four"]
        assert list(problems(location)) == []


async def test_item_deleted_call_orphans_output(
    service: Service, upstream: ScriptedUpstream
) -> None:
    async with service() as client:
        made = await new(client, said("zero"), CALL, OUTPUT)
        _, call, _ = await items_of(client, made)
        await client.delete(f"{CONVERSATIONS}/{made}/items/{call['id']}")
        body = {"model": "m", "input": "one", "conversation": made}
        answer = await client.post(PATH, json=body)
        assert answer.status_code == 200
        assert "item_dropped" in answer.headers["x-translator-notices"]
        going_on = {"model": "m", "input": "two", "previous_response_id": answer.json()["id"]}
        assert (await client.post(PATH, json=going_on)).status_code == 200
    assert [one["role"] for one in messages(upstream.calls[0])] == ["user", "user"]


async def test_what_stands_in_the_conversation_is_not_sent_twice(
    service: Service, upstream: ScriptedUpstream
) -> None:
    async with service() as client:
        made = await new(client)
        first = await ask(client, input="one", conversation=made)
        source = [{"type": "item_reference", "id": first["output"][0]["id"]}, said("two")]
        await ask(client, input=source, conversation=made)
        assert await texts_of(client, made) == ["one", "Hello world", "two", "Hello world"]
    sent = [one["content"] for one in messages(upstream.calls[1])]
    assert sent == ["one", "Hello world", "two"]


async def test_conversation_thousand_turns(
    service: Service, upstream: ScriptedUpstream, location: Location
) -> None:
    """Each turn adds its own items, and no row besides; its context is read by one query."""
    async with service() as client:
        made = await new(client, *[said(str(n)) for n in range(20)])
        for turn in range(8):
            await ask(client, input=str(turn), conversation=made)
        [(items, pointers, places)] = rows(
            location,
            "SELECT (SELECT count(*) FROM resp_items),"
            " (SELECT count(*) FROM resp_conversation_items),"
            " (SELECT max(next_pos) FROM resp_conversations)",
        )
        assert (items, pointers, places) == (36, 36, 36)
    assert len(messages(upstream.calls[-1])) == 35
