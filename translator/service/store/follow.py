"""Following a response in the background: its events, stored and still to come, for one client.

    followed = { frames | keep-alive } ;        until its end has been sent

The events of a run of this process come from its memory as they are written; those of others are
looked for in the database, more seldom the longer nothing comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from msgspec import Struct

from translator.service.base.errors import StoreUnavailable
from translator.service.database.connection import Connection

from . import run_statements as sql
from .runs import Events

if TYPE_CHECKING:
    from .responses import StoredResponses

KEEP_ALIVE = b": keep-alive\n\n"

READ_ROWS = 16
"""Most rows of a log that are read at once."""

FIRST_POLL_S = 0.05
LONGEST_POLL_S = 0.5
"""How often another process's log is looked at, in seconds; the pause doubles."""

_END = b"\n\n"


class _Read(Struct, frozen=True):
    """What was read of a log, and how its response is."""

    events: Sequence[Events]
    ended: bool
    last: int
    dead: bool


async def followed(
    store: StoredResponses, n: int, *, after: int, keep_alive_s: float
) -> AsyncGenerator[bytes]:
    """The frames of the events after number `after`, as they are stored; ends with the last one.

    A comment comes where nothing else does for `keep_alive_s`. Raises StoreUnavailable, also where
    the response is deleted.
    """
    now = asyncio.get_running_loop().time
    sent_at, pause_s = now(), FIRST_POLL_S
    while True:
        run = store.runs.run_of(n)
        events = None if run is None or run.log is None else run.log.after(after)
        read: _Read | None = None
        if events is None:
            read = await _read(store, n, after)
            events = read.events
        for one in events:
            yield frames_after(one, after)
            after, sent_at, pause_s = one.last, now(), FIRST_POLL_S
        if events:
            continue
        if read is not None and read.ended and after >= read.last:
            return
        if read is not None and read.dead:
            await store.runs.reap(n)
            continue
        if now() - sent_at >= keep_alive_s:
            sent_at = now()
            yield KEEP_ALIVE
        left_s = max(0.0, sent_at + keep_alive_s - now())
        if run is not None and run.log is not None and read is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await run.log.news()
        else:
            await asyncio.sleep(min(pause_s, left_s))
            pause_s = min(2 * pause_s, LONGEST_POLL_S)


async def _read(store: StoredResponses, n: int, after: int) -> _Read:
    def work(connection: Connection) -> _Read | None:
        rows = connection.execute(sql.FOLLOWED, {"n": n})
        if not rows:
            return None
        [(status, last, dead)] = rows
        values = {"n": n, "after": after, "limit": READ_ROWS}
        events = [Events(*row) for row in connection.execute(sql.EVENTS, values)]
        ended = status not in ("queued", "in_progress")
        return _Read(events, ended, last, bool(dead))

    read = await store.read(work)
    if read is None:
        raise StoreUnavailable
    return read


def frames_after(events: Events, number: int) -> bytes:
    """The frames of those events that come after a number."""
    at = 0
    for _ in range(events.first, number + 1):
        at = events.body.index(_END, at) + len(_END)
    return events.body[at:] if at else events.body
