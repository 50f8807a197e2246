"""Keys of operators, and the answers to what they asked for with an `Idempotency-Key`."""

from __future__ import annotations

from alembic import op

from translator.service.accounts.migrations.acct_0001 import INT, KEY

revision = "acct_0002"
down_revision = "acct_0001"

TABLES = (
    """operator_keys (
        id {KEY},
        name TEXT NOT NULL,
        salt TEXT NOT NULL UNIQUE,
        digest TEXT NOT NULL,
        created_by TEXT NOT NULL,
        created_at {INT} NOT NULL,
        revoked_at {INT},
        used_at {INT}
    )""",
    """answers (
        operator_key {INT} NOT NULL,
        name TEXT NOT NULL,
        request TEXT NOT NULL,
        status {INT} NOT NULL,
        body TEXT NOT NULL,
        at {INT} NOT NULL,
        PRIMARY KEY (operator_key, name)
    )""",
)


def upgrade() -> None:
    name = op.get_bind().dialect.name
    strict = " STRICT" if name == "sqlite" else ""
    for table in TABLES:
        op.execute(f"CREATE TABLE acct_{table.format(KEY=KEY[name], INT=INT[name])}{strict}")
    op.execute("CREATE INDEX acct_answers_at ON acct_answers (at)")
