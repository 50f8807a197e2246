"""uvicorn, but it stops in our way: what has begun is finished, while there is time.

    SIGTERM | SIGHUP, linger, drain, [ end ], [ abort ], gone ;

linger  no more connections; a request that is on its way on an open one is still answered
drain   open answers go on, WebSockets take no more requests
end     answers that are still open end in a failure that clients retry
abort   clients that do not even take that
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from translator.service.base.drain import Drain

from .http1 import Http1

READY = b"+"
"""What a worker says to its parent when it serves."""

LINGER_S = 0.5
"""How long an idle connection stays open for a request that its client may just be sending."""

END_S = 5.0
"""How long clients have to take the failure of an answer that was cut."""

CLOSE_S = 25.0
"""How long spans and traces that wait may then take, where whoever gets them does not answer."""

_TICK_S = 0.05


class Post:
    """What one worker among several is given by the process that started it."""

    def __init__(self, parent: int, listeners: Iterable[int]) -> None:
        """File descriptors: of a connection to the parent, and of listening sockets."""
        self.listeners = [socket.socket(fileno=number) for number in listeners]
        self._parent = socket.socket(fileno=parent)

    def taken(self, when_alone: Callable[[], None]) -> None:
        """Say that this worker serves; `when_alone` is called when the parent is gone."""
        self._parent.setblocking(False)
        self._parent.send(READY)
        asyncio.get_running_loop().add_reader(self._parent, when_alone)


class Service(uvicorn.Server):
    """One process that serves."""

    def __init__(
        self, config: uvicorn.Config, drain: Drain, drain_s: float, post: Post | None = None
    ) -> None:
        super().__init__(config)
        self._drain = drain
        self._drain_s = drain_s
        self._post = post

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
            # a terminal that is closed says so; `nohup` has it ignored
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._stop)
        if self._post is not None:
            self._post.taken(self._stop)

    def _stop(self) -> None:
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        state = self.server_state
        waiting = list(_waiting(sockets or []))
        for server in self.servers:
            server.close()
        for sock in sockets or []:
            sock.close()
        state.default_headers = [*state.default_headers, (b"connection", b"close")]
        for sock in waiting:
            with suppress(OSError):
                await asyncio.get_running_loop().connect_accepted_socket(self._protocol, sock)
        self._drain.begin()
        idle = self._linger()
        if idle:
            await self._gone(LINGER_S)
        for connection in filter(_is_idle, idle):
            connection.shutdown()
        if not await self._gone(self._drain_s):
            self._drain.end()
        if not await self._gone(END_S):
            for open_one in list(state.connections):
                open_one.transport.abort()
        await self._gone(END_S)
        if not self.force_exit:
            await self.lifespan.shutdown()

    def _linger(self) -> list[Http1]:
        """Have connections end soon after their answers; those that wait for a request now.

        Not with their answers: the head of those did not say so, and the next request may be on its
        way already.
        """
        self.config.timeout_keep_alive = LINGER_S  # type: ignore[assignment] # of those to come
        connections = [one for one in self.server_state.connections if isinstance(one, Http1)]
        for connection in connections:
            connection.timeout_keep_alive = LINGER_S  # type: ignore[assignment]
        return list(filter(_is_idle, connections))

    def _protocol(self) -> asyncio.Protocol:
        """For a connection, as uvicorn makes it."""
        make = cast("Callable[..., asyncio.Protocol]", self.config.http_protocol_class)
        return make(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )

    async def _gone(self, seconds: float) -> bool:
        """Wait until all connections and requests are gone; False when they are not in time."""
        state = self.server_state
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while (state.connections or state.tasks) and not self.force_exit:
            if loop.time() >= until:
                return False
            await asyncio.sleep(_TICK_S)
        return True


def _waiting(listeners: Iterable[socket.socket]) -> Iterable[socket.socket]:
    """The connections that the system holds for us: with the listener they would be lost."""
    for listener in listeners:
        listener.setblocking(False)
        with suppress(OSError):
            while True:
                accepted, _ = listener.accept()
                yield accepted


def _is_idle(connection: Http1) -> bool:
    cycle = cast("RequestResponseCycle | None", connection.cycle)  # None before the first request
    return cycle is None or cycle.response_complete
