"""Clients that send the whole conversation each time: stored once, and nobody sees a difference."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Raw

from tests.service.responses_api import PATH
from tests.service.wire import ScriptedUpstream
from translator.service.config.store import Location
from translator.service.database.connection import Connection, reading, writing
from translator.service.database.schema import migrate
from translator.service.database.statement import DatabaseTime, Statement
from translator.service.store import statements as sql
from translator.service.store.keep import Draft, keep
from translator.service.store.recall import ParentMissing, recall
from translator.service.store.removal import delete
from translator.service.store.resends import Beginning, beginning
from translator.service.store.room import ROOM
from translator.service.store.shown import canonical, canonical_output, item_resource
from translator.service.store.sweep import step
from translator.service.store.upkeep import problems
from translator.wire.deltas import Logprob
from translator.wire.items import (
    CustomToolCall,
    FunctionCall,
    Message,
    OutputItem,
    OutputRefusal,
    OutputText,
    Reasoning,
    ReasoningText,
    SummaryText,
    ToolSearchCall,
    UrlCitation,
)
from translator.wire.responses import Response

from .running import begin, ended
from .storing import Service, ask, counts, messages, refused, think
from .test_model import emptied

pytestmark = pytest.mark.anyio

DAY_S = 86400.0
OWNERS = ("anna", "bob")
SALT = "0123456789abcdef" * 2


# --- real clients ------------------------------------------------------------------------------


def langchain(item: dict[str, Any]) -> dict[str, Any]:
    """As langchain-openai 1.7 writes an item of the output: text has no status and no logprobs."""
    if item["type"] != "message":
        return dict(reversed(item.items()))
    [part] = item["content"]
    text = {"type": "output_text", "text": part["text"], "annotations": []}
    return {"type": "message", "content": [text], "role": "assistant", "id": item["id"]}


def agents(item: dict[str, Any]) -> dict[str, Any]:
    """As openai-agents 0.24 does: whole, in another order."""
    return dict(reversed(item.items()))


def without_ids(item: dict[str, Any]) -> dict[str, Any]:
    """Whoever leaves ids out where they are not needed."""
    found = langchain(item)
    if item["type"] != "reasoning":
        del found["id"]
    return found


@pytest.mark.parametrize("client", [langchain, agents, without_ids])
async def test_full_resend_twenty_turns(
    service: Service,
    upstream: ScriptedUpstream,
    location: Location,
    client: Callable[[dict[str, Any]], dict[str, Any]],
) -> None:
    """What is stored grows by what is new; what is shown, and continued, is what was sent."""
    upstream.script = think("hm", "Hello")
    history: list[dict[str, Any]] = []
    async with service() as http:
        for turn in range(20):
            history.append({"role": "user", "content": f"{turn}"})
            response = await ask(http, input=history, stream=turn % 2 == 0)
            assert response["previous_response_id"] is None
            whole = messages(upstream.calls[-1])
            seen = list(history)
            history += map(client, response["output"])
        assert counts(location) == [20, 20, 20, 60, 60]
        path = f"{PATH}/{response['id']}"
        assert (await http.get(path)).json() == response
        page = (await http.get(f"{path}/input_items?order=asc&limit=100")).json()["data"]
        assert len(page) == len(seen)
        for shown, sent in zip(page, seen, strict=True):
            assert shown["id"] == sent.get("id", shown["id"])
            if sent.get("role") == "user":
                assert shown["content"] == [{"type": "input_text", "text": sent["content"]}]
        await ask(http, input="More?", previous_response_id=response["id"])
        chained = messages(upstream.calls[-1])
        assert [one["content"] for one in chained] == [
            *(one["content"] for one in whole),
            "Hello",
            "More?",
        ]


IDS = st.from_regex(r"[a-z]{1,3}_[0-9a-f]{1,3}", fullmatch=True)
SAID = st.text(max_size=9) | st.just('"id":"msg_1",') | st.just('{"id":"a_1","b":1}')
CITED = st.lists(st.builds(UrlCitation, st.integers(0, 9), st.integers(0, 9), SAID, SAID))
PROBABLE = st.lists(
    st.builds(Logprob, SAID, st.floats(-1e3, 0), st.lists(st.integers(0, 255)), st.just([]))
)
PARTS = st.builds(OutputText, SAID, CITED, PROBABLE) | st.builds(OutputRefusal, SAID)
STATUS = st.sampled_from(["completed", "incomplete"])
OUTPUT: st.SearchStrategy[OutputItem] = st.one_of(
    st.builds(Message, IDS, STATUS, st.lists(PARTS, max_size=2)),
    st.builds(
        Reasoning,
        IDS,
        st.lists(st.builds(SummaryText, SAID), max_size=2),
        st.just(msgspec.UNSET) | st.lists(st.builds(ReasoningText, SAID), max_size=2),
        st.just(msgspec.UNSET) | SAID,
    ),
    st.builds(FunctionCall, IDS, IDS, SAID, SAID, STATUS, st.just(msgspec.UNSET) | SAID),
    st.builds(CustomToolCall, IDS, IDS, SAID, SAID, STATUS),
    st.builds(ToolSearchCall, IDS, IDS, st.just(Raw(b'{"b":1,"a":{"id":"a_1"}}')), STATUS),
)


@given(item=OUTPUT)
def test_canonical_output_is_that_of_its_json(item: OutputItem) -> None:
    """What a response says has the digest that it has when its client sends it again."""
    body = msgspec.json.encode(item)
    meaning = canonical_output(item, body)
    assert meaning is not None
    assert meaning == canonical(body)
    fields = msgspec.json.decode(meaning)
    assert fields == {k: v for k, v in msgspec.json.decode(body).items() if k != "id"}


async def test_a_shared_parent_may_go(
    service: Service, upstream: ScriptedUpstream, location: Location
) -> None:
    """What was sent again is the later response's own: it outlives the earlier one."""
    time = DatabaseTime()
    async with service(time) as http:
        first = await ask(http, input=[{"role": "user", "content": "one"}])
        said = first["output"][0]
        sent = [{"role": "user", "content": "one"}, said, {"role": "user", "content": "two"}]
        second = await ask(http, input=sent)
        assert counts(location)[3] == 4
        reference = {"type": "item_reference", "id": said["id"]}
        for way in ("deleted", "expired"):
            if way == "deleted":
                assert (await http.delete(f"{PATH}/{first['id']}")).status_code == 200
            else:
                time.offset_s = 20 * DAY_S
                second = await ask(http, input=[*sent, *second["output"], sent[-1]])
                time.offset_s = 31 * DAY_S
            for parent in (first["id"], "resp_0"):
                status, error = await refused(http, previous_response_id=parent)
                assert (status, error["code"]) == (400, "previous_response_not_found")
            await ask(http, input=[reference], store=False)
            await ask(http, previous_response_id=second["id"], store=False)
            assert [one["content"] for one in messages(upstream.calls[-1])][:3] == [
                *("one", said["content"][0]["text"], "two")
            ]
        assert (await http.delete(f"{PATH}/{second['id']}")).status_code == 200
        status, _ = await refused(http, input=[reference])
        assert status == 404


