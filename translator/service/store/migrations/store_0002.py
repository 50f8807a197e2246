"""Conversations, the background and its events, digests of contexts, and the bytes of owners."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "store_0002"
down_revision = "store_0001"
branch_labels = None

_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    for column in (
        sa.Column("conversation", sa.BigInteger),
        sa.Column("conversation_upto", sa.Integer),
        sa.Column("digest", sa.Text),
        sa.Column("implied", sa.SmallInteger, nullable=False, server_default="0"),
        sa.Column("cut", sa.SmallInteger, nullable=False, server_default="0"),
        sa.Column("gone", sa.SmallInteger, nullable=False, server_default="0"),
        sa.Column("background", sa.SmallInteger, nullable=False, server_default="0"),
        sa.Column("temporary", sa.SmallInteger, nullable=False, server_default="0"),
        sa.Column("streamed", sa.SmallInteger, nullable=False, server_default="0"),
        sa.Column("ended_at", sa.Float(53)),
        sa.Column("lease_token", sa.Text),
        sa.Column("lease_until", sa.Float(53)),
        sa.Column("cancel_asked", sa.SmallInteger, nullable=False, server_default="0"),
        sa.Column("last_seq", sa.Integer),
    ):
        op.add_column("resp_responses", column)
    op.create_index("resp_responses_digest", "resp_responses", ["owner", "digest"])
    unneeded = sa.text("gone = 2")
    op.create_index(
        "resp_responses_unneeded",
        "resp_responses",
        ["n"],
        sqlite_where=unneeded,
        postgresql_where=unneeded,
    )
    belongs = sa.text("conversation IS NOT NULL")
    op.create_index(
        "resp_responses_conversation",
        "resp_responses",
        ["conversation", "conversation_upto"],
        sqlite_where=belongs,
        postgresql_where=belongs,
    )
    running = sa.text("status IN ('queued', 'in_progress')")
    op.create_index(
        "resp_responses_lease_until",
        "resp_responses",
        ["lease_until"],
        sqlite_where=running,
        postgresql_where=running,
    )
    op.create_table(
        "resp_conversations",
        sa.Column("n", _KEY, primary_key=True, autoincrement=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("created_at", sa.Float(53), nullable=False),
        sa.Column("touched_at", sa.Float(53), nullable=False),
        sa.Column("metadata", sa.LargeBinary, nullable=False),
        sa.Column("next_pos", sa.Integer, nullable=False),
        sa.Column("lock_token", sa.Text),
        sa.Column("lock_until", sa.Float(53)),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("deleted_at", sa.Float(53)),
        sa.UniqueConstraint("owner", "id", name="resp_conversations_id"),
    )
    op.create_index("resp_conversations_touched_at", "resp_conversations", ["touched_at"])
    deleted = sa.text("deleted_at IS NOT NULL")
    op.create_index(
        "resp_conversations_deleted_at",
        "resp_conversations",
        ["deleted_at"],
        sqlite_where=deleted,
        postgresql_where=deleted,
    )
    op.create_table(
        "resp_conversation_items",
        sa.Column("conversation", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("pos", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("item", sa.BigInteger, nullable=False),
        sa.Column("removed", sa.Integer),
    )
    there, removed = sa.text("removed IS NULL"), sa.text("removed IS NOT NULL")
    op.create_index(
        "resp_conversation_items_once",
        "resp_conversation_items",
        ["conversation", "item"],
        unique=True,
        sqlite_where=there,
        postgresql_where=there,
    )
    op.create_index(
        "resp_conversation_items_removed",
        "resp_conversation_items",
        ["conversation"],
        sqlite_where=removed,
        postgresql_where=removed,
    )
    op.create_index("resp_conversation_items_item", "resp_conversation_items", ["item"])
    op.create_table(
        "resp_events",
        sa.Column("response", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("first_seq", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("last_seq", sa.Integer, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "resp_owners",
        sa.Column("owner", sa.Text, primary_key=True),
        sa.Column("shard", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
    )
    # what is there already; and until now, `bytes` of a response was with its body
    op.execute(
        """
        INSERT INTO resp_owners (owner, shard, bytes)
        SELECT owner, 0, sum(bytes) FROM (
            SELECT owner, bytes FROM resp_items
            UNION ALL
            SELECT r.owner, length(b.body) FROM resp_bodies b
            JOIN resp_responses r ON r.n = b.response
        ) AS parts GROUP BY owner"""
    )
    op.execute(
        """
        UPDATE resp_responses SET bytes = bytes - length(b.body)
        FROM resp_bodies b WHERE b.response = resp_responses.n"""
    )
