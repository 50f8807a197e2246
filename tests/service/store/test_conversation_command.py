"""`translator store` and conversations: what it shows, checks and deletes."""

from __future__ import annotations

import itertools
import re
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from msgspec import Raw

from translator.__main__ import main
from translator.service.config.store import Location
from translator.service.database.connection import connect, writing
from translator.service.database.statement import DatabaseTime, Statement
from translator.service.store import conversation_rows
from translator.service.store.places import Key

from .conversing import rows


@pytest.fixture
def config(location: Location, tmp_path: Path) -> str:
    """A settings file with this store, whose conversations are kept for ten days."""
    url = location.target if location.kind == "postgresql" else f"sqlite:///{location.target}"
    file = tmp_path / "settings.toml"
    file.write_text(
        '[upstreams.up]\nbase_url = "http://127.0.0.1:9/v1"\n'
        f'[store]\nurl = "{url}"\nconversation_days = 10\n',
        "utf-8",
    )
    return str(file)


def fill(location: Location, owner: str, count: int, *, days: float = 0.0) -> None:
    """Store conversations of two items each, changed some days ago."""
    time = DatabaseTime(-86400.0 * days)
    ends = itertools.count()
    with closing(connect(location, time)) as connection, writing(connection):
        for n in range(count):
            key = Key(owner, f"conv_{owner}{n}", 0.0)
            items = [Raw(msgspec.json.encode({"role": "user", "content": "x" * 500}))] * 2
            conversation_rows.create(
                connection, key, b"{}", items, lambda prefix: f"{prefix}{owner}{next(ends)}"
            )


def left(location: Location) -> list[int]:
    names = ("conversations", "conversation_items", "items")
    return [rows(location, f"SELECT count(*) FROM resp_{name}")[0][0] for name in names]


def test_stats_and_list(
    location: Location, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(location, "anna", 2)
    fill(location, "bob", 1)
    fill(location, "carl", 1, days=11)
    words = ["--config", config]
    assert main(["store", "stats", *words]) == 0
    assert re.search(r"^conversations  4$", capsys.readouterr().out, re.MULTILINE)
    assert main(["store", "list", "--conversations", *words]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["id", "client", "items", "created", "changed", "size"]
    assert {line.split()[0] for line in lines} == {"conv_anna0", "conv_anna1", "conv_bob0"}
    assert re.match(r"conv_\w+ +\w+ +2 +20.*Z  1\.0 KiB$", lines[0])
    assert main(["store", "list", "--conversations", "--client", "bob", *words]) == 0
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["client", "bob"]
    assert main(["store", "list", "--conversations", "--client", "dora", *words]) == 0
    assert capsys.readouterr().out == "No conversations are stored.\n"


def test_purge(
    location: Location,
    config: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("translator.service.store.conversation_rows.STEP_ROWS", 3)
    fill(location, "anna", 3)
    fill(location, "bob", 1)
    fill(location, "carl", 1, days=11)
    words = ["--config", config]
    assert main(["store", "purge", "--expired", *words]) == 0
    assert left(location) == [4, 8, 8]
    assert main(["store", "purge", "--client", "anna", *words]) == 0
    assert "3 conversations of the client anna" in capsys.readouterr().out
    assert left(location) == [1, 2, 2]
    assert main(["store", "check", *words]) == 0
    assert main(["store", "purge", "--all", *words]) == 0
    assert left(location) == [0, 0, 0]


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("DELETE FROM resp_items", "2 conversations that name an item that is missing"),
        ("DELETE FROM resp_conversations", "2 items of conversations that are missing"),
        ("DELETE FROM resp_conversation_items", "2 items that nothing names"),
        ("UPDATE resp_items SET owner = 'x' || n", "2 conversations with an item of another"),
        ("UPDATE resp_conversations SET next_pos = 1", "1 items behind the end"),
        ("UPDATE resp_conversations SET bytes = 1", "1 conversations whose size is wrong"),
    ],
)
def test_check_finds_damage(
    location: Location, config: str, capsys: pytest.CaptureFixture[str], damage: str, found: str
) -> None:
    fill(location, "anna", 1)
    with closing(connect(location, DatabaseTime())) as connection, writing(connection):
        connection.change(Statement(damage))
    assert main(["store", "check", "--config", config]) == 1
    assert found in capsys.readouterr().out
