"""Conversations as rows: what is done to one in a transaction.

    place     0   1   2   3   4   5   6          an item, or the removal of one
              i   i   i   -1  i   i   ▲
                              ▲       └── next place
                              └── a response that began here saw the items 0 and 2

A conversation is a list of items that only grows: to remove one is an event of its own, so that
what a response has seen of it stays the same. A response that begins takes the lock, and its
commit appends its items and releases it. Whoever finds the lock over may take it; then the first
one cannot commit any more.

Each function may be run twice: the outcome of a commit is not known where its connection breaks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct

from translator.service.database.connection import Connection, Row
from translator.service.database.statement import Statement

from . import conversation_statements as sql
from . import statements
from .keep import ROWS, Draft, add_items, keep
from .owners import TooMuch, charge, exceeds
from .pages import AfterUnknown, ItemList, Page
from .places import Key, Missing, Place
from .removal import delete_items, freed, undo
from .shown import item_resource

APPENDS = frozenset({"completed", "incomplete"})
"""The statuses of responses that append their items."""

STEP_ROWS = 500
"""Most rows of one kind that a transaction of the sweep deletes."""


class Locked(Exception):
    """A response is about to append to the conversation."""


class Full(Exception):
    """The conversation has as many items as it may have."""


class LockLost(Exception):
    """Another process has taken the lock of the conversation, which was over."""


class Shown(Struct, frozen=True):
    """A conversation as the API shows it."""

    id: str
    created_at: int
    metadata: Raw
    object: str = "conversation"


# --- turns -------------------------------------------------------------------------------------


def references(connection: Connection, key: Key, ids: Sequence[str]) -> dict[str, int]:
    """The keys of stored items that references name, by their ids."""
    values = key.values(ids=msgspec.json.encode(ids).decode())
    rows = connection.execute(statements.REFERENCED, values)
    return {item_id: n for item_id, n, *_ in rows}


def lock(connection: Connection, key: Key, token: str, lease_s: float) -> Place | Missing | Locked:
    """Take the lock of a conversation, for `lease_s` seconds."""
    rows = connection.execute(sql.LOCK, key.values(token=token, lease_s=lease_s))
    if rows:
        [(n, upto, size)] = rows
        return Place(n, upto, size, token)
    return _why_not(connection, key)


def _why_not(connection: Connection, key: Key) -> Missing | Locked:
    return Locked() if connection.execute(sql.FOUND, key.values()) else Missing()


def unlock(connection: Connection, key: Key, token: str) -> None:
    """Release a lock; nothing happens where it is lost."""
    connection.change(sql.UNLOCK, {"owner": key.owner, "id": key.id, "token": token})


def renew(connection: Connection, values: Mapping[str, object]) -> int:
    """Renew the locks of some keys and tokens, for `lease_s` seconds; returns how many."""
    return connection.change(sql.RENEW, values)


def keep_at(
    connection: Connection, draft: Draft, place: Place, new_id: Callable[[str], str]
) -> None:
    """Write the rows of a response, append its items to its conversation, and release the lock.

    Nothing is appended of one that failed or was cancelled, nor to a conversation that has been
    deleted meanwhile. Raises LockLost, and what `keep` raises.
    """
    named = {"owner": draft.owner, "id": draft.response.id}
    if connection.execute(statements.KNOWN, named):
        return
    values = {"n": place.n, "owner": draft.owner, "token": place.token}
    rows = connection.execute(sql.END_LOCK, values)
    if not rows:
        raise LockLost
    [(at, deleted_at)] = rows
    keep(connection, draft, new_id)
    [(n,)] = connection.execute(statements.KNOWN, named)
    begin_at(connection, n, place)
    if deleted_at is None and draft.response.status in APPENDS:
        items = [item for (item,) in connection.execute(sql.OWN_ITEMS, {"n": n})]
        _append(connection, place.n, at, items)


def begin_at(connection: Connection, n: int, place: Place) -> None:
    """Note the place of a response that is stored, and has not ended."""
    belongs = {"conversation": place.n, "upto": place.upto, "n": n}
    connection.change(sql.BELONGS, belongs)


def end_at(connection: Connection, owner: str, n: int, status: str, place: Place) -> None:
    """Append the items of a response that has ended, as `keep_at` does, and release the lock.

    Raises LockLost where it had items to append.
    """
    appends = status in APPENDS
    values = {"n": place.n, "owner": owner, "token": place.token}
    rows = connection.execute(sql.END_LOCK, values)
    if not rows and appends:
        raise LockLost
    for at, deleted_at in rows:
        if appends and deleted_at is None:
            items = [item for (item,) in connection.execute(sql.OWN_ITEMS, {"n": n})]
            _append(connection, place.n, at, items)


def _append(connection: Connection, n: int, at: int, items: Sequence[int]) -> None:
    pointers = [{"conversation": n, "pos": pos, "item": item} for pos, item in enumerate(items, at)]
    _execute(connection, sql.NEW_POINTER, pointers)
    connection.change(sql.GROW, {"n": n, "pos": at, "count": len(pointers)})


def _execute(connection: Connection, statement: Statement, rows: Sequence[Any]) -> None:
    for start in range(0, len(rows), ROWS):
        connection.execute_many(statement, rows[start : start + ROWS])


def undo_at(connection: Connection, owner: str, response_id: str) -> None:
    """Delete a response that its client was told could not be stored, and what it has appended."""
    for (n,) in connection.execute(statements.KNOWN, {"owner": owner, "id": response_id}):
        for conversation, pos, size in connection.execute(sql.APPENDED, {"n": n}):
            pointer = {"conversation": conversation, "pos": pos}
            connection.change(sql.DELETE_POINTER, pointer)
            connection.change(sql.SHRINK, {"n": conversation, "count": 0, "bytes": size})
    undo(connection, owner, response_id)


# --- by id -------------------------------------------------------------------------------------


def create(
    connection: Connection,
    key: Key,
    metadata: bytes,
    items: Sequence[Raw | int],
    new_id: Callable[[str], str],
    max_bytes: int = 0,
) -> Shown | TooMuch:
    """Write a conversation with its first items, as for `add`."""
    if not connection.execute(sql.KNOWN, {"owner": key.owner, "id": key.id}):
        if exceeds(connection, key.owner, len(metadata) + _size(items), max_bytes):
            return TooMuch()
        [(n,)] = connection.execute(statements.KEYS, {"count": 1})
        connection.change(sql.NEW, {"n": n, "owner": key.owner, "id": key.id, "metadata": metadata})
        charge(connection, {key.owner: len(metadata)})
        _add(connection, key, n, 0, items, new_id)
    shown = find(connection, key)
    assert shown is not None, "a conversation that has just been written is there"
    return shown


def find(connection: Connection, key: Key) -> Shown | None:
    """A conversation; None where it is not found."""
    rows = connection.execute(sql.FOUND, key.values())
    if not rows:
        return None
    *_, created_at, metadata = rows[0]
    return Shown(key.id, int(created_at), Raw(metadata))


def set_metadata(
    connection: Connection, key: Key, metadata: bytes, max_bytes: int = 0
) -> Shown | TooMuch | None:
    """Replace the metadata of a conversation; None where it is not found.

    `max_bytes` is as for `add`; metadata that are not longer than before always may be written.
    """
    sizes = connection.execute(sql.METADATA_SIZE, key.values())
    if not sizes:
        return None
    more = len(metadata) - sizes[0][0]
    if exceeds(connection, key.owner, more, max_bytes):
        return TooMuch()
    [(created_at,)] = connection.execute(sql.SET_METADATA, key.values(metadata=metadata))
    charge(connection, {key.owner: more})
    return Shown(key.id, int(created_at), Raw(metadata))


def delete(connection: Connection, key: Key) -> bool:
    """Delete a conversation; False where it is not found.

    Its metadata go at once, its rows with the sweep: but for what responses have seen.
    """
    sizes = connection.execute(sql.METADATA_SIZE, key.values())
    if not sizes:
        return False
    connection.change(sql.DELETE, key.values(empty=b""))
    charge(connection, {key.owner: -sizes[0][0]})
    return True


def add(
    connection: Connection,
    key: Key,
    items: Sequence[Raw | int],
    new_id: Callable[[str], str],
    max_items: int,
    max_bytes: int = 0,
) -> list[Row] | Missing | Locked | Full | TooMuch:
    """Append items; (id, body) of each. One that the conversation has already stays where it is.

    `items` are bodies, and keys of stored ones. `new_id` returns the same ids each time that this
    is done. `max_bytes` are all that the owner may have; 0: any.
    """
    rows = connection.execute(sql.TAKE, key.values())
    if not rows:
        return _why_not(connection, key)
    [(n, at, _)] = rows
    [(count,)] = connection.execute(sql.COUNT, {"n": n})
    if count + len(items) > max_items:
        return Full()
    if exceeds(connection, key.owner, _size(items), max_bytes):
        return TooMuch()
    return _add(connection, key, n, at, items, new_id)


def _size(items: Sequence[Raw | int]) -> int:
    """The bytes of the items that are not stored yet."""
    return sum(len(one) for one in items if isinstance(one, Raw))


def _add(
    connection: Connection,
    key: Key,
    n: int,
    at: int,
    items: Sequence[Raw | int],
    new_id: Callable[[str], str],
) -> list[Row]:
    keys = add_items(connection, key.owner, items, new_id)
    rows = connection.execute(statements.ITEM_BODIES, {"ids": listed_keys(keys)})
    found = {n_item: (item_id, body) for n_item, item_id, body in rows}
    new = [one for one in dict.fromkeys(keys) if not _item(connection, key, n, found[one][0])]
    _append(connection, n, at, new)
    return [found[one] for one in keys]


def item(connection: Connection, key: Key, item_id: str) -> Raw | Missing | None:
    """An item of a conversation; None where the conversation is not found."""
    rows = connection.execute(sql.FOUND, key.values())
    if not rows:
        return None
    found = _item(connection, key, rows[0][0], item_id)
    return item_resource(item_id, found[2]) if found else Missing()


def _item(connection: Connection, key: Key, n: int, item_id: str) -> Row | None:
    rows = connection.execute(sql.ITEM, {"n": n, "owner": key.owner, "item": item_id})
    return rows[0] if rows else None


def page(connection: Connection, key: Key, wanted: Page) -> ItemList | AfterUnknown | None:
    """A page of the items of a conversation; None where it is not found."""
    rows = connection.execute(sql.FOUND, key.values())
    if not rows:
        return None
    n, next_pos, *_ = rows[0]
    pos = -1 if wanted.ascending else next_pos
    if wanted.after is not None:
        found = _item(connection, key, n, wanted.after)
        if found is None:
            return AfterUnknown()
        pos = found[0]
    statement = sql.NEXT_ITEMS if wanted.ascending else sql.ITEMS_BEFORE
    some = connection.execute(statement, {"n": n, "pos": pos, "limit": wanted.limit + 1})
    return listed(some[: wanted.limit], has_more=len(some) > wanted.limit)


def listed_keys(keys: Sequence[int]) -> str:
    """Keys as one parameter of a statement."""
    return msgspec.json.encode(keys).decode()


def listed(rows: Sequence[Row], *, has_more: bool = False) -> ItemList:
    """A list of items, by the (id, body) of each."""
    return ItemList(
        data=[item_resource(item_id, body) for item_id, body in rows],
        first_id=rows[0][0] if rows else "",
        last_id=rows[-1][0] if rows else "",
        has_more=has_more,
    )


def remove(connection: Connection, key: Key, item_id: str) -> Shown | Missing | Locked | None:
    """Remove an item; the conversation, or None where that is not found."""
    rows = connection.execute(sql.TAKE, key.values())
    if not rows:
        why = _why_not(connection, key)
        return why if isinstance(why, Locked) else None
    [(n, at, _)] = rows
    found = _item(connection, key, n, item_id)
    if found is None:
        return Missing()
    pos, n_item, _, size = found
    seen = bool(connection.execute(sql.SAW, {"n": n, "pos": pos}))
    if seen:
        connection.change(sql.MARK_REMOVED, {"n": n, "pos": pos, "at": at})
    else:
        connection.change(sql.DELETE_POINTER, {"conversation": n, "pos": pos})
        delete_items(connection, [n_item])
    connection.change(sql.SHRINK, {"n": n, "count": int(seen), "bytes": size})
    return find(connection, key)


# --- the sweep -----------------------------------------------------------------------------------


def sweep(connection: Connection, keep_s: float) -> int:
    """Delete some of what no conversation has any more; returns how much, 0 for nothing.

    `keep_s` is as in Key.
    """
    limit: dict[str, Any] = {"limit": STEP_ROWS}
    expired = connection.change(sql.EXPIRE, limit | {"keep_s": keep_s}) if keep_s else 0
    for statement in (sql.REMOVED, sql.OF_DELETED):
        rows = connection.execute(statement, limit)
        if rows:
            pointers = [{"conversation": n, "pos": pos} for n, pos, _ in rows]
            connection.execute_many(sql.DELETE_POINTER, pointers)
            delete_items(connection, sorted({n_item for *_, n_item in rows}))
            return len(rows)
    deleted = connection.execute(sql.DELETE_EMPTY, limit)
    freed(connection, deleted)
    return expired + len(deleted)
