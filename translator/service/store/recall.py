"""Recall: what a request refers to, read from the store in one transaction.

context = the items of the response before, and of all before it, oldest first
input   = { item | reference to a stored item }
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Raw, Struct

from translator.service.database.connection import Connection
from translator.wire.errors import InvalidRequest
from translator.wire.json_values import NOT_JSON

from . import statements as sql
from .owners import used

MAX_REFERENCE_BYTES = 512
"""Only shorter items are looked at as references: they have an id, and a type at most."""

CONTINUABLE = frozenset({"completed", "incomplete", "cancelled"})
RUNNING = frozenset({"queued", "in_progress"})


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
    """The responses in its chain that requests named, itself included."""

    size: int
    """The bytes of its chain."""


class StoredItem(Struct, frozen=True):
    """An item; `n` is its key, `shown` how clients see it, `body` the same for the upstream."""

    n: int
    body: Raw
    shown: bytes


class Recalled(Struct, frozen=True):
    """What was found. Of the input: `items` has an entry for each item that is the response's own.

    An entry is the item as it came, or the key of the stored one that it refers to, whose body is
    `stored`. `used` are the bytes of the owner, where they were asked for.
    """

    parent: Parent | None
    earlier: list[Raw] | None
    resolved: Mapping[str, Raw]
    duplicates: Mapping[int, str]
    items: Sequence[Raw | int]
    stored: Mapping[int, bytes] = {}
    used: int = 0


class ParentMissing(Exception):
    """The response before is not found, or cannot be continued; `running`: not yet.

    `link` is the id of the response that is missing in its chain, if it is not itself.
    """

    def __init__(self, link: str | None = None, *, running: bool = False) -> None:
        super().__init__(link)
        self.link = link
        self.running = running


def parent_missing(response_id: str | None, error: ParentMissing) -> InvalidRequest:
    """The error for a client that has named a response."""
    what = f"Previous response with id '{response_id}' not found."
    if error.running:
        what = f"Previous response with id '{response_id}' is still in progress."
    elif error.link is not None:
        what = (
            f"Previous response with id '{error.link}' not found: '{response_id}' goes on from it."
        )
    return InvalidRequest(what, param="previous_response_id", code="previous_response_not_found")


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
    with_used: bool = False,
) -> Recalled:
    """Read what a request refers to, with three queries at most.

    `with_used`: and the bytes of the owner. Raises ParentMissing and ContextTooLarge.
    """
    parent: Parent | None = None
    bytes_used = 0
    earlier: list[Raw] | None = None
    seen: set[str] = set()
    if parent_id is not None:
        parent, bytes_used = find_parent(connection, owner, parent_id)
        if parent.chain >= max_chain:
            raise ContextTooLarge(f"its chain has {parent.chain} responses, as many as it may have")
        if parent.size > max_bytes:
            raise ContextTooLarge(f"its conversation is over {max_bytes} bytes")
        earlier = []
        for item_id, body, sealed in connection.execute(
            sql.CHAIN_ITEMS, {"n": parent.n, "stops": 1}
        ):
            seen.add(item_id)
            earlier.append(Raw(body if sealed is None else sealed))
    elif with_used:
        bytes_used = used(connection, owner)
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
        stored={one.n: one.shown for one in found.values()},
        used=bytes_used,
    )


def find_parent(
    connection: Connection, owner: str, parent_id: str, *, continued: bool = True
) -> tuple[Parent, int]:
    """A response that is found, and the bytes of its owner; raises ParentMissing.

    `continued`: it is to be gone on from; else what it saw itself is read.
    """
    values = {"owner": owner, "id": parent_id, "stops": int(continued)}
    rows = connection.execute(sql.CHAIN_SIZE, values)
    if not rows:
        raise ParentMissing
    n, status, temporary, links, size, missing, bytes_used = rows[0]
    if continued and (status not in CONTINUABLE or temporary):
        raise ParentMissing(running=status in RUNNING and not temporary)
    if missing is not None:
        values = {"n": n, "stops": int(continued), "depth": missing}
        raise ParentMissing(connection.execute(sql.CHAIN_LINK, values)[0][0])
    return Parent(n, int(links), int(size)), int(bytes_used)


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
        item_id: StoredItem(n, Raw(body if sealed is None else sealed), bytes(body))
        for item_id, n, body, sealed in connection.execute(sql.REFERENCED, values)
    }
