"""`robots.txt`: which paths of a host are open to programs (RFC 9309).

    file  = { group } ;
    group = { "User-agent:" name }, { ( "Allow:" | "Disallow:" ) pattern } ;

The group of our name counts, else that of `*`. The longest pattern that fits a path decides, and
`allow` where two are as long. The standard library's reader takes the first that fits, and knows no
`*` within a pattern.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote, unquote

from msgspec import Struct

NAME = "translator"
"""The name that groups may have, in lower case."""

MAX_BYTES = 512 * 1024
MAX_RULES = 2000
_MAX_PATTERN_CHARACTERS = 1024


class Rule(Struct, frozen=True):
    """A pattern of paths, and whether they are open."""

    pattern: str
    allow: bool


def read_robots(text: str) -> tuple[Rule, ...]:
    """The rules that are ours in the text of a file, longest pattern first."""
    groups: dict[str, list[Rule]] = {}
    names: list[str] = []
    in_rules = False
    for line in text.splitlines()[: 20 * MAX_RULES]:
        key, colon, value = line.partition("#")[0].partition(":")
        key, value = key.strip().lower(), value.strip()
        if not colon:
            continue
        if key == "user-agent":
            if in_rules:
                names, in_rules = [], False
            name = value.lower().partition("/")[0].strip()
            names.append(name)
            groups.setdefault(name, [])
        elif key in ("allow", "disallow"):
            in_rules = True
            if not value or len(value) > _MAX_PATTERN_CHARACTERS:
                continue  # an empty pattern fits nothing
            for name in names:
                if name in (NAME, "*") and len(groups[name]) < MAX_RULES:
                    groups[name].append(Rule(_plain(value), key == "allow"))
    ours = groups.get(NAME, groups.get("*", []))
    return tuple(sorted(ours, key=lambda rule: (-len(rule.pattern), not rule.allow)))


def is_open(rules: Sequence[Rule], path: str) -> bool:
    """Whether a path, with its query, is open under rules in their order."""
    path = _plain(path)
    for rule in rules:
        if _fits(rule.pattern, path):
            return rule.allow
    return True


def _plain(path: str) -> str:
    return quote(unquote(path), safe="/*$?=&;:@!'()+,~-._")


def _fits(pattern: str, path: str) -> bool:
    """Whether a pattern fits a path. Each text between two stars is looked for once, in order."""
    whole = pattern.endswith("$")
    first, *others = pattern.removesuffix("$").split("*")
    if not path.startswith(first):
        return False
    at = len(first)
    for text in others[:-1] if others else ():
        found = path.find(text, at)
        if found < 0:
            return False
        at = found + len(text)
    if not others:
        return not whole or at == len(path)
    last = others[-1]
    if whole:
        return len(path) - len(last) >= at and path.endswith(last)
    return path.find(last, at) >= 0
