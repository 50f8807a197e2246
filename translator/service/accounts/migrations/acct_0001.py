"""All tables of the accounts.

Money is an integer of pico, a 10^-12 of the currency; times are integers of microseconds since
1970. Rows of the ledger and of prices never change; those of usages neither, but old ones can be
deleted.
"""

from __future__ import annotations

from alembic import op

revision = "acct_0001"
down_revision = None
branch_labels = ("accounts",)

KEY = {
    "sqlite": "INTEGER PRIMARY KEY AUTOINCREMENT",
    "postgresql": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
}
INT = {"sqlite": "INTEGER", "postgresql": "BIGINT"}

TABLES = (
    """meta (
        key TEXT PRIMARY KEY,
        value TEXT NOT NULL
    )""",
    """accounts (
        id {KEY},
        name TEXT NOT NULL UNIQUE,
        balance {INT} NOT NULL DEFAULT 0,
        held {INT} NOT NULL DEFAULT 0 CHECK (held >= 0),
        credit {INT} NOT NULL DEFAULT 0 CHECK (credit >= 0),
        suspended_at {INT},
        created_at {INT} NOT NULL
    )""",
    """users (
        id {KEY},
        name TEXT NOT NULL UNIQUE,
        password TEXT NOT NULL,
        role TEXT NOT NULL CHECK (role IN ('operator', 'member')),
        account_id {INT},
        disabled_at {INT},
        created_at {INT} NOT NULL
    )""",
    """sessions (
        token_hash TEXT PRIMARY KEY,
        user_id {INT} NOT NULL,
        created_at {INT} NOT NULL,
        seen_at {INT} NOT NULL,
        csrf TEXT NOT NULL
    )""",
    """attempts (
        subject TEXT PRIMARY KEY,
        failures {INT} NOT NULL,
        failed_at {INT} NOT NULL
    )""",
    """audit (
        id {KEY},
        at {INT} NOT NULL,
        actor TEXT NOT NULL,
        action TEXT NOT NULL,
        subject TEXT NOT NULL,
        detail TEXT NOT NULL
    )""",
    """keys (
        id {KEY},
        account_id {INT} NOT NULL,
        name TEXT NOT NULL,
        salt TEXT NOT NULL UNIQUE,
        digest TEXT NOT NULL,
        channels TEXT NOT NULL,
        models TEXT,
        tools TEXT,
        requests_per_minute {INT},
        tokens_per_minute {INT},
        max_concurrent_requests {INT},
        max_stored_bytes {INT},
        limit_amount {INT},
        limit_period TEXT CHECK (limit_period IN ('never', 'day', 'week', 'month')),
        period_start {INT} NOT NULL DEFAULT 0,
        period_spent {INT} NOT NULL DEFAULT 0,
        held {INT} NOT NULL DEFAULT 0 CHECK (held >= 0),
        open {INT} NOT NULL DEFAULT 0 CHECK (open >= 0),
        expires_at {INT},
        revoked_at {INT},
        replaced_by {INT},
        version {INT} NOT NULL DEFAULT 1,
        created_at {INT} NOT NULL,
        used_at {INT}
    )""",
    """allowances (
        key_id {INT} NOT NULL,
        noun TEXT NOT NULL CHECK (noun IN ('requests', 'tokens')),
        rest {INT} NOT NULL,
        since {INT} NOT NULL,
        PRIMARY KEY (key_id, noun)
    )""",
    """channels (
        name TEXT PRIMARY KEY,
        title TEXT NOT NULL,
        models TEXT NOT NULL,
        price_list TEXT NOT NULL
    )""",
    """price_lists (
        name TEXT PRIMARY KEY,
        created_at {INT} NOT NULL
    )""",
    """prices (
        id {KEY},
        price_list TEXT NOT NULL,
        model TEXT NOT NULL,
        from_at {INT} NOT NULL,
        input {INT} NOT NULL CHECK (input >= 0),
        cached_input {INT} CHECK (cached_input >= 0),
        cache_write {INT} CHECK (cache_write >= 0),
        output {INT} NOT NULL CHECK (output >= 0),
        per_request {INT} NOT NULL CHECK (per_request >= 0),
        free {INT} NOT NULL CHECK (free IN (0, 1)),
        created_by TEXT NOT NULL,
        UNIQUE (price_list, model, from_at)
    )""",
    """boots (
        id TEXT PRIMARY KEY,
        began_at {INT} NOT NULL,
        seen_at {INT} NOT NULL
    )""",
    """holds (
        id {KEY},
        token TEXT NOT NULL UNIQUE,
        account_id {INT} NOT NULL,
        key_id {INT} NOT NULL,
        boot TEXT NOT NULL,
        price_id {INT},
        model TEXT NOT NULL,
        channel TEXT NOT NULL,
        endpoint TEXT NOT NULL,
        amount {INT} NOT NULL CHECK (amount >= 0),
        tokens {INT} NOT NULL,
        began_at {INT} NOT NULL,
        request_id TEXT NOT NULL,
        seen_input {INT},
        seen_output {INT},
        seen_at {INT}
    )""",
    """usages (
        hold_id {INT} PRIMARY KEY,
        account_id {INT} NOT NULL,
        key_id {INT} NOT NULL,
        key_name TEXT NOT NULL,
        request_id TEXT NOT NULL,
        response_id TEXT NOT NULL,
        endpoint TEXT NOT NULL,
        model TEXT NOT NULL,
        channel TEXT NOT NULL,
        price_id {INT},
        began_at {INT} NOT NULL,
        ended_at {INT} NOT NULL,
        outcome TEXT NOT NULL,
        input {INT} NOT NULL,
        cached {INT} NOT NULL,
        written {INT} NOT NULL,
        output {INT} NOT NULL,
        reasoning {INT} NOT NULL,
        estimated TEXT NOT NULL CHECK (estimated IN ('no', 'output', 'all', 'orphan')),
        amount {INT} NOT NULL CHECK (amount >= 0)
    )""",
    """ledger (
        id {KEY},
        account_id {INT} NOT NULL,
        at {INT} NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('topup', 'adjustment', 'usage', 'correction')),
        ref TEXT NOT NULL,
        amount {INT} NOT NULL,
        balance_after {INT} NOT NULL,
        key_id {INT},
        model TEXT,
        actor TEXT NOT NULL,
        note TEXT NOT NULL,
        UNIQUE (kind, ref)
    )""",
    """sums (
        account_id {INT} NOT NULL,
        key_id {INT} NOT NULL,
        day {INT} NOT NULL,
        model TEXT NOT NULL,
        requests {INT} NOT NULL,
        input {INT} NOT NULL,
        cached {INT} NOT NULL,
        output {INT} NOT NULL,
        amount {INT} NOT NULL,
        PRIMARY KEY (account_id, key_id, day, model)
    )""",
)

