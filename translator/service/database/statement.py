"""SQL statements: one text for each database.

A text has parameters as `:name`, and `db_now()` for the time of the database, in seconds since
1970. Only the database's time decides anything: the clocks of several machines differ.
"""

from __future__ import annotations

import re

from translator.service.config.store import Kind

_PARAMETER = re.compile(r"(?<!:):([a-z_]+)\b")

# unixepoch('subsec') is NULL before SQLite 3.42
_NOW: dict[Kind, str] = {
    "sqlite": "((julianday('now') - 2440587.5) * 86400.0)",
    "postgresql": "(extract(epoch from clock_timestamp())::float8)",
}


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
            "sqlite": text,
            "postgresql": _PARAMETER.sub(r"%(\1)s", other.replace("%", "%%")),
        }
        self._has_time = {kind: "db_now()" in one for kind, one in self._texts.items()}
        self._with_time: dict[tuple[Kind, float], str] = {}

    def text(self, kind: Kind, time: DatabaseTime) -> str:
        """The text for a database, as its driver takes it."""
        if not self._has_time[kind]:
            return self._texts[kind]
        found = self._with_time.get((kind, time.offset_s))
        if found is None:
            found = self._texts[kind].replace("db_now()", time.expression(kind))
            self._with_time = {(kind, time.offset_s): found}
        return found
