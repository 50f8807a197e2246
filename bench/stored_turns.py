"""Turns that are stored: by the store of the service, and their statements by `sqlite3` alone.

    turn = a request that goes on from the turn before, { its answer }, its rows on the disk

`Conversations` are some of them, side by side: the last turn of each is stored at once, so that the
store writes all in one transaction. `Recording` has what was executed meanwhile, and `replay` does
the same on another file, with nothing of the service around it.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import uvloop

import translator
from translator.request.parse import ParsedRequest, parse_request
from translator.service.base.ids import random_id
from translator.service.config.loading import read_table
from translator.service.config.store import Location
from translator.service.database import database
from translator.service.database.connection import (
    NO_VALUES,
    Connection,
    Row,
    SqliteConnection,
)
from translator.service.database.schema import migrate
from translator.service.database.statement import DatabaseTime, Statement, Values
from translator.service.http.stores import open_store
from translator.service.observe.context import RequestContext
from translator.service.observe.record import Record
from translator.service.store.room import ROOM
from translator.service.turns.keeping import Keeping, ResponseStore

from .bodies import WORDS, frame, stream
from .targets import KEY, Unavailable

AUTHORIZATION = f"Bearer {KEY}"

QUESTION_WORDS, THOUGHT_CHUNKS, ANSWER_CHUNKS = 90, 40, 90
"""Of each turn; some 450, 200 and 450 bytes."""

STORED = "the response is not stored"

Executed = tuple[str, Any, bool]
"""A text, its values or rows of values, and whether it is executed once for each row.

All as the driver gets them."""

_ANSWER = b"".join(
    [
        frame({"role": "assistant", "content": ""}),
        *[frame({"reasoning_content": f"{WORDS[n % len(WORDS)]} "}) for n in range(THOUGHT_CHUNKS)],
        *[*stream("text", ANSWER_CHUNKS)][1:],
    ]
)


def question(number: int) -> dict[str, str]:
    """The message of a turn."""
    words = [WORDS[(number + n) % len(WORDS)] for n in range(QUESTION_WORDS)]
    return {"role": "user", "content": f"{number}: {' '.join(words)}"}


def asked(source: Sequence[Any], *, store: bool, parent: str | None = None) -> bytes:
    """The body of a request."""
    fields: dict[str, Any] = {"model": "bench", "stream": True, "store": store, "input": source}
    if parent is not None:
        fields["previous_response_id"] = parent
    return msgspec.json.encode(fields)


def translation_of(
    parsed: ParsedRequest, part: Keeping | None, response_id: str = "resp_1"
) -> translator.Translation:
    """The translation of a request, of which the store has a part or none."""
    return translator.Translation(
        parsed,
        response_id=response_id,
        created_at=1,
        new_id=random_id,
        earlier=() if part is None else part.earlier or (),
        store=None if part is None else part.context,
    )


def make_database(file: Path) -> None:
    """A file with the tables of the store, and nothing in them."""
    migrate(Location("sqlite", str(file)), ROOM)


@contextmanager
def opened(file: Path) -> Generator[tuple[asyncio.Runner, ResponseStore]]:
    """The store of a file, in an event loop of its own."""
    table = {
        "upstreams": {"up": {"base_url": "http://127.0.0.1:9/v1"}},
        "store": {"url": f"sqlite:///{file}", "read_wait_s": 120.0, "write_wait_s": 120.0},
    }
    settings = read_table(table, {})
    assert settings.store is not None
    store = open_store(settings.store, settings.server, random_id, None, None)

    async def started() -> Any:
        context = store.running()
        await context.__aenter__()
        return context

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        context = runner.run(started())
        try:
            yield runner, store.responses
        finally:
            runner.run(context.__aexit__(None, None, None))


class Conversations:
    """Some conversations of a store, side by side; each goes on turn by turn."""

    def __init__(self, store: ResponseStore, count: int) -> None:
        self._store = store
        self._parents: list[str | None] = [None] * count
        self._ready: list[tuple[Keeping, translator.Translation]] = []
        self._number = 0

    @property
    def last_ids(self) -> Sequence[str | None]:
        """The ids of the latest responses."""
        return self._parents

    async def prepare(self) -> None:
        """The next turn of each, up to where it is to be stored."""
        self._number += 1
        self._ready = [await self._turn(parent) for parent in self._parents]
        self._parents = [one.response.id for _, one in self._ready]

    async def _turn(self, parent: str | None) -> tuple[Keeping, translator.Translation]:
        body = asked([question(self._number)], store=True, parent=parent)
        parsed, part = await begun(self._store, body)
        assert part is not None
        part.forget_earlier()  # which what is stored does not depend on
        translation = translation_of(parsed, part, random_id("resp_"))
        translation.receive(_ANSWER)
        assert translation.finished, STORED
        return part, translation

    async def keep(self) -> None:
        """Store what has been prepared."""
        ends = [part.end(translation) for part, translation in self._ready]
        failed = [one for one in await asyncio.gather(*ends) if one is not None]
        assert not failed, STORED


async def begun(store: ResponseStore, body: bytes) -> tuple[ParsedRequest, Keeping | None]:
    """A request, and the store's part in it."""
    parsed = parse_request(body)
    part = await store.begin(
        RequestContext(
            Record(method="POST", path="/v1/responses", request_id="bench", started_at=0.0)
        ),
        parsed.request,
        authorization=AUTHORIZATION,
        earlier=None,
        keeps=True,
    )
    return parsed, part


