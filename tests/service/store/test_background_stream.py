"""Streams of responses in the background: stored before they are sent, and resumed anywhere."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from typing import Any

import httpx
import openai
import pytest

from tests.invariants import check_wire
from tests.service.chat_bodies import HELLO, chunk
from tests.service.responses_api import PATH, events
from tests.service.wire import BOUND_S, Call, ScriptedUpstream, bounded, serving
from translator.service.config.store import Location
from translator.service.database.connection import Connection, connect
from translator.service.database.statement import DatabaseTime, Statement
from translator.service.store import runs
from translator.service.store.event_log import RECENT_BYTES

from .running import Gate, begin, cancel, ended
from .storing import DONE, settings_of

pytestmark = pytest.mark.anyio

ASK = {"model": "m", "input": "Hi", "background": True, "stream": True}
EVENTS = 11
"""The events of HELLO."""

Node = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture
def node(upstream: ScriptedUpstream, location: Location) -> Node:
    """Makes a client of another service on the same database, over a socket."""

    @asynccontextmanager
    async def make(
        time: DatabaseTime | None = None, **more: Any
    ) -> AsyncGenerator[httpx.AsyncClient]:
        settings = settings_of(upstream, location, **more)
        async with (
            serving(settings, database_time=time) as url,
            httpx.AsyncClient(base_url=url, timeout=BOUND_S) as client,
        ):
            yield client

    return make


class Reader:
    """Reads a stream, frame by frame."""

    def __init__(self, answer: httpx.Response) -> None:
        self.body = b""
        self._chunks = answer.aiter_raw()

    async def until(self, text: bytes) -> bytes:
        """All that came, when a text is in it."""
        while text not in self.body:
            self.body += await bounded(anext(self._chunks))
        return self.body

    async def rest(self) -> bytes:
        async for more in self._chunks:
            self.body += more
        return self.body


@asynccontextmanager
async def reading(
    client: httpx.AsyncClient, path: str = PATH, body: Any = None
) -> AsyncGenerator[Reader]:
    method = "GET" if body is None else "POST"
    async with client.stream(method, path, json=body) as answer:
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield Reader(answer)


async def streamed(client: httpx.AsyncClient, **fields: Any) -> bytes:
    async with reading(client, body=ASK | fields) as reader:
        return await bounded(reader.rest())


async def replayed(client: httpx.AsyncClient, response_id: str, after: int | None = None) -> bytes:
    query = "" if after is None else f"&starting_after={after}"
    async with reading(client, f"{PATH}/{response_id}?stream=true{query}") as reader:
        return await bounded(reader.rest())


def id_in(body: bytes) -> str:
    found: str = json.loads(body.split(b"data: ", 1)[1].split(b"\n", 1)[0])["response"]["id"]
    return found


def after(body: bytes, number: int) -> bytes:
    """The part of a stream after an event: `[DONE]` at least."""
    frames = body.split(b"\n\n")[:-1]
    return b"".join(frame + b"\n\n" for frame in frames[min(number + 1, len(frames) - 1) :])


def tiles(location: Location) -> list[tuple[int, int]]:
    with closing(connect(location, DatabaseTime())) as connection:
        rows = connection.execute(
            Statement("SELECT first_seq, last_seq FROM resp_events ORDER BY first_seq")
        )
    return [(first, last) for first, last in rows]


async def test_its_events_are_those_of_any_stream(node: Node, location: Location) -> None:
    """And stand in the log without a gap; any part of them is the same at every node."""
    async with node() as client, node() as other:
        body = await streamed(client)
        final = check_wire(events(body))
        assert (final["status"], final["background"]) == ("completed", True)
        assert (await other.get(f"{PATH}/{final['id']}")).json() == final
        rows = tiles(location)
        assert [first for first, _ in rows] == [0, *(last + 1 for _, last in rows[:-1])]
        assert rows[-1][1] == EVENTS - 1
        for one in (client, other):
            assert await replayed(one, final["id"]) == body
            for number in range(EVENTS + 2):
                assert await replayed(one, final["id"], number) == after(body, number)


async def test_background_stream_leave_resume(node: Node, upstream: ScriptedUpstream) -> None:
    """The run is not disturbed; the rest is read from another node, and from the same."""
    gate = upstream.script = Gate()
    async with node() as client, node() as other:
        async with reading(client, body=ASK) as reader:
            seen = await reader.until(b"output_text.delta")
        response_id = id_in(seen)
        path = f"{PATH}/{response_id}?stream=true"
        async with (
            reading(other, f"{path}&starting_after=5") as resumed,
            reading(client, f"{path}&starting_after=5") as here,
            reading(other, path) as whole,
        ):
            assert not gate.gone.is_set()
            await asyncio.sleep(0.3)
            gate.open.set()
            rest, same, body = [await bounded(one.rest()) for one in (resumed, here, whole)]
        assert body.startswith(seen)
        assert rest == same == after(body, 5)
        assert check_wire(events(body))["status"] == "completed"
        assert len(upstream.calls) == 1


async def test_the_first_events_are_sent_at_once(node: Node, upstream: ScriptedUpstream) -> None:
    """Before the upstream has answered."""
    waits = asyncio.Event()

    async def silent(call: Call) -> None:
        await bounded(waits.wait())
        await call.head()
        await call.send(*HELLO)
        await call.end()

    upstream.script = silent
    async with node() as client, reading(client, body=ASK) as reader:
        await reader.until(b"response.in_progress")
        waits.set()
        assert check_wire(events(await bounded(reader.rest())))["status"] == "completed"


async def test_resume_after_end(node: Node) -> None:
    async with node() as client:
        body = await streamed(client)
    async with node() as client:
        assert await replayed(client, id_in(body)) == body
        assert await replayed(client, id_in(body), EVENTS - 1) == DONE
        answer = await client.head(f"{PATH}/{id_in(body)}?stream=true")
        assert (answer.status_code, answer.content) == (200, b"")


async def test_notify_lost(
    node: Node, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scenario 57: there is no notification that could be lost; who follows looks for news."""
    texts: set[str] = set()

    def text(self: Statement, *arguments: Any, original: Any = Statement.text) -> Any:
        found = original(self, *arguments)
        texts.add(found)
        return found

    monkeypatch.setattr(Statement, "text", text)
    gate = upstream.script = Gate()
    async with node() as client, node() as other:
        async with reading(client, body=ASK) as reader:
            seen = await reader.until(b"output_text.delta")
        path = f"{PATH}/{id_in(seen)}?stream=true"
        async with reading(other, path) as follower:
            await follower.until(b"output_text.delta")
            gate.open.set()
            body = await bounded(follower.rest())
        assert check_wire(events(body))["status"] == "completed"
        assert await replayed(client, id_in(seen)) == body
    assert texts
    assert not any(word in one.upper() for one in texts for word in ("NOTIFY", "LISTEN"))


