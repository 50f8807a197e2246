"""The undo record: what `--write` changed in a client's files, so that only that is taken back.

    record = { file: keys, hashes of the whole text, backups } ;
    key    = path, hash of the value that was written, what was there before ;

A file that the user has not changed since becomes what it was, byte for byte. In any other, a key
that still has the value that was written goes, or gets its earlier value back; everything else is
the user's and stays. A second `--write` adds to the record, so that undoing leads back to before
the first.

The record holds no text of the file: values are hashes, and earlier ones are read from the backup,
but for a few that are never secret.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from copy import deepcopy
from typing import Any, Literal, cast

import msgspec
from msgspec import Struct
from tomlkit.exceptions import TOMLKitError

from translator.wire.json_values import as_list, as_object

from . import json_members, toml_lines

Path = tuple[str, ...]
Kind = Literal["toml", "json", "catalog"]

MAX_RECORD_BYTES = 4 * 1024 * 1024
"""Largest record, some 20,000 keys."""

MAX_BACKUPS = 32
"""Most backups of a file that are remembered, the first and the latest ones; undoing removes them
where they hold nothing of the user's."""

_ABSENT = ""
_MADE = "made"
_NEVER_SECRET = frozenset(
    "model model_provider model_catalog_json web_search name wire_api npm $schema".split()
)
_PLAIN = re.compile(r"true|false|[0-9]{1,20}|(['\"])[\w ./:-]{0,200}\1", re.ASCII)


class Key(Struct, omit_defaults=True):
    """A key that was written, or removed."""

    path: Path
    written: list[str]
    """Hashes of its value: the one before an interrupted write, and the one after it."""

    before: str | None = None
    """The earlier value as it was written, where it is never secret."""

    backup: str | None = None
    """The backup that holds any other earlier value; None for both: there was none."""

    taken_out: bool = False
    """A write has removed it, with its line."""


class Backup(Struct):
    """A backup that holds nothing but the original text, or what was written later."""

    name: str
    hash: str


class Entry(Struct, omit_defaults=True):
    """What was changed in one file."""

    kind: Kind
    keys: list[Key]
    texts: list[str]
    """Hashes of the whole text that was written, and of the one before an interrupted write."""

    original: str | None = None
    """The hash of the text before the first write; None: there was no file."""

    whole: bool = True
    """The user changed nothing between two writes."""

    backups: list[Backup] = []
    blank_before_tables: bool = False
    blank_after_keys: bool = False
    unended: str | None = None
    """The hash of the original's last line, where that has no line end."""

    def summary(self) -> str:
        """The first of its keys, for people."""
        names = [".".join(key.path) for key in self.keys if key.written != [_MADE]]
        return ", ".join([*names[:10], *(["..."] if names[10:] else [])])


class Record(Struct):
    """The changes of all files in a folder, by name."""

    version: Literal[1] = 1
    files: dict[str, Entry] = {}
    folders: int = 0
    """How many folders were made, upwards from the record's own."""


class CannotUndo(Exception):
    """A file does not have the form any more that its keys could be found in."""


class Undone(Struct):
    """What becomes of a file: its text, None for no file, and what is said of it."""

    text: str | None
    exact: bool = False
    """The file is again what it was before."""

    kept: list[Path] = []
    """Keys with a value that the user has given them since."""

    lost: list[Path] = []
    """Keys whose earlier value is not known any more, because its backup is gone."""


def read_record(data: bytes) -> Record:
    """The record in a file; raises ValueError."""
    record = msgspec.json.decode(data, type=Record)
    names = [*record.files, *(one.name for file in record.files.values() for one in file.backups)]
    names += [key.backup for file in record.files.values() for key in file.keys if key.backup]
    if any("/" in name or "\\" in name or name in ("", ".", "..") for name in names):
        raise ValueError("it names a file outside of its folder")
    return record


