"""The store's statements: what each request reads, and what each response writes.

A list of texts is one parameter, as JSON.
"""

from __future__ import annotations

from translator.service.database.statement import Statement

_IDS = "id IN (SELECT value FROM json_each(:ids))"
_IDS_POSTGRESQL = "id IN (SELECT json_array_elements_text((:ids)::json))"


_IN_KEYS = "IN (SELECT CAST(value AS INTEGER) FROM json_each(:ids))"
_IN_KEYS_POSTGRESQL = "IN (SELECT json_array_elements_text((:ids)::json)::bigint)"


def for_ids(text: str, locked: str = "", *, end: str = "") -> Statement:
    """A statement with `{ids}` for a condition on ids, or `{keys}` on keys, as `n`.

    `{in_keys}` is the condition on keys without a column.

    `locked` locks the rows on PostgreSQL, where another process may delete them meanwhile; `end`
    is the end of the text.
    """
    sqlite = text.format(ids=_IDS, keys=f"n {_IN_KEYS}", in_keys=_IN_KEYS)
    keys = f"n {_IN_KEYS_POSTGRESQL}"
    postgresql = text.format(ids=_IDS_POSTGRESQL, keys=keys, in_keys=_IN_KEYS_POSTGRESQL)
    return Statement(f"{sqlite} {end}", postgresql=f"{postgresql} {locked}{end}")


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

_CHAIN_FROM = """
WITH RECURSIVE chain(n, parent, depth, bytes, cut, gone, implied, conversation, upto, named) AS (
    SELECT r.n, r.parent, r.depth, r.bytes, r.cut * :stops, r.gone, r.implied, r.conversation,
        r.conversation_upto, 1 {seed}
    UNION ALL
    SELECT r.n, r.parent, r.depth, r.bytes, r.cut, r.gone, r.implied, r.conversation,
        r.conversation_upto, CASE WHEN chain.implied = 1 THEN 0 ELSE chain.named END
    FROM chain JOIN resp_responses r ON r.n = chain.parent WHERE chain.cut = 0
)
"""
"""A response and what precedes it, up to the last compaction; with `stops` 0 past its own.
`named`: requests have named what led to it."""

_SEEN_BEFORE = """
    resp_conversation_items x JOIN resp_items i ON i.n = x.item
    WHERE x.conversation = {at}conversation AND x.pos < {at}upto
        AND (x.removed IS NULL OR x.removed >= {at}upto)
"""
"""What the first response of a chain saw of its conversation."""

_CHAIN_BEGINS = f"SELECT {{columns}} FROM chain, {_SEEN_BEFORE.format(at='chain.')}"

_CHAIN = _CHAIN_FROM.format(seed="FROM resp_responses r WHERE r.n = :n")

_USED = "(SELECT coalesce(sum(bytes), 0) FROM resp_owners o WHERE o.owner = :owner)"

USED = Statement(f"SELECT {_USED}")
"""The bytes of an owner."""

_CHAIN_SUM = f"""{_CHAIN_FROM.format(seed=LIVING)}
    SELECT r.n, r.status, r.temporary, c.links, c.bytes + (
        SELECT coalesce(sum(i.bytes), 0) FROM {_SEEN_BEFORE.format(at="c.")}
    ), c.missing, c.keys, c.conversation, c.upto, {_USED}
    FROM resp_responses r, (
        SELECT sum(named) AS links, sum(bytes) AS bytes, {{keys}} AS keys,
            max(CASE WHEN named = 1 AND gone = 1 THEN depth END) AS missing,
            max(conversation) AS conversation, max(upto) AS upto
        FROM chain
    ) c WHERE r.owner = :owner AND r.id = :id AND c.links > 0"""

CHAIN = Statement(
    _CHAIN_SUM.format(keys="json_group_array(n)"),
    postgresql=_CHAIN_SUM.format(keys="json_agg(n ORDER BY depth DESC)::text"),
)
"""A response that is found, and its chain: how long it is, the depth of a link whose items are
gone, the keys of its responses, newest first, and what the first saw of its conversation."""

CHAIN_LINK = Statement(
    f"""{_CHAIN}
    SELECT r.id FROM chain JOIN resp_responses r ON r.n = chain.n WHERE chain.depth = :depth"""
)

_PLACES = 2**32  # more than a response has items, or a conversation

_ITEMS_OF = f"""
    SELECT i.id, coalesce(i.sealed, i.body), x.pos - k.key * {_PLACES} FROM {{keys}}
    JOIN resp_response_items x ON x.response = {{n}} JOIN resp_items i ON i.n = x.item
    UNION ALL SELECT i.id, coalesce(i.sealed, i.body), x.pos - {_PLACES} * {_PLACES // 4}
    FROM {_SEEN_BEFORE.format(at=":")}
"""

