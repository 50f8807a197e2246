"""A translator with a store, for clients as they come: none of them is told `store: false`."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import SKIPPED, Stage, serving, settings_file
from tests.clients.node_programs import Program, running, workshop
from tests.clients.upstream import ScriptedUpstream

DIALECT = "fireworks"
"""What the upstream speaks: reasoning comes back to it, so that it can be looked at."""


@pytest.fixture(scope="package")
def store_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the settings and the database are."""
    return tmp_path_factory.mktemp("stored")


@pytest.fixture(scope="package")
def storing(store_folder: Path) -> Iterator[Stage]:
    with ExitStack() as stack:
        upstream = stack.enter_context(ScriptedUpstream(speaks=DIALECT))
        file = settings_file(store_folder, upstream)
        file.write_text(f"{file.read_text()}\n[store]\n")
        yield Stage(upstream, stack.enter_context(serving(None, "--config", str(file))))


@pytest.fixture
def stage(storing: Stage, request: pytest.FixtureRequest) -> Iterator[Stage]:
    """The stage, empty; only its store goes on from test to test."""
    storing.play()
    yield storing
    if not request.node.stash.get(SKIPPED, False):
        assert storing.upstream.refusals == []
        assert storing.upstream.left == 0, "turns of the script were not asked for"


@pytest.fixture
def rows(store_folder: Path) -> Callable[[], dict[str, list[Any]]]:
    """Reads all rows of the store, by the names of the tables."""

    def read() -> dict[str, list[Any]]:
        with closing(sqlite3.connect(store_folder / "translator.db")) as database:
            tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            return {
                name: database.execute(f"SELECT * FROM {name} ORDER BY 1").fetchall()
                for (name,) in tables.fetchall()
            }

    return read


def program(script: str, *packages: str) -> Callable[..., Iterator[Program]]:
    """A fixture: one program of `node/`, for the tests of a module."""

    def fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
        folder = workshop(tmp_path_factory.mktemp("node"), *packages)
        with running(folder, script) as started:
            yield started

    return pytest.fixture(scope="module")(fixture)