async def test_resume_after_keep(node: Node, location: Location) -> None:
    """The events are deleted; the response is there."""
    async with node() as client:
        body = await streamed(client)
    async with node(DatabaseTime(3590)) as client:
        assert await replayed(client, id_in(body)) == body
    async with node(DatabaseTime(3610)) as client:
        answer = await client.get(f"{PATH}/{id_in(body)}?stream=true")
        assert answer.status_code == 400
        assert answer.json()["error"] == {
            "message": "This response can no longer be streamed because it is more than"
            " 60 minutes old",
            "type": "invalid_request_error",
            "param": None,
            "code": None,
        }
        assert (await client.get(f"{PATH}/{id_in(body)}")).json()["status"] == "completed"


@pytest.mark.parametrize(
    ("keep_s", "age"), [(5, "5 seconds"), (90, "90 seconds"), (120, "2 minutes")]
)
async def test_how_old_events_may_be_is_said_in_whole_numbers(
    node: Node, keep_s: int, age: str
) -> None:
    async with node() as client:
        body = await streamed(client)
    async with node(DatabaseTime(keep_s + 1), stream_keep_s=keep_s) as client:
        answer = await client.get(f"{PATH}/{id_in(body)}?stream=true")
        assert f"more than {age} old" in answer.text


async def test_what_cannot_be_streamed(node: Node) -> None:
    async with node() as client:
        whole = await begin(client)
        body = await streamed(client)
        for response_id, query, param in [
            (whole["id"], "stream=true", "stream"),
            (id_in(body), "stream=true&starting_after=-1", "starting_after"),
            (id_in(body), "stream=true&starting_after=x", "starting_after"),
        ]:
            answer = await client.get(f"{PATH}/{response_id}?{query}")
            assert answer.status_code == 400, query
            assert answer.json()["error"]["param"] == param
            assert answer.json()["error"]["code"] == "invalid_value"
        assert (await client.get(f"{PATH}/resp_0?stream=true")).status_code == 404
        await ended(client, whole["id"])


