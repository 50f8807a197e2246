"""The channels that members of an account may give its keys.

A channel is a price list, too: a customer must not choose that of another one. So without a word
of an operator members give keys the channel `all` alone, which has the usual prices. An operator
may give a key any channel, and a key keeps what it has.
"""

from __future__ import annotations

from collections.abc import Iterable

from translator.service.database.connection import Connection
from translator.service.database.statement import Statement

from .books import Account, account_of_id
from .changes import Mistake
from .channel_book import EVERYTHING, channels
from .keys import ALL, names_text

_WRITE = Statement("UPDATE acct_accounts SET channels = :channels WHERE id = :id")


USUAL = (EVERYTHING,)
"""What members may give without a word of an operator."""

EVERY = (ALL,)
"""Every channel, also those that come later."""


def member_channels(connection: Connection, account_id: int) -> tuple[str, ...]:
    """The channels, in order; EVERY for all that there are."""
    found = account_of_id(connection, account_id)
    return USUAL if found is None else channels_of(found)


def channels_of(account: Account) -> tuple[str, ...]:
    """The same, of an account that is known."""
    return USUAL if account.channels is None else account.channels


def open_channels(connection: Connection, account_id: int) -> tuple[str, ...]:
    """The channels by their names; without a choice the usual one is the first."""
    found, known = member_channels(connection, account_id), channels(connection)
    if found == EVERY:
        return tuple(sorted(known, key=lambda name: (name != EVERYTHING, name)))
    return tuple(name for name in found if name in known)


def set_member_channels(
    connection: Connection, account_id: int, names: tuple[str, ...] | None
) -> None:
    """Let members give keys these channels, or EVERY, or with None the usual; raises Mistake.

    With none at all, members make no keys.
    """
    known = channels(connection)
    for name in names or ():
        if name not in known and names != EVERY:
            text = f"there is no channel {name!r}; known: {', '.join(known)}"
            raise Mistake(text, field="channels")
    kept = None if names is None else tuple(dict.fromkeys(names))
    connection.change(_WRITE, {"id": account_id, "channels": names_text(kept)})


def check_member_channels(
    connection: Connection, account_id: int, names: Iterable[str], before: tuple[str, ...]
) -> None:
    """Raise Mistake where a member gives a key a channel that it had not and may not have."""
    allowed = member_channels(connection, account_id)
    if not allowed and not before:
        raise Mistake("operators make the keys of this account")
    for name in names:
        if allowed != EVERY and name not in (*allowed, *before):
            raise Mistake(f"there is no channel {name!r} for this account")
