"""The limits of the keys that members of an account make, and which keys these are.

`ceiling` of an account is JSON, or NULL for none. A key that was there before is taken for one of a
member where no operator has limited it.
"""

from __future__ import annotations

from alembic import op

from translator.service.accounts.migrations.acct_0001 import INT

revision = "acct_0006"
down_revision = "acct_0005"


def upgrade() -> None:
    kind = INT[op.get_bind().dialect.name]
    op.execute("ALTER TABLE acct_accounts ADD COLUMN ceiling TEXT")
    op.execute(f"ALTER TABLE acct_keys ADD COLUMN of_member {kind} NOT NULL DEFAULT 0")
    op.execute("UPDATE acct_keys SET of_member = 1 WHERE ceiling IS NULL")
