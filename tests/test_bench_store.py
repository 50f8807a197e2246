"""The benchmark of the store writes and reads the same as what it is compared with."""

from __future__ import annotations

import io
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bench import store, stored_turns
from bench.stored_events import RUNS, logging_works
from bench.stored_turns import (
    ADMIT,
    ADMIT_IN_FULL,
    BARE,
    BARE_IN_A_THREAD,
    READ,
    STORE,
    Works,
    lengthen,
    make_chain,
    make_database,
    reading_works,
    serve,
    writing_works,
)


def counts(file: Path) -> list[int]:
    """The rows of some tables."""
    names = ("responses", "bodies", "items", "response_items", "threads")
    with closing(sqlite3.connect(file)) as driver:
        return [driver.execute(f"SELECT count(*) FROM resp_{name}").fetchone()[0] for name in names]


def test_the_same_is_written_by_the_store_and_by_sqlite3(tmp_path: Path) -> None:
    """Three conversations of two turns, each with a question, a thought and an answer."""
    make_database(tmp_path / "empty.db")
    with writing_works(tmp_path, 3, 1) as works:
        for _ in range(2):
            works.prepare[STORE]()
            works.do[STORE]()
        works.do[BARE]()
        works.do[BARE_IN_A_THREAD]()
    written = counts(tmp_path / "store.db")
    assert written == [6, 6, 18, 18, 3]
    assert counts(tmp_path / "bare.db") == counts(tmp_path / "recorded.db") == written


def test_a_chain_is_read_whole(tmp_path: Path) -> None:
    """By the store and by one query; as an upstream sees it, it is its context in full."""
    file = tmp_path / "chain.db"
    make_database(file)
    last, sizes = make_chain(file, 4, size=lambda: counts(file)[0])
    assert sizes == [0, 2, 4]
    with reading_works(file, last) as works:
        _, part = works.do[READ]()  # type: ignore[misc]
        rows: Any = works.do[BARE]()
        assert list(map(bytes, part.earlier)) == [sealed or body for body, sealed in rows]
        assert works.do[ADMIT]() == works.do[ADMIT_IN_FULL]()


def test_a_long_chain_is_read_whole(tmp_path: Path) -> None:
    """All of its responses, though the last one stands there again and again."""
    file = tmp_path / "chain.db"
    make_database(file)
    last = lengthen(file, make_chain(file, 2)[0], 50)
    with reading_works(file, last) as works:
        _, part = works.do[READ]()  # type: ignore[misc]
        assert len(part.earlier) == 3 * 52


def test_each_line_is_one_work(capsys: pytest.CaptureFixture[str]) -> None:
    done: list[str] = []
    works = Works(
        prepare={STORE: lambda: done.append("prepared")},
        do={STORE: lambda: done.append("stored"), BARE: lambda: done.append("bare")},
    )
    lines = io.StringIO(f"prepare {STORE}\ndo {STORE}\n\nprepare {BARE}\ndo {BARE}\n")
    serve(works, lines)
    assert done == ["prepared", "stored", "bare"]
    assert capsys.readouterr().out == "\n" * 6


def test_the_first_rounds_do_not_count() -> None:
    values = {"a": iter([9.0, 1.0, 2.0, 3.0]), "b": iter([0.0, 4.0, 5.0, 9.0])}
    assert store._medians(["a", "b"], 4, lambda name: next(values[name]), 1) == {"a": 2, "b": 5}


def test_the_programs_under_valgrind_are_of_the_benchmark() -> None:
    """They import what there is."""
    for code in (store._WRITING, store._READING):
        [line] = [one for one in code.splitlines() if one.startswith("from bench")]
        names = line.partition("import ")[2].split(", ")
        assert all(hasattr(stored_turns, name) for name in names)


def test_a_service_with_a_store_has_its_section(tmp_path: Path) -> None:
    """The other one has the same settings but for that."""
    (tmp_path / "chain.db").write_bytes(b"x")
    written: list[str] = []
    for number, target in enumerate(
        (
            store.service("a", store=False),
            store.service("b", store=True, file=tmp_path / "chain.db"),
        )
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert "--config" in target.command(folder, 1, 2)
        written.append((folder / "settings.toml").read_text())
    assert written[1].startswith(written[0])
    assert "[store]" in written[1].removeprefix(written[0])
    assert (tmp_path / "1" / "store.db").read_bytes() == b"x"


def test_the_same_events_are_written_by_the_log_and_by_sqlite3(tmp_path: Path) -> None:
    make_database(tmp_path / "empty.db")
    with logging_works(tmp_path, 2) as works:
        for name in (STORE, BARE, BARE_IN_A_THREAD):
            works.do[name]()
    kept: dict[str, list[Any]] = {}
    for name in ("store", "bare"):
        with closing(sqlite3.connect(tmp_path / f"{name}.db")) as driver:
            query = "SELECT first_seq, last_seq, body FROM resp_events ORDER BY first_seq"
            kept[name] = driver.execute(query).fetchall()
    assert len(kept["store"]) == 2 * RUNS
    assert kept["store"][RUNS:] == kept["bare"][:RUNS]
    assert len(kept["bare"]) == 2 * RUNS
