"""Changes that people ask for: each is whole, or a mistake that has changed nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from translator.service.database.connection import Connection
from translator.service.database.statement import Statement

from .books import Mistake

T = TypeVar("T")

_SAVE = Statement("SAVEPOINT change")
_UNDO = Statement("ROLLBACK TO SAVEPOINT change")
_RELEASE = Statement("RELEASE SAVEPOINT change")


def unless_mistaken(work: Callable[[Connection], T], connection: Connection) -> T | Mistake:
    """What `work` returns; or its mistake, with what it had changed undone.

    The transaction goes on, with the writes of others in it.
    """
    connection.change(_SAVE)
    try:
        found: T | Mistake = work(connection)
    except Mistake as mistake:
        connection.change(_UNDO)
        found = mistake
    connection.change(_RELEASE)
    return found


def undo_nothing(_connection: Connection) -> None:
    """Undoes nothing: what was written stays, also where the answer to it came too late."""
