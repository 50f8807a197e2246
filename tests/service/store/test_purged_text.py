"""What `translator store purge` leaves of a text in the files of SQLite."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from translator.__main__ import main
from translator.service.config.store import Location

from .storing import Service, ask
from .test_command import written
from .test_failures import ON_A_FILE, status_of

pytestmark = pytest.mark.anyio

TEXT = "a text that is not to be found "


def found(location: Location) -> dict[str, bool]:
    """Which files have the text."""
    files = sorted(Path(location.target).parent.glob("store.db*"))
    return {one.name: TEXT.encode() in one.read_bytes() for one in files if one.suffix != ".db-shm"}


@ON_A_FILE
async def test_purge_under_a_running_service(
    service: Service, location: Location, tmp_path: Path
) -> None:
    """The text is in neither file, and the service goes on."""
    async with service() as client:
        response = await ask(client, input=TEXT * 500, store=True)
        await ask(client, input="something else", store=True)
        assert found(location)["store.db-wal"]
        words = ["store", "purge", "--all", "--config", written(tmp_path, location)]
        assert await asyncio.to_thread(main, words) == 0
        assert found(location) == {"store.db": False, "store.db-wal": False}
        assert await status_of(client, response["id"]) == 404
        await ask(client, store=True)