# --- the same by sqlite3 alone -------------------------------------------------------------------


class Recording(SqliteConnection):
    """A connection that remembers what was executed in each transaction that writes."""

    def begin(self, *, writes: bool, durable: bool = True) -> None:
        super().begin(writes=writes, durable=durable)
        self._writes = writes
        if writes:
            TRANSACTIONS.append([])

    def execute(self, statement: Statement, values: Values = NO_VALUES) -> list[Row]:
        self._remember(statement, statement.in_order(values), many=False)
        return super().execute(statement, values)

    def change(self, statement: Statement, values: Values = NO_VALUES) -> int:
        self._remember(statement, statement.in_order(values), many=False)
        return super().change(statement, values)

    def execute_many(self, statement: Statement, rows: Sequence[Values]) -> None:
        self._remember(statement, [*map(statement.in_order, rows)], many=True)
        super().execute_many(statement, rows)

    def _remember(self, statement: Statement, values: Any, *, many: bool) -> None:
        if getattr(self, "_writes", False):
            TRANSACTIONS[-1].append((statement.text("sqlite", self.time), values, many))


TRANSACTIONS: list[list[Executed]] = []
"""What `Recording` remembers."""


def recorded(file: Path, count: int, rounds: int) -> list[list[list[Executed]]]:
    """The transactions of each round in which a store writes a turn of some conversations."""
    TRANSACTIONS.clear()
    found: list[list[list[Executed]]] = []
    with connecting(Recording), opened(file) as (runner, store):
        conversations = Conversations(store, count)
        for _ in range(rounds):
            runner.run(conversations.prepare())
            began = len(TRANSACTIONS)
            runner.run(conversations.keep())
            found.append(TRANSACTIONS[began:])
    return found


class Hasty(SqliteConnection):
    """A connection whose commits do not wait for the disk."""

    def begin(self, *, writes: bool, durable: bool = True) -> None:
        super().begin(writes=writes, durable=False)


@contextmanager
def connecting(kind: type[SqliteConnection]) -> Generator[None]:
    """The store has connections of that kind."""

    def connect(
        location: Location, time: DatabaseTime, *, max_bytes: int = 0, statement_s: float = 10.0
    ) -> Connection:
        return kind(location.target, time, max_bytes, statement_s)

    usual = database.connect
    database.connect = connect
    try:
        yield
    finally:
        database.connect = usual


def execute(driver: sqlite3.Connection, transaction: Sequence[Executed]) -> None:
    """Execute what was recorded of one transaction."""
    driver.execute("BEGIN IMMEDIATE")
    for text, values, many in transaction:
        if many:
            driver.executemany(text, values)
        else:
            driver.execute(text, values).fetchall()
    driver.execute("COMMIT")


class Bare:
    """A connection of `sqlite3`, with the settings of the store's own."""

    def __init__(self, file: Path) -> None:
        self._driver = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        self._driver.execute("PRAGMA synchronous = FULL")

    def replay(self, transactions: Sequence[Sequence[Executed]]) -> None:
        """Execute what was recorded, and wait for the disk after each transaction."""
        for transaction in transactions:
            execute(self._driver, transaction)

    def close(self) -> None:
        self._driver.close()


# --- the program ---------------------------------------------------------------------------------


class Works(msgspec.Struct, frozen=True):
    """What is measured, by name: each is prepared, which is not measured, and then done."""

    prepare: Mapping[str, Callable[[], object]]
    do: Mapping[str, Callable[[], object]]


STORE, BARE_IN_A_THREAD, BARE = "store", "bare in a thread", "bare"


@contextmanager
def writing_works(folder: Path, count: int, rounds: int) -> Generator[Works]:
    """One turn of each of some conversations, `rounds` times at most.

    By the store; by `sqlite3` in a thread, for which as many tasks wait; by `sqlite3` alone. The
    folder has an `empty.db` with the tables.
    """
    files = {name: folder / f"{name}.db" for name in ("recorded", "bare", "store")}
    for file in files.values():
        shutil.copy(folder / "empty.db", file)
    transactions = iter(recorded(files["recorded"], count, 2 * rounds))
    with (
        closing(Bare(files["bare"])) as bare,
        ThreadPoolExecutor(1) as thread,
        opened(files["store"]) as (runner, store),
    ):
        conversations = Conversations(store, count)

        async def in_a_thread() -> None:
            loop = asyncio.get_running_loop()
            done = loop.run_in_executor(thread, bare.replay, next(transactions))

            async def wait() -> None:
                await done

            await asyncio.gather(*[wait() for _ in range(count)])

        yield Works(
            prepare={STORE: lambda: runner.run(conversations.prepare())},
            do={
                STORE: lambda: runner.run(conversations.keep()),
                BARE_IN_A_THREAD: lambda: runner.run(in_a_thread()),
                BARE: lambda: bare.replay(next(transactions)),
            },
        )


