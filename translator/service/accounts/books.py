"""What an operator does to accounts and their money: each in one transaction.

Ids outside are texts: `acct_3`, `key_17`. A reference makes a top-up or an adjustment happen once,
however often it is asked for.
"""

from __future__ import annotations

from msgspec import Struct

from translator.service.database.connection import Connection, Row
from translator.service.database.statement import Statement

from . import statements as sql
from .ceilings import NO_CEILING, Ceiling, ceiling_text, read_ceiling
from .changes import Mistake, changed
from .channel_book import EVERYTHING, check_tools, set_channel
from .keys import ALL, Channel, read_names
from .money import MAX_BALANCE, shown
from .price_book import STANDARD, add_price_list
from .settlements import enter


class Account(Struct, frozen=True):
    """An account; amounts are pico, times microseconds."""

    id: int
    name: str
    balance: int
    held: int
    credit: int
    suspended_at: int | None
    created_at: int
    channels: tuple[str, ...] | None = None
    """The channels that members may give keys; see `member_channels`."""

    ceiling: Ceiling = NO_CEILING
    """The limits of keys that members make."""

    @property
    def available(self) -> int:
        """What requests can still use."""
        return self.balance + self.credit - self.held


class Entry(Struct, frozen=True):
    """An entry of the ledger that a reference made; `new`: just now."""

    id: int
    amount: int
    new: bool


_META = Statement("SELECT value FROM acct_meta WHERE key = :key")
_SET_META = Statement("INSERT INTO acct_meta (key, value) VALUES (:key, :value)")


def initialize(connection: Connection, currency: str) -> bool:
    """Write what new tables begin with; False where they have it. Raises Mistake."""
    found = connection.execute(_META, {"key": "currency"})
    if found:
        if problem := check_currency(connection, currency):
            raise Mistake(problem)
        return False
    connection.change(_SET_META, {"key": "currency", "value": currency})
    add_price_list(connection, STANDARD)
    set_channel(connection, Channel(EVERYTHING, "All models", (ALL,), STANDARD))
    return True


def check_currency(connection: Connection, currency: str) -> str:
    """What is wrong with a currency of the settings; empty where it is that of the database."""
    rows = connection.execute(_META, {"key": "currency"})
    if not rows:
        return "the database has none yet; run: translator account init --config FILE"
    [(fixed,)] = rows
    return "" if fixed == currency else f"is {currency}, and all amounts are in {fixed}"


# --- accounts ----------------------------------------------------------------------------------

ACCOUNT_COLUMNS = "id, name, balance, held, credit, suspended_at, created_at, channels, ceiling"
_ACCOUNTS = Statement(f"SELECT {ACCOUNT_COLUMNS} FROM acct_accounts ORDER BY id")
_ACCOUNT = Statement(f"SELECT {ACCOUNT_COLUMNS} FROM acct_accounts WHERE name = :name")
_ACCOUNT_OF_ID = Statement(f"SELECT {ACCOUNT_COLUMNS} FROM acct_accounts WHERE id = :id")
_NEW_ACCOUNT = Statement(
    "INSERT INTO acct_accounts (name, credit, created_at)"
    f" VALUES (:name, :credit, {sql.NOW}) ON CONFLICT (name) DO NOTHING RETURNING id"
)
_CREDIT = Statement("UPDATE acct_accounts SET credit = :credit WHERE id = :id")
_SUSPEND = Statement(
    f"UPDATE acct_accounts SET suspended_at = coalesce(suspended_at, {sql.NOW}) WHERE id = :id"
)
_RESUME = Statement("UPDATE acct_accounts SET suspended_at = NULL WHERE id = :id")
_SET_CEILING = Statement("UPDATE acct_accounts SET ceiling = :ceiling WHERE id = :id")


def accounts(connection: Connection) -> list[Account]:
    """All accounts, oldest first."""
    return [read_account(row) for row in connection.execute(_ACCOUNTS)]


