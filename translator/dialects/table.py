"""The dialect table: the known dialects for a terminal, for docs/dialects.md, and as JSON values.

Facts are written as TOML, so a line can be copied into the settings of the service; None becomes
`false`. Nothing here names a dialect, and a new fact needs no change: a fact without its own column
is listed among the remarks.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import msgspec
from msgspec import Struct

from translator.common.toml import toml_lines, toml_value

from .base import BASE
from .dialect import EFFORT_LEVELS, IDENTITY_FIELDS, Dialect
from .known import DIALECTS

# --- as values ----------------------------------------------------------------------------------


def all_facts(dialect: Dialect) -> dict[str, Any]:
    """Every fact of a dialect as JSON values; sets are sorted."""
    return {
        name: plain(getattr(dialect, name))
        for name in Dialect.__struct_fields__
        if name not in IDENTITY_FIELDS
    }


def own_facts(dialect: Dialect, other: Dialect = BASE) -> dict[str, Any]:
    """The facts of a dialect that differ from another's."""
    before = all_facts(other)
    return {name: fact for name, fact in all_facts(dialect).items() if fact != before[name]}


def model_facts(dialect: Dialect) -> dict[str, dict[str, Any]]:
    """The facts of single models, by their pattern."""
    return {known.pattern: plain(known.facts) for known in dialect.models}


def as_value(dialect: Dialect) -> dict[str, Any]:
    """A whole dialect as JSON values."""
    return {
        "name": dialect.name,
        "hosts": list(dialect.hosts),
        **all_facts(dialect),
        "models": model_facts(dialect),
    }


def plain(value: object) -> Any:  # noqa: ANN401 - any fact
    """A fact as a JSON value; sets are sorted."""
    match value:
        case frozenset():
            return sorted(plain(one) for one in cast("Iterable[Any]", value))
        case tuple() | list():
            return [plain(one) for one in cast("Iterable[Any]", value)]
        case Struct():
            fields = msgspec.structs.asdict(value)  # a field that is None has no value in TOML
            return {name: plain(one) for name, one in fields.items() if one is not None}
        case Mapping():
            return {key: plain(one) for key, one in cast("Mapping[str, Any]", value).items()}
        case _:
            return value


# --- for a terminal -----------------------------------------------------------------------------


def listing(width: int) -> str:
    """Every dialect with its hosts and its differences from the base."""
    return "\n".join(
        _block(dialect, "all other facts are as in base:", own_facts(dialect), width)
        if dialect is not BASE
        else _block(dialect, "the facts of an unknown upstream:", all_facts(dialect), width)
        for dialect in DIALECTS.values()
    )


def details(dialect: Dialect, width: int) -> str:
    """One dialect with all of its facts."""
    return _block(dialect, "all facts:", all_facts(dialect), width)


def _block(dialect: Dialect, heading: str, facts: Mapping[str, Any], width: int) -> str:
    hosts = f"  ({', '.join(dialect.hosts)})" if dialect.hosts else ""
    lines = [f"{dialect.name}{hosts}", f"  # {heading}"]
    lines += _wrapped(toml_lines(facts), "  ", width)
    for pattern, own in model_facts(dialect).items():
        lines.append(f"  # models {pattern}:")
        lines += _wrapped(toml_lines(own), "    ", width)
    return "\n".join(lines) + "\n"


def _wrapped(lines: Iterable[str], indent: str, width: int) -> Iterator[str]:
    for line in lines:
        yield from textwrap.wrap(
            line,
            max(width, 40),
            initial_indent=indent,
            subsequent_indent=f"{indent}    ",
            break_long_words=False,
            break_on_hyphens=False,
        )


# --- for the documentation ----------------------------------------------------------------------

