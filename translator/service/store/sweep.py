"""The sweep: deletes what has expired, in steps between which others can write.

A step is a transaction of STEP_ROWS rows at most. Only one process sweeps at a time.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Callable

from msgspec import Struct

from translator.service.database.connection import Connection

from . import statements as sql
from .removal import BATCH, freed, listed, mark_deleted, prune

STEP_ROWS = 500
"""Most rows that a transaction deletes."""

LEASE_S = 15.0
"""How long a process may sweep after each step, in seconds."""

FREED_PAGES = 200
"""Most pages of a SQLite file that are given back after a step."""

_TOKEN = secrets.token_hex(16)


class Keeps(Struct, frozen=True):
    """How long what is kept that has no time of its own, in seconds."""

    stream_s: float


def sweep(connection: Connection, stream_keep_s: float) -> int:
    """A step of this process, unless another sweeps; returns the rows deleted, 0 for no more.

    `stream_keep_s` is as in `step`.
    """
    if not connection.change(sql.SWEEPING, {"token": _TOKEN, "lease_s": LEASE_S}):
        return 0
    rows = step(connection, stream_keep_s)
    if rows:
        connection.release_space(FREED_PAGES)
    else:
        connection.change(sql.SWEEPING, {"token": _TOKEN, "lease_s": 0.0})
    return rows


def step(connection: Connection, stream_keep_s: float) -> int:
    """Delete some of what is not found any more; returns how many rows, 0 for nothing.

    Events go `stream_keep_s` seconds after their response has ended.
    """
    rows = 0
    keeps = Keeps(stream_keep_s)
    for delete in STEPS:
        if rows < STEP_ROWS:
            rows += delete(connection, STEP_ROWS - rows, keeps)
    return rows


def _delete_events(connection: Connection, limit: int, keeps: Keeps) -> int:
    """Before the responses, of which each may have many."""
    values = {"limit": limit, "keep_s": keeps.stream_s}
    events = connection.execute(sql.EXPIRED_EVENTS, values)
    if events:
        places = {"places": listed(events)}
        freed(connection, connection.execute(sql.DELETE_EXPIRED_EVENTS, places))
    return len(events)


def _delete_unneeded(connection: Connection, limit: int, _keeps: Keeps) -> int:
    unneeded = connection.execute(sql.UNNEEDED, {"limit": min(limit, BATCH)})
    return prune(connection, [n for (n,) in unneeded], limit)


def _expire(connection: Connection, limit: int, _keeps: Keeps) -> int:
    """Let the responses of expired threads be deleted ones, and the threads go.

    A response stays as long as another goes on from it, which was sent its items once more.
    """
    threads = [n for (n,) in connection.execute(sql.EXPIRED, {"limit": min(limit, BATCH)})]
    if not threads:
        return 0
    room = max(1, limit // 2)  # of each a row is changed, and its body deleted
    found = connection.execute(sql.EXPIRED_RESPONSES, {"ids": listed(threads), "limit": room})
    if found:
        mark_deleted(connection, [n for (n,) in found])
    if len(found) == room:  # there may be more
        return room
    return len(found) + connection.change(sql.DELETE_EXPIRED, {"ids": listed(threads)})


def _forget_owners(connection: Connection, limit: int, _keeps: Keeps) -> int:
    """Delete the accounts of owners that have nothing."""
    sums: defaultdict[str, int] = defaultdict(int)
    rows = connection.execute(sql.EMPTY_OWNERS, {"limit": max(1, limit // 16)})
    for owner, _, size in rows:
        sums[owner] += size
    empty = [{"owner": owner, "shard": shard} for owner, shard, _ in rows if not sums[owner]]
    connection.execute_many(sql.DELETE_OWNER, empty)
    return len(empty)


STEPS: tuple[Callable[[Connection, int, Keeps], int], ...] = (
    _delete_events,
    _delete_unneeded,
    _expire,
    _forget_owners,
)
"""What a step does: each deletes a number of rows at most, and returns how many it deleted."""
