"""The statements of conversations."""

from __future__ import annotations

from translator.service.database.statement import Statement

_ALIVE = """
    owner = :owner AND id = :id AND deleted_at IS NULL
    AND (:keep_s = 0 OR touched_at > db_now() - :keep_s)
"""
"""Of this owner, neither deleted nor expired; `keep_s` is 0 where they do not expire."""

_UNLOCKED = "(lock_token IS NULL OR lock_until <= db_now())"

# --- reading ---------------------------------------------------------------------------------

FOUND = Statement(
    f"SELECT n, next_pos, bytes, created_at, metadata FROM resp_conversations WHERE {_ALIVE}"
)

CONTEXT = Statement(
    """
    SELECT i.id, i.body, i.sealed FROM resp_conversation_items x JOIN resp_items i ON i.n = x.item
    WHERE x.conversation = :n AND x.pos < :upto AND (x.removed IS NULL OR x.removed >= :upto)
    ORDER BY x.pos"""
)
"""What stands before a place, as a response saw it there."""

NEXT_ITEMS = Statement(
    """
    SELECT i.id, i.body FROM resp_conversation_items x JOIN resp_items i ON i.n = x.item
    WHERE x.conversation = :n AND x.removed IS NULL AND x.pos > :pos
    ORDER BY x.pos LIMIT :limit"""
)

ITEMS_BEFORE = Statement(
    """
    SELECT i.id, i.body FROM resp_conversation_items x JOIN resp_items i ON i.n = x.item
    WHERE x.conversation = :n AND x.removed IS NULL AND x.pos < :pos
    ORDER BY x.pos DESC LIMIT :limit"""
)

ITEM = Statement(
    """
    SELECT x.pos, x.item, i.body, i.bytes FROM resp_items i
    JOIN resp_conversation_items x ON x.item = i.n
    WHERE i.owner = :owner AND i.id = :item AND x.conversation = :n AND x.removed IS NULL"""
)

COUNT = Statement(
    "SELECT count(*) FROM resp_conversation_items WHERE conversation = :n AND removed IS NULL"
)

# --- the lock --------------------------------------------------------------------------------

LOCK = Statement(
    f"""
    UPDATE resp_conversations
    SET lock_token = :token, lock_until = db_now() + :lease_s, touched_at = db_now()
    WHERE {_ALIVE} AND ({_UNLOCKED} OR lock_token = :token)
    RETURNING n, next_pos, bytes"""
)

TAKE = Statement(
    f"""
    UPDATE resp_conversations SET lock_token = NULL, lock_until = NULL, touched_at = db_now()
    WHERE {_ALIVE} AND {_UNLOCKED} RETURNING n, next_pos, bytes"""
)
"""For a change in one transaction: whoever held a lock that is over has lost it."""

UNLOCK = Statement(
    """
    UPDATE resp_conversations SET lock_token = NULL, lock_until = NULL
    WHERE owner = :owner AND id = :id AND lock_token = :token"""
)

RENEW = Statement(
    """
    UPDATE resp_conversations SET lock_until = db_now() + :lease_s
    WHERE n IN (SELECT CAST(value AS INTEGER) FROM json_each(:keys))
        AND lock_token IN (SELECT value FROM json_each(:tokens))""",
    postgresql="""
    UPDATE resp_conversations SET lock_until = db_now() + :lease_s
    WHERE n IN (SELECT json_array_elements_text((:keys)::json)::bigint)
        AND lock_token IN (SELECT json_array_elements_text((:tokens)::json))""",
)

END_LOCK = Statement(
    """
    UPDATE resp_conversations SET lock_token = NULL, lock_until = NULL, touched_at = db_now()
    WHERE n = :n AND owner = :owner AND lock_token = :token
        AND (deleted_at IS NULL OR lock_until > db_now())
    RETURNING next_pos, deleted_at"""
)
"""The lock of a deleted conversation keeps its items: when it is over, they may be gone."""

# --- writing ---------------------------------------------------------------------------------

KNOWN = Statement("SELECT n FROM resp_conversations WHERE owner = :owner AND id = :id")

NEW = Statement(
    """
    INSERT INTO resp_conversations
        (n, owner, id, created_at, touched_at, metadata, next_pos, bytes)
    VALUES (:n, :owner, :id, db_now(), db_now(), :metadata, 0, 0)"""
)

SET_METADATA = Statement(
    f"""
    UPDATE resp_conversations SET metadata = :metadata, touched_at = db_now()
    WHERE {_ALIVE} RETURNING created_at"""
)

