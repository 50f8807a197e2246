"""The status of a key: what it has spent, and what it and its account can still spend."""

from __future__ import annotations

from msgspec import Struct

from translator.service.database.connection import Connection
from translator.service.database.statement import Statement

from . import statements as sql
from .books import Account, account_of_id
from .key_book import KeyRow, key_of
from .periods import next_period, period_start
from .usage import Span, spent_in, time_of, total


class KeyStatus(Struct, frozen=True, kw_only=True):
    """A key and its account at one moment; amounts are pico, times microseconds."""

    key: KeyRow
    account: Account
    now: int
    spent: int
    """In the period of its limit, with what its open requests hold."""

    used: int
    used_in_day: int
    used_in_week: int
    used_in_month: int
    account_used: int

    @property
    def left_of_key(self) -> int | None:
        """What is left of the key's own limit; None without one."""
        limit = self.key.limits.limit_amount
        return None if limit is None else limit - self.spent

    @property
    def spendable(self) -> int:
        """What the next request may cost: the lesser of what key and account have."""
        available = self.account.available
        return available if self.left_of_key is None else min(available, self.left_of_key)

    @property
    def next_period(self) -> int | None:
        """When the next period of its limit begins."""
        return next_period(self.key.limits.limit_period, self.now)


_PERIOD = Statement("SELECT period_start, period_spent FROM acct_keys WHERE id = :key")


def read_status(connection: Connection, account: int, key: int) -> KeyStatus | None:
    """The status of a key of an account; None where it has no such key."""
    owner, row = account_of_id(connection, account), key_of(connection, account, key)
    if owner is None or row is None:
        return None
    now = time_of(connection)
    start = period_start(row.limits.limit_period, now)
    [(began, spent)] = connection.execute(_PERIOD, {"key": key})
    [(held,)] = connection.execute(sql.HELD_IN_PERIOD, {"key": key, "start": start})
    return KeyStatus(
        key=row,
        account=owner,
        now=now,
        spent=held + (spent if began == start else 0),
        used=total(connection, account, Span(key=key)).amount,
        used_in_day=spent_in(connection, account, "day", now, key),
        used_in_week=spent_in(connection, account, "week", now, key),
        used_in_month=spent_in(connection, account, "month", now, key),
        account_used=total(connection, account).amount,
    )
