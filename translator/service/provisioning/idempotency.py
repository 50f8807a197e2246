"""Idempotency: a request that is sent twice happens once, and has the same answer.

    Idempotency-Key: any name        of one key of an operator, for a day

The answer is written in the transaction of the change, without the secrets that it shows. So the
answer to a repeated request for a new key has no key: it was lost with the first answer.
"""

from __future__ import annotations

import hashlib
import re

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from translator.service.accounts import statements as sql
from translator.service.database.connection import Connection
from translator.service.database.statement import Statement
from translator.wire.errors import InvalidRequest

MAX_NAME = 255
KEPT_US = 86_400 * 1_000_000
"""How long an answer is kept, in microseconds."""

_NAME = re.compile(r"[!-~]{1,255}")

_TAKE = Statement(
    "INSERT INTO acct_answers (operator_key, name, request, status, body, at)"
    f" VALUES (:key, :name, :request, 0, '', {sql.NOW})"
    " ON CONFLICT (operator_key, name) DO NOTHING"
)
_FIND = Statement(
    "SELECT request, status, body FROM acct_answers WHERE operator_key = :key AND name = :name"
)
_KEEP = Statement(
    "UPDATE acct_answers SET status = :status, body = :body"
    " WHERE operator_key = :key AND name = :name"
)
_FORGET = Statement(f"DELETE FROM acct_answers WHERE at < {sql.NOW} - CAST(:kept AS BIGINT)")


class KeyReused(InvalidRequest):
    """422: another request had the same `Idempotency-Key`."""

    status_hint = 422

    def __init__(self) -> None:
        super().__init__(
            "Another request had this Idempotency-Key; use a new one for each request.",
            param=None,
            code="idempotency_key_reused",
        )


class Kept(Struct, frozen=True):
    """The answer to a request that happened before, and what it was the answer to."""

    request: str
    status: int
    body: str


def read_name(header: str | None) -> str | None:
    """The name in the header; None without one. Raises InvalidRequest."""
    if header is None:
        return None
    if not _NAME.fullmatch(header):
        raise InvalidRequest(
            f"Invalid 'Idempotency-Key': 1 to {MAX_NAME} printable characters of ASCII.",
            param=None,
            code="invalid_value",
        )
    return header


def fingerprint(method: str, path: str, body: Struct) -> str:
    """What tells one request from another: all but a password, which a hash would give away."""
    if "password" in body.__struct_fields__:
        body = replace(body, password="")
    said = msgspec.json.encode([method, path, body], order="sorted")
    return hashlib.sha256(said).hexdigest()


def begin(connection: Connection, key: int, name: str, request: str) -> Kept | None:
    """Begin a request of this name; returns the answer where it has happened before.

    Whoever sends it at the same time waits for the end of this transaction.
    """
    connection.change(_FORGET, {"kept": KEPT_US})
    if connection.change(_TAKE, {"key": key, "name": name, "request": request}):
        return None
    [row] = connection.execute(_FIND, {"key": key, "name": name})
    return Kept(*row)


def keep(connection: Connection, key: int, name: str, status: int, body: bytes) -> None:
    """Write the answer down."""
    values = {"key": key, "name": name, "status": status, "body": body.decode()}
    connection.change(_KEEP, values)
