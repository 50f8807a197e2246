"""Leases: a process says that it lives and how far its requests are, and ends what dead ones held.

    every checkpoint_s    the lease, and the counts of the open requests, in one transaction
    every lease_s / 2     the holds whose process has not renewed its lease, one by one

A hold of this very process that belongs to nothing is ended, too: whatever went wrong, no money
stays held.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from translator.service.config.accounts import AccountsSection
from translator.service.database.connection import Connection
from translator.service.database.database import Database
from translator.service.database.errors import Unavailable

from . import statements as sql
from .bills import Counts
from .meter import AccountMeter
from .settlements import sweep

log = logging.getLogger(__name__)

SYNC_S = 1.0
"""After how long settlements are on the disk, in seconds. Only a power cut loses those before."""

WRITE_BYTES = 1024
ROW_BYTES = 100
"""What a write, and each of its counts, counts for in the queue."""


class OpenHolds(Protocol):
    """The holds that a process has: `directory.Accounts`."""

    def so_far(self) -> dict[int, Counts]:
        """How far the open requests are, by hold."""
        ...

    def knows(self, hold_id: int) -> bool:
        """Whether a hold belongs to a request, or a settlement that waits."""
        ...

    def settle_again(self) -> None:
        """Queue what the queue did not take before."""
        ...


class Leases:
    """The lease of a process, whose name is `boot`."""

    def __init__(
        self, database: Database, section: AccountsSection, meter: AccountMeter, holds: OpenHolds
    ) -> None:
        self.boot = secrets.token_hex(16)
        self._database = database
        self._section = section
        self._meter = meter
        self._holds = holds
        self._sync: asyncio.TimerHandle | None = None
        self._alone = database.location.kind == "postgresql"

    def renew(self, rows: list[dict[str, Any]] | None = None) -> None:
        """Renew the lease, and write how far some requests are; does not wait."""
        size = WRITE_BYTES + ROW_BYTES * len(rows or ())
        with suppress(Unavailable):
            self._write(partial(_renew, self.boot, rows or []), size)

    def sync_soon(self) -> None:
        """See to it that what is committed by now is on the disk in SYNC_S.

        By another transaction: one that waits for the disk is followed by it alone, and whoever
        asks for a hold meanwhile would wait, too.
        """
        if self._sync is None:
            self._sync = asyncio.get_running_loop().call_later(SYNC_S, self._sync_now)

    def _sync_now(self) -> None:
        self._sync = None
        with suppress(Unavailable):
            self._write(partial(_renew, self.boot, []), durable=True)

    def end(self) -> None:
        """The process ends: its lease goes, unless something is still held."""
        if self._sync is not None:
            self._sync.cancel()
        with suppress(Unavailable):
            self._write(partial(_renew, self.boot, []), durable=True)
        with suppress(Unavailable):
            self._write(partial(_end, self.boot))

    async def checkpoints(self) -> None:
        """Renew the lease for as long as the process lives."""
        written: dict[int, Counts] = {}
        while True:
            await asyncio.sleep(self._section.checkpoint_s)
            self._holds.settle_again()
            now = self._holds.so_far()
            rows = [
                {"id": hold_id, "input": one.input, "output": one.output, "boot": self.boot}
                for hold_id, one in now.items()
                if written.get(hold_id) != one
            ]
            written = now
            self.renew(rows)

    async def sweeps(self) -> None:
        """End the holds that nobody else would end."""
        while True:
            try:
                await self._sweep()
            except Unavailable as error:
                log.debug("accounts: not swept: %s", error)
            except Exception:
                log.exception("accounts: not swept")
            await asyncio.sleep(self._section.lease_s / 2)

    async def _sweep(self) -> None:
        lease_us = round(self._section.lease_s * 1e6)
        values = {"lease": lease_us, "boot": self.boot}
        orphans, own = await self._database.read(
            lambda one: [one.execute(text, values) for text in (sql.ORPHANS, sql.OWN_OLD)]
        )
        for hold_id, account, key in orphans:
            self._write(partial(_sweep, hold_id, account, key, lease_us))
        strays = [row for row in own if not self._holds.knows(row[0])]
        for hold_id, account, key in strays:
            self._write(partial(_sweep, hold_id, account, key, None))
        if found := len(orphans) + len(strays):
            self._meter.orphans(found)
            log.warning("accounts: %d holds that nobody else would end are ended", found)
        self._write(partial(_forget, lease_us))

    def _write(
        self,
        work: Callable[[Connection], Any],
        size: int = WRITE_BYTES,
        *,
        durable: bool = False,  # what is lost is done again
    ) -> None:
        self._database.write(
            work,
            size=size,
            keep_trying_s=self._section.lease_s,
            durable=durable,
            alone=self._alone,
        )


# --- the work of transactions, with the connection last -------------------------------------------


def _renew(boot: str, rows: list[dict[str, Any]], connection: Connection) -> None:
    connection.change(sql.RENEW, {"boot": boot})
    connection.execute_many(sql.CHECKPOINT, rows)


def _sweep(
    hold_id: int, account: int, key: int, lease_us: int | None, connection: Connection
) -> None:
    sweep(connection, hold_id, account, key, lease_us)


def _forget(lease_us: int, connection: Connection) -> None:
    connection.change(sql.FORGET_BOOTS, {"lease": lease_us})


def _end(boot: str, connection: Connection) -> None:
    connection.change(sql.END_BOOT, {"boot": boot})
