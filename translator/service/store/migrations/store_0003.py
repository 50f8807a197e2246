"""The events of responses in the background that have ended are bytes of their owners, too."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "store_0003"
down_revision = "store_0002"
branch_labels = None


def upgrade() -> None:
    op.execute(
        sa.text(
            """
            INSERT INTO resp_owners (owner, shard, bytes)
            SELECT r.owner, 0, sum(length(e.body)) FROM resp_events e
            JOIN resp_responses r ON r.n = e.response WHERE r.ended_at IS NOT NULL GROUP BY r.owner
            ON CONFLICT (owner, shard) DO UPDATE SET bytes = resp_owners.bytes + excluded.bytes
            """
        )
    )