_IN_COLUMNS = frozenset(
    {
        "max_tokens_field",
        "efforts",
        "reasoning_replay",
        "reasoning_field",
        "reasoning_required",
        "developer_role",
        "system_messages",
        "tool_choices",
        "tool_choices_thinking",
        "required_word",
        "response_formats",
        "response_format_with_tools",
    }
)
_SYSTEM_MESSAGES = {
    "keep": "as they are",
    "merge_leading": "leading ones merged",
    "demote_later": "one, first; later ones as user",
}
_HEADINGS = (
    "dialect",
    "hosts",
    "token limit",
    "reasoning effort",
    "reasoning goes back",
    "developer role",
    "system messages",
    "tool_choice",
    "structured output",
    "remarks",
)
MAX_REMARK_CHARACTERS = 80
"""A longer fact is listed by name only; `translator dialects NAME` shows it."""

MAX_PATTERNS = 5
"""Of how many kinds of models the patterns are listed; the others are only counted."""


def markdown() -> str:
    """The table of docs/dialects.md."""
    rows = [_HEADINGS, ("---",) * len(_HEADINGS), *map(_row, DIALECTS.values())]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _row(dialect: Dialect) -> tuple[str, ...]:
    cells = (
        f"`{dialect.name}`",
        ", ".join(f"`{host}`" for host in dialect.hosts) or "–",
        f"`{dialect.max_tokens_field}`",
        _efforts(dialect),
        _reasoning(dialect),
        "yes" if dialect.developer_role else "as `system`",
        _SYSTEM_MESSAGES[dialect.system_messages],
        _tool_choice(dialect),
        _structured(dialect),
        _remarks(dialect),
    )
    return tuple(cell.replace("|", "\\|") for cell in cells)


def _efforts(dialect: Dialect) -> str:
    """The fields of the effort, and the levels; a group of levels sends the same values."""
    groups: dict[bytes, list[str]] = {}
    names: dict[str, None] = {}
    for level in EFFORT_LEVELS:
        if level in dialect.efforts:
            sent = dialect.efforts[level]
            names |= dict.fromkeys(sent)
            groups.setdefault(msgspec.json.encode(sent, order="deterministic"), []).append(level)
    if not groups:
        return "by model" if any("efforts" in known.facts for known in dialect.models) else "–"
    fields = ", ".join(f"`{name}`" for name in names)
    return f"{fields}: {' / '.join(map(_range, groups.values()))}"


def _range(levels: list[str]) -> str:
    first, last = EFFORT_LEVELS.index(levels[0]), EFFORT_LEVELS.index(levels[-1])
    if len(levels) > 2 and last - first + 1 == len(levels):
        return f"{levels[0]} … {levels[-1]}"
    return ", ".join(levels)


def _reasoning(dialect: Dialect) -> str:
    if dialect.reasoning_replay == "drop":
        return "dropped"
    field = f"`{dialect.reasoning_field}`" if dialect.reasoning_field else "as it came"
    return f"{field}, required" if dialect.reasoning_required else field


def _tool_choice(dialect: Dialect) -> str:
    kinds = _kinds(dialect, dialect.tool_choices)
    if dialect.tool_choices_thinking is None:
        return kinds
    return f"{kinds}; thinking: {_kinds(dialect, dialect.tool_choices_thinking)}"


def _kinds(dialect: Dialect, accepted: Iterable[str]) -> str:
    required = dialect.required_word
    words = {"auto": "auto", "none": "none", "required": required, "named": "named"}
    return ", ".join(word for kind, word in words.items() if kind in set(accepted)) or "–"


def _structured(dialect: Dialect) -> str:
    names = {"json_schema": "schema", "json_object": "object"}
    known = [name for kind, name in names.items() if kind in dialect.response_formats]
    if known and not dialect.response_format_with_tools:
        known.append("not beside tools")
    return ", ".join(known) or "–"


def _remarks(dialect: Dialect) -> str:
    remarks: list[str] = []
    for name, fact in own_facts(dialect).items():
        if name not in _IN_COLUMNS:
            remark = f"{name} = {toml_value(fact)}"
            remarks.append(f"`{remark if len(remark) <= MAX_REMARK_CHARACTERS else name}`")
    if dialect.models:
        patterns = [f"`{known.pattern}`" for known in dialect.models]
        others = len(patterns) - MAX_PATTERNS
        if others > 1:
            patterns[MAX_PATTERNS:] = [f"{others} others"]
        remarks.append(f"more for {', '.join(patterns)}")
    return ", ".join(remarks)
