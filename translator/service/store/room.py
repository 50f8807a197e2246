"""The store's place in the database room."""

from __future__ import annotations

from pathlib import Path

from translator.service.database.schema import Room

PREFIX = "resp_"

REVISIONS = ("store_0001", "store_0002", "store_0003")

ROOM = Room("store", PREFIX, REVISIONS, Path(__file__).parent / "migrations")
