"""The store of an application: opened with it, and swept while it runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from translator.service.base.ids import NewId
from translator.service.config.settings import Server, SettingsError
from translator.service.config.store import Store
from translator.service.database.errors import Damaged, SchemaMismatch, Unavailable
from translator.service.database.schema import prepare
from translator.service.database.statement import DatabaseTime
from translator.service.store.meter import StoreMeter
from translator.service.store.responses import StoredResponses
from translator.service.store.room import ROOM

from .stored_conversations import ConversationEndpoints
from .stored_responses import StoredEndpoints

log = logging.getLogger(__name__)

SWEEP_S = 60.0
"""How often it is looked for what has expired, in seconds."""

MEASURE_S = 60.0
"""How often its size is measured, in seconds."""

PAUSE_S = 1.0
"""The pause between two steps of a sweep, in seconds."""


class AppStore:
    """The store, and its endpoints."""

    def __init__(self, responses: StoredResponses, *, measures: bool) -> None:
        """`measures`: how large it is is measured from time to time."""
        self._measures = measures
        self.responses = responses
        self.endpoints = StoredEndpoints(responses, ConversationEndpoints(responses))

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """The store is in use while the context lasts."""
        self.responses.open()
        tasks = [
            asyncio.create_task(self._sweep()),
            asyncio.create_task(self.responses.runs.serve()),
        ]
        if self._measures:
            tasks.append(asyncio.create_task(self._measure()))
        try:
            yield
        finally:
            await self.responses.runs.close()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await self.responses.aclose()

    async def _measure(self) -> None:
        while True:
            with suppress(Unavailable):
                await self.responses.measure()
            await asyncio.sleep(MEASURE_S)

    async def _sweep(self) -> None:
        pause_s = SWEEP_S
        while True:
            await asyncio.sleep(pause_s)
            try:
                pause_s = PAUSE_S if await self.responses.sweep() else SWEEP_S
            except Unavailable as error:
                log.debug("store: not swept: %s", error)
                pause_s = SWEEP_S


def open_store(
    settings: Store,
    server: Server,
    new_id: NewId,
    time: DatabaseTime | None,
    meter: StoreMeter | None,
) -> AppStore:
    """The store of the settings; raises SettingsError where it can never be used as it is.

    `meter` counts what it does. A PostgreSQL server that is away is no reason not to serve: it is
    used when it is there.
    """
    location, prepared = settings.location, False
    try:
        prepare(location, ROOM)
        prepared = True
    except ModuleNotFoundError as error:
        from translator.program.invocation import install_hint

        raise SettingsError(
            [f"store: {error.name} is missing; {install_hint('service,store')} installs it"]
        ) from None
    except (SchemaMismatch, Damaged) as error:
        raise SettingsError([f"store: {error}"]) from None
    except Unavailable as error:
        if location.kind == "sqlite":
            raise SettingsError([f"store: {error}"]) from None
        log.warning("store: %s cannot be reached: %s", location.shown, error)
    if prepared:
        log.info(
            "responses are stored for %g days in %s", settings.limits.retention_days, location.shown
        )
    responses = StoredResponses(
        settings,
        max_context_bytes=server.max_body_bytes,
        new_id=new_id,
        time=time,
        prepared=prepared,
        meter=meter,
    )
    return AppStore(responses, measures=meter is not None)
