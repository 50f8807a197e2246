"""Processes that are killed while they store a response: it is there whole, or not at all."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.service.chat_bodies import COMPLETION, chunk
from tests.service.responses_api import PATH
from tests.service.test_metrics import scrape
from tests.service.wire import BOUND_S, Call, ScriptedUpstream, bounded, client_of
from translator.service.config.store import Location
from translator.service.store.upkeep import problems

from .faulty import Point, faulty
from .storing import DONE, ask, counts, messages, settings_of

pytestmark = pytest.mark.anyio


class Answers:
    """A script of answers whose end comes when it is let."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()

    async def __call__(self, call: Call) -> None:
        if b'"stream":true' not in call.body:
            await call.answer(COMPLETION)
            return
        await call.head()
        await call.send(chunk({"reasoning_content": "hm"}), chunk({"content": "Hello"}))
        await self.may_end.wait()
        await call.send(chunk({}, "stop"), DONE)
        await call.end()


class Heard:
    """A stream that a client reads until it is cut."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.began = asyncio.Event()

    async def listen(self, client: httpx.AsyncClient, **fields: Any) -> None:
        body = {"model": "m", "input": "Hi", "stream": True, "store": True} | fields
        with pytest.raises(httpx.HTTPError):
            async with client.stream("POST", PATH, json=body) as answer:
                async for line in answer.aiter_lines():
                    if line.startswith("data: {"):
                        self.events.append(json.loads(line.removeprefix("data: ")))
                        if self.events[-1]["type"] == "response.output_text.delta":
                            self.began.set()

    def was_told_nothing(self) -> bool:
        """Whether it has got text, and no end."""
        return self.events[-1]["type"] == "response.output_text.delta"

    @property
    def response_id(self) -> str:
        found: str = self.events[0]["response"]["id"]
        return found


async def test_kill_between_last_event_and_commit(
    upstream: ScriptedUpstream, location: Location, tmp_path: Path
) -> None:
    """Its client was not told that it is complete; nothing of it is found."""
    script = upstream.script = Answers()
    async with faulty(upstream, location, tmp_path, kept=2) as service:
        first = await ask(service.client, store=True)
        before = counts(location)
        heard = Heard()
        parent = first["id"]
        listening = asyncio.ensure_future(heard.listen(service.client, previous_response_id=parent))
        await bounded(heard.began.wait())
        script.may_end.set()
        await service.reached("kept")
        await service.kill()
        await bounded(listening)
    assert heard.was_told_nothing()
    assert counts(location) == before
    assert list(problems(location)) == []
    async with client_of(settings_of(upstream, location)) as client:
        assert (await client.get(f"{PATH}/{heard.response_id}")).status_code == 404
        again = await ask(client, store=True, previous_response_id=parent)
        assert again["status"] == "completed"


async def test_kill_between_commit_and_send(
    upstream: ScriptedUpstream, location: Location, tmp_path: Path
) -> None:
    """The response is there, whole; the client's retry makes a second one beside it."""
    script = upstream.script = Answers()
    async with faulty(upstream, location, tmp_path, committed=2) as service:
        first = await ask(service.client, store=True)
        heard = Heard()
        parent = {"previous_response_id": first["id"]}
        listening = asyncio.ensure_future(heard.listen(service.client, **parent))
        await bounded(heard.began.wait())
        script.may_end.set()
        await service.reached("committed")
        await service.kill()
        await bounded(listening)
    assert heard.was_told_nothing()
    assert counts(location)[1] == 2
    assert list(problems(location)) == []
    async with client_of(settings_of(upstream, location)) as client:
        found = (await client.get(f"{PATH}/{heard.response_id}")).json()
        assert found["status"] == "completed"
        thought, said = found["output"]
        assert thought["summary"][0]["text"] == "hm"
        assert said["content"][0]["text"] == "Hello"
        again = await ask(client, store=True, **parent)
        assert again["id"] != found["id"]
        for one in (found, again):
            await ask(client, previous_response_id=one["id"])
            roles = [message["role"] for message in messages(upstream.calls[-1])]
            assert roles == ["user", "assistant"] * 2 + ["user"]


@pytest.mark.parametrize("point", ["kept", "committed"])
async def test_kill_mid_batch_of_16(
    upstream: ScriptedUpstream, location: Location, tmp_path: Path, point: Point
) -> None:
    """Each of them is there whole, or not at all; and with the commit, all are."""
    script = upstream.script = Answers()
    last = 1 + (9 if point == "kept" else 16)
    async with faulty(upstream, location, tmp_path, **{"first": 1, point: last}) as service:
        heard = [Heard() for _ in range(16)]
        first = asyncio.ensure_future(ask(service.client, store=True))
        await service.reached("first")
        tasks = [asyncio.ensure_future(one.listen(service.client)) for one in heard]
        await bounded(asyncio.gather(*(one.began.wait() for one in heard)))
        script.may_end.set()
        async with asyncio.timeout(BOUND_S):
            while (await scrape(service.client))("store_queue_writes") < 16:
                await asyncio.sleep(0.01)
        service.go_on()
        assert (await bounded(first))["status"] == "completed"
        await service.reached(point)
        await service.kill()
        await bounded(asyncio.gather(*tasks))
    assert all(one.was_told_nothing() for one in heard)
    assert list(problems(location)) == []
    ids = [one.response_id for one in heard]
    async with client_of(settings_of(upstream, location)) as client:
        found = [await client.get(f"{PATH}/{one}") for one in ids]
        assert [one.status_code for one in found] == [404 if point == "kept" else 200] * 16
        for one in found:
            if one.status_code == 200:
                assert [item["type"] for item in one.json()["output"]] == ["reasoning", "message"]
