"""The rows of responses in the background: who may write to them, and what is done twice."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from msgspec import Raw

from translator.service.config.store import Location
from translator.service.database.connection import Connection, connect, writing
from translator.service.database.statement import DatabaseTime, Statement
from translator.service.store import runs
from translator.service.store.keep import Draft
from translator.service.store.runs import Beginning, Ending, Events, Lease, TooManyRuns
from translator.service.store.sweep import step
from translator.wire.items import Message, OutputText
from translator.wire.responses import Response

MINE, OTHERS = Lease("mine", 30.0), Lease("others", 30.0)
DAY_S = 86_400.0


@pytest.fixture
def connection(location: Location) -> Iterator[Connection]:
    with closing(connect(location, DatabaseTime())) as found:
        yield found


class Rows:
    """The runs of a process."""

    def __init__(self, connection: Connection, lease: Lease = MINE) -> None:
        self.connection = connection
        self.lease = lease
        self._ids = itertools.count()

    def new_id(self, prefix: str) -> str:
        return f"{prefix}{self.lease.token}{next(self._ids)}"

    def begin(self, name: str, *, max_running: int = 9) -> Any:
        response = Response(name, 1, "m", status="queued", background=True)
        item = Raw(b'{"role":"user","content":"Hi"}')
        draft = Draft("anna", response, (), [item], None, DAY_S)
        run = Beginning(draft, None, False, Events(0, 2, b"a\n\nb\n\nc\n\n"), max_running)
        with writing(self.connection):
            return runs.begin(self.connection, self.lease, run, self.new_id)

    def append(self, *some: tuple[int, Events]) -> set[int]:
        with writing(self.connection):
            return runs.append(self.connection, self.lease, some)

    def end(self, n: int, status: Any, last: Events | None = None) -> bool:
        text = OutputText("Hello", [], [])
        message = Message(f"msg_{self.lease.token}{n}", "completed", [text])
        response = Response("r", 1, "m", status=status, output=[message])
        ending = Ending(response, [message], last, DAY_S)
        with writing(self.connection):
            return runs.end(
                self.connection,
                self.lease,
                "anna",
                n,
                ending,
                self.new_id,
                place=None,
                temporary=False,
            )

    def cancel(self, n: int) -> None:
        with writing(self.connection):
            runs.cancel(self.connection, n, 600.0)

    def select(self, what: str, table: str = "responses") -> list[tuple[Any, ...]]:
        return self.connection.execute(Statement(f"SELECT {what} FROM resp_{table} ORDER BY 1"))


def test_what_is_ended_by_another_process_is_its_own_no_more(connection: Connection) -> None:
    """Neither its events nor its end change anything; those of other responses do."""
    mine, other = Rows(connection), Rows(connection, OTHERS)
    kept, lost = mine.begin("one"), mine.begin("two")
    other.cancel(lost)
    more = Events(3, 4, b"d\n\ne\n\n")
    assert mine.append((kept, more), (lost, more)) == {kept}
    assert mine.append((lost, more)) == set()
    events = mine.select("response, first_seq, last_seq", "events")
    assert [(first, last) for n, first, last in events if n == kept] == [(0, 2), (3, 4)]
    assert [(first, last) for n, first, last in events if n == lost] == [(0, 2), (3, 4)]
    assert not mine.end(lost, "completed", Events(5, 5, b"f\n\n"))
    assert mine.end(kept, "completed", Events(5, 5, b"f\n\n"))
    other.cancel(kept)
    assert dict(mine.select("n, status")) == {kept: "completed", lost: "cancelled"}
    assert mine.select("last_seq") == [(4,), (5,)]
    assert mine.select("kind, count(*) ", "items GROUP BY kind") == [("message", 3)]


def test_another_token_changes_nothing(connection: Connection) -> None:
    mine, other = Rows(connection), Rows(connection, OTHERS)
    n = mine.begin("one")
    assert other.append((n, Events(3, 3, b"d\n\n"))) == set()
    assert not other.end(n, "failed")
    with writing(connection):
        assert runs.renew(connection, OTHERS, [n]) == set()
        assert runs.renew(connection, MINE, [n]) == {n}
        runs.reap(connection, n, 600.0)
        assert runs.reap_all(connection, 600.0) == 0
    assert mine.select("status") == [("queued",)]


def test_what_is_done_twice_is_done_once(connection: Connection) -> None:
    """The outcome of a commit may not be known."""
    mine = Rows(connection)
    first = mine.begin("one", max_running=1)
    assert mine.begin("one", max_running=1) == first
    assert isinstance(mine.begin("two", max_running=1), TooManyRuns)
    more, last = Events(3, 4, b"d\n\ne\n\n"), Events(5, 5, b"f\n\n")
    for _ in range(2):
        assert mine.append((first, more)) == {first}
    for _ in range(2):
        assert mine.end(first, "completed", last)
    assert not mine.end(first, "failed", Events(5, 6, b"x\n\ny\n\n"))
    assert mine.select("status, last_seq") == [("completed", 5)]
    assert mine.select("first_seq, last_seq", "events") == [(0, 2), (3, 4), (5, 5)]
    assert len(mine.select("n", "items")) == 2
    assert isinstance(mine.begin("two", max_running=1), int)


def test_events_expire_after_their_response(location: Location) -> None:
    """Before it, and not while it runs."""
    with closing(connect(location, DatabaseTime())) as connection:
        mine = Rows(connection)
        ended, running = mine.begin("one"), mine.begin("two")
        assert mine.end(ended, "completed", Events(3, 3, b"d\n\n"))
    for later_s, left in ((50, [2, 1]), (70, [0, 1])):
        with closing(connect(location, DatabaseTime(later_s))) as connection:
            with writing(connection):
                while step(connection, 60.0):
                    pass
            rows = Rows(connection).select("response", "events")
            assert [rows.count((n,)) for n in (ended, running)] == left
            assert len(Rows(connection).select("n")) == 2
