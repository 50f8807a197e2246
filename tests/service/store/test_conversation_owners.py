"""Several processes at one conversation: one that is killed, and some that all append to it."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from random import Random
from threading import Thread
from typing import Any

import httpx
import msgspec
import pytest
from msgspec import Raw

from tests.faults.processes import PROCESS_S
from tests.service.responses_api import PATH
from tests.service.wire import BOUND_S, Call, ScriptedUpstream, say_hello
from translator.service.config.store import Location
from translator.service.database.connection import Connection, connect, reading, writing
from translator.service.database.statement import DatabaseTime, Statement
from translator.service.store import conversation_rows as conversations
from translator.service.store.conversation_rows import Locked, LockLost
from translator.service.store.keep import Draft, ParentGone
from translator.service.store.places import Key, Missing, Place
from translator.service.store.recall import recall
from translator.service.store.upkeep import problems
from translator.wire.items import Message, OutputText
from translator.wire.responses import Response

from . import postgres
from .conversing import new, said, texts_of
from .storing import Service, refused

ROOT = Path(__file__).parents[3]

LEASE_S = 2.5

KEY = Key("anna", "conv_1", 0.0)


@pytest.mark.anyio
async def test_conversation_lock_survives_owner_kill(
    service: Service, upstream: ScriptedUpstream, location: Location, tmp_path: Path
) -> None:
    """It ends with its lease, and not before; what the process had begun is nowhere."""
    going = asyncio.Event()

    async def silence(call: Call) -> None:
        going.set()
        await call.gone()

    url = location.target if location.kind == "postgresql" else f"sqlite:///{location.target}"
    config = tmp_path / "settings.toml"
    config.write_text(
        f'[upstreams.up]\nbase_url = "{upstream.url}"\n[server]\nport = 0\n'
        f'[store]\nurl = "{url}"\nlease_s = {LEASE_S}\n'
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "translator", "serve", "--config", str(config)),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), PROCESS_S)).decode()
        base = line.partition(" and ")[0].removeprefix("translator listens on ").removesuffix("/v1")
        async with (
            service(lease_s=LEASE_S) as client,
            httpx.AsyncClient(base_url=base, timeout=BOUND_S, trust_env=False) as theirs,
        ):
            made = await new(client, said("zero"))
            upstream.script = silence
            body = {"model": "m", "input": "one", "conversation": made, "stream": True}
            asking = asyncio.create_task(theirs.post(PATH, json=body))
            await going.wait()
            process.kill()
            await process.wait()
            with pytest.raises(httpx.HTTPError):
                await asking
            upstream.script = say_hello
            status, error = await refused(client, input="two", conversation=made)
            assert (status, error["code"]) == (400, "conversation_locked")
            async with asyncio.timeout(LEASE_S + BOUND_S):
                while (await refused_or_done(client, made))["status"] != "completed":
                    await asyncio.sleep(0.1)
            assert await texts_of(client, made) == ["zero", "two", "Hello world"]
    finally:
        if process.returncode is None:
            process.kill()


async def refused_or_done(client: httpx.AsyncClient, conversation: str) -> Any:
    body = {"model": "m", "input": "two", "conversation": conversation}
    found = (await client.post(PATH, json=body)).json()
    if found.get("error"):
        assert found["error"]["code"] == "conversation_locked"
        return {"status": "locked"}
    return found


# --- rows --------------------------------------------------------------------------------------


def ids() -> Any:
    numbers = itertools.count()
    return lambda prefix: f"{prefix}{next(numbers)}"


def create(connection: Connection, *texts: str) -> None:
    with writing(connection):
        conversations.create(connection, KEY, b"{}", bodies(*texts), ids())


def bodies(*texts: str) -> list[Raw]:
    return [Raw(msgspec.json.encode({"role": "user", "content": text})) for text in texts]


def draft(name: str, source: Sequence[Raw | int], status: Any = "completed") -> Draft:
    message = Message(f"out_{name}", "completed", [OutputText(f"answer {name}", [], [])])
    response = Response(f"resp_{name}", 1, "m", status=status, output=[message])
    return Draft("anna", response, [message], source, None, 86400.0)


def begin(connection: Connection, token: str, lease_s: float = 30.0) -> Place:
    with writing(connection, durable=False):
        place = conversations.lock(connection, KEY, token, lease_s)
    assert isinstance(place, Place)
    return place


def commit(connection: Connection, name: str, place: Place, status: Any = "completed") -> None:
    with writing(connection, durable=False):
        new_id = ids()
        source = bodies(f"said {name}")
        conversations.keep_at(
            connection, draft(name, source, status), place, lambda one: new_id(f"{one}{name}_")
        )


def listed(connection: Connection) -> list[tuple[int, str]]:
    """The places and bodies that a conversation has."""
    statement = Statement(
        "SELECT x.pos, i.id FROM resp_conversation_items x JOIN resp_items i ON i.n = x.item"
        " WHERE x.removed IS NULL ORDER BY x.pos"
    )
    with reading(connection):
        return [(pos, item) for pos, item in connection.execute(statement)]


def test_conversation_thousand_turns(location: Location) -> None:
    """Each adds its own items and no more; the context of the next is one range of items."""
    turns = 1000 if location.kind == "sqlite" else 150
    with closing(connect(location, DatabaseTime())) as connection:
        create(connection)
        new_id = ids()
        with writing(connection, durable=False):
            for turn in range(turns):
                place = conversations.lock(connection, KEY, "t", 30.0)
                assert isinstance(place, Place)
                assert place.upto == 2 * turn
                one = draft(str(turn), bodies(f"said {turn}"))
                conversations.keep_at(connection, one, place, new_id)
        own = ("items", 2), ("conversation_items", 2), ("responses", 1), ("bodies", 1)
        for table, each in own:
            count = each * turns
            [(found,)] = connection.execute(Statement(f"SELECT count(*) FROM resp_{table}"))
            assert found == count
        counted = Counted(connection)
        place = begin(counted, "last")
        with reading(connection):
            found = recall(
                counted, "anna", None, [], max_chain=9, max_bytes=10**9, conversation=place
            )
        assert len(found.earlier or ()) == 2 * turns
        assert counted.statements == 2
    assert list(problems(location)) == []


class Counted:
    """A connection that counts the statements of a test."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.statements = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._connection, name)
        if name in ("execute", "change", "execute_many"):
            self.statements += 1
        return found