CHAIN_ITEMS = Statement(
    _ITEMS_OF.format(keys="json_each(:keys) k", n="k.value"),
    postgresql=_ITEMS_OF.format(
        keys="json_array_elements_text((:keys)::json) WITH ORDINALITY k(value, key)",
        n="k.value::bigint",
    ),
)
"""The context that a chain has read: the input and output of its responses, as they go upstream.

The last column is the place of an item; the rows come in any order: a database that sorts them
copies the bodies. The chain is not walked a second time.
"""

CHAIN_IDS = Statement(
    f"""{_CHAIN}
    SELECT i.n, i.id, chain.depth AS depth, x.pos AS pos FROM chain
    JOIN resp_response_items x ON x.response = chain.n JOIN resp_items i ON i.n = x.item
    WHERE chain.n <> :n OR x.side = 0
    UNION ALL {_CHAIN_BEGINS.format(columns="i.n, i.id, -1, x.pos")}
    ORDER BY depth, pos"""
)
"""What a response saw: its context without its own output."""

CHAIN_HEADS = Statement(
    f"""{_CHAIN}
    SELECT i.n, i.id, i.sealed IS NOT NULL FROM chain
    JOIN resp_response_items x ON x.response = chain.n JOIN resp_items i ON i.n = x.item
    ORDER BY chain.depth, x.pos"""
)
"""The context of a response without its bodies; and whether an item's reasoning is sealed."""

CHAIN_KEPT = Statement(
    f"""{_CHAIN}
    SELECT i.n, i.body, chain.depth AS depth, x.pos AS pos FROM chain
    JOIN resp_response_items x ON x.response = chain.n JOIN resp_items i ON i.n = x.item
    WHERE x.side <> 1 AND i.kind IN ('message', 'additional_tools', 'configuration_update')
    UNION ALL {_CHAIN_BEGINS.format(columns="i.n, i.body, -1, x.pos")}
    ORDER BY depth, pos"""
)
"""The items of a context that a compaction may keep."""

_SAME_CONTEXT = """
SELECT r.n, r.digest FROM resp_responses r JOIN resp_threads t ON t.n = r.thread
WHERE r.owner = :owner AND r.deleted_at IS NULL AND t.expires_at > db_now()
AND r.status NOT IN ('queued', 'in_progress') AND r.n IN (
    SELECT x.response FROM resp_items i JOIN resp_response_items x ON x.item = i.n AND x.side = 1
    WHERE i.owner = :owner AND i.{ids}
    UNION
    SELECT (
        SELECT c.n FROM resp_responses c JOIN resp_threads u ON u.n = c.thread
        WHERE c.owner = :owner AND c.digest = d.value
            AND c.deleted_at IS NULL AND u.expires_at > db_now()
            AND c.status NOT IN ('queued', 'in_progress')
        ORDER BY c.n DESC LIMIT 1
    ) FROM {digests}
)
"""

SAME_CONTEXT = Statement(
    _SAME_CONTEXT.format(ids=_IDS, digests="json_each(:digests) d"),
    postgresql=_SAME_CONTEXT.format(
        ids=_IDS_POSTGRESQL, digests="json_array_elements_text((:digests)::json) d(value)"
    ),
)
"""Responses that said items of some ids, and the latest of each context with some digests."""

ITEM_BODIES = for_ids("SELECT n, id, body FROM resp_items WHERE {keys}")

BODY = Statement("SELECT body FROM resp_bodies WHERE response = :n")

OUTPUT = Statement(
    """
    SELECT i.body FROM resp_response_items x JOIN resp_items i ON i.n = x.item
    WHERE x.response = :n AND x.side = 1 ORDER BY x.pos"""
)

MADE_WITH = for_ids(
    """
    WITH made(n) AS (
        SELECT DISTINCT x.response FROM resp_items i
        JOIN resp_response_items x ON x.item = i.n AND x.side = 1
        WHERE i.owner = :owner AND i.{ids}
    )
    SELECT x.response, x.pos, i.id, i.sealed IS NOT NULL, i.bytes
    FROM made JOIN resp_response_items x ON x.response = made.n AND x.side = 1
    JOIN resp_items i ON i.n = x.item ORDER BY x.response DESC, x.pos LIMIT :rows"""
)
"""The output of the responses that made items of some ids, and which reasoning is sealed."""

