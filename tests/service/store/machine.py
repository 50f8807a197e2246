"""A service that stores beside a model of it, to which the same is done over HTTP.

It has several nodes on one database, and each request goes to the next of them.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import httpx

from tests.service.chat_bodies import COMPLETION, chunk
from tests.service.responses_api import PATH, events
from tests.service.wire import BOUND_S, Call, ScriptedUpstream
from translator.service.config.store import Location
from translator.service.database.connection import connect
from translator.service.database.statement import DatabaseTime, Statement
from translator.service.store.tables import KEYS, META, METADATA
from translator.service.store.upkeep import sweep

from .conversing import CONVERSATIONS, said
from .pluggable import Plug
from .running import RUNNING
from .storing import ANNA, BOB, DONE

DAY_S = 86_400.0
RETENTION_S = 30 * DAY_S
OWNERS = {"anna": ANNA, "bob": BOB}

Item = dict[str, Any]
Pick = int
"""Which of several things is meant, whatever their number is; below 0 none."""


@dataclass
class Conversation:
    """A conversation of the model: its items with their ids, in order.

    `holder` is the response that has its lock, and `locked` whether that is not over.
    """

    owner: str
    id: str
    items: list[Item]
    deleted: bool = False
    locked: bool = False
    holder: object | None = None

    def release(self, holder: object | None = None) -> None:
        """Nobody has its lock; nothing happens where somebody else than `holder` has it."""
        if holder is None or self.holder is holder:
            self.locked, self.holder = False, None


@dataclass
class Stored:
    """A response of the model. `saw` is its context without its own input.

    `chat` is the request that its upstream got; `failed`: nothing goes on from it. `digested`: a
    resend of its context is known to be one.
    """

    owner: str
    body: Item
    saw: list[Item]
    given: list[Item]
    made: list[Item]
    thread: list[float]  # when it expires; one list for all that go on from its first
    chat: bytes = b""
    failed: bool = False
    digested: bool = True
    deleted: bool = False

    @property
    def id(self) -> str:
        response_id: str = self.body["id"]
        return response_id

    @property
    def items(self) -> list[Item]:
        return [*self.given, *self.made]


class Script:
    """An upstream whose answers differ, with reasoning; one may end for its length."""

    def __init__(self) -> None:
        self.number = itertools.count(1)
        self.finish = "stop"
        self.thoughts: dict[str, str] = {}

    async def __call__(self, call: Call) -> None:
        number = next(self.number)
        thought, text = f"Thought {number}.", f"Answer {number}."
        self.thoughts[text] = thought
        if b'"stream":true' not in call.body:
            message = {"role": "assistant", "content": text, "reasoning_content": thought}
            choice = {"index": 0, "message": message, "finish_reason": self.finish}
            await call.answer(COMPLETION | {"choices": [choice]})
            return
        await call.head()
        frames = [chunk({"reasoning_content": thought}), chunk({"content": text})]
        await call.send(*frames, chunk({}, self.finish), DONE)
        await call.end()


class Node(NamedTuple):
    """A service; `plug` is the time of its database."""

    client: httpx.AsyncClient
    plug: Plug


class Machine:
    """The service and the model, to which the same is done; each action checks what it sees."""

    def __init__(
        self, upstream: ScriptedUpstream, location: Location, nodes: Sequence[Node], script: Script
    ) -> None:
        self.upstream = upstream
        self.location = location
        self.nodes = list(nodes)
        self.script = script
        self.responses: list[Stored] = []
        self.conversations: list[Conversation] = []
        self.number = itertools.count()
        self._turn = itertools.count()
        self._unknown = ""
        upstream.script = script
        self.connection = connect(location, DatabaseTime())
        """For looking at the rows."""

    def close(self) -> None:
        self.connection.close()

    @property
    def client(self) -> httpx.AsyncClient:
        """That of the node whose turn it is."""
        return self.nodes[next(self._turn) % len(self.nodes)].client

    @property
    def time(self) -> DatabaseTime:
        return self.nodes[0].plug

    # --- the model ------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """The database's time, without what the test has taken: whole seconds, which are exact."""
        return self.time.offset_s

    def is_found(self, one: Stored, owner: str) -> bool:
        return one.owner == owner and not one.deleted and one.thread[0] > self.now

    def listed(self, owner: str) -> dict[str, Item]:
        """What a reference of a client may name."""
        holders = [one.items for one in self.responses if self.is_found(one, owner)]
        holders += [
            one.items for one in self.conversations if one.owner == owner and not one.deleted
        ]
        return {item["id"]: item for items in holders for item in items}

    # --- actions --------------------------------------------------------------------------------

    async def ask(
        self, owner: str, *, parent: Pick, conversation: Pick, refers: Pick, store: bool | None,
        streamed: bool, cut: bool, background: bool,
    ) -> None:  # fmt: skip
        """A request that goes on from a response or a conversation, and refers to an item."""
        source: list[Item] = [said(f"Question {next(self.number)}")]
        fields: Item = {"model": "m", "include": ["reasoning.encrypted_content"]}
        if store is not None:
            fields["store"] = store
        before = picked(self.responses, parent)
        within = None
        if before is None and not background:
            within = picked(self.conversations, conversation)
        known, found = [], True
        if before is not None:
            fields["previous_response_id"] = before.id
            known = [*before.saw, *before.items]
            found = self.is_found(before, owner) and not before.failed
        elif within is not None:
            fields["conversation"] = within.id
            known, found = list(within.items), within.owner == owner and not within.deleted
        everything = [one for some in (self.responses, self.conversations) for one in some]
        named = picked([item for one in everything for item in one.items], refers)
        given = list(source)
        if named is not None:
            source.append({"type": "item_reference", "id": named["id"]})
            if named["id"] not in {item.get("id") for item in known}:
                given += [item] if (item := self.listed(owner).get(named["id"])) else []
                if item is None and not named["id"].startswith("rs_"):
                    found = False
        if background:
            fields["background"] = True
        elif streamed:
            fields["stream"] = True
        was = self.rows()
        self.script.finish = "length" if cut else "stop"
        asked = len(self.upstream.calls)
        answer = await self.post(owner, PATH, fields | {"input": source})
        if found and within is not None and within.locked and store is not False:
            assert answer.status_code == 400
            assert answer.json()["error"]["code"] == "conversation_locked"
            return
        if not found:
            assert answer.status_code in (400, 404), answer.text
            assert len(self.upstream.calls) == asked
            assert self.rows() == was
            return
        assert answer.status_code == 200, answer.text
        body = await self.polled(owner, answer.json()) if background else body_of(answer, streamed)
        assert body["status"] == ("incomplete" if cut else "completed")
        chat = self.upstream.calls[asked].body
        if store is False and not background:
            assert self.rows() == was
        await self.check_twin(owner, [*known, *given], streamed or background, chat)
        self.check_prefix(before, chat)
        if store is not False:
            await self.remember(owner, body, before, within, known, given, chat)
        elif not background:
            assert not await self.find(owner, body["id"])

    async def check_twin(self, owner: str, items: list[Item], streamed: bool, chat: bytes) -> None:
        """The same context in full, with `store: false`, is the same request for the upstream."""
        fields = {"model": "m", "store": False, "input": items, "stream": streamed}
        answer = await self.post(owner, PATH, fields)
        assert answer.status_code == 200, answer.text
        assert self.upstream.calls[-1].body == chat

    def check_prefix(self, before: Stored | None, chat: bytes) -> None:
        """A request begins with the messages of the one that it goes on from, and its answer."""
        if before is None or not before.chat or not before.made:
            return
        earlier, messages = (json.loads(one)["messages"] for one in (before.chat, chat))
        assert messages[: len(earlier)] == earlier
        said = messages[len(earlier)]
        texts = [item["content"][0]["text"] for item in before.made if item["type"] == "message"]
        assert [said["content"]] == texts
        shown, thought = said.get("reasoning_content", ""), self.script.thoughts.get(texts[0], "")
        if before.given[-1]["type"] == "reasoning":  # by a reference: it precedes the answer's own
            assert shown.endswith(thought)
        else:
            assert shown == thought

    async def remember(
        self, owner: str, body: Item, before: Stored | None, within: Conversation | None,
        known: list[Item], given: list[Item], chat: bytes,
    ) -> None:  # fmt: skip
        """Put a response into the model; its input items have the ids that the service gave them."""
        ids = [item["id"] for item in await self.listing(owner, f"{PATH}/{body['id']}/input_items")]
        assert ids[: len(known)] == [item["id"] for item in known]
        own = [item | {"id": id_} for item, id_ in zip(given, ids[len(known) :], strict=True)]
        thread = [0.0] if before is None else before.thread
        thread[0] = self.now + RETENTION_S
        one = Stored(owner, body, known, own, body["output"], thread, chat)
        one.digested = within is None and (before is None or before.digested)
        self.responses.append(one)
        if within is not None:
            within.release()
            within.items += [*own, *body["output"]]

    async def polled(self, owner: str, body: Item) -> Item:
        """A response in the background when it has ended; its status goes forward alone."""
        seen = [body["status"]]
        async with asyncio.timeout(BOUND_S):
            while body["status"] in RUNNING:
                await asyncio.sleep(0.002)
                answer = await self.get(owner, f"{PATH}/{body['id']}")
                assert answer.status_code == 200, answer.text
                body = answer.json()
                seen.append(body["status"])
        order = [*RUNNING, body["status"]]
        assert seen == sorted(seen, key=order.index)
        return body

    async def delete(self, owner: str, which: Pick) -> None:
        """Delete a response; all that go on from it stay as they are."""
        one = picked(self.responses, which)
        if one is None:
            return
        answer = await self.client.delete(f"{PATH}/{one.id}", headers=key_of(owner))
        found = self.is_found(one, owner)
        assert answer.status_code == (200 if found else 404)
        one.deleted |= found

    async def page(self, owner: str, which: Pick, limit: int) -> None:
        """What a response saw, or a conversation has, page by page in both orders: each item once."""
        lists = {
            f"{PATH}/{one.id}/input_items": [*one.saw, *one.given]
            for one in self.responses
            if self.is_found(one, owner)
        } | {
            f"{CONVERSATIONS}/{one.id}/items": one.items
            for one in self.conversations
            if one.owner == owner and not one.deleted
        }
        path = picked([*lists], which)
        if path is None:
            return
        expected = [item["id"] for item in lists[path]]
        for order in ("asc", "desc"):
            listed = await self.listing(owner, path, limit=limit, order=order)
            ids = [item["id"] for item in listed]
            assert ids == (expected if order == "asc" else expected[::-1])

    async def converse(self, owner: str, count: int) -> None:
        """A new conversation."""
        items = [said(f"Item {next(self.number)}") for _ in range(count)]
        answer = await self.post(owner, CONVERSATIONS, {"items": items})
        assert answer.status_code == 200, answer.text
        one = Conversation(owner, answer.json()["id"], [])
        listed = await self.listing(owner, f"{CONVERSATIONS}/{one.id}/items")
        one.items = [item | {"id": there["id"]} for item, there in zip(items, listed, strict=True)]
        self.conversations.append(one)

    async def append(self, owner: str, which: Pick, count: int) -> None:
        """Items of a client, at the end of a conversation."""
        one = picked(self.conversations, which)
        if one is None:
            return
        items = [said(f"Item {next(self.number)}") for _ in range(count)]
        answer = await self.post(owner, f"{CONVERSATIONS}/{one.id}/items", {"items": items})
        if one.deleted or one.owner != owner:
            assert answer.status_code == 404
            return
        if one.locked:
            assert answer.status_code == 400
            assert answer.json()["error"]["code"] == "conversation_locked"
            return
        one.release()
        made = answer.json()["data"]
        one.items += [item | {"id": there["id"]} for item, there in zip(items, made, strict=True)]

    async def remove(self, owner: str, which: Pick, item: Pick) -> None:
        """Delete an item of a conversation, or the whole of it."""
        one = picked(self.conversations, which)
        if one is None:
            return
        path, gone = f"{CONVERSATIONS}/{one.id}", picked(one.items, item)
        if gone is not None:
            path += f"/items/{gone['id']}"
        answer = await self.client.delete(path, headers=key_of(owner))
        if one.deleted or one.owner != owner:
            assert answer.status_code == 404
            return
        if gone is not None and one.locked:
            assert answer.status_code == 400
            assert answer.json()["error"]["code"] == "conversation_locked"
            return
        assert answer.status_code == 200, answer.text
        if gone is None:
            one.deleted = True
        else:
            one.release()
            one.items.remove(gone)

    async def sweep(self) -> None:
        """All steps of a sweep."""
        deleted = sum(sweep(self.location, self.time, 0.0))
        assert deleted < 10_000

    # --- what must hold always ------------------------------------------------------------------

    async def check(self) -> None:
        """What is found is as it was given; what is not is like what never was."""
        await asyncio.gather(  # since each waits for the database, and there are many
            *(self._check_response(one, owner) for one in self.responses for owner in OWNERS),
            *(self._check_conversation(one) for one in self.conversations),
        )
        kept = repr(self.rows())
        assert not any(key in kept for key in OWNERS.values())

    async def _check_response(self, one: Stored, owner: str) -> None:
        found = await self.find(owner, one.id)
        assert found == (one.body if self.is_found(one, owner) else None)

    async def _check_conversation(self, one: Conversation) -> None:
        for owner in OWNERS:
            answer = await self.get(owner, f"{CONVERSATIONS}/{one.id}")
            expected = 200 if one.owner == owner and not one.deleted else 404
            assert answer.status_code == expected
        if not one.deleted:
            listed = await self.listing(one.owner, f"{CONVERSATIONS}/{one.id}/items")
            assert [item["id"] for item in listed] == [item["id"] for item in one.items]

    async def find(self, owner: str, response_id: str) -> Item | None:
        """A response; None where it is not found, in the words of any unknown id."""
        answer = await self.get(owner, f"{PATH}/{response_id}")
        if answer.status_code == 200:
            found: Item = answer.json()
            return found
        assert answer.status_code == 404
        if not self._unknown:
            unknown = await self.get(owner, f"{PATH}/resp_unknown")
            self._unknown = unknown.text
        assert answer.text.replace(response_id, "resp_unknown") == self._unknown
        return None

    # --- HTTP and rows --------------------------------------------------------------------------

    async def listing(
        self, owner: str, path: str, *, limit: int = 100, order: str = "asc"
    ) -> list[Item]:
        """All pages of a list."""
        found: list[Item] = []
        while True:
            after = f"&after={found[-1]['id']}" if found else ""
            answer = await self.get(owner, f"{path}?limit={limit}&order={order}{after}")
            assert answer.status_code == 200, answer.text
            page = answer.json()
            assert len(page["data"]) <= limit
            found += page["data"]
            if not page["has_more"]:
                return found

    async def get(self, owner: str, path: str) -> httpx.Response:
        return await self.client.get(path, headers=key_of(owner))

    async def post(self, owner: str, path: str, body: Item) -> httpx.Response:
        return await self.client.post(path, json=body, headers=key_of(owner))

    def rows(self) -> list[list[str]]:
        """All rows of the store, but for its keys and what is made with it.

        The time of the latest turn in a conversation is that of a refused one, too.
        """
        return [
            sorted(map(repr, self.connection.execute(Statement(f"SELECT {columns} FROM {name}"))))
            for name, columns in COLUMNS.items()
        ]


COLUMNS = {
    table.name: ", ".join(one.name for one in table.columns if one.name != "touched_at")
    for table in METADATA.sorted_tables
    if table not in (KEYS, META)
}


def key_of(owner: str) -> dict[str, str]:
    return {"authorization": f"Bearer {OWNERS[owner]}"}


def body_of(answer: httpx.Response, streamed: bool) -> Item:
    body: Item = events(answer.content)[-1]["response"] if streamed else answer.json()
    return body


T = TypeVar("T")


def picked(some: Sequence[T], which: Pick) -> T | None:
    return some[which % len(some)] if some and which >= 0 else None
