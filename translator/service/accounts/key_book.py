"""What an operator does to keys. A key holds no money, and is never deleted: it is revoked."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from translator.service.base.keys import StoredKey
from translator.service.config.clients import ClientConfig
from translator.service.database.connection import Connection
from translator.service.database.statement import Statement

from . import statements as sql
from .books import Account, account
from .ceilings import (
    NO_CEILING,
    Ceiling,
    Limits,
    bounds,
    ceiling_text,
    check_limits,
    check_tools_within,
    raised,
    read_ceiling,
)
from .changes import Mistake, changed, now
from .channel_book import channels, check_tools
from .keys import names_text, read_names

SALT_DIGITS = 6
"""How much of a key's salt is shown: it is no secret, and tells keys apart."""


_FIELDS = Limits.__struct_fields__


class KeyRow(Struct, frozen=True):
    """A key as its operator sees it; times are microseconds, amounts pico."""

    id: int
    account_name: str
    name: str
    salt: str
    limits: Limits
    spent: int
    held: int
    open: int
    revoked_at: int | None
    replaced_by: int | None
    created_at: int
    used_at: int | None
    tools: tuple[str, ...] | None = None
    """Tools that it may have called, of those of its channels; None: all of these."""

    ceiling: Ceiling = NO_CEILING
    """The limits that an operator gave it."""

    of_member: bool = False
    """Whether a member has made it."""

    bounds: Ceiling = NO_CEILING
    """The limits that members do not pass: its ceiling, and for one of theirs its account's."""

    @property
    def shown(self) -> str:
        """The beginning of the key, by which its owner knows it."""
        return f"trk_{self.salt[:SALT_DIGITS]}…"


_NEW = Statement(
    "INSERT INTO acct_keys (account_id, name, salt, digest, channels, models, requests_per_minute,"
    " tokens_per_minute, max_concurrent_requests, limit_amount, limit_period, expires_at, tools,"
    " ceiling, of_member, created_at) VALUES (:account, :name, :salt, :digest, :channels, :models,"
    " :requests, :tokens, :concurrent, :amount, :period, :expires, :tools, :ceiling, :of_member,"
    f" {sql.NOW}) RETURNING id"
)
_KEYS = (
    "SELECT k.id, a.name, k.name, k.salt, k.channels, k.models, k.requests_per_minute,"
    " k.tokens_per_minute, k.max_concurrent_requests, k.limit_amount, k.limit_period,"
    " k.expires_at, k.period_spent, k.held, k.open, k.revoked_at, k.replaced_by, k.created_at,"
    " k.used_at, k.tools, k.ceiling, k.of_member, a.ceiling FROM acct_keys k"
    " JOIN acct_accounts a ON a.id = k.account_id"
)
_ALL = Statement(f"{_KEYS} ORDER BY k.id")
_OF_ID = Statement(f"{_KEYS} WHERE k.id = :id")
_OF_ACCOUNT = Statement(f"{_KEYS} WHERE k.account_id = :account ORDER BY k.id")
_OF_ACCOUNT_AND_ID = Statement(f"{_KEYS} WHERE k.account_id = :account AND k.id = :id")
_OF_SALT = Statement("SELECT id FROM acct_keys WHERE salt = :salt")

_REVOKE = Statement(
    f"UPDATE acct_keys SET revoked_at = coalesce(revoked_at, {sql.NOW}), version = version + 1"
    " WHERE id = :id"
)
_REPLACE = Statement(
    "UPDATE acct_keys SET replaced_by = :by, expires_at = :at, version = version + 1 WHERE id = :id"
)
_RENAME = Statement("UPDATE acct_keys SET name = :name, version = version + 1 WHERE id = :id")
_LIMIT = Statement(
    "UPDATE acct_keys SET channels = :channels, models = :models, requests_per_minute = :requests,"
    " tokens_per_minute = :tokens, max_concurrent_requests = :concurrent, limit_amount = :amount,"
    " limit_period = :period, expires_at = :expires, ceiling = :ceiling,"
    " version = version + 1 WHERE id = :id"
)


_TOOLS = Statement(
    "UPDATE acct_keys SET tools = :tools, ceiling = :ceiling, version = version + 1 WHERE id = :id"
)
_GO_ON = Statement(
    "UPDATE acct_keys SET period_start = o.period_start, period_spent = o.period_spent + o.held"
    " FROM acct_keys o WHERE o.id = :old AND acct_keys.id = :id"
)


def keys(connection: Connection, account_name: str | None = None) -> list[KeyRow]:
    """All keys, of one account or of all, oldest first."""
    found = [_row(*row) for row in connection.execute(_ALL)]
    return [one for one in found if account_name in (None, one.account_name)]


