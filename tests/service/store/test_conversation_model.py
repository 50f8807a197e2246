"""Conversations beside a model of them: whatever is appended, removed, deleted, expired and swept."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Raw

from translator.service.config.store import Location
from translator.service.database.connection import Connection, reading, writing
from translator.service.database.statement import Statement
from translator.service.store import conversation_rows as rows
from translator.service.store.keep import Draft
from translator.service.store.pages import Page
from translator.service.store.places import Key, Missing, Place
from translator.service.store.recall import ParentMissing, recall
from translator.service.store.removal import delete
from translator.service.store.sweep import step
from translator.service.store.upkeep import problems
from translator.wire.items import Message, OutputText
from translator.wire.responses import Response

from .storing import emptied

DAY_S = 86400.0
KEEP_DAYS = 20


@dataclass
class Conversation:
    """A conversation of the model: the ids of its items."""

    id: str
    items: list[str]
    touched: int
    deleted: bool = False


@dataclass
class Answered:
    """A response, and the ids of all that it saw and said."""

    id: str
    context: list[str]
    expires: int
    deleted: bool = False


@dataclass
class Model:
    conversations: list[Conversation] = field(default_factory=list)
    responses: list[Answered] = field(default_factory=list)
    day: int = 0

    def is_found(self, one: Conversation) -> bool:
        return not one.deleted and one.touched + KEEP_DAYS > self.day


class Both:
    """The store and the model, to which the same is done."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.model = Model()
        self._number = itertools.count(1)

    def _id(self, prefix: str) -> str:
        return f"{prefix}{next(self._number)}"

    def _key(self, one: Conversation, owner: str = "anna") -> Key:
        return Key(owner, one.id, KEEP_DAYS * DAY_S)

    def _bodies(self, count: int) -> list[Raw]:
        texts = [{"role": "user", "content": self._id("text ")} for _ in range(count)]
        return [Raw(msgspec.json.encode(one)) for one in texts]

    def _conversation(self, index: int) -> Conversation | None:
        known = self.model.conversations
        return known[index % len(known)] if known else None

    def create(self, count: int) -> None:
        one = Conversation(self._id("conv_"), [], self.model.day)
        with writing(self.connection):
            rows.create(self.connection, self._key(one), b"{}", self._bodies(count), self._id)
        self.model.conversations.append(one)
        one.items = self._listed(one)
        assert len(one.items) == count

    def add(self, index: int, count: int, again: bool) -> None:
        """Also an item that it has already, which stays where it is."""
        one = self._conversation(index)
        if one is None:
            return
        source: list[Raw | int] = [*self._bodies(count)]
        if again and one.items and self.model.is_found(one):
            key = rows.references(self.connection, self._key(one), one.items[:1])
            source += key.values()
        with writing(self.connection):
            found = rows.add(self.connection, self._key(one), source, self._id, 1000)
        if not self.model.is_found(one):
            assert isinstance(found, Missing)
            return
        assert isinstance(found, list)
        one.items += [item for item, _ in found[:count]]
        one.touched = self.model.day

    def remove(self, index: int, at: int) -> None:
        one = self._conversation(index)
        if one is None or not one.items:
            return
        item = one.items[at % len(one.items)]
        with writing(self.connection):
            found = rows.remove(self.connection, self._key(one), item)
        if not self.model.is_found(one):
            assert found is None
            return
        assert isinstance(found, rows.Shown)
        one.items.remove(item)
        one.touched = self.model.day

    def turn(self, index: int, count: int, status: str, deletes: bool) -> None:
        """A response, while which its conversation may be deleted, and swept."""
        one = self._conversation(index)
        if one is None:
            return
        key = self._key(one)
        with writing(self.connection):
            place = rows.lock(self.connection, key, self._id("token"), 30.0)
        if not self.model.is_found(one):
            assert isinstance(place, Missing)
            return
        assert isinstance(place, Place)
        one.touched = self.model.day
        message = Message(self._id("msg_out"), "completed", [OutputText(self._id(""), [], [])])
        response: Any = Response(self._id("resp_"), 1, "m", status=status, output=[message])  # type: ignore[arg-type]
        draft = Draft("anna", response, [message], self._bodies(count), None, 30 * DAY_S)
        if deletes:
            self.delete(index)
            self.sweep()
        for _ in range(2):
            with writing(self.connection):
                rows.keep_at(self.connection, draft, place, self._id)
        own = self._own(response.id)
        assert len(own) == count + 1
        self.model.responses.append(Answered(response.id, [*one.items, *own], self.model.day + 30))
        if status in ("completed", "incomplete") and not deletes:
            one.items += own

    def _own(self, response_id: str) -> list[str]:
        found = self.connection.execute(
            Statement(
                "SELECT i.id FROM resp_response_items x JOIN resp_items i ON i.n = x.item"
                " JOIN resp_responses r ON r.n = x.response WHERE r.id = :id ORDER BY x.pos"
            ),
            {"id": response_id},
        )
        return [item for (item,) in found]

    def delete(self, index: int) -> None:
        one = self._conversation(index)
        if one is None:
            return
        with writing(self.connection):
            assert rows.delete(self.connection, self._key(one)) is self.model.is_found(one)
        one.deleted = True

    def delete_response(self, index: int) -> None:
        if not self.model.responses:
            return
        one = self.model.responses[index % len(self.model.responses)]
        with writing(self.connection):
            found = delete(self.connection, "anna", one.id)
        assert found is (not one.deleted and one.expires > self.model.day)
        one.deleted = True

    def wait(self, days: int) -> None:
        self.model.day += days
        self.connection.time.offset_s = self.model.day * DAY_S + 1.0

    def sweep(self) -> None:
        for _ in range(1000):
            with writing(self.connection):
                if not step(self.connection, 0.0) and not rows.sweep(
                    self.connection, KEEP_DAYS * DAY_S
                ):
                    return
        pytest.fail("the sweep does not end")

    def _listed(self, one: Conversation) -> list[str]:
        with reading(self.connection):
            found = rows.page(self.connection, self._key(one), Page(1000, True, None))
        assert found is not None
        assert not isinstance(found, Exception)
        return [msgspec.json.decode(raw)["id"] for raw in found.data]

    def check(self) -> None:
        for one in self.model.conversations:
            with reading(self.connection):
                there = rows.find(self.connection, self._key(one)) is not None
                assert rows.find(self.connection, self._key(one, "bob")) is None
            assert there is self.model.is_found(one)
            if there:
                assert self._listed(one) == one.items
        for answered in self.model.responses:
            with reading(self.connection):
                if answered.deleted or answered.expires <= self.model.day:
                    with pytest.raises(ParentMissing):
                        self._context(answered)
                else:
                    assert self._context(answered) == answered.context

    def _context(self, one: Answered) -> list[str]:
        found = recall(self.connection, "anna", one.id, [], max_chain=9, max_bytes=10**9)
        assert found.earlier is not None
        assert found.parent is not None
        bodies = {
            bytes(body): item
            for item, body in self.connection.execute(Statement("SELECT id, body FROM resp_items"))
        }
        own_size = sum(map(len, found.earlier))
        assert found.parent.size >= own_size
        return [bodies[bytes(raw)] for raw in found.earlier]


