"""Owners: the bytes of what each has stored, changed in the same transaction as that."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from msgspec import Struct

from translator.service.database.connection import Connection

from . import statements as sql

SHARDS = 16

_SHARD = secrets.randbelow(SHARDS)
"""Of this process, on PostgreSQL: others that write at once seldom wait for its commit."""


class TooMuch(Struct, frozen=True):
    """An owner would have more bytes than it may have, so nothing was written."""


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


def exceeds(connection: Connection, owner: str, size: int, max_bytes: int) -> bool:
    """Whether an owner would have more than `max_bytes` with some more; 0: it may have any."""
    return max_bytes > 0 and size > 0 and max_bytes < used(connection, owner) + size
