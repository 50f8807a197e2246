"""A database without space: known before an upstream is asked, and noticed when there is some."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import Any

import pytest
from psycopg.errors import DiskFull

from tests.service.responses_api import PATH
from tests.service.test_metrics import scrape
from tests.service.wire import BOUND_S, ScriptedUpstream
from translator.service.config.store import Location
from translator.service.database import connection as connections
from translator.service.store import statements as sql
from translator.service.store.upkeep import problems

from .conversing import CONVERSATIONS, new, said
from .storing import Service, ask, refused

pytestmark = pytest.mark.anyio


class Disk:
    """Has no space for bodies, and for what asks whether there is some, when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = False
        for one in (connections.SqliteConnection, connections.PostgresConnection):
            monkeypatch.setattr(one, "change", self._changing(one.change))

    def _changing(self, original: Any) -> Any:
        def change(connection: Any, statement: Any, *values: Any) -> Any:
            if self.full and statement in (sql.NEW_BODY, sql.OCCUPY):
                if connection.kind == "postgresql":
                    raise DiskFull
                error = sqlite3.OperationalError("database or disk is full")
                error.sqlite_errorcode = sqlite3.SQLITE_FULL
                raise error
            return original(connection, statement, *values)

        return change


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


async def test_full_is_known(
    service: Service, upstream: ScriptedUpstream, location: Location, disk: Disk
) -> None:
    """Nothing is asked for what cannot be stored; once there is space, all is stored at once."""
    async with service(write_wait_s=0.2) as client:
        first = await ask(client, store=True)
        conversation = await new(client, said("one"))
        disk.full = True
        assert (await refused(client, store=True))[0] == 500  # nobody knew
        asked = len(upstream.calls)
        for fields in (
            {"store": True},
            {"store": True, "stream": True},
            {"background": True},
            {"background": True, "store": False},
            {"previous_response_id": first["id"]},
            {"conversation": conversation},
        ):
            status, error = await refused(client, **fields)
            assert (status, error["code"]) == (400, "store_quota_exceeded"), fields
            assert "store is full" in error["message"]
        body = {"items": [said("two")]}
        answer = await client.post(f"{CONVERSATIONS}/{conversation}/items", json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "store_quota_exceeded")
        assert len(upstream.calls) == asked
        assert (await scrape(client))("store_responses_total", result="unavailable") == 6
        reading = await ask(client, previous_response_id=first["id"], store=False)
        assert reading["status"] == "completed"
        async with asyncio.timeout(BOUND_S):
            while (await scrape(client))("store_queue_writes"):
                await asyncio.sleep(0.01)
        late = await ask(client)  # nothing waits, so it is tried
        assert (late["status"], late["store"]) == ("completed", True)
        answer = await client.post(PATH, json={"model": "m", "input": "Hi"})
        assert (answer.status_code, answer.json()["store"]) == (200, False)
        assert "store_quota_exceeded" in answer.headers["x-translator-notices"]
        assert (await client.delete(f"{PATH}/{first['id']}")).status_code == 200
        disk.full = False
        again = await ask(client, store=True)
        assert (await client.get(f"{PATH}/{again['id']}")).json() == again
        assert (await ask(client, conversation=conversation))["status"] == "completed"
        assert (await client.post(f"{CONVERSATIONS}/{conversation}/items", json=body)).is_success
    assert list(problems(location)) == []
