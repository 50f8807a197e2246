"""The databases of the accounts, for their pages."""

from __future__ import annotations

from tests.service.accounts.conftest import (
    books,
    explained,
    key,
    location,
    migrated_file,
    postgres_location,
    postgres_server,
    sqlite_location,
)

__all__ = [
    "books",
    "explained",
    "key",
    "location",
    "migrated_file",
    "postgres_location",
    "postgres_server",
    "sqlite_location",
]
