"""How long responses are stored, how much of them, and how they are deleted."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw

from tests.service.responses_api import PATH
from tests.service.wire import ScriptedUpstream
from translator.service.config.store import Location
from translator.service.database.connection import Connection, connect, reading, writing
from translator.service.database.schema import migrate
from translator.service.database.statement import DatabaseTime, Statement
from translator.service.store import quota, sweep
from translator.service.store.keep import Draft, keep
from translator.service.store.owners import used
from translator.service.store.recall import recall
from translator.service.store.room import ROOM
from translator.service.store.upkeep import problems
from translator.wire.items import Message, OutputText
from translator.wire.responses import Response

from .storing import ANNA, BOB, Service, ask, bytes_of, counts, messages, refused

pytestmark = pytest.mark.anyio

DAY_S = 86400.0


def keep_one(connection: Connection, name: str, parent: str | None, text: str = "Hi") -> None:
    """Store a response with a message of its client and one of its own."""
    source = [Raw(b'{"role":"user","content":"%b"}' % text.encode())]
    found = recall(connection, "anna", parent, source, max_chain=10_000, max_bytes=10**9)
    message = Message(f"out_{name}", "completed", [OutputText("Hello", [], [])])
    response = Response(f"resp_{name}", 1, "m", status="completed", output=[message])
    draft = Draft("anna", response, [message], found.items, found.parent, 30 * DAY_S)
    numbers = itertools.count()
    keep(connection, draft, lambda prefix: f"{prefix}{name}_{next(numbers)}")


# --- time ----------------------------------------------------------------------------------------


async def test_retention_boundary(
    service: Service,
    upstream: ScriptedUpstream,
    location: Location,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A chain of daily turns is whole until 30 days after the last, and gone at once then.

    It is deleted in small steps, between which others are stored.
    """
    monkeypatch.setattr(sweep, "STEP_ROWS", 100)
    time = DatabaseTime()
    async with service(time) as client:
        ids: list[str] = []
        for day in range(61):
            time.offset_s = day * DAY_S
            parent = {"previous_response_id": ids[-1]} if ids else {}
            ids.append((await ask(client, input=f"{day}", **parent))["id"])
        time.offset_s = 90 * DAY_S - 60
        for one in (ids[0], ids[-1]):
            assert (await client.get(f"{PATH}/{one}")).status_code == 200
        await ask(client, input="?", previous_response_id=ids[-1], store=False)
        assert [one["content"] for one in messages(upstream.calls[-1])][::2] == [
            *(f"{day}" for day in range(61)), "?",
        ]  # fmt: skip
        time.offset_s = 90 * DAY_S + 60
        assert counts(location)[1] == 61  # nothing has been swept
        for one in (ids[0], ids[-1]):
            assert (await client.get(f"{PATH}/{one}")).status_code == 404
            status, error = await refused(client, previous_response_id=one)
            assert (status, error["code"]) == (400, "previous_response_not_found")
        new = [await ask(client, input="new")]
        with closing(connect(location, time)) as connection:
            while True:
                with writing(connection):
                    if not sweep.sweep(connection, 3600.0):
                        break
                new.append(await ask(client, input="n", previous_response_id=new[-1]["id"]))
        assert len(new) > 4
        assert counts(location) == [1, len(new), len(new), 2 * len(new), 2 * len(new)]
        assert (await client.get(f"{PATH}/{new[-1]['id']}")).json() == new[-1]
    assert list(problems(location)) == []


@pytest.mark.parametrize("chained", [True, False])
def test_sweep_in_small_steps(
    location: Location, monkeypatch: pytest.MonkeyPatch, chained: bool
) -> None:
    """A step deletes so many rows at most; a living response's context stays whole throughout."""
    monkeypatch.setattr(sweep, "STEP_ROWS", 40)
    time = DatabaseTime()
    with closing(connect(location, time)) as connection:
        with writing(connection, durable=False):
            for n in range(30):
                keep_one(connection, f"{n}", f"resp_{n - 1}" if chained and n else None)
        time.offset_s = 20 * DAY_S
        with writing(connection, durable=False):
            keep_one(connection, "young", None, "young")
        time.offset_s = 31 * DAY_S
        before, steps = rows_of(connection), 0
        while True:
            with writing(connection):
                deleted = sweep.step(connection, 3600.0)
            left = rows_of(connection)
            assert before - left <= 40
            assert deleted >= before - left > 0 or deleted == 0
            before, steps = left, steps + 1
            with reading(connection):
                found = recall(connection, "anna", "resp_young", [], max_chain=9, max_bytes=10**9)
            assert len(found.earlier or ()) == 2
            if not deleted:
                break
        assert steps > 30 * 6 // 40
    assert counts(location) == [1, 1, 1, 2, 2]
    assert list(problems(location)) == []