REFERENCED = for_ids(
    """
    WITH RECURSIVE wanted(n) AS (SELECT n FROM resp_items WHERE owner = :owner AND {ids}),
    holders(item, n, lives) AS (
        SELECT x.item, x.response, CASE
            WHEN r.deleted_at IS NULL AND t.expires_at > db_now() THEN 1 ELSE 0 END
        FROM wanted JOIN resp_response_items x ON x.item = wanted.n AND x.side < 2
        JOIN resp_responses r ON r.n = x.response LEFT JOIN resp_threads t ON t.n = r.thread
    ),
    later(n) AS (
        SELECT n FROM holders WHERE item NOT IN (SELECT item FROM holders WHERE lives = 1)
        UNION SELECT r.n FROM later JOIN resp_responses r ON r.parent = later.n
    ),
    resent(n, parent) AS (
        SELECT p.n, p.parent FROM later JOIN resp_responses r ON r.n = later.n
        JOIN resp_threads t ON t.n = r.thread JOIN resp_responses p ON p.n = r.parent
        WHERE r.implied = 1 AND r.deleted_at IS NULL AND t.expires_at > db_now()
        UNION SELECT r.n, r.parent FROM resent JOIN resp_responses r ON r.n = resent.parent
    )
    SELECT id, n, body, sealed FROM resp_items i WHERE i.owner = :owner AND {ids} AND (i.n IN (
        SELECT item FROM holders WHERE lives = 1 OR n IN (SELECT n FROM resent)
    ) OR EXISTS (
        SELECT 1 FROM resp_conversation_items y JOIN resp_conversations c ON c.n = y.conversation
        WHERE y.item = i.n AND y.removed IS NULL AND c.deleted_at IS NULL
            AND (:keep_s = 0 OR c.touched_at > db_now() - :keep_s)
    ))"""
)
"""Items that a reference may name: those of a response or a conversation that is found itself.

A response has what it was sent, also where that is stored as what another one had."""

# --- writing ---------------------------------------------------------------------------------

KNOWN = Statement("SELECT n FROM resp_responses WHERE owner = :owner AND id = :id")

_PARENT = """
    SELECT r.thread, r.depth, r.gone, r.deleted_at IS NULL, r.digest
    FROM resp_responses r JOIN resp_threads t ON t.n = r.thread
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

EXTEND_THREAD = Statement(
    """
    UPDATE resp_threads SET expires_at = db_now() + :keep_s
    WHERE n = :n AND expires_at > db_now()"""
)

NEW_RESPONSE = Statement(
    """
    INSERT INTO resp_responses
        (n, owner, id, thread, parent, depth, status, model, created_at, bytes, digest, implied,
        cut)
    VALUES
        (:n, :owner, :id, :thread, :parent, :depth, :status, :model, db_now(), :bytes, :digest,
        :implied, :cut)"""
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

BEFORE_OUTPUT = Statement(
    """
    SELECT r.parent, r.digest, coalesce(max(x.pos) + 1, 0), (
        SELECT i.kind FROM resp_response_items y JOIN resp_items i ON i.n = y.item
        WHERE y.response = r.n ORDER BY y.pos DESC LIMIT 1
    )
    FROM resp_responses r LEFT JOIN resp_response_items x ON x.response = r.n
    WHERE r.n = :n GROUP BY r.n, r.parent, r.digest"""
)
"""A response without its output, the place behind its items, and the kind of the last of them."""

ADD_OUTPUT = Statement(
    """
    UPDATE resp_responses SET bytes = bytes + :bytes, digest = :digest, cut = :cut
    WHERE n = :n"""
)

BODY_SIZE = Statement(
    """
    SELECT r.owner, length(b.body) FROM resp_bodies b JOIN resp_responses r ON r.n = b.response
    WHERE b.response = :n"""
)

SET_BODY = Statement("UPDATE resp_bodies SET body = :body WHERE response = :n")

ADD_BYTES = Statement(
    """
    INSERT INTO resp_owners (owner, shard, bytes) VALUES (:owner, :shard, :bytes)
    ON CONFLICT (owner, shard) DO UPDATE SET bytes = resp_owners.bytes + excluded.bytes"""
)

# --- deletion --------------------------------------------------------------------------------

LOCKED_RESPONSES = for_ids("SELECT n FROM resp_responses WHERE {keys}", "ORDER BY n FOR UPDATE")

MARK_DELETED = for_ids("UPDATE resp_responses SET deleted_at = db_now() WHERE {keys}")

_FREED_EVENTS = """
    RETURNING (SELECT owner FROM resp_responses WHERE n = response AND ended_at IS NOT NULL),
        length(body)"""
"""Those of a response that has not ended are not accounted for."""

DELETE_EVENTS = for_ids("DELETE FROM resp_events WHERE response {in_keys}", end=_FREED_EVENTS)

DELETE_BODIES = for_ids(
    """
    DELETE FROM resp_bodies WHERE response {in_keys}
    RETURNING (SELECT owner FROM resp_responses WHERE n = response), length(body)"""
)

MARK_UNNEEDED = for_ids(
    """
    UPDATE resp_responses SET gone = 2 WHERE {keys} AND deleted_at IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM resp_responses c WHERE c.parent = resp_responses.n)
    RETURNING n"""
)
"""Deleted responses that no other goes on from."""

MARK_GONE = Statement("UPDATE resp_responses SET gone = 1 WHERE n = :n")

RESENT = Statement(
    """
    WITH RECURSIVE later(n) AS (
        SELECT n FROM resp_responses WHERE n = :n
        UNION SELECT r.n FROM later JOIN resp_responses r ON r.parent = later.n
    )
    SELECT 1 FROM later JOIN resp_responses r ON r.n = later.n
    WHERE r.implied = 1 AND r.n <> :n LIMIT 1"""
)
"""Whether a later request was sent all that a response had, which is not stored again."""

POINTERS = for_ids(
    "SELECT response, pos, item FROM resp_response_items WHERE response {in_keys} LIMIT :limit"
)

DELETE_POINTER = Statement(
    "DELETE FROM resp_response_items WHERE response = :response AND pos = :pos"
)

LOCKED_ITEMS = for_ids("SELECT n FROM resp_items WHERE {keys}", "ORDER BY n FOR UPDATE")

DELETE_ITEMS = for_ids(
    """
    DELETE FROM resp_items WHERE {keys}
        AND NOT EXISTS (SELECT 1 FROM resp_response_items x WHERE x.item = resp_items.n)
        AND NOT EXISTS (SELECT 1 FROM resp_conversation_items c WHERE c.item = resp_items.n)
    RETURNING owner, bytes"""
)

LINKS = for_ids("SELECT parent, thread FROM resp_responses WHERE {keys}")

DELETE_RESPONSES = for_ids("DELETE FROM resp_responses WHERE {keys}")

DELETE_THREADS = for_ids(
    """
    DELETE FROM resp_threads WHERE {keys}
        AND NOT EXISTS (SELECT 1 FROM resp_responses r WHERE r.thread = resp_threads.n)"""
)

# --- sweep -----------------------------------------------------------------------------------

UNNEEDED = Statement(
    "SELECT n FROM resp_responses WHERE gone = 2 LIMIT :limit",
    postgresql="SELECT n FROM resp_responses WHERE gone = 2 LIMIT :limit FOR UPDATE SKIP LOCKED",
)

_EXPIRED = "SELECT n FROM resp_threads WHERE expires_at <= db_now() LIMIT :limit"
EXPIRED = Statement(_EXPIRED, postgresql=f"{_EXPIRED} FOR UPDATE SKIP LOCKED")

EXPIRED_RESPONSES = for_ids(
    "SELECT n FROM resp_responses WHERE thread {in_keys} AND deleted_at IS NULL LIMIT :limit"
)

DELETE_EXPIRED = for_ids("DELETE FROM resp_threads WHERE {keys}")

EXPIRED_EVENTS = Statement(
    """
    SELECT e.response, e.first_seq FROM resp_events e
    JOIN resp_responses r ON r.n = e.response JOIN resp_threads t ON t.n = r.thread
    WHERE r.ended_at <= db_now() - :keep_s OR t.expires_at <= db_now() LIMIT :limit"""
)

_DELETE_EXPIRED_EVENTS = f"""
    DELETE FROM resp_events WHERE (response, first_seq) IN (SELECT {{place}}) {_FREED_EVENTS}
