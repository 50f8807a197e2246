"""A uvicorn.Server with our own graceful shutdown: open exchanges may finish, while there is time.

    SIGINT | SIGTERM | SIGHUP, linger, drain, [ end ], [ abort ], closed ;

linger  no new connections, and no more requests on WebSockets; a request that is on its way on
        another open connection is still answered
drain   open responses continue
end     responses that are still open end in a failure that clients retry
abort   connections of clients that do not even read that

A second Ctrl-C skips to `end`, a third one waits for nothing.

It uses what uvicorn does not document. `_NEEDS` names it; pyproject.toml bounds uvicorn's version.
Where something is missing, uvicorn's own shutdown is used.
"""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from translator.service.base.drain import Drain
from translator.service.base.internals import missing_attributes, warn_once

from .acceptor import Acceptor
from .http1 import Http1
from .shutdown_times import END_S, FORCE_S, IDLE_LINGER_S
from .warm_up import warm_up_later
from .worker_channel import WorkerChannel

_TICK_S = 0.05

log = logging.getLogger(__name__)

_NEEDS: dict[type, str] = {
    uvicorn.Server: "server_state servers config lifespan force_exit startup handle_exit",
    uvicorn.Config: "http_protocol_class timeout_keep_alive",
    ServerState: "connections tasks default_headers",
    HttpToolsProtocol: "cycle timeout_keep_alive shutdown",
    RequestResponseCycle: "response_complete",
}

MISSING = missing_attributes(_NEEDS)


class GracefulServer(uvicorn.Server):
    """Serves until a signal, then shuts down as above."""

    def __init__(
        self,
        config: uvicorn.Config,
        drain: Drain,
        drain_s: float,
        channel: WorkerChannel | None = None,
    ) -> None:
        """`channel` is that of one worker among several."""
        super().__init__(config)
        self._drain = drain
        self._drain_s = drain_s
        self._channel = channel
        self._acceptors: list[Acceptor] = []
        self._interrupted = False  # by Ctrl-C
        self._hurries = False
        if MISSING:
            warn_once("uvicorn", MISSING, "its own shutdown is used, which may cut responses off")
            config.timeout_graceful_shutdown = math.ceil(drain_s)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        make: object = self.config.http_protocol_class
        connections = make.keywords.get("connections") if isinstance(make, partial) else None
        if MISSING or connections is None or sys.platform == "win32":  # uvicorn accepts by itself
            await super().startup(sockets)
        else:
            await super().startup([])
            for listener in sockets or []:
                acceptor = Acceptor(listener, self._protocol, connections)
                acceptor.start(self.config.backlog)
                self._acceptors.append(acceptor)
        if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
            # sent when the terminal is closed; `nohup` has it ignored
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._stop)
        if self._channel is not None:
            self._channel.report_ready(self._stop)
        warm_up_later(websocket=self.config.ws_protocol_class is not None)

    def _stop(self) -> None:
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._interrupted = self._interrupted or sig == signal.SIGINT
        if MISSING or not self.should_exit:
            super().handle_exit(sig, frame)
        elif sig == signal.SIGINT:  # not SIGTERM, which service managers may send to each process
            self.force_exit = self._hurries
            self._hurries = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if MISSING:
            self._drain.begin()
            await super().shutdown(sockets)
            return
        await self._close_listeners(sockets or [])
        self._announce()
        self._drain.begin()
        await self._close_idle()
        if not await self._all_closed(self._drain_s, unless_in_a_hurry=True):
            if self._drain.open:
                log.warning("shutting down: ending %s now", _counted(self._drain.open))
            self._drain.end()
        if not await self._all_closed(END_S):
            for connection in list(self.server_state.connections):
                connection.transport.abort()
        await self._all_closed(END_S)
        with suppress(TimeoutError):
            async with asyncio.timeout(FORCE_S if self.force_exit else None):
                await self.lifespan.shutdown()

    def _announce(self) -> None:
        """Log what the shutdown waits for."""
        if not self._drain.open:
            log.info("shutting down: no request is open")
            return
        hint = "; press Ctrl-C again to end them now" if self._interrupted else ""
        waits_for = _counted(self._drain.open)
        log.warning(
            "shutting down: waiting up to %g s for %s (streams and others)%s",
            self._drain_s,
            waits_for,
            hint,
        )

    async def _close_listeners(self, listeners: list[socket.socket]) -> None:
        """Accept no more connections than have been made by now."""
        state = self.server_state
        for acceptor in self._acceptors:
            acceptor.close()
            await acceptor.connected()
        waiting = list(_waiting(listeners))
        for server in self.servers:
            server.close()
        for listener in listeners:
            listener.close()
        state.default_headers = [*state.default_headers, (b"connection", b"close")]
        for accepted in waiting:
            with suppress(OSError):
                await asyncio.get_running_loop().connect_accepted_socket(self._protocol, accepted)

    async def _close_idle(self) -> None:
        """Close idle connections after IDLE_LINGER_S, busy ones so long after their responses.

        Not at once: the headers of those did not announce it, and the next request may be on its
        way already.
        """
        self.config.timeout_keep_alive = IDLE_LINGER_S  # type: ignore[assignment] # of later ones
        idle: list[Http1] = []
        for connection in list(self.server_state.connections):
            if isinstance(connection, Http1):
                connection.timeout_keep_alive = IDLE_LINGER_S  # type: ignore[assignment]
                if _is_idle(connection):
                    idle.append(connection)
            elif isinstance(connection, HttpToolsProtocol):  # where ours does not fit
                connection.shutdown()
        if idle:
            await self._all_closed(IDLE_LINGER_S, unless_in_a_hurry=True)
        for connection in filter(_is_idle, idle):
            connection.shutdown()

    def _protocol(self) -> asyncio.Protocol:
        """The protocol of a connection, as uvicorn makes it."""
        make = cast("Callable[..., asyncio.Protocol]", self.config.http_protocol_class)
        return make(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )

    async def _all_closed(self, seconds: float, *, unless_in_a_hurry: bool = False) -> bool:
        """Wait for the end of all connections and requests; False when they take too long.

        Too long `unless_in_a_hurry` is any time after a second Ctrl-C.
        """
        state = self.server_state
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while not self.force_exit and (
            state.connections or state.tasks or self._drain.in_background
        ):
            if loop.time() >= until or (unless_in_a_hurry and self._hurries):
                return False
            await asyncio.sleep(_TICK_S)
        return True


def _counted(requests: int) -> str:
    return f"{requests} open response{'' if requests == 1 else 's'}"


def _waiting(listeners: Iterable[socket.socket]) -> Iterable[socket.socket]:
    """The connections in the backlog: they would be lost with the listener."""
    for listener in listeners:
        listener.setblocking(False)
        with suppress(OSError):
            while True:
                accepted, _ = listener.accept()
                yield accepted


def _is_idle(connection: Http1) -> bool:
    cycle = cast("RequestResponseCycle | None", connection.cycle)  # None before the first request
    return cycle is None or cycle.response_complete
