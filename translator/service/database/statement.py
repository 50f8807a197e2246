"""SQL statements: one text for each database.

A text has parameters as `:name`, and `db_now()` for the time of the database, in seconds since
1970. Only the database's time decides anything: the clocks of several machines differ.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter

from translator.service.config.store import Kind

Values = Mapping[str, object]

_PARAMETER = re.compile(r"(?<!:):([a-z_]+)\b")

# unixepoch('subsec') is NULL before SQLite 3.42
_NOW: dict[Kind, str] = {
    "sqlite": "((julianday('now') - 2440587.5) * 86400.0)",
    "postgresql": "(extract(epoch from clock_timestamp())::float8)",
}


_NO_TIME = math.nan  # equal to no offset


class DatabaseTime:
    """The time of a database; tests set it forward by `offset_s`."""

    def __init__(self, offset_s: float = 0.0) -> None:
        self.offset_s = offset_s

    def expression(self, kind: Kind) -> str:
        """The SQL expression that stands for `db_now()`."""
        return f"({_NOW[kind]} + {self.offset_s!r})" if self.offset_s else _NOW[kind]


class Statement:
    """A statement in SQLite's SQL, and in PostgreSQL's where that differs."""

    def __init__(self, text: str, *, postgresql: str | None = None) -> None:
        other = text if postgresql is None else postgresql
        self._texts: dict[Kind, str] = {
            "sqlite": _PARAMETER.sub("?", text),
            "postgresql": _PARAMETER.sub(r"%(\1)s", other.replace("%", "%%")),
        }
        self._latest: dict[Kind, tuple[float | None, str]] = {
            kind: (_NO_TIME if "db_now()" in one else None, one)
            for kind, one in self._texts.items()
        }
        self.in_order: Callable[[Values], Sequence[object]] = _in_order(_PARAMETER.findall(text))
        """The values in the order of SQLite's text: by name, each takes 1,000 instructions more."""

    def text(self, kind: Kind, time: DatabaseTime) -> str:
        """The text for a database, as its driver takes it."""
        offset_s, text = self._latest[kind]
        if offset_s is None or offset_s == time.offset_s:
            return text
        text = self._texts[kind].replace("db_now()", time.expression(kind))
        self._latest[kind] = (time.offset_s, text)
        return text


def _in_order(names: Sequence[str]) -> Callable[[Values], Sequence[object]]:
    if len(names) == 1:
        [name] = names
        return lambda values: (values[name],)
    return itemgetter(*names) if names else lambda values: ()
