"""The channels that members of an account may give its keys.

A channel is a price list, too: without a limit, a customer could choose that of another one. An
operator may give a key any channel, and a key keeps what it has.
"""

from __future__ import annotations

from collections.abc import Iterable

from translator.service.database.connection import Connection
from translator.service.database.statement import Statement

from .books import Mistake, channels
from .keys import names_text, read_names

_READ = Statement("SELECT channels FROM acct_accounts WHERE id = :id")
_WRITE = Statement("UPDATE acct_accounts SET channels = :channels WHERE id = :id")


def member_channels(connection: Connection, account_id: int) -> tuple[str, ...] | None:
    """The channels, in order; None for all."""
    rows = connection.execute(_READ, {"id": account_id})
    return read_names(rows[0][0]) if rows else None


def set_member_channels(
    connection: Connection, account_id: int, names: tuple[str, ...] | None
) -> None:
    """Let members give keys these channels, or with None all; raises Mistake."""
    known = channels(connection)
    for name in names or ():
        if name not in known:
            raise Mistake(f"there is no channel {name!r}; known: {', '.join(known)}")
    kept = None if names is None else tuple(dict.fromkeys(names))
    connection.change(_WRITE, {"id": account_id, "channels": names_text(kept)})


def check_member_channels(
    connection: Connection, account_id: int, names: Iterable[str], before: tuple[str, ...]
) -> None:
    """Raise Mistake where a member gives a key a channel that it had not and may not have."""
    allowed = member_channels(connection, account_id)
    for name in names:
        if allowed is not None and name not in allowed and name not in before:
            raise Mistake(f"there is no channel {name!r} for this account")
