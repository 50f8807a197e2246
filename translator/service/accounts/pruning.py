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

from .books import prune_oldest

LOOK_S = 600.0
"""How often it is looked for usages that are no longer to be kept, in seconds."""

PAUSE_S = 1.0
"""The pause between two transactions that delete some."""


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