def hash_of(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


# --- values by path ------------------------------------------------------------------------------


class _Leaf(Struct, frozen=True):
    """A value that is taken as a whole."""

    text: str


def _tree(kind: Kind, text: str | None) -> dict[str, Any]:
    """The values of a file; the models of a catalog are named by their slugs. Raises ValueError."""
    if text is None or not text.strip():
        return {}
    if kind == "toml":
        return tomllib.loads(text)
    values = as_object(json_members.parse(text).value)
    if values is None:
        raise ValueError("it is not an object")
    models = as_list(values.get("models"))
    if kind == "catalog" and models is not None:
        named = {_slug(one, at): _Leaf(json.dumps(one)) for at, one in enumerate(models)}
        return values | {"models": named}
    return values


def _slug(model: object, position: int) -> str:
    slug = (as_object(model) or {}).get("slug")
    return f"slug {slug}" if isinstance(slug, str) else str(position)


def _at(tree: Mapping[str, Any], path: Path) -> object:
    """The value at a path; None where there is none."""
    value: object = tree
    for key in path:
        value = (as_object(value) or {}).get(key)
    return value


def _value_hash(value: object) -> str:
    if value is None:
        return _ABSENT
    if isinstance(value, _Leaf):
        return hash_of(value.text)
    return hash_of(json.dumps(value, sort_keys=True, default=str))


def _is_written(key: Key, tree: Mapping[str, Any]) -> bool:
    """Whether a key still has the value that was written."""
    value = _at(tree, key.path)
    if key.written == [_MADE]:
        return isinstance(value, dict)
    if value is None and not isinstance(_at(tree, key.path[:-1]), dict):
        return False
    return _value_hash(value) in key.written


def _changes(old: Mapping[str, Any], new: Mapping[str, Any], path: Path = ()) -> Iterator[Path]:
    """The paths of values, and of objects, that are in one only or differ."""
    for key in {**old, **new}:
        before, after, here = old.get(key), new.get(key), (*path, key)
        if isinstance(after, dict) and (before is None or isinstance(before, dict)):
            if before is None:
                yield here
            yield from _changes(
                cast("dict[str, Any]", before or {}), cast("dict[str, Any]", after), here
            )
        elif before != after or isinstance(before, bool) != isinstance(after, bool):
            yield here


# --- recording -----------------------------------------------------------------------------------


def recorded(
    kind: Kind, entry: Entry | None, text: str | None, new: str, backup: str | None
) -> Entry:
    """The entry of a file that is about to be written; `entry` is that of earlier writes.

    `text` is what the file holds now, and `backup` the name of the backup that it will get.
    """
    tree, after = _tree(kind, text), _tree(kind, new)
    ours: dict[Path, Key] = {}
    if entry is not None and text is not None:
        ours = {key.path: key for key in entry.keys if _is_written(key, tree)}
    if entry is None or not ours:
        ours = {}
        entry = Entry(
            kind,
            [],
            [],
            None if text is None else hash_of(text),
            blank_after_keys=kind == "toml" and bool((text or "").strip()) and not _has_keys(tree),
        )
        if text and not text.endswith("\n"):
            entry.unended = hash_of(_last_line(text))
    else:
        entry = deepcopy(entry)
        entry.whole = entry.whole and text is not None and hash_of(text) in entry.texts
    for key in ours.values():
        if key.written != [_MADE]:
            key.written = [_value_hash(_at(tree, key.path))]
    for path in _changes(tree, after):
        value = _at(after, path)
        is_made = as_object(value) is not None and _at(tree, path) is None
        written = [_MADE if is_made else _value_hash(value)]
        if (known := ours.get(path)) is not None:
            known.written = list(dict.fromkeys((*known.written, *written)))
        else:
            ours[path] = _new_key(kind, path, written, text, tree, backup)
        ours[path].taken_out |= value is None
    entry.keys = list(ours.values())
    if kind == "toml":
        made = {key.path for key in entry.keys if key.written == [_MADE]}
        entry.blank_before_tables |= toml_lines.has_blank_before(new, made)
    entry.texts = [] if text is None or not entry.texts else [hash_of(text)]
    entry.texts.append(hash_of(new))
    if backup is not None and text is not None and entry.whole:
        entry.backups.append(Backup(backup, hash_of(text)))
        del entry.backups[1:-MAX_BACKUPS]
    return entry


def _new_key(
    kind: Kind,
    path: Path,
    written: list[str],
    text: str | None,
    tree: Mapping[str, Any],
    backup: str | None,
) -> Key:
    if text is None or _at(tree, path) is None:
        return Key(path, written)
    raw = _raw(kind, text, path)
    if (
        raw is not None
        and written != [_ABSENT]
        and path[-1] in _NEVER_SECRET
        and _PLAIN.fullmatch(raw)
    ):
        return Key(path, written, before=raw)
    return Key(path, written, backup=backup)


def finished(entry: Entry) -> None:
    """The file has been written: only what it holds now counts from here on."""
    del entry.texts[:-1]
    for key in entry.keys:
        del key.written[:-1]


def _has_keys(tree: Mapping[str, Any]) -> bool:
    """Whether a TOML text has top-level keys, before which new ones are not put."""
    return any(not isinstance(value, dict | list) for value in tree.values())


def _last_line(text: str) -> str:
    return text.rpartition("\n")[2]


def _raw(kind: Kind, text: str, path: Path) -> str | None:
    """The value at a path as it is written."""
    if kind == "toml":
        return toml_lines.raw_value(text, path)
    node = json_members.parse(text)
    for key in path:
        found = [one for one in node.members if _key_of(kind)(path, one) == key]
        if not found:
            return None
        node = found[-1].node
    return text[node.start : node.end]


def _key_of(kind: Kind) -> Callable[[Path, json_members.Member], str]:
    def key_of(path: Path, member: json_members.Member) -> str:
        is_model = kind == "catalog" and path[:1] == ("models",) and member.key.isdigit()
        return _slug(member.node.value, int(member.key)) if is_model else member.key

    return key_of


# --- undoing -------------------------------------------------------------------------------------


def undone(
    entry: Entry,
    text: str | None,
    backup: Callable[[str], str | None],
    *,
    needed: Mapping[Path, str] | None = None,
) -> Undone:
    """What becomes of a file that holds `text`; raises CannotUndo.

    `backup` reads a backup, None for one that is gone. `needed` names a key for each table that
    must stay with it, if anything else does.
    """
    if text is None:
        return Undone(None)
    if entry.whole and hash_of(text) in entry.texts:
        if entry.original is None:
            return Undone(None, exact=True)
        first = backup(entry.backups[0].name) if entry.backups else None
        if first is not None and hash_of(first) == entry.original:
            return Undone(first, exact=True)
    try:
        return _without_ours(entry, text, backup, needed or {})
    except (ValueError, KeyError, TOMLKitError) as error:
        raise CannotUndo(str(error)) from None


def _without_ours(
    entry: Entry, text: str, backup: Callable[[str], str | None], needed: Mapping[Path, str]
) -> Undone:
    kind, tree = entry.kind, _tree(entry.kind, text)
    done = Undone(text)
    removed: set[Path] = set()
    restored: dict[Path, str] = {}
    again: dict[Path, str] = {}
    made: set[Path] = set()
    for key in entry.keys:
        if not _is_written(key, tree):
            if _at(tree, key.path) is not None and key.written != [_MADE]:
                done.kept.append(key.path)
        elif key.written == [_MADE]:
            made.add(key.path)
        elif key.before is not None:
            restored[key.path] = key.before
        elif key.backup is None:
            removed.add(key.path)
        else:
            earlier = backup(key.backup)
            raw = None if earlier is None else _raw(kind, earlier, key.path)
            if raw is None:
                done.lost.append(key.path)
                removed.add(key.path)
            else:
                restored[key.path] = raw
                if earlier is not None and key.taken_out:
                    again[key.path] = earlier
    expected = deepcopy(tree)
    _take(expected, removed, made)
    for table, name in needed.items():
        path = (*table, name)
        if path in removed and table in made and _at(expected, table) is not None:
            removed.discard(path)
            done.kept.append(path)
            expected = deepcopy(tree)
            _take(expected, removed, made)
    for path, raw in restored.items():
        _put(expected, path, _parsed(kind, raw))
    done.text = _edited(entry, text, removed, restored, again, made)
    if kind == "toml" and entry.backups:
        original = backup(entry.backups[0].name)
        done.text = toml_lines.spaced_like(done.text, text, original or "")
    result = _tree(kind, done.text)
    _take(result, (), made)  # an object with nothing but a comment
    if result != expected:
        raise CannotUndo("its form does not allow it")
    if entry.original is None and not done.text.strip("{} \t\r\n"):
        done.text = None
    return done


def _edited(
    entry: Entry,
    text: str,
    removed: Collection[Path],
    restored: Mapping[Path, str],
    again: Mapping[Path, str],
    made: Collection[Path],
) -> str:
    if entry.kind != "toml":
        return json_members.without(text, removed, restored, made, _key_of(entry.kind))
    new = toml_lines.without(
        text,
        removed,
        restored,
        again,
        made,
        blank_before_tables=entry.blank_before_tables,
        blank_after_keys=entry.blank_after_keys,
    )
    last = new.removesuffix("\n").removesuffix("\r")
    if entry.unended is not None and hash_of(_last_line(last)) == entry.unended:
        return last
    return new


def _take(tree: dict[str, Any], removed: Collection[Path], made: Collection[Path]) -> None:
    """Remove values, and objects that were made for them and are empty then."""
    for path in removed:
        parent = as_object(_at(tree, path[:-1]))
        if parent is not None:
            parent.pop(path[-1], None)
    for path in sorted(made, key=len, reverse=True):
        if _at(tree, path) == {}:
            cast("dict[str, Any]", _at(tree, path[:-1])).pop(path[-1])


def _put(tree: dict[str, Any], path: Path, value: object) -> None:
    parent = as_object(_at(tree, path[:-1]))
    if parent is not None:
        parent[path[-1]] = value


def _parsed(kind: Kind, raw: str) -> object:
    if kind == "toml":
        return tomllib.loads(f"x = {raw}")["x"]
    value = json_members.parse(raw).value
    return _Leaf(json.dumps(value)) if kind == "catalog" else value
