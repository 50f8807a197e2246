"""The sweep: deletes what has expired, in steps between which others can write."""

from __future__ import annotations

from translator.service.database.connection import Connection

from . import statements as sql
from .keep import delete_items

STEP_ROWS = 500
"""Most rows of one kind that a transaction deletes."""


def step(connection: Connection, stream_keep_s: float) -> int:
    """Delete events, pointers with the items that nothing else has, then responses, then threads.

    Events expire `stream_keep_s` seconds after their response has ended. Returns how many of the
    first kind that there were; 0: nothing has expired.
    """
    limit = {"limit": STEP_ROWS}
    events = connection.execute(sql.EXPIRED_EVENTS, {**limit, "keep_s": stream_keep_s})
    if events:
        rows = [{"response": response, "first_seq": first} for response, first in events]
        connection.execute_many(sql.DELETE_EVENT, rows)
        return len(events)
    pointers = connection.execute(sql.EXPIRED_POINTERS, limit)
    if pointers:
        rows = [{"response": response, "pos": pos} for response, pos, _ in pointers]
        connection.execute_many(sql.DELETE_POINTER, rows)
        delete_items(connection, sorted({item for _, _, item in pointers}))
        return len(pointers)
    responses = [{"n": n} for (n,) in connection.execute(sql.EXPIRED, limit)]
    if responses:
        connection.execute_many(sql.DELETE_BODY, responses)
        connection.execute_many(sql.DELETE_RESPONSE, responses)
        return len(responses)
    threads = [{"n": n} for (n,) in connection.execute(sql.EXPIRED_THREADS, limit)]
    connection.execute_many(sql.DELETE_THREAD, threads)
    return len(threads)
