"""The channel between a worker process and its parent, and what else the parent shares with it.

    worker → parent     READY, { BEAT }, [ CLOSING ]        one byte each
    parent → worker     nothing; its end shows that the parent is gone

The event loop of a worker sends the beats, so a loop that stands still is noticed. A worker whose
parent is gone shuts down; a thread sees to it where the loop stands still, or takes too long.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from translator.service.access.clients import NewClient
from translator.service.config.settings import Settings
from translator.service.telemetry.shared_metrics import FOLDER

log = logging.getLogger(__name__)

READY = b"+"
"""The byte by which a worker reports that it serves."""

BEAT = b"."
"""The byte by which its event loop shows that it runs."""

CLOSING = b"-"
"""The byte by which it says that there will be no more beats."""

BEAT_S = 1.0
"""Seconds between two beats."""

ORPHAN_S = 10.0
"""How long the event loop of a worker without a parent may stand still."""

PEERS_BUFFER = 256 * 1024
"""Bytes that wait on the socket for the other workers, in either direction."""

_CHECK_S = 0.5


class WorkerChannel:
    """A worker's end: listening sockets from the parent, readiness and beats to it, its death."""

    def __init__(
        self, parent: int, listeners: Iterable[int], limits: tuple[int, int] | None = None
    ) -> None:
        """File descriptors: of a connection to the parent, and of listening sockets.

        `limits` are the file descriptor of the file with the limits of clients, and the column of
        this worker there. A parent of another version gives none.
        """
        self.listeners = [socket.socket(fileno=number) for number in listeners]
        self._parent = socket.socket(fileno=parent)
        self._limits = limits
        self._folder = os.environ.get(FOLDER)
        self._beat_at = time.monotonic()
        self._beats = True

    def client_factory(self, settings: Settings) -> NewClient | None:
        """Makes clients whose limits are those of all workers; None where that cannot be."""
        from translator.service.access.shared_limits import LayoutUnknown, SharedLimits

        if not settings.clients:
            return None
        try:
            if self._limits is not None:
                shared = SharedLimits(*self._limits)
                shared.attach(settings.clients)
                return shared.client
        except LayoutUnknown:
            pass
        log.warning("the parent is of another version: limits of clients are those of each worker")
        return None

    def open_peers(self) -> socket.socket | None:
        """A socket on which the other workers ask what is being answered; None without a place.

        Only this user can write to it.
        """
        if self._folder is None:
            return None
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            path = Path(_short(self._folder), f"answers-{os.getppid()}-{os.getpid()}.sock")
            path.unlink(missing_ok=True)
            os.fchmod(sock.fileno(), 0o600)  # before it has a name; not every system heeds it
            sock.bind(str(path))
            path.chmod(0o600)
        except OSError as error:
            sock.close()
            log.warning("the page at / shows the answers of one worker only: %s", error)
            return None
        sock.setblocking(False)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, option, PEERS_BUFFER)
        return sock

    def end_with_parent(self, limit_s: float) -> None:
        """End this process if the parent is gone and it does not end by itself.

        At once when its event loop stands still, else after `limit_s`.
        """
        threading.Thread(target=self._watch, args=[limit_s], name="parent", daemon=True).start()

    def _watch(self, limit_s: float) -> None:
        poll = select.poll()
        poll.register(self._parent, 0)  # a hang-up is reported all the same
        poll.poll()
        gone_at = time.monotonic()
        while time.monotonic() - gone_at < limit_s:
            if self._beats and time.monotonic() - self._beat_at > ORPHAN_S:
                break
            time.sleep(_CHECK_S)
        os._exit(1)

    def report_ready(self, on_parent_gone: Callable[[], None]) -> None:
        """Report that this worker serves; the callback is called when the parent has died."""
        self._parent.setblocking(False)
        self._send(READY)
        asyncio.get_running_loop().add_reader(self._parent, on_parent_gone)
        self._beat()

    def _beat(self) -> None:
        self._beat_at = time.monotonic()
        self._send(BEAT)
        asyncio.get_running_loop().call_later(BEAT_S, self._beat)

    def close(self) -> None:
        """The event loop has ended; what is left to do has a bound of its own."""
        self._beats = False
        self._send(CLOSING)

    def _send(self, byte: bytes) -> None:
        with suppress(OSError):  # the parent is gone, or stopped and the buffer is full
            self._parent.send(byte)


def _short(folder: str) -> str:
    """A short name of a folder, for as long as this process lives: those of sockets are bounded."""
    if not Path("/proc/self/fd").exists():
        return folder
    return f"/proc/self/fd/{os.open(folder, os.O_RDONLY | os.O_DIRECTORY)}"