INDEXES = (
    "keys_account ON acct_keys (account_id)",
    "holds_boot ON acct_holds (boot)",
    "holds_key ON acct_holds (key_id)",
    "usages_account ON acct_usages (account_id, hold_id)",
    "usages_request ON acct_usages (request_id)",
    "usages_response ON acct_usages (response_id)",
    "ledger_account ON acct_ledger (account_id, id)",
)

UNCHANGING = {
    "ledger": ("UPDATE", "DELETE"),
    "prices": ("UPDATE", "DELETE"),
    "usages": ("UPDATE",),
}
"""The tables with what is never done to their rows."""


def upgrade() -> None:
    name = op.get_bind().dialect.name
    strict = " STRICT" if name == "sqlite" else ""
    for table in TABLES:
        op.execute(f"CREATE TABLE acct_{table.format(KEY=KEY[name], INT=INT[name])}{strict}")
    for index in INDEXES:
        op.execute(f"CREATE INDEX acct_{index}")
    if name == "postgresql":
        op.execute(
            "CREATE FUNCTION acct_unchanging() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'rows of % never change', TG_TABLE_NAME; END $$"
        )
    for table, changes in UNCHANGING.items():
        for change in changes:
            trigger = (
                f"CREATE TRIGGER acct_{table}_{change.lower()} BEFORE {change} ON acct_{table}"
            )
            if name == "sqlite":
                raised = f"SELECT RAISE(ABORT, 'rows of acct_{table} never change');"
                op.execute(f"{trigger} BEGIN {raised} END")
            else:
                op.execute(f"{trigger} FOR EACH ROW EXECUTE FUNCTION acct_unchanging()")
    op.execute("INSERT INTO acct_meta (key, value) VALUES ('generation', '1')")
