"""The store beside a model of it: whatever is stored, continued, referred to, deleted and expired."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Raw

from tests.service.wire import BOUND_S
from translator.service.config.store import Location
from translator.service.database.connection import Connection, connect, reading, writing
from translator.service.database.schema import migrate
from translator.service.database.statement import DatabaseTime, Statement
from translator.service.store.keep import Draft, ParentGone, keep
from translator.service.store.recall import ParentMissing, find_chain, recall
from translator.service.store.removal import delete, undo
from translator.service.store.room import ROOM
from translator.service.store.sweep import step
from translator.service.store.upkeep import problems
from translator.wire.items import Message, OutputText, Reasoning, SummaryText
from translator.wire.responses import Response

from . import postgres
from .storing import emptied

DAY_S = 86400.0
OWNERS = ("anna", "bob")


@dataclass
class Stored:
    """A response of the model; its items by their ids, as they go upstream."""

    owner: str
    id: str
    parent: Stored | None
    items: list[tuple[str, bytes]]
    thread: list[float]  # when it expires; one list for a whole thread
    deleted: bool = False

    def context(self) -> list[bytes]:
        before = [] if self.parent is None else self.parent.context()
        return before + [body for _, body in self.items]

    def is_found(self, day: float) -> bool:
        return not self.deleted and self.thread[0] > day


@dataclass
class Model:
    responses: list[Stored] = field(default_factory=list)
    day: float = 0.0

    def found(self) -> list[Stored]:
        return [one for one in self.responses if one.is_found(self.day)]


class Both:
    """The store and the model, to which the same is done."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.model = Model()
        self._number = itertools.count(1)

    def _id(self, prefix: str) -> str:
        return f"{prefix}{next(self._number)}"

    def keep(self, owner: str, parent: int, refers: int, count: int, twice: bool) -> None:
        known = [one for one in self.model.found() if one.owner == owner]
        before = known[parent % len(known)] if known and parent >= 0 else None
        said = [
            Raw(msgspec.json.encode({"role": "user", "content": self._id("text ")}))
            for _ in range(count)
        ]
        references: list[str] = []
        if known and refers >= 0:
            references = [item_id for item_id, _ in known[refers % len(known)].items]
        source = [*said, *(Raw(msgspec.json.encode({"id": one})) for one in references)]
        with reading(self.connection):
            found = recall(
                self.connection, owner, None if before is None else before.id, source,
                max_chain=1000, max_bytes=10**9,
            )  # fmt: skip
        assert found.earlier == (None if before is None else list(map(Raw, before.context())))
        response_id, item_id, thought_id = self._id("resp_"), self._id("msg_"), self._id("rs_")
        message = Message(item_id, "completed", [OutputText(self._id("answer "), [], [])])
        shown = Reasoning(thought_id, [SummaryText("hm")])
        sealed = msgspec.structs.replace(shown, encrypted_content=self._id("seal "))
        response = Response(
            response_id, 1, "m", status="completed", output=[shown, message], store=True
        )
        draft = Draft(owner, response, [sealed, message], found.items, found.parent, 30 * DAY_S)
        for _ in range(1 + twice):
            with writing(self.connection):
                keep(self.connection, draft, self._id)
        texts = {item_id: body for one in known for item_id, body in one.items}
        in_context = set() if before is None else self._ids_of(before)
        expected = [bytes(raw) for raw in said]
        expected += [texts[one] for one in dict.fromkeys(references) if one not in in_context]
        with reading(self.connection):
            after = recall(self.connection, owner, response_id, [], max_chain=1000, max_bytes=10**9)
        assert after.earlier is not None
        own = [bytes(raw) for raw in after.earlier[len(found.earlier or ()) :]]
        assert own == [*expected, msgspec.json.encode(sealed), msgspec.json.encode(message)]
        thread = [0.0] if before is None else before.thread
        thread[0] = self.model.day + 30
        rows = self.connection.execute(
            Statement(
                "SELECT i.id FROM resp_response_items x JOIN resp_items i ON i.n = x.item"
                " JOIN resp_responses r ON r.n = x.response WHERE r.id = :id ORDER BY x.pos"
            ),
            {"id": response_id},
        )
        items = [(item, body) for (item,), body in zip(rows, own, strict=True)]
        self.model.responses.append(Stored(owner, response_id, before, items, thread))

    def _ids_of(self, one: Stored) -> set[str]:
        before = set[str]() if one.parent is None else self._ids_of(one.parent)
        return before | {item_id for item_id, _ in one.items}

    def delete(self, index: int, undone: bool) -> None:
        if not self.model.responses:
            return
        one = self.model.responses[index % len(self.model.responses)]
        expected = one.is_found(self.model.day)
        with writing(self.connection):
            if undone and expected:
                undo(self.connection, one.owner, one.id)
            else:
                assert delete(self.connection, one.owner, one.id) is expected
        one.deleted |= expected

    def wait(self, days: int) -> None:
        self.model.day += days
        self.connection.time.offset_s = self.model.day * DAY_S

    def sweep(self) -> None:
        for _ in range(1000):
            with writing(self.connection):
                if not step(self.connection, 3600.0):
                    return
        pytest.fail("the sweep does not end")

    def check(self) -> None:
        found = self.model.found()
        listed = {(one.owner, item) for one in found for item, _ in one.items}
        everything = {(one.owner, item) for one in self.model.responses for item, _ in one.items}
        with reading(self.connection):
            for one in self.model.responses:
                for owner in OWNERS:
                    args: Any = (self.connection, owner, one.id, [])
                    if one in found and owner == one.owner:
                        context = recall(*args, max_chain=1000, max_bytes=10**9).earlier
                        assert context == list(map(Raw, one.context()))
                    else:
                        with pytest.raises(ParentMissing):
                            recall(*args, max_chain=1000, max_bytes=10**9)
            for owner in OWNERS:
                ids = sorted({item for _, item in everything})
                source = [Raw(msgspec.json.encode({"id": item})) for item in ids]
                seen = recall(self.connection, owner, None, source, max_chain=9, max_bytes=9)
                assert set(seen.resolved) == {item for who, item in listed if who == owner}


