"""Conversations over HTTP: what is created, listed, changed and deleted, for whom."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.service.responses_api import PATH
from tests.service.wire import ScriptedUpstream
from translator.service.config.store import Location
from translator.service.database.statement import DatabaseTime
from translator.service.store.upkeep import problems

from .conversing import CALL, CONVERSATIONS, items_of, new, rows, said, texts_of
from .storing import ANNA, BOB, Service, ask, messages, refused

pytestmark = pytest.mark.anyio

# --- the object --------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b"{}", b'{"items":[]}', b'{"items":null,"metadata":null}'])
async def test_an_empty_one(service: Service, body: bytes) -> None:
    async with service() as client:
        answer = await client.post(CONVERSATIONS, content=body)
        assert answer.status_code == 200
        made = answer.json()
        assert made["id"].startswith("conv_")
        assert list(made) == ["id", "created_at", "metadata", "object"]
        assert (made["object"], made["metadata"]) == ("conversation", {})
        assert isinstance(made["created_at"], int)
        path = f"{CONVERSATIONS}/{made['id']}"
        assert (await client.get(path)).json() == made
        listed = (await client.get(f"{path}/items")).json()
        empty = {"object": "list", "data": [], "first_id": "", "last_id": "", "has_more": False}
        assert listed == empty
    async with service() as client:  # another process
        assert (await client.get(path)).json() == made


async def test_metadata_is_replaced(service: Service) -> None:
    async with service() as client:
        made = await new(client, metadata={"a": "b"})
        path = f"{CONVERSATIONS}/{made}"
        assert (await client.get(path)).json()["metadata"] == {"a": "b"}
        changed = await client.post(path, json={"metadata": {"c": "d"}})
        assert changed.json()["metadata"] == {"c": "d"}
        assert (await client.get(path)).json() == changed.json()
        assert (await client.post(path, json={"metadata": None})).json()["metadata"] == {}
        for body, param, code in [
            ({}, "metadata", "missing_required_parameter"),
            ({"metadata": {str(n): "" for n in range(17)}}, "metadata", None),
            ({"metadata": {"a": "x" * 513}}, "metadata", "string_above_max_length"),
        ]:
            answer = await client.post(path, json=body)
            assert answer.status_code == 400
            error = answer.json()["error"]
            assert error["param"] == param
            assert code is None or error["code"] == code


async def test_delete_twice(service: Service, location: Location) -> None:
    async with service() as client:
        made = await new(client, said("one"), said("two"))
        path = f"{CONVERSATIONS}/{made}"
        deleted = await client.delete(path)
        assert deleted.status_code == 200
        assert deleted.json() == {"id": made, "object": "conversation.deleted", "deleted": True}
        missing = f"Conversation with id '{made}' not found."
        for method, where in [
            ("DELETE", path),
            ("GET", path),
            ("GET", f"{path}/items"),
            ("GET", f"{path}/items/msg_1"),
            ("DELETE", f"{path}/items/msg_1"),
        ]:
            answer = await client.request(method, where)
            assert (answer.status_code, answer.json()["error"]["message"]) == (404, missing)
        for where, body in [(path, {"metadata": {}}), (f"{path}/items", {"items": [said("x")]})]:
            answer = await client.post(where, json=body)
            assert (answer.status_code, answer.json()["error"]["message"]) == (404, missing)


# --- items -------------------------------------------------------------------------------------


async def test_items_create_order(service: Service) -> None:
    """The order of the request is kept, and an empty page ends the iteration of the SDKs."""
    async with service() as client:
        made = await new(client, said("zero"))
        path = f"{CONVERSATIONS}/{made}/items"
        items = [said(str(n)) for n in range(1, 20)] + [CALL]
        added = (await client.post(path, json={"items": items})).json()
        assert [one["type"] for one in added["data"]] == ["message"] * 19 + ["function_call"]
        assert added["data"][0]["content"] == [{"type": "input_text", "text": "1"}]
        assert added["data"][0]["status"] == added["data"][19]["status"] == "completed"
        ids = [one["id"] for one in added["data"]]
        assert (added["object"], added["has_more"]) == ("list", False)
        assert (added["first_id"], added["last_id"]) == (ids[0], ids[-1])
        everything = await items_of(client, made)
        assert everything[1:] == added["data"]
        newest = (await client.get(path)).json()
        assert newest["data"] == everything[:0:-1]
        assert (newest["last_id"], newest["has_more"]) == (everything[1]["id"], True)
        last = (await client.get(f"{path}?after={newest['last_id']}")).json()
        assert (last["data"], last["has_more"]) == (everything[:1], False)
        end = (await client.get(f"{path}?after={last['last_id']}")).json()
        assert (end["data"], end["last_id"], end["has_more"]) == ([], "", False)
        for limit in (1, 7, 100):
            for order in ("asc", "desc"):
                found, after = list[Any](), ""
                while True:
                    query = f"?limit={limit}&order={order}{after}"
                    page = (await client.get(path + query)).json()
                    found += page["data"]
                    after = f"&after={page['last_id']}"
                    if not page["has_more"]:
                        break
                assert found == (everything if order == "asc" else everything[::-1])
        for query in ("limit=0", "limit=101", "order=up", "after=msg_0"):
            answer = await client.get(f"{path}?{query}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_value")


async def test_items_21(service: Service, location: Location) -> None:
    async with service() as client:
        made = await new(client)
        body = {"items": [said("x")] * 21}
        for path in (CONVERSATIONS, f"{CONVERSATIONS}/{made}/items"):
            answer = await client.post(path, json=body)
            assert answer.status_code == 400
            error = answer.json()["error"]
            assert (error["param"], error["code"]) == ("items", "array_above_max_length")
    assert rows(location, "SELECT count(*) FROM resp_items") == [(0,)]


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({"type": "nonsense"}, "items[1].type"),
        ({"type": "message", "role": "robot", "content": "x"}, "items[1].role"),
        ({"role": "user", "content": [{"type": "input_text"}]}, "items[1].content[0].text"),
        ({"type": "function_call", "call_id": "c"}, "items[1].name"),
        ({"type": "compaction_trigger"}, "items[1].type"),
        ({"type": "compaction", "encrypted_content": "x"}, "items[1].encrypted_content"),
        ({"type": "item_reference", "id": "msg_0"}, "items[1].id"),
    ],
)
async def test_an_item_that_no_request_could_go_on_from(
    service: Service, item: dict[str, Any], param: str
) -> None:
    async with service() as client:
        made = await new(client)
        path = f"{CONVERSATIONS}/{made}/items"
        answer = await client.post(path, json={"items": [said("x"), item]})
        assert answer.status_code in (400, 404)
        assert answer.json()["error"]["param"] == param
        assert await items_of(client, made) == []


async def test_large_items_are_checked_in_slices(service: Service) -> None:
    async with service() as client:
        made = await new(client, said("x" * 300_000))
        answer = await client.post(f"{CONVERSATIONS}/{made}/items", content=b'{"items":"x"}')
        assert answer.json()["error"]["param"] == "items"
        assert [len(text) for text in await texts_of(client, made)] == [300_000]


async def test_an_item_by_its_id(service: Service) -> None:
    async with service() as client:
        made = await new(client, said("one"), said("two"), metadata={"a": "b"})
        path = f"{CONVERSATIONS}/{made}"
        first, second = await items_of(client, made)
        assert (await client.get(f"{path}/items/{first['id']}")).json() == first
        deleted = await client.delete(f"{path}/items/{first['id']}")
        assert deleted.status_code == 200
        assert deleted.json() == (await client.get(path)).json()
        assert await items_of(client, made) == [second]
        missing = f"Item with id '{first['id']}' not found."
        for method in ("GET", "DELETE"):
            answer = await client.request(method, f"{path}/items/{first['id']}")
            assert (answer.status_code, answer.json()["error"]["message"]) == (404, missing)


async def test_references_are_appended_as_the_same_items(service: Service) -> None:
    async with service() as client:
        response = await ask(client)
        [answered] = response["output"]
        made = await new(client, said("Hi"), {"id": answered["id"]})
        assert await texts_of(client, made) == ["Hi", "Hello world"]
        again = {"type": "item_reference", "id": answered["id"]}
        path = f"{CONVERSATIONS}/{made}/items"
        assert (await client.post(path, json={"items": [again]})).json()["data"][0] == answered
        assert await texts_of(client, made) == ["Hi", "Hello world"]  # it is there already
        await client.delete(f"{PATH}/{response['id']}")
        found = await ask(client, input=[said("x"), again], store=False)
        assert found["status"] == "completed"
        await client.delete(f"{path}/{answered['id']}")
        status, _ = await refused(client, input=[said("x"), again])
        assert status == 404


async def test_two_clients(service: Service) -> None:
    """Another client finds as little as of an id that nobody has."""
    anna, bob = ({"authorization": f"Bearer {key}"} for key in (ANNA, BOB))
    async with service(clients=True) as client:
        made = await new(client, said("one"), headers=anna)
        item = (await client.get(f"{CONVERSATIONS}/{made}/items", headers=anna)).json()["last_id"]

        async def answers(conversation: str) -> list[tuple[int, str]]:
            path = f"{CONVERSATIONS}/{conversation}"
            tries: list[tuple[str, str, Any]] = [
                ("GET", path, None),
                ("POST", path, {"metadata": {}}),
                ("GET", f"{path}/items", None),
                ("POST", f"{path}/items", {"items": [said("x")]}),
                ("GET", f"{path}/items/{item}", None),
                ("DELETE", f"{path}/items/{item}", None),
                ("DELETE", path, None),
                ("POST", PATH, {"model": "m", "input": "x", "conversation": conversation}),
                ("POST", f"{PATH}/input_tokens", {"model": "m", "conversation": conversation}),
            ]
            found: list[httpx.Response] = [
                await client.request(method, where, json=body, headers=bob)
                for method, where, body in tries
            ]
            return [(one.status_code, one.text.replace(conversation, "ID")) for one in found]

        theirs, nobodys = await answers(made), await answers("conv_" + "0" * 32)
        assert theirs == nobodys
        assert {status for status, _ in theirs} == {404}
        reference = {"type": "item_reference", "id": item}
        status, _ = await refused(client, input=[reference], headers=bob)
        assert status == 404
        assert (await client.get(f"{CONVERSATIONS}/{made}", headers=anna)).status_code == 200


async def test_paths(service: Service) -> None:
    async with service() as client:
        made = await new(client)
        for method, path, status in [
            ("GET", CONVERSATIONS, 405),
            ("GET", f"/conversations/{made}", 200),
            ("GET", f"//v1//conversations/{made}", 200),
            ("POST", "/v1/v1/conversations/", 200),
            ("PUT", f"{CONVERSATIONS}/{made}", 405),
        ]:
            assert (await client.request(method, path)).status_code == status, path
        wrong = await client.post("/v1/conversation")
        assert "/v1/conversations?" in wrong.json()["error"]["message"]


# --- bounds, and what is left ------------------------------------------------------------------


async def test_more_items_than_a_conversation_may_have(service: Service) -> None:
    async with service(max_conversation_items=4) as client:
        made = await new(client, said("one"), said("two"))
        path = f"{CONVERSATIONS}/{made}/items"
        answer = await client.post(path, json={"items": [said("x")] * 3})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (400, "store_quota_exceeded")
        await ask(client, input="three", conversation=made)
        assert len(await items_of(client, made)) == 4
        status, error = await refused(client, input="five", conversation=made)
        assert (status, error["code"]) == (400, "store_quota_exceeded")
        assert error["param"] == "conversation"
        status, _ = await refused(client, input="five", conversation=made)
        assert status == 400  # and not locked
        assert (await ask(client, conversation=made, store=False))["status"] == "completed"


async def test_items_over_the_bound_in_bytes(service: Service) -> None:
    async with service(max_kept_response_bytes=1000, server={"max_body_bytes": 1500}) as client:
        answer = await client.post(CONVERSATIONS, json={"items": [said("x" * 1200)]})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (400, "store_quota_exceeded")
        made = await new(client, said("x" * 800))
        more = {"items": [said("x" * 800)]}
        assert (await client.post(f"{CONVERSATIONS}/{made}/items", json=more)).status_code == 200
        status, error = await refused(client, conversation=made)
        assert (status, error["code"]) == (400, "context_length_exceeded")
        assert error["param"] == "conversation"


async def test_a_conversation_expires_after_its_last_change(
    service: Service, upstream: ScriptedUpstream, location: Location
) -> None:
    time = DatabaseTime()
    async with service(time, conversation_days=10) as client:
        made, other = await new(client, said("one")), await new(client, said("one"))
        item = (await items_of(client, made))[0]["id"]
        time.offset_s = 9 * 86400.0
        await ask(client, conversation=made)
        time.offset_s = 18 * 86400.0
        assert (await client.get(f"{CONVERSATIONS}/{made}")).status_code == 200
        assert (await client.get(f"{CONVERSATIONS}/{other}")).status_code == 404
        time.offset_s = 20 * 86400.0
        status, error = await refused(client, conversation=made)
        assert (status, error["param"]) == (404, "conversation")
        reference = {"type": "item_reference", "id": item}
        status, _ = await refused(client, input=[reference])
        assert status == 404
    assert len(messages(upstream.calls[0])) == 2
    assert list(problems(location)) == []
