"""PgBouncer in transaction mode between the service and its server.

Each transaction may get another session of the server, and more clients than sessions wait for one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests.service.chat_bodies import COMPLETION
from tests.service.responses_api import PATH
from tests.service.wire import Call, ScriptedUpstream
from translator.__main__ import main
from translator.service.config.store import Location
from translator.service.database import connection
from translator.service.database.connection import connect, writing
from translator.service.database.statement import DatabaseTime, Statement

from . import postgres
from .running import begin, ended
from .storing import Service, ask, messages
from .test_command import written

pytestmark = pytest.mark.anyio

TURNS = connection.PREPARED_AFTER + 3
"""Enough for each statement to be prepared, were it not for the pooler."""

CONVERSATIONS = 6


@pytest.fixture(scope="module")
def pooled_url(postgres_server: postgres.Server) -> Iterator[str]:
    """The database `migrated`, through a pooler."""
    program = postgres.needed(postgres.pooler)
    with postgres.pooling(program, postgres_server) as url:
        yield url("migrated")


@pytest.fixture
def location(postgres_location: Location, pooled_url: str) -> Location:
    return Location(postgres_location.kind, pooled_url)


async def test_nodes_share_the_sessions(service: Service, upstream: ScriptedUpstream) -> None:
    """Turns that continue each other at both nodes, at once, and a response in the background."""

    async def script(call: Call) -> None:
        await call.answer(COMPLETION)

    upstream.script = script
    async with service() as one, service() as two:
        nodes = (one, two)
        waiting = await begin(one, background=True)

        async def talk(number: int) -> str:
            last = None
            for turn in range(TURNS):
                node = nodes[(number + turn) % 2]
                response = await ask(node, input=f"{number}:{turn}", previous_response_id=last)
                last = response["id"]
            return str(last)

        found = await asyncio.gather(*map(talk, range(CONVERSATIONS)))
        assert (await ended(two, waiting["id"]))["status"] == "completed"
        for number, last in enumerate(found):
            await ask(nodes[number % 2], input="and now?", previous_response_id=last)
            texts = [one["content"] for one in messages(upstream.calls[-1])]
            own = [f"{number}:{turn}" for turn in range(TURNS)]
            assert texts[::2] == [*own, "and now?"]
            assert await shown(two, last) == await shown(one, last)
            assert (await one.delete(f"{PATH}/{last}")).status_code == 200
            assert (await two.get(f"{PATH}/{last}")).status_code == 404


async def shown(client: httpx.AsyncClient, response_id: str) -> object:
    answer = await client.get(f"{PATH}/{response_id}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_limits_are_those_of_the_transaction(location: Location) -> None:
    """Settings of a session would hold for whoever gets it next, and not for its owner."""
    settings = ("statement_timeout", "lock_timeout", "synchronous_commit")
    text = "SELECT " + ", ".join(f"current_setting('{name}')" for name in settings)
    some = [connect(location, DatabaseTime(), statement_s=seconds) for seconds in (7.0, 9.0)]
    with closing(some[0]), closing(some[1]):
        for _ in range(TURNS):
            for one, seconds in zip(some, (7, 9), strict=True):
                with writing(one, durable=False):
                    [found] = one.execute(Statement(text))
                assert found == (f"{seconds}s", "5s", "off")
                assert one.execute(Statement(text)) == [("0", "0", "on")]


def test_a_pooler_is_told_from_a_server(location: Location, postgres_location: Location) -> None:
    """Without one, statements are prepared."""
    for one, prepared in ((location, None), (postgres_location, connection.PREPARED_AFTER)):
        with closing(connection.PostgresConnection(one.target, DatabaseTime(), 1.0)) as opened:
            assert opened._driver.prepare_threshold == prepared  # pyright: ignore


def test_commands_work(
    location: Location, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = written(tmp_path, location)
    for _ in range(TURNS):
        for action in ("migrate", "check", "stats"):
            assert main(["store", action, "--config", config]) == 0, capsys.readouterr().err
