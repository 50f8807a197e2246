"""Spelled names: the one declared tool that a name can mean, however it is written.

Models, and clients that keep a history, do not always repeat a tool's name as it was declared:

    functions/exec, functions.exec, functions-exec   another separator between namespace and member
    fs_read, fs.read                                 a character that upstream names cannot hold
    exec                                             a member without its namespace
    weather.get, for mcp__weather/get                … without the beginning of its namespace
    fetch/fetch                                      a tool's own name as its namespace
    functions.shell, mcp__shell                      a namespace that was never declared

A name means a declared tool only if no other one fits as well; upper and lower case differ.
"""

from __future__ import annotations

import re

Key = tuple[str | None, str]
"""Namespace and name of a declared tool."""

MAX_SPELLED_CHARACTERS = 512
"""A longer name is taken literally: it would be searched for several times."""

_MAX_PREFIXES = 8
"""How many undeclared prefixes of a name are left out, one after the other."""

_MAX_REMEMBERED = 1024
"""How many undeclared names are remembered with their meaning: a history repeats its own."""

_GENERIC = frozenset({"functions", "tools", "default_api"})
"""Namespaces that models learnt for all tools (OpenAI's and Gemini's formats): as good as none."""

_UNLIKE = re.compile(r"[\W_]+")
_BREAK = re.compile(r"__+|[^\w-]+")
_DEBRIS = re.compile(r"\A\W+|(:\d+)?\W*\Z")  # as in "`exec`" and in Kimi's ids, functions.exec:0


class SpelledNames:
    """The declared names, indexed by the ways in which they may be written."""

    __slots__ = ("_meant", "_new", "_shortened", "_whole")

    def __init__(self) -> None:
        self._new: list[tuple[Key, str]] = []  # not indexed yet: most requests need no index
        self._whole: dict[str, list[Key]] = {}
        self._shortened: dict[str, list[Key]] = {}
        self._meant: dict[str, Key | None] = {}

    def add(self, key: Key, chat_name: str) -> None:
        """Declare a tool, once, by its own name and the one that it has upstream."""
        self._new.append((key, chat_name))

    def meant(self, spelled: str) -> Key | None:
        """The only tool that the name can mean; None where there is none, or more than one."""
        if len(spelled) > MAX_SPELLED_CHARACTERS:
            return None
        self._index()
        if spelled not in self._meant:
            if len(self._meant) >= _MAX_REMEMBERED:
                self._meant.clear()
            self._meant[spelled] = self._only(spelled)
        return self._meant[spelled]

    def _only(self, spelled: str) -> Key | None:
        found = self._find(spelled)
        if not found:
            spelled = _DEBRIS.sub("", spelled)
            found = self._find(spelled)
        if len(found) > 1:
            exact = [key for key in found if spelled_with(*key) == spelled]
            found = exact or [key for key in found if spelled.endswith(_member(key))]
        return found[0] if len(found) == 1 else None

    def _find(self, spelled: str) -> list[Key]:
        """The tools that fit as well as any other."""
        folded = _folded(spelled)
        found = self._whole.get(folded) or self._shortened.get(folded)
        if found:
            return found
        for separator in list(_BREAK.finditer(spelled))[:_MAX_PREFIXES]:
            prefix = _folded(spelled[: separator.start()])
            rest = _folded(spelled[separator.end() :])
            found = self._whole.get(rest)
            if not found and (prefix in _GENERIC or prefix == rest):
                found = self._shortened.get(rest)
            if found:
                return found
        rest = folded.removeprefix("functions_")
        return self._whole.get(rest) or self._shortened.get(rest) or []

    def _index(self) -> None:
        if self._new:
            self._meant.clear()
        for key, chat_name in self._new:
            namespace, name = key
            whole = {_folded(spelled_with(namespace, name)), _folded(chat_name)}
            _enter(self._whole, whole, key)
            if namespace is None and name.startswith("mcp__"):
                namespace, _, name = name.rpartition("__")
            if namespace is not None:
                starts = (part.end() for part in _BREAK.finditer(namespace))
                tails = {_folded(spelled_with(namespace[start:], name)) for start in starts}
                _enter(self._shortened, {_folded(name), *tails}, key)
        self._new.clear()


def spelled_with(namespace: str | None, name: str) -> str:
    """One name for a tool and its namespace; an empty namespace is none."""
    return f"{namespace}__{name}" if namespace else name


def _folded(name: str) -> str:
    """The name with all that separates its words made alike."""
    return _UNLIKE.sub("_", name)


def _member(key: Key) -> str:
    """The name of a tool within its server, which may be a part of its name."""
    return key[1].rpartition("__")[2]


def _enter(index: dict[str, list[Key]], spellings: set[str], key: Key) -> None:
    for folded in spellings:
        if folded.strip("_"):
            index.setdefault(folded, []).append(key)