CHAIN_QUERY = """
WITH RECURSIVE chain(n, parent, depth) AS (
    SELECT n, parent, depth FROM resp_responses WHERE n = :n
    UNION ALL
    SELECT r.n, r.parent, r.depth FROM chain JOIN resp_responses r ON r.n = chain.parent
)
SELECT i.body, i.sealed FROM chain
JOIN resp_response_items x ON x.response = chain.n JOIN resp_items i ON i.n = x.item
ORDER BY chain.depth, x.pos
"""
"""The least that reads the items of a chain."""

READ, ADMIT, ADMIT_IN_FULL = "read", "admit", "admit in full"


@contextmanager
def reading_works(file: Path, parent: str) -> Generator[Works]:
    """The admission of a turn that goes on from a chain, and what else would do.

    `read` is the store's part, `bare` the least query; `admit` is the store's part and the
    translation, `admit in full` the translation of the same context in the request.
    """
    with closing(sqlite3.connect(file)) as driver, opened(file) as (runner, store):
        [key] = driver.execute("SELECT n FROM resp_responses WHERE id = ?", [parent]).fetchone()
        chained = asked([question(0)], store=False, parent=parent)
        _, part = runner.run(begun(store, chained))
        assert part is not None
        in_full = asked([*(part.earlier or ()), question(0)], store=False)

        def admitted(body: bytes) -> bytes:
            return translation_of(*runner.run(begun(store, body))).chat_body

        if admitted(chained) != admitted(in_full):
            raise Unavailable("a chain, and its context in full, are two different requests")
        yield Works(
            prepare={},
            do={
                READ: lambda: runner.run(begun(store, chained)),
                BARE: lambda: driver.execute(CHAIN_QUERY, {"n": key}).fetchall(),
                ADMIT: lambda: admitted(chained),
                ADMIT_IN_FULL: lambda: admitted(in_full),
            },
        )


def make_chain(
    file: Path, turns: int, *, size: Callable[[], int] = lambda: 0
) -> tuple[str, Sequence[int]]:
    """Store a chain of so many turns; the id of its last, and `size()` at start, half and end."""
    with connecting(Hasty), opened(file) as (runner, store):
        conversations = Conversations(store, 1)
        sizes = [size()]
        for half in (turns // 2, turns - turns // 2):
            for _ in range(half):
                runner.run(conversations.prepare())
                runner.run(conversations.keep())
            sizes.append(size())
        [last] = conversations.last_ids
        assert last is not None
        return last, sizes


def lengthen(file: Path, last: str, more: int) -> str:
    """Repeat the last response of a chain so often, with its items; the id of the new last one.

    Turn by turn it would take minutes: each reads what stands before it.
    """
    with closing(sqlite3.connect(file)) as driver, driver:
        columns = [row[1] for row in driver.execute("PRAGMA table_info(resp_responses)")]
        changed = {
            "n": "next + i",
            "id": "'resp_long_' || i",
            "parent": "CASE i WHEN 1 THEN r.n ELSE next + i - 1 END",
            "depth": "r.depth + i",
        }
        values = ", ".join(changed.get(name, f"r.{name}") for name in columns)
        numbers = "WITH RECURSIVE k(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM k WHERE i < :more)"
        driver.execute(
            f"INSERT INTO resp_responses ({', '.join(columns)}) {numbers} SELECT {values}"
            " FROM k, resp_keys, resp_responses r WHERE r.id = :last",
            {"more": more, "last": last},
        )
        driver.execute(
            f"INSERT INTO resp_response_items (response, pos, side, item) {numbers}"
            " SELECT next + i, x.pos, x.side, x.item FROM k, resp_keys, resp_responses r"
            " JOIN resp_response_items x ON x.response = r.n WHERE r.id = :last",
            {"more": more, "last": last},
        )
        driver.execute("UPDATE resp_keys SET next = next + :more + 1", {"more": more})
    return f"resp_long_{more}"


def serve(works: Works, lines: Iterable[str]) -> None:
    """Do what each line says: `prepare NAME`, `do NAME`, or anything else for nothing.

    The end of each is a line of output; before the first there is one, too.
    """
    print(flush=True)
    for line in lines:
        how, _, name = line.strip().partition(" ")
        if how == "prepare" and name in works.prepare:
            works.prepare[name]()
        elif how == "do":
            works.do[name]()
        print(flush=True)
