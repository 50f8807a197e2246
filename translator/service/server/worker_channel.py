"""The channel between a worker process and its parent, and what else the parent shares with it."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterable

from translator.service.access.clients import NewClient
from translator.service.config.settings import Settings

log = logging.getLogger(__name__)

READY = b"+"
"""The byte by which a worker reports that it serves."""


class WorkerChannel:
    """A worker's end: listening sockets from the parent, readiness to it, and its death."""

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

    def report_ready(self, on_parent_gone: Callable[[], None]) -> None:
        """Report that this worker serves; the callback is called when the parent has died."""
        self._parent.setblocking(False)
        self._parent.send(READY)
        asyncio.get_running_loop().add_reader(self._parent, on_parent_gone)
