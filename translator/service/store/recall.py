"""Recall: what a request refers to, read from the store in one transaction.

context = the items of the response before, and of all before it, oldest first
input   = { item | reference to a stored item }
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Raw, Struct

from translator.service.database.connection import Connection
from translator.wire.json_values import NOT_JSON

from . import statements as sql

MAX_REFERENCE_BYTES = 512
"""Only shorter items are looked at as references: they have an id, and a type at most."""

_CONTINUABLE = frozenset({"completed", "incomplete", "cancelled"})
_RUNNING = frozenset({"queued", "in_progress"})


class _Head(Struct, frozen=True):
    """What tells a reference from other items."""

    type: str | None = None
    id: str | None = None
    role: str | None = None


_read_head = msgspec.json.Decoder(_Head).decode


class Parent(Struct, frozen=True):
    """The response that a request goes on from; `n` is its key."""

    n: int
    chain: int
    """The responses in its chain, itself included."""

    size: int
    """The bytes of its chain."""


class StoredItem(Struct, frozen=True):
    """An item for the upstream; `n` is its key."""

    n: int
    body: Raw


class Recalled(Struct, frozen=True):
    """What was found. Of the input: `items` has an entry for each item that is the response's own.

    An entry is the item as it came, or the key of the stored one that it refers to.
    """

    parent: Parent | None
    earlier: list[Raw] | None
    resolved: Mapping[str, Raw]
    duplicates: Mapping[int, str]
    items: Sequence[Raw | int]


class ParentMissing(Exception):
    """The response before is not found, or cannot be continued; `running`: not yet."""

    def __init__(self, *, running: bool = False) -> None:
        self.running = running


class ContextTooLarge(Exception):
    """The context of the response before is over a bound; the text says which."""


def recall(
    connection: Connection,
    owner: str,
    parent_id: str | None,
    source: Sequence[Raw],
    *,
    max_chain: int,
    max_bytes: int,
) -> Recalled:
    """Read what a request refers to, with three queries at most.

    Raises ParentMissing and ContextTooLarge.
    """
    parent: Parent | None = None
    earlier: list[Raw] | None = None
    seen: set[str] = set()
    if parent_id is not None:
        parent = _parent(connection, owner, parent_id)
        if parent.chain >= max_chain:
            raise ContextTooLarge(f"its chain has {parent.chain} responses, as many as it may have")
        if parent.size > max_bytes:
            raise ContextTooLarge(f"its conversation is over {max_bytes} bytes")
        earlier = []
        for item_id, body, sealed in connection.execute(sql.CHAIN_ITEMS, {"n": parent.n}):
            seen.add(item_id)
            earlier.append(Raw(body if sealed is None else sealed))
    heads = [_head(raw, seen) for raw in source]
    wanted = list(dict.fromkeys(one.id for one in heads if one is not None and _refers(one)))
    found = _stored(connection, owner, [one for one in wanted if one is not None])
    duplicates: dict[int, str] = {}
    items: list[Raw | int] = []
    for index, (raw, head) in enumerate(zip(source, heads, strict=True)):
        if head is None or head.id is None:
            items.append(raw)
        elif head.id in seen:
            duplicates[index] = head.id
        elif not _refers(head):
            items.append(raw)
        elif (stored := found.get(head.id)) is not None:
            seen.add(head.id)
            items.append(stored.n)
    return Recalled(
        parent=parent,
        earlier=earlier,
        resolved={item_id: stored.body for item_id, stored in found.items()},
        duplicates=duplicates,
        items=items,
    )


def _parent(connection: Connection, owner: str, parent_id: str) -> Parent:
    rows = connection.execute(sql.RESPONSE, {"owner": owner, "id": parent_id})
    if not rows:
        raise ParentMissing
    n, _, _, _, status, temporary = rows[0]
    if status not in _CONTINUABLE or temporary:
        raise ParentMissing(running=status in _RUNNING and not temporary)
    [(count, size)] = connection.execute(sql.CHAIN_SIZE, {"n": n})
    return Parent(n, count, int(size))


def _head(raw: Raw, seen: set[str]) -> _Head | None:
    """The head of an item that may be a reference, or stand in a context; None for others."""
    if not seen and len(raw) > MAX_REFERENCE_BYTES:
        return None
    try:
        return _read_head(raw)
    except NOT_JSON:
        return None  # a faulty item, which is refused later


def _refers(head: _Head) -> bool:
    """Whether it is a reference: an item of that type, or of an id alone."""
    if head.id is None:
        return False
    return head.type == "item_reference" or (head.type is None and head.role is None)


def may_refer(source: Sequence[Raw]) -> bool:
    """Whether an item of the input is a reference."""
    heads = (_head(raw, set()) for raw in source)
    return any(head is not None and _refers(head) for head in heads)


def _stored(connection: Connection, owner: str, ids: Sequence[str]) -> dict[str, StoredItem]:
    if not ids:
        return {}
    values = {"owner": owner, "ids": msgspec.json.encode(ids).decode()}
    return {
        item_id: StoredItem(n, Raw(body if sealed is None else sealed))
        for item_id, n, body, sealed in connection.execute(sql.REFERENCED, values)
    }