def key(connection: Connection, name: str, account_name: str | None) -> KeyRow:
    """The key called `key_17`, or by its name within an account; raises Mistake."""
    number = name.removeprefix("key_")
    if account_name is None:
        if name == number or not (number.isascii() and number.isdigit()):
            raise Mistake(f"{name!r} is no id of a key, such as key_17")
        return key_of_id(connection, int(number[:18]))
    owner = account(connection, account_name)
    named = [
        one
        for one in keys(connection, owner.name)
        if name in (one.name, f"key_{one.id}") and one.revoked_at is None
    ]
    if not named:
        raise Mistake(f"the account {account_name!r} has no key {name!r}")
    return named[-1]  # the one that replaces those before


def key_of_id(connection: Connection, key_id: int) -> KeyRow:
    """The key of an id; raises Mistake."""
    rows = connection.execute(_OF_ID, {"id": key_id})
    if not rows:
        raise Mistake(f"there is no key key_{key_id}")
    return _row(*rows[0])


def keys_of(connection: Connection, account_id: int) -> list[KeyRow]:
    """All keys of an account, oldest first."""
    return [_row(*row) for row in connection.execute(_OF_ACCOUNT, {"account": account_id})]


def key_of(connection: Connection, account_id: int, key_id: int) -> KeyRow | None:
    """A key of an account; None where it has none of this id."""
    rows = connection.execute(_OF_ACCOUNT_AND_ID, {"account": account_id, "id": key_id})
    return _row(*rows[0]) if rows else None


def rename(connection: Connection, one: KeyRow, name: str) -> None:
    """Give a key another name; raises Mistake."""
    _check_free(connection, one.account_name, name, one.id)
    connection.change(_RENAME, {"id": one.id, "name": name})
    changed(connection)


def add_key(
    connection: Connection,
    account_name: str,
    name: str,
    stored: StoredKey,
    limits: Limits,
    *,
    by_member: bool = False,
) -> int:
    """A new key's id; raises Mistake. The limits of one that an operator makes are its ceiling.

    One that a member makes has that of its account, and no tools beyond it.
    """
    owner = account(connection, account_name)
    _check_free(connection, account_name, name, None)
    if by_member:
        check_limits(owner.ceiling, limits)
        return _insert(
            connection, owner, name, stored, limits, tools=owner.ceiling.tools, of_member=True
        )
    ceiling = raised(NO_CEILING, limits, None, _FIELDS)
    return _insert(connection, owner, name, stored, limits, ceiling)


def _check_free(connection: Connection, account_name: str, name: str, key_id: int | None) -> None:
    """Raise Mistake where another key of the account that is in use has this name."""
    for one in keys(connection, account_name):
        in_use = one.revoked_at is None and one.replaced_by is None
        if one.name == name and one.id != key_id and in_use:
            raise Mistake(f"the account {account_name!r} has a key {name!r} already")


def rotate(
    connection: Connection,
    old: KeyRow,
    stored: StoredKey,
    grace_us: int,
    *,
    by_member: bool = False,
) -> tuple[int, int]:
    """A new key in place of an old one, which expires after a grace; the new id, and when.

    It goes on with the money that the old one has spent and holds in its period, so that no
    rotation renews a limit. In a grace both keys have the rest; so where an operator set that
    limit, members give none.
    """
    if old.revoked_at is not None:
        raise Mistake(f"key_{old.id} is revoked")
    if old.replaced_by is not None:
        raise Mistake(f"key_{old.id} is replaced by key_{old.replaced_by} already")
    if old.limits.expires_at is not None and old.limits.expires_at <= now(connection):
        raise Mistake(f"key_{old.id} is expired; let it expire later first")
    if by_member and grace_us and old.bounds.limit_amount is not None:
        raise Mistake("an operator limits the money of this key: the old one ends at once, give 0")
    owner = account(connection, old.account_name)
    made = _insert(
        connection,
        owner,
        old.name,
        stored,
        old.limits,
        old.ceiling,
        tools=old.tools,
        of_member=old.of_member,
    )
    connection.change(_GO_ON, {"id": made, "old": old.id})
    until = now(connection) + grace_us
    if old.limits.expires_at is not None:
        until = min(until, old.limits.expires_at)
    connection.change(_REPLACE, {"id": old.id, "by": made, "at": until})
    return made, until


def revoke(connection: Connection, one: KeyRow) -> None:
    """Let a key be refused from now on, for ever."""
    connection.change(_REVOKE, {"id": one.id})
    changed(connection)


def set_limits(
    connection: Connection,
    one: KeyRow,
    limits: Limits,
    *,
    named: Collection[str] | None = None,
    by_member: bool = False,
) -> None:
    """Give a key other limits; raises Mistake. `named` are those that become its ceiling.

    Without `named` these are all; a member changes no ceiling, and does not pass it.
    """
    changed(connection)  # which lets one change wait for another
    _check(connection, limits, one.limits.expires_at)
    now_ = key_of_id(connection, one.id)
    ceiling = now_.ceiling
    if by_member:
        check_limits(now_.bounds, limits)
        limits = replace(limits, channels=_in_order(ceiling.channels, limits.channels))
    else:
        ceiling = raised(ceiling, limits, None, _FIELDS if named is None else named)
    columns = _columns(limits) | {"ceiling": ceiling_text(ceiling)}
    connection.change(_LIMIT, {"id": one.id, **columns})


