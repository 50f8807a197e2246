"""People who look after accounts: users, their sessions, failed sign-ins, and who changed what.

A member sees one account, an operator all. A session is a row, so that signing out, a new password
and disabling a user end it at once; the database holds the hash of its token alone. Attempts are
counted by name and by address before a password is checked, so that many at once are many; those in
a browser that the user has signed in with before, by that browser alone (`browsers`).
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Literal

from msgspec import Struct

from translator.service.database.connection import Connection
from translator.service.database.statement import Statement

from . import statements as sql
from .books import account
from .browsers import forget_browsers, is_known
from .changes import Mistake, now

Role = Literal["operator", "member"]

MAX_NAME = 100

SECOND_US = 1_000_000
IDLE_US = 12 * 3600 * SECOND_US
"""How long a session lasts without a page."""

LONGEST_US = 7 * 86_400 * SECOND_US
"""How long a session lasts at most."""

TOUCH_US = 600 * SECOND_US
"""How old the time of the last page may be: not every page writes."""

MAX_SESSIONS = 20
"""Sessions of a user; a further one ends the oldest."""

FREE_FAILURES = 5
"""Failed sign-ins of a name or an address without a pause."""

FIRST_PAUSE_US = SECOND_US
LONGEST_PAUSE_US = 900 * SECOND_US
FORGOTTEN_US = 86_400 * SECOND_US
"""After how long failures are forgotten."""

MAX_SUBJECTS = 20_000
"""Names and addresses with failures that are kept; the oldest are forgotten first."""

MAX_AUDIT = 200_000
"""Entries of the audit log that are kept."""


class User(Struct, frozen=True):
    """A user; an operator has no account."""

    id: int
    name: str
    role: Role
    account_id: int | None
    account_name: str | None
    disabled_at: int | None
    created_at: int


class Session(Struct, frozen=True):
    """A session that lasts, and its user."""

    user_id: int
    name: str
    role: Role
    account_id: int | None
    csrf: str
    token_hash: str
    stale: bool
    """Whether the time of its last page is to be written."""


_USERS = (
    "SELECT u.id, u.name, u.role, u.account_id, a.name, u.disabled_at, u.created_at"
    " FROM acct_users u LEFT JOIN acct_accounts a ON a.id = u.account_id"
)
_ALL = Statement(f"{_USERS} ORDER BY u.name")
_NAMED = Statement(f"{_USERS} WHERE u.name = :name")
_NEW = Statement(
    "INSERT INTO acct_users (name, password, role, account_id, created_at)"
    f" VALUES (:name, :password, :role, :account, {sql.NOW}) ON CONFLICT (name) DO NOTHING"
    " RETURNING id"
)
_PASSWORD = Statement("SELECT id, password FROM acct_users WHERE name = :name")
_SET_PASSWORD = Statement("UPDATE acct_users SET password = :password WHERE id = :id")
_REHASH = Statement("UPDATE acct_users SET password = :new WHERE id = :id AND password = :old")
_DISABLE = Statement(
    f"UPDATE acct_users SET disabled_at = coalesce(disabled_at, {sql.NOW}) WHERE id = :id"
)
_ENABLE = Statement("UPDATE acct_users SET disabled_at = NULL WHERE id = :id")


def user_name(text: str) -> str:
    """The name of a user as it is stored; raises Mistake."""
    name = text.strip().lower()
    if not name or not name.isprintable() or len(name) > MAX_NAME:
        raise Mistake(f"a user's name is printable, not empty, and has at most {MAX_NAME} letters")
    return name


def users(connection: Connection) -> list[User]:
    """All users by name."""
    return [User(*row) for row in connection.execute(_ALL)]


def user(connection: Connection, name: str) -> User:
    """The user of a name; raises Mistake."""
    for row in connection.execute(_NAMED, {"name": name.strip().lower()}):
        return User(*row)
    raise Mistake(f"there is no user {name!r}")


def add_user(connection: Connection, name: str, account_name: str | None, hashed: str) -> int:
    """A new user's id: a member of an account, or without one an operator. Raises Mistake."""
    member_of = None if account_name is None else account(connection, account_name).id
    values = {
        "name": user_name(name),
        "password": hashed,
        "role": "operator" if member_of is None else "member",
        "account": member_of,
    }
    rows = connection.execute(_NEW, values)
    if not rows:
        raise Mistake(f"there is a user {values['name']!r} already")
    return int(rows[0][0])


def set_password(connection: Connection, name: str, hashed: str) -> None:
    """Give a user another password, which ends all sessions and the pause; raises Mistake.

    No browser is known any more.
    """
    found = user(connection, name)
    connection.change(_SET_PASSWORD, {"id": found.id, "password": hashed})
    connection.change(_END_ALL, {"user": found.id})
    forget_browsers(connection, found.id)
    unlock(connection, found.name)


