"""Keys of operators: they open the JSON API of the accounts, and no model.

A key is a client's with another beginning, `tra_`, and stored alike: as a salted hash.
"""

from __future__ import annotations

from msgspec import Struct

from translator.service.base.keys import StoredKey
from translator.service.database.connection import Connection
from translator.service.database.statement import Statement

from . import statements as sql
from .changes import Mistake
from .key_book import SALT_DIGITS

PREFIX = "tra"

HOUR_US = 3_600_000_000


class OperatorKey(Struct, frozen=True):
    """A key of an operator; times are microseconds."""

    id: int
    name: str
    stored: StoredKey
    created_by: str
    created_at: int
    revoked_at: int | None
    used_at: int | None

    @property
    def shown(self) -> str:
        """The beginning of the key, by which its owner knows it."""
        return f"{PREFIX}_{self.stored.salt[:SALT_DIGITS]}…"


_COLUMNS = "id, name, salt, digest, created_by, created_at, revoked_at, used_at"
_ALL = Statement(f"SELECT {_COLUMNS} FROM acct_operator_keys ORDER BY id")
_OF_SALT = Statement(f"SELECT {_COLUMNS} FROM acct_operator_keys WHERE salt = :salt")
_NEW = Statement(
    "INSERT INTO acct_operator_keys (name, salt, digest, created_by, created_at)"
    f" VALUES (:name, :salt, :digest, :actor, {sql.NOW}) RETURNING id"
)
_REVOKE = Statement(
    f"UPDATE acct_operator_keys SET revoked_at = {sql.NOW} WHERE id = :id AND revoked_at IS NULL"
)
_IN_USE = Statement(
    "SELECT 1 FROM acct_operator_keys WHERE id = :id AND revoked_at IS NULL",
    postgresql="SELECT 1 FROM acct_operator_keys WHERE id = :id AND revoked_at IS NULL FOR UPDATE",
)
_USED = Statement(
    f"UPDATE acct_operator_keys SET used_at = {sql.NOW} WHERE id = :id"
    f" AND (used_at IS NULL OR used_at / {HOUR_US} <> {sql.NOW} / {HOUR_US})"
)


def operator_keys(connection: Connection) -> list[OperatorKey]:
    """All keys of operators, oldest first."""
    return [_row(*row) for row in connection.execute(_ALL)]


def operator_key_of_salt(connection: Connection, salt: str) -> OperatorKey | None:
    """The key of a salt; None where there is none."""
    rows = connection.execute(_OF_SALT, {"salt": salt})
    return _row(*rows[0]) if rows else None


def add_operator_key(connection: Connection, name: str, stored: StoredKey, actor: str) -> int:
    """A new key's id; raises Mistake."""
    for one in operator_keys(connection):
        if one.name == name and one.revoked_at is None:
            raise Mistake(f"there is an operator's key {name!r} already")
    values = {"name": name, "salt": stored.salt, "digest": stored.digest, "actor": actor}
    [(made,)] = connection.execute(_NEW, values)
    return int(made)


def revoke_operator_key(connection: Connection, name: str) -> OperatorKey:
    """Refuse a key from now on, for ever; raises Mistake."""
    for one in operator_keys(connection):
        if one.name == name and one.revoked_at is None:
            connection.change(_REVOKE, {"id": one.id})
            return one
    known = ", ".join(one.name for one in operator_keys(connection) if one.revoked_at is None)
    raise Mistake(f"there is no operator's key {name!r} in use; known: {known or 'none'}")


def use(connection: Connection, key_id: int) -> bool:
    """Write down that a key is used, to the hour; False where it is revoked by now."""
    if not connection.execute(_IN_USE, {"id": key_id}):
        return False
    connection.change(_USED, {"id": key_id})
    return True


def _row(
    key_id: int, name: str, salt: str, digest: str, actor: str, at: int, *times: int | None
) -> OperatorKey:
    return OperatorKey(key_id, name, StoredKey(salt, digest), actor, at, *times)
