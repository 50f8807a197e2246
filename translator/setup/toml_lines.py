"""TOML editor: takes keys out of a user's file, or puts their earlier values back, line by line.

    text = { blank | comment | key | header } ;

What is not removed keeps its bytes: a comment beside a key that goes gets a line of its own, and a
table stays as long as it has a key. Keys in inline tables are left to tomlkit.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping
from itertools import pairwise, takewhile
from typing import Any, cast

import tomlkit
from msgspec import Struct
from tomlkit.container import Container, OutOfOrderTableProxy
from tomlkit.items import InlineTable, Item, Table

from translator.wire.json_values import as_object

Path = tuple[str, ...]


class Line(Struct):
    """A blank line, a comment, a header, or a key with its value, over as many lines as it has.

    `path` is that of a key or of a table's header; None for others and for arrays of tables.
    """

    kind: str
    text: str
    path: Path | None = None
    value: Item | None = None


def lines_of(text: str) -> list[Line]:
    """The lines of a text that is TOML; those of a value over several lines are one."""
    found: list[Line] = []
    table: Path | None = ()
    rest = re.findall(r"[^\n]*\n|[^\n]+", text)
    at = 0
    while at < len(rest):
        line = rest[at]
        word = line.strip()
        count = 1
        if not word or word.startswith("#"):
            found.append(Line("comment" if word else "blank", line))
        elif word.startswith("["):
            table = _header(line)
            found.append(Line("header", line, table))
        else:
            while not _is_whole(line) and at + count < len(rest):
                line += rest[at + count]
                count += 1
            inner, value = _key(line)
            path = None if table is None or inner is None else (*table, *inner)
            found.append(Line("key", line, path, value))
        at += count
    return found


def _is_whole(text: str) -> bool:
    last = text.rstrip().rpartition("\n")[2]
    if last.endswith((",", "[")) and "#" not in last:
        return False  # in a list; to parse all of a long one at each line would take long
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    return True


def _header(line: str) -> Path | None:
    path: list[str] = []
    values: object = tomllib.loads(line)
    while isinstance(values, dict) and values:
        [(key, values)] = cast("dict[str, object]", values).items()
        path.append(key)
    return tuple(path) if isinstance(values, dict) else None


def _key(line: str) -> tuple[Path | None, Item | None]:
    """The path of a key in its table, and its value; None for an inline table."""
    container: Container = tomlkit.parse(line)
    path: list[str] = []
    while True:
        [key] = container
        item = container.item(key)
        path.append(key)
        if isinstance(item, Table):
            container = item.value
        elif isinstance(item, InlineTable | OutOfOrderTableProxy):
            return None, None
        else:
            return tuple(path), item


def raw_value(text: str, path: Path) -> str | None:
    """The value at a path as it is written; None where there is none of its own."""
    for line in lines_of(text):
        if line.path == path and line.value is not None:
            return line.value.as_string()
    value: object = tomllib.loads(text)
    for key in path:
        value = (as_object(value) or {}).get(key)
    return None if value is None else tomlkit.item(value).as_string()


def has_blank_before(text: str, tables: Collection[Path]) -> bool:
    """Whether there is a blank line before the header of one of the tables."""
    lines = lines_of(text)
    return any(
        one.kind == "header" and one.path in tables and before.kind == "blank"
        for before, one in pairwise(lines)
    )


def without(
    text: str,
    removed: Collection[Path],
    restored: Mapping[Path, str],
    again: Mapping[Path, str],
    made: Collection[Path],
    *,
    blank_before_tables: bool,
    blank_after_keys: bool,
) -> str:
    """The text without the keys at some paths, and with earlier values at others, as TOML text.

    Those of keys `again` come with their line, from where it stood in an earlier text.
    `made` are tables whose header goes when they have no key any more, with a blank line before it
    if `blank_before_tables`; `blank_after_keys`: so does one after the last top-level key.
    Raises CannotEdit.
    """
    lines = lines_of(text)
    end = "\r\n" if "\r\n" in text else "\n"
    todo = set(removed) | restored.keys()
    kept: list[Line] = []
    took_key = False
    for line in lines:
        if line.kind == "key" and line.path in todo and line.value is not None:
            todo.discard(line.path)
            if line.path in restored and line.path not in again:
                kept.append(Line("key", _with_value(line, restored[line.path]), line.path))
            else:
                took_key |= len(line.path) == 1
                if line.value.trivia.comment:
                    kept.append(Line("comment", line.value.trivia.comment + end))
        else:
            kept.append(line)
    kept = _without_empty(kept, made, blank=blank_before_tables)
    if took_key and blank_after_keys:
        _drop_blank(kept)
    for path, earlier in again.items():
        if _add(kept, path, earlier, end):
            todo.discard(path)
        else:
            todo.add(path)
    changed = "".join(line.text for line in kept)
    return _with_tomlkit(changed, todo, restored, made) if todo else changed


def _with_value(line: Line, raw: str) -> str:
    assert line.value is not None
    before, equals, after = line.text.partition("=")
    return before + equals + after.replace(line.value.as_string(), raw, 1)


def _without_empty(lines: list[Line], made: Collection[Path], *, blank: bool) -> list[Line]:
    """The lines without the headers of made tables that have no key, and the blank before them."""
    kept: list[Line] = []
    for at, line in enumerate(lines):
        is_made = line.kind == "header" and line.path in made
        block = takewhile(lambda one: one.kind != "header", lines[at + 1 :])
        if not is_made or any(one.kind == "key" for one in block):
            kept.append(line)
            continue
        if blank and kept and kept[-1].kind == "blank":
            kept.pop()
        comment = re.search(r"\][ \t]*(#.*)", line.text, re.DOTALL)
        if comment is not None:
            kept.append(Line("comment", comment[1]))
    return kept


def _drop_blank(lines: list[Line]) -> None:
    """Drop the blank line before the first table, where there is no key before it."""
    head = list(takewhile(lambda line: line.kind != "header", lines))
    if any(line.kind == "key" for line in head):
        return
    for at, line in enumerate(head):
        if line.kind == "blank":
            del lines[at]
            return


def _add(lines: list[Line], path: Path, earlier: str, end: str) -> bool:
    """Add the line of a key from an earlier text, where it stood; False where it has none."""
    before = lines_of(earlier)
    at = next((at for at, line in enumerate(before) if line.path == path and line.value), None)
    if at is None:
        return False
    text = before[at].text
    line = Line("key", text if text.endswith("\n") else text + end, path)
    while at > 0 and before[at].path != path[:-1]:
        at -= 1
        for place, one in enumerate(lines):
            same = one.path == before[at].path if one.path else one.text == before[at].text
            if one.kind == before[at].kind != "blank" and same:
                if not one.text.endswith("\n"):
                    one.text += end
                lines.insert(place + 1, line)
                return True
    if len(path) > 1:
        return False
    lines.insert(0, line)
    return True


def spaced_like(text: str, edited: str, original: str) -> str:
    """The text with the spaces of the original in inline tables that editing has changed."""
    untouched = {line.text for line in lines_of(edited)}
    lines = lines_of(text)
    changed = [line for line in lines if line.kind == "key" and line.text not in untouched]
    if not any(line.path is None for line in changed):
        return text
    spaced = {_without_spaces(line.text): line.text for line in lines_of(original)}
    for line in changed:
        line.text = spaced.get(_without_spaces(line.text), line.text)
    return "".join(line.text for line in lines)


def _without_spaces(text: str) -> str:
    return re.sub(r"[ \t]", "", text)


def _with_tomlkit(
    text: str, paths: Collection[Path], restored: Mapping[Path, str], made: Collection[Path]
) -> str:
    """The same for keys in inline tables; what is not there is left."""
    document = tomlkit.parse(text)

    def table_at(path: Path) -> Any:  # noqa: ANN401 - of tomlkit's
        table: Any = document
        for key in path:
            table = table.get(key, {}) if isinstance(table, dict) else {}  # pyright: ignore
        return table  # pyright: ignore[reportUnknownVariableType]

    for path in paths:
        table = table_at(path[:-1])
        if path not in restored:
            table.pop(path[-1], None)
        elif table:
            table[path[-1]] = tomlkit.value(restored[path])
    for path in sorted(made, key=len, reverse=True):
        if table_at(path) == {}:
            table_at(path[:-1]).pop(path[-1], None)
    return document.as_string()
