"""The statements of the accounts: the hot pair, a hold and its settlement, and what reads for them.

Rows are locked in one order, account, key, allowances, on PostgreSQL; on SQLite there is one writer
at a time. `NOW` is the database's time in microseconds.
"""

from __future__ import annotations

from translator.service.database.statement import Statement

NOW = "CAST(db_now() * 1000000 AS BIGINT)"

_GENERATION = "(SELECT CAST(value AS BIGINT) FROM acct_meta WHERE key = 'generation')"

TIME = Statement(f"SELECT {NOW}")


def _locked(text: str, tables: str = "") -> Statement:
    """A query that locks its rows, or those of `tables` alone, where others write meanwhile."""
    of = f" OF {tables}" if tables else ""
    return Statement(text, postgresql=f"{text} FOR UPDATE{of}")


def _now(text: str) -> Statement:
    return Statement(text.replace("NOW", NOW))


# --- who sends a request -----------------------------------------------------------------------

_KEY = (
    "k.id, k.account_id, a.name, k.name, k.salt, k.digest, k.channels, k.models, k.tools,"
    " k.requests_per_minute, k.tokens_per_minute, k.max_concurrent_requests, k.max_stored_bytes,"
    " k.limit_amount, k.limit_period, k.expires_at, k.revoked_at, a.suspended_at"
)

KEY_OF_SALT = _now(
    f"SELECT {_KEY}, {_GENERATION}, NOW FROM acct_keys k"
    " JOIN acct_accounts a ON a.id = k.account_id WHERE k.salt = :salt"
)

CHANNELS = Statement(
    "SELECT name, title, models, price_list, tools FROM acct_channels ORDER BY name"
)

PRICED = _now("SELECT DISTINCT price_list, model FROM acct_prices WHERE from_at <= NOW")

# --- a hold ------------------------------------------------------------------------------------

SAME_TOKEN = Statement("SELECT id, account_id, key_id FROM acct_holds WHERE token = :token")

_BALANCE = "a.balance, a.held, a.credit, a.suspended_at"

_LIMITS = (
    "k.revoked_at, k.expires_at, k.requests_per_minute, k.tokens_per_minute,"
    " k.max_concurrent_requests, k.limit_amount, k.limit_period, k.period_start, k.period_spent,"
    " k.open, k.used_at"
)

_PRICE = "p.id, p.input, p.cached_input, p.cache_write, p.output, p.per_request, p.free"

_PRICE_ID = (
    "SELECT id FROM acct_prices WHERE price_list = :list AND model = :model AND from_at <= {at}"
    " ORDER BY from_at DESC LIMIT 1"
)

_BOTH = "acct_accounts a JOIN acct_keys k ON k.account_id = a.id"

_ONE_KEY = "WHERE a.id = :account AND k.id = :key"

ACCOUNT = _locked(
    f"SELECT {_BALANCE}, {_GENERATION}, {NOW} FROM acct_accounts a WHERE id = :account"
)

KEY = _locked(f"SELECT {_LIMITS} FROM acct_keys k WHERE id = :key AND account_id = :account")

ACCOUNT_KEY_AND_PRICE = _locked(
    f"SELECT {_BALANCE}, {_GENERATION}, {NOW}, {_LIMITS}, {_PRICE} FROM {_BOTH}"
    f" LEFT JOIN acct_prices p ON p.id = ({_PRICE_ID.format(at=NOW)}) {_ONE_KEY}",
    "a, k",
)
"""All that decides on a hold of a key without limits; its rows are locked in this order."""

LOCK = _locked(f"SELECT 1 FROM {_BOTH} {_ONE_KEY}", "a, k")

ALLOWANCES = _locked("SELECT noun, rest, since FROM acct_allowances WHERE key_id = :key")

HELD_IN_PERIOD = Statement(
    "SELECT CAST(coalesce(sum(amount), 0) AS BIGINT) FROM acct_holds"
    " WHERE key_id = :key AND began_at >= :start"
)

PRICE = Statement(f"SELECT {_PRICE} FROM acct_prices p WHERE p.id = ({_PRICE_ID.format(at=':at')})")

PRICE_OF_ID = Statement(f"SELECT {_PRICE} FROM acct_prices p WHERE id = :id")

HOLD_MONEY = Statement("UPDATE acct_accounts SET held = held + :amount WHERE id = :account")

HOLD_KEY = Statement(
    "UPDATE acct_keys SET open = open + :open, held = held + :amount, period_start = :start,"
    " period_spent = :spent, used_at = :used WHERE id = :key"
)

SET_ALLOWANCE = Statement(
    "INSERT INTO acct_allowances (key_id, noun, rest, since) VALUES (:key, :noun, :rest, :since)"
    " ON CONFLICT (key_id, noun) DO UPDATE SET rest = excluded.rest, since = excluded.since"
)

NEW_HOLD = Statement(
    "INSERT INTO acct_holds (token, account_id, key_id, boot, price_id, model, channel, endpoint,"
    " amount, tokens, began_at, request_id, kind, parent) VALUES (:token, :account, :key, :boot,"
    " :price, :model, :channel, :endpoint, :amount, :tokens, :now, :request, :kind, :parent)"
    " RETURNING id"
)

