"""Pages: a list of items, part by part."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from translator.service.database.connection import Connection

from . import statements as sql
from .shown import item_resource


class Page(Struct, frozen=True):
    """Which items of a list are asked for; `after` is the id of the one before them."""

    limit: int
    ascending: bool
    after: str | None


class ItemList(Struct, frozen=True):
    """A page of items."""

    data: list[Raw]
    first_id: str
    last_id: str
    has_more: bool
    object: str = "list"


class AfterUnknown(Exception):
    """The list has no item with the id that a page is to begin after."""


def page_of(
    connection: Connection, listed: list[tuple[int, str]], page: Page
) -> ItemList | AfterUnknown:
    if not page.ascending:
        listed.reverse()
    start = 0
    if page.after is not None:
        places = [index for index, (_, item_id) in enumerate(listed) if item_id == page.after]
        if not places:
            return AfterUnknown()
        start = places[0] + 1
    some = listed[start : start + page.limit]
    keys = msgspec.json.encode([n for n, _ in some]).decode()
    bodies = {n: body for n, _, body in connection.execute(sql.ITEM_BODIES, {"ids": keys})}
    return ItemList(
        data=[item_resource(item_id, bodies[n]) for n, item_id in some],
        first_id=some[0][1] if some else "",
        last_id=some[-1][1] if some else "",
        has_more=start + page.limit < len(listed),
    )