def unlock(connection: Connection, name: str) -> None:
    """End the pause of a name after failed attempts to sign in; raises Mistake."""
    found = user(connection, name)
    connection.change(_FORGET, {"subject": f"name {found.name}", "before": 0})


def set_disabled(connection: Connection, name: str, *, disabled: bool) -> None:
    """Keep a user out, which ends all sessions, or no longer; raises Mistake."""
    found = user(connection, name)
    connection.change(_DISABLE if disabled else _ENABLE, {"id": found.id})
    connection.change(_END_ALL, {"user": found.id})
    forget_browsers(connection, found.id)


def password_of(connection: Connection, name: str) -> tuple[int, str] | None:
    """The id of a user and the hash of the password; None where there is none."""
    rows = connection.execute(_PASSWORD, {"name": name})
    return (int(rows[0][0]), rows[0][1]) if rows else None


def rehash(connection: Connection, user_id: int, old: str, new: str) -> None:
    """Write the same password by other parameters."""
    connection.change(_REHASH, {"id": user_id, "old": old, "new": new})


# --- sessions ------------------------------------------------------------------------------------

_SESSION = Statement(
    "SELECT u.id, u.name, u.role, u.account_id, s.csrf, s.token_hash,"
    f" s.created_at, s.seen_at, {sql.NOW} FROM acct_sessions s JOIN acct_users u"
    " ON u.id = s.user_id WHERE s.token_hash = :hash AND u.disabled_at IS NULL"
)
_BEGIN = Statement(
    "INSERT INTO acct_sessions (token_hash, user_id, created_at, seen_at, csrf)"
    " SELECT :hash, u.id, :now, :now, :csrf FROM acct_users u"
    " WHERE u.id = :user AND u.password = :password AND u.disabled_at IS NULL"
)
_TOUCH = Statement(f"UPDATE acct_sessions SET seen_at = {sql.NOW} WHERE token_hash = :hash")
_END = Statement("DELETE FROM acct_sessions WHERE token_hash = :hash")
_END_ALL = Statement("DELETE FROM acct_sessions WHERE user_id = :user")
_END_OLD = Statement("DELETE FROM acct_sessions WHERE created_at < :longest OR seen_at < :idle")
_END_MORE = Statement(
    "DELETE FROM acct_sessions WHERE user_id = :user AND token_hash NOT IN"
    " (SELECT token_hash FROM acct_sessions WHERE user_id = :user"
    " ORDER BY created_at DESC, token_hash LIMIT :most)"
)


def new_token() -> str:
    """A random token of a session, of 256 bits."""
    return secrets.token_urlsafe(32)


