"""JSON editor: sets and removes members in a user's file and leaves the rest byte for byte.

    text = value ;  value = object | array | scalar ;  between them white space and comments

Comments and trailing commas (JSONC) are read, too. A new member goes after the last one of its
object, in the same form: on a line of its own, or on the same line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from msgspec import Struct

from translator.wire.json_values import as_object

_TOKEN = re.compile(
    r"""(?P<gap>(?:[ \t\r\n]|//[^\n]*|/\*.*?\*/)+)
    |(?P<scalar>"(?:[^"\\\x00-\x1f]|\\.)*"|[^\s{}\[\],:"/]+)
    |(?P<mark>[{}\[\],:])""",
    re.DOTALL | re.VERBOSE,
)

Path = tuple[str, ...]


class NotJson(ValueError):
    """The text is not JSON, not even with comments."""


class Node(Struct):
    """A value, from `start` to `end` in characters of the text."""

    start: int
    end: int
    value: Any
    members: list[Member]
    commented: bool = False
    """An object or array with a comment in it, outside its members."""


class Member(Struct):
    """A member of an object, or an element of an array, whose key is its number."""

    key: str
    start: int
    node: Node
    comma: int | None = None
    """The position of the comma behind it."""


def parse(text: str) -> Node:
    """The value in a text; raises NotJson."""
    try:
        return _Parser(text).whole()
    except RecursionError:
        raise NotJson("it is nested too deeply") from None


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._commented = False

    def whole(self) -> Node:
        self._skip()
        node = self._value()
        self._skip()
        if self._at != len(self._text):
            raise self._error()
        return node

    def _error(self) -> NotJson:
        return NotJson(f"unexpected text in line {self._text.count(chr(10), 0, self._at) + 1}")

    def _skip(self) -> bool:
        """Skip white space and comments; whether there were comments."""
        found = _TOKEN.match(self._text, self._at)
        if found is None or found.lastgroup != "gap":
            return False
        self._at = found.end()
        return "/" in found[0]

    def _value(self) -> Node:
        start = self._at
        found = _TOKEN.match(self._text, start)
        if found is None or found[0] in ("}", "]", ",", ":"):
            raise self._error()
        if found.lastgroup == "scalar":
            try:
                value = json.loads(found[0])
            except ValueError:
                raise self._error() from None
            self._at = found.end()
            return Node(start, self._at, value, [])
        self._at = found.end()
        return self._inside(start, is_object=found[0] == "{")

    def _inside(self, start: int, *, is_object: bool) -> Node:
        members: list[Member] = []
        close = "}" if is_object else "]"
        commented = self._skip()
        while not self._text.startswith(close, self._at):
            if members and members[-1].comma is None:
                raise self._error()
            begin, key = self._at, str(len(members))
            if is_object:
                named = self._value()
                if not isinstance(named.value, str):
                    raise self._error()
                key = named.value
                self._skip()
                if not self._text.startswith(":", self._at):
                    raise self._error()
                self._at += 1
                self._skip()
            member = Member(key, begin, self._value())
            members.append(member)
            commented |= self._skip()
            if self._text.startswith(",", self._at):
                member.comma = self._at
                self._at += 1
                commented |= self._skip()
        self._at += 1
        pairs = [(member.key, member.node.value) for member in members]
        value: Any = dict(pairs) if is_object else [one for _, one in pairs]
        return Node(start, self._at, value, members, commented)


# --- setting members -----------------------------------------------------------------------------


def merged(text: str, new: Mapping[str, Any]) -> str:
    """The text of an object with the members of `new`; inner objects are merged, too.

    A value that is right already keeps its bytes.
    """
    root = parse(text)
    edits: list[_Edit] = []
    _merge(_Form(text), root, new, edits)
    return _edited(text, edits)


def with_elements(text: str, key: str, elements: Mapping[int | None, list[Any]]) -> str:
    """The text with elements of the array `key` replaced, by position; those of None are added."""
    form = _Form(text)
    [array] = [member.node for member in parse(text).members if member.key == key][-1:]
    edits = [
        (node.start, node.end, form.dumped(one, node.start))
        for at, ones in elements.items()
        if at is not None
        for node, one in ((array.members[at].node, one) for one in ones)
    ]
    added = elements.get(None, [])
    form.add(array, [(None, one) for one in added], edits)
    return _edited(text, edits)


_Edit = tuple[int, int, str]


def _merge(form: _Form, box: Node, new: Mapping[str, Any], edits: list[_Edit]) -> None:
    there = {member.key: member.node for member in box.members}
    added: list[tuple[str | None, Any]] = []
    for key, value in new.items():
        node, inner = there.get(key), as_object(value)
        if node is None:
            added.append((key, value))
        elif inner is not None and isinstance(node.value, dict):
            _merge(form, node, inner, edits)
        elif node.value != value or isinstance(node.value, bool) != isinstance(value, bool):
            edits.append((node.start, node.end, form.dumped(value, node.start)))
    form.add(box, added, edits)


class _Form:
    """How a text is written: its line ends and its indentation."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._end = "\r\n" if "\r\n" in text else "\n"
        indented = re.search(r"[{\[]\r?\n([ \t]+)\S", text)
        self._unit = indented[1] if indented else "  "
        self._on_one_line = "\n" not in text.strip() and bool(text.strip("{}[] \t\r\n"))

    def add(self, box: Node, new: list[tuple[str | None, Any]], edits: list[_Edit]) -> None:
        """Add members to the end of an object, or elements without a key to that of an array."""
        if not new:
            return
        if not box.members:
            indent = self._indent(box.start) + self._unit
            open_, close = self._text[box.start], self._text[box.end - 1]
            if self._on_one_line:
                inside = ", ".join(self._entry(key, value, None) for key, value in new)
            else:
                between = self._end + indent
                entries = (self._entry(key, value, indent) for key, value in new)
                inside = between + f",{between}".join(entries)
                inside += self._end + indent.removesuffix(self._unit)
            edits.append((box.start, box.end, open_ + inside + close))
            return
        last = box.members[-1]
        line = self._text.rfind("\n", 0, last.start) + 1
        lead = self._text[line : last.start]
        at = last.node.end
        if line > box.start and not lead.strip():
            entries = (f",{self._end}{lead}{self._entry(key, one, lead)}" for key, one in new)
        else:
            entries = (f", {self._entry(key, one, None)}" for key, one in new)
        edits.append((at, at, "".join(entries)))

    def dumped(self, value: object, at: int) -> str:
        """A value as it is written in place of the one at a position."""
        return self._dump(value, None if self._on_one_line else self._indent(at))

    def _entry(self, key: str | None, value: object, indent: str | None) -> str:
        text = self._dump(value, indent)
        return text if key is None else f"{json.dumps(key, ensure_ascii=False)}: {text}"

    def _dump(self, value: object, indent: str | None) -> str:
        if indent is None:
            return json.dumps(value, ensure_ascii=False)
        text = json.dumps(value, indent=self._unit, ensure_ascii=False)
        return text.replace("\n", self._end + indent)

    def _indent(self, at: int) -> str:
        line = self._text[self._text.rfind("\n", 0, at) + 1 :]
        return line[: len(line) - len(line.lstrip(" \t"))]


