"""Two nodes of two workers each on PostgreSQL, whose conversations are hammered.

    python -m tests.service.store.hammer [SECONDS] [CONVERSATIONS]      60 s, 200 conversations

Clients append to the same conversations at any node: turns that are streamed, whole, in the
background, cancelled, left or continued elsewhere, and items by themselves. Meanwhile workers are
killed, or stand still for longer than their leases. What each client saw must be what is found
afterwards, at either node and in the rows.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Literal

import httpx

from tests.faults.processes import PROCESS_S, Serving, serve
from tests.service.chat_bodies import COMPLETION, chunk
from tests.service.responses_api import PATH
from tests.service.wire import Call, ScriptedUpstream
from translator.service.config.store import Location
from translator.service.database.schema import migrate
from translator.service.store.room import ROOM
from translator.service.store.upkeep import problems

from . import postgres
from .conversing import CONVERSATIONS, items_of, rows, said
from .running import RUNNING
from .storing import DONE

LEASE_S = 2.0
NODES, WORKERS = 2, 2
MARK = re.compile(r"(?:Mark|Heard) (\d+)\.")

Fate = Literal["appended", "nothing", "unknown"]


class Upstream:
    """A script of answers that name the last mark which they were sent."""

    def __init__(self, draw: Random) -> None:
        self._draw = draw

    async def __call__(self, call: Call) -> None:
        text = f"Heard {MARK.findall(call.body.decode())[-1]}."
        finish = self._draw.choice(["stop", "stop", "stop", "length"])
        if b'"stream":true' not in call.body:
            message = {"role": "assistant", "content": text}
            choice = {"index": 0, "message": message, "finish_reason": finish}
            await asyncio.sleep(self._draw.random() / 20)
            await call.answer(COMPLETION | {"choices": [choice]})
            return
        await call.head()
        for part in (text[:3], text[3:]):
            await call.send(chunk({"content": part}))
            await asyncio.sleep(self._draw.random() / 10)
        await call.send(chunk({}, finish), DONE)
        await call.end()


@dataclass
class Append:
    """Something that a client appends to a conversation, or tries to."""

    mark: int
    items: int
    began: float
    ended: float = float("inf")
    fate: Fate = "unknown"
    response_id: str | None = None


@dataclass
class Conversation:
    """A conversation of the model; only some have items removed, so others have no gaps."""

    id: str
    removes: bool
    appends: dict[int, Append] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)


class Hammer:
    """The clients, and what they have seen."""

    def __init__(self, clients: Sequence[httpx.AsyncClient], draw: Random) -> None:
        self.clients = clients
        self.draw = draw
        self.counts: Counter[str] = Counter()
        self.conversations: list[Conversation] = []
        self.bodies: dict[str, Any] = {}
        self.logs: dict[str, bytes] = {}
        self._marks = 0

    def client(self) -> httpx.AsyncClient:
        return self.draw.choice(self.clients)

    async def begin(self, number: int) -> None:
        for n in range(number):
            answer = await self.client().post(CONVERSATIONS, json={"items": []})
            assert answer.status_code == 200, answer.text
            self.conversations.append(Conversation(answer.json()["id"], removes=n % 4 == 0))

    async def run(self, seconds: float) -> None:
        """One client for each conversation, and a second one for each third of them."""
        until = time.monotonic() + seconds
        async with asyncio.TaskGroup() as tasks:
            for one in (*self.conversations, *self.conversations[::3]):
                tasks.create_task(self._act(one, until))

    async def _act(self, one: Conversation, until: float) -> None:
        actions = [self._turn] * 6 + [self._background] * 3 + [self._leave, self._add]
        if one.removes:
            actions.append(self._remove)
        while time.monotonic() < until:
            action = self.draw.choice(actions)
            try:
                await action(one)
            except httpx.HTTPError:
                self.counts["connections lost"] += 1
            await asyncio.sleep(self.draw.random() / 10)

    def _append(self, one: Conversation, items: int) -> Append:
        self._marks += 1
        append = Append(self._marks, items, time.monotonic())
        one.appends[append.mark] = append
        return append

    def _ask(self, one: Conversation, append: Append, **fields: Any) -> dict[str, Any]:
        text = f"Mark {append.mark}."
        return {"model": "m", "input": text, "conversation": one.id, "store": True} | fields

    def _refused(self, append: Append, answer: httpx.Response) -> bool:
        """Whether nothing comes of it: the conversation is locked, or a bound is reached."""
        if answer.status_code == 200:
            return False
        code = answer.json()["error"]["code"]
        expected = {"conversation_locked", "store_unavailable", "server_error", "concurrency_limit"}
        assert code in expected or answer.status_code in (429, 500, 503), answer.text
        self.counts[f"refused: {code}"] += 1
        if answer.status_code != 500:  # which may come after the commit, if its process stood still
            append.fate = "nothing"
        return True

    def _ended(self, append: Append, body: Any) -> None:
        """A response has ended, as its client has read it."""
        append.ended, append.response_id = time.monotonic(), body["id"]
        appends = body["status"] in ("completed", "incomplete")
        append.fate = "appended" if appends else "nothing"
        if body["status"] != "failed" or body["background"]:
            self.bodies[body["id"]] = body  # any other may have failed since it was not stored
        self.counts[body["status"]] += 1

    # --- what clients do ------------------------------------------------------------------------

    async def _turn(self, one: Conversation) -> None:
        append = self._append(one, 2)
        if self.draw.random() < 0.3:
            answer = await self.client().post(PATH, json=self._ask(one, append))
            if not self._refused(append, answer):
                self._ended(append, answer.json())
            return
        body, _ = await self._stream(append, self._ask(one, append, stream=True))
        self._read_end(append, body)

    def _read_end(self, append: Append, body: bytes) -> None:
        """Note the end of a stream, if it has come."""
        if body.endswith(DONE):
            last = body.removesuffix(DONE).split(b"\n\n")[-2]
            event = json.loads(last.partition(b"\ndata: ")[2])
            self._ended(append, event["response"])

    async def _leave(self, one: Conversation) -> None:
        """A client that leaves after some events: nothing is appended, unless it had ended."""
        append = self._append(one, 2)
        asks = self._ask(one, append, stream=True)
        body, ended = await self._stream(append, asks, at_most=self.draw.randint(1, 8))
        self.counts["left"] += not ended
        if ended:
            self._read_end(append, body)

    async def _add(self, one: Conversation) -> None:
        append = self._append(one, 1)
        items = [said(f"Mark {append.mark}.")]
        path = f"{CONVERSATIONS}/{one.id}/items"
        answer = await self.client().post(path, json={"items": items})
        if not self._refused(append, answer):
            append.ended, append.fate = time.monotonic(), "appended"
            self.counts["items added"] += 1

    async def _remove(self, one: Conversation) -> None:
        path = f"{CONVERSATIONS}/{one.id}/items"
        listed = (await self.client().get(path)).json().get("data")
        if listed:
            item = self.draw.choice(listed)["id"]
            one.removed.add(item)
            answer = await self.client().delete(f"{path}/{item}")
            assert answer.status_code in (200, 400, 404, 503), answer.text
            if answer.status_code == 400:
                one.removed.discard(item)
            self.counts["items removed"] += answer.status_code == 200

    async def _background(self, one: Conversation) -> None:
        """Begun at one node, and read at any."""
        append = self._append(one, 2)
        asks = self._ask(one, append, background=True)
        if self.draw.random() < 0.5:
            await self._followed(append, asks | {"stream": True})
            return
        answer = await self.client().post(PATH, json=asks)
        if self._refused(append, answer):
            return
        body = answer.json()
        append.response_id = body["id"]
        if self.draw.random() < 0.3:
            with suppress(httpx.HTTPError):
                await self.client().post(f"{PATH}/{body['id']}/cancel")
        order, seen = [*RUNNING, "ended"], 0
        async with asyncio.timeout(PROCESS_S):
            while body["status"] in RUNNING:
                await asyncio.sleep(0.05)
                body = await self._get(body["id"])
                now = order.index(body["status"] if body["status"] in RUNNING else "ended")
                assert now >= seen, "a status went back"
                seen = now
        self._ended(append, body)

    async def _followed(self, append: Append, asks: dict[str, Any]) -> None:
        """A stream that breaks off, or is left, and goes on at any node."""
        stops = self.draw.choice([None, *range(1, 8)])
        body, ended = await self._stream(append, asks, at_most=stops)
        async with asyncio.timeout(PROCESS_S):
            while not ended and append.response_id is not None:
                after = body.count(b"\n\n") - 1
                with suppress(httpx.HTTPError):
                    path = f"{PATH}/{append.response_id}?stream=true&starting_after={after}"
                    more, ended = await self._stream(append, None, path=path)
                    body += more
                    self.counts["resumed"] += 1
        if append.response_id is not None:
            self.logs[append.response_id] = body
            self._read_end(append, body)

    async def _stream(
        self, append: Append, asks: dict[str, Any] | None, *, path: str = PATH,
        at_most: int | None = None,
    ) -> tuple[bytes, bool]:  # fmt: skip
        """The whole events of a stream, and whether it has ended; it may break off."""
        body = b""
        method = "GET" if asks is None else "POST"
        with suppress(httpx.HTTPError):
            async with self.client().stream(method, path, json=asks) as answer:
                if answer.status_code != 200:
                    await answer.aread()
                    self._refused(append, answer)
                    return b"", False
                rest = b""
                async for piece in answer.aiter_bytes():
                    *whole, rest = (rest + piece).split(b"\n\n")
                    body += b"".join(b"%b\n\n" % one for one in whole if not one.startswith(b":"))
                    if asks is not None and (found := re.search(rb'"id":"(resp_\w+)"', body)):
                        append.response_id = found[1].decode()
                    if at_most is not None and body.count(b"\n\n") >= at_most:
                        break
        return body, body.endswith(DONE)

    async def _get(self, response_id: str) -> Any:
        """A response, at any node; again where its worker is killed meanwhile."""
        while True:
            with suppress(httpx.HTTPError):
                answer = await self.client().get(f"{PATH}/{response_id}")
                if answer.status_code != 503:
                    assert answer.status_code == 200, answer.text
                    return answer.json()
            await asyncio.sleep(0.05)

    # --- what must be so afterwards -------------------------------------------------------------

    async def check(self, location: Location) -> None:
        """What clients saw is what is found; no lock and no lease is left."""
        assert list(problems(location)) == []
        assert rows(location, HELD) == []
        for (response_id,) in rows(location, LEFT):
            assert (await self._get(response_id))["status"] == "failed"
            self.counts["left by killed workers"] += 1
        assert rows(location, GAPS) == []
        for response_id, body in self.bodies.items():
            assert await self._get(response_id) == body
        for response_id, log in self.logs.items():
            await self._check_log(response_id, log)
        for one in self.conversations:
            await self._check_conversation(location, one)

    async def _check_log(self, response_id: str, log: bytes) -> None:
        """The log is what was followed, from any place and at each node."""
        frames = [frame + b"\n\n" for frame in log.split(b"\n\n")[:-1]]
        after = self.draw.randint(0, len(frames) - 2)
        for client in self.clients:
            answer = await client.get(f"{PATH}/{response_id}?stream=true&starting_after={after}")
            assert answer.content == b"".join(frames[after + 1 :])
        assert (await self.client().get(f"{PATH}/{response_id}?stream=true")).content == log

    async def _check_conversation(self, location: Location, one: Conversation) -> None:
        """It has, whole and once, what was appended to it, in an order that clients could see."""
        positions = f"""
            SELECT x.pos, c.next_pos FROM resp_conversation_items x
            JOIN resp_conversations c ON c.n = x.conversation WHERE c.id = '{one.id}' ORDER BY x.pos
        """
        places = rows(location, positions)
        if not one.removes:
            assert [pos for pos, _ in places] == list(range(places[0][1] if places else 0))
        listed = await items_of(self.client(), one.id)
        marks = [int(MARK.findall(item["content"][0]["text"])[0]) for item in listed]
        found = Counter(marks)
        runs = [mark for n, mark in enumerate(marks) if n == 0 or marks[n - 1] != mark]
        if not one.removes:
            assert len(runs) == len(found), "the items of a response are apart"
        latest = 0.0
        for mark in dict.fromkeys(runs):
            append = one.appends[mark]
            assert append.fate != "nothing", append
            assert append.ended >= latest, "it was over before one that stands before it had begun"
            latest = max(latest, append.began)
            if not one.removes:
                assert found[mark] == append.items
            if append.fate == "unknown" and append.response_id is not None:
                body = await self._get(append.response_id)
                assert body["status"] in ("completed", "incomplete"), body
        for append in one.appends.values():
            if append.fate == "appended" and not one.removes:
                assert append.mark in found, append
        assert not one.removed & {item["id"] for item in listed}


HELD = """
    SELECT id FROM resp_conversations WHERE lock_until > db_now()
    UNION ALL SELECT id FROM resp_responses WHERE lease_until > db_now()
