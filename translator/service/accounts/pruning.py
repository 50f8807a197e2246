"""Pruning: the rows of single requests are deleted when they are no longer to be kept.

Their sums and the ledger stay. Transactions are small, with a pause between two: others write
meanwhile.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import Protocol

from translator.service.database.connection import Connection
from translator.service.database.errors import Unavailable
from translator.service.database.statement import Statement

from .changes import Mistake, now
from .periods import DAY_US

LOOK_S = 600.0
"""How often it is looked for usages that are no longer to be kept, in seconds."""

PAUSE_S = 1.0
"""The pause between two transactions that delete some."""


_PRUNED = Statement("SELECT CAST(value AS BIGINT) FROM acct_meta WHERE key = 'pruned_before'")
_SET_PRUNED = Statement(
    "INSERT INTO acct_meta (key, value) VALUES ('pruned_before', :at)"
    " ON CONFLICT (key) DO UPDATE SET value = excluded.value"
)
_OLD_USAGES = Statement(
    "DELETE FROM acct_usages WHERE hold_id IN"
    " (SELECT hold_id FROM acct_usages WHERE ended_at < :at ORDER BY hold_id LIMIT :limit)"
)

PRUNED_ROWS = 1000
"""Most usages that one transaction deletes: others write meanwhile."""


def pruned_before(connection: Connection) -> int:
    """The beginning of the first day whose usages are all there; 0 where none were deleted."""
    rows = connection.execute(_PRUNED)
    return int(rows[0][0]) if rows else 0


_OLDEST_USAGES = Statement(
    "DELETE FROM acct_usages WHERE hold_id IN (SELECT u.hold_id FROM (SELECT hold_id, ended_at"
    " FROM acct_usages ORDER BY hold_id LIMIT :limit) u WHERE u.ended_at < :at)"
)


def prune_oldest(connection: Connection, days: int) -> int:
    """Delete usages of more than so many whole days ago, among the PRUNED_ROWS oldest.

    Returns how many it were. Rows come in the order in which requests began, so that a look at the
    oldest is enough, however many there are.
    """
    at = now(connection)
    day = at - at % DAY_US - days * DAY_US
    deleted = connection.change(_OLDEST_USAGES, {"at": day, "limit": PRUNED_ROWS})
    if deleted and day > pruned_before(connection):
        connection.change(_SET_PRUNED, {"at": str(day)})
    return deleted


def prune(connection: Connection, before: int) -> int:
    """Delete usages of the days before one, at most PRUNED_ROWS; returns how many it were.

    Their sums, and the ledger, stay. Raises Mistake for a day that has not ended.
    """
    day = before - before % DAY_US
    if day > now(connection) - now(connection) % DAY_US:
        raise Mistake("only usages of days that are over can be deleted")
    if day > pruned_before(connection):
        connection.change(_SET_PRUNED, {"at": str(day)})
    return connection.change(_OLD_USAGES, {"at": day, "limit": PRUNED_ROWS})


# --- in a running service ----------------------------------------------------------------------


class Change(Protocol):
    """What makes a transaction: `directory.Accounts.change`."""

    async def __call__(self, work: partial[int], *, durable: bool) -> int: ...


async def prune_for_ever(change: Change, days: int) -> None:
    """Delete usages of more than so many days ago, as long as the service runs."""
    while True:
        deleted = 0
        with suppress(Unavailable):
            deleted = await change(partial(_prune, days), durable=False)
        await asyncio.sleep(PAUSE_S if deleted else LOOK_S)


def _prune(days: int, connection: Connection) -> int:
    return prune_oldest(connection, days)
