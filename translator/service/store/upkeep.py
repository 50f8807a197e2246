"""Upkeep of the store: what `translator store` shows, checks and deletes.

It reads whole tables, and does so outside the service: with SQLAlchemy's Core.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import closing

import sqlalchemy as sa
from msgspec import Struct

from translator.service.config.store import Location
from translator.service.database.connection import connect, writing
from translator.service.database.core import connected
from translator.service.database.errors import driver_errors
from translator.service.database.statement import DatabaseTime

from . import conversation_rows, conversation_upkeep
from .sweep import step
from .tables import (
    BODIES,
    CONVERSATION_ITEMS,
    CONVERSATIONS,
    EVENTS,
    ITEMS,
    METADATA,
    OWNERS,
    RESPONSE_ITEMS,
    RESPONSES,
    THREADS,
)

VACUUM_S = 3600.0
"""Longest time to give the space of a file back, in seconds."""


class ClientStats(Struct, frozen=True):
    """What is stored for one client; `newest` is in seconds since 1970.

    `bytes` are those of all that it has, as its quota counts them; where no response is found any
    more, `newest` is 0.
    """

    owner: str
    responses: int
    bytes: int
    newest: float


class Stats(Struct, frozen=True):
    """What is stored; `file_bytes` is the size of the database, and of nothing else in it."""

    responses: int
    conversations: int
    items: int
    threads: int
    expired_threads: int
    bytes: int
    file_bytes: int
    clients: Sequence[ClientStats]


class StoredResponse(Struct, frozen=True):
    """A line of the list: times are in seconds since 1970."""

    id: str
    owner: str
    status: str
    model: str
    created_at: float
    expires_at: float
    bytes: int


def _now(location: Location, time: DatabaseTime) -> sa.ColumnElement[float]:
    return sa.literal_column(time.expression(location.kind), sa.Float)


def stats(location: Location, time: DatabaseTime) -> Stats:
    """What is stored, in all and for each client; raises Unavailable."""
    now = _now(location, time)
    with connected(location) as connection:

        def count(table: sa.Table, *where: sa.ColumnElement[bool]) -> int:
            return connection.execute(
                sa.select(sa.func.count()).select_from(table).where(*where)
            ).scalar_one()

        living = sa.select(
            RESPONSES.c.owner, sa.func.count(), sa.func.max(RESPONSES.c.created_at)
        ).where(RESPONSES.c.deleted_at.is_(None))
        found = {
            owner: (n, newest)
            for owner, n, newest in connection.execute(living.group_by(RESPONSES.c.owner))
        }
        sums = sa.select(OWNERS.c.owner, sa.func.sum(OWNERS.c.bytes)).group_by(OWNERS.c.owner)
        sizes = {owner: int(size) for owner, size in connection.execute(sums)}
        clients = [
            ClientStats(owner, n, sizes.get(owner, 0), newest)
            for owner in sorted(found.keys() | {one for one, size in sizes.items() if size})
            for n, newest in [found.get(owner, (0, 0.0))]
        ]
        return Stats(
            responses=sum(one.responses for one in clients),
            conversations=count(CONVERSATIONS, CONVERSATIONS.c.deleted_at.is_(None)),
            items=count(ITEMS),
            threads=count(THREADS),
            expired_threads=count(THREADS, THREADS.c.expires_at <= now),
            bytes=sum(one.bytes for one in clients),
            file_bytes=_file_bytes(connection, location),
            clients=clients,
        )


def _file_bytes(connection: sa.Connection, location: Location) -> int:
    if location.kind == "sqlite":
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        return int(pages * connection.exec_driver_sql("PRAGMA page_size").scalar_one())
    names = [table.name for table in METADATA.tables.values()]
    parts = [sa.func.pg_total_relation_size(sa.text(f"'{name}'::regclass")) for name in names]
    size = sum(parts[1:], parts[0])
    return int(connection.execute(sa.select(size)).scalar_one())


def listed(
    location: Location, time: DatabaseTime, owner: str | None, limit: int
) -> list[StoredResponse]:
    """The latest responses, of one client or of all, newest first; raises Unavailable."""
    query = (
        sa.select(
            RESPONSES.c.id,
            RESPONSES.c.owner,
            RESPONSES.c.status,
            RESPONSES.c.model,
            RESPONSES.c.created_at,
            THREADS.c.expires_at,
            RESPONSES.c.bytes + sa.func.length(BODIES.c.body),
        )
        .join(BODIES, BODIES.c.response == RESPONSES.c.n)
        .join(THREADS, THREADS.c.n == RESPONSES.c.thread)
        .where(RESPONSES.c.deleted_at.is_(None), THREADS.c.expires_at > _now(location, time))
        .order_by(RESPONSES.c.n.desc())
        .limit(limit)
    )
    if owner is not None:
        query = query.where(RESPONSES.c.owner == owner)
    with connected(location) as connection:
        return [StoredResponse(*row) for row in connection.execute(query)]


# --- checking ----------------------------------------------------------------------------------


def problems(location: Location) -> Iterator[str]:
    """What is wrong with the tables, a sentence for each kind; raises Unavailable."""
    child = RESPONSES.alias("child")
    parent = RESPONSES.alias("parent")
    pointer = RESPONSE_ITEMS
    with connected(location) as connection:
        if location.kind == "sqlite":
            found = connection.exec_driver_sql("PRAGMA integrity_check(10)").scalars().all()
            yield from (f"SQLite: {line}" for line in found if line != "ok")
        checks = {
            "responses without a thread": sa.select(RESPONSES.c.n)
            .outerjoin(THREADS, THREADS.c.n == RESPONSES.c.thread)
            .where(THREADS.c.n.is_(None), RESPONSES.c.deleted_at.is_(None)),
            "responses without a body": sa.select(RESPONSES.c.n)
            .outerjoin(BODIES, BODIES.c.response == RESPONSES.c.n)
            .where(BODIES.c.response.is_(None), RESPONSES.c.deleted_at.is_(None)),
            "bodies without a response": sa.select(BODIES.c.response)
            .outerjoin(RESPONSES, RESPONSES.c.n == BODIES.c.response)
            .where(RESPONSES.c.n.is_(None)),
            "responses whose parent is missing": sa.select(child.c.n)
            .outerjoin(parent, parent.c.n == child.c.parent)
            .where(child.c.parent.is_not(None), parent.c.n.is_(None)),
            "responses of another client than their parent": sa.select(child.c.n)
            .join(parent, parent.c.n == child.c.parent)
            .where(child.c.owner != parent.c.owner),
            "responses that name an item that is missing": sa.select(pointer.c.response)
            .outerjoin(ITEMS, ITEMS.c.n == pointer.c.item)
            .where(ITEMS.c.n.is_(None)),
            "items of responses that are missing": sa.select(pointer.c.item)
            .outerjoin(RESPONSES, RESPONSES.c.n == pointer.c.response)
            .where(RESPONSES.c.n.is_(None)),
            "events of responses that are missing": sa.select(EVENTS.c.response)
            .outerjoin(RESPONSES, RESPONSES.c.n == EVENTS.c.response)
            .where(RESPONSES.c.n.is_(None)),
            "items that nothing names": sa.select(ITEMS.c.n)
            .outerjoin(pointer, pointer.c.item == ITEMS.c.n)
            .outerjoin(CONVERSATION_ITEMS, CONVERSATION_ITEMS.c.item == ITEMS.c.n)
            .where(pointer.c.item.is_(None), CONVERSATION_ITEMS.c.item.is_(None)),
        }
        checks |= conversation_upkeep.checks()
        checks["clients whose bytes are not those of what they have"] = _wrong_sums()
        for noun, query in checks.items():
            number = connection.execute(
                sa.select(sa.func.count()).select_from(query.subquery())
            ).scalar_one()
            if number:
                yield f"{number} {noun}"


def _wrong_sums() -> sa.Select[tuple[str]]:
    """The owners whose accounts are not the sums of what they have."""
    parts = sa.union_all(
        sa.select(ITEMS.c.owner, ITEMS.c.bytes),
        sa.select(RESPONSES.c.owner, sa.func.length(BODIES.c.body)).join(
            RESPONSES, RESPONSES.c.n == BODIES.c.response
        ),
        sa.select(RESPONSES.c.owner, sa.func.length(EVENTS.c.body))
        .join(RESPONSES, RESPONSES.c.n == EVENTS.c.response)
        .where(RESPONSES.c.ended_at.is_not(None)),
        sa.select(CONVERSATIONS.c.owner, sa.func.length(CONVERSATIONS.c.metadata)),
        sa.select(OWNERS.c.owner, -OWNERS.c.bytes),
    ).subquery()
    owner, size = parts.c
    return sa.select(owner).group_by(owner).having(sa.func.sum(size) != 0)


# --- deletion ------------------------------------------------------------------------------------


def rows_of(location: Location, owner: str) -> int:
    """How many rows there are of what a client has stored; raises Unavailable."""
    response, conversation = RESPONSES.c, CONVERSATIONS.c
    responses = sa.select(response.n).where(response.owner == owner)
    conversations = sa.select(conversation.n).where(conversation.owner == owner)
    conditions = [
        *(table.c.owner == owner for table in (THREADS, RESPONSES, ITEMS, CONVERSATIONS)),
        *(table.c.response.in_(responses) for table in (BODIES, RESPONSE_ITEMS, EVENTS)),
        CONVERSATION_ITEMS.c.conversation.in_(conversations),
    ]
    with connected(location) as connection:
        counts = [sa.select(sa.func.count()).where(one) for one in conditions]
        return sum(connection.execute(count).scalar_one() for count in counts)


def expire(location: Location, time: DatabaseTime, owner: str | None) -> int:
    """Let all threads of a client expire now, of all where it is None; returns their number.

    Nothing of them is found from then on. Raises Unavailable.
    """
    now = _now(location, time)
    query = sa.update(THREADS).values(expires_at=now).where(THREADS.c.expires_at > now)
    if owner is not None:
        query = query.where(THREADS.c.owner == owner)
    with connected(location) as connection:
        return connection.execute(query).rowcount


def sweep(location: Location, time: DatabaseTime, conversation_s: float) -> Iterator[int]:
    """Delete what has expired, step by step; yields the rows that each step deleted.

    `conversation_s` is how long a conversation is kept after a change, 0 for ever. Raises
    Unavailable.
    """
    with (
        closing(connect(location, time, statement_s=VACUUM_S)) as connection,
        driver_errors(location.shown),
    ):
        while True:
            with writing(connection):
                # events that may still be streamed are kept
                deleted = step(connection, math.inf)
                deleted = deleted or conversation_rows.sweep(connection, conversation_s)
            if not deleted:
                break
            yield deleted
        connection.release_space()