# --- removing members ----------------------------------------------------------------------------


def without(
    text: str,
    removed: Collection[Path],
    restored: Mapping[Path, str],
    emptied: Collection[Path],
    key_of: Callable[[Path, Member], str],
) -> str:
    """The text without the values at some paths, and with earlier ones at others, as JSON text.

    `emptied` are objects and arrays that go when they have become empty and hold no comment.
    `key_of` is what a path calls a member of the object or array at a path.
    """
    edits: list[_Edit] = []

    def walk(box: Node, path: Path) -> bool:
        """Whether the value goes as a whole; its edits are added unless it does."""
        inner = len(edits)
        gone: list[Member] = []
        named = {key_of(path, member): member for member in box.members}
        for member in box.members:
            key = key_of(path, member)
            here = (*path, key)
            if named[key] is not member:
                continue  # a name that is there twice has its last value
            if here in restored:
                edits.append((member.node.start, member.node.end, restored[here]))
            elif here in removed or (member.node.members and walk(member.node, here)):
                gone.append(member)
        if not gone:
            return False
        rest = [member for member in box.members if not any(member is one for one in gone)]
        if not rest and not box.commented:
            del edits[inner:]
            if path in emptied:
                return True
            edits.append((box.start + 1, box.end - 1, ""))
            return False
        for member in gone:
            edits.append(_own_span(text, member))
            if member.comma is not None:
                edits.append((member.comma, member.comma + 1, ""))
        last = box.members[-1]
        if rest and rest[-1] is not last and last.comma is None:
            comma = rest[-1].comma
            assert comma is not None
            edits.append((comma, comma + 1, ""))
        return False

    walk(parse(text), ())
    return _edited(text, edits)


def _own_span(text: str, member: Member) -> _Edit:
    """A member with its line, unless something else is on that line, too."""
    behind = member.node.end if member.comma is None else member.comma + 1
    line = text.find("\n", behind)
    start = member.start
    while text[start - 1] in " \t":
        start -= 1
    if text[start - 1] == "\n" and not text[behind : None if line < 0 else line].strip(" \t\r"):
        start -= 2 if text[start - 2] == "\r" else 1
    return start, member.node.end, ""


def _edited(text: str, edits: list[_Edit]) -> str:
    parts: list[str] = []
    at = 0
    for start, end, new in sorted(edits):
        parts += (text[at:start], new)
        at = end
    return "".join((*parts, text[at:]))
