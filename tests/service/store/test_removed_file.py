"""A SQLite file that is removed, or replaced, under a service that uses it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from translator.service.config.store import Location
from translator.service.database.connection import connect
from translator.service.database.errors import Unavailable
from translator.service.database.statement import DatabaseTime

from .storing import Service, ask, counts, refused
from .test_failures import ON_A_FILE, last_of, status_of, stored

pytestmark = pytest.mark.anyio


def files(location: Location) -> Iterable[Path]:
    return Path(location.target).parent.glob("store.db*")


def remove(location: Location) -> None:
    for one in files(location):
        one.unlink()


@ON_A_FILE
async def test_file_removed(
    service: Service, location: Location, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is acknowledged that is lost, no file is made; once it is restored, it is used."""
    async with service() as client:
        first = await ask(client, store=True)
    backup = tmp_path / "backup.db"
    shutil.copy(location.target, backup)
    async with service(write_wait_s=0.3) as client:
        later = await ask(client, store=True)
        assert await status_of(client, first["id"]) == 200
        remove(location)
        final = await last_of(client, store=True)
        assert (final["status"], final["error"]["code"]) == ("failed", "server_error")
        assert f"{location.target} was removed or replaced while it was in use" in caplog.text
        assert await status_of(client, later["id"]) == 503
        status, error = await refused(client, previous_response_id=later["id"])
        assert (status, error["code"]) == (503, "store_unavailable")
        late = await last_of(client)
        assert late["status"] == "completed"
        assert [*files(location)] == []
        shutil.copy(backup, location.target)
        assert await status_of(client, first["id"]) == 200
        assert await status_of(client, later["id"]) == 404  # which the backup has not
        if late["store"]:
            assert await stored(client, late["id"]) == late
        again = await last_of(client, store=True, previous_response_id=first["id"])
        assert again["status"] == "completed"
        assert await status_of(client, final["id"]) == 404
    assert counts(location)[1] >= 2  # all is in the new file
    async with service() as client:
        assert await status_of(client, again["id"]) == 200


@ON_A_FILE
async def test_file_replaced(service: Service, location: Location, tmp_path: Path) -> None:
    """Another file in its place is used by the next transaction of each connection."""
    other = tmp_path / "other.db"
    shutil.copy(location.target, other)
    async with service() as client:
        first = await ask(client, store=True)
        assert await status_of(client, first["id"]) == 200
        remove(location)
        other.rename(location.target)
        second = await last_of(client, store=True)
        assert second["status"] == "completed"
        assert await status_of(client, second["id"]) == 200
        assert await status_of(client, first["id"]) == 404
    assert counts(location)[1] == 1


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    location = Location("sqlite", str(tmp_path / "store.db"))
    with pytest.raises(Unavailable, match="No such file or directory"):
        connect(location, DatabaseTime())
    assert [*files(location)] == []