def account(connection: Connection, name: str) -> Account:
    """The account of a name; raises Mistake."""
    for row in connection.execute(_ACCOUNT, {"name": name}):
        return read_account(row)
    known = ", ".join(one.name for one in accounts(connection)[:20]) or "none"
    raise Mistake(f"there is no account {name!r}; known: {known}")


def account_of_id(connection: Connection, account_id: int) -> Account | None:
    """The account of an id; None where there is none."""
    rows = connection.execute(_ACCOUNT_OF_ID, {"id": account_id})
    return read_account(rows[0]) if rows else None


def read_account(row: Row) -> Account:
    """An account as ACCOUNT_COLUMNS have it."""
    values = list(row)
    values[-2:] = read_names(values[-2]), read_ceiling(values[-1])
    return Account(*values)


def add_account(connection: Connection, name: str, credit: int = 0) -> int:
    """A new account's id; `credit` is the debt that it may have. Raises Mistake."""
    rows = connection.execute(_NEW_ACCOUNT, {"name": name, "credit": credit})
    if not rows:
        raise Mistake(f"there is an account {name!r} already")
    return int(rows[0][0])


def set_credit(connection: Connection, name: str, credit: int) -> None:
    """Let an account have another debt."""
    connection.change(_CREDIT, {"id": account(connection, name).id, "credit": credit})


def set_ceiling(connection: Connection, name: str, ceiling: Ceiling) -> None:
    """Limit the keys that members of an account make; keys keep what they have. Raises Mistake."""
    check_tools(ceiling.tools)
    if (ceiling.limit_amount is None) != (ceiling.limit_period is None):
        raise Mistake("a limit has an amount and a period")
    values = {"id": account(connection, name).id, "ceiling": ceiling_text(ceiling)}
    connection.change(_SET_CEILING, values)


def suspend(connection: Connection, name: str, *, suspended: bool) -> None:
    """Refuse all requests of an account, or no longer."""
    found = account(connection, name)
    connection.change(_SUSPEND if suspended else _RESUME, {"id": found.id})
    changed(connection)


def top_up(connection: Connection, name: str, amount: int, ref: str, actor: str) -> Entry:
    """Add money to an account, once for each reference; raises Mistake."""
    if amount <= 0:
        raise Mistake("a top-up is more than 0; an adjustment takes money away")
    return _book(connection, "topup", account(connection, name), amount, ref, actor, "")


def adjust(connection: Connection, name: str, amount: int, why: str, ref: str, actor: str) -> Entry:
    """Change the balance of an account, for a reason, once for each reference; raises Mistake."""
    if not amount:
        raise Mistake("an adjustment of 0 changes nothing")
    return _book(connection, "adjustment", account(connection, name), amount, ref, actor, why)


def _book(
    connection: Connection,
    kind: str,
    to: Account,
    amount: int,
    ref: str,
    actor: str,
    note: str,
) -> Entry:
    assert kind in ("topup", "adjustment")
    rows = connection.execute(sql.ACCOUNT, {"account": to.id})  # locked: nobody else books
    at = rows[0][-1]
    for entry, owner, before in connection.execute(sql.ENTRY_OF_REF, {"kind": kind, "ref": ref}):
        if owner != to.id or before != amount:
            raise Mistake(f"the reference {ref!r} is that of another {kind}, entry {entry}")
        return Entry(entry, before, new=False)
    if abs(rows[0][0] + amount) > MAX_BALANCE:
        raise Mistake(f"the balance would be beyond {shown(MAX_BALANCE)}")
    values = {"account": to.id, "amount": amount}
    [(balance,)] = connection.execute(sql.CHANGE_BALANCE, values)
    made = enter(
        connection,
        "topup" if kind == "topup" else "adjustment",
        ref=ref,
        account=to.id,
        amount=amount,
        balance=balance,
        now=at,
        actor=actor,
        note=note,
    )
    return Entry(made, amount, new=True)
