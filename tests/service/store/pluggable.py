"""Databases that can be taken away from a service for good, as `kill -9` takes the service away.

Of what it was writing nothing is committed, and it never writes again. Each commit is checked, too:
what others see of the store then is whole.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager

from translator.service.config.store import Location
from translator.service.database import database
from translator.service.database.connection import Connection, PostgresConnection, SqliteConnection
from translator.service.database.errors import Unavailable
from translator.service.database.statement import DatabaseTime, Statement

HALF = Statement(
    """
    SELECT 'a response without its body: ' || r.id FROM resp_responses r
    WHERE r.deleted_at IS NULL AND NOT EXISTS (SELECT 1 FROM resp_bodies b WHERE b.response = r.n)
    UNION ALL
    SELECT 'a response without its output: ' || r.id FROM resp_responses r
    WHERE r.deleted_at IS NULL AND r.status IN ('completed', 'incomplete') AND r.temporary = 0
        AND NOT EXISTS (
            SELECT 1 FROM resp_response_items x WHERE x.response = r.n AND x.side = 1
        )
    UNION ALL
    SELECT 'an item that is missing: ' || x.item FROM resp_response_items x
    WHERE NOT EXISTS (SELECT 1 FROM resp_items i WHERE i.n = x.item)
    UNION ALL
    SELECT 'an item that nothing names: ' || i.id FROM resp_items i
    WHERE NOT EXISTS (SELECT 1 FROM resp_response_items x WHERE x.item = i.n)
        AND NOT EXISTS (SELECT 1 FROM resp_conversation_items y WHERE y.item = i.n)
    UNION ALL
    SELECT 'a log with a gap: ' || e.response FROM resp_events e
    JOIN resp_responses r ON r.n = e.response
    WHERE e.last_seq > r.last_seq OR e.first_seq > e.last_seq
        OR (e.first_seq > 0 AND r.deleted_at IS NULL AND NOT EXISTS (
            SELECT 1 FROM resp_events f
            WHERE f.response = e.response AND f.last_seq = e.first_seq - 1
        ))"""
)
"""What must be nowhere at the moment of any commit."""


class Plug(DatabaseTime):
    """The time of one service's database; `pull` takes that away."""

    def __init__(self) -> None:
        super().__init__()
        self.pulled = False
        self.halves: list[str] = []
        """What was not whole when something was committed."""

    def pull(self) -> None:
        self.pulled = True

    def require(self) -> None:
        if self.pulled:
            raise Unavailable("the database was taken away")


class _Sqlite(SqliteConnection):
    time: Plug

    def begin(self, *, writes: bool, durable: bool = True) -> None:
        self.time.require()
        super().begin(writes=writes, durable=durable)

    def commit(self) -> None:
        self.time.require()
        super().commit()
        self.time.halves += _halves(self)


class _Postgres(PostgresConnection):
    time: Plug

    def begin(self, *, writes: bool, durable: bool = True) -> None:
        self.time.require()
        super().begin(writes=writes, durable=durable)

    def commit(self) -> None:
        self.time.require()
        super().commit()
        self.time.halves += _halves(self)


def _halves(connection: Connection) -> Iterable[str]:
    return [what for (what,) in connection.execute(HALF)]


@contextmanager
def pluggable() -> Generator[None]:
    """Services have such databases; their times are plugs."""

    def connect(
        location: Location, time: DatabaseTime, *, max_bytes: int = 0, statement_s: float = 10.0
    ) -> Connection:
        assert isinstance(time, Plug)
        time.require()
        if location.kind == "sqlite":
            return _Sqlite(location.target, time, max_bytes, statement_s)
        return _Postgres(location.target, time, statement_s)

    usual = database.connect
    database.connect = connect  # type: ignore[assignment]
    try:
        yield
    finally:
        database.connect = usual
