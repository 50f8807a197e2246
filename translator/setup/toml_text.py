"""TOML editor: sets keys in a user's file and leaves the rest byte for byte.

    text = { key }, { "[table]", { key } } ;

A value that is right already is not changed, and one that changes keeps its comment. A new
top-level key goes after the last one, a new key of a table after the last one of that table, and a
new table to the end: never between a comment and the key or table that it describes.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any, cast

import tomlkit
from tomlkit.container import Container
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT, InlineTable, Table

from translator.wire.json_values import as_object

Value = str | bool | None
"""None removes the key."""


class CannotEdit(Exception):
    """The text is not TOML, or holds something else under one of our keys."""


def read(text: str) -> dict[str, Any]:
    """The values in a TOML text; raises CannotEdit."""
    return _parsed(text).unwrap()


def with_keys(text: str, keys: Mapping[str, Value]) -> str:
    """The text with these top-level keys; raises CannotEdit."""
    document = _parsed(text)
    new = _replace(document, keys)
    kept = document.as_string()
    if not new:
        return kept
    end_of_keys = _end_of_keys(document)
    before, after = kept[:end_of_keys], kept[end_of_keys:]
    lines = _lines(new, kept)
    end = _line_end(kept)
    if before and not before.endswith("\n"):
        lines = end + lines
    if not before and after.strip():
        lines += end
    return before + lines + after


def with_table(text: str, path: tuple[str] | tuple[str, str], keys: Mapping[str, Value]) -> str:
    """The text with these keys in the table `[path[0]]`, or `[path[0].path[1]]`.

    Raises CannotEdit.
    """
    document = _parsed(text)
    *outer, inner = path
    parent: object = document
    for name in outer:
        parent = cast("dict[str, object]", document).get(name, {})
    tables = as_object(parent)
    if tables is None:
        raise CannotEdit(f"{path[0]} is not a table")
    if inner not in tables and isinstance(parent, InlineTable):
        tables[inner] = tomlkit.inline_table()
    if inner not in tables:
        given = {key: value for key, value in keys.items() if value is not None}
        end = _line_end(text)
        gap = "" if not text else end if text.endswith("\n") else end * 2
        return f"{text}{gap}[{'.'.join(path)}]{end}{_lines(given, text)}"
    item: object = tables[inner]
    table = as_object(item)
    if table is None:
        raise CannotEdit(f"{'.'.join(path)} is not a table")
    new = _replace(table, keys)
    if isinstance(item, Table):
        _append_keys(item, new, _line_end(text))
    else:
        table.update(new)
    return document.as_string()


def _parsed(text: str) -> tomlkit.TOMLDocument:
    try:
        return tomlkit.parse(text)
    except TOMLKitError as error:
        raise CannotEdit(f"is not TOML: {error}") from None


def _replace(table: MutableMapping[str, Any], keys: Mapping[str, Value]) -> dict[str, Value]:
    """Change or remove the keys that exist; returns those that must be added."""
    for key in keys.keys() & table.keys():
        if keys[key] is None:
            del table[key]
        elif table[key] != keys[key]:
            table[key] = keys[key]
    return {key: v for key, v in keys.items() if v is not None and key not in table}


def _end_of_keys(document: tomlkit.TOMLDocument) -> int:
    """The end of the last top-level key, in characters."""
    last = 0
    for number, (key, item) in enumerate(document.body, 1):
        if isinstance(item, Table | AoT):
            break
        if key is not None:
            last = number
    head = Container()
    head.body.extend(document.body[:last])
    return len(head.as_string())


def _append_keys(table: Table, new: Mapping[str, Value], end: str) -> None:
    """Add keys before the blank lines and comments at the end of a table.

    Those describe the next table.
    """
    body = table.value.body
    tail: list[Any] = []
    while body and body[-1][0] is None:
        tail.insert(0, body.pop())
    for key, value in new.items():
        table[key] = item = tomlkit.item(value)
        item.trivia.trail = end
    body.extend(tail)


def _lines(keys: Mapping[str, Value], like: str) -> str:
    text = tomlkit.dumps(keys)
    return text.replace("\n", _line_end(like))


def _line_end(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"