def set_tools(
    connection: Connection,
    one: KeyRow,
    tools: tuple[str, ...] | None,
    *,
    by_member: bool = False,
) -> None:
    """Say which tools a key may have called; None: all of its channels. Raises Mistake."""
    changed(connection)
    check_tools(tools)
    now_ = key_of_id(connection, one.id)
    ceiling = now_.ceiling
    if by_member:
        check_tools_within(now_.bounds, tools)
    else:
        ceiling = raised(ceiling, one.limits, tools, ("tools",))
    columns = {"tools": names_text(tools), "ceiling": ceiling_text(ceiling)}
    connection.change(_TOOLS, {"id": one.id, **columns})


def _in_order(first: tuple[str, ...] | None, names: tuple[str, ...]) -> tuple[str, ...]:
    """Channels in the order that the operator gave: it says which price list counts."""
    return names if first is None else tuple(name for name in first if name in names)


def import_clients(
    connection: Connection, account_name: str, clients: Mapping[str, ClientConfig]
) -> tuple[int, int]:
    """Take the keys of `[clients]` over; the number of new ones, and of those that were there.

    A client with two keys becomes two keys of one name. Raises Mistake.
    """
    owner = account(connection, account_name)
    made = known = 0
    for name, client in clients.items():
        limits = Limits(
            models=client.models,
            requests_per_minute=client.requests_per_minute,
            tokens_per_minute=client.tokens_per_minute,
            max_concurrent_requests=client.max_concurrent_requests,
        )
        for stored in client.keys:
            if connection.execute(_OF_SALT, {"salt": stored.salt}):
                known += 1
            else:
                ceiling = raised(NO_CEILING, limits, None, _FIELDS)
                _insert(connection, owner, name, stored, limits, ceiling)
                made += 1
    return made, known


def _insert(
    connection: Connection,
    owner: Account,
    name: str,
    stored: StoredKey,
    limits: Limits,
    ceiling: Ceiling = NO_CEILING,
    *,
    tools: tuple[str, ...] | None = None,
    of_member: bool = False,
) -> int:
    _check(connection, limits)
    values: dict[str, object] = {
        "account": owner.id,
        "name": name,
        "salt": stored.salt,
        "digest": stored.digest,
        "tools": names_text(tools),
        "ceiling": ceiling_text(ceiling),
        "of_member": int(of_member),
    }
    values |= _columns(limits)
    [(made,)] = connection.execute(_NEW, values)
    changed(connection)
    return int(made)


def _check(connection: Connection, limits: Limits, ended_at: int | None = None) -> None:
    """Raise Mistake for limits that no key can have; `ended_at` is what a key has already."""
    known = channels(connection)
    for name in limits.channels:
        if name not in known:
            text = f"there is no channel {name!r}; known: {', '.join(known)}"
            raise Mistake(text, field="channels")
    if (limits.limit_amount is None) != (limits.limit_period is None):
        raise Mistake("a limit has an amount and a period", field="limit")
    end = limits.expires_at
    if end is not None and end != ended_at and end <= now(connection):
        text = "the time at which it expires is past; revoke a key that is to end now"
        raise Mistake(text, field="expires_at")


def _columns(limits: Limits) -> dict[str, object]:
    return {
        "channels": names_text(limits.channels),
        "models": names_text(limits.models),
        "requests": limits.requests_per_minute,
        "tokens": limits.tokens_per_minute,
        "concurrent": limits.max_concurrent_requests,
        "amount": limits.limit_amount,
        "period": limits.limit_period,
        "expires": limits.expires_at,
    }


def _row(key_id: int, account_name: str, name: str, salt: str, *more: Any) -> KeyRow:  # noqa: ANN401
    names, models, requests, tokens, concurrent, amount, period, expires, *figures = more
    *figures, tools, own, of_member, of_account = figures
    ceiling = read_ceiling(own)
    limits = Limits(
        channels=read_names(names) or (),
        models=read_names(models),
        requests_per_minute=requests,
        tokens_per_minute=tokens,
        max_concurrent_requests=concurrent,
        limit_amount=amount,
        limit_period=period,
        expires_at=expires,
    )
    most = bounds(ceiling, read_ceiling(of_account)) if of_member else ceiling
    values: list[Any] = [key_id, account_name, name, salt, limits, *figures]
    values += [read_names(tools), ceiling, bool(of_member), most]
    return KeyRow(*values)