# --- its extension -----------------------------------------------------------------------------

HOLD = Statement("SELECT amount, tokens, began_at FROM acct_holds WHERE id = :id")

EXTEND_KEY = Statement("UPDATE acct_keys SET held = held + :amount WHERE id = :key")

EXTEND_HOLD = Statement(
    "UPDATE acct_holds SET amount = amount + :amount, tokens = :tokens WHERE id = :id"
)

# --- its settlement ----------------------------------------------------------------------------

TAKE_HOLD = _now(
    "DELETE FROM acct_holds WHERE id = :id RETURNING NOW, amount, tokens, began_at, price_id, kind,"
    " parent, model, channel, endpoint, request_id, seen_input, seen_output"
)

SETTLE_MONEY = Statement(
    "UPDATE acct_accounts SET held = held - :held, balance = balance - :amount"
    " WHERE id = :account RETURNING balance"
)

SETTLE_KEY = Statement(
    "UPDATE acct_keys SET open = open - :open, held = held - :held, period_spent = period_spent +"
    " CASE WHEN :began >= period_start THEN :amount ELSE 0 END WHERE id = :key"
    " RETURNING name, tokens_per_minute"
)

NEW_USAGE = Statement(
    "INSERT INTO acct_usages (hold_id, account_id, key_id, key_name, request_id, response_id,"
    " endpoint, model, channel, price_id, began_at, ended_at, outcome, input, cached, written,"
    " output, reasoning, estimated, amount, kind, calls, parent) VALUES (:id, :account, :key,"
    " :key_name, :request, :response, :endpoint, :model, :channel, :price, :began, :now, :outcome,"
    " :input, :cached, :written, :output, :reasoning, :estimated, :amount, :kind, :calls, :parent)"
)

USAGE = Statement(
    "SELECT kind, model, price_id, began_at, estimated, amount FROM acct_usages WHERE hold_id = :id"
)

CORRECT_KEY = Statement(
    "UPDATE acct_keys SET period_spent = period_spent + :amount"
    " WHERE id = :key AND period_start <= :began"
)

NEW_ENTRY = Statement(
    "INSERT INTO acct_ledger (account_id, at, kind, ref, amount, balance_after, key_id, model,"
    " actor, note) VALUES (:account, :now, :kind, :ref, :amount, :balance, :key, :model, :actor,"
    " :note) RETURNING id"
)

ENTRY_OF_REF = Statement(
    "SELECT id, account_id, amount FROM acct_ledger WHERE kind = :kind AND ref = :ref"
)

ADD_SUMS = Statement(
    "INSERT INTO acct_sums AS s (account_id, key_id, day, model, requests, input, cached, output,"
    " amount) VALUES (:account, :key, :day, :model, :requests, :input, :cached, :output, :amount)"
    " ON CONFLICT (account_id, key_id, day, model) DO UPDATE SET"
    " requests = s.requests + excluded.requests, input = s.input + excluded.input,"
    " cached = s.cached + excluded.cached, output = s.output + excluded.output,"
    " amount = s.amount + excluded.amount"
)

CHANGE_BALANCE = Statement(
    "UPDATE acct_accounts SET balance = balance + :amount WHERE id = :account RETURNING balance"
)

# --- processes ---------------------------------------------------------------------------------

RENEW = _now(
    "INSERT INTO acct_boots (id, began_at, seen_at) VALUES (:boot, NOW, NOW)"
    " ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at"
)

CHECKPOINT = _now(
    "UPDATE acct_holds SET seen_input = :input, seen_output = :output, seen_at = NOW"
    " WHERE id = :id AND boot = :boot"
)

ORPHANS = _now(
    "SELECT h.id, h.account_id, h.key_id FROM acct_holds h LEFT JOIN acct_boots b ON b.id = h.boot"
    " WHERE coalesce(b.seen_at, h.began_at) < NOW - CAST(:lease AS BIGINT) AND h.boot <> :boot"
    " ORDER BY h.id LIMIT 500"
)

OWN_OLD = _now(
    "SELECT id, account_id, key_id FROM acct_holds WHERE boot = :boot"
    " AND began_at < NOW - CAST(:lease AS BIGINT) ORDER BY id"
)

STILL_ORPHAN = _now(
    "SELECT 1 FROM acct_holds h LEFT JOIN acct_boots b ON b.id = h.boot WHERE h.id = :id"
    " AND coalesce(b.seen_at, h.began_at) < NOW - CAST(:lease AS BIGINT)"
)

FORGET_BOOTS = _now(
    "DELETE FROM acct_boots WHERE seen_at < NOW - CAST(:lease AS BIGINT)"
    " AND NOT EXISTS (SELECT 1 FROM acct_holds h WHERE h.boot = acct_boots.id)"
)

END_BOOT = Statement(
    "DELETE FROM acct_boots WHERE id = :boot"
    " AND NOT EXISTS (SELECT 1 FROM acct_holds h WHERE h.boot = acct_boots.id)"
)
