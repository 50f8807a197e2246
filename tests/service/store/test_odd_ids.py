"""Ids that no stored thing can have: they are not found, on any database."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from tests.service.responses_api import PATH

from .storing import Service, ask, refused

pytestmark = pytest.mark.anyio

CONVERSATIONS = "/v1/conversations"
ODD = ["\0", "resp_\0x", '\\\0"', "\\u0000", "a" * 10_000, "é'%_", "\ufffd"]


@pytest.mark.parametrize("odd", ODD, ids=range(len(ODD)))
async def test_odd_ids_are_not_found(service: Service, odd: str) -> None:
    async with service() as client:
        status, error = await refused(client, previous_response_id=odd)
        assert (status, error["code"]) == (400, "previous_response_not_found")
        assert (await refused(client, conversation=odd))[0] == 404
        assert (await refused(client, input=[{"type": "item_reference", "id": odd}]))[0] == 404
        for base in (PATH, CONVERSATIONS):
            for method in ("GET", "DELETE"):
                answer = await client.request(method, f"{base}/{quote(odd, safe='')}")
                assert answer.status_code == 404
        stored = await ask(client, model="m", metadata={"a": odd[:500]})
        answer = await client.get(f"{PATH}/{stored['id']}/input_items", params={"after": odd})
        assert answer.status_code == 400
        made = (await client.post(CONVERSATIONS, json={})).json()["id"]
        answer = await client.get(f"{CONVERSATIONS}/{made}/items", params={"after": odd})
        assert answer.status_code == 400
