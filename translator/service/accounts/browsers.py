"""Known browsers: a user who signed in with one before is not kept out by the guesses of strangers.

A browser keeps a random token in a cookie, and the database its hash. Failures in a known browser
count for it alone, and those elsewhere not for it; for every other user it is a stranger.
"""

from __future__ import annotations

from translator.service.database.connection import Connection
from translator.service.database.statement import Statement

from .periods import DAY_US

KNOWN_US = 90 * DAY_US
"""How long a browser is known without a sign-in."""

MAX_BROWSERS = 10
"""Browsers of a user that are known; a further one is known instead of the oldest."""

_KNOWN = Statement(
    "SELECT b.seen_at FROM acct_browsers b JOIN acct_users u ON u.id = b.user_id"
    " WHERE b.token_hash = :hash AND u.name = :name AND u.disabled_at IS NULL"
)
_REMEMBER = Statement(
    "INSERT INTO acct_browsers (token_hash, user_id, seen_at) VALUES (:hash, :user, :now)"
    " ON CONFLICT (token_hash) DO UPDATE SET user_id = excluded.user_id,"
    " seen_at = excluded.seen_at"
)
_FORGET_OLD = Statement("DELETE FROM acct_browsers WHERE user_id = :user AND seen_at < :before")
_FORGET_MORE = Statement(
    "DELETE FROM acct_browsers WHERE user_id = :user AND token_hash NOT IN"
    " (SELECT token_hash FROM acct_browsers WHERE user_id = :user"
    " ORDER BY seen_at DESC, token_hash LIMIT :most)"
)
_FORGET = Statement("DELETE FROM acct_browsers WHERE user_id = :user")


def is_known(connection: Connection, name: str, token_hash: str, now: int) -> bool:
    """Whether the user of a name has signed in with the browser of a token."""
    rows = connection.execute(_KNOWN, {"hash": token_hash, "name": name})
    return bool(rows) and now - int(rows[0][0]) < KNOWN_US


def remember(connection: Connection, user_id: int, token_hash: str, now: int) -> None:
    """A user has signed in with the browser of a token."""
    connection.change(_REMEMBER, {"hash": token_hash, "user": user_id, "now": now})
    connection.change(_FORGET_OLD, {"user": user_id, "before": now - KNOWN_US})
    connection.change(_FORGET_MORE, {"user": user_id, "most": MAX_BROWSERS})


def forget_browsers(connection: Connection, user_id: int) -> None:
    """Know no browser of a user any more."""
    connection.change(_FORGET, {"user": user_id})