def test_a_place_is_given_up_with_what_was_appended_there(location: Location) -> None:
    """Work may be done twice; undone, nothing of it is left, and no other item goes with it."""
    with closing(connect(location, DatabaseTime())) as connection:
        create(connection, "zero")
        before = listed(connection)
        place = begin(connection, "a")
        for _ in range(2):
            commit(connection, "one", place)
        after = listed(connection)
        assert [item for _, item in after[1:]] == ["msg_one_0", "out_one"]
        commit(connection, "two", begin(connection, "b"))
        with writing(connection):
            conversations.undo_at(connection, "anna", "resp_one")
        left = listed(connection)
        assert left[:1] == before
        assert [item for _, item in left[1:]] == ["msg_two_0", "out_two"]
        with writing(connection):
            conversations.undo_at(connection, "anna", "resp_two")
            conversations.undo_at(connection, "anna", "resp_none")
        assert listed(connection) == before
    assert list(problems(location)) == []


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_what_did_not_complete_appends_nothing(location: Location, status: str) -> None:
    with closing(connect(location, DatabaseTime())) as connection:
        create(connection, "zero")
        commit(connection, "one", begin(connection, "a"), status)
        assert len(listed(connection)) == 1
        begin(connection, "b")
    assert list(problems(location)) == []


def test_a_lock_that_is_over_is_lost(location: Location) -> None:
    time = DatabaseTime()
    with closing(connect(location, time)) as connection:
        create(connection, "zero")
        first = begin(connection, "a")
        with writing(connection):
            assert isinstance(conversations.lock(connection, KEY, "b", 30.0), Locked)
            assert isinstance(conversations.add(connection, KEY, bodies("x"), ids(), 9), Locked)
            values = {"keys": f"[{first.n}]", "tokens": '["a"]', "lease_s": 60.0}
            assert conversations.renew(connection, values) == 1
        time.offset_s = 31.0
        with writing(connection):
            assert isinstance(conversations.lock(connection, KEY, "b", 30.0), Locked)
        time.offset_s = 61.0
        with writing(connection):  # by whoever changes it first
            added = conversations.add(connection, KEY, bodies("x"), lambda one: f"{one}x", 9)
            assert isinstance(added, list)
            assert conversations.renew(connection, values) == 0
        with pytest.raises(LockLost):
            commit(connection, "one", first)
        assert [item for _, item in listed(connection)] == ["msg_0", "msg_x"]
        with writing(connection):
            unknown = Key("bob", "conv_1", 0.0)
            assert isinstance(conversations.lock(connection, unknown, "c", 30.0), Missing)
    assert list(problems(location)) == []


def test_processes_that_append_to_one_conversation(location: Location) -> None:
    """Places are dense in the order of commits, and each turn stands there once and whole."""
    failures: list[BaseException] = []
    done: list[str] = []

    def work(number: int) -> None:
        draw = Random(number)
        try:
            with closing(connect(location, DatabaseTime())) as connection:
                for turn in range(20):
                    # as the service, which tries again or gives up
                    with suppress(ParentGone, LockLost, postgres.psycopg.OperationalError):
                        one_turn(connection, f"{number}_{turn}", draw)
        except BaseException as error:
            failures.append(error)

    def one_turn(connection: Connection, name: str, draw: Random) -> None:
        with writing(connection, durable=False):
            place = conversations.lock(connection, KEY, name, 30.0)
        if isinstance(place, Locked):
            return
        assert isinstance(place, Place)
        with reading(connection):
            found = recall(
                connection, "anna", None, [], max_chain=9, max_bytes=10**9, conversation=place
            )
        assert len(found.earlier or ()) == place.upto
        if draw.random() < 0.2:
            with writing(connection):
                conversations.unlock(connection, KEY, name)
            return
        commit(connection, name, place)
        done.append(name)

    with closing(connect(location, DatabaseTime())) as connection:
        create(connection)
        threads = [Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(BOUND_S)
        assert failures == []
        assert done
        found = listed(connection)
    assert [pos for pos, _ in found] == list(range(2 * len(done)))
    turns = [(one, other) for (_, one), (_, other) in zip(found[::2], found[1::2], strict=True)]
    assert sorted(turns) == sorted((f"msg_{name}_0", f"out_{name}") for name in done)
    assert list(problems(location)) == []
