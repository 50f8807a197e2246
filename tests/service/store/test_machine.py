"""The service with a store beside a model of it, over HTTP: whatever two clients do.

Its nodes are crashed, and leases end, while responses are produced. `machine`, `machine_runs`
and `machine_resends` say what must be so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import AsyncExitStack, closing
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.service.wire import BOUND_S, ScriptedUpstream, serving
from translator.service.config.store import Location
from translator.service.database.connection import connect, writing
from translator.service.database.statement import DatabaseTime, Statement
from translator.service.store.upkeep import problems

from .machine import COLUMNS, OWNERS, Node
from .machine_resends import ResendingMachine
from .machine_runs import LEASE_S
from .pluggable import Plug, pluggable
from .storing import settings_of

WHO = st.sampled_from([*OWNERS, "anna", "anna", "anna"])
ANY = st.integers(0, 9)
PICK = st.integers(-2, 9)
OFTEN = st.sampled_from([True, True, True, False])
RARELY = OFTEN.map(lambda often: not often)

WHERE = st.one_of(
    st.just((-1, -1)),
    ANY.map(lambda parent: (parent, -1)),
    ANY.map(lambda conversation: (-1, conversation)),
    ANY.map(lambda conversation: (-1, conversation)),
)
"""A response or a conversation to go on from."""

MEANWHILE = st.sampled_from(["append", "ask", "delete", "cancel", "crash", "lapse", "finish"])

STARTS: dict[str, Any] = {
    "who": WHO, "where": WHERE, "background": OFTEN, "streamed": OFTEN,
    "then": st.lists(st.tuples(MEANWHILE, OFTEN), min_size=1, max_size=4),
}  # fmt: skip

NODES = 2

EXAMPLES, PARTS = 9, 3
"""The examples of each database, and the tests that they are divided among: each has a timeout."""


def empty(location: Location) -> None:
    with closing(connect(location, DatabaseTime())) as connection, writing(connection):
        for name in COLUMNS:
            connection.change(Statement(f"DELETE FROM {name}"))


class Service(RuleBasedStateMachine):
    """Two nodes on a database; each step does one thing, and then all that is stored is read."""

    def __init__(self, location: Location) -> None:
        super().__init__()
        self._location = location
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self._failed = False
        empty(location)
        self._stack.enter_context(pluggable())

    def _run(self, doing: Awaitable[None]) -> None:
        async def done() -> None:
            await doing

        try:
            self._runner.run(done())
        except BaseException:
            self._failed = True
            raise

    @initialize(**STARTS)
    def begin(self, **first: Any) -> None:
        """There is something to go on from, and something is produced already."""
        self._run(self._begin())
        self._start(**first)

    async def _begin(self) -> None:
        upstream = await self._stack.enter_async_context(ScriptedUpstream().running())
        made = settings_of(
            upstream, self._location, clients=True, lease_s=LEASE_S, server={"heartbeat_s": 3600}
        )

        async def new_node() -> Node:
            plug = Plug()
            url = await self._stack.enter_async_context(serving(made, database_time=plug))
            client = httpx.AsyncClient(base_url=url, timeout=BOUND_S, trust_env=False)
            return Node(await self._stack.enter_async_context(client), plug)

        nodes = [await new_node() for _ in range(NODES)]
        self.machine = ResendingMachine(upstream, self._location, nodes, new_node)
        await self.machine.converse("anna", 1)
        await self.machine.ask("anna", **FIRST)

    # --- what is done -----------------------------------------------------------------------------

    @rule(
        who=WHO, where=WHERE, refers=st.integers(-8, 9),
        store=st.sampled_from([None, None, True, False]), streamed=st.booleans(), cut=RARELY,
        background=RARELY,
    )  # fmt: skip
    def ask(self, who: str, where: tuple[int, int], **fields: Any) -> None:
        parent, conversation = where
        self._run(self.machine.ask(who, parent=parent, conversation=conversation, **fields))

    @rule(
        who=WHO, which=ANY, ids=st.booleans(), store=OFTEN, streamed=st.booleans(),
        background=RARELY,
    )  # fmt: skip
    def resend(self, who: str, **fields: Any) -> None:
        self._run(self.machine.resend(who, **fields))

    @precondition(lambda self: len(self.machine.runs) < 4)
    @rule(**STARTS)
    def start(self, **one: Any) -> None:
        self._start(**one)

    @precondition(lambda self: len(self.machine.runs) < 4)
    @rule(**STARTS)
    def start_another(self, **one: Any) -> None:
        """The same: Hypothesis leaves rules out of some examples."""
        self._start(**one)

    def _start(
        self, who: str, where: tuple[int, int], background: bool, streamed: bool,
        then: list[tuple[str, bool]],
    ) -> None:  # fmt: skip
        """A response, and what happens while it is produced."""
        machine, (parent, conversation) = self.machine, where
        own = [n for n, one in enumerate(machine.conversations) if one.owner == who]
        conversation = own[conversation % len(own)] if conversation >= 0 and own else -1
        self._run(
            machine.start(
                *(who,), parent=parent, conversation=conversation, background=background,
                streamed=streamed,
            )
        )  # fmt: skip
        for what, checks in then:
            if checks:  # which may end what a process has lost before that one writes again
                self.check()
            which = conversation if what in ("append", "ask", "delete") else len(machine.runs) - 1
            self._run(self._meanwhile(who, what, which))

    async def _meanwhile(self, who: str, what: str, which: int) -> None:
        """Something with the conversation of a response, its process, or itself."""
        machine = self.machine
        if what == "append":
            await machine.append(who, which, 1)
        elif what == "ask":
            await machine.ask(who, **FIRST | {"conversation": which})
        elif what == "delete":
            await machine.remove(who, which, -1)
        elif what == "cancel":
            await machine.cancel(who, which)
        elif what == "crash" and len(machine.plugs) < NODES + 3:
            await machine.crash(self._node_of_last())
        elif what == "lapse":
            await machine.lapse()
        else:
            await machine.finish(which)

    def _node_of_last(self) -> int:
        """The node of what was begun last, where it is still there."""
        machine = self.machine
        nodes = [one.node for one in machine.runs[-1:] if one.node in machine.nodes]
        return machine.nodes.index(nodes[0]) if nodes else 0

    @precondition(lambda self: self.machine.runs)
    @rule(which=ANY)
    def finish(self, which: int) -> None:
        self._run(self.machine.finish(which))

    @precondition(lambda self: self.machine.runs)
    @rule(who=WHO, which=ANY)
    def cancel(self, who: str, which: int) -> None:
        self._run(self.machine.cancel(who, which))

    @precondition(lambda self: self.machine.logs)
    @rule(who=WHO, which=ANY, after=st.integers(0, 12))
    def follow(self, who: str, which: int, after: int) -> None:
        self._run(self.machine.follow(who, which, after))

    @rule(who=WHO, which=ANY)
    def delete(self, who: str, which: int) -> None:
        self._run(self.machine.delete(who, which))

    @rule(who=WHO, which=ANY, limit=st.integers(1, 4))
    def page(self, who: str, which: int, limit: int) -> None:
        self._run(self.machine.page(who, which, limit))

    @rule(who=WHO, count=st.integers(0, 3))
    def converse(self, who: str, count: int) -> None:
        self._run(self.machine.converse(who, count))

    @rule(who=WHO, which=ANY, count=st.integers(1, 2))
    def append(self, who: str, which: int, count: int) -> None:
        self._run(self.machine.append(who, which, count))

    @rule(who=WHO, which=ANY, item=PICK)
    def remove(self, who: str, which: int, item: int) -> None:
        self._run(self.machine.remove(who, which, item))

    @rule(days=st.integers(1, 40))
    def wait(self, days: int) -> None:
        self._run(self.machine.wait(days))

    @rule()
    def sweep(self) -> None:
        self._run(self.machine.sweep())

    # --- what must be so --------------------------------------------------------------------------

    @invariant()
    def check(self) -> None:
        self._run(self.machine.check())

    def teardown(self) -> None:
        """At the end nothing is left."""
        try:
            if not self._failed:
                self._run(self._end())
        finally:
            self.machine.close()
            for plug in self.machine.plugs:
                plug.pulled = False  # or the nodes would try to write for some seconds
            self._runner.run(self._stack.aclose())
            self._runner.close()

    async def _end(self) -> None:
        machine = self.machine
        await machine.finish_all()
        assert list(problems(self._location)) == []
        for index, one in enumerate(machine.conversations):
            await machine.remove(one.owner, index, -1)
        await machine.wait(1000)
        await machine.check()
        await machine.sweep()
        assert [rows for rows in machine.rows() if rows] == []


FIRST: dict[str, Any] = {
    "parent": -1, "conversation": -1, "refers": -1, "store": None, "streamed": True, "cut": False,
    "background": False,
}  # fmt: skip


@pytest.mark.hypothesis
@pytest.mark.parametrize("part", range(PARTS))
def test_the_service_does_what_its_model_does(location: Location, part: int) -> None:
    """After each step: what is found, by whom, with which context; at the end nothing is left."""
    run_state_machine_as_test(
        lambda: Service(location),
        settings=settings(
            max_examples=EXAMPLES // PARTS,
            stateful_step_count=20,
            phases=(Phase.reuse, Phase.generate),  # shorter failures would take minutes
            suppress_health_check=[HealthCheck.function_scoped_fixture],
        ),
    )