async def test_a_place_that_is_not_reached_yet(node: Node, upstream: ScriptedUpstream) -> None:
    """Its client waits, with comments that keep its connection alive."""
    gate = upstream.script = Gate()
    async with (
        node(server={"heartbeat_s": 0.2}) as client,
        node(server={"heartbeat_s": 0.2}) as other,
    ):
        async with reading(client, body=ASK) as reader:
            response_id = id_in(await reader.until(b"output_text.delta"))
        for one in (client, other):
            path = f"{PATH}/{response_id}?stream=true&starting_after=100000"
            async with reading(one, path) as reader:
                await reader.until(b": keep-alive\n\n")
                assert reader.body.replace(b": keep-alive\n\n", b"") == b""
        gate.open.set()
        final = await ended(client, response_id)
        assert await replayed(other, response_id, 100000) == DONE
        assert final["status"] == "completed"


async def test_a_stream_that_is_cancelled(node: Node, upstream: ScriptedUpstream) -> None:
    """No event says so: it ends in an error, and its response is cancelled, with its whole items."""
    gate = upstream.script = Gate()
    async with node() as client, node() as other:
        for canceller in (client, other):
            gate = upstream.script = Gate()
            async with reading(client, body=ASK) as reader:
                response_id = id_in(await reader.until(b"output_text.delta"))
                async with reading(other, f"{PATH}/{response_id}?stream=true") as followed:
                    cancelled = await cancel(canceller, response_id)
                    body = await bounded(reader.rest())
                    assert await bounded(followed.rest()) == body
            await bounded(gate.gone.wait())
            error, failed = events(body)[-2:]
            assert (error["type"], error["code"]) == ("error", "response_cancelled")
            assert failed["type"] == "response.failed"
            assert failed["response"] == cancelled
            assert (cancelled["status"], cancelled["error"]) == ("cancelled", None)
            assert (await other.get(f"{PATH}/{response_id}")).json() == cancelled


async def test_the_events_of_a_response_whose_process_is_gone(
    node: Node, upstream: ScriptedUpstream
) -> None:
    gate = upstream.script = Gate()
    async with node(lease_s=1.0) as client:
        async with reading(client, body=ASK) as reader:
            seen = await reader.until(b"output_text.delta")
            async with node(DatabaseTime(30)) as other:
                body = await replayed(other, id_in(seen))
                final = (await other.get(f"{PATH}/{id_in(seen)}")).json()
            assert body.startswith(seen)
            assert check_wire(events(body)) == final
            assert final["status"] == "failed"
            await bounded(gate.gone.wait())
            assert await bounded(reader.rest()) == body


