"""A SQLite file in several processes: each sees what the others have written."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path

from translator.service.config.store import Location
from translator.service.database.connection import connect, reading, writing
from translator.service.database.statement import DatabaseTime, Statement

OTHER = """
import sys
from translator.service.config.store import Location
from translator.service.database.connection import connect, writing
from translator.service.database.statement import DatabaseTime, Statement

location = Location("sqlite", sys.argv[1])
first = connect(location, DatabaseTime())
second = connect(location, DatabaseTime())  # which must not take the locks of the first away
for number in range(2):
    with writing(first):
        first.change(Statement("INSERT INTO numbers VALUES (:number)"), {"number": number})
    print("written", flush=True)
    sys.stdin.readline()
"""


def test_a_process_that_comes_and_goes_takes_nothing_away(tmp_path: Path) -> None:
    location = Location("sqlite", str(tmp_path / "store.db"))
    with closing(connect(location, DatabaseTime())) as connection, writing(connection):
        connection.change(Statement("CREATE TABLE numbers (number INTEGER)"))
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER, location.target],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        for count in (1, 2):
            assert process.stdout.readline() == "written\n"
            for _ in range(2):
                with closing(connect(location, DatabaseTime())) as connection, reading(connection):
                    rows = connection.execute(Statement("SELECT number FROM numbers"))
                assert len(rows) == count
            process.stdin.write("\n")
            process.stdin.flush()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()
