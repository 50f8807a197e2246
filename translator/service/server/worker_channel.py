"""The channel between a worker process and its parent."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable

READY = b"+"
"""The byte by which a worker reports that it serves."""


class WorkerChannel:
    """A worker's end: listening sockets from the parent, readiness to it, and its death."""

    def __init__(self, parent: int, listeners: Iterable[int]) -> None:
        """File descriptors: of a connection to the parent, and of listening sockets."""
        self.listeners = [socket.socket(fileno=number) for number in listeners]
        self._parent = socket.socket(fileno=parent)

    def report_ready(self, on_parent_gone: Callable[[], None]) -> None:
        """Report that this worker serves; the callback is called when the parent has died."""
        self._parent.setblocking(False)
        self._parent.send(READY)
        asyncio.get_running_loop().add_reader(self._parent, on_parent_gone)
