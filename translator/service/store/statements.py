"""The store's statements: what each request reads, and what each response writes.

A list of texts is one parameter, as JSON.
"""

from __future__ import annotations

from translator.service.database.statement import Statement

_IDS = "id IN (SELECT value FROM json_each(:ids))"
_IDS_POSTGRESQL = "id IN (SELECT json_array_elements_text((:ids)::json))"


_KEYS = "n IN (SELECT CAST(value AS INTEGER) FROM json_each(:ids))"
_KEYS_POSTGRESQL = "n IN (SELECT json_array_elements_text((:ids)::json)::bigint)"


def for_ids(text: str, locked: str = "", *, end: str = "") -> Statement:
    """A statement with `{ids}` for a condition on ids, or `{keys}` on keys.

    `locked` locks the rows on PostgreSQL, where another process may delete them meanwhile; `end`
    is the end of the text.
    """
    return Statement(
        f"{text.format(ids=_IDS, keys=_KEYS)} {end}",
        postgresql=f"{text.format(ids=_IDS_POSTGRESQL, keys=_KEYS_POSTGRESQL)} {locked}{end}",
    )


SALT = Statement("SELECT value FROM resp_meta WHERE key = 'salt'")

SIZE = Statement(
    "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
    postgresql="""
    SELECT coalesce(sum(pg_total_relation_size(oid)), 0) FROM pg_catalog.pg_class
    WHERE relkind = 'r' AND left(relname, 5) = 'resp_' AND pg_table_is_visible(oid)""",
)
"""The bytes of a file, or of the store's tables with their indexes."""

# --- reading ---------------------------------------------------------------------------------

LIVING = """
    FROM resp_responses r JOIN resp_threads t ON t.n = r.thread
    WHERE r.owner = :owner AND r.id = :id AND r.deleted_at IS NULL AND t.expires_at > db_now()
"""

RESPONSE = Statement(f"SELECT r.n, r.thread, r.parent, r.depth, r.status, r.temporary {LIVING}")
"""A response that is found: of this owner, neither deleted nor expired."""

_CHAIN = """
WITH RECURSIVE chain(n, parent, depth, bytes, conversation, upto) AS (
    SELECT n, parent, depth, bytes, conversation, conversation_upto
    FROM resp_responses WHERE n = :n
    UNION ALL
    SELECT r.n, r.parent, r.depth, r.bytes, r.conversation, r.conversation_upto
    FROM chain JOIN resp_responses r ON r.n = chain.parent
)
"""

_CHAIN_BEGINS = """
    SELECT {columns} FROM chain
    JOIN resp_conversation_items x ON x.conversation = chain.conversation AND x.pos < chain.upto
        AND (x.removed IS NULL OR x.removed >= chain.upto)
    JOIN resp_items i ON i.n = x.item
"""
"""What the first response of a chain saw of its conversation."""

CHAIN_SIZE = Statement(
    f"""{_CHAIN}
    SELECT count(*), sum(bytes) + ({_CHAIN_BEGINS.format(columns="coalesce(sum(i.bytes), 0)")})
    FROM chain"""
)

CHAIN_ITEMS = Statement(
    f"""{_CHAIN}
    SELECT i.id, i.body, i.sealed, chain.depth AS depth, x.pos AS pos FROM chain
    JOIN resp_response_items x ON x.response = chain.n JOIN resp_items i ON i.n = x.item
    UNION ALL {_CHAIN_BEGINS.format(columns="i.id, i.body, i.sealed, -1, x.pos")}
    ORDER BY depth, pos"""
)
"""The context of a response, oldest first: the input and output of it and all before it."""

CHAIN_IDS = Statement(
    f"""{_CHAIN}
    SELECT i.n, i.id, chain.depth AS depth, x.pos AS pos FROM chain
    JOIN resp_response_items x ON x.response = chain.n JOIN resp_items i ON i.n = x.item
    WHERE chain.n <> :n OR x.side = 0
    UNION ALL {_CHAIN_BEGINS.format(columns="i.n, i.id, -1, x.pos")}
    ORDER BY depth, pos"""
)
"""What a response saw: its context without its own output."""

ITEM_BODIES = for_ids("SELECT n, id, body FROM resp_items WHERE {keys}")

BODY = Statement("SELECT body FROM resp_bodies WHERE response = :n")

OUTPUT = Statement(
    """
    SELECT i.body FROM resp_response_items x JOIN resp_items i ON i.n = x.item
    WHERE x.response = :n AND x.side = 1 ORDER BY x.pos"""
)

REFERENCED = for_ids(
    """
    SELECT id, n, body, sealed FROM resp_items i WHERE i.owner = :owner AND {ids} AND (EXISTS (
        SELECT 1 FROM resp_response_items x JOIN resp_responses r ON r.n = x.response
        JOIN resp_threads t ON t.n = r.thread
        WHERE x.item = i.n AND r.deleted_at IS NULL AND t.expires_at > db_now()
    ) OR EXISTS (
        SELECT 1 FROM resp_conversation_items y JOIN resp_conversations c ON c.n = y.conversation
        WHERE y.item = i.n AND y.removed IS NULL AND c.deleted_at IS NULL
            AND (:keep_s = 0 OR c.touched_at > db_now() - :keep_s)
    ))"""
)
"""Items that a reference may name: those of a response or a conversation that is found itself."""

