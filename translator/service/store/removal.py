"""Removal: of responses, and of what no other response needs.

    deleted ──► unneeded ──► removed      as soon as no response goes on from it
       └──────► gone                      `delete_context`: its items, though others go on from it

A response that is not found any more stays as a row while others go on from it, and its items with
it: they are the others' context.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from translator.service.database.connection import Connection

from . import statements as sql
from .owners import charge

PRUNED_ROWS = 500
"""Most rows that are deleted with a response, beside its own: the sweep deletes the others."""

BATCH = 100
"""Most responses that are removed at once."""

_ALL = 2**31 - 1


def delete(
    connection: Connection, owner: str, response_id: str, *, with_context: bool = False
) -> bool:
    """Delete a response; False where there is none.

    Its items stay as long as another response goes on from it: they are the other's context.
    `with_context`: they go all the same, and then the other cannot be continued.
    """
    rows = connection.execute(sql.RESPONSE, {"owner": owner, "id": response_id})
    if not rows:
        return False
    remove(connection, rows[0][0], with_context=with_context)
    return True


def undo(connection: Connection, owner: str, response_id: str) -> None:
    """Delete a response that its client was told could not be stored."""
    for (n,) in connection.execute(sql.KNOWN, {"owner": owner, "id": response_id}):
        remove(connection, n)


def remove(connection: Connection, n: int, *, with_context: bool = False) -> None:
    """Delete a response, and what before it is deleted already and now continued by nothing."""
    unneeded = mark_deleted(connection, [n])
    if unneeded:
        _delete_pointers(connection, [n], _ALL)
        prune(connection, [n], PRUNED_ROWS)
    elif with_context:
        connection.change(sql.MARK_GONE, {"n": n})
        if not connection.execute(sql.RESENT, {"n": n}):
            _delete_pointers(connection, [n], _ALL)


def mark_deleted(connection: Connection, keys: Sequence[int]) -> list[int]:
    """Let responses not be found any more; returns those that no other goes on from."""
    ids = {"ids": listed(keys)}
    connection.execute(sql.LOCKED_RESPONSES, ids)
    connection.change(sql.MARK_DELETED, ids)
    freed(connection, connection.execute(sql.DELETE_BODIES, ids))
    freed(connection, connection.execute(sql.DELETE_EVENTS, ids))
    return [key for (key,) in connection.execute(sql.MARK_UNNEEDED, ids)]


def prune(connection: Connection, keys: Sequence[int], limit: int) -> int:
    """Remove responses that are unneeded, and those before them that become so.

    Returns the number of rows deleted, at most about `limit`; what is left is marked.
    """
    rows = 0
    while keys and rows < limit:
        room = max(1, (limit - rows) // 2)  # a pointer goes with an item
        pointers, deleted = _delete_pointers(connection, keys, room)
        rows += pointers + deleted
        if pointers == room:
            break
        ids = {"ids": listed(keys)}
        links = connection.execute(sql.LINKS, ids)
        connection.change(sql.DELETE_RESPONSES, ids)
        threads = sorted({thread for _, thread in links})
        rows += len(keys) + connection.change(sql.DELETE_THREADS, {"ids": listed(threads)})
        parents = listed(sorted({parent for parent, _ in links if parent is not None}))
        connection.execute(sql.LOCKED_RESPONSES, {"ids": parents})
        keys = [n for (n,) in connection.execute(sql.MARK_UNNEEDED, {"ids": parents})]
    return rows


def _delete_pointers(connection: Connection, keys: Sequence[int], limit: int) -> tuple[int, int]:
    """Delete what responses have, with the items that nothing else has; the numbers of both."""
    pointers = connection.execute(sql.POINTERS, {"ids": listed(keys), "limit": limit})
    rows = [{"response": response, "pos": pos} for response, pos, _ in pointers]
    for start in range(0, len(rows), PRUNED_ROWS):
        connection.execute_many(sql.DELETE_POINTER, rows[start : start + PRUNED_ROWS])
    return len(rows), delete_items(connection, sorted({item for _, _, item in pointers}))


def delete_items(connection: Connection, keys: Sequence[int]) -> int:
    """Delete items, but for those that something still has; returns how many."""
    deleted = 0
    for start in range(0, len(keys), PRUNED_ROWS):
        ids = {"ids": listed(keys[start : start + PRUNED_ROWS])}
        connection.execute(sql.LOCKED_ITEMS, ids)
        rows = connection.execute(sql.DELETE_ITEMS, ids)
        freed(connection, rows)
        deleted += len(rows)
    return deleted


def freed(connection: Connection, rows: Iterable[tuple[Any, ...]]) -> None:
    """Account for deleted rows of an owner, None for no account, and a number of bytes."""
    sizes = Counter[str]()
    for owner, size in rows:
        if owner is not None:
            sizes[owner] -= size
    charge(connection, sizes)


def listed(values: Sequence[object]) -> str:
    """Values as one parameter of a statement."""
    return msgspec.json.encode(values).decode()