SMALL = st.integers(0, 3)
ACTIONS: st.SearchStrategy[Callable[[Both], None]] = st.one_of(
    st.builds(lambda *args: lambda both: both.create(*args), SMALL),
    st.builds(lambda *args: lambda both: both.add(*args), SMALL, SMALL, st.booleans()),
    st.builds(lambda *args: lambda both: both.remove(*args), SMALL, st.integers(0, 9)),
    st.builds(
        lambda *args: lambda both: both.turn(*args),
        SMALL, SMALL, st.sampled_from(["completed", "incomplete", "cancelled"]),
        st.integers(0, 5).map(lambda drawn: drawn == 0),
    ),
    st.builds(lambda *args: lambda both: both.turn(*args), SMALL, SMALL,
              st.just("completed"), st.just(value=False)),
    st.builds(lambda *args: lambda both: both.delete_response(*args), st.integers(0, 9)),
    st.builds(lambda *args: lambda both: both.delete(*args), SMALL),
    st.builds(lambda days: lambda both: both.wait(days), st.integers(1, 25)),
    st.just(lambda both: both.sweep()),
)  # fmt: skip


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ACTIONS, max_size=16))
def test_conversations_are_what_their_model_is(
    location: Location, actions: list[Callable[[Both], None]]
) -> None:
    """After each step: what stands in each, and what each response saw; at the end nothing is left."""
    with emptied(location) as connection:
        both = Both(connection)
        both.create(2)
        for action in actions:
            action(both)
            both.check()
        assert list(problems(location)) == []
        both.wait(1000)
        both.sweep()
        for name in ("items", "conversations", "conversation_items", "responses", "threads"):
            assert connection.execute(Statement(f"SELECT * FROM resp_{name}")) == []
