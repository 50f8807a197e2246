"""Text that others chose, on its way to a page: HTML that escapes it, and names that show all.

A text becomes HTML only through `element`, which escapes it. Characters that do not show, such as
controls and marks that turn the direction of writing, are shown as their escape sequences: a name
must not pass for another one.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import TypeAlias


class Markup(str):
    """HTML. A plain `str` is text."""

    __slots__ = ()


Child: TypeAlias = "Markup | str | None"

_VOID = frozenset({"input", "link", "meta"})


def printable(text: str, limit: int) -> str:
    """Text of one line, cut to `limit` characters, with escapes in place of what does not show."""
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def element(
    name: str, attributes: Mapping[str, str | bool] | None = None, *children: Child
) -> Markup:
    """An element; its texts and attributes are escaped. An attribute that is False is left out."""
    written = "".join(
        f" {key}" if value is True else f' {key}="{html.escape(value)}"'
        for key, value in (attributes or {}).items()
        if value is not False
    )
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{joined(*children)}</{name}>")


def joined(*children: Child) -> Markup:
    """Elements and texts after one another; None is nothing."""
    return Markup(
        "".join(
            child if isinstance(child, Markup) else html.escape(child)
            for child in children
            if child is not None
        )
    )
