"""Keeping: a response as rows, in one transaction, so that it is there whole or not at all.

Each function may be run twice: the outcome of a commit is not known where its connection breaks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import msgspec
from msgspec import Raw, Struct

from translator.service.database.connection import Connection
from translator.service.database.statement import Statement
from translator.wire.items import OutputItem
from translator.wire.json_values import NOT_JSON
from translator.wire.responses import Response

from . import statements as sql
from .recall import Parent

ROWS = 500
"""Most rows of one call of the driver, which holds Python's lock meanwhile."""

_OWN_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")

_PREFIXES = {
    "message": "msg_",
    "reasoning": "rs_",
    "function_call": "fc_",
    "function_call_output": "fc_",
    "custom_tool_call": "ctc_",
    "custom_tool_call_output": "ctc_",
    "compaction": "cmp_",
}
"""Of ids that are made here; those of other kinds begin with `item_`."""


class ParentGone(Exception):
    """The response before, or an item that is referred to, was deleted meanwhile."""


class Draft(Struct, frozen=True):
    """A response that is to be stored, and its own items.

    `source` are its input items, as they came or as keys of stored ones; `kept_output` is its
    output with sealed reasoning. It is kept for `keep_s` seconds.
    """

    owner: str
    response: Response
    kept_output: Sequence[OutputItem]
    source: Sequence[Raw | int]
    parent: Parent | None
    keep_s: float


class _Item(Struct):
    """An item on its way to its row."""

    id: str
    kind: str
    body: bytes
    sealed: bytes | None = None
    n: int = 0  # its key; 0: it has no row yet
    own: bool = False  # the id is its client's


class _Head(Struct, frozen=True):
    type: str | None = None
    role: str | None = None
    id: str | None = None


_read_head = msgspec.json.Decoder(_Head).decode
_encode = msgspec.json.Encoder().encode


def keep(connection: Connection, draft: Draft, new_id: Callable[[str], str]) -> None:
    """Write the rows of a response; raises ParentGone."""
    owner, response = draft.owner, draft.response
    if connection.execute(sql.KNOWN, {"owner": owner, "id": response.id}):
        return
    thread, depth = None, 0
    if draft.parent is not None:
        rows = connection.execute(sql.PARENT, {"n": draft.parent.n, "owner": owner})
        if not rows:
            raise ParentGone
        thread, depth = rows[0][0], rows[0][1] + 1
    _check_references(connection, [one for one in draft.source if isinstance(one, int)])
    given = [_given(one, new_id) for one in draft.source]
    _find_rows(connection, owner, given, new_id)
    made = [
        _made(shown, kept) for shown, kept in zip(response.output, draft.kept_output, strict=True)
    ]
    new = [one for one in (*given, *made) if not one.n]
    keys = _keys(connection, len(new) + 2)
    n = keys.pop()
    values = {"n": thread or keys.pop(), "owner": owner, "keep_s": draft.keep_s}
    connection.change(sql.EXTEND_THREAD if thread else sql.NEW_THREAD, values)
    for item in new:
        item.n = keys.pop(0)
    body = _encode(msgspec.structs.replace(response, output=[]))
    connection.change(
        sql.NEW_RESPONSE,
        {
            "n": n,
            "owner": owner,
            "id": response.id,
            "thread": values["n"],
            "parent": None if draft.parent is None else draft.parent.n,
            "depth": depth,
            "status": response.status,
            "model": response.model,
            "bytes": len(body) + sum(_size(one) for one in (*given, *made)),
        },
    )
    connection.change(sql.NEW_BODY, {"response": n, "body": body})
    _insert_items(connection, owner, new, new_id)
    _insert(
        connection,
        sql.NEW_POINTER,
        [
            {"response": n, "pos": pos, "side": int(pos >= len(given)), "item": one.n}
            for pos, one in enumerate((*given, *made))
        ],
    )


def add_items(
    connection: Connection, owner: str, source: Sequence[Raw | int], new_id: Callable[[str], str]
) -> list[int]:
    """Write items that belong to no response; returns the keys of all. Raises ParentGone."""
    _check_references(connection, [one for one in source if isinstance(one, int)])
    given = [_given(one, new_id) for one in source]
    _find_rows(connection, owner, given, new_id)
    new = [one for one in given if not one.n]
    for one, n in zip(new, _keys(connection, len(new)), strict=True):
        one.n = n
    _insert_items(connection, owner, new, new_id)
    return [one.n for one in given]


def _insert_items(
    connection: Connection, owner: str, new: list[_Item], new_id: Callable[[str], str]
) -> None:
    """Insert items; one whose id another process has taken is that one, or gets another."""
    rows = [
        {
            "n": one.n,
            "owner": owner,
            "id": one.id,
            "kind": one.kind,
            "body": one.body,
            "sealed": one.sealed,
            "bytes": _size(one),
        }
        for one in new
    ]
    _insert(connection, sql.NEW_ITEM, rows)
    theirs = [one for one in new if one.own]
    if not theirs or connection.kind == "sqlite":  # where no other process writes meanwhile
        return
    keys = [one.n for one in theirs]
    there = {n for (n,) in connection.execute(sql.STILL_THERE, {"ids": _listed(keys)})}
    taken = [one for one in theirs if one.n not in there]
    for one in taken:
        key, one.n = one.n, 0
        _find_rows(connection, owner, [one], new_id)
        if not one.n:
            one.n = key
            _insert_items(connection, owner, [one], new_id)


def _size(item: _Item) -> int:
    return len(item.body) + len(item.sealed or b"")


