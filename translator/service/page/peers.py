"""The other workers' answers in progress: datagrams between the workers of one parent.

    worker  ── ask(number, client) ──►  each other worker
            ◄── sample(number, rows) ──

Each worker has a socket in the folder that their parent made, readable by its user alone. Nothing
is sent while nobody looks, and nothing is held for a worker that does not answer.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from .running import Row, Running

ANSWER_S = 0.25
"""How long the samples of the other workers may take."""

MAX_DATAGRAM = 128 * 1024
"""Largest sample, in bytes; a larger one is sent with fewer rows."""

MAX_PEERS = 256
"""How many workers are asked."""

_AT_ONCE = 64  # datagrams that are read before other tasks have their turn


class Ask(Struct, frozen=True, tag="ask"):
    """What is being answered there? With `client`, by its requests alone."""

    number: int
    client: str | None


class Sample(Struct, frozen=True, tag="sample"):
    """What is being answered here."""

    number: int
    rows: list[Row]
    total: int


_decode = msgspec.json.Decoder(Ask | Sample).decode
_encode = msgspec.json.Encoder().encode


class Peers:
    """The socket of one worker, among those of the others."""

    def __init__(self, sock: socket.socket, here: Callable[[str | None], Running]) -> None:
        """`sock` is bound and does not block; `here` samples this worker."""
        self._sock = sock
        self._here = here
        self._path = Path(sock.getsockname())
        self._prefix = self._path.name.rpartition("-")[0] + "-"
        self._numbers = itertools.count(1)
        self._open: dict[int, tuple[list[Sample], int, asyncio.Event]] = {}

    async def ask(self, client: str | None) -> tuple[list[Running], int]:
        """The samples of the other workers, and how many did not answer in time."""
        number = next(self._numbers)
        asked = sum(self._send(path, Ask(number, client)) for path in self._others())
        if not asked:
            return [], 0
        samples, event = list[Sample](), asyncio.Event()
        self._open[number] = samples, asked, event
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(ANSWER_S):
                    await event.wait()
        finally:
            del self._open[number]
        return [Running(one.rows, one.total) for one in samples], asked - len(samples)

    def receive(self) -> None:
        """Read what has come; to be called when the socket is readable."""
        for _ in range(_AT_ONCE):
            try:
                data, sender = self._sock.recvfrom(MAX_DATAGRAM)
            except OSError:
                return
            with suppress(msgspec.DecodeError):
                self._received(_decode(data), sender)

    def _received(self, message: Ask | Sample, sender: object) -> None:
        # Each process has a name of its own for the folder.
        name = Path(sender).name if isinstance(sender, str) else ""
        if not name.startswith(self._prefix):
            return
        if isinstance(message, Ask):
            here = self._here(message.client)
            path = self._path.with_name(name)
            self._send(path, Sample(message.number, here.rows, here.total))
            return
        samples, asked, event = self._open.get(message.number, (None, 0, None))
        if samples is not None and event is not None:
            samples.append(message)
            if len(samples) == asked:
                event.set()

    def _others(self) -> list[Path]:
        found = self._path.parent.glob(f"{self._prefix}*.sock")
        return [path for path in itertools.islice(found, MAX_PEERS) if path != self._path]

    def _send(self, path: Path, message: Ask | Sample) -> bool:
        """Whether it was sent: not to a worker that is gone, or whose buffer is full."""
        while True:
            try:
                self._sock.sendto(_encode(message), str(path))
            except ConnectionRefusedError:
                with suppress(OSError):
                    path.unlink(missing_ok=True)  # of a worker that was killed
                return False
            except OSError as error:
                if error.errno != errno.EMSGSIZE or isinstance(message, Ask) or not message.rows:
                    return False
                half = message.rows[: len(message.rows) // 2]
                message = Sample(message.number, half, message.total)
            else:
                return True
