"""Resends: requests that begin with the context of a stored response, item by item.

    digest(0) = salt        digest(k + 1) = hash( digest(k), item k )

Many clients send the whole conversation each time. A response has the digest of its context and its
output, and so the next request is known to begin with them: only what follows is stored, with that
response for a parent. Clients see no difference.

    same    each item means the same; one that the client gave an id has that of the stored item;
            and one whose reasoning is sealed has its id, since the seal is not sent again without
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from hashlib import blake2b

import msgspec
from msgspec import Raw, Struct

from translator.service.database.connection import Connection
from translator.wire.json_values import NOT_JSON

from . import statements as sql
from .removal import listed
from .shown import canonical

LOOK_BACK = 64
"""Most places of a context, its last ones, at which it is looked for a response that ends there."""

TRIES = 3
"""Most responses that are compared with a request."""

OWN_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
"""An id of a client that may be an item's."""

_SAID = frozenset({"reasoning", "function_call", "custom_tool_call", "compaction"})
_DIGEST_BYTES = 16


class Head(Struct, frozen=True):
    """The type, role and id of an item; empty for a faulty one, which is refused."""

    type: str | None = None
    role: str | None = None
    id: str | None = None

    @property
    def own_id(self) -> str | None:
        """The id, where it may be the item's."""
        return self.id if self.id is not None and OWN_ID.fullmatch(self.id) else None

    @property
    def said(self) -> bool:
        """Whether it may be an item that a response ends with."""
        if self.type in (None, "message"):
            return self.role == "assistant"
        return self.type in _SAID or str(self.type).endswith("_call")


_read_head = msgspec.json.Decoder(Head).decode


def head_of(raw: Raw | bytes) -> Head:
    """The head of an item."""
    try:
        return _read_head(raw)
    except NOT_JSON:
        return Head()


class Beginning(Struct, frozen=True):
    """How a request's own input begins: with `count` items of the context of the response `parent`.

    `digest` is that of its first `digested` items, which may be more; None where it has none.
    """

    parent: int | None = None
    count: int = 0
    digest: str | None = None
    digested: int = 0


def extend(digest: str | None, meaning: bytes | None) -> str | None:
    """The digest of a context with one more item, by its canonical form."""
    if digest is None or meaning is None:
        return None
    return blake2b(meaning, key=bytes.fromhex(digest), digest_size=_DIGEST_BYTES).hexdigest()


def beginning(
    connection: Connection,
    owner: str,
    salt: str,
    source: Sequence[Raw | int],
    stored: Mapping[int, bytes],
) -> Beginning:
    """Find the response with the longest context that a request begins with.

    `source` is the input, items or keys of stored ones, whose bodies are `stored`.
    """
    digest: str | None = salt
    ends: dict[str, int] = {}  # the items before, by the digest of a context that may end there
    ids: dict[str, str | None] = {}  # of the last of them
    heads: list[Head | int] = []
    for one in source:
        body = stored.get(one) if isinstance(one, int) else one
        digest = None if body is None else extend(digest, canonical(body))
        if body is None or digest is None:
            break
        head = head_of(body)
        heads.append(one if isinstance(one, int) else head)
        if head.said:
            ends[digest] = len(heads)
            ids[digest] = head.own_id
    found = Beginning(digest=digest, digested=len(heads))
    last = list(ends)[-LOOK_BACK:]
    if not last:
        return found
    said = [item_id for end in last if (item_id := ids[end]) is not None]
    values = {
        "owner": owner,
        "ids": listed(said),
        "digests": listed([end for end in last if ids[end] is None]),
    }
    rows = [row for row in connection.execute(sql.SAME_CONTEXT, values) if row[1] in ends]
    rows.sort(key=lambda row: (-ends[row[1]], -row[0]))
    for n, end in rows[:TRIES]:
        context = connection.execute(sql.CHAIN_HEADS, {"n": n, "stops": 1})
        if _is_same(heads[: ends[end]], context):
            return msgspec.structs.replace(found, parent=n, count=ends[end])
    return found


def _is_same(heads: Sequence[Head | int], context: Sequence[tuple[int, str, bool]]) -> bool:
    """Whether items of the same meaning are those of a context."""
    if len(heads) != len(context):
        return False
    for head, (n, item_id, sealed) in zip(heads, context, strict=True):
        if isinstance(head, int):
            if head != n:
                return False
        elif head.own_id != item_id and (sealed or head.own_id is not None):
            return False
    return True
