"""`translator store`: what it prints, and its exit codes."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from translator.__main__ import main
from translator.program.invocation import install_hint
from translator.service.config.store import Location
from translator.service.database.connection import connect, writing
from translator.service.database.statement import DatabaseTime, Statement
from translator.service.store.owners import charge
from translator.service.store.room import ROOM

ROOT = Path(__file__).parents[3]

URL = {"sqlite": "sqlite:///{}", "postgresql": "{}"}


@pytest.fixture
def config(location: Location, tmp_path: Path) -> str:
    """A settings file whose store has the tables, and nothing in them."""
    return written(tmp_path, location)


def written(folder: Path, location: Location) -> str:
    url = URL[location.kind].format(location.target)
    file = folder / "settings.toml"
    file.write_text(
        f'[upstreams.up]\nbase_url = "http://127.0.0.1:9/v1"\n[store]\nurl = "{url}"\n', "utf-8"
    )
    return str(file)


def fill(location: Location, owner: str, count: int, *, days: float = 30.0) -> None:
    """Store threads of one response with two items each, as the service does."""
    base = {"anna": 1000, "bob": 2000, "": 3000}[owner]
    with closing(connect(location, DatabaseTime())) as connection, writing(connection):
        for n in range(base, base + count):
            values = {"n": n, "owner": owner, "id": f"resp_{n}", "days": days, "body": b"{}"}
            connection.change(
                Statement("INSERT INTO resp_threads VALUES (:n, :owner, db_now() + 86400 * :days)"),
                values,
            )
            connection.change(
                Statement(
                    "INSERT INTO resp_responses (n, owner, id, thread, depth, status, model,"
                    " created_at, bytes) VALUES (:n, :owner, :id, :n, 0, 'completed', 'm',"
                    " db_now(), 2046)"
                ),
                values,
            )
            connection.change(Statement("INSERT INTO resp_bodies VALUES (:n, :body)"), values)
            for pos in (0, 1):
                item = {"n": 10 * n + pos, "owner": owner, "id": f"msg_{n}_{pos}", "body": b"{}"}
                connection.change(
                    Statement(
                        "INSERT INTO resp_items (n, owner, id, kind, body, bytes)"
                        " VALUES (:n, :owner, :id, 'message', :body, 1023)"
                    ),
                    item,
                )
                connection.change(
                    Statement("INSERT INTO resp_response_items VALUES (:r, :pos, :pos, :n)"),
                    {"r": n, "pos": pos, "n": item["n"]},
                )
            charge(connection, {owner: 2048})


def rows(location: Location) -> int:
    tables = ("threads", "responses", "bodies", "items", "response_items")
    counts = " + ".join(f"(SELECT count(*) FROM resp_{name})" for name in tables)
    with closing(connect(location, DatabaseTime())) as connection:
        return int(connection.execute(Statement(f"SELECT {counts}"))[0][0])


def test_migrate_makes_the_tables(
    empty: Location, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["store", "migrate", "--config", written(tmp_path, empty)]
    assert main(words) == 0
    assert f"migrated to {ROOM.revisions[-1]}." in capsys.readouterr().out
    assert main(words) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_what_is_not_there_yet_is_said(
    empty: Location, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = written(tmp_path, empty)
    for action in ("check", "stats", "list"):
        assert main(["store", action, "--config", config]) == 2
        err = capsys.readouterr().err
        assert len(err.splitlines()) == 1
        known = {"sqlite": "is not there yet", "postgresql": "translator store migrate --config"}
        assert known[empty.kind] in err
    if empty.kind == "sqlite":
        assert not Path(empty.target).exists()


def test_stats_and_list_show_each_client(
    location: Location, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(location, "anna", 3)
    fill(location, "bob", 1)
    fill(location, "", 1, days=-1)
    assert main(["store", "stats", "--config", config]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^responses  5, 10\.0 KiB, with 10 items$", out, re.MULTILINE)
    assert re.search(r"^threads    5, 1 of them expired$", out, re.MULTILINE)
    assert re.search(r"^anna +3 +6\.0 KiB +20\d\d-", out, re.MULTILINE)
    assert re.search(r"^'' +1 +2\.0 KiB", out, re.MULTILINE)
    assert "quota" not in out
    with Path(config).open("a", encoding="utf-8") as file:
        file.write("max_client_bytes = 8192\n")
    assert main(["store", "stats", "--config", config]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^quota      8\.0 KiB for each client$", out, re.MULTILINE)
    assert re.search(r"^anna +3 +6\.0 KiB +75 % +20\d\d-", out, re.MULTILINE)
    assert main(["store", "list", "--config", config]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [
        *("id", "resp_2000", "resp_1002", "resp_1001", "resp_1000")
    ]
    assert main(["store", "list", "--config", config, "--client", "anna", "--limit", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:4] for line in lines[1:]] == [
        ["resp_1002", "anna", "completed", "m"],
        ["resp_1001", "anna", "completed", "m"],
    ]
    assert main(["store", "list", "--config", config, "--client", "carl"]) == 0
    assert capsys.readouterr().out == "No responses are stored.\n"


def test_purge_deletes_what_it_is_told_to(
    location: Location,
    config: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In steps; what is left has no damage."""
    monkeypatch.setattr("translator.service.store.sweep.STEP_ROWS", 3)
    fill(location, "anna", 4)
    fill(location, "bob", 2)
    fill(location, "", 1, days=-1)
    assert main(["store", "purge", "--config", config, "--expired"]) == 0
    # two items with their pointers; a response, its body and its thread; the account of its client
    assert capsys.readouterr().out.endswith("\n8 rows deleted.\n")
    assert rows(location) == 7 * 6
    assert main(["store", "purge", "--config", config, "--client", "anna"]) == 0
    out = capsys.readouterr().out
    assert "4 threads of the client anna" in out
    # two items with their pointers; a response, its body and its thread
    assert out.endswith("\n28 rows deleted.\n")
    assert rows(location) == 7 * 2
    assert main(["store", "check", "--config", config]) == 0
    assert main(["store", "purge", "--config", config, "--all"]) == 0
    assert rows(location) == 0


