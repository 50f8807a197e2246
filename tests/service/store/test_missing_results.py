"""Results of hosted tools for clients that send calls back without: the same as by the response."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from tests.rounds import FUNCTION, REQUEST, SEARCH, Loop, Played, call, play, says, search, turn
from tests.service.tools.hosting import Model, hosting, stored
from tests.service.tools.searching import ScriptedWeb, result
from tests.test_round_properties import Script, scripts
from translator import Translation
from translator.common.hosted import Hosted
from translator.request.store_context import StoreContext
from translator.service.base.keys import new_key, store
from translator.service.config.store import Location
from translator.service.database.connection import Connection, reading, writing
from translator.service.database.schema import migrate
from translator.service.store.keep import Draft, keep
from translator.service.store.missing_results import may_lack_results
from translator.service.store.recall import Recalled, recall
from translator.service.store.room import ROOM
from translator.wire.errors import InvalidRequest

from .storing import emptied

MORE = {"role": "user", "content": "More?"}
KEEPS = StoreContext(keeps=True)
ITEM: dict[str, Any] = {**REQUEST, "store": True, "tools": [SEARCH, FUNCTION]}

Form = Callable[[dict[str, Any]], dict[str, Any] | None]


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Location:
    location = Location("sqlite", str(tmp_path_factory.mktemp("store") / "store.db"))
    migrate(location, ROOM)
    return location


@pytest.fixture
def connection(location: Location) -> Iterator[Connection]:
    with emptied(location) as connection:
        yield connection


def raws(items: list[dict[str, Any]]) -> list[Raw]:
    return [Raw(json.dumps(one).encode()) for one in items]


class Stored:
    """A response that was played, and is stored; and the chat requests that may go on from it."""

    def __init__(
        self,
        connection: Connection,
        played: Played,
        request: dict[str, Any],
        hosted: Hosted | None = None,
    ) -> None:
        assert played.translation is not None
        self.hosted = hosted
        self.connection, self.request, self.played = connection, request, played
        self.output = played.output
        translation = played.translation
        draft = Draft(
            "anna",
            translation.response,
            translation.kept_output,
            raws(request["input"]),
            None,
            100.0,
        )
        with writing(connection):
            keep(connection, draft, lambda prefix: f"{prefix}{id(draft)}")
        own = (one for one in self.output if one["type"] == "function_call")
        self.more: list[dict[str, Any]] = [
            {"type": "function_call_output", "call_id": one["call_id"], "output": "done"}
            for one in own
        ]
        self.more.append(MORE)

    def recall(self, source: list[dict[str, Any]], parent: str | None, owner: str) -> Recalled:
        with reading(self.connection):
            return recall(
                self.connection, owner, parent, raws(source), max_chain=9, max_bytes=10**9
            )

    def sent(
        self, source: list[dict[str, Any]], parent: str | None = None, owner: str = "anna"
    ) -> Translation:
        found = self.recall(source, parent, owner)
        request = {**self.request, "input": source}
        if parent is not None:
            request["previous_response_id"] = parent
        context = StoreContext(
            keeps=True,
            resolved=found.resolved,
            duplicates=found.duplicates,
            completed=found.completed,
        )
        loop = Loop(request, store=context, hosted=self.hosted)
        return loop.translation(earlier=found.earlier)

    def by_response(self) -> bytes:
        """The body that goes on by `previous_response_id`."""
        return self.sent(self.more, self.played.response.id).chat_body

    def resent(self, form: Form, owner: str = "anna") -> Translation:
        """The same where the client sends all items, each in a form of its own; None: not at all."""
        items = [made for one in self.output if (made := form(one)) is not None]
        return self.sent([*self.request["input"], *items, *self.more], owner=owner)


def whole(item: dict[str, Any]) -> dict[str, Any]:
    return item


def reference(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "item_reference", "id": item["id"]}


def without_reasoning(item: dict[str, Any]) -> dict[str, Any] | None:
    return None if item["type"] == "reasoning" else item


@given(scripts(), st.data())
@settings(max_examples=30)
def test_the_next_turn_is_the_one_by_the_response(
    room: Location, script: Script, data: st.DataObject
) -> None:
    """Byte for byte, however the client sends back what it was shown."""
    request = {**script.request, "store": True}
    played = dataclasses.replace(script, request=request, dialect="base").play(store=KEEPS)
    if played.response.status == "failed":  # which cannot be continued
        return
    with emptied(room) as connection:
        stored_ = Stored(connection, played, request, script.hosted)
        forms = data.draw(st.lists(st.booleans(), min_size=20, max_size=20))
        drawn = iter([*forms, *[False] * len(stored_.output)])
        sent = stored_.resent(lambda item: reference(item) if next(drawn) else item)
        assert sent.chat_body == stored_.by_response()
        assert not any(one.code == "item_dropped" for one in sent.notices)


@given(scripts())
@settings(max_examples=30)
def test_results_are_found_where_the_client_drops_reasoning(room: Location, script: Script) -> None:
    request = {**script.request, "store": True, "include": []}
    played = dataclasses.replace(script, request=request, dialect="base").play(store=KEEPS)
    if played.response.status == "failed":  # which cannot be continued
        return
    with emptied(room) as connection:
        stored_ = Stored(connection, played, request, script.hosted)
        expected = json.loads(stored_.by_response())["messages"]
        sent = stored_.resent(without_reasoning)
        messages = json.loads(sent.chat_body)["messages"]
    assert [shape(one) for one in messages] == [shape(one) for one in expected]


def shape(message: dict[str, Any]) -> dict[str, Any]:
    """A message without reasoning, which is only the client's to send back."""
    return {name: value for name, value in message.items() if not name.startswith("reasoning")}