"""
"""Locks and leases that are not over."""

LEFT = "SELECT id FROM resp_responses WHERE status IN ('queued', 'in_progress')"

GAPS = """
    SELECT response, first_seq, before FROM (
        SELECT response, first_seq,
            lag(last_seq, 1, -1) OVER (PARTITION BY response ORDER BY first_seq) AS before
        FROM resp_events
    ) x WHERE first_seq <> before + 1
"""
"""Events of a log that are missing, or there twice."""


async def disturb(nodes: Sequence[Serving], draw: Random, every_s: float) -> None:
    """Kill a worker, and have another one stand still for longer than its leases; in turns."""
    while True:
        await asyncio.sleep(every_s)
        os.kill(draw.choice(draw.choice(nodes).workers), signal.SIGKILL)
        await asyncio.sleep(every_s)
        pid = draw.choice(draw.choice(nodes).workers)
        os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(2.5 * LEASE_S)
        finally:
            os.kill(pid, signal.SIGCONT)


@asynccontextmanager
async def two_nodes(
    upstream: ScriptedUpstream, location: Location, folder: Path
) -> AsyncGenerator[tuple[Sequence[Serving], Sequence[httpx.AsyncClient]]]:
    """The nodes, and a client of each."""
    section = f'[store]\nurl = "{location.target}"\nlease_s = {LEASE_S}\nmax_background = 1000'
    async with AsyncExitStack() as stack:
        nodes: list[Serving] = []
        clients: list[httpx.AsyncClient] = []
        for n in range(NODES):
            made = folder / f"node-{n}"
            made.mkdir()
            node = serve(made, upstream.url, sections=section, workers=WORKERS)
            nodes.append(await stack.enter_async_context(node))
            client = httpx.AsyncClient(
                base_url=nodes[-1].url,
                timeout=PROCESS_S,
                trust_env=False,
                limits=httpx.Limits(max_connections=None),
            )
            clients.append(await stack.enter_async_context(client))
        yield nodes, clients


async def hammered(
    location: Location, folder: Path, *, seconds: float, conversations: int, every_s: float
) -> Counter[str]:
    """Hammer for some seconds, and check what is there then; what was done, by its name.

    Every `every_s` seconds a worker is killed or stopped.
    """
    draw = Random(conversations)
    scripted = ScriptedUpstream()
    scripted.script = Upstream(draw)
    async with (
        scripted.running() as upstream,
        two_nodes(upstream, location, folder) as (nodes, clients),
    ):
        hammer = Hammer(clients, draw)
        await hammer.begin(conversations)
        disturbing = asyncio.ensure_future(disturb(nodes, draw, every_s))
        try:
            await hammer.run(seconds)
        finally:
            disturbing.cancel()
            with suppress(asyncio.CancelledError):
                await disturbing
        await asyncio.sleep(2 * LEASE_S)
        await hammer.check(location)
        for node in nodes:
            node.process.send_signal(signal.SIGTERM)
            assert await node.wait_for_exit() == 0
    return hammer.counts


def main(words: Sequence[str]) -> None:
    seconds, conversations = (*map(int, words), *(60, 200)[len(words) :])
    with postgres.server(postgres.needed()) as server, tempfile.TemporaryDirectory() as folder:
        server.create("hammered")
        location = Location("postgresql", server.url("hammered"))
        migrate(location, ROOM)
        done = hammered(
            location, Path(folder), seconds=seconds, conversations=conversations, every_s=5.0
        )
        for name, count in sorted(asyncio.run(done).items()):
            print(f"{count:7,} {name}")


if __name__ == "__main__":
    main(sys.argv[1:])
