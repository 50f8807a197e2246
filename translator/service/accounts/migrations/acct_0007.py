"""Indexes for reading usages: by their ends, of a model, and of a key."""

from __future__ import annotations

from alembic import op

revision = "acct_0007"
down_revision = "acct_0006"

INDEXES = (
    "usages_account ON acct_usages (account_id, ended_at, hold_id)",
    "usages_model ON acct_usages (account_id, model, ended_at, hold_id)",
    "usages_key ON acct_usages (account_id, key_id, ended_at, hold_id)",
)


def upgrade() -> None:
    op.execute("DROP INDEX acct_usages_account")
    for index in INDEXES:
        op.execute(f"CREATE INDEX acct_{index}")
