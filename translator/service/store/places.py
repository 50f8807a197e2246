"""Places in conversations: where a response begins, and what stands before it."""

from __future__ import annotations

from msgspec import Struct

from translator.service.database.connection import Connection, Row

from . import conversation_statements as sql


class Missing(Exception):
    """There is no such conversation of this owner, or no such item in it."""


class Key(Struct, frozen=True):
    """A conversation, by its id; `keep_s` is how long one is kept after a change, 0 for ever."""

    owner: str
    id: str
    keep_s: float

    def values(self, **more: object) -> dict[str, object]:
        """The parameters of a statement."""
        return {"owner": self.owner, "id": self.id, "keep_s": self.keep_s, **more}


class Place(Struct, frozen=True):
    """A place in a conversation: `n` is its key, and what stands before `upto` precedes.

    `token` is that of its lock, which is held from there on; empty where it is only read.
    """

    n: int
    upto: int
    size: int
    """The bytes of the items before it."""

    token: str = ""


def place_of(connection: Connection, key: Key) -> Place:
    """The end of a conversation; raises Missing."""
    rows = connection.execute(sql.FOUND, key.values())
    if not rows:
        raise Missing
    n, upto, size, *_ = rows[0]
    return Place(n, upto, size)


def context(connection: Connection, place: Place) -> list[Row]:
    """What stands before a place: (id, body, sealed body) of each item."""
    return connection.execute(sql.CONTEXT, {"n": place.n, "upto": place.upto})