async def test_an_answer_that_is_larger_than_what_is_held(
    node: Node, upstream: ScriptedUpstream
) -> None:
    count, size = 150, 10_000

    async def much(call: Call) -> None:
        await call.head()
        for n in range(count):
            await call.send(chunk({"content": f"{n} ".ljust(size, "x")}))
        await call.send(chunk({}, "stop"), DONE)
        await call.end()

    assert count * size > 4 * RECENT_BYTES
    upstream.script = much
    async with node() as client, node() as other:
        async with reading(client, body=ASK) as reader:
            response_id = id_in(await reader.until(b"in_progress"))
            late = asyncio.ensure_future(replayed(other, response_id, 3))
            body = await bounded(reader.rest())
            assert check_wire(events(body))["status"] == "completed"
            assert await bounded(late) == after(body, 3)
        assert await replayed(client, response_id) == body


async def test_more_events_than_may_be_held(node: Node, upstream: ScriptedUpstream) -> None:
    async def much(call: Call) -> None:
        await call.head()
        for _ in range(20):
            await call.send(chunk({"content": "x" * 1000}))
        await bounded(call.gone())

    upstream.script = much
    async with node(max_events_bytes=10_000) as client:
        final = check_wire(events(await streamed(client)))
        assert (final["status"], final["error"]["code"]) == ("failed", "server_error")
        assert "over 10000 bytes" in final["error"]["message"]
        assert (await client.get(f"{PATH}/{final['id']}")).json() == final


async def test_events_that_could_not_be_stored(
    node: Node, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has seen them: the end follows what was stored."""
    gate = upstream.script = Gate()

    def fails(connection: Connection, *args: Any) -> set[int]:
        raise RuntimeError("the rows cannot be written")

    async with node() as client:
        monkeypatch.setattr(runs, "append", fails)
        body = await streamed(client)
        await bounded(gate.gone.wait())
        assert len(events(body)) == 5
        final = check_wire(events(body))
        assert final["status"] == "failed"
        assert "could not be stored" in final["error"]["message"]
        assert (await client.get(f"{PATH}/{final['id']}")).json() == final


async def test_an_end_that_could_not_be_stored(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has failed, and says so."""
    keep_output = runs.keep_output

    def fails(connection: Connection, owner: str, n: int, output: Any, *more: Any) -> int:
        if output:
            raise RuntimeError("the rows cannot be written")
        return keep_output(connection, owner, n, output, *more)

    monkeypatch.setattr(runs, "keep_output", fails)
    async with node() as client:
        body = await streamed(client)
        final = events(body)[-1]["response"]
        assert (final["status"], final["output"]) == ("failed", [])
        assert (await client.get(f"{PATH}/{final['id']}")).json() == final
        whole = await ended(client, (await begin(client))["id"])
        assert (whole["status"], whole["output"]) == ("failed", [])


async def test_sdk_stream_by_id(node: Node) -> None:
    """Its helper asks for all events, and shows those after a number; so does a plain request."""
    numbers = list(range(EVENTS))
    async with (
        node() as client,
        openai.AsyncOpenAI(base_url=f"{client.base_url}/v1", api_key="x") as sdk,
    ):
        stream = await sdk.responses.create(model="m", input="Hi", background=True, stream=True)
        found = [one async for one in stream]
        assert [one.sequence_number for one in found] == numbers
        assert isinstance(found[0], openai.types.responses.ResponseCreatedEvent)
        response_id = found[0].response.id
        for number in (0, 4, EVENTS - 1):
            async with sdk.responses.stream(
                response_id=response_id, starting_after=number
            ) as followed:
                assert [one.sequence_number async for one in followed] == numbers[number + 1 :]
            plain = await sdk.responses.retrieve(response_id, stream=True, starting_after=number)
            assert [one.sequence_number async for one in plain] == numbers[number + 1 :]
        queued = await sdk.responses.create(model="m", input="Hi", background=True)
        while queued.status in ("queued", "in_progress"):
            queued = await sdk.responses.retrieve(queued.id)
        assert queued.output_text == "Hello world"
        assert (await sdk.responses.cancel(queued.id)) == queued
