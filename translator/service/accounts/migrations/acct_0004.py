"""The channels that members of an account may give its keys: a list of names, or NULL for all."""

from __future__ import annotations

from alembic import op

revision = "acct_0004"
down_revision = "acct_0003"


def upgrade() -> None:
    op.execute("ALTER TABLE acct_accounts ADD COLUMN channels TEXT")
