"""Pages of lists: what a query asks for.

?limit=1…100 [&order=asc | desc] [&after=ID]
"""

from __future__ import annotations

from collections.abc import Mapping

from translator.service.store.pages import Page
from translator.wire.errors import InvalidRequest

DEFAULT_LIMIT = 20
MAX_LIMIT = 100


def page_of(query: Mapping[str, list[str]]) -> Page:
    """The page that a query asks for; raises InvalidRequest."""
    limit = query.get("limit", [str(DEFAULT_LIMIT)])[-1]
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= MAX_LIMIT):
        raise _invalid("limit", f"expected a number from 1 to {MAX_LIMIT}")
    order = query.get("order", ["desc"])[-1]
    if order not in ("asc", "desc"):
        raise _invalid("order", "expected 'asc' or 'desc'")
    after = query.get("after", [""])[-1]
    return Page(int(limit), order == "asc", after or None)


def after_unknown(page: Page) -> InvalidRequest:
    """The error for a page after an item that the list does not have."""
    return _invalid("after", f"no item of the list has the id '{page.after}'")


def _invalid(name: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"Invalid '{name}': {why}.", param=name, code="invalid_value")