def hash_of(token: str) -> str:
    """What is stored of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def begin_session(connection: Connection, user_id: int, hashed: str, token: str) -> bool:
    """Begin a session of a user whose password has this hash still; False where it has not."""
    at = now(connection)
    ended = {"longest": at - LONGEST_US, "idle": at - IDLE_US}
    connection.change(_END_OLD, ended)
    values = {
        "hash": hash_of(token),
        "user": user_id,
        "password": hashed,
        "now": at,
        "csrf": secrets.token_urlsafe(32),
    }
    begun = connection.change(_BEGIN, values)
    connection.change(_END_MORE, {"user": user_id, "most": MAX_SESSIONS})
    return begun > 0


def session(connection: Connection, token: str) -> Session | None:
    """The session of a token; None where there is none, or no longer."""
    rows = connection.execute(_SESSION, {"hash": hash_of(token)})
    if not rows:
        return None
    [(user_id, name, role, account_id, csrf, token_hash, created_at, seen_at, at)] = rows
    if at - created_at >= LONGEST_US or at - seen_at >= IDLE_US:
        return None
    stale = at - seen_at > TOUCH_US
    return Session(user_id, name, role, account_id, csrf, token_hash, stale)


def touch(connection: Connection, token_hash: str) -> None:
    """Write that a session is in use."""
    connection.change(_TOUCH, {"hash": token_hash})


def end_session(connection: Connection, token_hash: str) -> None:
    """Sign out."""
    connection.change(_END, {"hash": token_hash})


# --- attempts ------------------------------------------------------------------------------------

_ONE_AT_A_TIME = Statement(  # a row that is not there yet cannot be locked
    "SELECT 1", postgresql="LOCK TABLE acct_attempts IN SHARE ROW EXCLUSIVE MODE"
)
_ATTEMPTS = Statement("SELECT failures, failed_at FROM acct_attempts WHERE subject = :subject")
_ATTEMPT = Statement(
    "INSERT INTO acct_attempts AS a (subject, failures, failed_at) VALUES (:subject, 1, :now)"
    " ON CONFLICT (subject) DO UPDATE SET failures = a.failures + 1, failed_at = excluded.failed_at"
)
_FORGIVE = Statement(
    "UPDATE acct_attempts SET failures = failures - 1, failed_at ="
    " CASE WHEN failed_at = :at THEN :before ELSE failed_at END"
    " WHERE subject = :subject AND failures > 0"
)
_FORGET = Statement("DELETE FROM acct_attempts WHERE subject = :subject OR failed_at < :before")
_FORGET_MORE = Statement(
    "DELETE FROM acct_attempts WHERE subject IN (SELECT subject FROM acct_attempts"
    " ORDER BY failed_at DESC, subject LIMIT 1000 OFFSET :most)"
)


def pause_us(failures: int) -> int:
    """How long after so many failures the next attempt has to wait."""
    if failures < FREE_FAILURES:
        return 0
    return min(FIRST_PAUSE_US << min(failures - FREE_FAILURES, 20), LONGEST_PAUSE_US)


class Attempt(Struct, frozen=True):
    """An attempt to sign in, which counts as a failure until it has `succeeded`.

    With a `wait_us` there is none yet, for so long.
    """

    name: str
    address: str
    at: int
    wait_us: int = 0
    before: int = 0
    """When the address had failed before."""

    browser: str = ""
    """The hash of the token of a browser that is known; the attempt counts for it alone."""


def attempt(connection: Connection, name: str, address: str, browser: str = "") -> Attempt:
    """Count an attempt to sign in, where there may be one by now.

    `browser` is the token of the browser, empty where it has none.
    """
    at = now(connection)
    known = hash_of(browser) if browser else ""
    if not known or not is_known(connection, name, known, at):
        known = ""
    connection.change(_ONE_AT_A_TIME)
    subjects = [f"address {address}", f"name {name}"]
    if known:
        subjects = [f"browser {known}"]
    wait = before = 0
    for subject in subjects:
        for failures, failed_at in connection.execute(_ATTEMPTS, {"subject": subject}):
            if at - failed_at < FORGOTTEN_US:
                wait = max(wait, failed_at + pause_us(failures) - at)
            if subject == subjects[0]:
                before = failed_at
    if wait > 0:
        return Attempt(name, address, at, wait, browser=known)
    connection.change(_FORGET, {"subject": "", "before": at - FORGOTTEN_US})
    for subject in subjects:
        connection.change(_ATTEMPT, {"subject": subject, "now": at})
    connection.change(_FORGET_MORE, {"most": MAX_SUBJECTS})
    return Attempt(name, address, at, 0, before, known)


def succeeded(connection: Connection, one: Attempt) -> None:
    """An attempt was none of a stranger: its name begins anew, its address has not failed.

    Not more: whoever has one password must not try those of others for free. In a known browser
    the name has not been tried.
    """
    if one.browser:
        connection.change(_FORGET, {"subject": f"browser {one.browser}", "before": 0})
        return
    connection.change(_FORGET, {"subject": f"name {one.name}", "before": 0})
    values = {"subject": f"address {one.address}", "at": one.at, "before": one.before}
    connection.change(_FORGIVE, values)


# --- who changed what ----------------------------------------------------------------------------

_AUDIT = Statement(
    "INSERT INTO acct_audit (at, actor, action, subject, detail)"
    f" VALUES ({sql.NOW}, :actor, :action, :subject, :detail) RETURNING id"
)
_FORGET_AUDIT = Statement("DELETE FROM acct_audit WHERE id <= :id")
_TRAIL = Statement(
    "SELECT id, at, actor, action, subject, detail FROM acct_audit"
    " WHERE id < :before ORDER BY id DESC LIMIT :limit"
)


class AuditEntry(Struct, frozen=True):
    """A change that a person made; without secrets."""

    id: int
    at: int
    actor: str
    action: str
    subject: str
    detail: str


def audit(connection: Connection, actor: str, action: str, subject: str, detail: str = "") -> None:
    """Write down a change, in its transaction."""
    values = {"actor": actor, "action": action, "subject": subject[:300], "detail": detail[:2000]}
    [(made,)] = connection.execute(_AUDIT, values)
    if made > MAX_AUDIT and made % 100 == 0:
        connection.change(_FORGET_AUDIT, {"id": made - MAX_AUDIT})


def trail(connection: Connection, before: int, limit: int) -> list[AuditEntry]:
    """The changes before an entry, newest first."""
    values = {"before": before, "limit": limit}
    return [AuditEntry(*row) for row in connection.execute(_TRAIL, values)]
