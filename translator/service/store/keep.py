"""Keeping: a response as rows, in one transaction, so that it is there whole or not at all.

Each function may be run twice: the outcome of a commit is not known where its connection breaks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import msgspec
from msgspec import Raw, Struct

from translator.request.compaction import kept_items
from translator.service.database.connection import Connection
from translator.service.database.statement import Statement
from translator.wire.items import OutputItem
from translator.wire.responses import Response

from . import statements as sql
from .owners import charge
from .recall import CONTINUABLE, RUNNING, Parent
from .removal import listed
from .resends import Beginning, extend, head_of
from .shown import canonical, canonical_output

ROWS = 500
"""Most rows of one call of the driver, which holds Python's lock meanwhile."""

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

    `source` are its input items, as they came or as keys of stored ones, whose bodies are `stored`;
    `kept_output` is its output with sealed reasoning. It is kept for `keep_s` seconds. `salt` is
    that of digests; None: it has none. `begins` is how its input begins, where it has no parent.
    """

    owner: str
    response: Response
    kept_output: Sequence[OutputItem]
    source: Sequence[Raw | int]
    parent: Parent | None
    keep_s: float
    stored: Mapping[int, bytes] = {}
    salt: str | None = None
    begins: Beginning = Beginning()


class _Item(Struct):
    """An item on its way to its row."""

    id: str
    kind: str
    body: bytes
    size: int  # in bytes, its seal included
    sealed: bytes | None = None
    n: int = 0  # its key; 0: it has no row yet
    own: bool = False  # the id is its client's
    made: OutputItem | None = None  # what it is the encoding of

    @property
    def meaning(self) -> bytes | None:
        """What it means, whatever its id; None for a faulty one."""
        return canonical(self.body) if self.made is None else canonical_output(self.made, self.body)


class _Place(Struct, frozen=True):
    """Where a response stands: behind `parent`, in `thread`; 0 for a new one.

    `digest` is that of what precedes its own items.
    """

    digest: str | None
    parent: int | None = None
    thread: int = 0
    depth: int = 0
    implied: bool = False


_encode = msgspec.json.Encoder().encode


def keep(connection: Connection, draft: Draft, new_id: Callable[[str], str]) -> None:
    """Write the rows of a response; raises ParentGone."""
    owner, response = draft.owner, draft.response
    if connection.execute(sql.KNOWN, {"owner": owner, "id": response.id}):
        return
    place = _place(connection, draft)
    source = draft.source[draft.begins.count :] if place.implied else draft.source
    given = _input(connection, owner, source, new_id, draft.stored)
    own = given + [
        _made(shown, kept) for shown, kept in zip(response.output, draft.kept_output, strict=True)
    ]
    new = [one for one in own if not one.n]
    *keys, thread, n = _keys(connection, len(new) + 2)
    values = {"n": place.thread or thread, "owner": owner, "keep_s": draft.keep_s}
    if not connection.change(sql.EXTEND_THREAD if place.thread else sql.NEW_THREAD, values):
        raise ParentGone
    for item, key in zip(new, keys, strict=True):
        item.n = key
    cut = _is_cut([one.kind for one in own])
    carried = _carried(connection, place.parent) if cut else []
    body = _encode(msgspec.structs.replace(response, output=[]))
    connection.change(
        sql.NEW_RESPONSE,
        {
            "n": n,
            "owner": owner,
            "id": response.id,
            "thread": place.thread or thread,
            "parent": place.parent,
            "depth": place.depth,
            "status": response.status,
            "model": response.model,
            "bytes": _sum(own) + sum(size for _, size in carried),
            "digest": None if cut else _digest(draft, place, own),
            "implied": int(place.implied),
            "cut": int(cut),
        },
    )
    connection.change(sql.NEW_BODY, {"response": n, "body": body})
    added = _insert_items(connection, owner, new, new_id)
    _insert(connection, sql.NEW_POINTER, _pointers(n, carried, own, 0, len(given)))
    charge(connection, {owner: added + len(body)})


def _is_cut(kinds: Sequence[str]) -> bool:
    """Whether items of some kinds have a compaction of what precedes them."""
    return "compaction" in kinds and ("compaction_trigger", "compaction") in pairwise(kinds)


def _pointers(
    n: int, carried: Sequence[tuple[int, int]], own: Sequence[_Item], first: int, given: int
) -> list[dict[str, Any]]:
    """The rows that say what a response has; its own items from place `first`, input to `given`."""
    rows = [
        {"response": n, "pos": pos, "side": 1 if pos >= given else 0, "item": one.n}
        for pos, one in enumerate(own, first)
    ]
    if carried:
        rows[:0] = [
            {"response": n, "pos": pos, "side": 2, "item": key}
            for pos, (key, _) in enumerate(carried, -len(carried))
        ]
    return rows


def _place(connection: Connection, draft: Draft) -> _Place:
    """Where the response stands; raises ParentGone."""
    parent = draft.begins.parent if draft.parent is None else draft.parent.n
    if parent is None:
        return _Place(draft.salt)
    rows = connection.execute(sql.PARENT, {"n": parent, "owner": draft.owner})
    if draft.parent is not None:
        if not rows or rows[0][2]:
            raise ParentGone
        thread, depth, _, _, digest = rows[0]
        return _Place(draft.salt and digest, parent, thread, depth + 1)
    if not rows or not rows[0][3]:  # deleted meanwhile: it is stored whole
        return _Place(draft.salt)
    _, depth, _, _, digest = rows[0]
    return _Place(digest, parent, 0, depth + 1, implied=True)


def _digest(draft: Draft, place: _Place, own: Sequence[_Item]) -> str | None:
    """The digest of the whole context, so far; None where it will not be continued."""
    if draft.salt is None or draft.response.status not in CONTINUABLE | RUNNING:
        return None
    digest, begins = place.digest, draft.begins
    if draft.parent is None and begins.digested:
        digest, own = begins.digest, own[begins.digested - place.implied * begins.count :]
    for one in own:
        digest = extend(digest, one.meaning)
    return digest


def _carried(connection: Connection, parent: int | None) -> list[tuple[int, int]]:
    """The items of a context that its compaction does not replace: their keys and sizes."""
    if parent is None:
        return []
    rows = connection.execute(sql.CHAIN_KEPT, {"n": parent, "stops": 1})
    earlier = [(n, Raw(body)) for n, body, *_ in rows]
    keys = {id(raw): n for n, raw in earlier}
    kept, _ = kept_items([raw for _, raw in earlier])
    return [(keys[id(raw)], len(raw)) for raw in kept]


def add_items(
    connection: Connection, owner: str, source: Sequence[Raw | int], new_id: Callable[[str], str]
) -> list[int]:
    """Write items that belong to no response; returns the keys of all. Raises ParentGone."""
    given = _input(connection, owner, source, new_id, {})
    new = [one for one in given if not one.n]
    for one, n in zip(new, _keys(connection, len(new)), strict=True):
        one.n = n
    charge(connection, {owner: _insert_items(connection, owner, new, new_id)})
    return [one.n for one in given]


def _input(
    connection: Connection,
    owner: str,
    source: Sequence[Raw | int],
    new_id: Callable[[str], str],
    stored: Mapping[int, bytes],
) -> list[_Item]:
    """Input items; those that are stored have keys. Raises ParentGone."""
    references = [one for one in source if isinstance(one, int)]
    if references:
        _check_references(connection, references)
    given = [_given(one, stored, new_id) for one in source]
    if any(one.own for one in given):  # other ids are random, and new
        _find_rows(connection, owner, given, new_id)
    return given


def _insert_items(
    connection: Connection, owner: str, new: list[_Item], new_id: Callable[[str], str]
) -> int:
    """Insert items; returns the bytes that they add to those of their owner.

    One whose id another process has taken is that one, or gets another.
    """
    rows = [
        {
            "n": one.n,
            "owner": owner,
            "id": one.id,
            "kind": one.kind,
            "body": one.body,
            "sealed": one.sealed,
            "bytes": one.size,
        }
        for one in new
    ]
    _insert(connection, sql.NEW_ITEM, rows)
    size = _sum(new)
    theirs = [one for one in new if one.own]
    if not theirs or connection.kind == "sqlite":  # where no other process writes meanwhile
        return size
    keys = [one.n for one in theirs]
    there = {n for (n,) in connection.execute(sql.STILL_THERE, {"ids": listed(keys)})}
    for one in theirs:
        if one.n in there:
            continue
        size -= one.size
        key, one.n = one.n, 0
        _find_rows(connection, owner, [one], new_id)
        if not one.n:
            one.n = key
            size += _insert_items(connection, owner, [one], new_id)
    return size


def _sum(items: Sequence[_Item]) -> int:
    """The bytes of items."""
    return sum([one.size for one in items])


def _insert(connection: Connection, statement: Statement, rows: list[dict[str, Any]]) -> None:
    for start in range(0, len(rows), ROWS):
        connection.execute_many(statement, rows[start : start + ROWS])


def _keys(connection: Connection, count: int) -> list[int]:
    """So many new keys, in ascending order."""
    rows = connection.execute(sql.KEYS, {"count": count})
    if connection.kind == "sqlite":
        [(first,)] = rows
        return [*range(first, first + count)]
    return [key for (key,) in rows]


def _given(one: Raw | int, stored: Mapping[int, bytes], new_id: Callable[[str], str]) -> _Item:
    """An input item; it has its client's id where that fits."""
    if isinstance(one, int):
        body = stored.get(one, b"")
        return _Item("", "", body, len(body), n=one)
    head = head_of(one)
    kind = head.type or "message"
    own = head.own_id
    return _Item(own or new_id(_prefix(kind)), kind, bytes(one), len(one), own=own is not None)


