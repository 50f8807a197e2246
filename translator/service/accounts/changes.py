"""Changes that people make: a mistake in one undoes it alone, whatever shares its transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from translator.service.database.connection import Connection
from translator.service.database.statement import Statement

from . import statements as sql

T = TypeVar("T")


class Mistake(Exception):
    """What is asked for is not possible; the text is a sentence for its reader.

    `field` is what is wrong of what was said, where it is one thing.
    """

    def __init__(self, text: str, *, field: str | None = None) -> None:
        super().__init__(text)
        self.field = field


def now(connection: Connection) -> int:
    """The database's time, in microseconds."""
    return int(connection.execute(sql.TIME)[0][0])


_NEXT = Statement(
    "UPDATE acct_meta SET value = CAST(CAST(value AS BIGINT) + 1 AS TEXT) WHERE key = 'generation'"
)


def changed(connection: Connection) -> None:
    """Let every process read again what it knows of keys, channels and prices."""
    connection.change(_NEXT)


_SAVE = Statement("SAVEPOINT change")
_UNDO_SAVED = Statement("ROLLBACK TO SAVEPOINT change")
_RELEASE = Statement("RELEASE SAVEPOINT change")


def unless_mistaken(work: Callable[[Connection], T], connection: Connection) -> T | Mistake:
    """What `work` returns; or its mistake, with what it had changed undone."""
    connection.change(_SAVE)
    try:
        found: T | Mistake = work(connection)
    except Mistake as mistake:
        connection.change(_UNDO_SAVED)
        found = mistake
    connection.change(_RELEASE)
    return found
