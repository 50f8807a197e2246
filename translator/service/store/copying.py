"""The copy of a store into another database: from a SQLite file to a server, or to another file.

It is one transaction of each of the two. Keys, ids and the salt stay the same, so all that clients
hold goes on to work.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from translator.service.config.store import Location
from translator.service.database.connection import without_nul
from translator.service.database.core import connected
from translator.service.database.errors import SchemaMismatch

from .tables import CONVERSATIONS, ITEMS, KEYS, META, METADATA, RESPONSES, THREADS

BATCH_ROWS = 500
BATCH_BYTES = 8 * 1024 * 1024
"""What is held of a table at once, and one row more."""

FETCHED_ROWS = 8
"""Rows that a driver holds beside it."""

KEPT = ("format", "salt")
"""What of META is of the store itself, and not of its processes."""

Row = Mapping[str, Any]


def copy(source: Location, target: Location) -> Mapping[str, int]:
    """Copy all rows into a database without any; returns their numbers, by table.

    Nothing is copied where it fails. On a SQLite file, others that write wait meanwhile. Raises
    SchemaMismatch where the target has rows, and Unavailable.
    """
    with connected(source) as from_, connected(target) as to:
        tables = [one for one in METADATA.sorted_tables if one not in (META, KEYS)]
        for table in tables:
            if to.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first():
                raise SchemaMismatch(f"{target.shown} is not empty, so nothing is copied into it")
        counts = {one.name: _copy_table(from_, to, one, target) for one in tables}
        to.execute(sa.delete(META).where(META.c.key.in_(KEPT)))
        meta = sa.select(META).where(META.c.key.in_(KEPT))
        to.execute(sa.insert(META), [dict(row) for row in from_.execute(meta).mappings()])
        _set_next_key(to, target)
    return counts


def _copy_table(from_: sa.Connection, to: sa.Connection, table: sa.Table, target: Location) -> int:
    count = 0
    for batch in _batches(from_, table):
        rows = [without_nul(row) for row in batch] if target.kind == "postgresql" else batch
        to.execute(sa.insert(table), rows)
        count += len(rows)
    return count


def _batches(from_: sa.Connection, table: sa.Table) -> Iterator[list[Row]]:
    """The rows of a table, some at a time."""
    batch: list[Row] = []
    size = 0
    found = from_.execution_options(yield_per=FETCHED_ROWS).execute(sa.select(table))
    for row in found.mappings():
        batch.append(dict(row))
        size += sum(len(value) for value in row.values() if isinstance(value, bytes))
        if len(batch) >= BATCH_ROWS or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _set_next_key(to: sa.Connection, target: Location) -> None:
    """The next key is one behind all that there are."""
    keyed = (THREADS, RESPONSES, ITEMS, CONVERSATIONS)
    most = [to.execute(sa.select(sa.func.max(one.c.n))).scalar_one() or 0 for one in keyed]
    next_key = max(most) + 1
    if target.kind == "postgresql":
        to.execute(sa.select(sa.func.setval("resp_numbers", next_key, sa.false())))
    to.execute(sa.update(KEYS).values(next=next_key))