def test_purge_counts_the_rows_of_its_client_alone(
    location: Location, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where there are none, it says so, and deletes nothing."""
    fill(location, "anna", 2)
    fill(location, "", 1, days=-1)
    words = ["store", "purge", "--config", config, "--client"]
    assert main([*words, "nobody"]) == 0
    assert capsys.readouterr().out == "Nothing is stored for the client nobody.\n"
    assert rows(location) == 7 * 3
    assert main([*words, "anna"]) == 0
    assert capsys.readouterr().out.endswith("\n14 rows deleted.\n")
    assert rows(location) == 0
    assert main([*words, "anna"]) == 0
    assert capsys.readouterr().out == "Nothing is stored for the client anna.\n"
    assert main([*words, ""]) == 0
    assert capsys.readouterr().out == "Nothing is stored for the client ''.\n"


def test_purge_gives_the_space_of_a_file_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    location = Location("sqlite", str(tmp_path / "store.db"))
    config = written(tmp_path, location)
    assert main(["store", "migrate", "--config", config]) == 0
    before = Path(location.target).stat().st_size
    fill(location, "anna", 600)
    assert Path(location.target).stat().st_size > 2 * before
    assert main(["store", "purge", "--config", config, "--client", "anna"]) == 0
    assert Path(location.target).stat().st_size == before


def test_purge_asks_what(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "purge", "--config", config]) == 2
    assert "--client --expired --all" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("DELETE FROM resp_threads", "1 responses without a thread"),
        ("DELETE FROM resp_bodies", "1 responses without a body"),
        ("UPDATE resp_bodies SET response = 7", "1 bodies without a response"),
        ("UPDATE resp_responses SET parent = 7", "1 responses whose parent is missing"),
        ("DELETE FROM resp_items WHERE n = 10000", "1 responses that name an item"),
        ("DELETE FROM resp_responses", "2 items of responses that are missing"),
        ("DELETE FROM resp_response_items WHERE pos = 0", "1 items that nothing names"),
    ],
)
def test_check_finds_damage(
    location: Location, config: str, capsys: pytest.CaptureFixture[str], damage: str, found: str
) -> None:
    fill(location, "anna", 1)
    assert main(["store", "check", "--config", config]) == 0
    assert "no damage found" in capsys.readouterr().out
    with closing(connect(location, DatabaseTime())) as connection, writing(connection):
        connection.change(Statement(damage))
    assert main(["store", "check", "--config", config]) == 1
    assert found in capsys.readouterr().out


def test_a_server_that_is_away_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = "hunter2hunter2"
    away = Location("postgresql", f"postgresql://me:{secret}@127.0.0.1:9/db")
    config = written(tmp_path, away)
    for words in (["stats"], ["migrate"]):
        assert main(["store", *words, "--config", config]) == 2
        err = capsys.readouterr().err
        assert len(err.splitlines()) == 1
        assert "127.0.0.1" in err
        assert secret not in err


def test_a_table_that_is_locked_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("translator.service.database.connection.BUSY_S", 0.05)
    location = Location("sqlite", str(tmp_path / "store.db"))
    config = written(tmp_path, location)
    assert main(["store", "migrate", "--config", config]) == 0
    with closing(sqlite3.connect(location.target, isolation_level=None)) as foreign:
        foreign.execute("BEGIN EXCLUSIVE")
        capsys.readouterr()
        assert main(["store", "purge", "--all", "--config", config]) == 2
    assert "database is locked" in capsys.readouterr().err


def test_settings_without_a_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('[upstreams.up]\nbase_url = "http://127.0.0.1:9/v1"\n', "utf-8")
    assert main(["store", "stats", "--config", str(file)]) == 2
    assert "has no section [store]" in capsys.readouterr().err


def test_a_missing_package_is_named(tmp_path: Path) -> None:
    package = "alembic"
    config = written(tmp_path, Location("sqlite", str(tmp_path / "store.db")))
    program = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from translator.__main__ import main\nsys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "store", "migrate", "--config", config],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr == (
        f"translator: store needs {package}: install it with {install_hint('store')}\n"
    )