def _insert(connection: Connection, statement: Statement, rows: list[dict[str, Any]]) -> None:
    for start in range(0, len(rows), ROWS):
        connection.execute_many(statement, rows[start : start + ROWS])


def _keys(connection: Connection, count: int) -> list[int]:
    """So many new keys, in ascending order."""
    rows = connection.execute(sql.KEYS, {"count": count})
    if connection.kind == "sqlite":
        first = rows[0][0]
        return list(range(first, first + count))
    return [key for (key,) in rows]


def _given(one: Raw | int, new_id: Callable[[str], str]) -> _Item:
    """An input item; it has its client's id where that fits."""
    if isinstance(one, int):
        return _Item("", "", b"", n=one)
    try:
        head = _read_head(one)
    except NOT_JSON:
        head = _Head()
    kind = head.type or "message"
    own = head.id if head.id is not None and _OWN_ID.fullmatch(head.id) else None
    return _Item(own or new_id(_prefix(kind)), kind, bytes(one), own=own is not None)


def _prefix(kind: str) -> str:
    return _PREFIXES.get(kind, "item_")


def _made(shown: OutputItem, kept: OutputItem) -> _Item:
    body = _encode(shown)
    sealed = body if kept is shown else _encode(kept)
    return _Item(shown.id, _kind(type(shown)), body, None if sealed == body else sealed)


@cache
def _kind(of: type[OutputItem]) -> str:
    return str(of.__struct_config__.tag)


def _find_rows(
    connection: Connection, owner: str, given: list[_Item], new_id: Callable[[str], str]
) -> None:
    """Let items be the stored ones of their ids where they are equal, else have other ids."""
    ids = list({one.id for one in given if one.own})  # others are random, and new
    found: dict[str, tuple[int, bytes]] = {}
    for start in range(0, len(ids), ROWS):
        listed = _listed(ids[start : start + ROWS])
        for item_id, n, body in connection.execute(sql.SAME_IDS, {"owner": owner, "ids": listed}):
            found[item_id] = n, bytes(body)
    used: set[str] = set()
    for one in given:
        if one.n:
            continue
        stored = found.get(one.id)
        if one.id in used or (stored is not None and not _equal(stored[1], one.body)):
            one.id, one.own = new_id(_prefix(one.kind)), False
        elif stored is not None:
            one.n = stored[0]
        used.add(one.id)


def _check_references(connection: Connection, keys: list[int]) -> None:
    wanted = sorted(set(keys))
    for start in range(0, len(wanted), ROWS):
        some = wanted[start : start + ROWS]
        if len(connection.execute(sql.STILL_THERE, {"ids": _listed(some)})) < len(some):
            raise ParentGone


def _listed(values: Sequence[object]) -> str:
    return msgspec.json.encode(values).decode()


def _equal(one: bytes, other: bytes) -> bool:
    return one == other or msgspec.json.decode(one) == msgspec.json.decode(other)


def keep_output(
    connection: Connection,
    owner: str,
    n: int,
    output: Sequence[OutputItem],
    kept: Sequence[OutputItem],
    new_id: Callable[[str], str],
) -> int:
    """Write the output of a response whose other rows are there; returns the bytes of its items.

    `kept` is the output with sealed reasoning.
    """
    made = [_made(shown, sealed) for shown, sealed in zip(output, kept, strict=True)]
    for one, key in zip(made, _keys(connection, len(made)), strict=True):
        one.n = key
    _insert_items(connection, owner, made, new_id)
    [(start,)] = connection.execute(sql.NEXT_POS, {"n": n})
    _insert(
        connection,
        sql.NEW_POINTER,
        [
            {"response": n, "pos": pos, "side": 1, "item": one.n}
            for pos, one in enumerate(made, start)
        ],
    )
    return sum(map(_size, made))


# --- deletion --------------------------------------------------------------------------------


def delete(connection: Connection, owner: str, response_id: str) -> bool:
    """Delete a response; False where there is none.

    Its items stay as long as another response goes on from it: they are the other's context.
    """
    rows = connection.execute(sql.RESPONSE, {"owner": owner, "id": response_id})
    if not rows:
        return False
    remove(connection, rows[0][0])
    return True


def undo(connection: Connection, owner: str, response_id: str) -> None:
    """Delete a response that its client was told could not be stored."""
    for (n,) in connection.execute(sql.KNOWN, {"owner": owner, "id": response_id}):
        remove(connection, n)


def remove(connection: Connection, n: int) -> None:
    """Delete a response, and what before it is deleted already and now continued by nothing."""
    connection.change(sql.MARK_DELETED, {"n": n})
    connection.change(sql.DELETE_BODY, {"n": n})
    connection.change(sql.DELETE_EVENTS, {"n": n})
    at: int | None = n
    while at is not None:
        connection.execute(sql.LOCKED, {"n": at})
        rows = connection.execute(sql.PRUNABLE, {"n": at})
        if not rows:
            return
        [(parent, thread)] = rows
        items = [item for (item,) in connection.execute(sql.POINTED, {"n": at})]
        connection.change(sql.DELETE_POINTERS, {"n": at})
        delete_items(connection, items)
        connection.change(sql.DELETE_RESPONSE, {"n": at})
        connection.change(sql.DELETE_THREAD, {"n": thread})
        at = parent


def delete_items(connection: Connection, keys: Sequence[int]) -> None:
    """Delete items, but for those that a response still has."""
    connection.execute(sql.LOCKED_ITEMS, {"ids": _listed(keys)})
    _insert(connection, sql.DELETE_ITEM, [{"n": key} for key in keys])