_METADATA_SIZE = f"SELECT length(metadata) FROM resp_conversations WHERE {_ALIVE}"
METADATA_SIZE = Statement(_METADATA_SIZE, postgresql=f"{_METADATA_SIZE} FOR UPDATE")

DELETE = Statement(
    f"UPDATE resp_conversations SET deleted_at = db_now(), metadata = :empty WHERE {_ALIVE}"
)

NEW_POINTER = Statement(
    """
    INSERT INTO resp_conversation_items (conversation, pos, item)
    VALUES (:conversation, :pos, :item)"""
)

GROW = Statement(
    """
    UPDATE resp_conversations SET next_pos = next_pos + :count, bytes = bytes + (
        SELECT coalesce(sum(i.bytes), 0) FROM resp_conversation_items x
        JOIN resp_items i ON i.n = x.item WHERE x.conversation = :n AND x.pos >= :pos
    ) WHERE n = :n"""
)
"""Counts the items from a place on, which have just been added."""

SHRINK = Statement(
    "UPDATE resp_conversations SET next_pos = next_pos + :count, bytes = bytes - :bytes"
    " WHERE n = :n"
)

BELONGS = Statement(
    "UPDATE resp_responses SET conversation = :conversation, conversation_upto = :upto WHERE n = :n"
)

SAW = Statement(
    """
    SELECT n FROM resp_responses WHERE conversation = :n AND conversation_upto > :pos LIMIT 1"""
)
"""A response whose context has the item at a place."""

MARK_REMOVED = Statement(
    "UPDATE resp_conversation_items SET removed = :at WHERE conversation = :n AND pos = :pos"
)

DELETE_POINTER = Statement(
    "DELETE FROM resp_conversation_items WHERE conversation = :conversation AND pos = :pos"
)

OWN_ITEMS = Statement(
    "SELECT item FROM resp_response_items WHERE response = :n AND side < 2 ORDER BY pos"
)

APPENDED = Statement(
    """
    SELECT x.conversation, x.pos, i.bytes FROM resp_responses r
    JOIN resp_conversation_items x ON x.conversation = r.conversation
        AND x.pos >= r.conversation_upto AND x.pos < r.conversation_upto
            + (SELECT count(*) FROM resp_response_items y WHERE y.response = r.n)
    JOIN resp_response_items y ON y.response = r.n AND y.item = x.item
    JOIN resp_items i ON i.n = x.item
    WHERE r.n = :n"""
)
"""The places of the items that a response has added."""

# --- the sweep -------------------------------------------------------------------------------

EXPIRE = Statement(
    """
    UPDATE resp_conversations SET deleted_at = db_now() WHERE n IN (
        SELECT n FROM resp_conversations
        WHERE deleted_at IS NULL AND touched_at <= db_now() - :keep_s LIMIT :limit
    )"""
)

_UNUSED_LOCK = "(c.lock_until IS NULL OR c.lock_until <= db_now())"

REMOVED = Statement(
    """
    SELECT x.conversation, x.pos, x.item FROM resp_conversation_items x
    WHERE x.removed IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM resp_responses r WHERE r.conversation = x.conversation
            AND r.conversation_upto > x.pos AND r.conversation_upto <= x.removed
    ) LIMIT :limit"""
)
"""Removed items that no response has seen."""

OF_DELETED = Statement(
    f"""
    SELECT x.conversation, x.pos, x.item FROM resp_conversations c
    JOIN resp_conversation_items x ON x.conversation = c.n
    WHERE c.deleted_at IS NOT NULL AND {_UNUSED_LOCK} AND x.removed IS NULL AND x.pos >= (
        SELECT coalesce(max(r.conversation_upto), 0) FROM resp_responses r
        WHERE r.conversation = c.n
    ) LIMIT :limit"""
)
"""Items of deleted conversations that no response has seen. The one that runs may store its own."""

DELETE_EMPTY = Statement(
    f"""
    DELETE FROM resp_conversations WHERE n IN (
        SELECT c.n FROM resp_conversations c
        WHERE c.deleted_at IS NOT NULL AND {_UNUSED_LOCK}
            AND NOT EXISTS (SELECT 1 FROM resp_conversation_items x WHERE x.conversation = c.n)
            AND NOT EXISTS (SELECT 1 FROM resp_responses r WHERE r.conversation = c.n)
        LIMIT :limit
    ) RETURNING owner, length(metadata)"""
)
