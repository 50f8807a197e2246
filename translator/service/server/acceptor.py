"""Accepts connections on a listening socket, whatever the event loop does without descriptors.

    readable, { accept }, [ no descriptor left: make room, or refuse one ]

Without descriptors, libuv (uvloop) closes each new connection at once and says nothing; asyncio
logs a traceback for each one of the backlog, and clients wait. Here the longest idle connection
makes room; if none is idle, a spare descriptor is used to tell the new client.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import msgspec

from translator.service.base.descriptors import EXHAUSTED
from translator.service.base.errors import TooManyConnections
from translator.service.base.periodic_warning import PeriodicWarning

from .connections import MAX_REFUSED, Connections

PAUSE_S = 0.5
"""The pause after an error that will not pass at once."""

PATIENCE_S, IMPATIENT_S, LEAST_PATIENCE_S = 0.5, 0.1, 0.01
"""The pause while as many connections are being refused as may be at a time: an honest client sends
its request in it, or reads its 503, and leaves. Where nobody leaves, the pause is halved each time;
when it is shorter than the second of these, the oldest ones are closed after it."""

log = logging.getLogger(__name__)

BATCH = MAX_REFUSED // 2
"""Connections that are accepted before the event loop does something else: it reads what those of
the batch before have sent, before one of them has to be refused for the next."""


class Acceptor:
    """One listening socket, from `start` to `close`."""

    def __init__(
        self,
        listener: socket.socket,
        protocol: Callable[[], asyncio.Protocol],
        connections: Connections,
    ) -> None:
        self._listener = listener
        self._protocol = protocol
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._spare: int | None = None
        self._resuming: asyncio.TimerHandle | None = None
        self._patience_s = PATIENCE_S
        self._has_paused = False
        self._warn = PeriodicWarning(log)

    def start(self, backlog: int) -> None:
        self._listener.setblocking(False)
        self._listener.listen(backlog)
        self._open_spare()
        self._loop.add_reader(self._listener, self._accept)

    def close(self) -> None:
        """Accept nothing more. The socket stays open."""
        self._loop.remove_reader(self._listener)
        if self._resuming is not None:
            self._resuming.cancel()
        self._close_spare()

    def serve(self, accepted: socket.socket) -> None:
        """Have the protocol serve a connection."""
        self._run(self._connect(accepted))

    async def connected(self) -> None:
        """Wait until all accepted connections have their protocol."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _accept(self) -> None:
        room = self._connections.room_for_refusals
        if self._has_paused:
            patience_s = self._patience_s * (2 if room else 0.5)
            self._patience_s = min(max(patience_s, LEAST_PATIENCE_S), PATIENCE_S)
        if room == 0 and not (self._has_paused and self._patience_s < IMPATIENT_S):
            self._pause(self._patience_s)
            return
        self._has_paused = False
        for _ in range(min(room, BATCH) or BATCH):
            try:
                accepted, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._failed(error)
                return
            self.serve(accepted)

    async def _connect(self, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        try:
            await self._loop.connect_accepted_socket(self._protocol, accepted)
        except OSError:  # it is gone already
            accepted.close()

    def _failed(self, error: OSError) -> None:
        if error.errno not in EXHAUSTED:
            self._warn("a connection cannot be accepted: %s", error)
            self._pause(PAUSE_S)
        elif not self._connections.out_of_descriptors() and not self._refuse():
            self._pause(PAUSE_S)

    def _refuse(self) -> bool:
        """Accept one connection by the spare descriptor and respond with a 503, if possible."""
        self._close_spare()
        with suppress(OSError):
            accepted, _ = self._listener.accept()
            with accepted, suppress(OSError):
                accepted.setblocking(False)
                with suppress(BlockingIOError):
                    accepted.recv(64 * 1024)  # unread data would reset the connection
                accepted.send(_REFUSAL)
                accepted.shutdown(socket.SHUT_WR)
        return self._open_spare()

    def _open_spare(self) -> bool:
        if self._spare is None:
            with suppress(OSError):
                self._spare = os.open(os.devnull, os.O_RDONLY)
        return self._spare is not None

    def _close_spare(self) -> None:
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._listener)
        self._resuming = self._loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        self._resuming = None
        self._has_paused = True
        self._open_spare()
        self._loop.add_reader(self._listener, self._accept)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _refusal() -> bytes:
    body = msgspec.json.encode(TooManyConnections().envelope())
    return (
        b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\nretry-after: 1\r\nconnection: close\r\n\r\n%b" % (len(body), body)
    )


_REFUSAL = _refusal()
