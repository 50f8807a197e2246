"""Browsers in which users have signed in: hashes of tokens that they keep in a cookie."""

from __future__ import annotations

from alembic import op

from translator.service.accounts.migrations.acct_0001 import INT

revision = "acct_0008"
down_revision = "acct_0007"

TABLE = """browsers (
    token_hash TEXT PRIMARY KEY,
    user_id {INT} NOT NULL,
    seen_at {INT} NOT NULL
)"""


def upgrade() -> None:
    name = op.get_bind().dialect.name
    strict = " STRICT" if name == "sqlite" else ""
    op.execute(f"CREATE TABLE acct_{TABLE.format(INT=INT[name])}{strict}")
    op.execute("CREATE INDEX acct_browsers_user ON acct_browsers (user_id, seen_at)")
