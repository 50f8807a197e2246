"""SQLite files that are not the store's, or no longer whole: nothing is written, and it is said."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from translator.__main__ import main
from translator.service.config.store import Location
from translator.service.database.schema import migrate, prepare
from translator.service.store.room import ROOM

from .test_check import checked
from .test_command import fill, written

DAMAGED = "is damaged, or no SQLite file; move it away, or restore it"
PAGE = 4096


def damage(location: Location, seed: int, *, page: int = 1, pages: int | None = None) -> None:
    """Write over pages of a file, of which the first is 0; by default all behind it."""
    file = Path(location.target)
    pages = pages or file.stat().st_size // PAGE - page
    with file.open("r+b") as opened:
        opened.seek(page * PAGE)
        opened.write(random.Random(seed).randbytes(pages * PAGE))


@pytest.fixture
def filled(tmp_path: Path) -> Location:
    """A file with what some clients have stored."""
    location = Location("sqlite", str(tmp_path / "store.db"))
    migrate(location, ROOM)
    fill(location, "anna", 30)
    return location


@pytest.mark.parametrize("seed", range(3))
def test_pages_that_are_damaged_are_one_sentence(
    filled: Location, tmp_path: Path, capsys: pytest.CaptureFixture[str], seed: int
) -> None:
    """As a wrong header is, whatever is asked for; the check of the store finds it."""
    damage(filled, seed)
    config = written(tmp_path, filled)
    code, row = checked(capsys, tmp_path, filled, "--offline")
    assert code == 1
    assert row[:2] == ("failed", "the file is damaged, or no SQLite file")
    assert main(["store", "check", "--config", config]) == 1
    assert capsys.readouterr().out == f"{filled.target} {DAMAGED}\n"
    commands = [
        ["serve"],
        ["store", "migrate"],
        ["store", "stats"],
        ["store", "list"],
        ["store", "list", "--conversations"],
        ["store", "purge", "--all"],
        ["store", "purge", "--client", "anna"],
    ]
    for words in commands:
        assert main([*words, "--config", config]) == 2, words
        err = capsys.readouterr().err
        assert f"{filled.target} {DAMAGED}" in err
        assert len(err.splitlines()) <= 2, err


def test_damage_of_one_table_is_found(
    filled: Location, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the version can still be read: by all that reads the rest."""
    with closing(sqlite3.connect(filled.target)) as driver:
        query = "SELECT rootpage FROM sqlite_master WHERE name = 'resp_threads'"
        [(root,)] = driver.execute(query).fetchall()
    damage(filled, 1, page=root - 1, pages=1)
    config = written(tmp_path, filled)
    assert checked(capsys, tmp_path, filled, "--offline")[1][0] == "ok"
    assert main(["store", "check", "--config", config]) == 1
    assert capsys.readouterr().out.endswith(f"{filled.target} {DAMAGED}\n")
    for words in (["list"], ["purge", "--all"], ["purge", "--client", "anna"]):
        assert main(["store", *words, "--config", config]) == 2, words
        assert capsys.readouterr().err.endswith(f"{filled.target} {DAMAGED}\n")


def test_a_file_of_another_program_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By all that would write to it, and before anything is written."""
    location = Location("sqlite", str(tmp_path / "store.db"))
    file = Path(location.target)
    with closing(sqlite3.connect(file)) as other, other:
        other.execute("CREATE TABLE bookmarks (a)")
    before = file.read_bytes()
    config = written(tmp_path, location)
    said = f"{file} holds the tables of something else, such as 'bookmarks'"
    code, row = checked(capsys, tmp_path, location, "--offline")
    assert (code, row[0], row[2]) == (1, "failed", "Correct store.url.")
    assert row[1].startswith(said)
    for words in (["serve"], ["store", "migrate"], ["store", "stats"], ["store", "check"]):
        assert main([*words, "--config", config]) == 2
        assert said in capsys.readouterr().err
    assert file.read_bytes() == before
    assert sorted(one.name for one in tmp_path.iterdir()) == ["settings.toml", "store.db"]


def test_a_file_with_tables_beside_the_stores_is_its_own(tmp_path: Path) -> None:
    """Such as those of a program that makes backups."""
    location = Location("sqlite", str(tmp_path / "store.db"))
    prepare(location, ROOM)
    with closing(sqlite3.connect(location.target)) as other, other:
        other.execute("CREATE TABLE backups (a)")
    prepare(location, ROOM)
    assert migrate(location, ROOM) == ()


@pytest.mark.parametrize(
    ("path", "reason"), [("", "Is a directory"), ("/proc/x.db", "No such file or directory")]
)
def test_a_path_that_can_be_no_file_is_said_as_the_start_says_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], path: str, reason: str
) -> None:
    location = Location("sqlite", path or str(tmp_path))
    said = f"{location.target} cannot be opened: {reason}"
    config = written(tmp_path, location)
    code, row = checked(capsys, tmp_path, location, "--offline")
    assert (code, row) == (1, ("failed", f"cannot be used: {said}", "Correct store.url."))
    assert main(["serve", "--config", config]) == 2
    assert f"store: {said}\n" in capsys.readouterr().err
