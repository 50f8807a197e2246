"""Owners: the bytes of the items and bodies of each, changed in the same transaction as these."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from translator.service.database.connection import Connection

from . import statements as sql

SHARDS = 16

_SHARD = secrets.randbelow(SHARDS)
"""Of this process, on PostgreSQL: others that write at once seldom wait for its commit."""


def charge(connection: Connection, sizes: Mapping[str, int]) -> None:
    """Add bytes to what owners have; numbers below 0 for bytes that were freed."""
    shard = 0 if connection.kind == "sqlite" else _SHARD
    rows = [
        {"owner": owner, "shard": shard, "bytes": size}
        for owner, size in sorted(sizes.items())
        if size
    ]
    connection.execute_many(sql.ADD_BYTES, rows)


def used(connection: Connection, owner: str) -> int:
    """The bytes that an owner has."""
    return int(connection.execute(sql.USED, {"owner": owner})[0][0])
