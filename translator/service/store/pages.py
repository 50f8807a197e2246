"""Pages: a list of items, part by part."""

from __future__ import annotations

from msgspec import Raw, Struct


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
