"""The client connections of a process: how many there may be, and which one gives way.

    connection = header, { request in progress, idle, header }

Each state has its limit in time. Of a request in progress the application bounds all waits; an idle
connection is closed by uvicorn's timer; a header has to be complete after `client_timeout_s`, with
whatever pauses it comes.

There may be `max_connections`. One more takes the place of the one that has waited longest, idle or
for the rest of a header: who only holds a connection must not lock out who wants to use one. If
there is none, the upload that has taken longest gets a 503, unless it has only just begun. If all
are in use, the new one gets a 503 for its first request, but for health checks and metrics: those
say what is the matter, and a restart would help nobody. An idle one that gives way is closed; one
that waits for a header is treated as a new one is, as its client may be about to send it.
"""

from __future__ import annotations

import asyncio
import logging
from heapq import merge
from itertools import islice, takewhile
from operator import itemgetter
from typing import Any, Protocol

from translator.service.base import uploads
from translator.service.base.connection_meter import STATE, ConnectionMeter, CutReason
from translator.service.base.descriptors import max_open_files, report_exhaustion
from translator.service.base.periodic_warning import PeriodicWarning
from translator.service.config.settings import Server
from translator.wire.errors import TranslatorError

MAX_REFUSED = 16
"""Connections over the limit that wait for their 503. The one that has waited longest gets it at
once when there are more."""

MAX_TOLD = 32
"""Connections that have got it, or another last answer, and are still open for it to be read."""

REFUSE_S = 1.0
"""How long such a connection may take for its request header."""

YOUNG_S = 0.5
"""How long a connection may wait for its first header before it gives way to one that has only just
been made, too. A request that is there takes its place at once."""

MAX_LOOKS = 16
"""How many connections are looked at for one that gives way."""

SPARE_DESCRIPTORS = 64
"""Descriptors that are no client's and no upstream's: listening sockets, logs, traces, the event
loop's own, and those of connections that are being refused."""

log = logging.getLogger(__name__)


class Connection(Protocol):
    """A connection, as far as it can be told to end."""

    counts: bool
    """Whether it is one of those that `max_connections` limits; set by Connections only."""

    def has_unread(self) -> bool:
        """Whether the client has sent something that the system still holds."""
        ...

    def give_way(self) -> None:
        """Close at once: its place is needed."""
        ...

    def header_is_late(self) -> None:
        """Close: the header of its request has not come in time."""
        ...

    def refuse(self) -> None:
        """Respond with a 503, and close."""
        ...


