"""Bounds of what is given to conversations over HTTP, and what counts for their client."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import httpx
import pytest

from translator.service.config.store import Location
from translator.service.database.connection import connect
from translator.service.database.statement import DatabaseTime
from translator.service.store import quota
from translator.service.store.owners import used
from translator.service.store.upkeep import problems

from .conversing import CONVERSATIONS, items_of, new, said
from .storing import ANNA, BOB, Service, ask, refused

pytestmark = pytest.mark.anyio

DAY_S = 86_400.0


def bytes_used(location: Location, owner: str) -> int:
    with closing(connect(location, DatabaseTime())) as connection:
        return used(connection, owner)


async def sent(client: httpx.AsyncClient, path: str, key: str = "", **body: Any) -> tuple[int, Any]:
    """The status of an answer, and its body or error."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    answer = await client.post(CONVERSATIONS + path, json=body, headers=headers)
    found = answer.json()
    return answer.status_code, found.get("error", found)


async def test_conversation_quota(
    service: Service, location: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Items and metadata count for their client alone; deletion makes room for others."""
    monkeypatch.setattr(quota, "AGAIN_S", 0.0)
    async with service(clients=True, max_client_bytes=4000) as client:
        anna = {"authorization": f"Bearer {ANNA}"}
        first = await new(client, said("x" * 1000), headers=anna)
        second = await new(client, said("x" * 1000), headers=anna)
        status, _ = await sent(client, f"/{first}/items", ANNA, items=[said("x" * 1000)])
        assert status == 200
        for path, body in [
            ("", {"items": [said("x" * 1000)]}),
            (f"/{first}/items", {"items": [said("x" * 1000)]}),
            ("", {"metadata": {f"{n}": "x" * 500 for n in range(3)}}),
            (f"/{second}", {"metadata": {f"{n}": "x" * 500 for n in range(3)}}),
        ]:
            status, error = await sent(client, path, ANNA, **body)
            assert (status, error["code"]) == (400, "store_quota_exceeded")
            assert error["type"] == "invalid_request_error"
            assert "4000 bytes" in error["message"]
        asked = {"input": "x" * 1000, "headers": anna, "store": True}
        status, error = await refused(client, **asked)
        assert (status, error["code"]) == (400, "store_quota_exceeded")
        assert (await sent(client, "", BOB, items=[said("x" * 1000)]))[0] == 200
        answer = await client.get(f"{CONVERSATIONS}/{first}/items", headers=anna)
        assert len(answer.json()["data"]) == 2
        await client.delete(f"{CONVERSATIONS}/{second}", headers=anna)
        await new(client, said("x" * 1000), headers=anna)
        await client.delete(f"{CONVERSATIONS}/{first}", headers=anna)
        assert (await ask(client, **asked))["status"] == "completed"
    assert list(problems(location)) == []


async def test_conversation_metadata_count(service: Service, location: Location) -> None:
    """When they are created, replaced and deleted; what is no longer than before may be written."""
    async with service(max_client_bytes=2000) as client:
        one = await new(client, metadata={"a": "x" * 500})
        assert bytes_used(location, "") == len('{"a":""}') + 500
        assert (await sent(client, f"/{one}", metadata={"a": "x" * 512, "b": "y" * 512}))[0] == 200
        assert bytes_used(location, "") == len('{"a":"","b":""}') + 1024
        two = await new(client, metadata={"a": "x" * 512})
        more = {"a": "x" * 512, "b": "y" * 512}
        status, error = await sent(client, f"/{two}", metadata=more)
        assert (status, error["code"], error["param"]) == (400, "store_quota_exceeded", "metadata")
        assert (await client.get(f"{CONVERSATIONS}/{two}")).json()["metadata"] == {"a": "x" * 512}
        assert (await sent(client, f"/{one}", metadata={"a": "x" * 512}))[0] == 200
        assert (await sent(client, f"/{two}", metadata=more))[0] == 200
        assert list(problems(location)) == []
        assert (await client.delete(f"{CONVERSATIONS}/{two}")).status_code == 200
        assert bytes_used(location, "") == len('{"a":""}') + 512
        assert list(problems(location)) == []
        assert (await client.delete(f"{CONVERSATIONS}/{one}")).status_code == 200
        assert bytes_used(location, "") == 0
    assert list(problems(location)) == []


async def test_expired_conversations_make_room(service: Service, location: Location) -> None:
    """A request waits for the sweep before it is told that there is none; metadata go, too."""
    time = DatabaseTime()
    async with service(time, max_client_bytes=2500, conversation_days=10) as client:
        await new(client, said("x" * 1500), metadata={"a": "x" * 500})
    time.offset_s = 11 * DAY_S
    async with service(time, max_client_bytes=2500, conversation_days=10) as client:
        kept = await new(client, said("y" * 2000))
        assert len(await items_of(client, kept)) == 1
    assert list(problems(location)) == []


async def test_bounds_of_items_given_to_conversations(service: Service, location: Location) -> None:
    async with service(max_kept_item_bytes=1000, max_conversation_items=2) as client:
        one = await new(client, said("x"))
        for path in ("", f"/{one}/items"):
            status, error = await sent(client, path, items=[said("x"), said("x" * 1000)])
            assert (status, error["code"]) == (400, "store_quota_exceeded")
            assert error["param"] == "items[1]"
            assert "1000 bytes" in error["message"]
        status, error = await sent(client, "", items=[said("x")] * 3)
        assert (status, error["code"], error["param"]) == (400, "store_quota_exceeded", "items")
        assert "2 items" in error["message"]
        assert len(await items_of(client, await new(client, said("x"), said("y")))) == 2
    assert list(problems(location)) == []
