"""The place of the accounts in the database room."""

from __future__ import annotations

from pathlib import Path

from translator.service.database.schema import Room

PREFIX = "acct_"

ROOM = Room(
    "accounts",
    PREFIX,
    ("acct_0001", "acct_0002", "acct_0003", "acct_0004", "acct_0005", "acct_0006"),
    Path(__file__).parent / "migrations",
    command="account init",
)
