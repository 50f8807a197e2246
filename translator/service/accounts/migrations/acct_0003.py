"""Calls of tools: who may have them called, and their holds and usages beside those of requests.

`tools` of a channel, as of a key, is a list of names, or NULL for all. `kind` of a hold and a usage
is "request", "search" or "mcp"; `calls` are the calls of a tool that it is for, `parent` is the
hold of the request that it belongs to.
"""

from __future__ import annotations

from alembic import op

from translator.service.accounts.migrations.acct_0001 import INT

revision = "acct_0003"
down_revision = "acct_0002"

COLUMNS = (
    "channels ADD COLUMN tools TEXT",
    "holds ADD COLUMN kind TEXT NOT NULL DEFAULT 'request'",
    "holds ADD COLUMN parent {INT}",
    "usages ADD COLUMN kind TEXT NOT NULL DEFAULT 'request'",
    "usages ADD COLUMN calls {INT} NOT NULL DEFAULT 0",
    "usages ADD COLUMN parent {INT}",
)


def upgrade() -> None:
    name = op.get_bind().dialect.name
    for column in COLUMNS:
        op.execute(f"ALTER TABLE acct_{column.format(INT=INT[name])}")
