"""The check of the store's database: that it can be opened, and has the tables of this release.

Nothing is changed by it: a file that is not there yet is not made, and no tables are.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from translator.program.invocation import install_hint
from translator.service.config.store import Location
from translator.service.database.errors import Damaged, SchemaMismatch, Unavailable
from translator.service.database.files import is_on_a_network, require_file, try_to_create
from translator.service.database.schema import require_own_file, version_of
from translator.service.store.room import ROOM

from .results import Row, Status
from .start import unusable_folder

_MAGIC = b"SQLite format 3\0"
_WAL = b"\2\2"
"""At bytes 18 and 19 of a file that a store has used."""


def store_row(location: Location, config: str, *, offline: bool) -> Row:
    """What is found out about a database; `config` is the settings file.

    `offline`: a server is not asked. Waits for one that does not answer, up to its bounds.
    """
    packages = ["alembic", "sqlalchemy"]
    if location.kind == "postgresql":
        packages.append("psycopg")
    if any(find_spec(name) is None for name in packages):
        what = "the packages for it are missing"
        return _row(location, "failed", what, f"Install them with {install_hint('service,store')}.")
    if location.kind == "postgresql" and offline:
        return _row(location, "skipped", "not asked (--offline)")
    try:
        return _file(location) if location.kind == "sqlite" else _server(location, config)
    except Damaged:
        what = "the file is damaged, or no SQLite file"
        return _row(location, "failed", what, "Move it away, or restore it.")
    except SchemaMismatch as error:
        return _row(location, "failed", str(error), "Correct store.url.")
    except (Unavailable, OSError) as error:
        return _row(location, "failed", f"cannot be used: {error}", "Correct store.url.")


def _file(location: Location) -> Row:
    path = Path(location.target)
    if is_on_a_network(location.target):
        what = "is on a file system of a network, where SQLite loses data"
        return _row(location, "failed", what, "Use a local disk, or postgresql://.")
    if not path.exists():
        if reason := unusable_folder(path.parent):
            return _row(location, "failed", reason, "Correct store.url.")
        try_to_create(location.target)
        return _row(location, "ok", "not there yet; the start makes it")
    if not os.access(path, os.R_OK | os.W_OK):
        return _row(location, "failed", "cannot be written to", "Correct store.url, or its rights.")
    require_file(location.target)
    with path.open("rb") as file:
        head = file.read(20)
    if head and not head.startswith(_MAGIC):
        raise Damaged(location.target)
    require_own_file(location, ROOM)
    # others would be changed by being opened
    found = version_of(location, ROOM) if head[18:20] == _WAL else "missing"
    if found == "newer":
        return _newer(location)
    state = {
        "current": "can be opened, and its tables are those of this release",
        "older": "can be opened; the start brings its tables to this release",
        "missing": "has no tables yet; the start makes them",
    }[found]
    return _row(location, "ok", state)


def _server(location: Location, config: str) -> Row:
    found = version_of(location, ROOM)
    if found == "newer":
        return _newer(location)
    if found == "current":
        what = "can be reached, and its tables are those of this release"
        return _row(location, "ok", what)
    what = "has no tables" if found == "missing" else "has the tables of an older release"
    return _row(location, "failed", what, f"Run: translator store migrate --config {config}")


def _newer(location: Location) -> Row:
    return _row(location, "failed", "has the tables of a newer release", "Run that release.")


def _row(location: Location, status: Status, summary: str, advice: str = "") -> Row:
    name = location.shown
    return Row(kind="store", name=name, status=status, summary=summary, advice=advice)
