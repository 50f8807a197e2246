"""The health of the books, for an operator: open holds, the processes that have them, orphans."""

from __future__ import annotations

from msgspec import Struct

from translator.service.database.connection import Connection
from translator.service.database.statement import Statement

from .changes import now

MAX_SHOWN = 100
"""Holds, processes and orphans that are shown."""

LATEST = 10_000
"""Requests among which orphans are looked for, the latest ones."""


class OpenHold(Struct, frozen=True):
    """A request that holds something now."""

    id: int
    account_name: str
    key_id: int
    model: str
    endpoint: str
    amount: int
    began_at: int
    seen_at: int | None
    renewed_at: int | None
    """When its process last renewed its lease; None where that is gone."""


class Boot(Struct, frozen=True):
    """A process, and when it last renewed its lease."""

    id: str
    began_at: int
    seen_at: int
    holds: int


class Orphan(Struct, frozen=True):
    """A request whose process died."""

    id: int
    account_name: str
    model: str
    ended_at: int
    amount: int


class Health(Struct, frozen=True, kw_only=True):
    """What there is at one moment."""

    at: int
    holds: list[OpenHold]
    hold_count: int
    held: int
    boots: list[Boot]
    orphans: list[Orphan]


_HOLDS = Statement(
    "SELECT h.id, a.name, h.key_id, h.model, h.endpoint, h.amount, h.began_at, h.seen_at, b.seen_at"
    " FROM acct_holds h JOIN acct_accounts a ON a.id = h.account_id"
    " LEFT JOIN acct_boots b ON b.id = h.boot ORDER BY h.began_at, h.id LIMIT :limit"
)
_HELD = Statement("SELECT count(*), CAST(coalesce(sum(amount), 0) AS BIGINT) FROM acct_holds")
_BOOTS = Statement(
    "SELECT b.id, b.began_at, b.seen_at,"
    " (SELECT count(*) FROM acct_holds h WHERE h.boot = b.id)"
    " FROM acct_boots b ORDER BY b.began_at, b.id LIMIT :limit"
)
_ORPHANS = Statement(
    "SELECT u.hold_id, a.name, u.model, u.ended_at, u.amount FROM acct_usages u"
    " JOIN acct_accounts a ON a.id = u.account_id WHERE u.estimated = 'orphan' AND u.hold_id >"
    " (SELECT coalesce(max(hold_id), 0) FROM acct_usages) - :latest"
    " ORDER BY u.hold_id DESC LIMIT :limit"
)


def health(connection: Connection) -> Health:
    """The health, in one state of the database."""
    limit = {"limit": MAX_SHOWN}
    [(hold_count, held)] = connection.execute(_HELD)
    return Health(
        at=now(connection),
        holds=[OpenHold(*row) for row in connection.execute(_HOLDS, limit)],
        hold_count=hold_count,
        held=held,
        boots=[Boot(*row) for row in connection.execute(_BOOTS, limit)],
        orphans=[Orphan(*row) for row in connection.execute(_ORPHANS, {**limit, "latest": LATEST})],
    )