def _prefix(kind: str) -> str:
    return _PREFIXES.get(kind, "item_")


def _made(shown: OutputItem, kept: OutputItem) -> _Item:
    body = _encode(shown)
    item = _Item(shown.id, _kind(type(shown)), body, len(body), made=shown)
    if kept is not shown and (sealed := _encode(kept)) != body:
        item.sealed, item.size = sealed, item.size + len(sealed)
    return item


@cache
def _kind(of: type[OutputItem]) -> str:
    return str(of.__struct_config__.tag)


def _find_rows(
    connection: Connection, owner: str, given: list[_Item], new_id: Callable[[str], str]
) -> None:
    """Let items be the stored ones of their ids where they are equal, else have other ids."""
    ids = list({one.id for one in given if one.own})
    found: dict[str, tuple[int, bytes]] = {}
    for start in range(0, len(ids), ROWS):
        values = {"owner": owner, "ids": listed(ids[start : start + ROWS])}
        for item_id, n, body in connection.execute(sql.SAME_IDS, values):
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
        if len(connection.execute(sql.STILL_THERE, {"ids": listed(some)})) < len(some):
            raise ParentGone


def _equal(one: bytes, other: bytes) -> bool:
    return one == other or ((meaning := canonical(one)) is not None and meaning == canonical(other))


