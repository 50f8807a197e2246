"""The place of the accounts in the database room."""

from __future__ import annotations

from pathlib import Path

from translator.service.database.schema import Room

PREFIX = "acct_"

ROOM = Room(
    "accounts",
    PREFIX,
    tuple(f"acct_000{number}" for number in range(1, 9)),
    Path(__file__).parent / "migrations",
    command="account init",
)
