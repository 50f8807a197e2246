"""The limits of a key that an operator set, which members do not pass: JSON, or NULL for none."""

from __future__ import annotations

from alembic import op

revision = "acct_0005"
down_revision = "acct_0004"


def upgrade() -> None:
    op.execute("ALTER TABLE acct_keys ADD COLUMN ceiling TEXT")
