"""The service with a store beside a model of it, over HTTP: whatever two clients do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import closing

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.service.wire import ScriptedUpstream, client_of
from translator.service.config.store import Location
from translator.service.database.connection import connect, writing
from translator.service.database.statement import DatabaseTime, Statement
from translator.service.store.upkeep import problems

from .machine import COLUMNS, OWNERS, Machine
from .storing import settings_of

Action = Callable[[Machine], Awaitable[None]]

WHO = st.sampled_from([*OWNERS, "anna", "anna"])
PICK = st.integers(-2, 9)
RARELY = st.sampled_from([False, False, False, True])


def actions() -> st.SearchStrategy[Action]:
    asks = st.fixed_dictionaries(
        {
            "parent": PICK,
            "conversation": PICK,
            "refers": st.integers(-8, 9),
            "store": st.sampled_from([None, None, True, False]),
            "streamed": st.booleans(),
            "cut": RARELY,
            "background": RARELY,
        }
    )
    return st.one_of(
        st.builds(lambda who, ask: lambda machine: machine.ask(who, **ask), WHO, asks),
        st.builds(lambda who, ask: lambda machine: machine.ask(who, **ask), WHO, asks),
        st.builds(lambda who, one: lambda machine: machine.delete(who, one), WHO, PICK),
        st.builds(
            lambda who, one, limit: lambda machine: machine.page(who, one, limit),
            *(WHO, PICK, st.integers(1, 4)),
        ),
        st.builds(lambda who, n: lambda machine: machine.converse(who, n), WHO, st.integers(0, 3)),
        st.builds(
            lambda who, one, n: lambda machine: machine.append(who, one, n),
            *(WHO, PICK, st.integers(1, 2)),
        ),
        st.builds(
            lambda who, one, item: lambda machine: machine.remove(who, one, item), WHO, PICK, PICK
        ),
        st.builds(lambda days: lambda machine: machine.wait(days), st.integers(1, 40)),
        st.just(lambda machine: machine.sweep()),
    )


def empty(location: Location) -> None:
    with closing(connect(location, DatabaseTime())) as connection, writing(connection):
        for name in COLUMNS:
            connection.change(Statement(f"DELETE FROM {name}"))


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(actions(), max_size=12))
def test_the_service_does_what_its_model_does(location: Location, todo: list[Action]) -> None:
    """After each step: what is found, by whom, with which context; at the end nothing is left."""

    async def run() -> None:
        time = DatabaseTime()
        async with ScriptedUpstream().running() as upstream:
            made = settings_of(upstream, location, clients=True)
            async with client_of(made, database_time=time) as client:
                machine = Machine(client, upstream, location, time)
                for action in todo:
                    await action(machine)
                    await machine.check()
                assert list(problems(location)) == []
                for index, one in enumerate(machine.conversations):
                    await machine.remove(one.owner, index, -1)
                await machine.wait(1000)
                await machine.check()
                await machine.sweep()
                assert [rows for rows in machine.rows() if rows] == []

    empty(location)
    asyncio.run(run())
