"""Chains of responses: how many queries read one, and where a compaction ends it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from tests.service.chat_bodies import COMPLETION
from tests.service.responses_api import PATH
from tests.service.wire import Call, ScriptedUpstream
from translator.service.config.store import Location
from translator.service.database import connection as connections
from translator.service.database.connection import connect, writing
from translator.service.database.statement import DatabaseTime, Statement
from translator.service.store.upkeep import problems

from .storing import Service, ask, messages, refused

pytestmark = pytest.mark.anyio

SUMMARY = "A summary."
TRIGGER = [{"type": "compaction_trigger"}]


async def answers(call: Call) -> None:
    """Answers, or writes a summary where the last message asks for one."""
    summary = "summary" in str(messages(call)[-1]["content"])
    text = SUMMARY if summary else f"answer to {messages(call)[-1]['content']}"
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    await call.answer(COMPLETION | {"choices": [{"index": 0} | choice]})


def change(location: Location, *texts: str) -> None:
    with closing(connect(location, DatabaseTime())) as connection, writing(connection):
        for text in texts:
            connection.change(Statement(text))


async def compacted(client: Any) -> Any:
    """A chain of two turns, and a compaction of it."""
    first = await ask(client, input="one", instructions="Be brief.")
    second = await ask(client, input="two", previous_response_id=first["id"])
    response = await ask(client, input=TRIGGER, previous_response_id=second["id"])
    assert [item["type"] for item in response["output"]] == ["compaction"]
    return response


async def test_compaction_cuts_chain(
    service: Service, upstream: ScriptedUpstream, location: Location
) -> None:
    """Nothing before it is read any more but what it keeps, and nothing is sent that it replaced."""
    upstream.script = answers
    async with service(max_chain_responses=4) as client:
        cut = await compacted(client)
        third = await ask(client, input="three", previous_response_id=cut["id"])
        sent = messages(upstream.calls[-1])
        assert [one["content"] for one in sent[:2]] == ["one", "two"]  # of the user: kept
        assert SUMMARY in sent[2]["content"]
        assert [one["content"] for one in sent[3:]] == ["three"]
        fields: dict[str, Any] = {"previous_response_id": third["id"], "store": False}
        await ask(client, input="four", **fields)
        body = upstream.calls[-1].body
        # The items before it are not looked at: there are none of the answers any more, ...
        change(
            location,
            "DELETE FROM resp_response_items WHERE response IN"
            " (SELECT n FROM resp_responses WHERE depth < 2)",
        )
        await ask(client, input="four", **fields)
        assert upstream.calls[-1].body == body
        # ... and its chain is as long as what follows.
        fifth = await ask(client, input="five", previous_response_id=third["id"])
        assert fifth["store"] is True
        sixth = await ask(client, input="six", previous_response_id=fifth["id"])
        status, error = await refused(client, previous_response_id=sixth["id"])
        assert (status, "as many as it may have" in error["message"]) == (400, True)


async def test_a_cut_changes_nothing_that_is_sent(
    service: Service, upstream: ScriptedUpstream, location: Location
) -> None:
    """What follows is byte for byte what would be sent if all were read."""
    upstream.script = answers
    async with service() as client:
        again = await compacted(client)
        third = await ask(client, input="three", previous_response_id=again["id"])
        twice = await ask(client, input=TRIGGER, previous_response_id=third["id"])
        for response in (again, third, twice):
            await ask(client, previous_response_id=response["id"], store=False)
        cut = [call.body for call in upstream.calls[-3:]]
        change(
            location,
            "UPDATE resp_responses SET cut = 0",
            "DELETE FROM resp_response_items WHERE side = 2",
        )
        for response in (again, third, twice):
            await ask(client, previous_response_id=response["id"], store=False)
        assert [call.body for call in upstream.calls[-3:]] == cut


async def test_what_a_compaction_saw(
    service: Service, upstream: ScriptedUpstream, location: Location
) -> None:
    """It is shown all before it; who goes on from it, what it kept. Its items can be deleted."""
    upstream.script = answers
    async with service() as client:
        cut = await compacted(client)
        third = await ask(client, input="three", previous_response_id=cut["id"])

        async def kinds(response: Any) -> list[str]:
            page = await client.get(f"{PATH}/{response['id']}/input_items?order=asc")
            return [f"{one['type']} {one.get('role', '')}".strip() for one in page.json()["data"]]

        assert await kinds(cut) == [
            *["message user", "message assistant"] * 2,
            "compaction_trigger",
        ]
        assert await kinds(third) == [
            *("message user", "message user", "compaction_trigger", "compaction", "message user")
        ]
        for response in (cut, third):
            assert (await client.delete(f"{PATH}/{response['id']}")).status_code == 200
    assert list(problems(location)) == []


@pytest.mark.parametrize("quota", [0, 10**9])
async def test_an_admission_asks_three_queries_at_most(
    service: Service,
    upstream: ScriptedUpstream,
    location: Location,
    monkeypatch: pytest.MonkeyPatch,
    quota: int,
) -> None:
    """For a chain of any length, with references, and with the quota of its client."""
    asked: list[str] = []

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def execute(self: Any, statement: Statement, values: Any = connections.NO_VALUES) -> Any:
            text = statement.text(self.kind, self.time)
            if "resp_responses" in text or "resp_items" in text or "resp_owners" in text:
                asked.append(text)
            return real(self, statement, values)

        return execute

    for kind in (connections.SqliteConnection, connections.PostgresConnection):
        monkeypatch.setattr(kind, "execute", counted(kind.execute))
    before: list[int] = []

    async def script(call: Call) -> None:
        before.append(len(asked))
        await answers(call)

    upstream.script = script
    async with service(max_client_bytes=quota) as client:
        other = await ask(client, input="other")
        response = await ask(client, input="0")
        for turn in range(6):
            reference = {"type": "item_reference", "id": other["output"][0]["id"]}
            items = [{"role": "user", "content": f"{turn}"}, *([reference] if turn == 3 else [])]
            asked.clear()
            response = await ask(client, input=items, previous_response_id=response["id"])
            assert 2 <= before[-1] <= 3
        asked.clear()
        await ask(client, input="alone")
        assert before[-1] == (1 if quota else 0)