async def test_references_are_resent_too(
    service: Service, upstream: ScriptedUpstream, location: Location
) -> None:
    """As the AI SDK sends a conversation: what is new is stored alone."""
    upstream.script = think("hm", "Hello")
    history: list[dict[str, Any]] = []
    async with service() as http:
        for turn in range(5):
            history.append({"role": "user", "content": f"{turn}"})
            response = await ask(http, input=history)
            history += [{"type": "item_reference", "id": one["id"]} for one in response["output"]]
    assert counts(location) == [5, 5, 5, 15, 15]


# --- beside a store without digests ------------------------------------------------------------


class Twin:
    """A store with digests and one without, to which the same is done."""

    def __init__(self, one: Connection, other: Connection) -> None:
        self.stores = {True: one, False: other}
        self.numbers = itertools.count(1)
        self.day = 0
        self.sent: dict[str, tuple[str, list[dict[str, Any]]]] = {}
        """Each response: its owner, and its context with its output, as a client has it."""
        self.without_id: set[str] = set()
        """Ids of items that a client has sent back without them: their copies get others."""

    def turn(
        self, owner: str, after: int, way: str, shape: int, said: list[int], again: int
    ) -> None:
        """A turn after another: it resends all, or names the response, and may refer to an item."""
        number = next(self.numbers)
        known = [one for one, (whose, _) in self.sent.items() if whose == owner]
        before = known[after % len(known)] if known and after >= 0 else None
        new = [{"type": "message", "role": "user", "content": f"text {text}"} for text in said]
        parent, history = None, list[dict[str, Any]]()
        if before is not None:
            history = list(self.sent[before][1])
            parent = before if way == "named" else None
        shaped = [self.shape(item, (shape + at) % 4) for at, item in enumerate(history)]
        if way == "refers":
            shaped = [
                {"type": "item_reference", "id": one["id"]} if self.may_refer(one) else one
                for one in shaped
            ]
        source = new if parent is not None else [*shaped, *new]
        for item, one in zip(history, shaped, strict=True):
            if "id" in item and "id" not in one:
                self.without_id.add(item["id"])
        output: list[Any] = [
            Reasoning(f"o_rs{number}", [SummaryText(f"thought {again}")]),
            Message(f"o_m{number}", "completed", [OutputText(f"answer {again}", [], [])]),
            FunctionCall(f"o_fc{number}", f"call_{again}", "f", "{}", "completed"),
        ][again % 2 :]
        sealed = [
            msgspec.structs.replace(one, encrypted_content=f"seal {number}")
            if isinstance(one, Reasoning)
            else one
            for one in output
        ]
        response = Response(f"resp_{number}", 1, "m", status="completed", output=output, store=True)
        raws = [Raw(msgspec.json.encode(one)) for one in source]
        done: set[bool] = set()
        for digests, connection in self.stores.items():
            try:
                with reading(connection):
                    found = recall(connection, owner, parent, raws, max_chain=1000, max_bytes=10**9)
                    begins = Beginning()
                    if digests and parent is None:
                        begins = beginning(connection, owner, SALT, found.items, found.stored)
                draft = Draft(
                    owner, response, sealed, found.items, found.parent, 30 * DAY_S,
                    found.stored, SALT if digests else None, begins,
                )  # fmt: skip
                with writing(connection):
                    keep(connection, draft, lambda kind: f"{kind}new{next(self.numbers)}")
                done.add(True)
            except ParentMissing:
                done.add(False)
        assert len(done) == 1
        if done == {True}:
            made = [msgspec.json.decode(msgspec.json.encode(one)) for one in output]
            self.sent[response.id] = owner, [*history, *new, *made]

    def may_refer(self, item: dict[str, Any]) -> bool:
        item_id = item.get("id", "")
        return item_id.startswith("o_") and item_id not in self.without_id

    @staticmethod
    def shape(item: dict[str, Any], way: int) -> dict[str, Any]:
        """An item as one client or another sends it back."""
        if way == 0:
            return item
        shaped = dict(reversed(item.items()))
        if way == 2:
            shaped.pop("status", None)
        if way == 3 and item.get("type") != "reasoning":
            shaped.pop("id", None)
        if way == 1 and item.get("role") == "assistant":
            shaped["content"] = [
                {"type": "output_text", "text": one["text"]} for one in item["content"]
            ]
        return shaped

    def delete(self, index: int) -> None:
        if self.sent:
            response_id = list(self.sent)[index % len(self.sent)]
            for connection in self.stores.values():
                with writing(connection):
                    delete(connection, self.sent[response_id][0], response_id)

    def wait(self, days: int) -> None:
        self.day += days
        for connection in self.stores.values():
            connection.time.offset_s = self.day * DAY_S

    def sweep(self) -> None:
        for connection in self.stores.values():
            for _ in range(1000):
                with writing(connection):
                    if not step(connection, 3600.0):
                        break
            else:
                pytest.fail("the sweep does not end")

    def check(self) -> None:
        for one, other in zip(self.seen(True), self.seen(False), strict=True):
            assert one.keys() == other.keys()
            for name, mine in one.items():
                if name in ("shown", "upstream"):
                    self.check_items(mine, other[name])
                else:
                    assert mine == other[name]

    @staticmethod
    def check_items(mine: list[Any], theirs: list[Any]) -> None:
        """The same items; an id may differ from one that the other store had to make."""
        assert [rest for _, rest in mine] == [rest for _, rest in theirs]
        for (one, _), (other, _) in zip(mine, theirs, strict=True):
            assert one == other or other is None or "new" in other

    def seen(self, digests: bool) -> list[dict[str, Any]]:
        """All that can be seen of a store."""
        connection = self.stores[digests]
        seen: list[dict[str, Any]] = []
        ids = sorted({one["id"] for _, sent in self.sent.values() for one in sent if "id" in one})
        source = [
            Raw(msgspec.json.encode({"id": one})) for one in ids if one not in self.without_id
        ]
        with reading(connection):
            for owner in OWNERS:
                found = recall(connection, owner, None, source, max_chain=9, max_bytes=9)
                seen.append({one: bytes(body) for one, body in found.resolved.items()})
                seen += [self.response(connection, owner, one) for one in self.sent]
        return seen

    def response(self, connection: Connection, owner: str, response_id: str) -> dict[str, Any]:
        rows = connection.execute(sql.RESPONSE, {"owner": owner, "id": response_id})
        if not rows:
            return {}
        values = {"n": rows[0][0]}
        rows = connection.execute(sql.CHAIN_IDS, values | {"stops": 0})
        listed = [(key, item_id) for key, item_id, *_ in rows]
        assert len({item_id for _, item_id in listed}) == len(listed)
        keys = msgspec.json.encode([key for key, _ in listed]).decode()
        rows = connection.execute(sql.ITEM_BODIES, {"ids": keys})
        bodies = {key: bytes(body) for key, _, body in rows}
        found = recall(connection, owner, response_id, [], max_chain=1000, max_bytes=10**9)
        assert found.parent is not None
        return {
            "shown": [self.plain(item_resource(one, bodies[key])) for key, one in listed],
            "body": bytes(connection.execute(sql.BODY, values)[0][0]),
            "output": [bytes(body) for (body,) in connection.execute(sql.OUTPUT, values)],
            "upstream": [self.plain(raw) for raw in found.earlier or ()],
            "links": found.parent.chain,
        }

    @staticmethod
    def plain(raw: Raw) -> tuple[str | None, Any]:
        """An item's id, and the rest of it as a resource."""
        item_id = msgspec.json.decode(raw).get("id")
        shown = msgspec.json.decode(item_resource("", raw))
        del shown["id"]
        return item_id, shown