SMALL = st.integers(-2, 6)
ACTIONS: st.SearchStrategy[Callable[[Both], None]] = st.one_of(
    st.builds(
        lambda *args: lambda both: both.keep(*args),
        st.sampled_from(OWNERS), SMALL, SMALL, st.integers(0, 2), st.booleans(),
    ),
    st.builds(lambda *args: lambda both: both.delete(*args), st.integers(0, 9), st.booleans()),
    st.builds(lambda days: lambda both: both.wait(days), st.integers(1, 40)),
    st.just(lambda both: both.sweep()),
)  # fmt: skip


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ACTIONS, max_size=14))
def test_the_store_does_what_its_model_does(
    location: Location, actions: list[Callable[[Both], None]]
) -> None:
    """After each step: what is found, for whom, with which context; at the end nothing is left."""
    with emptied(location) as connection:
        both = Both(connection)
        for action in actions:
            action(both)
            both.check()
        assert list(problems(location)) == []
        both.wait(1000)
        both.sweep()
        [(left,)] = connection.execute(
            Statement(
                "SELECT (SELECT count(*) FROM resp_items) + (SELECT count(*) FROM resp_threads)"
                " + (SELECT count(*) FROM resp_responses) + (SELECT count(*) FROM resp_bodies)"
            )
        )
        assert left == 0


