"""The statements of responses in the background: their leases, their events and their ends.

A row of a run belongs to the process whose token it has, for as long as its lease lasts: every
later write of that process names the token, and changes nothing when the row is no longer its own.
"""

from __future__ import annotations

from translator.service.database.statement import Statement

from .statements import LIVING, for_ids

RUNNING = "status IN ('queued', 'in_progress')"

_OWN = f"lease_token = :token AND {RUNNING} AND lease_until > db_now()"

_DEAD = f"{RUNNING} AND lease_until <= db_now()"

STATE = Statement(
    f"""
    SELECT r.n, r.status, r.background, r.streamed,
        CASE WHEN r.{RUNNING} AND r.lease_until <= db_now() THEN 1 ELSE 0 END,
        CASE WHEN r.ended_at <= db_now() - :keep_s THEN 1 ELSE 0 END
    {LIVING}"""
)
"""A response that is found, whether its process is gone, and whether its events are too old."""

COUNT = Statement(
    f"""
    SELECT count(*) FROM resp_responses
    WHERE owner = :owner AND {RUNNING} AND lease_until > db_now()"""
)

BEGIN = Statement(
    """
    UPDATE resp_responses SET background = 1, streamed = :streamed, temporary = :temporary,
        lease_token = :token, lease_until = db_now() + :lease_s, last_seq = :last_seq
    WHERE n = :n AND status = 'queued'"""
)

START = Statement(
    f"""
    UPDATE resp_responses SET status = 'in_progress'
    WHERE n = :n AND status = 'queued' AND {_OWN}"""
)

RENEW = for_ids(
    f"UPDATE resp_responses SET lease_until = db_now() + :lease_s WHERE {{keys}} AND {_OWN}",
    end="RETURNING n",
)

CANCELS_ASKED = for_ids(
    f"SELECT n FROM resp_responses WHERE {{keys}} AND cancel_asked = 1 AND {RUNNING}"
)

ASK_CANCEL = Statement(f"UPDATE resp_responses SET cancel_asked = 1 WHERE n = :n AND {RUNNING}")

_FLUSH = """
    UPDATE resp_responses SET last_seq = v.last_seq FROM ({runs}) v
    WHERE resp_responses.n = v.n AND {own}"""

FLUSH = Statement(
    _FLUSH.format(
        own=_OWN,
        runs="""
        SELECT json_extract(value, '$[0]') AS n, json_extract(value, '$[1]') AS last_seq
        FROM json_each(:runs)""",
    ),
    postgresql=_FLUSH.format(
        own=_OWN,
        runs="""
        SELECT (value ->> 0)::bigint AS n, (value ->> 1)::int AS last_seq
        FROM json_array_elements((:runs)::json)""",
    ),
)
"""The numbers of the last events of those runs that are still this process's own."""

OWN = for_ids(f"SELECT n FROM resp_responses WHERE {{keys}} AND {_OWN}")

NEW_EVENTS = Statement(
    """
    INSERT INTO resp_events (response, first_seq, last_seq, body)
    VALUES (:response, :first_seq, :last_seq, :body)
    ON CONFLICT (response, first_seq) DO NOTHING"""
)

_ENDED = "status = :status, ended_at = db_now(), lease_until = NULL"

END = Statement(
    f"""
    UPDATE resp_responses SET {_ENDED}, last_seq = :last_seq
    WHERE n = :n AND {_OWN}"""
)

ENDED_BY = Statement(
    "SELECT status FROM resp_responses WHERE n = :n AND lease_token = :token AND status = :status"
)
"""A run that this process has ended: its token stays in the row."""

_FORCE = f"UPDATE resp_responses SET {_ENDED}, lease_token = NULL WHERE n = :n AND"

REAP = Statement(f"{_FORCE} {_DEAD} RETURNING streamed, last_seq, temporary")

FORCE = Statement(f"{_FORCE} {RUNNING} RETURNING streamed, last_seq, temporary")

DEAD = Statement(f"SELECT n FROM resp_responses WHERE {_DEAD} AND deleted_at IS NULL LIMIT :limit")

LOGGED = Statement(
    """
    SELECT r.owner, sum(length(e.body)) FROM resp_responses r
    JOIN resp_events e ON e.response = r.n WHERE r.n = :n GROUP BY r.owner"""
)
"""The owner of a run, and the bytes of its log."""

SET_LAST = Statement("UPDATE resp_responses SET last_seq = :last_seq WHERE n = :n")

KEEP_THREAD = Statement(
    """
    UPDATE resp_threads SET expires_at = db_now() + :keep_s
    WHERE n = (SELECT thread FROM resp_responses WHERE n = :n)"""
)

FOLLOWED = Statement(
    f"""
    SELECT status, last_seq, CASE WHEN {_DEAD} THEN 1 ELSE 0 END
    FROM resp_responses WHERE n = :n AND deleted_at IS NULL"""
)

EVENTS = Statement(
    """
    SELECT first_seq, last_seq, body FROM resp_events
    WHERE response = :n AND last_seq > :after ORDER BY first_seq LIMIT :limit"""
)
