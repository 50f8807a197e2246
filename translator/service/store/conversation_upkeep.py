"""Upkeep of conversations: what `translator store` shows, checks and deletes of them."""

from __future__ import annotations

import sqlalchemy as sa
from msgspec import Struct

from translator.service.config.store import Location
from translator.service.database.core import connected
from translator.service.database.statement import DatabaseTime

from .tables import CONVERSATION_ITEMS, CONVERSATIONS, ITEMS, RESPONSES


class StoredConversation(Struct, frozen=True):
    """A line of the list: times are in seconds since 1970."""

    id: str
    owner: str
    items: int
    created_at: float
    touched_at: float
    bytes: int


def listed(
    location: Location, time: DatabaseTime, owner: str | None, limit: int, keep_s: float
) -> list[StoredConversation]:
    """The conversations that were changed last, of one client or of all; raises Unavailable.

    `keep_s` is how long one is kept after a change, 0 for ever.
    """
    one, pointer = CONVERSATIONS.c, CONVERSATION_ITEMS.c
    count = (
        sa.select(sa.func.count())
        .where(pointer.conversation == one.n, pointer.removed.is_(None))
        .scalar_subquery()
    )
    query = (
        sa.select(one.id, one.owner, count, one.created_at, one.touched_at, one.bytes)
        .where(one.deleted_at.is_(None))
        .order_by(one.touched_at.desc(), one.n.desc())
        .limit(limit)
    )
    if owner is not None:
        query = query.where(one.owner == owner)
    if keep_s:
        now = sa.literal_column(time.expression(location.kind), sa.Float)
        query = query.where(one.touched_at > now - keep_s)
    with connected(location) as connection:
        return [StoredConversation(*row) for row in connection.execute(query)]


def checks() -> dict[str, sa.Select[tuple[int]]]:
    """Queries of rows that are wrong, by a noun for them."""
    one, pointer, response = CONVERSATIONS, CONVERSATION_ITEMS, RESPONSES
    sums = (
        sa.select(
            pointer.c.conversation, sa.func.count().label("count"), sa.func.sum(ITEMS.c.bytes)
        )
        .join(ITEMS, ITEMS.c.n == pointer.c.item)
        .where(pointer.c.removed.is_(None))
        .group_by(pointer.c.conversation)
        .subquery()
    )
    return {
        "conversations that name an item that is missing": sa.select(pointer.c.conversation)
        .outerjoin(ITEMS, ITEMS.c.n == pointer.c.item)
        .where(ITEMS.c.n.is_(None)),
        "conversations with an item of another client": sa.select(pointer.c.conversation)
        .join(ITEMS, ITEMS.c.n == pointer.c.item)
        .join(one, one.c.n == pointer.c.conversation)
        .where(ITEMS.c.owner != one.c.owner),
        "items of conversations that are missing": sa.select(pointer.c.item)
        .outerjoin(one, one.c.n == pointer.c.conversation)
        .where(one.c.n.is_(None)),
        "items behind the end of their conversation": sa.select(pointer.c.item)
        .join(one, one.c.n == pointer.c.conversation)
        .where(pointer.c.pos >= one.c.next_pos),
        "conversations whose size is wrong": sa.select(one.c.n)
        .outerjoin(sums, sums.c.conversation == one.c.n)
        .where(one.c.deleted_at.is_(None), one.c.bytes != sa.func.coalesce(sums.c[2], 0)),
        "responses whose conversation is missing": sa.select(response.c.n)
        .outerjoin(one, one.c.n == response.c.conversation)
        .where(response.c.conversation.is_not(None), one.c.n.is_(None)),
        "responses of another client than their conversation": sa.select(response.c.n)
        .join(one, one.c.n == response.c.conversation)
        .where(response.c.owner != one.c.owner),
    }


def delete(location: Location, time: DatabaseTime, owner: str | None) -> int:
    """Delete all conversations of a client, of all where it is None; returns their number.

    Nothing of them is found from then on. Raises Unavailable.
    """
    now = sa.literal_column(time.expression(location.kind), sa.Float)
    query = sa.update(CONVERSATIONS).values(deleted_at=now, lock_until=None)
    query = query.where(CONVERSATIONS.c.deleted_at.is_(None))
    if owner is not None:
        query = query.where(CONVERSATIONS.c.owner == owner)
    with connected(location) as connection:
        return connection.execute(query).rowcount
