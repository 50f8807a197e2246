"""Responses that are still being produced, in the model: their leases, locks and logs.

Their upstreams wait until they are let. A node that is crashed loses its database at once, and
another one takes its place; time passes for leases when it is told to.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import httpx

from tests.service.chat_bodies import COMPLETION, chunk
from tests.service.responses_api import PATH, events
from tests.service.wire import BOUND_S, Call, ScriptedUpstream, bounded
from translator.service.config.store import Location
from translator.service.database.statement import Statement

from .machine import (
    DAY_S,
    OWNERS,
    RETENTION_S,
    Conversation,
    Item,
    Machine,
    Node,
    Pick,
    Script,
    Stored,
    key_of,
    picked,
)
from .running import RUNNING
from .storing import DONE

LEASE_S = 600.0
"""So long that no process renews it while a test runs: time is what the test says."""

KEEP_S = 3600.0
"""How long events are streamed for."""

_WAITING = re.compile(r"Wait (\d+)")


class Gates(Script):
    """A script whose answers wait where the last message says so."""

    def __init__(self) -> None:
        super().__init__()
        self.gates: dict[int, Gate] = {}

    async def __call__(self, call: Call) -> None:
        found = _WAITING.fullmatch(str(call.json["messages"][-1]["content"]))
        gate = self.gates[int(found[1])] if found else None
        if gate is None or gate.open.is_set():
            await super().__call__(call)
            return
        streams = b'"stream":true' in call.body
        if streams:
            await call.head()
            await call.send(chunk({"content": gate.text[:4]}))
        gate.chat = call.body
        gate.reached.set()
        leaving = asyncio.ensure_future(call.gone())
        opening = asyncio.ensure_future(gate.open.wait())
        try:
            await asyncio.wait((leaving, opening), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (leaving, opening):
                task.cancel()
            await asyncio.wait((leaving, opening))
        gate.over.set()
        if not gate.open.is_set():
            raise ConnectionError
        if streams:
            await call.send(chunk({"content": gate.text[4:]}), chunk({}, "stop"), DONE)
            await call.end()
            return
        message = {"role": "assistant", "content": gate.text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        await call.answer(COMPLETION | {"choices": [choice]})


class Gate:
    """One answer of the upstream: `over` is set when it is sent, or its client is gone."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.chat = b""
        self.reached = asyncio.Event()
        self.open = asyncio.Event()
        self.over = asyncio.Event()


@dataclass
class Run:
    """A response that is being produced.

    `lives`: its lease, or the lock of its conversation, is not over. `orphaned`: its process is
    gone. `reading` reads the stream of one that is not in the background, or is streamed.
    """

    owner: str
    gate: Gate
    background: bool
    streamed: bool
    before: Stored | None
    within: Conversation | None
    known: list[Item]
    given: list[Item]
    node: Node
    thread: list[float]
    id: str = ""
    body: Item = field(default_factory=dict)
    log: bytes = b""
    lives: bool = True
    orphaned: bool = False
    reading: asyncio.Task[bytes] | None = None


