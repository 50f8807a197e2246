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
from .places import Key, Place, context, place_of

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
    """What a request goes on from is over a bound; the text says which."""


def recall(
    connection: Connection,
    owner: str,
    parent_id: str | None,
    source: Sequence[Raw],
    *,
    max_chain: int,
    max_bytes: int,
    conversation: Key | Place | None = None,
    conversation_s: float = 0.0,
) -> Recalled:
    """Read what a request refers to, with three queries at most.

    `conversation` is what it goes on from, in place of a response; `conversation_s` is how long one
    is kept, 0 for ever. Raises ParentMissing, Missing and ContextTooLarge.
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
        for item_id, body, sealed, *_ in connection.execute(sql.CHAIN_ITEMS, {"n": parent.n}):
            seen.add(item_id)
            earlier.append(Raw(body if sealed is None else sealed))
    elif conversation is not None:
        if isinstance(conversation, Key):
            conversation = place_of(connection, conversation)
        if conversation.size > max_bytes:
            raise ContextTooLarge(f"it is over {max_bytes} bytes")
        rows = context(connection, conversation)
        seen = {item_id for item_id, *_ in rows}
        earlier = [Raw(body if sealed is None else sealed) for _, body, sealed in rows]
    heads = [_head(raw, seen) for raw in source]
    wanted = list(dict.fromkeys(one.id for one in heads if one is not None and _refers(one)))
    ids = [one for one in wanted if one is not None]
    found = _stored(connection, owner, ids, conversation_s)
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


def reference_of(raw: Raw) -> str | None:
    """The id that an item refers to; None for any other item."""
    head = _head(raw, set())
    return head.id if head is not None and _refers(head) else None


def may_refer(source: Sequence[Raw]) -> bool:
    """Whether an item of the input is a reference."""
    return any(reference_of(raw) is not None for raw in source)


def _stored(
    connection: Connection, owner: str, ids: Sequence[str], conversation_s: float
) -> dict[str, StoredItem]:
    if not ids:
        return {}
    listed = msgspec.json.encode(ids).decode()
    values = {"owner": owner, "ids": listed, "keep_s": conversation_s}
    return {
        item_id: StoredItem(n, Raw(body if sealed is None else sealed))
        for item_id, n, body, sealed in connection.execute(sql.REFERENCED, values)
    }
