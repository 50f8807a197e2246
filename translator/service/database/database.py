"""A database, as a room of the service uses it: reads, and writes that are grouped into commits.

    read(work)      in one of two threads, in a transaction that sees one state
    write(work)     in the writer's thread, with others in one transaction

Work is a function of a connection, and runs in a thread: it must touch nothing that the event loop
uses. Connections are made when they are needed, and made again when they are lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from translator.service.config.store import Location

from .connection import Connection, connect, reading
from .meter import DatabaseMeter, NullMeter
from .readers import Readers
from .schema import Room, check_version
from .statement import DatabaseTime
from .writer import Writer
from .writes import Write

T = TypeVar("T")


class Database:
    """The database of one room, for the life of a process. `open` and `aclose` frame its use."""

    def __init__(
        self,
        location: Location,
        room: Room,
        *,
        max_queue_bytes: int,
        max_file_bytes: int = 0,
        read_wait_s: float,
        make_space: Callable[[Connection], int] | None = None,
        prepared: bool = False,
        time: DatabaseTime | None = None,
        meter: DatabaseMeter | None = None,
    ) -> None:
        """`max_file_bytes` is the largest size of a SQLite file, 0 any; `time` is for tests.

        `make_space` deletes what is not needed, as in `Writer`. `prepared`: the tables have been
        those of this release; a newer one may migrate them while the process runs.
        `meter` counts what is done.
        """
        self.location = location
        self._room = room
        self._max_queue_bytes = max_queue_bytes
        self._max_file_bytes = max_file_bytes
        self._read_wait_s = read_wait_s
        self._make_space = make_space
        self._prepared = prepared
        self._time = time or DatabaseTime()
        self._meter = meter or NullMeter()
        self._readers: Readers
        self._writer: Writer

    def open(self) -> None:
        """Start the threads; none of them connects before there is something to do."""
        self._readers = Readers(self._room.name, self._connect_reader, self._meter)
        self._writer = Writer(
            self._room.name,
            self._connect,
            max_bytes=self._max_queue_bytes,
            meter=self._meter,
            make_space=self._make_space,
        )

    async def aclose(self) -> None:
        """Write what waits, and end the threads.

        It takes 6 s at most, and 4 s where the database is away.
        """
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._writer.close()
        self._readers.close()

    def _connect(self) -> Connection:
        connection = connect(self.location, self._time, max_bytes=self._max_file_bytes)
        return self._checked(connection)

    def _connect_reader(self) -> Connection:
        return self._checked(connect(self.location, self._time, statement_s=self._read_wait_s))

    def _checked(self, connection: Connection) -> Connection:
        try:
            with reading(connection):
                check_version(connection, self._room, may_be_newer=self._prepared)
        except BaseException:
            connection.close()
            raise
        self._prepared = True
        return connection

    @property
    def failing(self) -> bool:
        """Whether writes wait because transactions fail."""
        return self._writer.failing and not self._writer.idle

    @property
    def full(self) -> bool:
        """Whether there was no space left, as far as is known; what is freed does not change it."""
        return self._writer.full

    @property
    def waiting(self) -> tuple[int, int]:
        """The number of writes that wait, and their bytes."""
        return self._writer.waiting

    async def read(self, work: Callable[[Connection], T]) -> T:
        """What `work` reads; raises Unavailable."""
        return await self._readers.read(work, self._read_wait_s)

    def write(
        self,
        work: Callable[[Connection], T],
        *,
        size: int,
        keep_trying_s: float,
        durable: bool = True,
        undo: Callable[[Connection], None] | None = None,
        alone: bool = False,
        group: int | None = None,
        needed: bool = False,
    ) -> Write[T]:
        """A write that is queued, as in `Writer.submit`; raises Unavailable."""
        return self._writer.submit(
            work,
            size=size,
            keep_trying_s=keep_trying_s,
            durable=durable,
            undo=undo,
            alone=alone,
            group=group,
            needed=needed,
        )
