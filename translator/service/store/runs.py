"""The rows of responses in the background, from their beginning to their end.

    begin ──► queued ──► in_progress ──► completed | incomplete | failed | cancelled
                 └───────────┴─────────────────────────► failed | cancelled       by another process

Only the process with the token of the row writes to it, while its lease lasts. When that is over,
any process ends the response; so it does with one that is to be cancelled, and whose process does
not do it in time. Nothing leads out of an end. Each function may be run twice, as in `keep`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from translator.service.database.connection import Connection
from translator.wire.errors import UpstreamError
from translator.wire.events import Error, ErrorBody
from translator.wire.items import OutputItem
from translator.wire.responses import Response, ResponseError
from translator.writer.sse import encode

from . import run_statements as sql
from .conversation_rows import begin_at, end_at
from .keep import Draft, keep, keep_output, set_body
from .owners import charge
from .places import Place
from .shown import raw_fields
from .statements import BODY, KNOWN

REAPED = 100
"""Most responses that one transaction ends because their process is gone."""

GONE = UpstreamError("The process that produced the response has ended.")

CANCELLED = ErrorBody("invalid_request_error", "response_cancelled", "It was cancelled.", None)
"""The error at the end of the events of a cancelled response: none of their types says so."""

_encode = msgspec.json.Encoder().encode


class Lease(Struct, frozen=True):
    """The token of a process, and how long it holds for, in seconds."""

    token: str
    seconds: float


class Events(Struct, frozen=True):
    """Events of a log that follow each other, as the frames that are sent."""

    first: int
    last: int
    body: bytes


class Beginning(Struct, frozen=True):
    """A response that is to be produced; `temporary`: it is only to be polled.

    `place` is that in its conversation, which it has the lock of. `events` are its first ones,
    where it is streamed.
    """

    draft: Draft
    place: Place | None
    temporary: bool
    events: Events | None
    max_running: int


class Ending(Struct, frozen=True):
    """The end of a response, with its last events where it is streamed.

    `keep_s` is how long it is kept from now on, in seconds.
    """

    response: Response
    kept_output: Sequence[OutputItem]
    events: Events | None
    keep_s: float


class TooManyRuns(Struct, frozen=True):
    """The client has as many responses in the background as it may have."""


def begin(
    connection: Connection, lease: Lease, run: Beginning, new_id: Callable[[str], str]
) -> int | TooManyRuns:
    """Write the rows of a queued response; returns its key. Raises ParentGone."""
    draft = run.draft
    owner = {"owner": draft.owner}
    [(count,)] = connection.execute(sql.COUNT, owner)
    known = {**owner, "id": draft.response.id}
    if count >= run.max_running and not connection.execute(KNOWN, known):
        return TooManyRuns()
    keep(connection, draft, new_id)
    n: int = connection.execute(KNOWN, known)[0][0]
    connection.change(
        sql.BEGIN,
        {
            "n": n,
            "streamed": int(run.events is not None),
            "temporary": int(run.temporary),
            "token": lease.token,
            "lease_s": lease.seconds,
            "last_seq": None if run.events is None else run.events.last,
        },
    )
    if run.place is not None:
        begin_at(connection, n, run.place)
    if run.events is not None:
        _append(connection, n, run.events)
    return n


def _append(connection: Connection, n: int, *some: Events) -> None:
    connection.execute_many(
        sql.NEW_EVENTS,
        [
            {"response": n, "first_seq": one.first, "last_seq": one.last, "body": one.body}
            for one in some
        ],
    )


def append(connection: Connection, lease: Lease, some: Sequence[tuple[int, Events]]) -> set[int]:
    """Write events of some responses, by their keys; returns those that are still our own."""
    runs = msgspec.json.encode([(n, events.last) for n, events in some]).decode()
    own = {n for n, _ in some}
    if connection.change(sql.FLUSH, {"runs": runs, "token": lease.token}) < len(own):
        values = {"ids": _listed([*own]), "token": lease.token}
        own = {n for (n,) in connection.execute(sql.OWN, values)}
    connection.execute_many(
        sql.NEW_EVENTS,
        [
            {"response": n, "first_seq": one.first, "last_seq": one.last, "body": one.body}
            for n, one in some
            if n in own
        ],
    )
    return own


def renew(connection: Connection, lease: Lease, keys: Sequence[int]) -> set[int]:
    """Renew the leases of responses; returns the keys of those that are still our own."""
    values = {"ids": _listed(keys), "token": lease.token, "lease_s": lease.seconds}
    return {n for (n,) in connection.execute(sql.RENEW, values)}


def cancels_asked(connection: Connection, keys: Sequence[int]) -> set[int]:
    """The keys of those responses that another process wants cancelled."""
    return {n for (n,) in connection.execute(sql.CANCELS_ASKED, {"ids": _listed(keys)})}


def _listed(keys: Sequence[int]) -> str:
    return msgspec.json.encode(keys).decode()


def end(
    connection: Connection,
    lease: Lease,
    owner: str,
    n: int,
    ending: Ending,
    new_id: Callable[[str], str],
    *,
    place: Place | None,
    temporary: bool,
) -> bool:
    """Write the end of a response; False where it is not our own any more.

    Its items are appended at its place in a conversation. Raises LockLost.
    """
    response = ending.response
    own = {"n": n, "token": lease.token, "status": response.status}
    if connection.execute(sql.ENDED_BY, own):
        return True
    shown = response if temporary else replace(response, output=[])
    last_seq = None if ending.events is None else ending.events.last
    body = _encode(shown)
    if not connection.change(sql.END, {**own, "last_seq": last_seq}):
        return False
    if not temporary:
        keep_output(connection, owner, n, response.output, ending.kept_output, new_id)
    if place is not None:
        end_at(connection, owner, n, response.status, place)
    set_body(connection, n, body)
    connection.change(sql.KEEP_THREAD, {"n": n, "keep_s": ending.keep_s})
    if ending.events is not None:
        _append(connection, n, ending.events)
        _charge_log(connection, n)
    return True


def _charge_log(connection: Connection, n: int) -> None:
    """Account for the log of a response that has ended; before, it has a bound of its own."""
    charge(connection, dict(connection.execute(sql.LOGGED, {"n": n})))


# --- by another process ------------------------------------------------------------------------


def reap(connection: Connection, n: int, temporary_s: float) -> None:
    """End a response whose process is gone; nothing changes where it has ended meanwhile.

    `temporary_s` is how long one that is only to be polled is kept, in seconds.
    """
    error = ErrorBody("server_error", "server_error", GONE.message, None)
    _force(connection, n, "failed", error, temporary_s)


def reap_all(connection: Connection, temporary_s: float) -> int:
    """End responses whose processes are gone, REAPED at most; returns how many there were."""
    dead = connection.execute(sql.DEAD, {"limit": REAPED})
    for (n,) in dead:
        reap(connection, n, temporary_s)
    return len(dead)


def cancel(connection: Connection, n: int, temporary_s: float) -> None:
    """Cancel a response, whatever its process does; nothing changes where it has ended."""
    _force(connection, n, "cancelled", CANCELLED, temporary_s)


def _force(
    connection: Connection,
    n: int,
    status: Literal["failed", "cancelled"],
    error: ErrorBody,
    temporary_s: float,
) -> None:
    statement = sql.REAP if status == "failed" else sql.FORCE
    rows = connection.execute(statement, {"n": n, "status": status})
    if not rows:
        return
    [(streamed, last_seq, temporary)] = rows
    [(body,)] = connection.execute(BODY, {"n": n})
    fields = raw_fields(body)
    fields["status"] = Raw(_encode(status))
    if status == "failed":
        fields["error"] = Raw(_encode(ResponseError(error.code or error.type, error.message)))
    body = _encode(fields)
    set_body(connection, n, body)
    if temporary:
        connection.change(sql.KEEP_THREAD, {"n": n, "keep_s": temporary_s})
    if streamed:
        first = last_seq + 1
        frames = encode(Error(first, error.code, error.message, error.param, error))
        frames += _failed_frame(first + 1, body)
        connection.change(sql.SET_LAST, {"n": n, "last_seq": first + 1})
        _append(connection, n, Events(first, first + 1, frames))
        _charge_log(connection, n)


def _failed_frame(number: int, response: bytes) -> bytes:
    head = b'{"type":"response.failed","sequence_number":%d,"response":' % number
    return b"event: response.failed\ndata: %b%b}\n\n" % (head, response)
