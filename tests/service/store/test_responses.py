"""Stored responses over HTTP: what is stored, continued, shown and deleted."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.service.chat_bodies import HELLO, chunk
from tests.service.responses_api import PATH
from tests.service.wire import Call, ScriptedUpstream, say_hello
from translator.__main__ import main
from translator.service.config.store import Location
from translator.service.database.statement import DatabaseTime

from .storing import ANNA, BOB, DONE, Service, ask, bytes_of, counts, messages, refused, think

pytestmark = pytest.mark.anyio

# --- objects -----------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
async def test_get_equals_terminal(service: Service, stream: bool) -> None:
    async with service() as client:
        response = await ask(client, stream=stream, metadata={"a": "b"}, instructions="Be brief.")
        assert response["store"] is True
        answer = await client.get(f"{PATH}/{response['id']}")
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-store"
        assert answer.json() == response
        without_prefix = await client.get(f"/responses/{response['id']}?include[]=x&stream=false")
        assert without_prefix.json() == response
    async with service() as client:  # another process
        assert (await client.get(f"{PATH}/{response['id']}")).json() == response


@pytest.mark.parametrize("stream", [True, False])
async def test_store_false_writes_nothing(
    service: Service, location: Location, stream: bool
) -> None:
    """And its response is found by nothing."""
    before = bytes_of(location)
    async with service() as client:
        response = await ask(client, stream=stream, store=False)
        assert response["store"] is False
        assert (await client.get(f"{PATH}/{response['id']}")).status_code == 404
        status, error = await refused(client, previous_response_id=response["id"])
        assert (status, error["code"]) == (400, "previous_response_not_found")
    assert bytes_of(location) == before


async def test_a_foreign_path_of_a_response(service: Service) -> None:
    async with service() as client:
        response = await ask(client)
        for method, path, status, code in [
            ("POST", f"{PATH}/{response['id']}", 405, None),
            ("GET", f"{PATH}/{response['id']}/cancel", 405, None),
            ("POST", f"{PATH}/{response['id']}/cancel", 400, None),
            ("POST", f"{PATH}/resp_0/cancel", 404, None),
            ("GET", f"{PATH}/{response['id']}?stream=true", 400, "invalid_value"),
            ("GET", f"{PATH}/{response['id']}?stream=maybe", 400, "invalid_value"),
            ("GET", "/v1/conversations", 405, None),
        ]:
            answer = await client.request(method, path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), path
        cancelled = await client.post(f"{PATH}/{response['id']}/cancel")
        assert cancelled.json()["error"]["message"] == "Cannot cancel a synchronous response."


async def test_parent_failed(service: Service, upstream: ScriptedUpstream) -> None:
    async def breaks(call: Call) -> None:
        await call.head()
        await call.send(*HELLO[:2])
        await call.cut(HELLO[2])

    upstream.script = breaks
    async with service() as client:
        response = await ask(client, stream=True)
        assert response["status"] == "failed"
        assert (await client.get(f"{PATH}/{response['id']}")).json() == response
        status, error = await refused(client, previous_response_id=response["id"])
        assert (status, error["code"]) == (400, "previous_response_not_found")


async def test_delete_twice(service: Service, location: Location) -> None:
    empty = bytes_of(location)
    async with service() as client:
        response = await ask(client)
        path = f"{PATH}/{response['id']}"
        answer = await client.delete(path)
        assert answer.status_code == 200
        assert answer.json() == {"id": response["id"], "object": "response", "deleted": True}
        missing = {
            "message": f"Response with id '{response['id']}' not found.",
            "type": "invalid_request_error",
            "param": None,
            "code": None,
        }
        for again in (await client.delete(path), await client.get(path)):
            assert (again.status_code, again.json()) == (404, {"error": missing})
    assert bytes_of(location) == empty


async def test_deleting_a_link_leaves_what_goes_on_from_it_its_context(
    service: Service, upstream: ScriptedUpstream, location: Location
) -> None:
    """And frees it with the last of them."""
    async with service() as client:
        first = await ask(client, input="one")
        second = await ask(client, input="two", previous_response_id=first["id"])
        whole = await ask(client, input="three", previous_response_id=second["id"])
        assert (await client.delete(f"{PATH}/{first['id']}")).status_code == 200
        status, _ = await refused(client, previous_response_id=first["id"])
        assert status == 400
        reference = {"type": "item_reference", "id": first["output"][0]["id"]}
        status, _ = await refused(client, input=[reference])
        assert status == 404
        again = await ask(client, input="three", previous_response_id=second["id"])
        assert messages(upstream.calls[-1]) == messages(upstream.calls[-2])
        for one in (second, whole, again):
            assert (await client.delete(f"{PATH}/{one['id']}")).status_code == 200
    assert counts(location) == [0, 0, 0, 0, 0]


# --- chains ----------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
async def test_chain_of_three_http_sealed_though_not_asked(
    service: Service, upstream: ScriptedUpstream, stream: bool
) -> None:
    """The same chat request, with the reasoning of each turn, though nobody asked for it."""
    async with service() as client:
        parent: dict[str, Any] = {}
        said: list[Any] = []
        for turn in range(3):
            upstream.script = think(f"thought {turn}", f"answer {turn}")
            new = {"role": "user", "content": f"question {turn}"}
            chained = await ask(client, input=[new], stream=stream, **parent)
            assert chained["previous_response_id"] == parent.get("previous_response_id")
            assert not any("encrypted_content" in item for item in chained["output"])
            in_full = await ask(
                client,
                input=[*said, new],
                stream=stream,
                store=False,
                include=["reasoning.encrypted_content"],
            )
            assert upstream.calls[-2].body == upstream.calls[-1].body
            said += [new, *in_full["output"]]
            parent = {"previous_response_id": chained["id"]}
        assert "thought 1" in json.dumps(messages(upstream.calls[-1]))


async def test_chain_branches(service: Service, upstream: ScriptedUpstream) -> None:
    async with service() as client:
        root = await ask(client, input="root")
        left = await ask(client, input="left", previous_response_id=root["id"])
        await ask(client, input="right", previous_response_id=root["id"])
        sent = [one["content"] for one in messages(upstream.calls[-1]) if one["role"] == "user"]
        assert sent == ["root", "right"]
        await ask(client, input="more", previous_response_id=left["id"])
        sent = [one["content"] for one in messages(upstream.calls[-1]) if one["role"] == "user"]
        assert sent == ["root", "left", "more"]


async def test_instructions_not_inherited_tools_not_inherited_additional_tools_inherited(
    service: Service, upstream: ScriptedUpstream
) -> None:
    tool = {"type": "function", "name": "f", "parameters": {"type": "object"}}
    declared = {"type": "additional_tools", "role": "developer", "tools": [tool | {"name": "g"}]}
    async with service() as client:
        first = await ask(
            client,
            input=[{"role": "user", "content": "Hi"}, declared],
            instructions="Be brief.",
            tools=[tool],
        )
        await ask(client, input="And?", previous_response_id=first["id"])
        assert messages(upstream.calls[-1])[0]["role"] == "user"
        names = [one["function"]["name"] for one in upstream.calls[-1].json["tools"]]
        assert names == ["g"]


async def test_a_call_is_answered_in_the_next_turn(
    service: Service, upstream: ScriptedUpstream
) -> None:
    async def calls(call: Call) -> None:
        function = {"name": "f", "arguments": "{}"}
        await call.head()
        await call.send(
            chunk(
                {"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": function}]}
            ),
            chunk({}, "tool_calls"),
            DONE,
        )
        await call.end()

    tools = [{"type": "function", "name": "f", "parameters": {"type": "object"}}]
    async with service() as client:
        upstream.script = calls
        first = await ask(client, stream=True, tools=tools)
        upstream.script = say_hello
        result = {"type": "function_call_output", "call_id": "c1", "output": "sunny"}
        parent = {"previous_response_id": first["id"], "tools": tools}
        await ask(client, input=[result], **parent)
        roles = [one["role"] for one in messages(upstream.calls[-1])]
        assert roles == ["user", "assistant", "tool"]
        await ask(client, input=[], **parent)  # as LangChain does: the call has no output
        assert [one["role"] for one in messages(upstream.calls[-1])] == roles
        status, error = await refused(client, input=[result | {"call_id": "c2"}], **parent)
        assert (status, error["param"]) == (400, "input[0].call_id")


async def test_store_false_reads_a_chain_and_writes_nothing(
    service: Service, upstream: ScriptedUpstream, location: Location
) -> None:
    async with service() as client:
        first = await ask(client, input="one")
        before = bytes_of(location)
        second = await ask(client, input="two", previous_response_id=first["id"], store=False)
        assert second["store"] is False
        assert len(messages(upstream.calls[-1])) == 3
        counted = await client.post(
            f"{PATH}/input_tokens",
            json={"model": "m", "input": "two", "previous_response_id": first["id"]},
        )
        alone = await client.post(f"{PATH}/input_tokens", json={"model": "m", "input": "two"})
        assert counted.json()["input_tokens"] > alone.json()["input_tokens"]
        compacted = await client.post(
            f"{PATH}/compact", json={"model": "m", "previous_response_id": first["id"]}
        )
        assert compacted.status_code == 200, compacted.text
        status, _ = await refused(client, previous_response_id=compacted.json()["id"])
        assert status == 400
        assert bytes_of(location) == before


async def test_parent_unknown_parent_foreign_parent_deleted_parent_expired_parent_store_false(
    upstream: ScriptedUpstream, service: Service
) -> None:
    """Unknown, of another client, deleted, expired, not stored; nothing goes upstream."""
    time = DatabaseTime()
    anna, bob = ({"authorization": f"Bearer {key}"} for key in (ANNA, BOB))
    async with service(time, clients=True) as client:
        foreign = await ask(client, headers=bob)
        unstored = await ask(client, headers=anna, store=False)
        deleted = await ask(client, headers=anna)
        await client.delete(f"{PATH}/{deleted['id']}", headers=anna)
        expired = await ask(client, headers=anna)
        child = {"previous_response_id": expired["id"], "headers": anna}
        await ask(client, **child)
        time.offset_s = 31 * 86400.0
        count = len(upstream.calls)
        for parent in ("resp_0", *(one["id"] for one in (foreign, unstored, deleted, expired))):
            status, error = await refused(client, headers=anna, previous_response_id=parent)
            assert (status, error) == (
                400,
                {
                    "message": f"Previous response with id '{parent}' not found.",
                    "type": "invalid_request_error",
                    "param": "previous_response_id",
                    "code": "previous_response_not_found",
                },
            )
        assert len(upstream.calls) == count


async def test_a_chain_expires_after_its_last_turn(service: Service, location: Location) -> None:
    """As a whole: no turn loses what it goes on from. Then it is deleted."""
    time = DatabaseTime()
    async with service(time) as client:
        first = last = await ask(client)
        for day in (20, 40, 60):
            time.offset_s = day * 86400.0
            last = await ask(client, previous_response_id=last["id"])
        time.offset_s = 89 * 86400.0
        assert (await client.get(f"{PATH}/{first['id']}")).status_code == 200
        time.offset_s = 91 * 86400.0
        for one in (first, last):
            assert (await client.get(f"{PATH}/{one['id']}")).status_code == 404
            page = await client.get(f"{PATH}/{one['id']}/input_items")
            assert page.status_code == 404
    assert counts(location)[1] == 4


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"previous_response_id": ""}, "invalid_value"),
        ({"previous_response_id": 5}, "invalid_type"),
        ({"previous_response_id": None, "input": []}, "missing_required_parameter"),
    ],
)
async def test_a_faulty_parent(service: Service, fields: Any, code: str) -> None:
    async with service() as client:
        status, error = await refused(client, **fields)
        assert (status, error["code"]) == (400, code)


async def test_a_chain_has_a_bound(service: Service, upstream: ScriptedUpstream) -> None:
    async with service(max_chain_responses=2) as client:
        first = await ask(client)
        second = await ask(client, previous_response_id=first["id"])
        status, error = await refused(client, previous_response_id=second["id"])
        assert (status, error["param"]) == (400, "previous_response_id")
        assert "as many as it may have" in error["message"]
    async with service(server={"max_input_items": 3}) as client:
        status, error = await refused(client, previous_response_id=second["id"])
        assert (status, error["code"]) == (400, "array_above_max_length")
    assert len(upstream.calls) == 2


# --- input items -----------------------------------------------------------------------------


async def test_input_items_string_input(service: Service, upstream: ScriptedUpstream) -> None:
    """A text is a message, whose id stays the same; the list is all that the response saw."""
    upstream.script = think("hm", "Hello")
    async with service() as client:
        first = await ask(client, input="one")
        second = await ask(
            client, input=[{"role": "user", "content": "two"}], previous_response_id=first["id"]
        )
        page = (await client.get(f"{PATH}/{second['id']}/input_items")).json()
        assert {name: page[name] for name in ("object", "has_more")} == {
            "object": "list",
            "has_more": False,
        }
        two, message, reasoning, one = page["data"]
        assert [page["first_id"], page["last_id"]] == [two["id"], one["id"]]
        assert two == {
            "id": two["id"],
            "type": "message",
            "role": "user",
            "status": "completed",
            "content": [{"type": "input_text", "text": "two"}],
        }
        assert one["content"] == [{"type": "input_text", "text": "one"}]
        assert [message, reasoning] == first["output"][::-1]
        assert message["content"][0]["annotations"] == message["content"][0]["logprobs"] == []
        again = (await client.get(f"{PATH}/{second['id']}/input_items")).json()
        assert again == page  # ids are stable


async def test_input_items_pages(service: Service) -> None:
    said = [{"role": "user", "content": f"{n}"} for n in range(47)]
    async with service() as client:
        response = await ask(client, input=said)
        path = f"{PATH}/{response['id']}/input_items"

        async def texts(**query: Any) -> list[str]:
            found: list[str] = []
            more: dict[str, Any] = {}
            while True:
                page = (await client.get(path, params=query | more)).json()
                found += [one["content"][0]["text"] for one in page["data"]]
                if not page["has_more"]:
                    return found
                more = {"after": page["last_id"]}

        ascending = [one["content"] for one in said]
        for limit in (1, 20, 46, 47, 100):
            assert await texts(limit=limit, order="asc") == ascending
            assert await texts(limit=limit) == ascending[::-1]
        page = (await client.get(path)).json()
        assert (len(page["data"]), page["has_more"]) == (20, True)
        last = (await client.get(path, params={"order": "asc", "limit": 100})).json()["last_id"]
        assert (await client.get(path, params={"order": "asc", "after": last})).json() == {
            "object": "list", "data": [], "first_id": "", "last_id": "", "has_more": False,
        }  # fmt: skip
        for name, value in [
            ("limit", "0"),
            ("limit", "101"),
            ("limit", "x"),
            ("order", "up"),
            ("after", "msg_0"),
        ]:
            answer = await client.get(path, params={name: value})
            error = answer.json()["error"]
            assert (answer.status_code, error["code"], error["param"]) == (
                400,
                "invalid_value",
                name,
            )


# --- owners ----------------------------------------------------------------------------------


async def test_two_clients(service: Service) -> None:
    anna, bob = ({"authorization": f"Bearer {key}"} for key in (ANNA, BOB))
    async with service(clients=True) as client:
        response = await ask(client, headers=anna)
        for method, path in [
            ("GET", ""),
            ("DELETE", ""),
            ("GET", "/input_items"),
            ("POST", "/cancel"),
        ]:
            theirs = await client.request(method, f"{PATH}/{response['id']}{path}", headers=bob)
            unknown = await client.request(method, f"{PATH}/resp_0{path}", headers=bob)
            assert theirs.status_code == unknown.status_code == 404
            assert theirs.text.replace(response["id"], "resp_0") == unknown.text
        assert (await client.get(f"{PATH}/{response['id']}", headers=anna)).json() == response


async def test_empty_key_owner(service: Service, location: Location) -> None:
    """And stands nowhere in the database."""
    secrets = ("sk-hunter-one-1234567890", "sk-hunter-two-1234567890")
    one, two = ({"authorization": f"Bearer {secret}"} for secret in secrets)
    async with service() as client:
        response = await ask(client, headers=one)
        path = f"{PATH}/{response['id']}"
        assert (await client.get(path, headers=one)).status_code == 200
        for other in (two, {}):
            assert (await client.get(path, headers=other)).status_code == 404
    async with service() as client:
        assert (await client.get(path, headers=one)).status_code == 200
    assert not any("sk-hunter" in row for rows in bytes_of(location) for row in rows)


def test_the_command_sees_what_the_service_stored(
    location: Location, capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    """Also after it: `check` finds no damage in what these tests leave."""
    url = location.target if location.kind == "postgresql" else f"sqlite:///{location.target}"
    config = tmp_path / "settings.toml"
    config.write_text(
        f'[upstreams.up]\nbase_url = "http://127.0.0.1:9/v1"\n[store]\nurl = "{url}"\n'
    )
    assert main(["store", "check", "--config", str(config)]) == 0
