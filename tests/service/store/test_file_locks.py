"""A SQLite file that several processes use: none of them deletes the log that another writes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from translator.service.config.store import Location
from translator.service.database.connection import connect, writing
from translator.service.database.statement import DatabaseTime, Statement

READ = """
import sqlite3, sys
file = sqlite3.connect(sys.argv[1], isolation_level=None)
print(file.execute("SELECT count(*) FROM resp_meta WHERE key LIKE 'k%'").fetchone()[0])
file.close()
"""
PUT = Statement("INSERT INTO resp_meta (key, value) VALUES (:key, '')")


def read_elsewhere(file: Path) -> int:
    """What another process reads; it closes the last connection that it knows of."""
    done = subprocess.run(
        [sys.executable, "-c", READ, file], check=True, capture_output=True, timeout=60
    )
    return int(done.stdout)


@pytest.mark.parametrize("connections", [1, 3])
def test_another_process_may_come_and_go(
    migrated_file: Path, tmp_path: Path, connections: int
) -> None:
    """However many connections this one has: opening a file must not release its locks."""
    file = Path(shutil.copy(migrated_file, tmp_path))
    location, time = Location("sqlite", str(file)), DatabaseTime()
    with closing(connect(location, time)) as writer:
        others = [connect(location, time) for _ in range(connections - 1)]
        before = read_elsewhere(file)
        with writing(writer):
            writer.change(PUT, {"key": f"k{connections}"})
        for other in others:
            assert other.execute(Statement("SELECT count(*) FROM resp_meta"))
            other.close()
        assert read_elsewhere(file) == before + 1
