"""Admission: whether there is room for what a request stores, before its upstream is asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

from translator.service.base.errors import StoreQuotaExceeded
from translator.service.config.store import StoreSection
from translator.service.database.database import Database
from translator.service.database.errors import Unavailable
from translator.wire.notices import Notice

from .meter import StoreMeter
from .owners import used
from .quota import SweepsFirst, why_too_much
from .recall import Recalled
from .space import Space

FULL = "The store is full, so the response is not stored."


def full() -> StoreQuotaExceeded:
    """The error for what needs space in a database that has none."""
    return StoreQuotaExceeded(
        "The store is full, so nothing more is stored. Send the request with `store` set to false,"
        " or delete what is stored."
    )


class Admission:
    """Decides it for a store."""

    def __init__(
        self,
        database: Database,
        limits: StoreSection,
        meter: StoreMeter,
        sweep: Callable[[], Awaitable[int]],
    ) -> None:
        """`sweep` is as in SweepsFirst."""
        self._database = database
        self._limits = limits
        self._meter = meter
        self._sweeps = SweepsFirst(sweep)
        self._space = Space(database)

    async def aclose(self) -> None:
        """End what is running."""
        await self._space.aclose()

    async def check_space(self, *, of_response: bool = False) -> None:
        """Raise StoreQuotaExceeded where the database is known to be full.

        `of_response`: so a response is refused, which is counted.
        """
        if await self._space.is_full():
            if of_response:
                self._meter.response("unavailable")
            raise full()

    async def make_room(self) -> bool:
        """Delete what has expired, unless that was just done; whether anything was."""
        return await self._sweeps.first()

    async def why_not(
        self, owner: str | None, recalled: Recalled, *, needs: bool, follows: bool
    ) -> Notice | None:
        """Why a response is not stored though it was asked for, or not forbidden.

        `follows`: it goes on from a response that must not be stored. Raises StoreQuotaExceeded.
        """
        if follows:
            what = "It goes on from a response that is not stored, so it is not stored either."
            return Notice("store", "store_ignored", what)
        much = why_too_much(self._limits, recalled.items, recalled.used)
        if much is not None and owner is not None and recalled.used and await self.make_room():
            now = recalled.used
            with suppress(Unavailable):
                now = await self._database.read(lambda connection: used(connection, owner))
            much = why_too_much(self._limits, recalled.items, now)
        if much is not None:
            self._meter.response("too_large")
            if needs:
                raise StoreQuotaExceeded(
                    f"{much} Send the request with `store` set to false.", "input"
                )
            return Notice("store", "store_quota_exceeded", much)
        if not needs and self._database.failing and self._database.full:
            self._meter.response("unavailable")
            return Notice("store", "store_quota_exceeded", FULL)
        if owner is None or (self._database.failing and not needs):
            what = "Responses cannot be stored now."
            self._meter.response("unavailable")
            return Notice("store", "store_unavailable", what)
        return None