def rows_of(connection: Connection) -> int:
    names = ("threads", "responses", "bodies", "items", "response_items")
    parts = " + ".join(f"(SELECT count(*) FROM resp_{name})" for name in names)
    return int(connection.execute(Statement(f"SELECT {parts}"))[0][0])


def test_one_process_sweeps_at_a_time(location: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another may as soon as it is done, or when it has not gone on for a while."""
    time = DatabaseTime()
    with closing(connect(location, time)) as connection:
        with writing(connection):
            for n in range(3):
                keep_one(connection, f"{n}", None)
        time.offset_s = 31 * DAY_S
        monkeypatch.setattr(sweep, "STEP_ROWS", 6)

        def step_of(process: str) -> int:
            monkeypatch.setattr(sweep, "_TOKEN", process * 32)
            with writing(connection):
                return sweep.sweep(connection, 3600.0)

        assert step_of("a") > 0
        assert step_of("b") == 0
        assert step_of("a") > 0
        time.offset_s += 2 * sweep.LEASE_S
        assert step_of("b") > 0
        assert step_of("a") == 0
        while step_of("b"):
            pass
        assert counts(location) == [0, 0, 0, 0, 0]
        with writing(connection):
            keep_one(connection, "late", None)
        time.offset_s += 31 * DAY_S
        assert step_of("a") > 0  # which the other left to whoever is next


def test_the_sweep_gives_space_back(tmp_path: Path) -> None:
    location = Location("sqlite", str(tmp_path / "store.db"))
    migrate(location, ROOM)
    time = DatabaseTime()
    with closing(connect(location, time)) as connection:
        with writing(connection):
            for n in range(100):
                keep_one(connection, f"{n}", None, "x" * 8000)
        pages = Statement("PRAGMA page_count")
        [(full,)] = connection.execute(pages)
        time.offset_s = 31 * DAY_S
        sizes = [full]
        while True:
            with writing(connection):
                if not sweep.sweep(connection, 3600.0):
                    break
            sizes.append(connection.execute(pages)[0][0])
        assert all(one - other <= sweep.FREED_PAGES for one, other in itertools.pairwise(sizes))
        assert sizes[-1] < full / 2


# --- deletion ------------------------------------------------------------------------------------


async def test_delete_mid_chain(
    service: Service, upstream: ScriptedUpstream, location: Location
) -> None:
    """The next turn is unchanged; with `delete_context` it is refused, and the link is named."""
    for delete_context in (False, True):
        async with service(delete_context=delete_context) as client:
            first = await ask(client, input="one")
            second = await ask(client, input="two", previous_response_id=first["id"])
            third = await ask(client, input="three", previous_response_id=second["id"])
            await client.delete(f"{PATH}/{second['id']}")
            fields = {"input": "four", "previous_response_id": third["id"]}
            path = f"{PATH}/{third['id']}"
            assert (await client.get(path)).json() == third
            listed = await client.get(f"{path}/input_items?order=asc")
            if not delete_context:
                await ask(client, **fields)
                sent = [one["content"] for one in messages(upstream.calls[-1])]
                assert sent[::2] == ["one", "two", "three", "four"]
                assert [one["content"][0]["text"] for one in listed.json()["data"]][::2] == [
                    *("one", "two", "three")
                ]
                continue
            status, error = await refused(client, **fields)
            assert (status, error["code"]) == (400, "previous_response_not_found")
            assert error["message"] == (
                f"Previous response with id '{second['id']}' not found: "
                f"'{third['id']}' goes on from it."
            )
            assert (listed.status_code, listed.json()["error"]) == (400, error | {"param": None})
            await ask(client, **fields | {"previous_response_id": first["id"]})
    assert list(problems(location)) == []


def items_of(location: Location) -> Sequence[Any]:
    found: Sequence[Any] = bytes_of(location)[3]
    return found


async def test_delete_context_deletes_at_once(service: Service, location: Location) -> None:
    """The items of a response are gone with it; a later one that was sent them has its own."""
    async with service(delete_context=True) as client:
        first = await ask(client, input="a secret")
        second = await ask(client, input="two", previous_response_id=first["id"])
        said = [{"role": "user", "content": "not a secret"}]
        third = await ask(client, input=said)
        fourth = await ask(client, input=[*said, *third["output"], *said])
        for one in (first, third):
            await client.delete(f"{PATH}/{one['id']}")
        assert not any('"a secret"' in row for row in items_of(location))
        status, _ = await refused(client, previous_response_id=second["id"])
        assert status == 400
        await ask(client, previous_response_id=fourth["id"])
        await client.delete(f"{PATH}/{second['id']}")
    assert list(problems(location)) == []
    assert not any("two" in row for row in items_of(location))


async def test_what_was_shared_before_delete_context_was_set(
    service: Service, upstream: ScriptedUpstream, location: Location
) -> None:
    """A later response that was sent all of a deleted one keeps it; who names it is refused."""
    said = [{"role": "user", "content": "one"}]
    async with service() as client:
        first = await ask(client, input=said)
        named = await ask(client, input="two", previous_response_id=first["id"])
        sent = await ask(client, input=[*said, *first["output"], {"role": "user", "content": "x"}])
        assert counts(location)[3] == 6
    async with service(delete_context=True) as client:
        await client.delete(f"{PATH}/{first['id']}")
        status, error = await refused(client, previous_response_id=named["id"])
        assert (status, first["id"] in error["message"]) == (400, True)
        await ask(client, input="y", previous_response_id=sent["id"])
        assert [one["content"] for one in messages(upstream.calls[-1])][::2] == ["one", "x", "y"]
    assert list(problems(location)) == []


async def test_delete_last_frees_thread(service: Service, location: Location) -> None:
    """Also where the responses before it were deleted first; the sweep has the rest."""
    async with service() as client:
        ids: list[str] = []
        for turn in range(6):
            parent = {"previous_response_id": ids[-1]} if ids else {}
            ids.append((await ask(client, input=f"{turn}", **parent))["id"])
        for one in ids:
            assert (await client.delete(f"{PATH}/{one}")).status_code == 200
    with closing(connect(location, DatabaseTime())) as connection:
        while True:
            with writing(connection):
                if not sweep.step(connection, 3600.0):
                    break
        assert connection.execute(Statement("SELECT count(*) FROM resp_owners")) == [(0,)]
    assert counts(location) == [0, 0, 0, 0, 0]


# --- quota ---------------------------------------------------------------------------------------


async def test_quota_reached(service: Service, location: Location) -> None:
    """A request that needs the store is refused, others are not stored; deletion frees."""
    anna, bob = ({"authorization": f"Bearer {key}"} for key in (ANNA, BOB))
    async with service(clients=True, max_client_bytes=6000) as client:
        stored: list[str] = []
        while True:
            response = await ask(client, headers=anna, input="x" * 500)
            if not response["store"]:
                break
            stored.append(response["id"])
        assert 1 <= len(stored) <= 5
        answer = await client.post(PATH, json={"model": "m", "input": "x" * 500}, headers=anna)
        assert answer.headers["x-translator-notices"] == "1; store_quota_exceeded"
        for needs in ({"store": True}, {"previous_response_id": stored[0]}):
            status, error = await refused(client, headers=anna, input="x" * 500, **needs)
            assert (status, error["code"]) == (400, "store_quota_exceeded")
            assert "6000 bytes" in error["message"]
        read = {"previous_response_id": stored[0], "store": False}
        assert (await ask(client, headers=anna, input="x" * 500, **read))["store"] is False
        assert (await ask(client, headers=bob, input="x" * 500))["store"] is True
        for one in stored:
            await client.delete(f"{PATH}/{one}", headers=anna)
        assert (await ask(client, headers=anna, input="x" * 500))["store"] is True
    assert list(problems(location)) == []


async def test_what_has_expired_makes_room_first(
    service: Service, location: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once in a while, not with each request that is over the quota."""
    time = DatabaseTime()
    async with service(time, max_client_bytes=6000) as client:
        while (await ask(client, input="x" * 500))["store"]:
            pass
        assert (await ask(client, input="x" * 500))["store"] is False
        time.offset_s = 31 * DAY_S
        assert (await ask(client, input="x" * 500))["store"] is False
        monkeypatch.setattr(quota, "AGAIN_S", 0.0)
    async with service(time, max_client_bytes=6000) as client:
        assert (await ask(client, input="x" * 500))["store"] is True
    assert counts(location)[1] == 1


def test_the_bytes_of_an_owner_are_those_of_what_is_there(location: Location) -> None:
    with closing(connect(location, DatabaseTime())) as connection:
        with writing(connection):
            for n in range(3):
                keep_one(connection, f"{n}", f"resp_{n - 1}" if n else None)
        stored = connection.execute(
            Statement(
                "SELECT (SELECT sum(length(body)) FROM resp_items)"
                " + (SELECT sum(length(body)) FROM resp_bodies)"
            )
        )
        assert used(connection, "anna") == int(stored[0][0]) > 0
        assert used(connection, "bob") == 0


async def test_huge_turn(service: Service, location: Location) -> None:
    """What is over a bound is not stored, and that is told; a large image is, and can be named."""
    async with service(max_kept_response_bytes=500_000, max_kept_item_bytes=300_000) as client:

        def image(size: int) -> dict[str, Any]:
            url = "data:image/png;base64," + "A" * size
            return {"role": "user", "content": [{"type": "input_image", "image_url": url}]}

        for said in ([image(200_000)] * 3, [image(300_001)]):
            answer = await client.post(PATH, json={"model": "m", "input": said})
            assert answer.json()["store"] is False
            assert "store_quota_exceeded" in answer.headers["x-translator-notices"]
            status, error = await refused(client, input=said, store=True)
            assert (status, error["code"]) == (400, "store_quota_exceeded")
        assert counts(location) == [0, 0, 0, 0, 0]
        response = await ask(client, input=[image(290_000), image(190_000)])
        assert response["store"] is True
        page = (await client.get(f"{PATH}/{response['id']}/input_items?order=asc")).json()
        reference = {"type": "item_reference", "id": page["first_id"]}
        assert (await ask(client, input=[reference]))["status"] == "completed"
    assert counts(location)[3] == 4


async def test_an_item_of_the_answer_may_be_too_large(service: Service, location: Location) -> None:
    async with service(max_kept_item_bytes=60) as client:
        assert (await ask(client, input="Hi"))["status"] == "completed"
        status, error = await refused(client, input="Hi", store=True)
        assert (status, error["code"]) == (400, "store_quota_exceeded")
    assert counts(location) == [0, 0, 0, 0, 0]


@pytest.mark.parametrize("location", ["sqlite"], indirect=True)
async def test_disk_full(service: Service, location: Location) -> None:
    """What has expired makes room for a response before its client is told that there is none."""
    time = DatabaseTime()
    async with service(time, write_wait_s=1.0, max_store_bytes=600_000) as client:
        for _ in range(20):
            status, _ = await refused_or_stored(client)
            if status != 200:
                break
        assert status == 500
        assert (await ask(client, input="x" * 50_000))["status"] == "completed"
        time.offset_s = 31 * DAY_S
    async with service(time, write_wait_s=5.0, max_store_bytes=600_000) as client:
        status, response = await refused_or_stored(client)
        assert status == 200
        assert (await client.get(f"{PATH}/{response['id']}")).status_code == 200
    assert list(problems(location)) == []


async def refused_or_stored(client: Any) -> tuple[int, Any]:
    fields = {"model": "m", "input": "x" * 50_000, "store": True}
    answer = await client.post(PATH, json=fields)
    return answer.status_code, answer.json()
