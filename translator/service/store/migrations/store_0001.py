"""Responses, and their items."""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from alembic import op

revision = "store_0001"
down_revision = None
branch_labels = ("store",)

_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    meta = op.create_table(
        "resp_meta",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.bulk_insert(
        meta,
        [{"key": "format", "value": "1"}, {"key": "salt", "value": secrets.token_hex(16)}],
    )
    keys = op.create_table(
        "resp_keys",
        sa.Column("one", sa.Integer, primary_key=True),
        sa.Column("next", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(keys, [{"one": 1, "next": 1}])
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE SEQUENCE resp_numbers CACHE 1")
    op.create_table(
        "resp_threads",
        sa.Column("n", _KEY, primary_key=True, autoincrement=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("expires_at", sa.Float(53), nullable=False),
    )
    op.create_index("resp_threads_expires_at", "resp_threads", ["expires_at"])
    op.create_index("resp_threads_owner", "resp_threads", ["owner"])
    op.create_table(
        "resp_responses",
        sa.Column("n", _KEY, primary_key=True, autoincrement=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("thread", sa.BigInteger, nullable=False),
        sa.Column("parent", sa.BigInteger),
        sa.Column("depth", sa.Integer, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("created_at", sa.Float(53), nullable=False),
        sa.Column("deleted_at", sa.Float(53)),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("owner", "id", name="resp_responses_id"),
    )
    op.create_index("resp_responses_thread", "resp_responses", ["thread"])
    op.create_index("resp_responses_parent", "resp_responses", ["parent"])
    op.create_table(
        "resp_bodies",
        sa.Column("response", _KEY, primary_key=True, autoincrement=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "resp_items",
        sa.Column("n", _KEY, primary_key=True, autoincrement=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("sealed", sa.LargeBinary),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("owner", "id", name="resp_items_id"),
    )
    op.create_table(
        "resp_response_items",
        sa.Column("response", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("pos", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("side", sa.SmallInteger, nullable=False),
        sa.Column("item", sa.BigInteger, nullable=False),
    )
    op.create_index("resp_response_items_item", "resp_response_items", ["item"])
