"""Responses in the background that go on from a conversation: they hold its lock until they end."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tests.service.responses_api import PATH
from tests.service.wire import ScriptedUpstream, bounded, say_hello
from translator.service.database.statement import DatabaseTime
from translator.service.store import background, responses, runs

from .running import Gate, begin, cancel, ended
from .storing import Service, ask, messages, refused

pytestmark = pytest.mark.anyio

LOCKED = (400, "conversation_locked")


async def conversation(client: httpx.AsyncClient) -> str:
    answer = await client.post("/v1/conversations", json={})
    found: str = answer.json()["id"]
    return found


async def texts(client: httpx.AsyncClient, conversation_id: str) -> list[Any]:
    answer = await client.get(f"/v1/conversations/{conversation_id}/items?order=asc")
    return [one["content"][0]["text"] for one in answer.json()["data"]]


async def test_it_appends_when_it_is_complete(service: Service, upstream: ScriptedUpstream) -> None:
    gate = upstream.script = Gate()
    async with service(lease_s=0.5) as client, service(lease_s=0.5) as other:
        name = await conversation(client)
        response = await begin(client, input="one", conversation=name)
        assert response["conversation"] == {"id": name}
        await bounded(gate.reached.wait())
        for _ in range(8):  # for longer than a lease
            status, error = await refused(other, conversation=name)
            assert (status, error["code"]) == LOCKED
            assert await texts(other, name) == []
            await asyncio.sleep(0.1)
        gate.open.set()
        final = await ended(other, response["id"])
        assert final["conversation"] == {"id": name}
        assert await texts(other, name) == ["one", "Hello world"]
        upstream.script = say_hello
        await ask(other, input="two", conversation=name)
        sent = [one["content"] for one in messages(upstream.calls[-1])]
        assert sent == ["one", "Hello world", "two"]


async def test_one_that_is_cancelled_appends_nothing(
    service: Service, upstream: ScriptedUpstream
) -> None:
    gate = upstream.script = Gate()
    async with service() as client, service() as other:
        name = await conversation(client)
        for canceller in (client, other):
            gate = upstream.script = Gate()
            response = await begin(client, input="one", conversation=name)
            await bounded(gate.reached.wait())
            assert (await cancel(canceller, response["id"]))["status"] == "cancelled"
            assert await texts(client, name) == []
        upstream.script = say_hello
        await ask(client, input="two", conversation=name)
        assert await texts(client, name) == ["two", "Hello world"]


async def test_one_that_cannot_be_queued_leaves_it_unlocked(
    service: Service, upstream: ScriptedUpstream
) -> None:
    upstream.script = Gate()
    async with service(max_background=1) as client:
        name = await conversation(client)
        await begin(client)
        status, _ = await refused(client, background=True, conversation=name)
        assert status == 429
        upstream.script = say_hello
        await ask(client, conversation=name)


async def test_what_is_not_stored_is_not_appended(
    service: Service, upstream: ScriptedUpstream
) -> None:
    async with service() as client:
        name = await conversation(client)
        response = await begin(client, conversation=name, store=False)
        await ended(client, response["id"])
        assert await texts(client, name) == []


async def test_an_end_that_could_not_be_stored_appends_nothing(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    end_at = runs.end_at

    def fails(connection: Any, owner: str, n: int, status: str, place: Any) -> None:
        end_at(connection, owner, n, status, place)
        if status == "completed":
            raise RuntimeError("the rows cannot be written")

    monkeypatch.setattr(runs, "end_at", fails)
    async with service() as client:
        name = await conversation(client)
        response = await begin(client, conversation=name)
        assert (await ended(client, response["id"]))["status"] == "failed"
        assert await texts(client, name) == []
        monkeypatch.setattr(runs, "end_at", end_at)
        await ask(client, input="two", conversation=name)
        assert await texts(client, name) == ["two", "Hello world"]


class Stands(background.BackgroundRuns):
    """The runs of a process that stands still."""

    async def serve(self) -> None:
        await asyncio.Event().wait()


async def test_the_lock_of_a_process_that_is_gone_ends(
    service: Service, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the lease of its response; and that response appends nothing any more."""
    gate = upstream.script = Gate()
    async with service() as other:
        with monkeypatch.context() as patched:
            patched.setattr(responses, "BackgroundRuns", Stands)
            async with service() as client:
                name = await conversation(client)
                response = await begin(client, input="one", conversation=name)
                await bounded(gate.reached.wait())
                assert await refused(other, conversation=name)
                async with service(DatabaseTime(31)) as later:
                    found = await later.get(f"{PATH}/{response['id']}")
                    assert found.json()["status"] == "failed"
                    upstream.script = say_hello
                    await ask(later, input="two", conversation=name)
                gate.open.set()
                await asyncio.sleep(0.2)
        assert await texts(other, name) == ["two", "Hello world"]
        assert (await ended(other, response["id"]))["status"] == "failed"