"""
DELETE_EXPIRED_EVENTS = Statement(
    _DELETE_EXPIRED_EVENTS.format(
        place="json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(:places)"
    ),
    postgresql=_DELETE_EXPIRED_EVENTS.format(
        place="(value ->> 0)::bigint, (value ->> 1)::int FROM json_array_elements((:places)::json)"
    ),
)

_EMPTY_OWNERS = """
    SELECT owner, shard, bytes FROM resp_owners WHERE owner IN (
        SELECT owner FROM resp_owners GROUP BY owner HAVING sum(bytes) = 0 LIMIT :limit
    )
"""
EMPTY_OWNERS = Statement(_EMPTY_OWNERS, postgresql=f"{_EMPTY_OWNERS} FOR UPDATE")

DELETE_OWNER = Statement("DELETE FROM resp_owners WHERE owner = :owner AND shard = :shard")

OCCUPY = Statement(
    """
    INSERT INTO resp_meta (key, value) VALUES ('space', :value)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value"""
)
"""A row that shows whether there is space, until FREE."""

FREE = Statement("DELETE FROM resp_meta WHERE key = 'space'")

SWEEPING = Statement(
    """
    INSERT INTO resp_meta (key, value)
    VALUES ('sweep', CAST(:token AS text) || ' ' || (db_now() + :lease_s))
    ON CONFLICT (key) DO UPDATE SET value = excluded.value
    WHERE substr(resp_meta.value, 1, 32) = :token
        OR CAST(substr(resp_meta.value, 34) AS double precision) <= db_now()"""
)
"""Changes a row if no other process sweeps, and lets this one sweep for `lease_s` seconds.

A token has 32 characters."""