class Connections:
    """All client connections of a process."""

    def __init__(self, server: Server, max_files: int | None = None) -> None:
        """`max_files` is the limit of open files."""
        self.limit = limit_of(server, max_files)
        self._header_s = server.client_timeout_s
        self.read_response_s = server.exchange_timeout_s
        """How long a client may take to read the rest of a response that is complete."""
        self._count = 0
        self._meter: ConnectionMeter | None = None
        self._uploads: uploads.Uploads | None = None
        self._headers: dict[Connection, float] = {}  # since when, the oldest first
        self._idle: dict[Connection, float] = {}  # the same
        self._refused: dict[Connection, asyncio.TimerHandle] = {}
        self._told: dict[Connection, None] = {}  # those that linger
        self._timer: asyncio.TimerHandle | None = None
        self._warn = PeriodicWarning(log)
        self._warn_refused = PeriodicWarning(log)
        self._reached = f"{self.limit} client connections are open (max_connections is "
        self._reached += f"{server.max_connections}"
        self._reached += "" if max_files is None else f", the limit of open files {max_files}"

    @property
    def room_for_refusals(self) -> int:
        """How many connections may be refused before one of them has to be closed at once."""
        waiting = len(self._refused)
        return max(0, min(MAX_REFUSED, MAX_TOLD - len(self._told)) - waiting)

    def opened(self, connection: Connection, state: dict[str, Any]) -> None:
        """A client has connected; `state` is that of the ASGI lifespan."""
        if self._meter is None:
            self._meter = state.get(STATE)
        if self._uploads is None:
            self._uploads = state.get(uploads.STATE)
        if self._meter is not None:
            self._meter.opened()
        if self._has_room(YOUNG_S):
            self._count += 1
            connection.counts = True
            self.awaits_header(connection)
            return
        self._refuse_soon(connection)

    def took_over(self, connection: Connection) -> None:
        """A WebSocket has begun on a connection, which `closed` has been called for."""
        self._count += 1
        connection.counts = True
        if self._meter is not None:
            self._meter.opened()

    def closed(self, connection: Connection) -> None:
        """A connection is closed, or has another protocol."""
        self.is_busy(connection)
        self._leave(connection)
        if self._meter is not None:
            self._meter.closed()

    def admits(self, connection: Connection) -> bool:
        """Whether a request of a connection is served; False if it gets a 503."""
        if connection.counts:
            return True
        timer = self._refused.pop(connection, None)  # so that it does not give way to itself
        if timer is None:  # it has been refused
            return False
        if not self._has_room():
            self._refused[connection] = timer
            return False
        timer.cancel()
        self._count += 1
        connection.counts = True
        return True

    def awaits_header(self, connection: Connection) -> None:
        """A connection waits for the header of a request, or for the rest of one."""
        if connection in self._headers or not connection.counts:
            return
        self._idle.pop(connection, None)
        loop = asyncio.get_running_loop()
        self._headers[connection] = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(self._header_s, self._close_late)

    def is_idle(self, connection: Connection) -> None:
        """All requests of a connection have been answered."""
        self._headers.pop(connection, None)
        if connection.counts:
            self._idle[connection] = asyncio.get_running_loop().time()

    def is_busy(self, connection: Connection) -> None:
        """A connection has a request in progress, or it is about to be closed."""
        self._headers.pop(connection, None)
        self._idle.pop(connection, None)

    def _make_room(self, young_s: float = 0.0) -> bool:
        """Close the connection that has waited longest; False if there is none.

        One that has not waited for `young_s` is passed over, and so is one whose client has sent
        something that has only not been read. One that waits for a header may still get it, and
        then a 503.
        """
        connection = self._longest(young_s)
        if connection is None:
            return False
        was_idle = connection in self._idle
        self._give_up(connection)
        if was_idle:
            connection.give_way()
        else:
            self._refuse_soon(connection)
        return True

    def _give_up(self, connection: Connection) -> None:
        self.is_busy(connection)
        self._leave(connection)
        self._cut("made_room")

    def refused(self, connection: Connection) -> None:
        """A connection gets its 503."""
        self._warn("%s): others get a 503", self._reached)
        self._cut("overload")
        self._leave(connection)

    def lingers(self, connection: Connection) -> None:
        """A connection gets its last answer, and is only open for its client to read that."""
        self.is_busy(connection)
        self._leave(connection)
        self._told[connection] = None
        if len(self._told) > MAX_TOLD:
            oldest = next(iter(self._told))
            del self._told[oldest]
            oldest.give_way()

    def answered(self, error: TranslatorError) -> None:
        """The server itself answers a request; such errors leave no line per request in the log."""
        if error.status_hint not in (408, 503):
            self._warn_refused("a client's request gets a %d: %s", error.status_hint, error.message)
            self._cut("refused")

    def out_of_descriptors(self) -> bool:
        """A connection cannot be accepted: close another one; False if all are in use."""
        report_exhaustion("clients cannot connect until others leave")
        if self._told:
            oldest = next(iter(self._told))
            self._leave(oldest)
            oldest.give_way()
        elif self._refused:
            self._refuse(next(iter(self._refused)))
        elif (longest := self._longest(0.0)) is not None:
            self._give_up(longest)
            longest.give_way()
        else:
            self._cut("no_descriptor")
            return False
        return True

    def _has_room(self, young_s: float = 0.0) -> bool:
        if self._count < self.limit:
            return True
        if self._make_room(young_s):
            self._warn("%s): idle ones are closed for new ones", self._reached)
            return True
        if self._uploads is not None and self._uploads.make_room(asyncio.get_running_loop().time()):
            self._warn("%s): slow uploads get a 503 for new ones", self._reached)
            self._cut("made_room")
            return True  # in a moment; until then there is one more
        return False

    def _longest(self, young_s: float) -> Connection | None:
        now = asyncio.get_running_loop().time()
        waiting = merge(self._headers.items(), self._idle.items(), key=itemgetter(1))
        old_enough = takewhile(lambda pair: pair[1] <= now - young_s, waiting)
        looked_at = islice(old_enough, MAX_LOOKS)
        return next((one for one, _ in looked_at if not one.has_unread()), None)

    def _leave(self, connection: Connection) -> None:
        if connection.counts:
            self._count -= 1
            connection.counts = False
        elif connection in self._refused:
            self._refused.pop(connection).cancel()
        else:
            self._told.pop(connection, None)

    def _refuse_soon(self, connection: Connection) -> None:
        """Refuse the first request of a connection, or the connection when none comes."""
        loop = asyncio.get_running_loop()
        self._refused[connection] = loop.call_later(REFUSE_S, self._refuse, connection)
        if len(self._refused) > MAX_REFUSED:
            self._refuse(next(iter(self._refused)))

    def _refuse(self, connection: Connection) -> None:
        self.refused(connection)
        connection.refuse()

    def _close_late(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        while self._headers:
            connection, since = next(iter(self._headers.items()))
            if since + self._header_s > loop.time():
                self._timer = loop.call_at(since + self._header_s, self._close_late)
                return
            self.is_busy(connection)
            self._cut("late_header")
            connection.header_is_late()

    def _cut(self, reason: CutReason) -> None:
        if self._meter is not None:
            self._meter.cut(reason)


def limit_of(server: Server, max_files: int | None) -> int:
    """How many connections there may be: each needs a descriptor, and its request another one."""
    if max_files is None:
        return server.max_connections
    left = max_files - SPARE_DESCRIPTORS
    return max(
        1, min(server.max_connections, max(left // 2, left - server.max_concurrent_requests))
    )


def connections_of(server: Server) -> Connections:
    """The connections of this process."""
    return Connections(server, max_open_files())