SMALL = st.integers(-1, 5)
ACTIONS: st.SearchStrategy[Callable[[Twin], None]] = st.one_of(
    *[
        st.builds(
            lambda *args: lambda twin: twin.turn(*args),
            st.sampled_from(OWNERS), SMALL, st.sampled_from(["all", "all", "named", "refers"]),
            st.integers(0, 3), st.lists(st.integers(0, 2), max_size=2), st.integers(0, 3),
        )
        for _ in range(3)
    ],
    st.builds(lambda at: lambda twin: twin.delete(at), st.integers(0, 9)),
    st.builds(lambda days: lambda twin: twin.wait(days), st.integers(1, 25)),
    st.just(lambda twin: twin.sweep()),
)  # fmt: skip


@contextmanager
def twins(location: Location, file: Path) -> Iterator[Twin]:
    other = Location("sqlite", str(file))
    with emptied(location) as one, emptied(other) as two:
        yield Twin(one, two)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ACTIONS, max_size=12))
def test_digests_change_nothing_that_is_seen(
    location: Location, tmp_path: Path, actions: list[Callable[[Twin], None]]
) -> None:
    """Lists, contexts, references, and what is found, after each step; at the end nothing is left."""
    other = Location("sqlite", str(tmp_path / "other.db"))
    migrate(other, ROOM)
    with twins(location, Path(other.target)) as twin:
        for action in actions:
            action(twin)
            twin.check()
        assert list(problems(location)) == []
        twin.wait(1000)
        twin.sweep()
        for connection in twin.stores.values():
            assert rows_of(connection) == 0


def rows_of(connection: Connection) -> int:
    names = ("threads", "responses", "bodies", "items", "response_items", "owners")
    parts = " + ".join(f"(SELECT count(*) FROM resp_{name})" for name in names)
    return int(connection.execute(Statement(f"SELECT {parts}"))[0][0])


async def test_what_ran_in_the_background_is_resent_too(
    service: Service, upstream: ScriptedUpstream, location: Location
) -> None:
    """Its digest is complete when it has ended; and so are the bytes of its client."""
    history: list[dict[str, Any]] = []
    async with service() as http:
        for turn in range(4):
            history.append({"role": "user", "content": f"{turn}"})
            queued = await begin(http, input=history)
            response = await ended(http, queued["id"])
            assert response["status"] == "completed"
            history += response["output"]
        await ask(http, input="More?", previous_response_id=response["id"], store=False)
        assert len(messages(upstream.calls[-1])) == 9
    assert counts(location) == [4, 4, 4, 8, 8]
    assert list(problems(location)) == []