def keep_output(
    connection: Connection,
    owner: str,
    n: int,
    output: Sequence[OutputItem],
    kept: Sequence[OutputItem],
    new_id: Callable[[str], str],
) -> None:
    """Write the output of a response whose other rows are there.

    `kept` is the output with sealed reasoning.
    """
    made = [_made(shown, sealed) for shown, sealed in zip(output, kept, strict=True)]
    for one, key in zip(made, _keys(connection, len(made)), strict=True):
        one.n = key
    charge(connection, {owner: _insert_items(connection, owner, made, new_id)})
    [(parent, digest, given, last)] = connection.execute(sql.BEFORE_OUTPUT, {"n": n})
    cut = _is_cut([last, *(one.kind for one in made)])
    carried = _carried(connection, parent) if cut else []
    for one in made:
        digest = extend(digest, one.meaning)
    _insert(connection, sql.NEW_POINTER, _pointers(n, carried, made, given, given))
    size = _sum(made) + sum(size for _, size in carried)
    values = {"n": n, "bytes": size, "digest": None if cut else digest, "cut": int(cut)}
    connection.change(sql.ADD_OUTPUT, values)


def set_body(connection: Connection, n: int, body: bytes) -> None:
    """Write the body of a response that is there."""
    for owner, size in connection.execute(sql.BODY_SIZE, {"n": n}):
        connection.change(sql.SET_BODY, {"n": n, "body": body})
        charge(connection, {owner: len(body) - size})
