"""Keys set in somebody's TOML file, the rest of which stays as it is, letter for letter.

    text = { key }, { "[table]", { key } } ;

A value that is right already is not touched, and one that changes keeps its comment. A new key of
the file itself goes behind the last one there, a new key of a table behind the last one of that
table, and a new table to the end: never between a comment and what the comment is about.
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
"""None stands for a key that must not be there."""


class NotKept(Exception):
    """The text cannot be changed and kept; says why."""


def read(text: str) -> dict[str, Any]:
    """The values in a TOML text; raises NotKept."""
    return _parsed(text).unwrap()


def with_keys(text: str, keys: Mapping[str, Value]) -> str:
    """The text with these keys above its tables; raises NotKept."""
    document = _parsed(text)
    new = _replace(document, keys)
    kept = document.as_string()
    if not new:
        return kept
    place = _end_of_keys(document)
    before, after = kept[:place], kept[place:]
    lines = _lines(new, kept)
    end = _line_end(kept)
    if before and not before.endswith("\n"):
        lines = end + lines
    if not before and after.strip():
        lines += end
    return before + lines + after


def with_table(text: str, path: tuple[str, str], keys: Mapping[str, Value]) -> str:
    """The text with these keys in the table `[path[0].path[1]]`; raises NotKept."""
    document = _parsed(text)
    outer, inner = path
    parent = cast("dict[str, object]", document).get(outer, {})
    tables = as_object(parent)
    if tables is None:
        raise NotKept(f"{outer} is not a table")
    if inner not in tables and isinstance(parent, InlineTable):
        tables[inner] = tomlkit.inline_table()
    if inner not in tables:
        given = {key: value for key, value in keys.items() if value is not None}
        end = _line_end(text)
        gap = "" if not text else end if text.endswith("\n") else end * 2
        return f"{text}{gap}[{outer}.{inner}]{end}{_lines(given, text)}"
    item: object = tables[inner]
    table = as_object(item)
    if table is None:
        raise NotKept(f"{outer}.{inner} is not a table")
    new = _replace(table, keys)
    if isinstance(item, Table):
        _add_behind_keys(item, new, _line_end(text))
    else:
        table.update(new)
    return document.as_string()


def _parsed(text: str) -> tomlkit.TOMLDocument:
    try:
        return tomlkit.parse(text)
    except TOMLKitError as error:
        raise NotKept(f"is not TOML: {error}") from None


def _replace(table: MutableMapping[str, Any], keys: Mapping[str, Value]) -> dict[str, Value]:
    """Change the keys that are there, and take away those that must not be; what is left to add."""
    for key in keys.keys() & table.keys():
        if keys[key] is None:
            del table[key]
        elif table[key] != keys[key]:
            table[key] = keys[key]
    return {key: v for key, v in keys.items() if v is not None and key not in table}


def _end_of_keys(document: tomlkit.TOMLDocument) -> int:
    """Where the last key above the tables ends, in characters."""
    last = 0
    for number, (key, item) in enumerate(document.body, 1):
        if isinstance(item, Table | AoT):
            break
        if key is not None:
            last = number
    head = Container()
    head.body.extend(document.body[:last])
    return len(head.as_string())


def _add_behind_keys(table: Table, new: Mapping[str, Value], end: str) -> None:
    """Add keys in front of the blank lines and comments that end a table.

    Those are about what follows it.
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
