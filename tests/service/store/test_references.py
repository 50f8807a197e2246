"""References to stored items over HTTP, and ids that clients give."""

from __future__ import annotations

from typing import Any

import pytest

from tests.service.responses_api import PATH
from tests.service.wire import ScriptedUpstream
from translator.service.config.store import Location

from .storing import ANNA, BOB, Service, ask, bytes_of, messages, refused, think

pytestmark = pytest.mark.anyio


async def test_references_of_the_ai_sdk(service: Service, upstream: ScriptedUpstream) -> None:
    """Its defaults: the history with references to reasoning and text that were stored."""
    upstream.script = think("hm", "Hello")
    async with service() as client:
        first = await ask(client, input=[{"role": "user", "content": "Hi"}], stream=True)
        reasoning, message = first["output"]
        history = [
            {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
            {"type": "item_reference", "id": reasoning["id"]},
            {"id": message["id"]},
            {"role": "user", "content": [{"type": "input_text", "text": "And?"}]},
        ]
        second = await ask(client, input=history, stream=True)
        sent = messages(upstream.calls[-1])[1]
        assert (sent["content"], sent["reasoning_content"]) == ("Hello", "hm")
        await ask(client, input="More?", previous_response_id=second["id"])
        assert messages(upstream.calls[-1])[1] == sent


async def test_reference_rs_unknown_reference_msg_unknown(
    service: Service, upstream: ScriptedUpstream
) -> None:
    anna, bob = ({"authorization": f"Bearer {key}"} for key in (ANNA, BOB))
    async with service(clients=True) as client:
        foreign = (await ask(client, headers=bob))["output"][0]["id"]
        errors = []
        for item_id in (foreign, "msg_0"):
            status, error = await refused(client, headers=anna, input=[{"id": item_id}])
            assert status == 404
            errors.append(error | {"message": error["message"].replace(item_id, "ID")})
        assert errors[0] == errors[1]
        assert errors[0]["message"].startswith("Item with id 'ID' not found. Items are not")
        answer = await client.post(
            PATH,
            headers=anna,
            json={"model": "m", "input": [{"role": "user", "content": "Hi"}, {"id": "rs_0"}]},
        )
        assert answer.status_code == 200
        assert answer.headers["x-translator-notices"] == "1; reference_dropped"


async def test_duplicate_reference_in_chain(service: Service, upstream: ScriptedUpstream) -> None:
    """It is left out with a notice; `strict` refuses it, as OpenAI does."""
    async with service() as client:
        first = await ask(client)
        item = first["output"][0]
        again = {"model": "m", "previous_response_id": first["id"]}
        for duplicate in ({"id": item["id"]}, item):
            answer = await client.post(
                PATH, json=again | {"input": [duplicate, {"role": "user", "content": "And?"}]}
            )
            assert answer.headers["x-translator-notices"] == "1; duplicate_dropped"
            assert len(messages(upstream.calls[-1])) == 3
        shown = await client.get(f"{PATH}/{answer.json()['id']}/input_items?order=asc")
        ids = [one["id"] for one in shown.json()["data"]]
        assert len(ids) == len(set(ids)) == 3
    async with service(server={"strict": True}) as client:
        status, error = await refused(client, input=[item], previous_response_id=first["id"])
        assert (status, error["code"]) == (400, None)
        assert error["message"].startswith(f"Duplicate item found with id {item['id']}.")


async def test_ids_of_clients(service: Service, location: Location) -> None:
    """An id that is free is kept, the same item is stored once, and no id overwrites another."""
    said = {"type": "message", "role": "user", "content": "Hi", "id": "msg_mine"}
    async with service() as client:

        async def ids(*items: Any) -> list[str]:
            response = await ask(client, input=list(items))
            page = await client.get(f"{PATH}/{response['id']}/input_items?order=asc")
            return [one["id"] for one in page.json()["data"]]

        assert await ids(said) == ["msg_mine"]
        assert await ids(said) == ["msg_mine"]
        [other] = await ids(said | {"content": "Something else"})
        assert other.startswith("msg_")
        assert other != "msg_mine"
        twice = await ids(said, said)
        assert twice[0] == "msg_mine"
        assert len(set(twice)) == 2
        [fits_not] = await ids(said | {"id": "not an id"})
        assert fits_not.startswith("msg_")
        stored = await client.post(PATH, json={"model": "m", "input": [{"id": "msg_mine"}]})
        assert stored.status_code == 200


async def test_store_false_with_ids_is_no_affair_of_the_store(
    service: Service, location: Location
) -> None:
    """Codex gives all items ids of its own: none of them is looked up."""
    said = {"type": "message", "role": "user", "content": "Hi", "id": "msg_unknown"}
    before = bytes_of(location)
    async with service() as client:
        assert (await ask(client, input=[said], store=False))["store"] is False
    assert bytes_of(location) == before