# --- writing ---------------------------------------------------------------------------------

KNOWN = Statement("SELECT n FROM resp_responses WHERE owner = :owner AND id = :id")

_PARENT = """
    SELECT r.thread, r.depth FROM resp_responses r JOIN resp_threads t ON t.n = r.thread
    WHERE r.n = :n AND r.owner = :owner AND t.expires_at > db_now()
"""
PARENT = Statement(_PARENT, postgresql=f"{_PARENT} FOR SHARE OF r")

SAME_IDS = for_ids("SELECT id, n, body FROM resp_items WHERE owner = :owner AND {ids}", "FOR SHARE")

STILL_THERE = for_ids("SELECT n FROM resp_items WHERE {keys}", "FOR SHARE")

KEYS = Statement(
    "UPDATE resp_keys SET next = next + :count WHERE one = 1 RETURNING next - :count",
    postgresql="SELECT nextval('resp_numbers') FROM generate_series(1, :count)",
)

NEW_THREAD = Statement(
    "INSERT INTO resp_threads (n, owner, expires_at) VALUES (:n, :owner, db_now() + :keep_s)"
)

EXTEND_THREAD = Statement("UPDATE resp_threads SET expires_at = db_now() + :keep_s WHERE n = :n")

NEW_RESPONSE = Statement(
    """
    INSERT INTO resp_responses
        (n, owner, id, thread, parent, depth, status, model, created_at, bytes)
    VALUES (:n, :owner, :id, :thread, :parent, :depth, :status, :model, db_now(), :bytes)"""
)

NEW_BODY = Statement("INSERT INTO resp_bodies (response, body) VALUES (:response, :body)")

NEW_ITEM = Statement(
    """
    INSERT INTO resp_items (n, owner, id, kind, body, sealed, bytes)
    VALUES (:n, :owner, :id, :kind, :body, :sealed, :bytes)
    ON CONFLICT (owner, id) DO NOTHING"""
)
"""Waits for another process that stores an item of the same id, and leaves that one alone."""

NEW_POINTER = Statement(
    """
    INSERT INTO resp_response_items (response, pos, side, item)
    VALUES (:response, :pos, :side, :item)"""
)

NEXT_POS = Statement(
    "SELECT coalesce(max(pos) + 1, 0) FROM resp_response_items WHERE response = :n"
)

# --- deletion --------------------------------------------------------------------------------

MARK_DELETED = Statement("UPDATE resp_responses SET deleted_at = db_now() WHERE n = :n")

DELETE_EVENTS = Statement("DELETE FROM resp_events WHERE response = :n")

DELETE_BODY = Statement("DELETE FROM resp_bodies WHERE response = :n")

LOCKED = Statement(
    "SELECT n FROM resp_responses WHERE n = :n",
    postgresql="SELECT n FROM resp_responses WHERE n = :n FOR UPDATE",
)

LOCKED_ITEMS = for_ids("SELECT n FROM resp_items WHERE {keys}", "ORDER BY n FOR UPDATE")

PRUNABLE = Statement(
    """
    SELECT r.parent, r.thread FROM resp_responses r
    WHERE r.n = :n AND r.deleted_at IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM resp_responses c WHERE c.parent = r.n)"""
)
"""A deleted response that no other goes on from."""

POINTED = Statement("SELECT item FROM resp_response_items WHERE response = :n")

DELETE_POINTERS = Statement("DELETE FROM resp_response_items WHERE response = :n")

DELETE_ITEM = Statement(
    """
    DELETE FROM resp_items WHERE n = :n
        AND NOT EXISTS (SELECT 1 FROM resp_response_items x WHERE x.item = :n)
        AND NOT EXISTS (SELECT 1 FROM resp_conversation_items x WHERE x.item = :n)"""
)

DELETE_RESPONSE = Statement("DELETE FROM resp_responses WHERE n = :n")

DELETE_THREAD = Statement(
    """
    DELETE FROM resp_threads WHERE n = :n
        AND NOT EXISTS (SELECT 1 FROM resp_responses r WHERE r.thread = :n)"""
)

EXPIRED = Statement(
    """
    SELECT r.n FROM resp_responses r JOIN resp_threads t ON t.n = r.thread
    WHERE t.expires_at <= db_now() LIMIT :limit"""
)

EXPIRED_POINTERS = Statement(
    """
    SELECT x.response, x.pos, x.item FROM resp_response_items x
    JOIN resp_responses r ON r.n = x.response JOIN resp_threads t ON t.n = r.thread
    WHERE t.expires_at <= db_now() LIMIT :limit"""
)

DELETE_POINTER = Statement(
    "DELETE FROM resp_response_items WHERE response = :response AND pos = :pos"
)

EXPIRED_THREADS = Statement("SELECT n FROM resp_threads WHERE expires_at <= db_now() LIMIT :limit")

EXPIRED_EVENTS = Statement(
    """
    SELECT e.response, e.first_seq FROM resp_events e
    JOIN resp_responses r ON r.n = e.response JOIN resp_threads t ON t.n = r.thread
    WHERE r.ended_at <= db_now() - :keep_s OR t.expires_at <= db_now() LIMIT :limit"""
)

DELETE_EVENT = Statement(
    "DELETE FROM resp_events WHERE response = :response AND first_seq = :first_seq"
)
