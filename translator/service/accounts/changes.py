"""Changes that people make: a mistake in one undoes it alone, whatever shares its transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from translator.service.database.connection import Connection
from translator.service.database.statement import Statement

from .books import Mistake

T = TypeVar("T")

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