def test_chain_thousand_turns() -> None:
    """Bytes of a turn do not depend on how many stand before it; nor do the queries of the next."""
    with TemporaryDirectory() as folder:
        location = Location("sqlite", str(Path(folder) / "store.db"))
        migrate(location, ROOM)
        sizes: list[int] = []
        with closing(connect(location, DatabaseTime())) as connection:
            both = Both(connection)
            source = [Raw(msgspec.json.encode({"role": "user", "content": "x" * 1000}))]
            with writing(connection, durable=False):
                for turn in range(1000):
                    parent = None
                    if turn:
                        parent = find_chain(connection, "anna", f"resp_{turn - 1}").parent
                    message = Message(f"out_{turn}", "completed", [OutputText("y" * 1000, [], [])])
                    response = Response(
                        f"resp_{turn}", 1, "m", status="completed", output=[message]
                    )
                    draft = Draft("anna", response, [message], source, parent, DAY_S)
                    keep(connection, draft, both._id)
                    if turn in (333, 666, 999):
                        [(pages,)] = connection.execute(Statement("PRAGMA page_count"))
                        sizes.append(pages)
            counting = Counting(connection)
            with reading(connection):
                found = recall(
                    counting, "anna", "resp_999", source, max_chain=1001, max_bytes=10**9
                )
    assert len(found.earlier or ()) == 2000
    assert counting.executed <= 3
    assert sizes[2] - sizes[1] <= 1.1 * (sizes[1] - sizes[0])
    assert sizes[2] * 4096 < 8_000_000


class Counting:
    """A connection that counts what is executed."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.executed = 0

    def __getattr__(self, name: str) -> Any:
        self.executed += name in ("execute", "change", "execute_many")
        return getattr(self._connection, name)


def test_processes_that_continue_and_delete_the_same_chain(location: Location) -> None:
    """Whatever they do at once, every response has its parent, its body and its items."""
    failures: list[BaseException] = []

    def work(number: int) -> None:
        draw = Random(number)
        try:
            with closing(connect(location, DatabaseTime())) as connection:
                for turn in range(25):
                    with reading(connection):
                        ids = [one for (one,) in connection.execute(LATEST)]
                    try:
                        if ids and draw.random() < 0.4:
                            with writing(connection):
                                delete(connection, "anna", draw.choice(ids))
                        else:
                            keep_one(connection, f"{number}_{turn}", draw.choice([*ids, None]))
                    except (ParentMissing, ParentGone, postgres.psycopg.OperationalError):
                        pass  # as the service, which tries again or gives up
        except BaseException as error:
            failures.append(error)

    threads = [Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(BOUND_S)
    assert failures == []
    assert list(problems(location)) == []


LATEST = Statement("SELECT id FROM resp_responses WHERE deleted_at IS NULL ORDER BY n DESC LIMIT 3")


def keep_one(connection: Connection, name: str, parent: str | None) -> None:
    """Store a response that refers to an item which all have, beside one of its own."""
    shared = {"type": "message", "role": "user", "content": "Hi", "id": "msg_shared"}
    source = [Raw(msgspec.json.encode(shared))]
    with reading(connection):
        found = recall(connection, "anna", parent, source, max_chain=99, max_bytes=10**9)
    message = Message(f"out_{name}", "completed", [OutputText("Hello", [], [])])
    response = Response(f"resp_{name}", 1, "m", status="completed", output=[message])
    draft = Draft("anna", response, [message], found.items, found.parent, DAY_S)
    numbers = itertools.count()
    with writing(connection):
        keep(connection, draft, lambda prefix: f"{prefix}{name}_{next(numbers)}")


def test_an_item_is_not_deleted_while_another_process_takes_it(
    postgres_location: Location,
) -> None:
    """The one that deletes waits for the other, and then sees that the item is needed."""
    with (
        closing(connect(postgres_location, DatabaseTime())) as one,
        closing(connect(postgres_location, DatabaseTime())) as other,
    ):
        keep_one(one, "first", None)

        def delete_first() -> None:
            with writing(other):
                delete(other, "anna", "resp_first")

        deleting = Thread(target=delete_first)
        commit = one.commit

        def commit_late() -> None:
            deleting.start()
            deleting.join(0.3)
            commit()

        one.commit = commit_late  # type: ignore[method-assign]
        keep_one(one, "second", None)
        deleting.join(BOUND_S)
        assert not deleting.is_alive()
        with reading(one):
            found = recall(one, "anna", "resp_second", [], max_chain=9, max_bytes=10**9)
        assert len(found.earlier or ()) == 2
    assert list(problems(postgres_location)) == []
