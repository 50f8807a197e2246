"""Space: whether a database that was full still is, asked with a row that is written for it."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress

from translator.service.database.connection import Connection
from translator.service.database.database import Database
from translator.service.database.errors import Unavailable

from . import statements as sql
from .durations import LATE_S

PROBE_BYTES = 64 * 1024
"""Size of the row; few responses with their new items are larger."""

PROBE_S = 0.5
"""How long it is tried to write it, in seconds."""


def _occupy(connection: Connection) -> None:
    connection.change(sql.OCCUPY, {"value": secrets.token_hex(PROBE_BYTES // 2)})


def _free(connection: Connection) -> None:
    connection.change(sql.FREE)


class Space:
    """The space of a database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._probing: asyncio.Task[bool] | None = None

    async def is_full(self) -> bool:
        """Whether there is no space; takes no time unless there was none before."""
        if not self._database.full:
            return False
        if self._probing is None or self._probing.done():
            self._probing = asyncio.create_task(self._probe())
        return not await asyncio.shield(self._probing)

    async def aclose(self) -> None:
        """End the probe."""
        if self._probing is not None:
            await asyncio.wait([self._probing])

    async def _probe(self) -> bool:
        """Whether the row can be written, after which it is deleted again."""
        try:
            write = self._database.write(
                _occupy, size=PROBE_BYTES, keep_trying_s=PROBE_S * 2, durable=False, undo=_free
            )
            try:
                await write.done(PROBE_S)
            except TimeoutError:
                if await write.give_up(PROBE_S):
                    return False
        except Unavailable:
            return False
        with suppress(Unavailable):  # the next one deletes it
            self._database.write(_free, size=0, keep_trying_s=LATE_S, durable=False)
        return True
