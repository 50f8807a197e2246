"""Recall: what a request refers to, read from the store in one transaction.

context = the items of the response before, and of all before it, oldest first
input   = { item | reference to a stored item }
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from translator.request.references import (
    MAX_REFERENCE_BYTES,
    ItemHead,
    read_head,
    reference_of,
)
from translator.service.database.connection import Connection, Row
from translator.wire.errors import InvalidRequest
from translator.wire.responses import Request

from . import statements as sql
from .missing_results import Missing, approvals_in, missing_results
from .owners import used
from .places import Key, Place, context, place_of

CONTINUABLE = frozenset({"completed", "incomplete", "cancelled"})
RUNNING = frozenset({"queued", "in_progress"})


_place = itemgetter(2)


class Parent(Struct, frozen=True):
    """The response that a request goes on from; `n` is its key."""

    n: int
    chain: int
    """The responses in its chain that requests named, itself included."""

    size: int
    """The bytes of its chain."""


class Chain(Struct, frozen=True):
    """A response and what precedes it; `keys` are those of its responses, as JSON, newest first.

    `conversation` and `upto` say what the first of them saw of its conversation. `used` are the
    bytes of the owner.
    """

    parent: Parent
    keys: str
    conversation: int | None
    upto: int | None
    used: int

    def items(self, connection: Connection) -> list[Row]:
        """(id, body, place) of each item of its context, in order; the body as it goes upstream."""
        values = {"keys": self.keys, "conversation": self.conversation, "upto": self.upto}
        rows = connection.execute(sql.CHAIN_ITEMS, values)
        rows.sort(key=_place)
        return rows


class StoredItem(Struct, frozen=True):
    """An item; `n` is its key, `shown` how clients see it, `body` the same for the upstream."""

    n: int
    body: Raw
    shown: bytes


class Recalled(Struct, frozen=True):
    """What was found. Of the input: `items` has an entry for each item that is the response's own.

    An entry is the item as it came, or the key of a stored one that it refers to or lacks, whose
    body is `stored`. `completed` is what is read in place of an item, by its index. `used` are the
    bytes of the owner, where they were asked for.
    """

    parent: Parent | None
    earlier: list[Raw] | None
    resolved: Mapping[str, Raw]
    duplicates: Mapping[int, str]
    completed: Mapping[int, Sequence[Raw]]
    items: Sequence[Raw | int]
    stored: Mapping[int, bytes] = {}
    used: int = 0


class _Places:
    """The stored reasoning that an input lacks, at its places."""

    def __init__(
        self,
        source: Sequence[Raw],
        missing: Sequence[Missing],
        found: Mapping[str, StoredItem],
    ) -> None:
        self.completed: dict[int, Sequence[Raw]] = {}
        """The items that are read in place of one of the input, by its index."""
        self.before: dict[int, list[int]] = {}
        """The keys of what precedes an item of the input."""
        self.behind: dict[int, list[int]] = {}
        for one in missing:
            stored = found.get(one.id)
            if stored is None:  # it is found no more
                continue
            own = source[one.at]
            at = self.completed.get(one.at, (own,))
            if one.instead:
                at = tuple(stored.body if raw is own else raw for raw in at)
            elif one.before:
                at = (*at[:-1], stored.body, at[-1])
                self.before.setdefault(one.at, []).append(stored.n)
            else:
                at = (*at, stored.body)
                self.behind.setdefault(one.at, []).append(stored.n)
            self.completed[one.at] = at


class ParentMissing(Exception):
    """The response before is not found, or cannot be continued.

    `running`: it cannot yet; `failed`: it never can. `link` is the id of the response that is
    missing in its chain, if it is not itself.
    """

    def __init__(
        self, link: str | None = None, *, running: bool = False, failed: bool = False
    ) -> None:
        super().__init__(link)
        self.link = link
        self.running = running
        self.failed = failed


def too_large(found: ContextTooLarge, parent_id: str | None) -> InvalidRequest:
    """The error for a client whose response before, or conversation, is over a bound."""
    what, param = "The conversation", "conversation"
    if parent_id is not None:
        what, param = f"Previous response with id '{parent_id}'", "previous_response_id"
    return InvalidRequest(
        f"{what} cannot be continued: {found}.", param=param, code="context_length_exceeded"
    )


def parent_missing(
    response_id: str | None, error: ParentMissing, param: str | None = "previous_response_id"
) -> InvalidRequest:
    """The error for a client that has named a response, in the field `param` or in a path."""
    what = f"Previous response with id '{response_id}' not found."
    if error.running:
        what = f"Previous response with id '{response_id}' is still in progress."
    elif error.failed:
        what = f"Previous response with id '{response_id}' has failed and cannot be continued."
    elif error.link is not None:
        what = (
            f"Previous response with id '{error.link}' not found: '{response_id}' goes on from it."
        )
    return InvalidRequest(what, param=param, code="previous_response_not_found")


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
    with_used: bool = False,
) -> Recalled:
    """Read what a request refers to, with four queries at most.

    `conversation` is what it goes on from, in place of a response; `conversation_s` is how long one
    is kept, 0 for ever. `with_used`: and the bytes of the owner. Raises ParentMissing, Missing and
    ContextTooLarge.
    """
    parent: Parent | None = None
    bytes_used = 0
    earlier: list[Raw] | None = None
    seen: set[str] = set()
    if parent_id is not None:
        chain = find_chain(connection, owner, parent_id)
        parent, bytes_used = chain.parent, chain.used
        if parent.chain >= max_chain:
            raise ContextTooLarge(f"its chain has {parent.chain} responses, as many as it may have")
        if parent.size > max_bytes:
            raise ContextTooLarge(f"its conversation is over {max_bytes} bytes")
        rows = chain.items(connection)
        seen = {item_id for item_id, _, _ in rows}
        earlier = [Raw(body) for _, body, _ in rows]
    elif with_used:
        bytes_used = used(connection, owner)
    if conversation is not None:
        if isinstance(conversation, Key):
            conversation = place_of(connection, conversation)
        if conversation.size > max_bytes:
            raise ContextTooLarge(f"it is over {max_bytes} bytes")
        rows = context(connection, conversation)
        seen = {item_id for item_id, *_ in rows}
        earlier = [Raw(body if sealed is None else sealed) for _, body, sealed in rows]
    heads = [_head(raw, seen) for raw in source]
    wanted = dict.fromkeys(one.reference for one in heads if one is not None)
    ids = [one for one in wanted if one is not None]
    ids += approvals_in(source)
    missing = missing_results(connection, owner, source, seen, max_bytes)
    found = _stored(connection, owner, [*ids, *(one.id for one in missing)], conversation_s)
    duplicates: dict[int, str] = {}
    items: list[Raw | int] = []
    places = _Places(source, missing, found)
    for index, (raw, head) in enumerate(zip(source, heads, strict=True)):
        items += places.before.get(index, ())
        if head is None or head.id is None:
            items.append(raw)
        elif head.id in seen:
            duplicates[index] = head.id
        elif head.reference is None:
            items.append(raw)
        elif (stored := found.get(head.id)) is not None:
            seen.add(head.id)
            items.append(stored.n)
        items += places.behind.get(index, ())
    return Recalled(
        parent=parent,
        earlier=earlier,
        resolved={item_id: stored.body for item_id, stored in found.items()},
        duplicates=duplicates,
        completed=places.completed,
        items=items,
        stored={one.n: one.shown for one in found.values()},
        used=bytes_used,
    )


def find_chain(
    connection: Connection, owner: str, parent_id: str, *, continued: bool = True
) -> Chain:
    """A response that is found, with its chain; raises ParentMissing.

    `continued`: it is to be gone on from; else what it saw itself is read.
    """
    values = {"owner": owner, "id": parent_id, "stops": int(continued)}
    rows = connection.execute(sql.CHAIN, values)
    if not rows:
        raise ParentMissing
    n, status, temporary, links, size, missing, keys, conversation, upto, bytes_used = rows[0]
    if continued and (status not in CONTINUABLE or temporary):
        lasts = not temporary
        raise ParentMissing(
            running=status in RUNNING and lasts, failed=status == "failed" and lasts
        )
    if missing is not None:
        values = {"n": n, "stops": int(continued), "depth": missing}
        raise ParentMissing(connection.execute(sql.CHAIN_LINK, values)[0][0])
    parent = Parent(n, int(links), int(size))
    return Chain(parent, keys, conversation, upto, int(bytes_used))


def _head(raw: Raw, seen: set[str]) -> ItemHead | None:
    """The head of an item that may be a reference, or stand in a context; None for others."""
    return None if not seen and len(raw) > MAX_REFERENCE_BYTES else read_head(raw)


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
        item_id: StoredItem(n, Raw(body if sealed is None else sealed), bytes(body))
        for item_id, n, body, sealed in connection.execute(sql.REFERENCED, values)
    }


def with_message(recalled: Recalled, request: Request) -> Recalled:
    """What was recalled; an input that is a text as its only item."""
    if not isinstance(request.input, str):
        return recalled
    message = {"type": "message", "role": "user", "content": request.input}
    return replace(recalled, items=[Raw(msgspec.json.encode(message))])