class RunningMachine(Machine):
    """The machine with responses that go on from one action to the next."""

    script: Gates

    def __init__(
        self,
        upstream: ScriptedUpstream,
        location: Location,
        nodes: Sequence[Node],
        new_node: Callable[[], Awaitable[Node]],
    ) -> None:
        super().__init__(upstream, location, nodes, Gates())
        self.plugs = [node.plug for node in nodes]
        """Those of all nodes that there have been."""
        self.runs: list[Run] = []
        self.logs: dict[str, tuple[bytes, float]] = {}
        """The whole streams of those that have ended, and when they did."""
        self._new_node = new_node

    # --- actions --------------------------------------------------------------------------------

    async def start(
        self, owner: str, *, parent: Pick, conversation: Pick, background: bool, streamed: bool
    ) -> None:
        """A response whose upstream waits; one that is not in the background is streamed."""
        if len(self.runs) >= 4:
            return
        number = next(self.number)
        source: list[Item] = [
            {"type": "message", "role": "user", "content": f"Wait {number}"},
        ]
        fields: Item = {"model": "m", "input": source, "store": True}
        fields["include"] = ["reasoning.encrypted_content"]
        before = picked(self.responses, parent)
        within = picked(self.conversations, conversation) if before is None else None
        known, found = [], True
        if before is not None:
            fields["previous_response_id"] = before.id
            known = [*before.saw, *before.items]
            found = self.is_found(before, owner) and not before.failed
        elif within is not None:
            fields["conversation"] = within.id
            known, found = list(within.items), within.owner == owner and not within.deleted
        fields |= {"background": True} if background else {}
        fields |= {"stream": True} if streamed or not background else {}
        if not found or (within is not None and within.locked):
            answer = await self.post(owner, PATH, fields)
            assert answer.status_code in (400, 404)
            if found:
                assert answer.json()["error"]["code"] == "conversation_locked"
            return
        gate = self.script.gates[number] = Gate(f"Said {number}.")
        thread = [0.0] if before is None else before.thread
        node = self.nodes[number % len(self.nodes)]
        run = Run(
            *(owner, gate, background, "stream" in fields, before, within),
            *(known, source, node, thread),
        )
        headers = key_of(owner)
        if run.streamed:
            run.reading = asyncio.ensure_future(self._read(node.client, fields, headers, run))
            await self._until(lambda: b"Said" in run.log)
            run.body = events(run.log + b"data: [DONE]\n\n")[0]["response"]
        else:
            answer = await node.client.post(PATH, json=fields, headers=headers)
            assert answer.status_code == 200, answer.text
            run.body = answer.json()
            assert run.body["status"] == "queued"
            await bounded(gate.reached.wait())
        run.id = run.body["id"]
        if within is not None:
            within.locked, within.holder = True, run
        if background:
            thread[0] = self.now + RETENTION_S
            if run.streamed:
                assert self.stored_log(run.id).startswith(run.log)  # nothing is sent before
            await self._started(run)
        self.runs.append(run)

    async def _until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(BOUND_S):
            while not done():
                await asyncio.sleep(0.002)

    async def _started(self, run: Run) -> None:
        """Wait until nothing more is written of it."""
        async with asyncio.timeout(BOUND_S):
            while (await self.find(run.owner, run.id) or {})["status"] == "queued":
                await asyncio.sleep(0.002)

    async def _read(
        self, client: httpx.AsyncClient, fields: Item, headers: dict[str, str], run: Run
    ) -> bytes:
        """A stream to its end; `run.log` has its whole events so far."""
        body = b""
        async with client.stream("POST", PATH, json=fields, headers=headers) as answer:
            assert answer.status_code == 200, await answer.aread()
            async for more in answer.aiter_raw():
                body += more
                run.log = body[: body.rindex(b"\n\n") + 2] if b"\n\n" in body else b""
        return body

    async def finish(self, which: Pick) -> None:
        """The upstream goes on: what is still its process's own is stored, and nothing else."""
        run = picked(self.runs, which)
        if run is None:
            return
        self.runs.remove(run)
        run.gate.open.set()
        await bounded(run.gate.over.wait())
        if not run.background:
            await self._finish_foreground(run)
            return
        if run.lives and not run.orphaned:
            body = await self.polled(run.owner, run.body)
            assert body["status"] == "completed"
            await self._ended(run, body)
        elif run.orphaned and run.lives:
            self.runs.append(run)  # nobody knows before its lease is over
        else:
            await self._failed(run)

    async def _finish_foreground(self, run: Run) -> None:
        """It appends to its conversation where nobody has taken its lock."""
        assert run.reading is not None
        body = await bounded(run.reading)
        final = events(body)[-1]["response"]
        within, lost = run.within, False
        if within is not None:
            lost = within.holder is not run or (within.deleted and not run.lives)
        if run.before is not None:
            lost = run.thread[0] <= self.now or (
                run.before.deleted and final["status"] == "failed"  # if it had no other child
            )
        if lost:
            assert final["status"] == "failed"
            assert await self.find(run.owner, run.id) is None
        else:
            assert final["status"] == "completed"
            await self._ended(run, final)

    async def _ended(self, run: Run, body: Item, *, forced: bool = False) -> None:
        """A response has ended as its process says; `forced`: as another one says."""
        if not forced:
            run.thread[0] = self.now + RETENTION_S
        path = f"{PATH}/{run.id}/input_items"
        ids = [item["id"] for item in await self.listing(run.owner, path)]
        own = [
            item | {"id": id_} for item, id_ in zip(run.given, ids[len(run.known) :], strict=True)
        ]
        chat, completed = run.gate.chat, body["status"] == "completed"
        one = Stored(run.owner, body, run.known, own, body["output"], run.thread, chat)
        one.digested = (
            completed and run.within is None and (run.before is None or run.before.digested)
        )
        self.responses.append(one)
        if run.within is not None and completed and not run.within.deleted:
            run.within.items += [*own, *body["output"]]
        if run.within is not None and not forced:
            run.within.release(run)
        await self._keep_log(run)
        if completed:
            self.check_prefix(run.before, chat)
            await self.check_twin(run.owner, [*run.known, *run.given], True, chat)

    async def _failed(self, run: Run) -> None:
        """The lease of a response was over: it has failed, whatever its process does."""
        if run.thread[0] <= self.now:
            assert await self.find(run.owner, run.id) is None
            return
        body = await self.find(run.owner, run.id)
        assert body is not None
        assert body["status"] == "failed"
        path = f"{PATH}/{run.id}/input_items"
        ids = [item["id"] for item in await self.listing(run.owner, path)]
        own = [
            item | {"id": id_} for item, id_ in zip(run.given, ids[len(run.known) :], strict=True)
        ]
        one = Stored(run.owner, body, run.known, own, [], run.thread, failed=True)
        self.responses.append(one)
        await self._keep_log(run)

    async def _keep_log(self, run: Run) -> None:
        """The stream of a response that has ended, for whoever streams it later."""
        if not (run.background and run.streamed):
            return
        if run.reading is not None and not run.orphaned:
            run.log = await bounded(run.reading)
        answer = await self.get(run.owner, f"{PATH}/{run.id}?stream=true")
        if answer.status_code == 400 and not run.lives:
            assert "can no longer be streamed" in answer.text  # it has failed some days ago
            return
        body = answer.content
        assert body.startswith(run.log)
        assert events(body)[-1]["response"]["id"] == run.id
        assert body == self.stored_log(run.id) + DONE
        self.logs[run.id] = (body, self.time.offset_s)

    async def cancel(self, owner: str, which: Pick) -> None:
        """At any node; another one ends it where its process is gone, and leaves the lock."""
        run = picked(self.runs, which)
        if run is None or not run.background:
            return
        answer = await self.post(owner, f"{PATH}/{run.id}/cancel", {})
        if owner != run.owner or run.thread[0] <= self.now:
            assert answer.status_code == 404
            return
        assert answer.status_code == 200, answer.text
        self.runs.remove(run)
        run.gate.open.set()
        if run.lives:
            assert answer.json()["status"] == "cancelled"
            await self._ended(run, answer.json(), forced=run.orphaned)
        else:
            assert answer.json()["status"] == "failed"
            await self._failed(run)

    async def follow(self, owner: str, which: Pick, after: int) -> None:
        """The stream of a response that has ended, from any place, at any node."""
        ids = list(self.logs)
        response_id = picked(ids, which)
        if response_id is None:
            return
        one = next(one for one in self.responses if one.id == response_id)
        body, ended_at = self.logs[response_id]
        path = f"{PATH}/{response_id}?stream=true&starting_after={after}"
        answer = await self.get(owner, path)
        if not self.is_found(one, owner):
            assert answer.status_code == 404
        elif self.time.offset_s - ended_at >= KEEP_S:
            assert answer.status_code == 400
            assert "can no longer be streamed" in answer.json()["error"]["message"]
        else:
            frames = [frame + b"\n\n" for frame in body.split(b"\n\n")[:-1]]
            assert answer.content == b"".join(frames[min(after + 1, len(frames) - 1) :])

    async def lapse(self) -> None:
        """All leases and locks that are held are over."""
        await self.pass_time(LEASE_S + 1)

    async def wait(self, days: int) -> None:
        await self.pass_time(days * DAY_S)

    async def pass_time(self, seconds: float) -> None:
        for plug in self.plugs:
            plug.offset_s += seconds
        for run in self.runs:
            run.lives = False
        for one in self.conversations:
            one.locked = False  # and its holder keeps it until somebody else takes it

    async def crash(self, which: int) -> None:
        """A node is killed: whatever it does is not stored; its clients hear nothing any more."""
        if len(self.plugs) >= 5:
            return
        node = self.nodes[which % len(self.nodes)]
        node.plug.pull()
        new = await self._new_node()
        new.plug.offset_s = self.time.offset_s
        self.plugs.append(new.plug)
        self.nodes[self.nodes.index(node)] = new
        for run in list(self.runs):
            if run.node is not node:
                continue
            run.orphaned = True
            if run.reading is not None:
                run.reading.cancel()
                await asyncio.wait([run.reading])
            if not run.background:  # of which there is nothing yet, but the lock
                self.runs.remove(run)
                run.gate.open.set()

    async def finish_all(self) -> None:
        """All that is being produced ends; what is left of crashed nodes when its lease is over."""
        for run in list(self.runs):
            if run.orphaned:
                await self.lapse()
        while self.runs:
            await self.finish(0)

    # --- what must hold always ------------------------------------------------------------------

    async def check(self) -> None:
        assert [half for plug in self.plugs for half in plug.halves] == []
        for run in self.runs:
            for owner in OWNERS:
                found = await self.find(owner, run.id)
                expired = run.thread[0] <= self.now
                if owner != run.owner or not run.background or expired:
                    assert found is None
                elif run.lives:
                    assert found is not None
                    assert found["status"] in RUNNING
                    assert (found["output"], found["usage"]) == ([], None)
                else:
                    assert found is not None
                    assert found["status"] == "failed"
        await super().check()

    def stored_log(self, response_id: str) -> bytes:
        """The events that the database has of a response."""
        text = """
            SELECT e.body FROM resp_events e JOIN resp_responses r ON r.n = e.response
            WHERE r.id = :id ORDER BY e.first_seq
        """
        rows = self.connection.execute(Statement(text), {"id": response_id})
        return b"".join(body for (body,) in rows)