TURNS = [
    turn(search("a"), call("act", x=1), reasoning="I look."),
]


def test_items_of_another_owner_are_not_found(connection: Connection) -> None:
    stored_ = Stored(connection, play(ITEM, TURNS, store=KEEPS), ITEM)
    sent = stored_.resent(whole, owner="bob")
    assert [one.code for one in sent.notices] == ["item_dropped"]
    assert "Snippet" not in sent.chat_body.decode()
    assert "Snippet 1." in stored_.resent(whole).chat_body.decode()


def test_what_is_found_is_bounded(connection: Connection) -> None:
    stored_ = Stored(connection, play(ITEM, TURNS, store=KEEPS), ITEM)
    source = raws([*ITEM["input"], *stored_.output])
    with reading(connection):
        found = recall(connection, "anna", None, source, max_chain=9, max_bytes=100)
    assert found.completed == {}


def test_a_call_whose_reasoning_is_there_needs_nothing(connection: Connection) -> None:
    """As it is shown to a client that asks for it, or by a reference."""
    request = {**ITEM, "include": ["reasoning.encrypted_content"]}
    stored_ = Stored(connection, play(request, TURNS, store=KEEPS), request)
    assert stored_.recall(stored_.output, None, "anna").completed == {}
    stored_ = Stored(connection, play(ITEM, TURNS, store=KEEPS), ITEM)
    assert stored_.recall([reference(one) for one in stored_.output], None, "anna").completed == {}


def test_a_faulty_item_is_refused_with_its_own_path(connection: Connection) -> None:
    """Also where reasoning is read behind it, which it lacks."""
    stored_ = Stored(connection, play(ITEM, TURNS, store=KEEPS), ITEM)
    _, searched, acted, _ = stored_.output
    odd = {"type": "web_search_call", "id": 1}
    for faulty, param in ((odd, "input[2].id"), ({**acted, "arguments": 5}, "input[2].arguments")):
        with pytest.raises(InvalidRequest) as refused:
            stored_.sent([*ITEM["input"], searched, faulty, MORE])
        assert refused.value.param == param


def test_only_small_items_with_a_word_of_tools_are_looked_into() -> None:
    assert may_lack_results(raws([{"type": "mcp_call"}]))
    assert may_lack_results(raws([MORE, {"type": "web_search_call"}]))
    assert not may_lack_results(raws([MORE, {"type": "mcp_call", "output": "x" * 2**20}]))


# --- over HTTP ------------------------------------------------------------------------------------


@pytest.fixture
async def news() -> AsyncGenerator[ScriptedWeb]:
    async with ScriptedWeb().running() as web:
        web.results = [result(f"{web.url}/first", "First", "What it is about.")]
        yield web


@pytest.mark.anyio
@pytest.mark.parametrize("form", [whole, reference, without_reasoning])
async def test_a_client_that_keeps_the_conversation_itself_loses_no_results(
    news: ScriptedWeb, tmp_path: Path, form: Form
) -> None:
    """The loop of the SDKs: `input += response.output`; and what follows by the id of that."""
    keys = {name: new_key() for name in ("anna", "bob")}
    clients = {name: {"keys": [str(store(key))]} for name, key in keys.items()}
    bearer = {name: {"authorization": f"Bearer {key}"} for name, key in keys.items()}
    request = {**REQUEST, "store": True, "stream": False}
    model = Model(turn(search("news")), says("So [1]."), says("Yes."), says("Yes."), says("Yes."))
    more = {**stored(tmp_path), "clients": clients}
    async with hosting(model, news, more=more) as client:

        async def ask(name: str = "anna", **fields: Any) -> dict[str, Any]:
            answer = await client.post(
                "/v1/responses", json={**request, **fields}, headers=bearer[name]
            )
            assert answer.status_code == 200, answer.text
            found: dict[str, Any] = answer.json()
            return found

        first = await ask()
        items = [made for one in first["output"] if (made := form(one)) is not None]
        again = [*request["input"], *items, MORE]
        second = await ask(input=again)
        await ask(input=[MORE], previous_response_id=second["id"])
        if form is not reference:  # which another client may not name
            await ask("bob", input=again)
    before = model.bodies[1]["messages"]
    assert model.bodies[2]["messages"][: len(before)] == before
    assert model.bodies[3]["messages"][: len(before)] == before
    if form is not reference:
        assert model.tool_messages(4) == []
