"""`translator check`: what it says of the database of `[store]`, in one row."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from translator.__main__ import main
from translator.check import store
from translator.service.config.store import Location
from translator.service.database.connection import connect, writing
from translator.service.database.schema import migrate
from translator.service.database.statement import DatabaseTime, Statement
from translator.service.store.room import ROOM

from .test_command import written

SECRET = "hunter2"


def checked(
    capsys: pytest.CaptureFixture[str], folder: Path, location: Location, *words: str
) -> tuple[int, Any]:
    """The exit code, and the row; no upstream is asked, which would fail."""
    config = written(folder, location)
    code = main(["check", config, "--json", "--model", "m", *words])
    out = capsys.readouterr().out
    assert SECRET not in out
    [row] = [one for one in json.loads(out)["checks"] if one["kind"] == "store"]
    assert row["name"] == location.shown
    return code, (row["status"], row["summary"], row["advice"])


def test_a_database_that_can_be_used(
    location: Location, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reached = "can be opened" if location.kind == "sqlite" else "can be reached"
    fine = ("ok", f"{reached}, and its tables are those of this release", "")
    assert checked(capsys, tmp_path, location)[1] == fine
    code, row = checked(capsys, tmp_path, location, "--offline")
    assert code == 0
    offline = ("skipped", "not asked (--offline)", "")
    assert row == (fine if location.kind == "sqlite" else offline)


def test_a_database_without_tables(
    empty: Location, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A start makes those of a file; those of a server need a command, which is named."""
    config = tmp_path / "settings.toml"
    command = f"translator store migrate --config {config}"
    if empty.kind == "postgresql":
        code, row = checked(capsys, tmp_path, empty)
        assert (code, row) == (1, ("failed", "has no tables", f"Run: {command}"))
    else:
        found = checked(capsys, tmp_path, empty, "--offline")
        assert found == (0, ("ok", "not there yet; the start makes it", ""))
        assert not Path(empty.target).parent.exists()
        file = Path(empty.target)
        file.parent.mkdir()
        with closing(sqlite3.connect(file)) as other, other:
            other.execute("PRAGMA user_version = 1")
        before = file.read_bytes()
        found = checked(capsys, tmp_path, empty, "--offline")
        assert found == (0, ("ok", "has no tables yet; the start makes them", ""))
        assert file.read_bytes() == before
        assert [one.name for one in file.parent.iterdir()] == [file.name]
    assert main(command.split()[1:]) == 0
    capsys.readouterr()
    assert checked(capsys, tmp_path, empty)[1][0] == "ok"


@pytest.mark.parametrize(
    ("revision", "status"), [("store_0001", {"sqlite": "ok", "postgresql": "failed"}),
                             ("store_9999", {"sqlite": "failed", "postgresql": "failed"})],
)  # fmt: skip
def test_tables_of_another_release(
    location: Location,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    revision: str,
    status: dict[str, str],
) -> None:
    with closing(connect(location, DatabaseTime())) as connection, writing(connection):
        connection.change(Statement(f"UPDATE {ROOM.version_table} SET version_num = '{revision}'"))
    _, row = checked(capsys, tmp_path, location)
    assert row[0] == status[location.kind]
    assert ("older" if revision == "store_0001" else "newer") in row[1] or row[0] == "ok"
    assert bool(row[2]) == (row[0] == "failed")


def test_a_file_that_cannot_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    location = Location("sqlite", str(tmp_path / "store.db"))
    file = Path(location.target)
    file.write_bytes(b"no database" * 1000)
    code, row = checked(capsys, tmp_path, location, "--offline")
    assert code == 1
    assert row == (
        "failed", "the file is damaged, or no SQLite file", "Move it away, or restore it."
    )  # fmt: skip
    file.unlink()
    migrate(location, ROOM)
    with file.open("r+b") as damaged:
        damaged.seek(100)
        damaged.write(os.urandom(3000))
    assert checked(capsys, tmp_path, location, "--offline")[1] == row
    monkeypatch.setattr(store.os, "access", lambda *_: False)
    assert checked(capsys, tmp_path, location, "--offline")[1][1] == "cannot be written to"
    inside = Location("sqlite", str(file / "store.db"))
    assert checked(capsys, tmp_path, inside, "--offline")[1][1] == f"{file} is no folder"
    monkeypatch.setattr(store, "is_on_a_network", lambda _: True)
    assert "where SQLite loses data" in checked(capsys, tmp_path, location, "--offline")[1][1]


def test_a_server_that_is_away(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    away = Location("postgresql", f"postgresql://me:{SECRET}@127.0.0.1:9/name")
    code, row = checked(capsys, tmp_path, away)
    assert code == 1
    assert row[0] == "failed"
    assert row[1].startswith("cannot be used: ")
    assert row[2] == "Correct store.url."


def test_packages_that_are_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    location = Location("sqlite", str(tmp_path / "store.db"))
    monkeypatch.setattr(store, "find_spec", lambda _: None)
    _, row = checked(capsys, tmp_path, location, "--offline")
    assert row[:2] == ("failed", "the packages for it are missing")
    assert "store" in row[2]
